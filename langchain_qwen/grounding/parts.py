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
# What two facts about one thing are called: "the date and place of the crash".
_FACTS = (
    r"dates?|times?|days?|years?|places?|locations?|venues?|names?|authors?|directors?|price|cost|length|height|width|"
    r"depth|weight|size|area|population|number|capital|reason|cause|winners?|age|nationality|occupation|address"
)
_FACTS_ZH = (
    "时间|日期|年份|地点|位置|地址|名字|姓名|名称|作者|导演|主演|价格|票价|费用|长度|高度|宽度|深度|重量|面积|人口|数量|人数|"
    "原因|结果|冠军|亚军|首都|国籍|职业|年龄|生日"
)
_JOINED = regex.compile(
    # a second question word behind "and": "when was it built, and who built it?"
    rf"\b(?:{_ASKING})\b.*\b(?:and|und|et|y|e|и)\s+(?:\p{{L}}{{1,4}}\s+)?(?:{_ASKING})\b"
    r"|[?？].+[?？]|\brespectively\b|\bjeweils\b|\brespectivement\b|\brespectivamente\b|соответственно|分别"
    # 谁写了这首歌，什么时候发行的？
    r"|(?:谁|什么|哪|几|多少|如何|怎|为何).+[，,和及与、].*(?:谁|什么|哪|几|多少|如何|怎|为何)"
    rf"|\b(?:{_FACTS})\s+and\s+(?:the\s+|its\s+|their\s+)?(?:{_FACTS})\b"
    rf"|(?:{_FACTS_ZH})(?:和|与|及|以及|、)[^，。？]{{0,4}}?(?:{_FACTS_ZH})",
    regex.IGNORECASE | regex.DOTALL,
)
_LINE = regex.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", regex.MULTILINE)


def asks_for_several(question: str) -> bool:
    """Whether the words of a question show that it asks for more than one fact."""
    return _JOINED.search(question) is not None


def read_parts(listed: str) -> list[str]:
    """The questions of a numbered list, each once."""
    return list(dict.fromkeys(match.group(1) for match in _LINE.finditer(listed)))
