"""Common tasks as runnables with typed results, each a few lines over personas."""

from langchain_qwen.personas.tasks.classify import Classification, classify
from langchain_qwen.personas.tasks.extract import extract
from langchain_qwen.personas.tasks.solve import Solution, solve
from langchain_qwen.personas.tasks.summarize import Summary, summarize
from langchain_qwen.personas.tasks.translate import Translation, translate
from langchain_qwen.personas.tasks.write_code import Code, write_code

__all__ = [
    "Classification",
    "Code",
    "Solution",
    "Summary",
    "Translation",
    "classify",
    "extract",
    "solve",
    "summarize",
    "translate",
    "write_code",
]
