"""Finds text in documents that speaks to the model instead of the reader.

Two strengths. Orders (to ignore other instructions, to shape the reply, to play a role, chat markup) have no place in
a source and can be withheld from the model. Tasks ("Write an essay about ...", a question) may be part of an honest
text, so they stay, but state no fact and are never quoted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from langchain_qwen.grounding.texts import sentences

_REPLY = r"(?:answers?|repl(?:y|ies)|responses?|output|completions?)"
# How sentences begin that tell of something; others that speak of "your answer" are taken for orders.
_TELLING = "we|i|he|she|it|they|you|thanks?|your|the|an?|this|that|these|if|when|as|for|after|before|once|while|since"
_ORDERS = {
    "override": (
        r"\b(?:ignore|disregard|forget|override|bypass|do not follow)\b.{0,40}"
        r"\b(?:previous|prior|above|earlier|all|any|other|your|the)\b.{0,30}"
        r"\b(?:instructions?|prompts?|rules?|guidelines?|context|commands?)\b",
        r"(?:忽略|无视|忘记|不要遵守).{0,12}(?:指令|指示|提示|规则|要求)",
        r"\b(?:ignora|olvida|ignorez|oublie[rz]?|ignoriere|vergiss|игнорируй(?:те)?|забудь(?:те)?)\b.{0,40}"
        r"\b(?:instruc\w*|anweisung\w*|инструкц\w*|regeln|reglas|règles)\b",
    ),
    "role": (
        r"\byou are (?:now|no longer)\b",
        r"\b(?:from now on|pretend (?:to be|you are)|roleplay as|developer mode|jailbreak)\b",
        r"\b(?:reveal|print|repeat|show|leak)\b.{0,30}\b(?:system prompt|your (?:instructions|prompt|rules))\b",
        r"你现在是|从现在开始你|系统提示词",
    ),
    "reply": (
        rf"\b(?:in|into|within|throughout|with|of|from|to|end|begin|start)\s+(?:your|each|every|any)\s+(?:\w+\s+)?{_REPLY}\b",
        rf"^\W*(?!(?:{_TELLING})\b)\p{{L}}+\b.{{0,120}}\byour\s+(?:\w+\s+)?{_REPLY}\b",
        r"你的(?:回答|回复|答案|输出)",
        r"\b(?:tu respuesta|ta réponse|votre réponse|deine[rn]? antwort|твой ответ|твоём ответе)\b",
    ),
    "markup": (
        r"<\|\w+\|>|\[/?INST\]|<</?SYS>>|</?tool_call>",
        r"^\s*#{1,4}\s*(?:system|instruction|assistant|user)s?\b\s*:?\s*$",
        r"^\s*assistant\s*:|^\s*system\s*:\s*(?:you|your|ignore|always|never|do|don['’]t|reply|respond|answer|from)\b",
    ),
}
_TASK_VERBS = (
    "write|draft|compose|explain|describe|translate|summari[sz]e|generate|create|develop|design|provide|list|tell me|"
    "calculate|compute|convert|rewrite|paraphrase|define|outline|suggest|recommend|answer|solve|implement|show me|"
    "give me|help me"
)
_TASK = (
    rf"^\W*(?:please\s+|now\s+|also\s+)*(?:{_TASK_VERBS})\b",
    r"^\W*(?:can|could|would|will) you\b.*\?",
    r"^\W*(?:what|how|why|which|who|whom|when|where)(?:['’]s)?\b.*\?\W*$",
    r"^\W*(?:请|翻译|解释|写一|总结|告诉我|列出)",
)
_PATTERNS = {
    kind: tuple(regex.compile(pattern, regex.IGNORECASE | regex.MULTILINE) for pattern in patterns)
    for kind, patterns in {**_ORDERS, "task": _TASK}.items()
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """A sentence that speaks to the model.

    Attributes:
        start: Where it begins in the text.
        end: Where it ends.
        kind: "override", "role", "reply", "markup" or "task".
        withheld: Whether the prompt leaves it out.
    """

    start: int
    end: int
    kind: str
    withheld: bool


def find_instructions(text: str, *, withhold: bool = True) -> Iterator[Instruction]:
    """The sentences of a text that speak to the model, in their order.

    Args:
        text: As shown, see `texts.show`.
        withhold: Whether orders are marked to be left out of the prompt.
    """
    for start, end in sentences(text):
        sentence = text[start:end]
        for kind, patterns in _PATTERNS.items():
            if any(pattern.search(sentence) for pattern in patterns):
                yield Instruction(start, end, kind, withheld=withhold and kind != "task")
                break
