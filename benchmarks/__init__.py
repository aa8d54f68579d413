"""What the package promises, measured; `python -m benchmarks.<name>`. The last line of each is one JSON object."""
