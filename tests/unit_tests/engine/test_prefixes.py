"""Beginnings of prompts on the disk: another engine answers from them as if it had computed them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from langchain_qwen.engine import Request, Started, Token, prefixes
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.prefixes import _read as read_prefix
from langchain_qwen.engine.prefixes import warm
from langchain_qwen.engine.runners.torch.runner import ATTENTION, TransformersRunner
from langchain_qwen.errors import EngineClosedError

TOKENS = [(7 * n) % 250 for n in range(50)]  # three whole blocks and two tokens


def start(checkpoint, *, blocks=32):
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation=ATTENTION)
    return LocalEngine(TransformersRunner(model, "fp32"), model="tiny", context_window=512, num_blocks=blocks)


def answer(engine):
    events = list(engine.stream(Request((*TOKENS, 9, 8), max_tokens=12, stop_ids=frozenset())))
    return events[0].cached_tokens, [event.id for event in events if isinstance(event, Token)]


def replace(file, content):
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o600)


def test_a_second_process_reads_them(tiny_checkpoint, tmp_path):
    first = start(tiny_checkpoint)
    _, expected = answer(first)
    assert warm(first, TOKENS, tmp_path, "weights") == 48
    first.close()
    second = start(tiny_checkpoint)
    steps = []
    step = second._runner.step
    second._runner.step = lambda chunks: (steps.append(chunks), step(chunks))[1]
    assert warm(second, TOKENS, tmp_path, "weights") == 48
    assert not steps  # nothing was computed
    assert answer(second) == (48, expected)
    second.close()


def test_partly_there_already(tiny_checkpoint, tmp_path):
    with_all, with_some = start(tiny_checkpoint), start(tiny_checkpoint)
    _, expected = answer(with_all)
    warm(with_all, TOKENS, tmp_path, "weights")
    list(with_some.stream(Request(tuple(TOKENS[:20]), max_tokens=1, stop_ids=frozenset())))
    assert warm(with_some, TOKENS, tmp_path, "weights") == 48
    assert answer(with_some) == (48, expected)
    assert with_some.between_steps(lambda pool, _: pool.free) == 32
    with_all.close()
    with_some.close()


def test_files_are_of_their_weights_and_tokens(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    warm(engine, TOKENS[:-1], tmp_path, "weights")  # the same whole blocks
    assert len(list(tmp_path.iterdir())) == 1
    warm(engine, TOKENS, tmp_path, "others")
    warm(engine, TOKENS[1:], tmp_path, "weights")
    assert len(list(tmp_path.iterdir())) == 3
    assert warm(engine, TOKENS[:15], tmp_path, "weights") == 0
    engine.close()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_written_again(tiny_checkpoint, tmp_path, damage):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:-9] if damage is None else damage)
    fresh = start(tiny_checkpoint)
    assert warm(fresh, TOKENS, tmp_path, "weights") == 48
    assert file.read_bytes() == whole
    assert answer(fresh)[0] == 48
    engine.close()
    fresh.close()


def test_no_flipped_bit_changes_an_answer(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    expected = read_prefix(file)

    @settings(max_examples=300)
    @given(position=st.integers(0, len(whole) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(whole)))
    def damage(position, bit, cut):
        content = bytearray(whole)
        content[position] ^= 1 << bit
        for damaged in (bytes(content), whole[:cut], whole[cut:]):
            if damaged != whole:
                replace(file, damaged)
                found = read_prefix(file)
                assert found is None or (found.shape == expected.shape and (found == expected).all())

    damage()
    swapped = bytearray(whole)  # a plain sum does not see it
    swapped[-2000:-1992], swapped[-1000:-992] = whole[-1000:-992], whole[-2000:-1992]
    assert swapped != whole
    replace(file, swapped)
    assert read_prefix(file) is None
    engine.close()


def test_a_file_under_the_name_of_another_is_not_used(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    (file,) = tmp_path.iterdir()
    warm(engine, TOKENS[16:] + TOKENS[:16], tmp_path, "weights")
    (other,) = set(tmp_path.iterdir()) - {file}
    replace(file, other.read_bytes())
    assert read_prefix(file) is None
    engine.close()


@pytest.mark.parametrize("axes", [(1, 2, 3, -1), (2, 1, 3, -1), (2, 2, 3, 1), (2, 2, 1, -1), (2, 2, 4, -1), (2, 2, -1)])
def test_shapes_that_would_broadcast_are_refused_and_no_block_is_lost(tiny_checkpoint, tmp_path, axes):
    engine = start(tiny_checkpoint)
    _, expected = answer(engine)
    kept = engine.between_steps(lambda pool, runner: prefixes._contents(pool, runner, TOKENS[:48]))
    assert kept.shape[:3] == (2, 2, 3)
    fresh = start(tiny_checkpoint)
    size = kept.shape[3] if axes[-1] == -1 else axes[-1]
    wrong = np.ones((*axes[:-1], size), np.uint8)
    assert not fresh.between_steps(lambda pool, runner: prefixes._restore(pool, runner, TOKENS[:48], wrong))
    assert fresh.between_steps(lambda pool, _: pool.free) == 32
    assert answer(fresh) == (0, expected)
    engine.close()
    fresh.close()


def test_a_load_that_fails_loses_no_blocks(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    fresh = start(tiny_checkpoint)
    list(fresh.stream(Request(tuple(TOKENS[:20]), max_tokens=1, stop_ids=frozenset())))
    write = fresh._runner.write

    def fail(*_):
        raise RuntimeError("no memory on the device")

    fresh._runner.write = fail
    with pytest.raises(RuntimeError, match="no memory"):
        warm(fresh, TOKENS, tmp_path, "weights")
    assert fresh.between_steps(lambda pool, _: pool.free) == 32
    fresh._runner.write = write
    assert warm(fresh, TOKENS, tmp_path, "weights") == 48
    assert fresh.between_steps(lambda pool, _: pool.free) == 32
    engine.close()
    fresh.close()


def test_they_are_private(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path / "cache" / "prefixes", "weights")
    (file,) = (tmp_path / "cache" / "prefixes").iterdir()
    assert [place.stat().st_mode & 0o777 for place in (file, file.parent, file.parent.parent)] == [0o400, 0o700, 0o700]
    engine.close()


def test_a_folder_that_others_can_write_to_is_neither_read_nor_written(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    folder = tmp_path / "prefixes"
    warm(engine, TOKENS, folder, "weights")
    (file,) = folder.iterdir()
    before = file.stat()
    folder.chmod(0o777)
    fresh = start(tiny_checkpoint)
    with pytest.warns(UserWarning, match="chmod go-w"):
        assert warm(fresh, TOKENS, folder, "weights") == 48
    assert file.stat() == before
    assert answer(fresh)[0] == 48
    engine.close()
    fresh.close()


def test_a_pipe_in_place_of_a_file_does_not_hang(tiny_checkpoint, tmp_path):
    engine = start(tiny_checkpoint)
    warm(engine, TOKENS, tmp_path, "weights")
    (file,) = tmp_path.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert warm(engine, TOKENS, tmp_path, "weights") == 48
    assert file.is_file()
    engine.close()


def test_the_oldest_files_make_room(tiny_checkpoint, tmp_path, monkeypatch):
    engine = start(tiny_checkpoint)
    for name in ("a", "b"):
        warm(engine, TOKENS, tmp_path, name)
    old, used = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.utime(old, (1, 1))
    os.utime(used, (2, 2))
    monkeypatch.setattr(prefixes, "KEPT_BYTES", 2 * old.stat().st_size)
    fresh = start(tiny_checkpoint)
    warm(fresh, TOKENS, tmp_path, "a")  # read, so no longer the oldest
    warm(engine, TOKENS, tmp_path, "c")
    assert old.exists()
    assert not used.exists()
    engine.close()
    fresh.close()


def test_a_full_disk_costs_only_the_file(tiny_checkpoint, tmp_path, monkeypatch):
    engine = start(tiny_checkpoint)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prefixes, "write_bytes", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert warm(engine, TOKENS, tmp_path, "weights") == 48
    assert list(tmp_path.iterdir()) == []
    assert answer(engine)[0] == 48
    engine.close()


def test_too_little_memory(tiny_checkpoint, tmp_path):
    big, small = start(tiny_checkpoint), start(tiny_checkpoint, blocks=4)
    warm(big, TOKENS, tmp_path, "weights")
    assert warm(small, TOKENS, tmp_path, "weights") == 48
    assert small.between_steps(lambda pool, _: pool.free) == 4
    big.close()
    small.close()
    with pytest.raises(EngineClosedError):
        warm(small, TOKENS, tmp_path, "weights")


def test_errors_reach_the_caller(tiny_checkpoint):
    engine = start(tiny_checkpoint)
    with pytest.raises(ZeroDivisionError):
        engine.between_steps(lambda *_: 1 / 0)
    events = list(engine.stream(Request((1, 2), max_tokens=1, stop_ids=frozenset())))
    assert isinstance(events[0], Started)  # it goes on
    engine.close()
