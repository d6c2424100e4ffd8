"""The threads that do a store's work.

Python runs signal handlers on the main thread, between two bytecodes of whatever it does there: Ctrl-C, or a
time limit by SIGALRM, may leave a lock taken, a connection lent or half a response unread, and everybody
behind it waits for ever. So a caller holds nothing here: it queues a job and waits for a bell. Connections
belong to threads of their own, where no handler runs; a transaction begins and ends there, whatever becomes
of the caller (openai-agents#1953, #2843, #2854, #4202, #4987).

What both sides touch is made of single steps that no handler can divide: `queue.SimpleQueue`, bare locks, one
attribute at a time. Nothing in `threading` or `concurrent.futures` that is written in Python is.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..errors import StoreError

R = TypeVar("R")
T = TypeVar("T")

CLOSE_TIMEOUT = 60.0
"""Seconds that closing waits for what was begun: twice what a save may wait for another process."""


class CompletionEvent:
    """Rung once, by one thread; waited for by others."""

    __slots__ = ("_silence", "rung")

    def __init__(self) -> None:
        self.rung = False
        self._silence = threading.Lock()
        self._silence.acquire()

    def set(self) -> None:
        """Let all go on who wait. Not twice."""
        self.rung = True
        self._silence.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it has rung, at most ``seconds``; return whether it has."""
        if not self.rung and self._silence.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
            self._silence.release()  # for the next one; one who is interrupted here makes that one wait in vain
        return self.rung


class WorkItem(Generic[T]):
    """Something to be done on a worker's thread, and its outcome."""

    def __init__(self, action: Callable[[Any], T]) -> None:
        self._action = action
        self._taken = threading.Lock()
        self.done = CompletionEvent()
        self.value: T
        self.error: BaseException | None = None

    def take(self) -> bool:
        """Decide on this job alone: to do it, or that it is not done. True for the first to ask."""
        return self._taken.acquire(blocking=False)

    def run(self, resource: object) -> None:
        """Do it and keep the outcome, of which the caller does not know yet."""
        try:
            self.value = self._action(resource)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who waits for it
            self.error = error


def run_each(resource: object, jobs: list[WorkItem[Any]]) -> None:
    """Do one job after the other."""
    for job in jobs:
        job.run(resource)


def leave(resource: object) -> None:
    """Leave open what somebody else closes."""


