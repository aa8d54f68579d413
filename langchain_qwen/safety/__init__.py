"""Policies as data, detectors that work offline, and a parser that holds while streaming."""

from langchain_qwen.safety.input_guard import InputGuard
from langchain_qwen.safety.notebook import show_findings
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.policy import Action, Category, Policy, Rule, Severity
from langchain_qwen.safety.scanning import Detector

__all__ = [
    "Action",
    "Category",
    "Detector",
    "InputGuard",
    "Policy",
    "Rule",
    "SafetyParser",
    "Severity",
    "show_findings",
]
