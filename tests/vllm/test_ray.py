"""What is particular to Ray Serve: two replicas share the work, and one that dies is a typed error and no more."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.errors import AnswerLostError, ModelNotFoundError
from tests.vllm.conftest import MODEL, RAY, SERVED
from tests.vllm.ray_cluster import REPLICAS

pytestmark = pytest.mark.skipif(not RAY, reason="of Ray Serve; `make test-ray` runs these")


def engines():
    """The processes of this test's Ray in which vLLM computes, one for each replica."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.status() != "zombie" and "VLLM::Worker" in _title(process)]


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def work(processes):
    """Seconds of the processor that each has used."""
    return [sum(process.cpu_times()[:2]) for process in processes]


def test_both_replicas_work(model):
    processes = engines()
    assert len(processes) == REPLICAS
    before = work(processes)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: model.invoke(f"Write about the number {n}.", max_tokens=40), range(16)))
    assert all(answer.text for answer in answers)
    spent = [after - earlier for after, earlier in zip(work(processes), before, strict=True)]
    assert min(spent) > 0.1 * max(spent), spent


def test_a_stream_that_is_closed_ends_at_the_replica(model):
    left = [model.stream(f"Write a story about {n}.", max_tokens=2000, ignore_eos=True) for n in range(4)]
    for chunks in left:
        next(chunks)
    for chunks in left:
        chunks.close()
    time.sleep(2)
    before = work(processes := engines())
    time.sleep(3)
    spent = [after - earlier for after, earlier in zip(work(processes), before, strict=True)]
    assert max(spent) < 1, spent  # a core that generates has used three seconds


def test_a_model_that_is_not_there(base_url):
    with pytest.raises(ModelNotFoundError, match=SERVED):
        ChatQwen(base_url=base_url, model="absent", tokenizer=MODEL).invoke("Hello")


def test_a_replica_that_dies_in_mid_answer(model):
    """Last: Ray starts another one in its place, which takes a minute."""
    chunks = [model.stream(f"Write a story about {n}.", max_tokens=100, ignore_eos=True) for n in range(4)]
    for stream in chunks:
        next(stream)
    used = work(processes := engines())
    time.sleep(2)
    spent = [after - earlier for after, earlier in zip(work(processes), used, strict=True)]
    processes[spent.index(max(spent))].kill()

    def rest(stream):
        try:
            return sum(1 for _ in stream)
        except AnswerLostError as lost:
            return lost

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(rest, chunks))
    lost = [end for end in ends if isinstance(end, AnswerLostError)]
    assert len(lost) > 0
    assert all(end.token_ids for end in lost)
    assert model.invoke("Say hi.", max_tokens=4).text  # by the other one, or after retries
