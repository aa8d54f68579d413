"""Which calls are made: asked first, behind examples, in short prompts of their own.

Under Qwen's template small models call tools that nobody needs, or one where two are needed: nothing shows them where
to stop. The same models decide well behind examples (`langchain_qwen.output.call_examples`). So where tools are bound,
a first pass writes an outline: all the calls that the user's last message needs, those that wait for a result behind
"then", or "none". Small models outline calls that nobody asked for; so where it has several tools, the same is asked of
each where it is the only one, and "none" strikes it. The answer is then generated as decided: words without calls, or
these calls in this order, with arguments that fit the tools' schemas.

After tool results the outline of the same message is written again, word for word, since it does not see them. A second
question does, and says which calls come next: of those that are outlined and not made yet, or, where all have been, of
any, leaning much more to "none". What the examples are is the same for every call and comes from the prefix cache.

Both questions show tools by name, arguments and first sentence, and the end of the conversation with long texts cut in
their middle, without system messages, which say how to answer: they decide, and the answer itself is generated from the
whole conversation.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_qwen.output import grammars
from langchain_qwen.output.call_examples import NEXT, NONE, OUTLINE, THEN, Question
from langchain_qwen.output.plan import OutputPlan, Tool

WORDS = "No tool is needed. Answer the user in plain words."
MAX_TOKENS = 192
_MOST_CALLS = 8
_MOST_MESSAGES = 12
_MOST_CHARACTERS = 600
_MOST_ARGUMENTS = 160
_UNKNOWN = "=?"
_FURTHER = -1.0
"""Added to the logit of one more line in an outline: small models go on with what nobody asked for."""

Roles = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Leanings:
    """What is added to the log odds of "none".

    Attributes:
        outline: In an outline.
        due: After results, where a call of the outline has not been made.
        done: After results, where all have been.
    """

    outline: float
    due: float
    done: float


# By hidden size: small models lean to one side whatever they are asked. On 228 conversations of our own these judge
# nearly as few wrongly as any.
_LEANINGS = {896: _Leanings(-0.5, 0.3, 1.0), 1536: _Leanings(1.2, 1.2, 3.5)}
_OTHERS = _Leanings(0.5, 1.0, 2.0)


def is_open(plan: OutputPlan) -> bool:
    """Whether there is something to decide; a forced call is decided already."""
    return bool(plan.calls and plan.running and not plan.forced)


def outline(plan: OutputPlan, roles: Roles) -> list[dict[str, Any]]:
    """The prompt for all calls that the user's last message needs, as roles. It does not see their results."""
    return _prompt(OUTLINE, plan, roles[: _last_question(roles) + 1])


def outline_grammar(plan: OutputPlan) -> str:
    """The form of an outline."""
    return _grammar(plan.running, f' ("\\n" ("{THEN}")? call){{0,{_MOST_CALLS - 1}}}')


def outline_bias(hidden_size: int, none: int, further: Iterable[int], *, waits: bool = False) -> dict[int, float]:
    """What to add to logits in an outline.

    Args:
        hidden_size: Of the model.
        none: The first token of `NONE`.
        further: The tokens that end a call and begin a line, see `ends_a_call`.
        waits: Whether it is asked of a tool alone that waits for another one's result, and so looks less needed.
    """
    leaning = 0.0 if waits else _LEANINGS.get(hidden_size, _OTHERS).outline
    return {**dict.fromkeys(further, _FURTHER), none: leaning}


def ends_a_call(token: bytes) -> bool:
    """Whether a token ends a call that is followed by another one."""
    return token.endswith(b")\n")


def tools_in_doubt(outlined: str) -> list[str]:
    """The tools of an outline of which it is asked whether they are needed.

    A single one is what the question is about, and the first of several that wait for each other is there for the
    others, which only they can tell.
    """
    names = list(dict.fromkeys(_names(outlined)))
    if len(names) < 2:
        return []
    return names[1:] if waits(outlined, names[-1]) else names


def waits(outlined: str, name: str) -> bool:
    """Whether the first call of a tool waits for another one's result."""
    return next(line for line in outlined.split("\n") if _name(line) == name).startswith(THEN)


def with_tool(plan: OutputPlan, name: str) -> OutputPlan:
    """The plan where one tool is the only one."""
    return replace(plan, tools=[tool for tool in plan.tools if tool["function"]["name"] == name])


def is_none(said: str) -> bool:
    """Whether one token of an answer is the beginning of `NONE`."""
    return said != "" and NONE.startswith(said)


def without(outlined: str, name: str) -> str:
    """An outline without the calls of a tool."""
    return "\n".join(line for line in outlined.split("\n") if _name(line) != name)


