"""A lane on a thread, with the sync client."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import homing
from homing.stores import Store

from .disturb import Alarmed, Signals
from .journal import Journal
from .lane import Lane, Line, system_prompt

PAUSE = 0.02
"""Seconds, at most, from a waiting turn's begin to the moment when the stream it waits for is dropped."""


def hold(
    lane: Lane,
    client: Callable[[str], homing.Client],
    store: Store,
    journal: Journal,
    signals: Signals | None = None,
) -> None:
    """Say all that the lane has to say, each conversation with its ``client``.

    ``signals`` do not strike the first turn of a kind: it imports modules, and CPython may keep its own lock on all
    imports when a signal's handler raises within one.
    """
    chats: dict[str, homing.Conversation] = {}
    known: set[str] = set()
    for name, line in lane.lines():
        if name not in chats:
            chats[name] = client(name).conversation(name, system=system_prompt(name), store=store)
        if say(chats[name], line, journal, signals if line.kind in known else None):
            lane.acknowledged(name)
            known.add(line.kind)


class Waiter(threading.Thread):
    """Says the turn that waits while the stream before it is dropped."""

    def __init__(self, chat: homing.Conversation, line: Line, journal: Journal) -> None:
        super().__init__(name="waiter")
        self._chat, self._line, self._journal = chat, line, journal
        self.acknowledged = False

    def run(self) -> None:
        """Say it."""
        self.acknowledged = say(self._chat, self._line, self._journal)


def say(chat: homing.Conversation, line: Line, journal: Journal, signals: Signals | None = None) -> bool:
    """Say one line; return whether it, or the one that has waited for it, was acknowledged."""
    shown: list[str] = []
    struck = line.signal if signals is not None else None
    journal.note("begin", line.id, kind=line.kind, signal=struck)
    try:
        if signals is None or struck is None:
            reply = _reply(chat, line, shown, journal)
        else:
            reply = signals.into(lambda: _reply(chat, line, shown, journal), struck)
    except (KeyboardInterrupt, Alarmed):
        if struck is None:
            raise
        journal.note("struck", line.id, shown="".join(shown), signal=struck)
    except homing.VersionConflict:
        journal.note("failed", line.id, error="VersionConflict", shown="".join(shown))
        chat.reload()
    except homing.StoreError as error:
        journal.note("unsure", line.id, error=repr(error)[:500])
    except homing.HomingError as error:
        journal.note("failed", line.id, error=type(error).__name__, shown="".join(shown))
    else:
        if isinstance(reply, Waiter):
            reply.join()
            journal.note("dropped", line.id, shown="".join(shown), followed=reply.acknowledged, cycle=line.in_cycle)
            return reply.acknowledged
        journal.note(
            "acked",
            line.id,
            text=reply.text,
            shown="".join(shown) if line.kind not in ("send", "run") else reply.text,
            finish=reply.finish_reason,
            resumed=reply.telemetry.resumes,
        )
        return True
    return False


def _reply(chat: homing.Conversation, line: Line, shown: list[str], journal: Journal) -> homing.Reply | Waiter:
    def note(turn: str, number: int) -> str:
        """Take a note.

        Args:
            turn: Whose note.
            number: Which note.
        """
        journal.note("tool", turn, number=number)
        return f"noted {number}"

    if line.kind == "drop":
        return _drop(chat, line, shown, journal)
    if line.kind == "send":
        return chat.send(line.question)
    if line.kind == "run":
        return chat.run(line.question, [note])
    if line.kind in ("events", "run_stream"):
        stream = chat.stream(line.question) if line.kind == "events" else chat.run_stream(line.question, [note])
        with stream:
            for event in stream:
                if event.type == "content.delta":
                    shown.append(event.delta)  # noqa: PERF401 - it may break off
            return stream.reply()
    with chat.stream(line.question) as stream:
        for text in stream.text:
            shown.append(text)
            if line.kind == "stop" and len(shown) == line.breaks_after:
                break
        else:
            return stream.reply()
    return stream.reply()


def _drop(chat: homing.Conversation, line: Line, shown: list[str], journal: Journal) -> homing.Reply | Waiter:
    """Leave a stream in its middle without closing it, and another turn waiting for the conversation."""
    assert line.waiter is not None
    stream = chat.stream(line.question)
    for text in stream.text:
        shown.append(text)
        if len(shown) == line.breaks_after:
            break
    else:
        return stream.reply()
    if line.in_cycle:
        cycle: list[object] = [stream]
        cycle.append(cycle)
    waiter = Waiter(chat, line.waiter, journal)
    waiter.start()
    time.sleep(random.random() * PAUSE)
    return waiter
