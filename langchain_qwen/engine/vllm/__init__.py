"""vLLM's engine in this process: token ids in, token ids out, no server to start.

parameters  a request as vLLM wants it, here and over its API
host        vLLM on an event loop of its own
engine      `VllmEngine`, which serves callers of any thread and event loop
loading     from a checkpoint to the engine
"""
