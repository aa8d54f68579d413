"""Random conversations that a chat could have."""

from __future__ import annotations

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_qwen.history import pin

TOOL = {
    "type": "function",
    "function": {"name": "find", "description": "Finds things.", "parameters": {"type": "object", "properties": {}}},
}
# Line ends, spaces and markup at the edges of a message are what could change the tokens of its neighbours.
WORDS = st.sampled_from(["a", "the end", "\n", "\n\n", " ", "é", "<|im_end|>", "<tool_response>", "x" * 40, "中文"])
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map("".join)


@st.composite
def histories(draw: st.DrawFn, *, complete: bool = False, pins: bool = True) -> list[BaseMessage]:
    """With `complete`, the last message is one that a model answers."""
    messages: list[BaseMessage] = []
    if draw(st.booleans()):
        messages.append(SystemMessage(draw(TEXTS)))
    kinds = st.sampled_from(["turn", "turn", "turn", "agent", "agent", "ai", "named", "system", "unanswered"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=14)):
        match kind:
            case "turn":
                messages += [HumanMessage(draw(TEXTS)), AIMessage(draw(TEXTS))]
            case "agent":
                messages.append(HumanMessage(draw(TEXTS)))
                messages += draw(steps())
                messages.append(AIMessage(draw(TEXTS)))
            case "ai":
                messages.append(AIMessage(draw(TEXTS)))
            case "named":
                messages.append(HumanMessage([{"type": "text", "text": draw(TEXTS)}], name="ann"))
            case "system":
                messages.append(draw(st.sampled_from([SystemMessage("be kind"), ChatMessage("now", role="developer")])))
            case "unanswered":
                messages.append(HumanMessage(draw(TEXTS)))
    if complete or draw(st.booleans()):
        messages.append(HumanMessage(draw(TEXTS)))
        messages += draw(steps(least=0))
    if pins and draw(st.booleans()):
        at = draw(st.integers(0, len(messages) - 1))
        messages[at] = pin(messages[at])
    return messages


@st.composite
def steps(draw: st.DrawFn, least: int = 1) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    for _ in range(draw(st.integers(least, 5))):
        ids = draw(st.permutations(["1", "2"]))
        calls = [{"name": "find", "args": {"q": draw(TEXTS)}, "id": id_} for id_ in ids]
        messages.append(AIMessage(draw(st.sampled_from(["", "hm"])), tool_calls=calls))
        for id_ in draw(st.permutations(ids)):
            status = draw(st.sampled_from(["success", "success", "error"]))
            messages.append(ToolMessage(draw(TEXTS), tool_call_id=id_, status=status))
    return messages
