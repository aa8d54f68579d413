"""How far the reading of a long prompt is, as the real engine counts it."""

from __future__ import annotations

import itertools

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.events = []

    def on_custom_event(self, name, data, **_):
        self.events.append((name, data))


def test_a_long_prompt_is_told_of_step_by_step(model):
    question = HumanMessage("The museum has a room about bread. " * 120 + "What is the room about?")
    total, heard = model.get_num_tokens_from_messages([question]), Heard()
    answer = model.bind(max_tokens=20).invoke([question], {"callbacks": [heard]})
    assert "bread" in answer.text.lower()
    assert {name for name, _ in heard.events} == {"prompt_reading"}
    counts = [data["tokens_read"] for _, data in heard.events]
    assert len(counts) >= 3
    assert all(0 < later - sooner <= 256 for sooner, later in itertools.pairwise(counts))
    assert counts[-1] < total == heard.events[0][1]["tokens_total"]
    again = Heard()
    model.bind(max_tokens=1).invoke([question], {"callbacks": [again]})
    assert again.events == []  # all of it is in the prefix cache
