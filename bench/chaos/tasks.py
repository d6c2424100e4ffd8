"""A lane on a task, with the async client. As ``threads``, and tasks can be cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import homing
from homing.stores import Store

from .journal import Journal
from .lane import Lane, Line, system_prompt
from .threads import PAUSE


async def hold(lane: Lane, client: Callable[[str], homing.AsyncClient], store: Store, journal: Journal) -> None:
    """Say all that the lane has to say, each conversation with its ``client``."""
    chats: dict[str, homing.AsyncConversation] = {}
    for name, line in lane.lines():
        if name not in chats:
            chats[name] = client(name).conversation(name, system=system_prompt(name), store=store)
        if await say(chats[name], line, journal):
            lane.acknowledged(name)


async def say(chat: homing.AsyncConversation, line: Line, journal: Journal) -> bool:
    """Say one line, in a task of its own; return whether it, or the one that has waited for it, was acknowledged."""
    shown: list[str] = []
    journal.note("begin", line.id, kind=line.kind, signal=None)
    task = asyncio.create_task(_reply(chat, line, shown, journal))
    if line.kind == "cancel_send":
        asyncio.get_running_loop().call_later(line.patience, task.cancel)
    try:
        reply = await task
    except asyncio.CancelledError:
        journal.note("cancelled", line.id, shown="".join(shown))
    except homing.VersionConflict:
        journal.note("failed", line.id, error="VersionConflict", shown="".join(shown))
        await chat.reload()
    except homing.StoreError as error:
        journal.note("unsure", line.id, error=repr(error)[:500])
    except homing.HomingError as error:
        journal.note("failed", line.id, error=type(error).__name__, shown="".join(shown))
    else:
        if isinstance(reply, asyncio.Task):
            followed = await reply
            journal.note("dropped", line.id, shown="".join(shown), followed=followed, cycle=line.in_cycle)
            return followed
        journal.note(
            "acked",
            line.id,
            text=reply.text,
            shown="".join(shown) if line.kind not in ("send", "run", "cancel_send") else reply.text,
            finish=reply.finish_reason,
            resumed=reply.telemetry.resumes,
        )
        return True
    return False


async def _reply(
    chat: homing.AsyncConversation, line: Line, shown: list[str], journal: Journal
) -> homing.Reply | asyncio.Task[bool]:
    async def note(turn: str, number: int) -> str:
        """Take a note.

        Args:
            turn: Whose note.
            number: Which note.
        """
        journal.note("tool", turn, number=number)
        return f"noted {number}"

    if line.kind == "drop":
        return await _drop(chat, line, shown, journal)
    if line.kind in ("send", "cancel_send"):
        return await chat.send(line.question)
    if line.kind == "run":
        return await chat.run(line.question, [note])
    if line.kind in ("events", "run_stream"):
        stream = chat.stream(line.question) if line.kind == "events" else chat.run_stream(line.question, [note])
        async with stream:
            async for event in stream:
                if event.type == "content.delta":
                    shown.append(event.delta)  # noqa: PERF401 - it may break off
            return await stream.reply()
    async with chat.stream(line.question) as stream:
        async for text in stream.text:
            shown.append(text)
            if len(shown) == line.breaks_after:
                if line.kind == "stop":
                    break
                if line.kind == "cancel":
                    own = asyncio.current_task()
                    assert own is not None
                    own.cancel()
        else:
            return await stream.reply()
    return await stream.reply()


async def _drop(
    chat: homing.AsyncConversation, line: Line, shown: list[str], journal: Journal
) -> homing.Reply | asyncio.Task[bool]:
    """Leave a stream in its middle without closing it, and another turn waiting for the conversation."""
    assert line.waiter is not None
    stream = chat.stream(line.question)
    async for text in stream.text:
        shown.append(text)
        if len(shown) == line.breaks_after:
            break
    else:
        return await stream.reply()
    if line.in_cycle:
        cycle: list[object] = [stream]
        cycle.append(cycle)
    waiter = asyncio.create_task(say(chat, line.waiter, journal))
    await asyncio.sleep(random.random() * PAUSE)
    return waiter
