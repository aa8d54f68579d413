"""Runners: one step of the model over the new tokens of all running requests."""