class Workers(Generic[R]):
    """A queue of jobs, and threads that do them.

    Args:
        name: Of the threads.
        waiting_for: What an error says that a caller has waited for.
        closed: What an error says after `stop`.
        connect: Makes what one thread works with, before its first job.
        close: Lets go of it.
        finish: Lets go of what the threads share, after the last of them.
        carry_out: Does some jobs; an error that it raises is the outcome of all of them.
        translate: Makes an error of the driver's one of ours, for one caller.
        limit: Seconds that a caller waits for its job.
        most: Threads at once. They are started when there is work for them.
        batch: Jobs that are carried out together.
        forked: Called in a forked child, which has none of the threads and starts its own.
    """

    def __init__(
        self,
        name: str,
        *,
        waiting_for: str,
        closed: str,
        connect: Callable[[], R],
        translate: Callable[[BaseException], BaseException],
        limit: float,
        close: Callable[[R], None] = leave,
        finish: Callable[[], object] = bool,
        carry_out: Callable[[R, list[WorkItem[Any]]], None] = run_each,
        most: int = 1,
        batch: int = 1,
        forked: Callable[[], object] = bool,
    ) -> None:
        self._name = name
        self._waiting_for = waiting_for
        self._closed = closed
        self._connect = connect
        self._close = close
        self._finish = finish
        self._translate = translate
        self._limit = limit
        self._carry_out = carry_out
        self._most = most
        self._batch = batch
        self._forked = forked
        self._stopped = False
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Have no threads, as in a forked child."""
        self._jobs: queue.SimpleQueue[WorkItem[Any] | None] = queue.SimpleQueue()
        self._over = False  # whatever is still in the queue has been refused
        self._counting = threading.Lock()  # taken by the threads here, never by a caller
        self._busy = 0
        self._threads: dict[int, CompletionEvent] = {}  # by identity, rung at the end

    def run(self, action: Callable[[R], T], *, changes: bool = True, limit: float | None = None) -> T:
        """Have ``action`` done and return its outcome.

        A caller that is interrupted meanwhile withdraws what has not begun. For a change that has begun it waits:
        its next look at the store is to show the outcome.

        Raises `StoreError` when it is not done within the limit, and after `stop`.
        """
        limit = self._limit if limit is None else limit
        ends = time.monotonic() + limit
        job: WorkItem[T] = WorkItem(action)
        if self._stopped:
            raise StoreError(self._closed)
        try:
            self._jobs.put(job)
            if self._over and job.take():  # behind the last job
                raise StoreError(self._closed)
            self._staff()
            job.done.wait(limit)
        except BaseException:
            if not job.take() and changes:
                job.done.wait(ends - time.monotonic())
            raise
        if not job.done.rung:
            if job.take():
                raise StoreError(f"{self._waiting_for}: not begun within {limit:g} s and given up, nothing was changed")
            raise StoreError(f"{self._waiting_for}: not ended within {limit:g} s; loading says what came of it")
        if job.error is None:
            return job.value
        cause, error = job.error, self._translate(job.error)
        try:
            if error is cause:
                raise error
            raise error from cause
        finally:
            del job, cause, error  # no cycle of an error and this frame, which would keep what was to be saved

    def stop(self, *, wait: float = CLOSE_TIMEOUT) -> None:
        """Do what is queued, then end the threads. Raises `StoreError` when that takes longer than ``wait``."""
        ends = time.monotonic() + wait
        self._stopped = True
        self._jobs.put(None)
        for thread, gone in list(self._threads.items()):
            if thread != threading.get_ident() and not gone.wait(ends - time.monotonic()) and wait:
                raise StoreError(f"{self._waiting_for}: not ended within {wait:g} s; it goes on by itself")

    def stop_soon(self) -> None:
        """Do what is queued, then end the threads, without waiting for it: for the garbage collector."""
        self.stop(wait=0)

    def _staff(self) -> None:
        """Start another thread if there is more to do than there are threads without work."""
        if self._jobs.qsize() > len(self._threads) - self._busy and len(self._threads) < self._most:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            # Daemon: a program that forgets close() must still be able to end. Started by a thread that is never
            # interrupted: start() waits for the new one on a Condition, which an interrupt would leave locked.
            _thread.start_new_thread(thread.start, ())

    def _serve(self) -> None:
        here, gone = threading.get_ident(), CompletionEvent()
        threads = self._threads
        with self._counting:
            if len(threads) >= self._most:
                return
            threads[here] = gone
        resource: list[R] = []
        try:
            while self._serve_next(resource):
                pass
        finally:
            with self._counting:
                del threads[here]
                last = self._stopped and not threads
            try:
                for opened in resource:
                    self._close(opened)
                if last:
                    self._finish()
            finally:
                gone.set()

    def _serve_next(self, resource: list[R]) -> bool:
        """Do what is queued, or what comes next. False: it was the last.

        A method of its own, so that nothing refers to the last job, and through it to the store, while the
        thread waits: a forgotten store could not end it.
        """
        first = self._jobs.get()
        if first is None:
            self._refuse_the_rest()
            return False
        with self._counting:
            self._busy += 1
        self._staff()
        jobs = [job for job in (first, *self._more()) if job.take()]
        try:
            if not resource:
                resource.append(self._connect())
            self._carry_out(resource[0], jobs)
        except BaseException as error:  # noqa: BLE001 - a caller waits for each of these jobs
            for job in jobs:
                job.error = error
        with self._counting:
            self._busy -= 1
        for job in jobs:
            job.done.set()
        return True

    def _more(self) -> list[WorkItem[Any]]:
        more: list[WorkItem[Any]] = []
        while len(more) < self._batch - 1:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            more.append(job)
        return more

    def _refuse_the_rest(self) -> None:
        self._over = True  # first: whoever queues a job now looks at this afterwards
        try:
            while True:
                job = self._jobs.get_nowait()
                if job is not None and job.take():
                    job.error = StoreError(self._closed)
                    job.done.set()
        except queue.Empty:
            self._jobs.put(None)  # for the next thread


def run_aside(action: Callable[[], T], *, waiting_for: str, limit: float) -> T:
    """Do something that takes locks of its own, once, where no signal handler runs."""
    job: WorkItem[T] = WorkItem(lambda _: action())

    def work() -> None:
        job.run(None)
        job.done.set()

    _thread.start_new_thread(work, ())
    if not job.done.wait(limit):
        raise StoreError(f"{waiting_for}: not ended within {limit:g} s")
    if job.error is not None:
        raise job.error
    return job.value


_all: weakref.WeakSet[Workers[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for workers in list(_all):
        workers.begin_anew()
        workers._forked()


def _at_exit() -> None:
    for workers in list(_all):
        with contextlib.suppress(StoreError):
            workers.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
