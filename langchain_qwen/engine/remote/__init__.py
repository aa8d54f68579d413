"""The engine at a server: vLLM's completions API, token ids both ways.

server      what a server says of itself: which models, how long a prompt may be
wire        a request as the API wants it; the answer's lines as the engine's events
failures    what goes wrong on the way, as this package's errors, and what may be tried again
connection  one HTTP client for each request
blocking    for callers without an event loop
engine      `RemoteEngine`, which puts these together
"""

from langchain_qwen.engine.remote.engine import MAX_RETRIES, Patience, RemoteEngine
from langchain_qwen.engine.remote.failures import Server

__all__ = ["MAX_RETRIES", "Patience", "RemoteEngine", "Server"]
