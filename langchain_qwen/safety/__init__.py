"""Policies as data, detectors that work offline, and a parser that holds while streaming."""

from langchain_qwen.safety.audit import AuditEvent
from langchain_qwen.safety.categories import Category
from langchain_qwen.safety.input_guard import InputGuard, InputVerdict
from langchain_qwen.safety.judging import Verdict, judge_text
from langchain_qwen.safety.notebook import show_findings
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.policy import Action, Policy, Rule, Severity
from langchain_qwen.safety.refusals import is_refusal
from langchain_qwen.safety.scanning import Detector

__all__ = [
    "Action",
    "AuditEvent",
    "Category",
    "Detector",
    "InputGuard",
    "InputVerdict",
    "Policy",
    "Rule",
    "SafetyParser",
    "Severity",
    "Verdict",
    "is_refusal",
    "judge_text",
    "show_findings",
]
