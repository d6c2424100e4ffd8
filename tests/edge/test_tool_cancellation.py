"""A run whose reader goes away while tools run: by a cancelled task, by Ctrl-C."""

from __future__ import annotations

import signal
import threading

import anyio
import anyio.lowlevel
import pytest

import homing
from homing import Tool
from homing.stores import SQLiteStore
from homing.testing import Answer, ToolCall
from homing_server.local import Edge


def both_called() -> Answer:
    return Answer(tool_calls=[ToolCall("quick", {}, "a"), ToolCall("slow", {}, "b")])


def quick() -> str:
    return "done"


def names(message: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [call["function"]["name"] for call in message["tool_calls"]]


@pytest.mark.anyio
@pytest.mark.parametrize("shown", [True, False])
async def test_a_cancelled_task(async_homing_client: homing.AsyncClient, edge: Edge, shown: bool) -> None:
    cancelled = anyio.Event()
    scope = anyio.CancelScope()

    async def slow() -> None:
        try:
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    chat = async_homing_client.conversation(model="m")
    edge.answer_next(both_called())
    with scope:
        if shown:
            async with chat.run_stream("Go.", [quick, slow], tools_at_once=1) as run:
                async for _ in run:
                    pass
        await chat.run("Go.", [quick, slow], tools_at_once=1)
    assert scope.cancelled_caught
    assert cancelled.is_set()
    if shown:  # the reader has seen what had come
        assert chat.turns[-1].interrupted
        assert names(chat.history[1]) == ["quick"]
        assert chat.history[2]["content"] == "done"
    else:
        assert chat.history == []
    assert (await chat.send("Go on.")).text


def test_ctrl_c(homing_client: homing.Client, edge: Edge) -> None:
    let_go = threading.Event()
    main = threading.main_thread()

    def slow() -> None:
        signal.pthread_kill(main.ident or 0, signal.SIGINT)
        let_go.wait(60)

    chat = homing_client.conversation(model="m")
    edge.answer_next(both_called())
    with pytest.raises(KeyboardInterrupt), chat.run_stream("Go.", [quick, slow], tools_at_once=1) as run:
        for _ in run:
            pass
    let_go.set()
    assert chat.turns[-1].interrupted
    assert names(chat.history[1]) == ["quick"]
    assert chat.send("Go on.").text


def test_what_a_thread_returns_too_late_goes_nowhere(homing_client: homing.Client, edge: Edge) -> None:
    let_go, ended = threading.Event(), threading.Event()

    def slow() -> str:
        let_go.wait(60)
        ended.set()
        return "too late"

    def quick() -> str:
        let_go.set()
        assert ended.wait(60)
        return "done"

    chat = homing_client.conversation()
    edge.answer_next(
        Answer(tool_calls=[ToolCall("slow", {}, "b")]), Answer(tool_calls=[ToolCall("quick", {}, "a")]), "Done."
    )
    assert chat.run("Go.", [quick, Tool(slow, timeout=0.02)]).text == "Done."
    told = [message["content"] for message in chat.history if message["role"] == "tool"]
    assert told == ["Error: the tool did not end within 0.02 s", "done"]


def test_the_sync_client_takes_no_coroutines(homing_client: homing.Client) -> None:
    async def slow() -> None: ...

    with pytest.raises(homing.ConfigurationError, match="slow is an async function: give it to AsyncClient"):
        homing_client.conversation().run("Go.", [slow])


@pytest.mark.anyio
async def test_a_function_that_returns_a_coroutine(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    async def slow() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    chat = async_homing_client.conversation()
    edge.answer_next(Answer(tool_calls=[ToolCall("wrapped", {})]), "Done.")
    await chat.run("Go.", [Tool(lambda: slow(), name="wrapped")])
    assert chat.history[2]["content"] == "done"


def test_a_run_is_saved_as_one_turn_and_goes_on_elsewhere(
    homing_client: homing.Client, edge: Edge, tmp_path: object
) -> None:
    asked = {"type": "function", "function": {"name": "approve", "parameters": {"type": "object", "properties": {}}}}
    edge.answer_next(Answer(tool_calls=[ToolCall("quick", {}, "a"), ToolCall("approve", {}, "b")]), "Approved.")
    with SQLiteStore(f"{tmp_path}/chats.db") as store:
        chat = homing_client.conversation("trip", store=store, tools=[quick, asked])
        assert [call.id for call in chat.run("Go.").pending] == ["b"]
    with SQLiteStore(f"{tmp_path}/chats.db") as store, homing.Client(base_url=edge.url) as other:
        again = other.load_conversation("trip", store=store)
        assert [call.id for call in again.pending_calls] == ["b"]
        assert again.submit({"b": True}).text == "Approved."  # its tools were saved, as far as they are data
        assert [one["function"]["name"] for one in again.defaults["tools"]] == ["quick", "approve"]
    with SQLiteStore(f"{tmp_path}/chats.db") as store:
        last = homing_client.load_conversation("trip", store=store)
        assert [message["role"] for message in last.history] == ["user", "assistant", "tool", "tool", "assistant"]
        assert len(last.turns) == 1
