"""The threads that do a store's work.

Python runs signal handlers on the main thread, between any two bytecodes. Ctrl-C, or a SIGALRM time limit,
may therefore leave a lock taken, a connection checked out or half a response unread, and everything that needs
it waits forever. So callers hold no resources here: a caller queues a job and waits for an event. Connections
belong to threads of their own, where no handler runs; transactions begin and end there, whatever happens to
the caller (openai-agents#1953, #2843, #2854, #4202, #4987).

Both sides share only single steps that a handler cannot interrupt: `queue.SimpleQueue`, bare locks, one
attribute at a time. Nothing in `threading` or `concurrent.futures` that is written in Python qualifies.
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
"""Seconds that closing waits for pending work: twice as long as a save may wait for another process."""


class CompletionEvent:
    """An event that one thread sets once, and other threads wait for."""

    __slots__ = ("_silence", "rung")

    def __init__(self) -> None:
        self.rung = False
        self._silence = threading.Lock()
        self._silence.acquire()

    def set(self) -> None:
        """Wake all waiting threads. Must be called only once."""
        self.rung = True
        self._silence.release()

    def wait(self, seconds: float) -> bool:
        """Wait until the event is set, at most ``seconds``; return whether it is."""
        if not self.rung and self._silence.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
            self._silence.release()  # for the next waiter; an interrupt right here makes that one wait for nothing
        return self.rung


class WorkItem(Generic[T]):
    """An action to run on a worker's thread, and its outcome."""

    def __init__(self, action: Callable[[Any], T]) -> None:
        self._action = action
        self._taken = threading.Lock()
        self.done = CompletionEvent()
        self.value: T
        self.error: BaseException | None = None

    def take(self) -> bool:
        """Claim the right to run or withdraw this job. Returns True for the first caller only."""
        return self._taken.acquire(blocking=False)

    def run(self, resource: object) -> None:
        """Run the action and keep the outcome, without notifying the caller yet."""
        try:
            self.value = self._action(resource)
        except BaseException as error:  # noqa: BLE001 - passed to the waiting caller
            self.error = error


def run_each(resource: object, jobs: list[WorkItem[Any]]) -> None:
    """Run the jobs one after another."""
    for job in jobs:
        job.run(resource)


def leave(resource: object) -> None:
    """Do nothing: the resource is closed elsewhere."""


class Workers(Generic[R]):
    """A queue of jobs, and threads that run them.

    Args:
        name: The threads' name.
        waiting_for: What the caller was waiting for, for error messages.
        closed: The error message after `stop`.
        connect: Creates a thread's resource, before its first job.
        close: Releases that resource.
        finish: Releases what the threads share, after the last of them has ended.
        carry_out: Runs a batch of jobs. An error that it raises is the outcome of all of them.
        translate: Converts a driver's error to one of ours, for one caller.
        limit: Seconds that a caller waits for its job.
        most: Maximum number of threads. They are started on demand.
        batch: Maximum number of jobs that are run together.
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
        """Reset to a state without threads, as in a forked child."""
        self._jobs: queue.SimpleQueue[WorkItem[Any] | None] = queue.SimpleQueue()
        self._over = False  # whether all jobs left in the queue have been refused
        self._counting = threading.Lock()  # taken only by the worker threads, never by a caller
        self._busy = 0
        self._threads: dict[int, CompletionEvent] = {}  # by identity; set when the thread ends

    def run(self, action: Callable[[R], T], *, changes: bool = True, limit: float | None = None) -> T:
        """Run ``action`` on a worker thread and return its outcome.

        If the caller is interrupted meanwhile, it withdraws a job that has not begun. It waits for a change that
        has begun, so that its next read shows the outcome.

        Raises `StoreError` if the job is not done within the limit, and after `stop`.
        """
        limit = self._limit if limit is None else limit
        ends = time.monotonic() + limit
        job: WorkItem[T] = WorkItem(action)
        if self._stopped:
            raise StoreError(self._closed)
        try:
            self._jobs.put(job)
            if self._over and job.take():  # queued after the last job
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
            del job, cause, error  # avoids a cycle of the error and this frame, which would keep the data alive

    def stop(self, *, wait: float = CLOSE_TIMEOUT) -> None:
        """Finish the queued jobs, then end the threads. Raises `StoreError` if that takes longer than ``wait``."""
        ends = time.monotonic() + wait
        self._stopped = True
        self._jobs.put(None)
        for thread, gone in list(self._threads.items()):
            if thread != threading.get_ident() and not gone.wait(ends - time.monotonic()) and wait:
                raise StoreError(f"{self._waiting_for}: not ended within {wait:g} s; it goes on by itself")

    def stop_soon(self) -> None:
        """Like `stop`, but without waiting: for the garbage collector."""
        self.stop(wait=0)

    def _staff(self) -> None:
        """Start another thread if there are more queued jobs than idle threads."""
        if self._jobs.qsize() > len(self._threads) - self._busy and len(self._threads) < self._most:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            # Daemon: a program that forgets close() must still be able to exit. Started from another thread, which
            # no signal interrupts: start() waits on a Condition, which an interrupt would leave locked.
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
        """Run the next job, or batch of jobs. Return False if there will be no more.

        A separate method, so that no local variable refers to the last job, and through it to the store, while
        the thread waits. Otherwise an abandoned store could not be collected, and the thread would never end.
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
        except BaseException as error:  # noqa: BLE001 - a caller is waiting for each of these jobs
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
        self._over = True  # first: a caller checks this after it has queued its job
        try:
            while True:
                job = self._jobs.get_nowait()
                if job is not None and job.take():
                    job.error = StoreError(self._closed)
                    job.done.set()
        except queue.Empty:
            self._jobs.put(None)  # for the next thread


def run_aside(action: Callable[[], T], *, waiting_for: str, limit: float) -> T:
    """Run an action that takes locks of its own once, on a thread where no signal handler runs."""
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
