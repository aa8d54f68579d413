"""`langchain-qwen doctor --base-url`: whether a server can do what this package needs, tried out in some seconds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from langchain_core.messages import HumanMessage
from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from langchain_qwen.backends import AtServer, check_place
from langchain_qwen.cli.terminal import show, waiting
from langchain_qwen.engine import Constraint, Engine, Event, Finished, Request, Started, Token
from langchain_qwen.engine.sharing import Leases
from langchain_qwen.errors import QwenError, ServerAccessError
from langchain_qwen.opening import Opener, OpenModel, Source

KEY = "LANGCHAIN_QWEN_API_KEY"  # a command line is seen by everybody on the machine
SPEED_TOKENS = 32
TIMEOUT_S = 60.0
# What only llguidance reads as it is meant: an escape, and the intersection of two patterns.
GRAMMAR = 'start: WORD "\\n" WORD\nWORD: /[a-z]{2,9}/ & ~/\\x61.*/'
CACHED_FLAG = "--enable-prompt-tokens-details"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: how it went, and what to do where it did not (None where it did)."""

    name: str
    found: str
    todo: str | None = None
    needed: bool = True


def doctor_server(base_url: str, model: str, tokenizer: str | None, *, as_json: bool) -> bool:
    """Print what a server can do.

    Args:
        base_url: Of its API.
        model: Its name for the model.
        tokenizer: Hub id, folder or alias of the model; None is `model`.
        as_json: For machines rather than people.

    Returns:
        Whether it can be used.
    """
    with waiting(f"Asking {base_url}"):
        checks = list(examine_server(base_url, model, tokenizer))
    usable = not any(check.todo and check.needed for check in checks)
    if as_json:
        show(json.dumps({"base_url": base_url, "checks": [*map(asdict, checks)], "usable": usable}, indent=2))
        return usable
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = ("✓", "green") if not check.todo else ("✗", "red") if check.needed else ("!", "yellow")
        advice = Text.assemble(check.found, "\n", (f"→ {check.todo}", "bold")) if check.todo else Text(check.found)
        table.add_row(Text(mark, style=style), Text(check.name), advice)
    show(table)
    verdict = f"{model} at {base_url} can be used." if usable else f"{model} at {base_url} cannot be used yet."
    show(Text(verdict, style="bold green" if usable else "bold red"))
    return usable


def examine_server(base_url: str, model: str, tokenizer: str | None) -> Iterator[Check]:
    """Try one thing after the other; what needs an earlier one that failed is left out."""
    key = SecretStr(os.environ.get(KEY, ""))
    check_place(base_url, {"api_key": key})
    opened = Opener().open(Source(tokenizer or model, None, None, False, model), fresh=False)
    leases = Leases()
    try:
        backend = AtServer(leases, base_url, key, 0)
        try:
            engine = backend.engine(opened.checkpoint, time.monotonic() + TIMEOUT_S)
        except QwenError as error:
            todo = (
                f"set the environment variable {KEY}"
                if isinstance(error, ServerAccessError)
                else "start it, or correct --base-url and --model"
            )
            yield Check("reachable", str(error), todo)
            return
        yield Check("reachable", f"it has {model}, with a window of {engine.info.context_window:,} tokens")
        yield from _answers(engine, opened)
    finally:
        leases.close()


def _answers(engine: Engine, opened: OpenModel) -> Iterator[Check]:
    prompt = tuple(opened.prompter.encode([HumanMessage("Write about a mill. " * 60)]))
    stops = opened.checkpoint.eos_token_ids

    def ask(max_tokens: int, *, ends: bool = True, constraint: Constraint | None = None) -> list[Event]:
        until = time.monotonic() + TIMEOUT_S
        stop_ids = stops if ends else frozenset[int]()
        return list(engine.stream(Request(prompt, max_tokens, stop_ids, constraint=constraint, deadline=until)))

    def ids() -> Check:
        first = next(event for event in ask(1) if isinstance(event, Started))
        return Check("token ids", f"both ways; first token of {len(prompt)} after {first.prefill_s:.2f} s")

    def speed() -> Check:
        begin = time.monotonic()
        events = ask(SPEED_TOKENS, ends=False)
        first, last = events[0], events[-1]
        assert isinstance(first, Started)
        decoding = time.monotonic() - begin - first.prefill_s
        count = sum(isinstance(event, Token) for event in events)
        rate = f"{(count - 1) / decoding:.1f} tokens a second" if count > 1 and decoding > 0 else "too fast to tell"
        assert isinstance(last, Finished)
        return Check("tokenizer", f"the text of {count} tokens is what `tokenizer` says; one stream runs at {rate}")

    def grammar() -> Check:
        ask(24, constraint=Constraint(opened.tokenizer.llguidance, GRAMMAR))
        return Check("grammars", "llguidance reads them, and the answer kept to one")

    def cached() -> Check:
        (last,) = (event for event in ask(1) if isinstance(event, Finished))
        if last.cached_tokens is None:
            what = "it does not tell how much of a prompt it had: usage lacks `cache_read`"
            return Check("cached tokens", what, f"start vLLM with {CACHED_FLAG}", needed=False)
        return Check("cached tokens", f"told: {last.cached_tokens} of {len(prompt)} that had been sent before")

    steps: tuple[tuple[str, Callable[[], Check]], ...] = (
        *(("token ids", ids), ("tokenizer", speed)),
        *(("grammars", grammar), ("cached tokens", cached)),
    )
    for name, step in steps:
        check = _tried(name, step)
        yield check
        if check.todo and name == "token ids":  # then nothing else goes either
            return


def _tried(name: str, step: Callable[[], Check]) -> Check:
    try:
        return step()
    except QwenError as error:
        return Check(name, str(error), "as said; then run this again")
