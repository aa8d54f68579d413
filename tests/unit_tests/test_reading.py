"""What callers hear and see while a long prompt is read, and how Ctrl-C ends what runs side by side."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from rich.console import Console

from langchain_qwen import ChatQwen, bars, reading
from langchain_qwen.safety import SafetyParser

LONG = "the others and the inner one " * 60


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.events, self.tokens = [], 0

    def on_custom_event(self, name, data, **_):
        if name == reading.EVENT:
            self.events.append(data)

    def on_llm_new_token(self, *_, **__):
        self.tokens += 1


class HeardAsync(AsyncCallbackHandler):
    def __init__(self):
        self.events = []

    async def on_custom_event(self, name, data, **_):
        self.events.append(data)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), precision="fp32", temperature=0, max_tokens=4) as model:
        yield model


def check(events, total):
    assert events
    counts = [event["tokens_read"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] < total
    assert {event["tokens_total"] for event in events} == {total}
    assert all(event["seconds_left"] > 0 for event in events)


def test_handlers_hear_how_far_the_reading_is(model):
    for ask, text in ((model.invoke, "a"), (lambda *a: list(model.stream(*a)), "b")):
        heard = Heard()
        ask(text + LONG, {"callbacks": [heard]})
        check(heard.events, model.get_num_tokens_from_messages([HumanMessage(text + LONG)]))
    short = Heard()
    model.invoke("short", {"callbacks": [short]})
    assert not short.events


async def test_async_handlers_too(model):
    async def stream(*arguments):
        return [chunk async for chunk in model.astream(*arguments)]

    chain = ChatPromptTemplate.from_template("{text}") | model
    for text, ask in (("c", model.ainvoke), ("i", stream), ("j", lambda t, c: chain.ainvoke({"text": t}, c))):
        heard = HeardAsync()
        await ask(text + LONG, {"callbacks": [heard]})
        check(heard.events, model.get_num_tokens_from_messages([HumanMessage(text + LONG)]))


def test_a_stream_in_a_chain(model):
    heard = Heard()
    list((ChatPromptTemplate.from_template("{text}") | model).stream({"text": "k" + LONG}, {"callbacks": [heard]}))
    assert heard.events


async def test_an_invoke_that_streams_within(model):
    """Where `streaming` is set, and where a graph shows the tokens of its nodes, LangChain streams under `invoke`."""
    streaming = ChatQwen(model=model.model, precision="fp32", temperature=0, max_tokens=4, streaming=True)
    for number, one in enumerate((streaming, SafetyParser("balanced").guard(streaming))):
        for ask in (one.invoke, one.ainvoke):
            heard = Heard()
            answer = ask(f"{number} {ask.__name__} {LONG}", {"callbacks": [heard]})
            await answer if ask.__name__ == "ainvoke" else answer
            assert heard.tokens
            assert heard.events, (number, ask)
    node = RunnableLambda(lambda text: model.invoke(text))
    events = [event async for event in node.astream_events(f"m {LONG}")]
    assert any(event["event"] == "on_custom_event" and event["name"] == reading.EVENT for event in events)
    assert any(event["event"] == "on_chat_model_stream" for event in events)


async def test_a_guard_tells_of_the_reading_and_not_of_raw_tokens(model):
    guarded = SafetyParser("balanced").guard(model)
    for text, ask in (("d", guarded.invoke), ("e", lambda *a: list(guarded.stream(*a)))):
        heard = Heard()
        ask(text + LONG, {"callbacks": [heard]})
        assert heard.events
    heard = Heard()
    guarded.invoke("f", {"callbacks": [heard]})
    assert heard.tokens == 0  # `invoke` does not stream


@pytest.fixture
def terminal(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, stderr=True, width=100)
    monkeypatch.setattr(bars.rich, "get_console", lambda: SimpleNamespace(stderr=False))
    monkeypatch.setattr(bars, "Console", lambda stderr: console)
    monkeypatch.setattr(reading, "SHOWN_ABOVE_S", 0.0)
    return console.file


def test_a_bar_in_a_terminal(model, terminal):
    model.invoke("g" + LONG)
    shown = terminal.getvalue()
    assert "Reading the prompt" in shown
    assert f"of {model.get_num_tokens_from_messages([HumanMessage('g' + LONG)]):,} tokens" in shown
    assert shown.endswith("\x1b[2K")  # it is gone


def test_no_bar_where_nobody_looks(model, monkeypatch, capfd):
    monkeypatch.setattr(reading, "SHOWN_ABOVE_S", 0.0)
    model.invoke("h" + LONG)
    assert capfd.readouterr() == ("", "")


def test_a_bar_in_a_notebook(monkeypatch):
    shown = []

    def display(data, *, raw, display_id):
        shown.append(data["text/html"])
        return SimpleNamespace(update=lambda data, raw: shown.append(data["text/html"]))

    functions = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.core", SimpleNamespace(display_functions=functions))
    monkeypatch.setitem(sys.modules, "IPython.core.display_functions", functions)
    with bars.Bar("Reading <it>", 2000, done=500, unit="tokens") as bar:
        bar.update(1000)
    assert 'Reading &lt;it&gt; <progress value="500" max="2000">' in shown[0]
    assert "1,000 of 2,000 tokens" in shown[1]
    assert "s left" in shown[1]
    assert shown[-1] == ""


@pytest.mark.parametrize("many", ["batch", "generate", "n"])
def test_ctrl_c_ends_all_that_runs_side_by_side(tiny_checkpoint, many):
    with ChatQwen(model=str(tiny_checkpoint), precision="fp32", ignore_eos=True, max_tokens=1900) as endless:
        endless.load()
        ask = {
            "batch": lambda: endless.batch(["a", "b", "c"]),
            "generate": lambda: endless.generate([[HumanMessage("a")], [HumanMessage("b")]]),
            "n": lambda: endless.generate([[HumanMessage("a")]], n=3),
        }[many]

        def interrupt() -> None:
            time.sleep(0.5)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask()
        thread.join()
        stopped = time.monotonic() - started
        started = time.monotonic()
        endless.invoke("a", max_tokens=200)
        assert stopped < 0.5 + 5 * (time.monotonic() - started)  # 200 of 1,900 tokens, and the half second
