"""Answers that say only what documents say, with quotes that cannot be invented."""

from langchain_qwen.grounding.answer import GroundedAnswer
from langchain_qwen.grounding.answering import GroundedAnswerer
from langchain_qwen.grounding.guard import CutoffGuard, CutoffVerdict, Timing
from langchain_qwen.grounding.retrieving import BM25Retriever, HybridRetriever, split_documents
from langchain_qwen.grounding.tool import retriever_tool
from langchain_qwen.grounding.types import AbstainReason, AnswerText, Citation

__all__ = [
    "AbstainReason",
    "AnswerText",
    "BM25Retriever",
    "Citation",
    "CutoffGuard",
    "CutoffVerdict",
    "GroundedAnswer",
    "GroundedAnswerer",
    "HybridRetriever",
    "Timing",
    "retriever_tool",
    "split_documents",
]
