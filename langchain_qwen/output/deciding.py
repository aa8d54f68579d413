"""Which calls come next: asked first, behind examples, in a short prompt of its own.

Under Qwen's template small models call tools that nobody needs, or one where two are needed: nothing shows them where
to stop. The same models, shown examples of conversations and asked to write the calls that come next or "none", decide
well. So where tools are bound, a first pass asks that, and the answer is then generated as decided: words without
calls, or these calls in this order, with arguments that fit the tools' schemas. What the examples are is the same for
every call and comes from the prefix cache.

The question shows tools by name, arguments and first sentence, and the end of the conversation with long texts cut in
their middle, without system messages, which say how to answer: it decides, and the answer itself is generated from the
whole conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_qwen.output import grammars
from langchain_qwen.output.plan import OutputPlan, Tool

NONE = "none"
WORDS = "No tool is needed. Answer the user in plain words."
MAX_TOKENS = 192
_MOST_CALLS = 8
_MOST_MESSAGES = 12
_MOST_CHARACTERS = 600
_MOST_ARGUMENTS = 160

# What is added to the log odds of "none", by hidden size: where a question is new, and where results are there already.
# Small models lean to one side whatever they are asked. Of 92 conversations of our own, these judge nearly as few
# wrongly as any; the 1.5B's lie below the best at the start, so that fewer tools are passed over, and above it later.
_LEANINGS = {896: (-1.0, 0.3), 1536: (0.6, 2.4)}
_LEANING = (1.0, 1.5)

_SYSTEM = (
    "You plan the next step of an assistant that has tools. Write the calls that have to be made next for the user's "
    "last message, one on each line, with values that the conversation holds; a call that needs the result of another "
    "one comes later. Write 'none' if no tool is needed: for small talk, for what the assistant can say or write by "
    "itself, for what none of the tools can do, and when the results so far are enough."
)
_WEATHER, _MAIL, _WEB = (
    "get_weather: The weather in a city.",
    "send_mail: Send an e-mail.",
    "web_search: Search the web.",
)
_SHARES = ("stock_price: Price of a share.", "exchange_rate: Rate between two currencies.")
_PHONE = ("find_person: Phone number and office of a person.", "call_phone: Call a phone number.")
_ORDERS = ("order_status: State of an order.", "cancel_order: Cancel an order.")
_ROOMS = ("room_list: Free rooms on a day.", "reserve_room: Reserve a room.")
_WORDS = ("define: Definition of a word.", "read_page: Text of a web page.")
_TIMES = ("get_time: The time in a city.", _WEATHER)
_HOME = ("find_person: Home town of a person.", _WEATHER, _MAIL)
_PRICES = ("stock_price(company=Siemens) -> 181.2", "stock_price(company=Bosch) -> 95.0")
_TOM = "find_person(name=Tom) -> lives in Berlin"
_HOTELS = ("find_hotels: Hotels in a city.", "book_hotel: Book rooms in a hotel.", _MAIL)
_AZUR = "book_hotel(hotel=Azur, people=2)"
_MARTA = "find_person(name=Marta) -> 555-0117, office 12"
_EXAMPLES: list[tuple[Sequence[str], Sequence[str], str]] = [
    ((_WEATHER, _MAIL, _WEB), ("User: What's the weather in Rome?",), "get_weather(city=Rome)"),
    ((_WEATHER, _MAIL, _WEB), ("User: Good morning!",), NONE),
    (
        _SHARES,
        ("User: Compare the shares of Siemens and Bosch.",),
        "stock_price(company=Siemens)\nstock_price(company=Bosch)",
    ),
    (_SHARES, ("User: Why do companies issue shares?",), NONE),
    (_PHONE, ("User: Please call Marta.",), "find_person(name=Marta)"),
    (_PHONE, ("User: Please call Marta.", _MARTA), "call_phone(number=555-0117)"),
    (_PHONE, ("User: Please call Marta.", _MARTA, "call_phone(number=555-0117) -> answered"), NONE),
    (
        (*_TIMES, "translate: Translate a text."),
        ("User: What time is it in Tokyo, and is it raining in Paris?",),
        "get_time(city=Tokyo)\nget_weather(city=Paris)",
    ),
    (_TIMES, ("User: Order a pizza for me.",), NONE),
    (_ORDERS, ("User: Where is order 55?", "order_status(id=55) -> Error: unknown order"), NONE),
    (_ORDERS, ("User: My name is Paul.", "Assistant: Hello Paul!", "User: What is my name?"), NONE),
    (
        ("count_stock: Pieces of an article in stock.", "order_article: Order an article."),
        ("User: Order a lamp if fewer than five are left.", "count_stock(article=lamp) -> 3 pieces"),
        "order_article(article=lamp)",
    ),
    (_WORDS, ("User: Write a limerick about a cat.",), NONE),
    (_WORDS, ("User: What is the second largest ocean?",), NONE),
    (_ROOMS, ("User: Reserve room 4 on Friday.",), "reserve_room(room=4, day=Friday)"),
    (_ROOMS, ("User: Which rooms are free on Monday?", "room_list(day=Monday) -> 2, 7 and 9"), NONE),
    ((_WEATHER, _MAIL, _WEB), ("User: Is it snowing in Bergen?", "get_weather(city=Bergen) -> 3 degrees, snow"), NONE),
    (_SHARES, ("User: Compare the shares of Siemens and Bosch.", *_PRICES), NONE),
    (_HOME, ("User: What is the weather where Tom lives?",), "find_person(name=Tom)"),
    (_HOME, ("User: What is the weather where Tom lives?", _TOM), "get_weather(city=Berlin)"),
    (_HOME, ("User: What is the weather where Tom lives?", _TOM, "get_weather(city=Berlin) -> 12 degrees"), NONE),
    ((*_TIMES, _MAIL), ("User: How late is it in Rio?", "get_time(city=Rio) -> 14:05"), NONE),
    (
        _ROOMS,
        ("User: Which rooms are free on Monday and on Thursday?",),
        "room_list(day=Monday)\nroom_list(day=Thursday)",
    ),
    (_HOTELS, ("User: Find a hotel in Nice and book it for two.",), "find_hotels(city=Nice)"),
    (_HOTELS, ("User: Find a hotel in Nice and book it for two.", "find_hotels(city=Nice) -> Azur"), _AZUR),
]


def is_open(plan: OutputPlan) -> bool:
    """Whether there is something to decide; a forced call is decided already."""
    return bool(plan.calls and plan.tools and not plan.forced)


def question(plan: OutputPlan, roles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The prompt of the first pass, as roles."""
    asked: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}]
    for tools, lines, calls in _EXAMPLES:
        asked += [{"role": "user", "content": _shown(tools, lines)}, {"role": "assistant", "content": calls}]
    asked.append({"role": "user", "content": _shown([*map(_signature, plan.tools)], _lines(roles))})
    return asked


