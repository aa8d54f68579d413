"""HistoryTrimmer: from all messages of a conversation to those that are sent."""

from __future__ import annotations

from collections.abc import Generator, MutableMapping, Sequence
from typing import Any, Literal

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config

from langchain_qwen import stepping
from langchain_qwen.capabilities import bound_arguments, require_local
from langchain_qwen.converting import openai_tool_of
from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError
from langchain_qwen.forks import renewed_lock
from langchain_qwen.history.counting import PromptCounter, Tool, key_of, role_of
from langchain_qwen.history.marks import quotation
from langchain_qwen.history.replay import Limits, Replay, Step, SummaryFailure, SummaryRequest
from langchain_qwen.history.report import TrimReport
from langchain_qwen.history.summaries import INSTRUCTION, Summaries
from langchain_qwen.history.view import View
from langchain_qwen.inputs import check_no_arguments, messages_of
from langchain_qwen.prompting import check_conversation
from langchain_qwen.rebuilt import Rebuilt

STEPS: tuple[Step, ...] = ("clear", "summarize", "drop")
EVENT = "history_trimmed"
_REMEMBERED_REPLAYS = 8

Trimmed = tuple[list[BaseMessage], TrimReport]


class HistoryTrimmer(Rebuilt, Runnable[Any, list[BaseMessage]]):
    """Makes a conversation fit into the model's window, in exact tokens, and moves its beginning rarely.

    ```python
    from langchain_qwen import ChatQwen
    from langchain_qwen.history import HistoryTrimmer

    model = ChatQwen(model="coder-1.5b", temperature=0)
    trim = HistoryTrimmer(model, window=4096)
    history = [("human", "My name is Ada."), ("ai", "Hello Ada!"), ("human", "What is my name? One word.")]
    messages, report = trim.with_report(history)
    print(report)  # 55 of 3,584 tokens, 3 messages
    ```

    Before a model, whole, streamed or awaited; before tools, which are counted, and before structured output:

    ```python
    chain = trim | model
    chain.invoke(history).text  # "Ada"
    for chunk in chain.stream(history):
        print(chunk.text, end="")  # Ada
    HistoryTrimmer(model, tools=[look_up]) | model.bind_tools([look_up])
    trim | model.with_structured_output(Name)  # Name(name="Ada")
    ```

    It takes messages, a prompt value, a dict with "messages", or any object with `.messages`, and never changes them.
    Where the prompt is above `high_mark` of the budget it is cut to `low_mark`, with the steps in their order until
    that is reached. A call and its results stay together, and so do a question and all that answers it. What stays in
    any case: system messages, the first `pin_first` messages and those marked with `pin`, each with what belongs to it;
    the open question; the last step of its answer. The same history always gets the same cut.

    Each call dispatches the report as the custom event `history_trimmed` (`on_custom_event` of callback handlers).

    Args:
        model: Whose window, tokenizer and template count: a `ChatQwen`, also guarded, with arguments bound, retries or
            fallbacks.
        reserve: Tokens kept free for the answer; None is the model's `max_tokens`, else 2,048, at most an eighth of
            the window.
        tools: What will be bound to the model; they are part of every prompt. None takes those that are bound already.
        steps: "clear" replaces the contents of old tool results by a note, all but the last `keep_results`; "summarize"
            replaces old turns by a block of summary, quoted, behind the system message; "drop" leaves old turns out.
            The default is "clear" and "drop", which call no model.
        pin_first: So many messages at the beginning stay (system messages count).
        high_mark: Share of the budget above which is trimmed.
        low_mark: Share of the budget down to which is trimmed.
        keep_results: So many of the last tool results are never cleared.
        summarizer: The chat model that summarizes; None is `model`.
        summary_tokens: The most tokens of one summary.
        summaries: Keeps the texts; `shelve.open(path)` keeps them over restarts. None keeps them in this object.
        summary_instruction: What the summarizer is told; `{words}` is replaced by half of `summary_tokens`.
        oversize: What to do where a single message is too large: "error" raises, "shorten" leaves out its middle and
            says so in the message and in the report.
        window: Tokens that prompt and answer may have together; None is the checkpoint's. Less means less to compute.

    Raises:
        CapabilityError: For another chat model, and for one that the config of a call may replace.
        InvalidParameterError: For numbers that contradict each other.
        UnsupportedModelError: For a checkpoint whose template does not write message by message.
    """

    def __init__(
        self,
        model: Runnable[Any, Any],
        *,
        reserve: int | None = None,
        tools: Sequence[Any] | None = None,
        steps: Sequence[Step] = ("clear", "drop"),
        pin_first: int = 0,
        high_mark: float = 0.9,
        low_mark: float = 0.5,
        keep_results: int = 3,
        summarizer: Runnable[Any, BaseMessage] | None = None,
        summary_tokens: int = 256,
        summaries: MutableMapping[str, str] | None = None,
        summary_instruction: str = INSTRUCTION,
        oversize: Literal["error", "shorten"] = "error",
        window: int | None = None,
    ):
        local = require_local(model, "HistoryTrimmer")
        window = min(window or local.context_window, local.context_window)
        if reserve is None:
            reserve = local.max_tokens or min(2048, window // 8)
        if not 0 < reserve < window:
            raise InvalidParameterError(f"reserve={reserve} leaves no room for messages in a window of {window} tokens")
        if not 0 < low_mark <= high_mark <= 1:
            raise InvalidParameterError(f"low_mark={low_mark} and high_mark={high_mark} must be 0 < low <= high <= 1")
        if unknown := [step for step in steps if step not in STEPS]:
            raise InvalidParameterError(f"there is no step {unknown[0]!r}; the steps are {', '.join(STEPS)}")
        if oversize not in ("error", "shorten"):
            raise InvalidParameterError(f'oversize={oversize!r} is neither "error" nor "shorten"')
        budget = window - reserve
        self.counter = PromptCounter(local.prompter)
        introduction = self.counter.segment([quotation("x")])
        self.limits = Limits(
            window=window,
            budget=budget,
            high=int(budget * high_mark),
            low=int(budget * low_mark),
            steps=tuple(steps),
            keep_results=keep_results,
            summary_tokens=summary_tokens + introduction,
            summaries_tokens=budget // 4,
            oversize=oversize,
        )
        self._tools = _plain(bound_arguments(model).get("tools") or ()) if tools is None else _plain(tools)
        self._pin_first = pin_first
        self._summaries = Summaries(
            summarizer or model,
            self.counter,
            max_tokens=summary_tokens,
            store={} if summaries is None else summaries,
            instruction=summary_instruction,
        )
        self._replays: list[Replay] = []
        self._lock = renewed_lock(self, "_lock")

    def __repr__(self) -> str:
        limits = self.limits
        return (
            f"HistoryTrimmer(window={limits.window}, reserve={limits.window - limits.budget}, steps={limits.steps}, "
            f"trims above {limits.high} tokens down to {limits.low})"
        )

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[BaseMessage]:  # noqa: A002
        """The messages to send.

        Raises:
            ContextOverflowError: Where what may not be cut is larger than the budget.
            InvalidMessagesError: For what no conversation can hold, for instance results without their call.
            UnknownParameterError: For other arguments than `tools`.
        """
        tools = kwargs.pop("tools", None)
        check_no_arguments(self, kwargs)

        # LangChain hands over the arguments that a function names; its types do not say so for a config alone.
        def run(history: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages, report = self.with_report(history, tools=tools, config=config)
            dispatch_custom_event(EVENT, report.as_dict(), config=config)
            return messages

        return self._call_with_config(run, input, config)  # type: ignore[arg-type]

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[BaseMessage]:  # noqa: A002
        """As `invoke`."""
        tools = kwargs.pop("tools", None)
        check_no_arguments(self, kwargs)

        async def run(history: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages, report = await self.awith_report(history, tools=tools, config=config)
            await adispatch_custom_event(EVENT, report.as_dict(), config=config)
            return messages

        return await self._acall_with_config(run, input, config)  # type: ignore[arg-type]

    def with_report(
        self, history: Any, *, tools: Sequence[Any] | None = None, config: RunnableConfig | None = None
    ) -> Trimmed:
        """The messages to send and what was done; raises as `invoke`.

        Args:
            history: What `invoke` takes.
            tools: Instead of the trimmer's own, for this call.
            config: For the summarizer.
        """
        config = ensure_config(config)
        work = self._trim(messages_of(history), self._tools if tools is None else _plain(tools))
        return stepping.run(work, lambda request: self._summaries.make(request, config))

    async def awith_report(
        self, history: Any, *, tools: Sequence[Any] | None = None, config: RunnableConfig | None = None
    ) -> Trimmed:
        """As `with_report`."""
        config = ensure_config(config)
        work = self._trim(messages_of(history), self._tools if tools is None else _plain(tools))
        return await stepping.arun(work, lambda request: self._summaries.amake(request, config))

    def _trim(
        self, messages: list[BaseMessage], tools: list[Tool]
    ) -> Generator[SummaryRequest, str | SummaryFailure, Trimmed]:
        if not messages:
            raise InvalidMessagesError("there are no messages; pass at least one, for instance a HumanMessage")
        replay = self._resume(messages, tools)
        try:
            yield from replay.run(messages[len(replay.keys) :])
        except InvalidMessagesError:
            check_conversation(messages)  # says which message of the whole history it is
            raise
        shown = replay
        if replay.view.tokens > self.limits.budget:
            shown = replay.copy()  # what is done where nobody asks must not move later cuts
            yield from shown.finish()
        self._keep(replay)
        return shown.view.sent(messages), shown.report()

    def _resume(self, messages: list[BaseMessage], tools: list[Tool]) -> Replay:
        """The longest replay of a beginning of these messages, now the caller's own; else a new one."""
        keys = list(map(key_of, messages))
        with self._lock:
            fitting = [
                replay
                for replay in self._replays
                if replay.view.tools == tools
                and replay.keys == keys[: len(replay.keys)]
                and not self._would_join(replay, messages)
            ]
            if fitting:
                best = max(fitting, key=lambda replay: len(replay.keys))
                self._replays = [replay for replay in self._replays if replay is not best]
                return best
        return Replay(View(self.counter, tools, self._pin_first), self.limits)

    @staticmethod
    def _would_join(replay: Replay, messages: list[BaseMessage]) -> bool:
        rest = messages[len(replay.keys) :]
        return bool(rest) and replay.view.open_for_results and role_of(rest[0]) == "tool"

    def _keep(self, replay: Replay) -> None:
        with self._lock:
            self._replays = [*self._replays, replay][-_REMEMBERED_REPLAYS:]


def _plain(tools: Sequence[Any]) -> list[Tool]:
    return [openai_tool_of(tool) for tool in tools]
