"""`GroundedAnswerer`: from a question to an answer that says only what documents say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel

from langchain_qwen import stepping
from langchain_qwen.capabilities import is_chat_model, local_model
from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError
from langchain_qwen.grounding import prompts
from langchain_qwen.grounding.answer import GroundedAnswer
from langchain_qwen.grounding.cutoff import KNOWLEDGE_CUTOFF
from langchain_qwen.grounding.indexing import NEAREST, Source, estimated_tokens
from langchain_qwen.grounding.planning import plan
from langchain_qwen.grounding.risk import calibration_of, check_limit, read_calibration
from langchain_qwen.grounding.steps import Ask, Generate, Judge, NextText, Plan, Retrieve, Settings
from langchain_qwen.grounding.types import AnswerText, Citation
from langchain_qwen.inputs import check_no_arguments, messages_of

Question = LanguageModelInput
Event = AnswerText | Citation | GroundedAnswer
JudgeFunction = Callable[[str, str, str], bool]

# A retriever of the user's has its own limit, and an answer may stand in its last document.
_MOST_RETRIEVED = 20
_LOST = (
    "no log probabilities, or a window too small for checks: risk is read from words alone, and conflicts are not "
    "confirmed by the model",
    "no grammar: questions for several facts are not split",
    "no exact counts: the tokens of prompts are estimated",
)


class GroundedAnswerer(Runnable[Question, GroundedAnswer]):
    """Answers questions from documents, with quotes, or says that they do not answer.

    ```python
    from langchain_qwen import ChatQwen
    from langchain_qwen.grounding import GroundedAnswerer

    model = ChatQwen(model="coder-1.5b", temperature=0)
    answerer = GroundedAnswerer(["The bridge was opened on 19 March 1932.", "The mill closed in 1950."], model)
    answer = answerer.invoke("When was the bridge opened?")
    answer.text  # "The bridge was opened on 19 March 1932. [1]"
    answer.citations[0].quote  # "The bridge was opened on 19 March 1932."
    answer.risk  # 0.09
    answerer.invoke("Who built the mill?").abstained  # AbstainReason.NOT_STATED
    for event in answerer.stream("When was the bridge opened?"):
        print(type(event).__name__)  # AnswerText, AnswerText, Citation, GroundedAnswer; `astream` too
    ```

    What happens for a question: passages are retrieved and cleaned, and the question is answered from all that fit with
    LangChain's plain prompt. What follows can annotate or withhold that answer, never replace it: in one go, behind
    the passages that have been read, the model is asked whether they state it; with what the words of question, answer
    and passages tell, this gives the risk that the answer is wrong; each sentence is given quotes, and compared with
    the passages that these are from; passages that say otherwise are found.

    `stream` yields `AnswerText` pieces, a `Citation` as soon as it is found, and the `GroundedAnswer` last. The pieces
    put together are its text. With `on_unsupported="flag"` text is passed on while it is generated, and whether to
    abstain is decided before it, from less; else the answer is held back until it has been checked, so that nothing is
    ever taken back.

    Any chat model will do. What one lacks that is not on this machine is in `lost`.

    Args:
        retriever: Any LangChain retriever (or another runnable from text to documents), documents, or plain texts. Of
            the latter two an index is made: BM25, and vectors too where there are `embeddings`.
        model: A `ChatQwen`, also guarded, with arguments bound, retries or fallbacks, or another chat model.
        embeddings: For documents or texts: a LangChain embedding model. BM25 alone finds nothing across languages.
        abstain_above: The chance of being wrong above which there is no answer, such as 0.2. The default is the one at
            which nearly all right answers (0.95) were kept when the calibration was made. None answers always.
        calibration: How risk is read off: a file that `python -m langchain_qwen.grounding calibrate` wrote for your
            model or documents; None for what comes with the package.
        max_passages: How many passages are shown at most; None for all that a retriever gives, up to 20, and of
            documents or texts the nearest 6.
        max_prompt_tokens: The most tokens of a prompt with its passages, exact for models on this machine.
        max_answer_tokens: The longest answer.
        on_unsupported: What becomes of a sentence that its quotes do not support: "drop" it, "flag" it, or "abstain".
        min_coverage: The share of a sentence's words that the passages it cites (or the question) must hold.
        judge: A further check, such as an entailment model: called with question, sentence and evidence, it says
            whether the evidence supports the sentence.
        translate_queries: For documents or texts: have the model translate questions in another language than
            theirs. The answer is then in the documents' language.
        as_of: The day of the question; None for today.
        knowledge_cutoff: Until when the model knows things, see `langchain_qwen.grounding.cutoff`.
        date_key: Where a document's metadata has its date.
        withhold_instructions: Keep sentences that give the model orders out of the prompt; else they are reported only.
        abstain_text: The text of an answer that there is none; None for a sentence in the question's language.
        missing_text: Says that a part of a question was not found; `{question}` stands for it. None for a sentence in
            the question's language.

    Attributes:
        lost: What this model cannot do, in words; empty for models on this machine with a window of usual size.

    Raises:
        InvalidParameterError: For settings out of range, or arguments that are not what they should be.
    """

    def __init__(
        self,
        retriever: Runnable[str, list[Document]] | Sequence[Document | str],
        model: Runnable[Any, Any],
        *,
        embeddings: Embeddings | None = None,
        abstain_above: float | Literal["calibrated"] | None = "calibrated",
        calibration: str | Path | None = None,
        max_passages: int | None = None,
        max_prompt_tokens: int = 2048,
        max_answer_tokens: int = 256,
        on_unsupported: Literal["drop", "flag", "abstain"] = "drop",
        min_coverage: float = 0.5,
        judge: JudgeFunction | None = None,
        translate_queries: bool = False,
        as_of: date | None = None,
        knowledge_cutoff: date = KNOWLEDGE_CUTOFF,
        date_key: str = "date",
        withhold_instructions: bool = True,
        abstain_text: str | None = None,
        missing_text: str | None = None,
    ):
        _check_kinds(retriever, model)
        if on_unsupported not in ("drop", "flag", "abstain"):
            raise InvalidParameterError(f'on_unsupported={on_unsupported!r}: give "drop", "flag" or "abstain"')
        if not 0 <= min_coverage <= 1:
            raise InvalidParameterError(f"min_coverage={min_coverage}: give a share from 0 to 1")
        check_limit("abstain_above", abstain_above)
        if max_passages is None:
            max_passages = _MOST_RETRIEVED if isinstance(retriever, Runnable) else NEAREST
        counts = {"passages": max_passages, "prompt_tokens": max_prompt_tokens, "answer_tokens": max_answer_tokens}
        for name, value in counts.items():
            if value < 1:
                raise InvalidParameterError(f"max_{name}={value}: give at least 1")
        if missing_text is not None and "{question}" not in missing_text:
            raise InvalidParameterError(
                f'missing_text={missing_text!r}: needs "{{question}}" where the question stands'
            )
        self.model = model
        # Counting and the window are the model's own, whatever is wrapped around it.
        local: Any = local_model(model)
        tells_odds = local is not None and _has_room(local)
        self.lost: tuple[str, ...] = () if tells_odds else _LOST[: 3 if local is None else 2]
        source = Source(retriever, max_passages, embeddings, local.get_num_tokens if local else estimated_tokens)
        self.retriever = source.retriever
        self._judge = judge
        self._as_of = as_of
        self._settings = Settings(
            calibration=read_calibration(calibration) if calibration else calibration_of(local),
            abstain_above=abstain_above,
            max_passages=max_passages,
            max_prompt_tokens=max_prompt_tokens,
            max_answer_tokens=max_answer_tokens,
            on_unsupported=on_unsupported,
            min_coverage=min_coverage,
            judged=judge is not None,
            knowledge_cutoff=knowledge_cutoff,
            date_key=date_key,
            withhold=withhold_instructions,
            abstain_text=abstain_text,
            missing_text=missing_text,
            tells_odds=tells_odds,
            translate=translate_queries,
            across=source.across,
            count=local.get_num_tokens_from_messages if local else count_tokens_approximately,
            window=local.context_window if local else None,
        )

    def invoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> GroundedAnswer:  # noqa: A002
        """Answer a question, or the last question of a chat."""
        check_no_arguments(self, kwargs)
        return self._call_with_config(self._answer, input, config)  # type: ignore[arg-type]

    async def ainvoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> GroundedAnswer:  # noqa: A002
        """As `invoke`."""
        check_no_arguments(self, kwargs)
        return await self._acall_with_config(self._aanswer, input, config)  # type: ignore[arg-type]

    def stream(  # type: ignore[override]  # pieces come before the whole
        self,
        input: Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Event]:
        """Pieces of text, citations, and the whole answer last."""
        check_no_arguments(self, kwargs)
        yield from self._transform_stream_with_config(iter([input]), self._transform, config)  # type: ignore[arg-type]

    async def astream(  # type: ignore[override]
        self,
        input: Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Event]:
        """As `stream`."""
        check_no_arguments(self, kwargs)

        async def one() -> AsyncIterator[Question]:
            yield input

        async for event in self._atransform_stream_with_config(one(), self._atransform, config):  # type: ignore[arg-type]
            yield event

    def _answer(self, question: Question, config: RunnableConfig) -> GroundedAnswer:
        return _last(list(self._events(question, config)))

    async def _aanswer(self, question: Question, config: RunnableConfig) -> GroundedAnswer:
        return _last([event async for event in self._aevents(question, config)])

    def _transform(self, inputs: Iterator[Question], config: RunnableConfig) -> Iterator[Event]:
        for question in inputs:
            yield from self._events(question, config)

    async def _atransform(self, inputs: AsyncIterator[Question], config: RunnableConfig) -> AsyncIterator[Event]:
        async for question in inputs:
            async for event in self._aevents(question, config):
                yield event

    def _plan(self, question: Question) -> Plan:
        return plan(_conversation(question), self._settings, self._as_of or date.today())

    def _together(self, asked: Sequence[tuple[Any, dict[str, Any]]]) -> RunnableParallel[Any]:
        """From a list of prompts to the reply to each: what runs on this machine reads its weights once for all."""
        models = [self.model.bind(**options) for _, options in asked]
        return RunnableParallel({str(number): itemgetter(number) | model for number, model in enumerate(models)})

    def _events(self, question: Question, config: RunnableConfig) -> Iterator[Event]:
        texts: Iterator[BaseMessage] = iter(())

        def do(step: Any) -> Any:
            nonlocal texts
            match step:
                case Retrieve(query):
                    return self.retriever.invoke(query, config)
                case Ask(asked):
                    return list(self._together(asked).invoke([prompt for prompt, _ in asked], config).values())
                case Generate(prompt, options):
                    texts = self.model.bind(**options).stream(prompt, config)
                case NextText():
                    return next(texts, None)
                case Judge(arguments):
                    assert self._judge
                    return self._judge(*arguments)
            return None

        try:
            yield from stepping.events(self._plan(question), do)
        finally:
            _close(texts)

    async def _aevents(self, question: Question, config: RunnableConfig) -> AsyncIterator[Event]:
        texts: AsyncIterator[BaseMessage] | None = None

        async def do(step: Any) -> Any:
            nonlocal texts
            match step:
                case Retrieve(query):
                    return await self.retriever.ainvoke(query, config)
                case Ask(asked):
                    replies = await self._together(asked).ainvoke([prompt for prompt, _ in asked], config)
                    return list(replies.values())
                case Generate(prompt, options):
                    texts = self.model.bind(**options).astream(prompt, config)
                case NextText():
                    assert texts
                    return await anext(texts, None)
                case Judge(arguments):
                    assert self._judge
                    return await asyncio.to_thread(self._judge, *arguments)
            return None

        events = stepping.aevents(self._plan(question), do)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()
            close = getattr(texts, "aclose", None)
            if close is not None:
                await close()


def _has_room(local: Any) -> bool:
    """Whether the window takes the examples that checks stand behind, and as much again."""
    examples: int = local.get_num_tokens_from_messages(prompts.stated("", ""))
    window: int = local.context_window
    return 2 * examples <= window


def _last(events: list[Event]) -> GroundedAnswer:
    answer = events[-1]
    assert isinstance(answer, GroundedAnswer)
    return answer


def _close(texts: Iterator[Any]) -> None:
    close = getattr(texts, "close", None)
    if close is not None:
        close()


def _conversation(question: Question) -> list[BaseMessage]:
    """The chat that ends with the question.

    Raises:
        InvalidMessagesError: If there is none.
    """
    conversation = messages_of(question)
    if not conversation or not isinstance(conversation[-1], HumanMessage) or not conversation[-1].text.strip():
        raise InvalidMessagesError("a grounded answer needs a question: a text, or messages that end with a human one")
    return conversation


def _check_kinds(retriever: Any, model: Any) -> None:
    if is_chat_model(retriever) or not is_chat_model(model):
        raise InvalidParameterError(
            f"GroundedAnswerer(retriever, model) takes a retriever or documents, then a chat model; these are "
            f"{type(retriever).__name__} and {type(model).__name__}"
        )
    if hasattr(retriever, "as_retriever"):
        raise InvalidParameterError(
            f"a {type(retriever).__name__} is no retriever; give GroundedAnswerer what its as_retriever() returns"
        )
