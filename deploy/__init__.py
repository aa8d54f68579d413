"""How to run a server: files for vLLM and Ray, and what a model needs."""
