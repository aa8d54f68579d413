"""Conversation state: the time of a trim, tokens computed again beside other trimmers, and what is remembered.

    python -m benchmarks.history --data DIR
    python -m benchmarks.history --data DIR --parts trim prefill     # without running the model

Prefilled tokens are counted on the exact ids of every prompt of a conversation, through the engine's own block pool
with the memory of one window; no model runs for that. Those computed again are the prefilled ones less what a
conversation that never forgets would prefill. Summaries of 200 words stand in for a summarizer there, and its prompts
count too.

Recall: ten facts are told early in a long conversation, five of them pinned, and asked for at its end. The summaries
are the model's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, trim_messages
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, share
from langchain_qwen import ChatQwen
from langchain_qwen.engine.blocks import BLOCK_SIZE, ROOT_HASH, BlockPool, chain_hash
from langchain_qwen.history import HistoryTrimmer, pin
from langchain_qwen.history.counting import PromptCounter

Prompt = Callable[[list[BaseMessage]], list[BaseMessage]]

PARTS = ("trim", "prefill", "recall")
SYSTEM = SystemMessage("You are a friend who listens well and remembers what was said.")
WORDS = "They spoke about their plans, their families and what they did in the last weeks. "
FACTS = [
    ("My locker at the station has the number 4831.", "Which number has my locker at the station?", "4831"),
    ("My dentist is called Doctor Abernathy.", "What is my dentist called?", "abernathy"),
    ("I parked the car on level seven of the garage.", "On which level of the garage did I park?", "seven|7"),
    ("My sister lives in Ljubljana.", "In which city does my sister live?", "ljubljana"),
    ("I am allergic to hazelnuts.", "What am I allergic to?", "hazelnut"),
    ("My cat is called Pumpernickel.", "What is my cat called?", "pumpernickel"),
    ("My train leaves at 17:42 on Friday.", "At what time does my train leave on Friday?", "17:42|5:42"),
    ("The wifi password of the cabin is bluewhale.", "What is the wifi password of the cabin?", "bluewhale|blue whale"),
    ("I play the bassoon in an orchestra.", "Which instrument do I play?", "bassoon"),
    ("My neighbour's name is Oyelaran.", "What is my neighbour's name?", "oyelaran"),
]


def conversation(row: Row) -> list[BaseMessage]:
    """One speaker asks, the other answers; what one says several times in a row is one message."""
    spoken: list[tuple[bool, str]] = []
    for session in row["sessions"]:
        for turn in session["turns"]:
            asks = turn["speaker"] == row["speakers"][0]
            if spoken and spoken[-1][0] == asks:
                spoken[-1] = (asks, f"{spoken[-1][1]}\n{turn['text']}")
            else:
                spoken.append((asks, turn["text"]))
    return [HumanMessage(text) if asks else AIMessage(text) for asks, text in spoken]


class PrefixCache:
    """Counts what an engine with a pool of blocks prefills for a series of prompts."""

    def __init__(self, model: ChatQwen):
        self._prompter = model.prompter
        self._pool = BlockPool(model.context_window // BLOCK_SIZE)
        self.prefilled = 0

    def send(self, prompt: Sequence[BaseMessage], answer: BaseMessage) -> None:
        """Prefill the prompt and decode the answer."""
        ids = self._prompter.encode(prompt)
        blocks, hashes = self._pool.match(ids)
        self.prefilled += len(ids) - len(blocks) * BLOCK_SIZE
        whole = self._prompter.encode([*prompt, answer])
        full = len(whole) // BLOCK_SIZE
        new = self._pool.allocate(full - len(blocks))
        assert new is not None
        parent = hashes[-1] if hashes else ROOT_HASH
        for number, block in zip(range(len(blocks), full), new, strict=True):
            parent = chain_hash(parent, whole[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE])
            self._pool.publish(block, parent)
        self._pool.release([*blocks, *new])


class StandIn(BaseChatModel):
    """Summarizes in words that are always the same length, at the cost of its prompt."""

    engine: Any  # `cache` would be LangChain's own

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        answer = AIMessage(WORDS * 13)
        self.engine.send(messages, answer)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def prefilled(messages: list[BaseMessage], cache: PrefixCache, prompt: Prompt) -> int:
    """Tokens prefilled when a model is asked at each question."""
    for end, message in enumerate(messages):
        if isinstance(message, AIMessage) and end:
            cache.send([SYSTEM, *prompt(messages[:end])], message)
    return cache.prefilled


def trim_ours(trim: HistoryTrimmer, messages: list[BaseMessage]) -> list[BaseMessage]:
    """The prompt without the system message."""
    kept, report = trim.with_report([SYSTEM, *messages])
    assert not report.summary_failures, report.summary_failures
    return kept[1:]


def trim_theirs(counter: PromptCounter, budget: int, messages: list[BaseMessage]) -> list[BaseMessage]:
    """`trim_messages` at each turn, with exact counts."""
    kept: list[BaseMessage] = trim_messages(
        [SYSTEM, *messages],
        max_tokens=budget,
        token_counter=counter.count,
        strategy="last",
        start_on="human",
        include_system=True,
    )
    return kept[1:]


class Summarizing:
    """SummarizationMiddleware on a state that grows by what was said since."""

    def __init__(self, model: BaseChatModel, counter: PromptCounter, budget: int, keep: tuple[str, Any]):
        trigger: Any = ("tokens", int(budget * 0.9))
        kept: Any = keep
        count: Any = counter.count
        self._middleware = SummarizationMiddleware(model, trigger=trigger, keep=kept, token_counter=count)
        self._state: list[BaseMessage] = []
        self._seen = 0

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """The state's messages, summarized when they are above the trigger."""
        self._state += messages[self._seen :]
        self._seen = len(messages)
        state: Any = {"messages": self._state}
        runtime: Any = None
        if update := self._middleware.before_model(state, runtime):
            self._state = [message for message in update["messages"] if not isinstance(message, RemoveMessage)]
        return self._state