def has_results(roles: Roles) -> bool:
    """Whether tools have been called for the user's last message."""
    return any(role["role"] == "tool" for role in roles[_last_question(roles) + 1 :])


def next_calls(plan: OutputPlan, roles: Roles) -> list[dict[str, Any]]:
    """The prompt for the calls that come next, as roles."""
    return _prompt(NEXT, plan, roles)


def due(outlined: str, roles: Roles) -> Counter[str]:
    """How often each tool is still to be called, by what was said to `outline` and has succeeded since."""
    return Counter(_names(outlined)) - Counter(_succeeded(roles[_last_question(roles) + 1 :]))


def next_grammar(plan: OutputPlan, due: Container[str]) -> str:
    """The form of its answer. Where calls are due it names no other tools."""
    tools = [tool for tool in plan.running if tool["function"]["name"] in due] or plan.running
    return _grammar(tools, f' ("\\n" call){{0,{_MOST_CALLS - 1}}}' if plan.several else "")


def next_leaning(hidden_size: int, *, due: bool) -> float:
    """What to add to the logit of the first token of `NONE` after results."""
    leanings = _LEANINGS.get(hidden_size, _OTHERS)
    return leanings.due if due else leanings.done


def decided(plan: OutputPlan, text: str) -> OutputPlan:
    """How the answer is generated after the first pass said `text`."""
    lines = _now(text) if plan.several else _now(text)[:1]
    words = plan.otherwise or OutputPlan(plan.tools, grammars.text_without_calls(plan.tools), WORDS, calls=False)
    if not lines:
        return words
    by_name = {tool["function"]["name"]: tool for tool in plan.tools}
    tools = [by_name[_name(line)] for line in lines]
    return replace(
        plan,
        grammar=grammars.calls_in_turn(tools),
        # What two calls differ in stands in the plan alone.
        instruction=f"Make these calls now:\n{chr(10).join(lines)}" if len(lines) > 1 else None,
        one_call=len(lines) == 1,
        otherwise=words,
    )


def _now(text: str) -> list[str]:
    """The calls of an answer that wait for no result, each once."""
    calls: list[str] = []
    for line in dict.fromkeys(text.strip().split("\n")):
        if calls and (line.startswith(THEN) or _UNKNOWN in line):
            break
        if "(" in line:
            calls.append(line.removeprefix(THEN))  # the call that the first one waits for may be struck
    return calls


def _names(outlined: str) -> list[str]:
    return [_name(line) for line in outlined.split("\n") if "(" in line]


def _name(line: str) -> str:
    return line.removeprefix(THEN).partition("(")[0]


def _succeeded(roles: Roles) -> Iterator[str]:
    """The names of the calls whose result is no error."""
    waiting: list[str] = []
    for role in roles:
        if role["role"] == "tool":
            name = waiting.pop(0) if waiting else ""
            if "error" not in role["content"][:40].lower():  # a result that is an error begins so in a prompt
                yield name
        else:
            waiting = [call["function"]["name"] for call in role.get("tool_calls") or ()]


def _last_question(roles: Roles) -> int:
    return max((number for number, role in enumerate(roles) if role["role"] == "user"), default=-1)


def _prompt(question: Question, plan: OutputPlan, roles: Roles) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = [{"role": "system", "content": question.system}]
    for tools, lines, calls in question.examples:
        shown = _shown(tools, lines, question.last)
        asked += [{"role": "user", "content": shown}, {"role": "assistant", "content": calls}]
    asked.append({"role": "user", "content": _shown([*map(_signature, plan.running)], _lines(roles), question.last)})
    return asked


def _grammar(tools: Sequence[Tool], further: str) -> str:
    names = " | ".join(json.dumps(tool["function"]["name"]) for tool in tools)
    call = f"call: ({names}) ARGUMENTS\nARGUMENTS: /\\([^()\\n]{{0,{_MOST_ARGUMENTS}}}\\)/"
    return f"start: {json.dumps(NONE)} | call{further}\n{call}"


def _shown(tools: Sequence[str], lines: Sequence[str], last: str) -> str:
    listed = "\n".join(f"- {tool}" for tool in tools)
    return f"Tools:\n{listed}\n\nConversation:\n" + "\n".join(lines) + f"\n\n{last}"


def _signature(tool: Tool) -> str:
    function = tool["function"]
    names = ", ".join((function.get("parameters") or {}).get("properties") or ())
    first = re.split(r"(?<=[.!?])\s", _one_line(function.get("description") or ""), maxsplit=1)[0]
    return f"{function['name']}({names}): {_cut(first)}"


def _lines(roles: Roles) -> list[str]:
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
