"""Common tasks as runnables with typed results, each a few lines over personas."""

from langchain_qwen.personas.tasks.classify import classify
from langchain_qwen.personas.tasks.extract import extract
from langchain_qwen.personas.tasks.solve import solve
from langchain_qwen.personas.tasks.summarize import summarize
from langchain_qwen.personas.tasks.translate import translate
from langchain_qwen.personas.tasks.write_code import write_code

__all__ = [
    "classify",
    "extract",
    "solve",
    "summarize",
    "translate",
    "write_code",
]
