"""Do agents finish, and are they right? Tasks over twelve tools, scored by code.

`create_agent` of LangChain runs each task of `benchmarks.agent_tasks` with the tools bound, at most twelve steps.
`finished`: the run ended with words or a structured answer, and no recursion limit. `right`: finished, each tool called
that the task needs, and all facts in the answer. `needless`: calls beyond those that the task needs, per task.

`--base-url` runs the same agent on a peer, through langchain-openai's ChatOpenAI; llama-cpp-python's server, say:
python -m llama_cpp.server --model coder-1.5b.gguf --n_ctx 8192 --n_threads 2 --chat_format chatml-function-calling
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from statistics import mean
from typing import Any

from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.errors import GraphRecursionError
from rich.console import Console
from rich.table import Table

from benchmarks.agent_tasks import BY_NAME, TASKS, Task
from benchmarks.common import argument_parser, print_environment, print_result
from langchain_qwen import ChatQwen

MOST_STEPS = 12


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    task: Task
    finished: bool
    right: bool
    needless: int
    seconds: float
    answer: str
    calls: tuple[str, ...]


def run(
    task: Task,
    model: BaseChatModel,
    form: Callable[[Any], Any] | None = None,
    failures: tuple[type[Exception], ...] = (GraphRecursionError,),
) -> Outcome:
    """Run one task with an agent and score it.

    Args:
        task: What to do.
        model: Who does it.
        form: LangChain's strategy for a schema; None for its own choice.
        failures: Errors that leave a task unfinished; others end the benchmark.
    """
    schema = form(task.schema) if form and task.schema else task.schema
    agent: Any = create_agent(model, [BY_NAME[name] for name in task.tools], response_format=schema)
    said = [("human", task.question)] if isinstance(task.question, str) else list(task.question)
    started = time.monotonic()
    messages: list[BaseMessage] = []
    structured: Any = None
    finished = True
    try:
        for state in agent.stream({"messages": said}, {"recursion_limit": 2 * MOST_STEPS}, stream_mode="values"):
            messages, structured = state["messages"], state.get("structured_response")
    except failures:
        finished = False
    new = messages[len(said) :]
    calls = tuple(call["name"] for one in new if isinstance(one, AIMessage) for call in one.tool_calls)
    calls = tuple(name for name in calls if name in task.tools)  # not the form that ToolStrategy asks for as a tool
    answer = structured.model_dump_json() if structured is not None else (new[-1].text if new else "")
    finished = finished and bool(answer.strip())
    needed, made = Counter(task.calls), Counter(calls)
    told = all(any(spelling in answer for spelling in says) for says in task.says)
    right = finished and told and not (needed - made) and not any(one in answer for one in task.never)
    return Outcome(task, finished, right, (made - needed).total(), time.monotonic() - started, answer, calls)


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Print a table by kind, and give the figures."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.task.kind].append(outcome)
    table = Table("kind", "tasks", "finished", "right", "needless calls", "seconds a task")
    for kind, some in [*kinds.items(), ("all", list(outcomes))]:
        table.add_row(kind, str(len(some)), *(f"{value:.2f}" for value in _figures(some).values()))
    Console().print(table)
    figures = {name: round(value, 3) for name, value in _figures(outcomes).items()}
    if "structured" in kinds:
        figures["structured_right"] = round(mean(one.right for one in kinds["structured"]), 3)
    return figures


def _figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {
        "finished": mean(one.finished for one in outcomes),
        "right": mean(one.right for one in outcomes),
        "needless_calls": mean(one.needless for one in outcomes),
        "seconds": mean(one.seconds for one in outcomes),
    }


def main() -> None:
    """Run the tasks and print what came of them."""
    parser: argparse.ArgumentParser = argument_parser(__doc__)
    parser.add_argument("--kinds", nargs="*", help="only these kinds of tasks")
    parser.add_argument("--every", type=int, default=1, help="only each n-th task")
    parser.add_argument("--start", type=int, default=0, help="of those, beginning with this one")
    parser.add_argument("--at-once", type=int, default=1, help="tasks that run at the same time")
    parser.add_argument("--off", nargs="*", default=(), help="parameters to switch off: tool_hint, decide_calls")
    parser.add_argument("--base-url", help="of a peer's server, instead of ChatQwen")
    parser.add_argument("--tool-strategy", action="store_true", help="ask for schemas as a tool's arguments")
    parser.add_argument("--show", action="store_true", help="print each task with its calls and its answer")
    options = parser.parse_args()
    tasks = [task for task in TASKS[options.start :: options.every] if not options.kinds or task.kind in options.kinds]
    form = ToolStrategy if options.tool_strategy else None
    outcomes = []
    with _model(options) as (model, failures):
        print_environment("langchain", "langgraph")
        with ThreadPoolExecutor(options.at_once) as pool:
            for running in as_completed([pool.submit(run, task, model, form, failures) for task in tasks]):
                outcomes.append(running.result())
                if options.show:
                    _print(outcomes[-1])
    print_result(report(outcomes), "langchain", "langgraph")


@contextlib.contextmanager
def _model(options: argparse.Namespace) -> Iterator[tuple[BaseChatModel, tuple[type[Exception], ...]]]:
    """The model, and what of it leaves a task unfinished."""
    sampling: dict[str, Any] = {"temperature": 0, "max_tokens": 400}
    if not options.base_url:
        switched = dict.fromkeys(options.off, False)
        with ChatQwen(model=options.model, precision=options.precision, **sampling, **switched) as model:
            yield model, (GraphRecursionError,)
        return
    from langchain_openai import ChatOpenAI
    from openai import APIError

    # The choice is OpenAI's default; llama-cpp-python takes no choice for "none".
    peer = {"base_url": options.base_url, "api_key": "none", "model": options.model, "max_retries": 0}
    yield ChatOpenAI(model_kwargs={"tool_choice": "auto"}, **peer, **sampling), (GraphRecursionError, APIError)


def _print(outcome: Outcome) -> None:
    task = outcome.task
    asked = task.question if isinstance(task.question, str) else task.question[-1][1]
    mark = "right" if outcome.right else "WRONG" if outcome.finished else "UNFINISHED"
    print(f"{mark:10} {task.kind:10} {asked}\n    {' '.join(outcome.calls)}\n    {outcome.answer[:300]!r}", flush=True)


if __name__ == "__main__":
    main()
