"""Tasks of several steps, written once for sync and async: a generator yields prompts and is sent the answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import patch_config
from pydantic import BaseModel, ConfigDict

from langchain_qwen import stepping
from langchain_qwen.errors import InvalidParameterError

Out = TypeVar("Out")


class Result(BaseModel):
    """What a task gives."""

    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True, slots=True)
class Ask:
    """Prompts that are answered at the same time."""

    chain: Runnable[Any, AIMessage]
    prompts: Sequence[Any]


Steps = Generator[Ask, list[AIMessage], Out]


def task(name: str, steps: Callable[[str], Steps[Out]]) -> Runnable[str, Out]:
    """A runnable that asks for what `steps` yields and returns what it returns."""

    def begin(value: str) -> Steps[Out]:
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} takes a text, not {type(value).__name__}; of a message take its .text")
        return steps(value)

    def run(value: str, config: RunnableConfig) -> Out:
        return stepping.run(begin(value), lambda ask: ask.chain.batch(list(ask.prompts), _quiet(config)))

    async def arun(value: str, config: RunnableConfig) -> Out:
        return await stepping.arun(begin(value), lambda ask: ask.chain.abatch(list(ask.prompts), _quiet(config)))

    return RunnableLambda(run, afunc=arun, name=name)


def _quiet(config: RunnableConfig) -> RunnableConfig:
    """Without the name and id of the task's own run."""
    return patch_config(config, run_name=None)
