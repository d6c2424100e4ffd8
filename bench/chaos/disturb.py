"""What strikes a client process from inside: signals, forks, and the garbage collector."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeVar

from typing_extensions import Self

import homing

from .journal import Journal
from .lane import system_prompt
from .watchdog import HUNG, PATIENCE, Watched

T = TypeVar("T")


class Alarmed(BaseException):
    """What the handler of SIGALRM raises, as a time limit of a framework's would."""


class Signals:
    """Sends a signal into a call, at a moment that nobody has chosen. For the main thread."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(f"signals {seed}")
        self._usual = 0.02
        """Seconds that a turn takes, of late."""
        self._armed: str | None = None
        signal.signal(signal.SIGALRM, self._ring)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it

    def into(self, action: Callable[[], T], name: str) -> T:
        """Do ``action``, and send it the signal ``name`` on the way. Raises `KeyboardInterrupt` or `Alarmed`."""
        began = time.monotonic()
        self._armed = name
        signal.setitimer(signal.ITIMER_REAL, self._dice.uniform(1e-5, 1.3 * self._usual))
        try:
            return action()
        finally:
            self._armed = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._usual += (min(time.monotonic() - began, 1.0) - self._usual) / 10

    def _ring(self, number: int, frame: FrameType | None) -> None:
        name, self._armed = self._armed, None
        if name == "SIGINT":
            signal.raise_signal(signal.SIGINT)  # a real one: Homing may put it off, as it does while it saves
        elif name is not None:
            raise Alarmed


class _Background:
    """A thread that does something until its block is left."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError


class Collector(_Background):
    """Lets the garbage collector run at almost any allocation, on any thread, and now and then all of it on this one.

    A whole collection is asked for because CPython puts those off while most objects are old, and a dropped stream
    that has grown old would wait for it.
    """

    PAUSE = 0.02
    WHOLE_EACH = 20
    """Pauses from one whole collection to the next."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._dice = random.Random(f"collector {seed}")

    def _run(self) -> None:
        usual = gc.get_threshold()
        gc.collect()
        gc.freeze()  # what the imports have left, which would be looked through each time
        pauses = 0
        while not self._over.wait(self.PAUSE):
            gc.set_threshold(*(self._dice.randint(1, 50) for _ in range(3)))
            pauses += 1
            if not pauses % self.WHOLE_EACH:
                gc.collect()
        gc.set_threshold(*usual)
        gc.unfreeze()


class Forks(_Background):
    """Forks the process every now and then, whatever its threads are doing, and has the child do a turn.

    The child takes the client that it has inherited. It has no store: SQLite forbids that a connection is open when
    its process forks and that the child then opens the same file.
    """

    PAUSE = (0.5, 3.0)

    def __init__(self, seed: str, client: homing.Client, journal: Journal, limit: float) -> None:
        super().__init__()
        self._dice = random.Random(f"forks {seed}")
        self._client, self._journal, self._limit = client, journal, limit
        self._name = f"fork{os.getpid()}"

    def _run(self) -> None:
        number = 0
        while not self._over.wait(self._dice.uniform(*self.PAUSE)):
            turn = f"{self._name}.child.{number}"
            child = os.fork()
            if not child:
                self._turn(turn)
            self._await(child, turn)
            number += 1

    def _turn(self, turn: str) -> None:
        """Do a turn, and end the process."""
        system, question = system_prompt(self._name), f"{turn} hello"
        asked = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        code = 1
        try:
            faulthandler.dump_traceback_later(2 * PATIENCE * self._limit, exit=True)  # should even threads not run
            with Watched(self._journal, self._limit) as watched:
                watched.note("begin", turn, kind="fork", signal=None)
                try:
                    reply = self._client.conversation(system=system).send(question)
                except homing.HomingError as error:
                    watched.note("failed", turn, error=type(error).__name__, shown="")
                else:
                    watched.note("answered", turn, asked=asked, text=reply.text)
            code = 0
        except BaseException as error:  # noqa: BLE001 - nobody above would hear of it
            self._journal.note("stray", error=f"in a forked child: {error!r}"[:500])
            code = 0
        finally:
            os._exit(code)

    def _await(self, child: int, turn: str) -> None:
        _, status = os.waitpid(child, 0)
        if status and os.waitstatus_to_exitcode(status) != HUNG:  # that has been told of
            self._journal.note("hung", turn, error=f"the forked child has not come to an end (status {status})")
