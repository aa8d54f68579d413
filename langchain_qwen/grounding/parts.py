"""Questions for several facts, by their words: a small model asked for it cannot tell them from others."""

from __future__ import annotations

import regex

_ASKING = (
    r"who|whom|whose|what|when|where|which|why|how|"
    r"wer|wen|wem|was|wann|wo|wohin|woher|welche[rsnm]?|warum|wie|"
    r"qui|que|quoi|quand|où|quel(?:le)?s?|pourquoi|comment|combien|"
    r"quién(?:es)?|qué|cuándo|dónde|cuál(?:es)?|cómo|cuánt[oa]s?|chi|che|quando|dove|quale|quali|come|quant[oiae]|"
    r"quem|onde|qual|quais|кто|что|когда|где|куда|како[йвгм]\w*|почему|как|сколько"
)
_JOINED = regex.compile(
    # a second question word behind "and": "when was it built, and who built it?"
    rf"\b(?:{_ASKING})\b.*\b(?:and|und|et|y|e|и)\s+(?:\p{{L}}{{1,4}}\s+)?(?:{_ASKING})\b"
    r"|[?？].+[?？]|\brespectively\b|\bjeweils\b|\brespectivement\b|\brespectivamente\b|соответственно|分别"
    # 谁写了这首歌，什么时候发行的？
    r"|(?:谁|什么|哪|几|多少|如何|怎|为何).+[，,和及与、].*(?:谁|什么|哪|几|多少|如何|怎|为何)",
    regex.IGNORECASE | regex.DOTALL,
)
_LINE = regex.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", regex.MULTILINE)


def asks_for_several(question: str) -> bool:
    """Whether the words of a question show that it asks for more than one fact."""
    return _JOINED.search(question) is not None


def read_parts(listed: str) -> list[str]:
    """The questions of a numbered list, each once."""
    return list(dict.fromkeys(match.group(1) for match in _LINE.finditer(listed)))
