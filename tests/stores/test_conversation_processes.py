"""Conversations under other processes, and under their sudden end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import homing
from homing.stores import SQLiteStore, StoredConversation
from homing.testing import Fault
from homing_server.local import Edge

WORKER = Path(__file__).with_name("conversation_worker.py")


@contextmanager
def worker(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def questions(found: StoredConversation | None) -> list[str]:
    """What was asked, after a look at whether every turn is whole."""
    assert found is not None
    for turn in found.turns:
        assert [message["role"] for message in turn["messages"]] == ["user", "assistant"]
        assert turn["messages"][1]["content"]
        assert turn["finish_reason"] == "stop"
    return [turn["messages"][0]["content"] for turn in found.turns]


def test_two_processes_in_one_conversation_never_lose_a_turn(edge: Edge, tmp_path: Path) -> None:
    # praxis ai#662, capo#125
    path = tmp_path / "chats.db"
    names, count = ["one", "two"], 15
    with SQLiteStore(path) as store, homing.Client(edge.url) as client:
        client.conversation("shared", system="S", store=store).send("Begin.")
        with ExitStack() as stack:
            workers = [stack.enter_context(worker("talk", edge.url, path, name, count)) for name in names]
            assert [hear(process) for process in workers] == ["ready", "ready"]
            for process in workers:
                go(process)
            conflicts = [int(hear(process).removeprefix("conflicts ")) for process in workers]
            assert [process.wait(60) for process in workers] == [0, 0]
        asked = questions(store.load("shared"))
        # Both began from the same version: whoever was second has met the other.
        assert sum(conflicts) >= 1
        assert sorted(asked) == sorted(["Begin.", *(f"{name} {number}" for name in names for number in range(count))])
        for name in names:
            assert [said for said in asked if said.startswith(name)] == [f"{name} {n}" for n in range(count)]
        # Each turn was answered on top of all that stand before it, and of nothing else.
        chat = client.load_conversation("shared", store=store)
        prompts = [record.request["messages"] for record in edge.log if record.request and "messages" in record.request]
        for number, turn in enumerate(chat.turns):
            before = [message for earlier in chat.turns[:number] for message in earlier.messages]
            assert [{"role": "system", "content": "S"}, *before, turn.messages[0]] in prompts


@pytest.mark.parametrize("seed", [1, 2])
def test_a_client_killed_in_the_middle_of_its_turns_loses_nothing_acknowledged(
    edge: Edge, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "chats.db"
    acknowledged, kills = -1, 0
    with worker("crash", edge.url, path, seed, 12) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("saved"):
                acknowledged = int(line.split()[1])
                continue
            kills += 1
            with SQLiteStore(path) as store:
                asked = questions(store.load("c"))
            assert asked == [str(number) for number in range(len(asked))]
            assert len(asked) - 1 in (acknowledged, acknowledged + 1)
            go(process)
        assert process.wait(60) == 0
    assert kills == 12


def test_a_client_killed_in_the_middle_of_a_reply(edge: Edge, tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with worker("hang", edge.url, path) as process:
        assert hear(process) == "saved 0"
        edge.inject(Fault.hang(after_chunks=4))
        go(process)
        assert hear(process) == "streaming"
        process.kill()
        process.wait(30)
    edge.wait_for(lambda e: e.running == 0)  # its end was noticed: the engine stopped generating
    with SQLiteStore(path) as store, homing.Client(edge.url) as client:
        assert questions(store.load("c")) == ["0"]
        chat = client.conversation("c", store=store)
        reply = chat.send("1")  # the same turn again, on the same replica
        assert reply.telemetry.verdict == "warm"
        assert questions(store.load("c")) == ["0", "1"]
