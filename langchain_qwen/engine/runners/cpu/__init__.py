"""The runner for CPUs: quantised weights and C kernels, a whole step in one native call."""
