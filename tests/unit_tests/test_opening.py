"""A model object finds and checks its files once; it notices when other ones are asked for or they are saved anew."""

from __future__ import annotations

import copy
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField

from langchain_qwen import ChatQwen, errors, opening
from langchain_qwen.engine import constraint
from langchain_qwen.generating import arguments, passes
from langchain_qwen.prompting import conversation, prompter
from tests.tiny import make_tiny_checkpoint

MESSAGES = [HumanMessage("x")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two checkpoints that can be told by their windows, 512 and 1024."""
    parent = tmp_path_factory.mktemp("two")
    return [str(make_tiny_checkpoint(parent / str(window), window=window)) for window in (512, 1024)]


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been resolved, in order."""
    asked, resolve = [], opening.resolve

    def spy(model, **options):
        asked.append(model)
        return resolve(model, **options)

    monkeypatch.setattr(opening, "resolve", spy)
    return asked


def make(folder: str, **fields) -> ChatQwen:
    return ChatQwen(model=folder, temperature=0, max_tokens=4, **fields)


def prepared(model: ChatQwen, **kwargs):
    return passes.prepare(arguments.read(model, None, kwargs), MESSAGES, model._open_anew)


def test_counts_and_answers_open_the_files_once(folders, resolved):
    with make(folders[0]) as model:
        for _ in range(3):
            model.get_num_tokens("hello")
            model.get_num_tokens_from_messages(MESSAGES)
            model.invoke("hello")
            assert model.context_window == 512
        model.warm([])
        assert resolved == folders[:1]


def test_a_count_costs_next_to_nothing_beside_the_tokenizer(folders):
    model = make(folders[0])
    encode = model._open().tokenizer.encode

    def cpu_seconds(count):
        started = time.process_time()
        for _ in range(1000):
            count("hello")
        return (time.process_time() - started) / 1000

    assert cpu_seconds(model.get_num_tokens) - cpu_seconds(encode) < 1e-4


def test_another_model_is_another_checkpoint_however_it_is_asked_for(folders, resolved):
    one, two = folders
    model = make(one)
    assert model.context_window == 512
    copied = model.model_copy(update={"model": two})
    assert (copied.context_window, model.context_window) == (1024, 512)
    configurable = model.configurable_fields(model=ConfigurableField(id="model"))
    other = configurable.with_config(configurable={"model": two}).invoke("x")
    assert other.response_metadata["model_name"] == two
    assert model.invoke("x", model=two).response_metadata["model_name"] == two
    assert model.bind(model=two).invoke("x").response_metadata["model_name"] == two
    assert model.invoke("x").response_metadata["model_name"] == one
    model.model = two
    assert model.context_window == 1024
    assert model.invoke("x").response_metadata["model_name"] == two
    assert resolved.count(one) == 1
    model.close()


def test_a_revision_or_place_that_is_reassigned_is_looked_for(folders):
    model = make(folders[0])
    assert model.context_window == 512
    model.revision = "main"
    with pytest.raises(errors.InvalidParameterError, match="goes with a hub id"):
        model.get_num_tokens("x")
    model.revision = None
    model.model, model.local_files_only, model.cache_dir = "coder-0.5b", True, folders[0]  # where no alias is kept
    with pytest.raises(errors.ModelNotFoundError):
        model.get_num_tokens("x")


@pytest.mark.parametrize("duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy])
def test_pickles_and_copies_of_a_used_model_work(folders, duplicate):
    model = make(folders[0])
    expected = model.invoke("hello").content
    again = duplicate(model)
    assert again.get_num_tokens("hello") == model.get_num_tokens("hello")
    assert again.invoke("hello").content == expected
    model.close()
    again.close()


def test_a_folder_that_is_saved_anew_is_read_again_when_an_answer_begins(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "m", seed=1)
    with make(str(folder)) as model:
        before = model.invoke("hello").content
        make_tiny_checkpoint(folder, seed=2, window=256)
        assert model.context_window == 2048  # counts go by what was read last
        after = model.invoke("hello").content
        assert model.context_window == 256
    with make(str(folder)) as fresh:
        assert fresh.invoke("hello").content == after
    assert before != after


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_each_file_that_decides_an_answer_is_watched(tmp_path, resolved, name):
    folder = make_tiny_checkpoint(tmp_path / "m")
    model = make(str(folder))
    prepared(model)
    os.utime(folder / name)
    prepared(model)
    prepared(model)
    assert len(resolved) == 2


def test_a_file_that_appears_is_noticed(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "m")
    model = make(str(folder))
    prepared(model)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    assert len(prepared(model).request.prompt_ids) == model.get_num_tokens("x")


def test_a_folder_that_is_gone_is_an_error_at_the_next_answer(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "m")
    model = make(str(folder))
    model.get_num_tokens("x")
    folder.rename(tmp_path / "elsewhere")
    assert model.get_num_tokens("x") == 1
    with pytest.raises(errors.ModelNotFoundError):
        model.invoke("x")


def test_a_relative_folder_stays_the_same_one_in_another_working_directory(tmp_path, monkeypatch):
    folder = make_tiny_checkpoint(tmp_path / "m")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with make("m") as model:
        model.get_num_tokens("x")
        monkeypatch.chdir(tmp_path / "other")
        assert model.invoke("x").response_metadata["model_name"] == "m"
        assert model.load() is None
    assert Path(folder).exists()


def test_many_models_in_one_object_are_not_all_held(folders):
    opener = opening.Opener()
    for number in range(3 * opening.MOST_HELD):
        opener.open(opening.Source(folders[0], None, str(number), local_files_only=True), fresh=False)
        assert len(opener._held) <= opening.MOST_HELD


def test_messages_are_read_once_for_an_answer(folders, monkeypatch):
    read = []
    for module in (conversation, prompter):
        monkeypatch.setattr(module, "to_roles", lambda m, f=module.to_roles: read.append(m) or f(m))
    prepared(make(folders[0]))
    assert len(read) == 1


def test_a_grammar_is_compiled_once(folders):
    compiled = constraint._compiled
    form = {"type": "grammar", "grammar": 'start: "yes" | "certainly not"'}
    with make(folders[0]) as model:
        before = compiled.cache_info().misses
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: prepared(model, response_format=form), range(4)))
        answers = {model.invoke("x", response_format=form, max_tokens=40).content for _ in range(3)}
        assert compiled.cache_info().misses - before <= 4  # 1, but threads may race for the first
        again = compiled.cache_info().misses
        model.invoke("y", response_format=form)
        assert compiled.cache_info().misses == again
    assert answers <= {"yes", "certainly not"}


def test_matchers_of_one_grammar_do_not_disturb_each_other(folders):
    tokenizer = make(folders[0])._open().tokenizer
    grammar = constraint.Constraint(tokenizer.llguidance, "start: /[ab]{3}c/")
    one, two = grammar.matcher(), grammar.matcher()
    for token in tokenizer.encode("ab"):
        one.accept(token)
    c = tokenizer.encode("c")[0]
    one.accept(tokenizer.encode("b")[0])
    assert one.allowed()[c]
    assert not two.allowed()[c]
    assert not grammar.matcher().allowed()[c]


def test_preparing_an_answer_takes_little(folders):
    model = make(folders[0])
    prepared(model)
    started = time.process_time()
    for _ in range(1000):
        prepared(model)
    assert (time.process_time() - started) / 1000 < 1.5e-3
