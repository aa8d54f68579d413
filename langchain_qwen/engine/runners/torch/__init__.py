"""The runner for any device and precision that transformers knows.

Importing it takes seconds; the CPU engine never does.
"""
