"""A signal handler raises at any point of a turn: the next turn works, and both sides agree on what was said.

`Strike` finds the points. Here the signal is a real one, so that what the client keeps waiting is kept waiting.
Some points, spread over the whole turn, are struck on each run; with ``HOMING_STRIKES=1`` it is every one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import homing
from homing.stores import MemoryStore
from homing_server.local import Edge

from ..striking import Alarm, Strike

GUARD = 60.0
"""Seconds after which a turn hangs: thousands of times what it takes."""

POINTS = 10**9 if os.environ.get("HOMING_STRIKES") else 40
"""How many points of each kind of turn are struck, at most."""


class Signal(Strike):
    """Sends a signal where `Strike` raises."""

    def __call__(self, frame: Any, event: str, argument: object) -> None:
        try:
            super().__call__(frame, event, argument)
        except Alarm:
            signal.raise_signal(signal.SIGALRM)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def strike(number: int, frame: object) -> None:
        raise Alarm("wake_event")

    before = signal.signal(signal.SIGALRM, strike)
    yield
    assert signal.signal(signal.SIGALRM, before) is strike
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    from homing_server.local import EdgeSettings

    with Edge(EdgeSettings.instant()) as running:
        yield running


def spread(turn: Callable[[], object], most: int, *, least: int = 500) -> Iterator[Signal]:
    """Yield strikes at ``most`` points of ``turn``, and count its points first."""
    counter = Signal(10**9)
    counter.run(turn)
    points = 10**9 - counter._left
    assert points > least, "a turn has thousands of points"
    step = max(1, points // most)
    for number in range(1 + os.getpid() % step, points, step):
        yield Signal(number)


def send(chat: homing.Conversation) -> None:
    chat.send("One.", max_tokens=4)


def read(chat: homing.Conversation) -> None:
    with chat.stream("One.", max_tokens=4) as stream:
        for _ in stream.text:
            pass


def leave(chat: homing.Conversation) -> None:
    for _ in chat.stream("One.", max_tokens=40).text:
        break


def use_a_tool(chat: homing.Conversation) -> None:
    def clock() -> str:
        """Tell the time."""
        return "noon"

    chat.run("What time is it?", tools=[clock], max_tokens=4)


def undo(chat: homing.Conversation) -> None:
    chat.undo()


def regenerate(chat: homing.Conversation) -> None:
    chat.regenerate(max_tokens=4)


# A signal between a socket's making and its owner: the collector closes it, and says so.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stored", [pytest.param(False, marks=pytest.mark.slow), True], ids=["memory", "store"])
@pytest.mark.parametrize("turn", [send, read, leave, use_a_tool, undo, regenerate])
def test_an_interrupt_at_any_point_of_a_turn(
    edge: Edge, turn: Callable[[homing.Conversation], None], stored: bool
) -> None:
    store = MemoryStore() if stored else None
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(1) as elsewhere:

        def begun() -> homing.Conversation:
            chat = client.conversation(store=store)
            chat.send("Zero.", max_tokens=4)
            return chat

        turn(begun())
        first = begun()
        for strike in spread(lambda: turn(first), POINTS):
            chat = begun()
            try:
                strike.run(lambda chat=chat: turn(chat))  # type: ignore[misc]
            except Alarm:
                pass
            reply = elsewhere.submit(chat.send, "Again.", max_tokens=4).result(GUARD)
            assert reply.finish_reason, strike.struck
            asked = [message["content"] for message in chat.history if message["role"] == "user"]
            before_last = [one for one in asked[:-1] if one != "Zero."]
            assert asked[-1] == "Again.", strike.struck
            assert len(before_last) <= 1, strike.struck
            if store is not None:
                saved = store.load(chat.id)
                assert saved is not None
                assert len(saved.turns) == len(chat.turns), strike.struck
        assert threading.active_count() < 60, "interrupted turns leave their threads behind"
    edge.wait_for(lambda running: running.running == 0)


def test_an_interrupt_that_looks_like_an_error_of_the_connection(edge: Edge) -> None:
    """A time limit by SIGALRM raises `TimeoutError`, in the middle of a read: it is no failure of the server's."""
    from homing.testing import Fault

    edge.inject(Fault.hang(after_chunks=2))
    before = edge.log[-1].number if edge.log else 0
    with homing.Client(edge.url, model="m") as client:
        chat = client.conversation()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Alarm, match="wake_event"), chat.stream("One.") as stream:
            for _ in stream.text:
                pass
        assert [turn.interrupted for turn in chat.turns] == [True]
        edge.wait_for(lambda running: running.running == 0)
        assert len([one for one in edge.log if one.number > before]) == 1, "nothing was tried again"
        assert chat.send("Two.", max_tokens=4).finish_reason


