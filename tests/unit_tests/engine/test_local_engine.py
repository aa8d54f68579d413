"""Any mix of requests gives what each of them gives alone, and what the naive way gives."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from transformers import AutoModelForCausalLM

from langchain_qwen.engine import Constraint, Finished, Request, SamplingParams, Started, Token
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.runners.torch.runner import ATTENTION, TransformersRunner
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.errors import (
    ContextOverflowError,
    EngineClosedError,
    EngineError,
    GenerationTimeoutError,
    InvalidSchemaError,
    OutOfMemoryError,
)
from tests.tiny import tiny_tokenizer
from tests.unit_tests.engine.naive import naive_generate

SOAK = 50  # requests of a kind in a round
STOP = frozenset([264, 266])  # <|endoftext|> and <|im_end|> of the tiny tokenizer


@pytest.fixture(scope="module")
def plain_model(tiny_checkpoint):
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)


@pytest.fixture(scope="module")
def paged_model(tiny_checkpoint):
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32, attn_implementation=ATTENTION)


def start(model, *, blocks=64, **settings) -> LocalEngine:
    return LocalEngine(
        TransformersRunner(model, "fp32"), model="tiny", context_window=512, num_blocks=blocks, **settings
    )


@pytest.fixture
def engine(paged_model):
    engine = start(paged_model)
    yield engine
    engine.close()


def tokens(events) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def request(prompt, max_tokens=12, **settings) -> Request:
    constraint = settings.pop("constraint", None)
    return Request(tuple(prompt), max_tokens, STOP, SamplingParams(**settings), constraint=constraint)


def wait_until_idle(engine: LocalEngine, blocks: int = 64) -> None:
    deadline = time.monotonic() + 60
    while engine._worker.scheduler.pool.free < blocks:
        assert time.monotonic() < deadline, "blocks were lost"
        time.sleep(0.005)


SAMPLING = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 1, 5, 50]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3]),
        "min_p": st.sampled_from([0.0, 0.05]),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "frequency_penalty": st.sampled_from([0.0, 0.4]),
        "logit_bias": st.dictionaries(st.integers(0, 319), st.floats(-5, 5, width=16), max_size=2),
        "min_tokens": st.sampled_from([0, 3, 9]),
        "seed": st.integers(0, 2**63),
    }
)
PROMPT = st.lists(st.integers(0, 263), min_size=1, max_size=50)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=PROMPT, sampling=SAMPLING)
def test_equals_the_naive_way(engine, plain_model, prompt, sampling):
    wanted = request(prompt, max_tokens=8, **sampling)
    assert tokens(engine.stream(wanted)) == naive_generate(plain_model, wanted)


@settings(max_examples=12, deadline=None)
@given(
    prompts=st.lists(PROMPT, min_size=2, max_size=6),
    shared=PROMPT,
    samplings=st.lists(SAMPLING, min_size=6, max_size=6),
    max_step_tokens=st.integers(1, 64),
    max_running=st.integers(1, 6),
    blocks=st.integers(8, 20),
)
def test_a_mix_equals_each_alone(paged_model, prompts, shared, samplings, max_step_tokens, max_running, blocks):
    """Whatever the chunking, the number of companions, and how often memory runs out."""
    wanted = [request(shared + prompt, 10, **s) for prompt, s in zip(prompts, samplings, strict=False)]
    alone_engine = start(paged_model)
    alone = [tokens(alone_engine.stream(r)) for r in wanted]
    alone_engine.close()
    engine = start(paged_model, blocks=blocks, max_step_tokens=max_step_tokens, max_running=max_running)
    try:
        with ThreadPoolExecutor(len(wanted)) as pool:
            assert list(pool.map(lambda r: tokens(engine.stream(r)), wanted)) == alone

        async def together():
            async def one(r):
                return [event.id async for event in engine.astream(r) if isinstance(event, Token)]

            return await asyncio.gather(*map(one, wanted))

        assert asyncio.run(together()) == alone
        wait_until_idle(engine, blocks)
    finally:
        engine.close()


def test_prefix_is_taken_from_the_cache(engine):
    prompt = list(range(100))
    first = list(engine.stream(request(prompt, 20)))
    again = list(engine.stream(request(prompt, 20)))
    assert (first[0].cached_tokens, again[0].cached_tokens) == (0, 96)
    assert tokens(first) == tokens(again)
    follow_up = next(e for e in engine.stream(request([*prompt, *tokens(first), 5, 6], 1)) if isinstance(e, Started))
    assert follow_up.cached_tokens == (100 + len(tokens(first)) - 1) // 16 * 16


def test_events_and_figures(engine):
    events = list(engine.stream(request([1, 2, 3], 5, logit_bias={264: -100, 266: -100})))
    assert isinstance(events[0], Started)
    assert [type(e) for e in events[1:-1]] == [Token] * 5
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].completion_tokens) == ("length", 5)


def test_stop_tokens_end_the_answer_and_are_no_part_of_it(engine):
    events = list(engine.stream(request([1, 2, 3], 5, logit_bias={266: 1000})))
    assert tokens(events) == []
    assert events[-1].reason == "stop"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=PROMPT, sampling=SAMPLING, bias=st.sampled_from([3.0, 30.0]))
def test_an_answer_that_wants_to_end_does_not_before_min_tokens(engine, plain_model, prompt, sampling, bias):
    wanted = request(prompt, max_tokens=8, **{**sampling, "logit_bias": dict.fromkeys(STOP, bias)})
    answer = tokens(engine.stream(wanted))
    assert answer == naive_generate(plain_model, wanted)
    assert len(answer) >= min(8, sampling["min_tokens"])
    assert not STOP & set(answer)


def test_logprobs(engine, plain_model):
    events = list(engine.stream(Request((1, 2, 3), 1, STOP, SamplingParams(temperature=0.5, seed=3), top_logprobs=4)))
    with torch.inference_mode():
        expected = torch.log_softmax(plain_model(torch.tensor([[1, 2, 3]])).logits[0, -1], 0)
    token = next(e for e in events if isinstance(e, Token))
    assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
    best = expected.topk(4)
    assert [i for i, _ in token.top_logprobs] == best.indices.tolist()
    np.testing.assert_allclose([p for _, p in token.top_logprobs], best.values, atol=1e-4)


@pytest.fixture(scope="module")
def vocabulary():
    return LLTokenizer(tiny_tokenizer().to_str(), n_vocab=320, eos_token=sorted(STOP))


class TestConstraints:
    SCHEMA = {  # noqa: RUF012
        "type": "object",
        "properties": {"name": {"enum": ["alpha", "beta"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "n"],
        "additionalProperties": False,
    }

    @pytest.fixture
    def constraint(self, vocabulary):
        return Constraint(vocabulary, LLMatcher.grammar_from_json_schema(self.SCHEMA))

    def follows(self, vocabulary, constraint, ids, *, finished):
        matcher = LLMatcher(vocabulary, constraint.grammar)
        return matcher.consume_tokens(ids) and (not finished or matcher.is_accepting())

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("max_step_tokens", [1, 3, 64])
    def test_answers_follow_and_drafts_change_nothing(
        self, paged_model, vocabulary, constraint, monkeypatch, temperature, max_step_tokens
    ):
        wanted = [
            request([seed, 7], 60, temperature=temperature, seed=seed, constraint=constraint) for seed in range(6)
        ]

        def run():
            engine = start(paged_model, max_step_tokens=max_step_tokens)
            try:
                return [list(engine.stream(r)) for r in wanted]
            finally:
                engine.close()

        drafted = run()
        monkeypatch.setattr(Sequence, "_plan_draft", lambda _self: None)
        plain = run()
        for with_drafts, without in zip(drafted, plain, strict=True):
            assert tokens(with_drafts) == tokens(without)
            finished = with_drafts[-1].reason == "stop"
            assert self.follows(vocabulary, constraint, tokens(with_drafts), finished=finished)
        # A step of one token has no room for a draft.
        assert (sum(events[-1].accepted_tokens for events in drafted) > 0) == (max_step_tokens > 1)
        assert all(events[-1].drafted_tokens == 0 for events in plain)

    @pytest.mark.parametrize("max_tokens", range(1, 12))
    def test_length_is_kept_to_the_token(self, engine, constraint, max_tokens):
        events = list(engine.stream(request([1], max_tokens, constraint=constraint)))
        assert len(tokens(events)) <= max_tokens
        assert events[-1].reason == "length"

    def test_errors_of_the_grammar_reach_the_caller(self, engine, vocabulary):
        broken = Constraint(vocabulary, "start: nowhere")
        with pytest.raises(InvalidSchemaError):
            broken.check()
        with pytest.raises(EngineError):
            next(engine.stream(request([1], constraint=broken)))


class TestCancelling:
    def test_closing_the_generator(self, engine):
        stream = engine.stream(request([1, 2, 3], 400, logit_bias={264: -100, 266: -100}))
        for _ in range(5):
            next(stream)
        stream.close()
        wait_until_idle(engine)

    def test_dropping_the_generator(self, engine):
        stream = engine.stream(request([1, 2, 3], 400, logit_bias={264: -100, 266: -100}))
        next(stream)
        del stream
        gc.collect()
        wait_until_idle(engine)

    def test_a_generator_that_never_starts_costs_nothing(self, engine):
        engine.stream(request([1, 2, 3], 400))
        assert engine._worker.scheduler.pool.free == 64

    async def test_cancelling_the_task(self, engine):
        seen = asyncio.Event()

        async def read():
            async for event in engine.astream(request([1, 2], 400, logit_bias={264: -100, 266: -100})):
                if isinstance(event, Token):
                    seen.set()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until_idle, engine)

    def test_a_loop_that_is_closed_in_the_middle(self, engine):
        loop = asyncio.new_event_loop()
        stream = engine.astream(request([1, 2], 400, logit_bias={264: -100, 266: -100}))
        loop.run_until_complete(anext(stream))
        loop.close()
        wait_until_idle(engine)
        assert tokens(engine.stream(request([1, 2], 3, logit_bias={264: -100, 266: -100})))
        stream.aclose().close()  # nobody can run it any more


class TestErrors:
    @pytest.mark.parametrize(
        ("raised", "seen"), [(RuntimeError("boom"), EngineError), (MemoryError(), OutOfMemoryError)]
    )
    def test_a_failing_step_ends_its_requests_and_not_the_engine(self, engine, monkeypatch, raised, seen):
        expected = tokens(engine.stream(request([9, 9, 9])))
        with monkeypatch.context() as patch:
            patch.setattr(TransformersRunner, "step", lambda *_: (_ for _ in ()).throw(raised))
            with pytest.raises(seen):
                list(engine.stream(request([1, 2, 3])))
        wait_until_idle(engine)
        assert tokens(engine.stream(request([9, 9, 9]))) == expected

    def test_a_request_that_fails_does_not_take_its_companions_along(self, engine):
        """An id beyond the vocabulary raises while its token is chosen, within a step that others share."""
        endless = {264: -100, 266: -100}
        expected = tokens(engine.stream(request([5, 6], 300, logit_bias=endless)))
        companion = engine.stream(request([5, 6], 300, logit_bias=endless))
        events = [next(companion)]
        with pytest.raises(EngineError, match="index"):
            list(engine.stream(request([1, 2, 3], logit_bias={10**6: 1.0})))
        events += companion
        assert tokens(events) == expected
        wait_until_idle(engine)

    def test_close_ends_running_requests(self, paged_model):
        engine = start(paged_model)
        stream = engine.stream(request([1, 2], 400, logit_bias={264: -100, 266: -100}))
        next(stream)
        closer = threading.Thread(target=engine.close)
        closer.start()
        with pytest.raises(EngineClosedError):
            list(stream)
        closer.join()
        engine.close()
        with pytest.raises(EngineClosedError):
            next(engine.stream(request([1])))

    def test_what_cannot_fit_is_refused(self, engine):
        with pytest.raises(ContextOverflowError) as caught:
            next(engine.stream(request([1] * 500, 13)))
        error = caught.value
        assert (error.prompt_tokens, error.reserved_tokens, error.context_window) == (500, 13, 512)

    def test_deadlines(self, paged_model):
        engine = start(paged_model, max_running=1)
        endless = {"logit_bias": {264: -100, 266: -100}}
        try:
            running = Request((1,), 500, STOP, SamplingParams(**endless), deadline=time.monotonic() + 0.2)
            waiting = Request((2,), 500, STOP, SamplingParams(**endless), deadline=time.monotonic() + 0.1)
            with ThreadPoolExecutor(2) as pool:
                results = [pool.submit(lambda r=r: list(engine.stream(r))) for r in (running, waiting)]
            for result in results:
                with pytest.raises(GenerationTimeoutError):
                    result.result()
            wait_until_idle(engine)
        finally:
            engine.close()


def test_soak(paged_model):
    """Many short requests from threads and from asyncio, every fifth stopped half-way: nothing is lost or kept."""
    engine = start(paged_model, blocks=64)
    endless = {"logit_bias": {264: -100, 266: -100}}

    def living() -> list[Sequence]:
        return [thing for thing in gc.get_objects() if type(thing) is Sequence]

    earlier = living()  # held by the errors of other tests, and by this list

    def one(number: int) -> int:
        stream = engine.stream(request([number % 50] * (1 + number % 40), 6, temperature=1.0, seed=number, **endless))
        count = 0
        for event in stream:
            count += isinstance(event, Token)
            if number % 5 == 0 and count == 3:
                stream.close()
                break
        return count

    async def aone(number: int) -> int:
        count = 0
        stream = engine.astream(request([number % 50] * (1 + number % 40), 6, temperature=1.0, seed=number, **endless))
        async for event in stream:
            count += isinstance(event, Token)
            if number % 5 == 0 and count == 3:
                await stream.aclose()
                break
        return count

    async def from_asyncio() -> list[int]:
        return await asyncio.gather(*map(aone, range(SOAK)))

    def round_of_requests() -> int:
        """Blocks of memory that Python holds afterwards."""
        with ThreadPoolExecutor(16) as pool:
            counts = list(pool.map(one, range(SOAK))) + asyncio.run(from_asyncio())
        assert counts == [3 if number % 5 == 0 else 6 for number in range(SOAK)] * 2
        wait_until_idle(engine)
        gc.collect()
        return sys.getallocatedblocks()

    try:
        threads = threading.active_count()
        round_of_requests()  # fills what is kept on purpose: the pool's hashes, the interpreter's own caches
        before, after = round_of_requests(), round_of_requests()
        assert after - before < 10 * 2 * SOAK  # a request that is kept takes more blocks than ten
        assert threading.active_count() <= threads
        assert tokens(engine.stream(request([1], 3, **endless)))
        wait_until_idle(engine)
        gc.collect()
        assert (
            len(living()) <= len(earlier) + 1
        )  # the engine's thread remembers what arrived last, until something else does
    finally:
        engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="needs a GPU")
def test_a_gpu_gives_the_same_tokens(tiny_checkpoint, engine):
    device = "cuda" if torch.cuda.is_available() else "mps"
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32, attn_implementation=ATTENTION)
    on_gpu = start(model.to(device))
    try:
        wanted = request(range(40), 16)
        assert tokens(on_gpu.stream(wanted)) == tokens(engine.stream(wanted))
    finally:
        on_gpu.close()
