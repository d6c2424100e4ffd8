"""A process of its own that writes to a SQLite store; the tests start it and kill it.

Arguments: what to do, the path of the database, and what the function below says.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

from homing.errors import VersionConflict
from homing.stores import SQLiteStore

SAVE_STEPS = 102  # of SQLite's virtual machine in one save
SAVE_SECONDS = 0.001  # two or three saves on a fast disk, part of one on a slow one


def say(text: object) -> None:
    """Tell the parent, past every buffer: what was said before a kill is heard."""
    os.write(1, f"{text}\n".encode())


def heard() -> str:
    """Wait for a line from the parent."""
    return sys.stdin.readline().strip()


def append(path: str, name: str, count: str) -> None:
    """Append turns to the conversation "shared", again on each conflict."""
    with SQLiteStore(path) as store:
        say("ready")
        heard()
        for number in range(int(count)):
            while True:
                found = store.load("shared")
                assert found is not None
                try:
                    store.commit("shared", expected_version=found.version, turns=[{"by": name, "n": number}])
                except VersionConflict:
                    continue
                break


def open_new(directory: str, name: str, count: str) -> None:
    """Open new databases at the same moment as others do, and use each at once."""
    for number in range(int(count)):
        say("ready")
        heard()
        with SQLiteStore(os.path.join(directory, f"{number}.db")) as store:
            store.commit(name, expected_version=0, turns=[{"by": name}])
    say("done")


def crash(path: str, seed: str, points: str) -> None:
    """Kill a forked writer at many points of a save, one after another.

    Half of them die at a chosen step of SQLite's virtual machine, so inside a statement;
    half at a random moment, which falls mostly into writing and flushing the file.
    """
    dice = random.Random(seed)
    for point in range(int(points)):
        chance = dice.random()
        child = os.fork()
        if child == 0:
            write_until_killed(path, point, chance)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        say(f"killed {point}")
        heard()


def write_until_killed(path: str, point: int, chance: float) -> None:
    """Save turn after turn until the end; say each one that was acknowledged."""
    store = SQLiteStore(path)
    found = store.load("c")
    version, number = (found.version, len(found.turns)) if found else (0, 0)
    saves_left = 1 + point % 3
    steps_left = 1 + int(chance * SAVE_STEPS)

    def step() -> int:
        nonlocal steps_left
        if saves_left <= 0:
            steps_left -= 1
            if steps_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return 0

    if point % 2:
        store._writer.run(lambda connection: connection.set_progress_handler(step, 1))
    while True:
        if saves_left == 0 and point % 2 == 0:
            threading.Timer(chance * SAVE_SECONDS, os.kill, (os.getpid(), signal.SIGKILL)).start()
        version = store.commit("c", expected_version=version, turns=[{"n": number, "text": "x" * 3000}])
        say(f"saved {number}")
        number += 1
        saves_left -= 1


if __name__ == "__main__":
    {"append": append, "open_new": open_new, "crash": crash}[sys.argv[1]](*sys.argv[2:])