def grammar(plan: OutputPlan) -> str:
    """The form of its answer."""
    names = " | ".join(json.dumps(tool["function"]["name"]) for tool in plan.tools)
    further = f' ("\\n" call){{0,{_MOST_CALLS - 1}}}' if plan.several else ""
    call = f"call: ({names}) ARGUMENTS\nARGUMENTS: /\\([^()\\n]{{0,{_MOST_ARGUMENTS}}}\\)/"
    return f"start: {json.dumps(NONE)} | call{further}\n{call}"


def leaning(hidden_size: int, roles: Sequence[Mapping[str, Any]]) -> float:
    """What to add to the logit of the first token of `NONE`."""
    return _LEANINGS.get(hidden_size, _LEANING)[roles[-1]["role"] == "tool"]


def decided(plan: OutputPlan, text: str) -> OutputPlan:
    """How the answer is generated after the first pass said `text`."""
    lines = [line for line in dict.fromkeys(text.strip().split("\n")) if "(" in line]
    words = plan.otherwise or OutputPlan(plan.tools, grammars.text_without_calls(plan.tools), WORDS, calls=False)
    if not lines:
        return words
    by_name = {tool["function"]["name"]: tool for tool in plan.tools}
    tools = [by_name[line.partition("(")[0]] for line in lines]
    return replace(
        plan,
        grammar=grammars.calls_in_turn(tools),
        # What two calls differ in stands in the plan alone.
        instruction=f"Make these calls now:\n{chr(10).join(lines)}" if len(lines) > 1 else None,
        one_call=len(lines) == 1,
        otherwise=words,
    )


def _shown(tools: Sequence[str], lines: Sequence[str]) -> str:
    listed = "\n".join(f"- {tool}" for tool in tools)
    return f"Tools:\n{listed}\n\nConversation:\n" + "\n".join(lines) + "\n\nNext calls:"


def _signature(tool: Tool) -> str:
    function = tool["function"]
    names = ", ".join((function.get("parameters") or {}).get("properties") or ())
    first = re.split(r"(?<=[.!?])\s", _one_line(function.get("description") or ""), maxsplit=1)[0]
    return f"{function['name']}({names}): {_cut(first)}"


def _lines(roles: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    waiting: list[str] = []
    for role in roles:
        text = _cut(_one_line(role["content"]))
        match role["role"]:
            case "tool":
                lines.append(f"{waiting.pop(0) if waiting else 'result'} -> {text}")
                continue
            case "user":
                lines.append(f"User: {text}")
            case "assistant" if text:
                lines.append(f"Assistant: {text}")
        waiting = [_call(call["function"]) for call in role.get("tool_calls") or ()]
    return lines[-_MOST_MESSAGES:]


def _call(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    shown = arguments.items() if isinstance(arguments, Mapping) else ()
    values = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in shown]
    return f"{function['name']}({_cut(_one_line(', '.join(values)))})"


def _one_line(text: str) -> str:
    """No text can look like a line of another speaker."""
    return " ".join(text.split())


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} [...] {text[-half:]}"
