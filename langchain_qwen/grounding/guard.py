"""`CutoffGuard`: does a question ask about times that the model cannot know?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import Enum
from typing import Any, Literal

import regex
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import BaseModel, ConfigDict

from langchain_qwen.capabilities import bound_arguments, is_chat_model, local_model
from langchain_qwen.errors import InvalidMessagesError
from langchain_qwen.grounding.cutoff import KNOWLEDGE_CUTOFF, named_years
from langchain_qwen.grounding.memory import FromMemory
from langchain_qwen.grounding.prompts import log_odds
from langchain_qwen.grounding.risk import calibration_of, check_limit
from langchain_qwen.inputs import check_no_arguments, messages_of
from langchain_qwen.personas.languages import reply_language
from langchain_qwen.yes_or_no import ONE_TOKEN

_NOW = regex.compile(
    r"\b(?:today|tonight|yesterday|tomorrow|right now|currently|at the moment|at present|nowadays|these days|so far|"
    r"(?:this|last|next|past) (?:week|weekend|month|season|quarter)|recently|latest|newest|most recent|up to date|"
    r"heute|gestern|derzeit|aktuell\w*|zurzeit|neueste\w*|aujourd'hui|actuellement|récemment|"
    r"hoy|ayer|actualmente|recientemente|сегодня|вчера|сейчас|недавно)\b"
    r"|今天|昨天|明天|现在|目前|最近|最新|本周|上周|本月|当前",
    regex.IGNORECASE,
)
# Asked of the model where the words of a question do not tell. Yes to the first and No to the second speak for news.
_RECENT = "Is this a question about recent news? Reply with Yes or No."
_LASTING = "Will the right answer to this question still be the same in ten years? Reply with Yes or No."
_MOST_ASKED = 4_000  # characters
# What a question is compared with, so that a model's liking for Yes cancels out.
_TIMELESS = "How many sides does a triangle have?"


class Timing(str, Enum):
    """How a question stands to what the model knows."""

    KNOWABLE = "knowable"
    """It asks about nothing later than the model's knowledge, as far as one can tell."""

    AFTER_CUTOFF = "after_cutoff"
    """It names a time after the model's knowledge."""

    MAY_HAVE_CHANGED = "may_have_changed"
    """It asks how things are now, or about news, and the model's knowledge is older."""


class CutoffVerdict(BaseModel):
    """What `CutoffGuard` found."""

    model_config = ConfigDict(frozen=True)

    timing: Timing
    question: str
    as_of: date
    knowledge_cutoff: date
    years: tuple[str, ...] = ()
    """The years that the question names."""

    news: float | None = None
    """The model's log odds that the question is about news or changing things; None where it was not asked."""

    @property
    def knowable(self) -> bool:
        """Whether the model may answer from what it learnt."""
        return self.timing is Timing.KNOWABLE

    @property
    def explanation(self) -> str:
        """A sentence for the user, in the language of the question where it cannot be answered."""
        if self.timing is Timing.KNOWABLE:
            return "The question asks about nothing later than the model's knowledge."
        about = f"{', '.join(self.years)}: " if self.timing is Timing.AFTER_CUTOFF else ""
        return about + reply_language(self.question).unknown.format(date=f"{self.knowledge_cutoff:%Y-%m}")


