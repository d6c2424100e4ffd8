"""A process of its own that holds conversations; the tests start it and kill it.

Arguments: what to do, the edge's URL, the path of the database, and what the function below says.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable

from homing import Client, VersionConflict
from homing.stores import SQLiteStore

TURN_SECONDS = 0.02  # a few turns on a fast machine, part of one on a slow one


def say(text: object) -> None:
    """Tell the parent, past every buffer: what was said before a kill is heard."""
    os.write(1, f"{text}\n".encode())


def heard() -> str:
    """Wait for a line from the parent."""
    return sys.stdin.readline().strip()


def talk(url: str, path: str, name: str, count: str) -> None:
    """Say ``count`` things in the conversation "shared", each again until it is acknowledged."""
    conflicts = 0
    with Client(url) as client, SQLiteStore(path) as store:
        chat = client.load_conversation("shared", store=store)
        say("ready")
        heard()
        for number in range(int(count)):
            while True:
                try:
                    chat.send(f"{name} {number}")
                except VersionConflict:
                    conflicts += 1
                    chat.reload()
                    continue
                break
    say(f"conflicts {conflicts}")


def crash(url: str, path: str, seed: str, kills: str) -> None:
    """Kill a forked client at many moments of its turns, one after another."""
    dice = random.Random(seed)
    for _ in range(int(kills)):
        delay = dice.random() * TURN_SECONDS
        child = os.fork()
        if child == 0:
            talk_until_killed(url, path, delay)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        say("killed")
        heard()


def talk_until_killed(url: str, path: str, delay: float) -> None:
    """Stream turn after turn until the end; say each one that was acknowledged."""
    client, store = Client(url), SQLiteStore(path)
    chat = client.conversation("c", system="S", store=store)
    found = store.load("c")
    number = len(found.turns) if found else 0
    chat.send(str(number))
    say(f"saved {number}")
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        number += 1
        for _ in chat.stream(str(number)).text:
            pass
        say(f"saved {number}")


def hang(url: str, path: str) -> None:
    """Save a turn, then say so when the next one has begun to stream."""
    client, store = Client(url), SQLiteStore(path)
    chat = client.conversation("c", system="S", store=store)
    chat.send("0")
    say("saved 0")
    heard()
    for _ in chat.stream("1").text:
        say("streaming")


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {"talk": talk, "crash": crash, "hang": hang}
    tasks[sys.argv[1]](*sys.argv[2:])
