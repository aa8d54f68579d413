"""Stores keep everything; only what is sent is trimmed."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import warnings

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.history import HistoryTrimmer, OneWriterPerThread
from langchain_qwen.middleware import CompactHistoryMiddleware, HistoryMiddleware

THREAD = {"configurable": {"thread_id": "1"}}


class Scripted(GenericFakeChatModel):
    """Answers in turn, and keeps what it was asked."""

    asked: list = []  # noqa: RUF012  pydantic copies it

    def _generate(self, messages, *args, **kwargs):
        self.asked.append(messages)
        return super()._generate(messages, *args, **kwargs)


class Events(BaseCallbackHandler):
    """Keeps the reports of trims."""

    def __init__(self):
        self.told = []

    def on_custom_event(self, name, data, **_):
        assert name == "history_trimmed"
        self.told.append(data)


def talker() -> Scripted:
    return Scripted(messages=(AIMessage(f"{i} " + "a " * 20) for i in range(999)))


def question(i: int) -> dict:
    return {"messages": [HumanMessage(f"{i} " + "q " * 20)]}


@pytest.fixture
def trim(model: ChatQwen) -> HistoryTrimmer:
    return HistoryTrimmer(model, window=1100, reserve=100)


async def test_an_agent_sends_what_fits_and_keeps_all(model: ChatQwen, trim):
    writer, middleware = talker(), HistoryMiddleware(trim)
    agent = create_agent(writer, middleware=[middleware], system_prompt="Be kind.", checkpointer=InMemorySaver())
    events = Events()
    config = {**THREAD, "callbacks": [events]}
    for i in range(30):
        state = agent.invoke(question(i), config) if i % 2 else await agent.ainvoke(question(i), config)
    assert len(state["messages"]) == 60
    assert len(events.told) == (30 if sys.version_info >= (3, 11) else 15)  # the others have no config: see `_traced`
    assert events.told[-1] == middleware.last_report.as_dict()
    assert all(model.get_num_tokens_from_messages(asked) <= 1000 for asked in writer.asked)
    assert middleware.last_report.tokens_after == model.get_num_tokens_from_messages(writer.asked[-1])
    assert {asked[0].text for asked in writer.asked} == {"Be kind."}


async def test_an_agent_that_compacts_its_state(model: ChatQwen, trim):
    writer = talker()
    middleware = CompactHistoryMiddleware(trim, system_prompt="Be kind.")
    agent = create_agent(writer, middleware=[middleware], system_prompt="Be kind.", checkpointer=InMemorySaver())
    for i in range(30):
        state = agent.invoke(question(i), THREAD) if i % 2 else await agent.ainvoke(question(i), THREAD)
    assert len(state["messages"]) < 30
    assert state["messages"][-2].text.startswith("29 ")
    assert all(model.get_num_tokens_from_messages(asked) <= 1000 for asked in writer.asked)
    log = {m.text for snapshot in agent.get_state_history(THREAD) for m in snapshot.values["messages"]}
    assert len(log) == 60, "the checkpoints still hold all"


def test_a_chat_goes_on_after_a_restart(trim, tmp_path):
    def run(first: int, last: int) -> tuple[list, Scripted]:
        writer = talker()
        with SqliteSaver.from_conn_string(str(tmp_path / "chat.sqlite")) as saver:
            agent = create_agent(writer, middleware=[HistoryMiddleware(trim)], checkpointer=saver)
            for i in range(first, last):
                state = agent.invoke(question(i), THREAD)
        return state["messages"], writer

    run(0, 20)
    messages, writer = run(20, 25)
    assert len(messages) == 50
    assert any(m.text.startswith("19 q") for m in writer.asked[0])


def test_two_writers_lose_nothing(tmp_path):
    connection = sqlite3.connect(tmp_path / "chat.sqlite", check_same_thread=False)
    agent = create_agent(talker(), checkpointer=SqliteSaver(connection))
    # Two objects, as two processes would have.
    writers = [OneWriterPerThread(agent, folder=tmp_path / "locks") for _ in range(2)]

    def write(number: int) -> None:
        for i in range(5):
            writers[number].invoke(question(100 * number + i), THREAD)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = agent.get_state(THREAD).values["messages"]
    asked = {int(m.text.split()[0]) for m in messages if isinstance(m, HumanMessage)}
    assert asked == {*range(5), *range(100, 105)}
    assert len(messages) == 20
    connection.close()


async def test_tasks_take_turns_too():
    agent = create_agent(talker(), checkpointer=InMemorySaver())
    one_writer = OneWriterPerThread(agent)

    async def stream(i: int) -> None:
        assert [item async for item in one_writer.astream(question(i), THREAD)]

    await asyncio.gather(*(one_writer.ainvoke(question(i), THREAD) for i in range(5)), *map(stream, range(5, 8)))
    assert list(one_writer.stream(question(8), THREAD))
    assert len(agent.get_state(THREAD).values["messages"]) == 18
    with pytest.raises(InvalidParameterError, match="thread_id"):
        one_writer.invoke(question(0))


async def test_a_stream_that_is_closed_ends_before_the_next_run_begins():
    order = []

    class Graph(RunnableLambda):
        async def astream(self, input, config=None, **kwargs):  # noqa: A002
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0.05)  # as a graph that writes its last checkpoint
                order.append("closed")

    one_writer = OneWriterPerThread(Graph(lambda _: order.append("next")))
    stream = one_writer.astream(1, THREAD)
    await anext(stream)
    await stream.aclose()
    await one_writer.ainvoke(2, THREAD)
    assert order == ["closed", "next"]


def test_a_sql_history_keeps_all(model: ChatQwen, trim, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package says that it is not maintained any more
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        store = SQLChatMessageHistory("1", connection=f"sqlite:///{tmp_path}/chat.sqlite")
        for i in range(30):
            store.add_messages([*question(i)["messages"], AIMessage("a " * 20)])
        again = SQLChatMessageHistory("1", connection=f"sqlite:///{tmp_path}/chat.sqlite")
    shown, report = trim.with_report(again)
    assert len(again.messages) == 60
    assert len(shown) < 30
    assert report.tokens_after == model.get_num_tokens_from_messages(shown) <= 1000


@pytest.mark.filterwarnings("ignore")  # RunnableWithMessageHistory is deprecated
def test_runnable_with_message_history(trim):
    writer, store = talker(), InMemoryChatMessageHistory()
    chat = RunnableWithMessageHistory(trim | writer, lambda session_id: store)
    for i in range(30):
        chat.invoke(question(i)["messages"], {"configurable": {"session_id": "1"}})
    assert len(store.messages) == 60
    assert max(map(len, writer.asked)) < 30
