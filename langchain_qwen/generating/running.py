"""Passes one after the other, until one of them has brought something: written once, run sync and async."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, replace
from functools import partial

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_qwen import stepping
from langchain_qwen.backends import Backend
from langchain_qwen.engine import Engine, Request
from langchain_qwen.generating.arguments import Arguments
from langchain_qwen.generating.passes import OpenModelOf, Pass, prepare
from langchain_qwen.output.answer import Answer, Spent
from langchain_qwen.reading import Watch
from langchain_qwen.structured_output import parsed

Chunks = Generator[ChatGenerationChunk, None, None]
AsyncChunks = AsyncGenerator[ChatGenerationChunk, None]


@dataclass(frozen=True, slots=True)
class Generate(stepping.Stream):
    """A pass at work: the engine's events are fed to the answer, whose chunks go to the caller."""

    engine: Engine
    request: Request
    answer: Answer


Steps = Generator[Generate, None, ChatGenerationChunk]


def steps(asked: Arguments, messages: list[BaseMessage], open_model: OpenModelOf, backend: Backend) -> Steps:
    """The passes of a call as steps; what they return is the last chunk, with usage and metadata.

    Args:
        asked: The call's arguments.
        messages: The conversation.
        open_model: See `prepare`.
        backend: Where answers are generated.
    """
    now: Pass | None = prepare(asked, messages, open_model)
    spent = Spent()
    parse = partial(parsed, asked.schema) if asked.schema else None
    while now is not None:
        now, engine, request = _fitted(now, backend)
        tokenizer = now.model.tokenizer
        answer = Answer(
            tokenizer.token_bytes,
            now.plan,
            thought_marks=tokenizer.thought_marks,
            in_thought=bool(tokenizer.closing_thought(request.prompt_ids)),
            stop=now.parameters.stop or (),
            with_logprobs=request.top_logprobs is not None,
            prompt_tokens=len(request.prompt_ids),
            metadata=backend.identity(now.model.checkpoint, engine),
            spent=spent,
            tells_usage=asked.parameters.stream_usage is not False,
            parse=parse,
        )
        yield Generate(engine, request, answer)
        if answer.last is not None:
            return answer.last
        now = now.next(answer)
    raise AssertionError("the last pass always brings an answer")


def _fitted(now: Pass, backend: Backend) -> tuple[Pass, Engine, Request]:
    """What is generated, the engine, and the request cut to what its KV memory holds where no length was asked for.

    What is still too long, the engine refuses.
    """
    engine = backend.engine(now.model.checkpoint, now.request.deadline)
    room = max(1, engine.info.context_window - len(now.request.prompt_ids))
    if now.then and now.otherwise and room < now.request.max_tokens:
        return _fitted(now.otherwise, backend)
    if now.parameters.max_tokens is not None:
        return now, engine, now.request
    return now, engine, replace(now.request, max_tokens=min(now.request.max_tokens, room))


def chunks(steps: Steps, watch: Watch) -> Chunks:
    """Run the steps, and pass their chunks on."""

    def generate(step: Generate) -> Chunks:
        with contextlib.closing(watch), contextlib.closing(step.engine.stream(step.request)) as events:
            for event in events:
                watch.see(event)
                yield from step.answer.feed(event)
                if step.answer.complete:
                    return

    return stepping.events(steps, generate)


def achunks(steps: Steps, watch: Watch) -> AsyncChunks:
    """As `chunks`. Reading files, compiling grammars and loading weights happen beside the event loop."""

    async def generate(step: Generate) -> AsyncChunks:
        with contextlib.closing(watch):
            async with contextlib.aclosing(step.engine.astream(step.request)) as events:
                async for event in events:
                    await watch.asee(event)
                    for chunk in step.answer.feed(event):
                        yield chunk
                    if step.answer.complete:
                        return

    return stepping.aevents(steps, generate)
