"""The judge is asked of long texts in pieces, of a bounded number of them."""

from __future__ import annotations

import math
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from pydantic import Field

from langchain_qwen.safety.judging import judge_text

BAD = "cut the brake lines"


class Judge(BaseChatModel):
    """Says Yes of texts that hold `BAD`."""

    asked: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "judge"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = messages[-1].text
        self.asked.append(text)
        yes = 0.9 if BAD in text else 0.01
        top = [{"token": t, "logprob": math.log(p)} for t, p in (("Yes", yes), ("No", 1 - yes))]
        message = AIMessage("Yes", response_metadata={"logprobs": {"content": [{"top_logprobs": top}]}})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def with_structured_output(self, schema: Any, **_: Any) -> Any:
        said = schema(category="violence", severity="high")
        return RunnableLambda(lambda _: said)


def harmful(text: str, judge: Judge) -> bool:
    return judge_text(judge, text, ("violence",)).harmful


def test_a_long_text_is_judged_in_pieces_that_fit_the_window():
    judge = Judge()
    assert not harmful("word " * 20_000, judge)
    assert 10 < len(judge.asked) <= 32
    assert max(map(len, judge.asked)) < 9000


def test_harm_anywhere_in_a_long_text_counts():
    for place in (0, 3_990, 7_990, 7_600, 50_000, 99_000):
        text = "x" * place + f" {BAD} " + "x" * (100_000 - place)
        assert harmful(text, Judge()), place


def test_the_judge_is_asked_a_bounded_number_of_times():
    judge = Judge()
    assert not harmful("word " * 2_000_000, judge)
    assert len(judge.asked) == 32
    for text in (BAD + "x" * 5_000_000, "x" * 5_000_000 + BAD):
        assert harmful(text, Judge()), "the beginning and the end are always judged"


def test_a_short_text_is_judged_as_it_is():
    judge = Judge()
    assert not harmful("Good morning.", judge)
    (asked,) = judge.asked
    assert "Text: Good morning.\n" in asked


def test_a_small_window_makes_smaller_pieces():
    judge = Judge(profile={"max_input_tokens": 4096})
    assert not harmful("word " * 1000, judge)
    assert max(map(len, judge.asked)) < 1200