class CutoffGuard(Runnable[LanguageModelInput, CutoffVerdict]):
    """Says of a question whether the model can know its answer, by its dates and words, and by asking the model.

    ```python
    guard = CutoffGuard(model)
    guard.invoke("Who won the 2031 elections?").timing  # Timing.AFTER_CUTOFF
    guard.guarded(model).invoke("Who won the 2031 elections?")  # abstains
    guard.guarded(model, otherwise=answerer).invoke(...)  # asks the documents instead
    ```

    Args:
        model: Asked, by one token, of questions whose words do not tell; without a model those are knowable.
        knowledge_cutoff: Until when it knows things. The default is an assumption, see `KNOWLEDGE_CUTOFF`.
        as_of: The day of the questions; None for today.
        news_above: The log odds above which the model's yes counts, compared with those for a timeless question.
    """

    def __init__(
        self,
        model: BaseChatModel | None = None,
        *,
        knowledge_cutoff: date = KNOWLEDGE_CUTOFF,
        as_of: date | None = None,
        news_above: float = 1.2,
    ):
        self._model = model
        self._cutoff = knowledge_cutoff
        self._as_of = as_of
        self._news_above = news_above

    def __repr__(self) -> str:
        asked = f"{self._model!r}, " if self._model else ""
        return f"CutoffGuard({asked}knowledge_cutoff={self._cutoff.isoformat()})"

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> CutoffVerdict:  # noqa: A002
        """Look at a question, or the last question of a chat."""
        check_no_arguments(self, kwargs)
        return self._call_with_config(self._look, input, config)  # type: ignore[arg-type]

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> CutoffVerdict:
        """As `invoke`."""
        check_no_arguments(self, kwargs)
        return await self._acall_with_config(self._alook, input, config)  # type: ignore[arg-type]

    def guarded(
        self,
        model: Runnable[LanguageModelInput, Any],
        otherwise: Runnable[Any, Any] | None = None,
        *,
        unsure_above: float | Literal["calibrated"] | None = "calibrated",
    ) -> Runnable[LanguageModelInput, Any]:
        """A model that is asked only what it can know, and says where it is not sure.

        Arguments of a call, bound or not, go to `model`.

        Args:
            model: Answers questions that are knowable.
            otherwise: Answers the others, such as a `GroundedAnswerer`; None answers with an `AIMessage` that says
                so and holds the verdict as `additional_kwargs["cutoff_verdict"]`.
            unsure_above: The chance of being wrong above which an answer from memory ends in a note that it is not
                sure; `response_metadata["risk"]` has the chance. The default is the one below which three quarters of
                the right answers were when this was calibrated. Answers in a bound `response_format` keep their form
                and have the chance alone. None leaves answers as they are, and so does a guard without a model, or a
                `model` that is no chat model of this machine.

        Raises:
            InvalidParameterError: If `unsure_above` is no chance.
        """
        check_limit("unsure_above", unsure_above)
        may_note = self._model is not None and unsure_above is not None and is_chat_model(model)
        local = local_model(model) if may_note else None
        by = calibration_of(local).memory if local is not None else None

        def route(verdict: CutoffVerdict, asked: Any, arguments: dict[str, Any]) -> Any:
            """What answers: RunnableLambda runs a runnable that it is given."""
            if not verdict.knowable:
                return abstention(verdict) if otherwise is None else RunnableLambda(lambda _: _plain(asked)) | otherwise
            answering = model.bind(**arguments) if arguments else model
            if by is None or verdict.news is None:
                return answering
            limit = unsure_above if isinstance(unsure_above, float | int) else by.limit
            if "response_format" in bound_arguments(answering):
                limit = 1.0
            return FromMemory(answering, verdict.question, news=verdict.news, by=by, unsure_above=limit)

        # LangChain makes the schema of the input of this annotation, and cannot look up the names of this file.
        def choose(asked: Any, config: RunnableConfig, **arguments: Any) -> Any:
            return route(self._look(asked, config, always=by is not None), asked, arguments)

        async def achoose(asked: Any, config: RunnableConfig, **arguments: Any) -> Any:
            return route(await self._alook(asked, config, always=by is not None), asked, arguments)

        return RunnableLambda(choose, achoose, name="CutoffGuard")

    def _look(self, asked: LanguageModelInput, config: RunnableConfig | None, *, always: bool = False) -> CutoffVerdict:
        """With `always`, the model's odds of news are in every verdict that is knowable by its words."""
        verdict = self._by_words(last_question(asked))
        if self._model is None or not verdict.knowable or not (always or self._may_be_news(verdict)):
            return verdict
        return self._by_odds(verdict, self._model.bind(**ONE_TOKEN).batch([*news_prompts(verdict.question)], config))

    async def _alook(
        self, asked: LanguageModelInput, config: RunnableConfig | None, *, always: bool = False
    ) -> CutoffVerdict:
        verdict = self._by_words(last_question(asked))
        if self._model is None or not verdict.knowable or not (always or self._may_be_news(verdict)):
            return verdict
        messages = await self._model.bind(**ONE_TOKEN).abatch([*news_prompts(verdict.question)], config)
        return self._by_odds(verdict, messages)

    def _by_words(self, question: str) -> CutoffVerdict:
        as_of = self._as_of or date.today()
        named = tuple(named_years(question, as_of))
        timing = Timing.KNOWABLE
        if any(int(year) > self._cutoff.year for year in named):
            timing = Timing.AFTER_CUTOFF
        elif not named and as_of > self._cutoff and _NOW.search(question):
            timing = Timing.MAY_HAVE_CHANGED
        return CutoffVerdict(timing=timing, question=question, as_of=as_of, knowledge_cutoff=self._cutoff, years=named)

    def _may_be_news(self, verdict: CutoffVerdict) -> bool:
        """A question that names earlier years only is settled, and so is one asked before the cutoff."""
        return not verdict.years and verdict.as_of > self._cutoff

    def _by_odds(self, verdict: CutoffVerdict, messages: Sequence[BaseMessage]) -> CutoffVerdict:
        news = news_odds(messages)
        changed = self._may_be_news(verdict) and news > self._news_above
        timing = Timing.MAY_HAVE_CHANGED if changed else Timing.KNOWABLE
        return verdict.model_copy(update={"timing": timing, "news": news})


def news_prompts(question: str) -> list[list[BaseMessage]]:
    """What is asked of the model, by one token each, about whether a question is about news or changing things."""
    if len(question) > _MOST_ASKED:  # what a long message asks stands at its beginning or its end
        question = f"{question[: _MOST_ASKED // 2]} ... {question[-_MOST_ASKED // 2 :]}"
    return [
        [SystemMessage("You sort questions."), HumanMessage(f"Question: {one}\n\n{asked}")]
        for one in (question, _TIMELESS)
        for asked in (_RECENT, _LASTING)
    ]


def news_odds(messages: Sequence[BaseMessage]) -> float:
    """The log odds that it is, from what was said to these prompts."""
    recent, lasting, timeless_recent, timeless_lasting = map(log_odds, messages)
    return (recent - lasting) - (timeless_recent - timeless_lasting)


def _plain(asked: LanguageModelInput) -> Any:
    return asked.to_messages() if isinstance(asked, PromptValue) else asked


def abstention(verdict: CutoffVerdict) -> AIMessage:
    """The answer to a question that the model cannot know."""
    return AIMessage(verdict.explanation, additional_kwargs={"cutoff_verdict": verdict.model_dump(mode="json")})


def last_question(asked: LanguageModelInput) -> str:
    """The text of the last human message.

    Raises:
        InvalidMessagesError: If there is none.
    """
    messages = messages_of(asked)
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return message.text
    raise InvalidMessagesError("there is no question: pass a text, or messages with a HumanMessage")