def test_an_interrupt_within_a_hook_comes_out(edge: Edge) -> None:
    """What a hook raises is logged; what a signal handler raises while it runs is not the hook's."""

    def pressed(reply: object) -> None:
        signal.raise_signal(signal.SIGALRM)

    with homing.Client(edge.url, model="m", hooks=homing.Hooks(on_reply=pressed)) as client:
        chat = client.conversation()
        with pytest.raises(Alarm):
            chat.send("One.", max_tokens=4)
        assert len(chat.turns) == 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_call_is_cancelled_by_a_signal_handler(edge: Edge) -> None:
    """Ctrl-C as many programs have it: the handler calls `cancel`, whatever this thread is in the middle of."""
    with homing.Client(edge.url, model="m") as client:

        def turn() -> None:
            chat = client.conversation()
            stream = chat.stream("One.", max_tokens=4)
            before = signal.signal(signal.SIGALRM, lambda *_: stream.cancel())
            try:
                with stream:
                    for _ in stream:
                        pass
            finally:
                signal.signal(signal.SIGALRM, before)

        turn()
        for strike in spread(turn, POINTS):
            try:
                strike.run(turn)
            except Alarm:  # struck before the handler was there, or after
                pass
            assert client.conversation().send("Again.", max_tokens=4).finish_reason, strike.struck


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("call", ["reload", "first send"])
def test_what_somebody_else_has_saved_outlives_an_interrupt(edge: Edge, call: str) -> None:
    """What is known of the store and what stands in memory are taken over together: else the next turn erases it."""
    store = MemoryStore()
    with homing.Client(edge.url, model="m") as client, homing.Client(edge.url, model="m") as other:

        def begun() -> homing.Conversation:
            first = other.conversation(store=store)
            first.send("Zero.", max_tokens=4)
            chat = client.conversation(first.id, store=store)
            if call == "reload":
                chat.reload()
            first.send("Theirs.", max_tokens=4)
            return chat

        def take_over(chat: homing.Conversation) -> None:
            if call == "reload":
                chat.reload()
            else:
                chat.send("One.", max_tokens=4)

        take_over(begun())
        first = begun()
        for strike in spread(lambda: take_over(first), POINTS, least=50):
            chat = begun()
            try:
                strike.run(lambda chat=chat: take_over(chat))  # type: ignore[misc]
            except Alarm:
                pass
            try:
                chat.send("Again.", max_tokens=4)
            except homing.VersionConflict:  # it has not taken over what is new
                pass
            saved = store.load(chat.id)
            assert saved is not None
            asked = [turn["messages"][0]["content"] for turn in saved.turns]
            assert asked[:2] == ["Zero.", "Theirs."], strike.struck


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_the_end_of_a_stream_whose_reader_breaks(edge: Edge) -> None:
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(1) as elsewhere:

        def turn(chat: homing.Conversation) -> None:
            with chat.stream("One.", max_tokens=1) as stream:
                for _ in stream.text:
                    break

        turn(client.conversation())
        first = client.conversation()
        for strike in spread(lambda: turn(first), 2 * POINTS):
            chat = client.conversation()
            try:
                strike.run(lambda chat=chat: turn(chat))  # type: ignore[misc]
            except Alarm:
                pass
            assert elsewhere.submit(chat.send, "Again.", max_tokens=4).result(GUARD).finish_reason, strike.struck


class PressedStore(MemoryStore):
    """A signal comes while it saves."""

    def commit(self, *arguments: Any, **named: Any) -> int:
        signal.raise_signal(signal.SIGALRM)
        return super().commit(*arguments, **named)


def test_a_reader_that_breaks_learns_of_a_signal_that_came_during_the_save(edge: Edge) -> None:
    """All of a short reply comes with the first item. What the handler raised must not wait for an item more."""
    with homing.Client(edge.url, model="m") as client:
        chat = client.conversation(store=PressedStore())
        with pytest.raises(Alarm), chat.stream("One.", max_tokens=1) as stream:
            for _ in stream.text:
                break
        assert len(chat.turns) == 1


def test_a_handler_may_use_the_conversation(edge: Edge) -> None:
    """Not wise, but no deadlock: its turn runs, or is refused because one runs."""
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(1) as elsewhere:
        box: list[homing.Conversation] = []

        def talk(number: int, frame: object) -> None:
            try:
                box[0].send("From the handler.", max_tokens=2)
            except homing.ConversationBusy:
                pass

        before = signal.signal(signal.SIGALRM, talk)
        try:
            box[:] = [client.conversation()]
            send(box[0])
            first = box[0]
            for strike in spread(lambda: send(first), POINTS):
                box[:] = [client.conversation()]
                strike.run(lambda: send(box[0]))
                assert elsewhere.submit(box[0].send, "Again.", max_tokens=4).result(GUARD).finish_reason, strike.struck
        finally:
            signal.signal(signal.SIGALRM, before)
