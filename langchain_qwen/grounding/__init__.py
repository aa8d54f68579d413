"""Answers that say only what documents say, with quotes that cannot be invented."""

from langchain_qwen.grounding.answering import GroundedAnswerer
from langchain_qwen.grounding.cutoff import KNOWLEDGE_CUTOFF
from langchain_qwen.grounding.retrieving import BM25Retriever, HybridRetriever, split_documents
from langchain_qwen.grounding.types import AbstainReason, AnswerText, Citation, GroundedAnswer

__all__ = [
    "KNOWLEDGE_CUTOFF",
    "AbstainReason",
    "AnswerText",
    "BM25Retriever",
    "Citation",
    "GroundedAnswer",
    "GroundedAnswerer",
    "HybridRetriever",
    "split_documents",
]