def measure_prefill(model: ChatQwen, messages: list[BaseMessage], window: int) -> dict[str, Any]:
    """All ways to trim, on one conversation."""
    counter, reserve = PromptCounter(model.prompter), 1024
    budget = window - reserve
    never = prefilled(messages, PrefixCache(model), lambda said: said)
    again: dict[str, int] = {}
    for name in ("ours", "ours_dropping", "ours_low_20", "trim_messages", "summarization", "summarization_half"):
        cache = PrefixCache(model)
        stand_in = StandIn(engine=cache)
        ours = partial(HistoryTrimmer, model, window=window, reserve=reserve, summarizer=stand_in)
        ways: dict[str, Callable[[], Prompt]] = {
            "ours": lambda ours=ours: partial(trim_ours, ours(steps=("summarize", "drop"))),  # type: ignore[misc]
            "ours_dropping": lambda ours=ours: partial(trim_ours, ours(steps=("drop",))),  # type: ignore[misc]
            "ours_low_20": lambda ours=ours: partial(  # type: ignore[misc]
                trim_ours, ours(steps=("summarize", "drop"), low_mark=0.2)
            ),
            "trim_messages": lambda: partial(trim_theirs, counter, budget),
            "summarization": lambda m=stand_in: Summarizing(m, counter, budget, ("messages", 20)),  # type: ignore[misc]
            "summarization_half": lambda m=stand_in: Summarizing(  # type: ignore[misc]
                m, counter, budget, ("tokens", budget // 2)
            ),
        }
        again[name] = prefilled(messages, cache, ways[name]()) - never
        print(f"{name}: {again[name]:,} tokens computed again", flush=True)
    return {
        "prefill_ratio": round(again["trim_messages"] / again["ours"], 2),
        "prefill_ratio_dropping": round(again["trim_messages"] / again["ours_dropping"], 2),
        "prefill_ratio_summarization": round(again["summarization"] / again["ours"], 2),
        "prefill_ratio_summarization_half": round(again["summarization_half"] / again["ours"], 2),
        "prefill_ratio_summarization_low_20": round(again["summarization"] / again["ours_low_20"], 2),
        "new_tokens": never,
        "computed_again": again,
    }


def measure_trim(model: ChatQwen, messages: list[BaseMessage]) -> dict[str, Any]:
    """The time of each trim, turn by turn, on a history that has 2,000 messages at its end."""
    trim = HistoryTrimmer(model)
    history: list[BaseMessage] = [SYSTEM]
    times: list[float] = []
    for number in range(2000):
        message = messages[number % len(messages)]
        history.append(message.model_copy(update={"content": f"{message.text} ({number})"}))
        if isinstance(message, HumanMessage):
            start = time.perf_counter()
            trim.with_report(history)
            times.append((time.perf_counter() - start) * 1000)
    late = sorted(times[-len(times) // 5 :])
    return {"trim_p99_ms": round(late[int(len(late) * 0.99)], 3), "trim_p50_ms": round(late[len(late) // 2], 3)}


def measure_recall(model: ChatQwen, messages: list[BaseMessage], window: int) -> dict[str, Any]:
    """Facts told early, asked for at the end."""
    told = [HumanMessage(f"By the way: {fact}") for fact, _, _ in FACTS]
    history: list[BaseMessage] = [SYSTEM]
    for number, message in enumerate(told):
        history += [pin(message) if number % 2 else message, AIMessage("Good to know, I will remember that.")]
        history += messages[2 * number : 2 * number + 2]
    history += messages[2 * len(told) :]
    plain = [message.model_copy(update={"additional_kwargs": {}}) for message in history]
    options: dict[str, Any] = {"window": window, "reserve": 256, "summary_tokens": 160}
    ours = HistoryTrimmer(model, steps=("summarize", "drop"), **options)
    dropping = HistoryTrimmer(model, steps=("drop",), **options)
    result: dict[str, Any] = {}
    for name, trim, said in (("recall", ours, history), ("recall_dropping", dropping, plain)):
        right = []
        for _, question, answers in FACTS:
            shown = trim.invoke([*said, HumanMessage(question)])
            answer = model.invoke(shown, max_tokens=40).text.casefold()
            right.append(any(expected in answer for expected in answers.split("|")))
        result[name] = share(right)
        result[f"{name}_pinned"], result[f"{name}_others"] = share(right[1::2]), share(right[::2])
    return result


def main() -> None:
    """Measure and print."""
    parser = argument_parser("Conversation state: trims, prefill, recall.")
    parser.add_argument("--turns", type=int, default=500, help="messages of the conversation for prefill")
    parser.add_argument("--window", type=int, default=8192, help="window for prefill, smaller than the conversation")
    parser.add_argument("--recall-turns", type=int, default=100, help="messages of the conversation for recall")
    parser.add_argument("--recall-window", type=int, default=2048, help="window for recall")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    print_environment()
    model = ChatQwen(model=arguments.model, precision=arguments.precision, temperature=0)
    messages = conversation(read_rows(arguments.data / "locomo.jsonl", 1)[0])
    result: dict[str, Any] = {"model": arguments.model, "turns": arguments.turns, "window": arguments.window}
    if "trim" in arguments.parts:
        result |= measure_trim(model, messages)
        print(result, flush=True)
    if "prefill" in arguments.parts:
        result |= measure_prefill(model, messages[: arguments.turns], arguments.window)
    if "recall" in arguments.parts:
        result |= measure_recall(model, messages[: arguments.recall_turns], arguments.recall_window)
    print_result(result)


if __name__ == "__main__":
    main()
