"""Token ids in, token ids out: the engine knows nothing of text, templates or LangChain."""

from langchain_qwen.engine.constraint import Constraint
from langchain_qwen.engine.protocol import (
    Engine,
    EngineInfo,
    Event,
    Finished,
    Reading,
    Request,
    SamplingParams,
    Started,
    Token,
)

__all__ = [
    "Constraint",
    "Engine",
    "EngineInfo",
    "Event",
    "Finished",
    "Reading",
    "Request",
    "SamplingParams",
    "Started",
    "Token",
]
