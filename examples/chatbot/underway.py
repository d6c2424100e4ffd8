"""Replies under way, whichever worker they run in.

A reply runs in the worker that was asked for it. What has come is in that worker's memory, for those who
follow it there, and four times a second in the store, for those whose page was reloaded into another
worker. There is one record for each conversation, claimed by compare-and-swap, so that a conversation has
one reply under way however many tabs and workers there are:

    live:ID   header: name of the reply, what was asked; turns: what has come, in batches
    wish:ID   what other workers want of the one that runs it: stop; somebody still looks

A worker that dies leaves a record that nobody continues. After LEASE seconds it counts as failed; the
question is still in it.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from homing import ConversationBusy, HomingError, VersionConflict
from homing.integrations.fastapi import LINGER, Frame, LiveReply, event_id, failed_frame, merged, number_after
from homing.stores import AsyncStore, StoredConversation

PUBLISH_EVERY = 0.25
"""Seconds between two batches: what a reader in another worker sees late, and four writes a second."""

HEARTBEAT = 2.0
"""Seconds after which the record is written although nothing came: the worker is alive."""

LEASE = 15.0
"""Seconds without a heartbeat after which the worker counts as dead: several, and a database's failover.
The workers' clocks must agree better than that."""

HEED_EVERY = 1.0
"""Seconds until a stop that was pressed on another worker is heard."""

log = logging.getLogger("chatbot")
LOST = Frame(
    "failed",
    {"type": "WorkerLost", "message": "The reply was lost. Please try again.", "retry": True, "status": None},
)


@dataclass(frozen=True)
class Reply:
    """A conversation's latest reply, as its record tells."""

    name: str
    asked: dict[str, Any]
    frames: list[tuple[int, Frame]]
    lost: bool

    @classmethod
    def read(cls, record: StoredConversation) -> Reply:
        frames = [(n, Frame(event, data)) for batch in record.turns for n, event, data in batch["frames"]]
        ended = bool(frames) and frames[-1][1].last
        lost = not ended and time.time() - record.updated_at > LEASE
        if lost:
            frames.append(((frames[-1][0] if frames else 0) + 1, LOST))
        return cls(record.header["name"], record.header["asked"], frames, lost)

    @property
    def running(self) -> bool:
        return not (self.frames and self.frames[-1][1].last)

    @property
    def error(self) -> dict[str, Any] | None:
        last = self.frames[-1][1] if self.frames else None
        return last.data if last is not None and last.event == "failed" else None

    @property
    def text(self) -> str:
        return "".join(frame.data["text"] for _, frame in self.frames if frame.event == "delta")


class Underway:
    """Runs replies in this worker's ``tasks``, and follows those of all."""

    def __init__(self, store: AsyncStore, tasks: TaskGroup) -> None:
        self._store = store
        self._tasks = tasks
        self._own: dict[str, Run] = {}

    async def begin(self, conversation: str, asked: dict[str, Any], ask: Callable[[], Awaitable[Any]]) -> str:
        """Claim the conversation, then run the stream that ``ask`` returns. Return the reply's name.

        Raises `ConversationBusy` if a reply is under way, here or in another worker.
        """
        name = secrets.token_urlsafe(9)
        record = await self._store.load(f"live:{conversation}")
        if record is not None and Reply.read(record).running:
            raise ConversationBusy(f"a reply of conversation {conversation} is under way")
        try:
            version = await self._store.commit(
                f"live:{conversation}",
                expected_version=0 if record is None else record.version,
                header={"name": name, "asked": asked},
                keep=0,
            )
        except VersionConflict:
            raise ConversationBusy(f"a reply of conversation {conversation} has just begun") from None
        try:
            live = LiveReply(await ask(), name=name)
        except Exception as error:
            batch = {"frames": [[1, "failed", failed_frame(error).data]]}
            await self._store.commit(f"live:{conversation}", expected_version=version, turns=[batch])
            raise
        self._own[conversation] = run = Run(live, Record(self._store, f"live:{conversation}", version))
        self._tasks.start_soon(self._run, conversation, run)
        return name

    async def look(self, conversation: str) -> Reply | None:
        """Return the latest reply; None if there was none."""
        record = await self._store.load(f"live:{conversation}")
        return None if record is None else Reply.read(record)

    async def stop(self, conversation: str) -> None:
        """Stop the reply under way, wherever it runs."""
        if conversation in self._own:
            self._own[conversation].live.stop()
        elif (reply := await self.look(conversation)) is not None and reply.running:
            await self._wish(conversation, reply.name, stop=True)

    async def forget(self, conversation: str) -> None:
        """Stop it, and delete what is kept of it."""
        await self.stop(conversation)
        for record in (f"live:{conversation}", f"wish:{conversation}"):
            await self._store.delete(record)

    def follow(self, conversation: str, name: str, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """Yield the events of the reply called ``name`` after that one, to its end."""
        run = self._own.get(conversation)
        after = number_after(last_event_id, name)
        if run is not None and run.live.name == name:
            return self._follow_here(run, after)
        return self._follow_elsewhere(conversation, name, after)

    async def _follow_here(self, run: Run, after: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(run.live.follow(after)) as frames:
            async for number, frame in frames:
                if frame.last:
                    await run.written.wait()  # whoever knows of the end may ask again, any worker
                yield frame.encode(event_id(run.live.name, number))

    async def _follow_elsewhere(self, conversation: str, name: str, after: int) -> AsyncGenerator[bytes, None]:
        looked = float("-inf")
        while (reply := await self.look(conversation)) is not None and reply.name == name:
            for number, frame in merged((n, frame) for n, frame in reply.frames if n > after):
                after = number
                yield frame.encode(event_id(name, number))
            if not reply.running:
                return
            if anyio.current_time() - looked > LINGER / 3:
                looked = anyio.current_time()
                await self._wish(conversation, name)
            await anyio.sleep(PUBLISH_EVERY)

    async def _wish(self, conversation: str, name: str, **wish: bool) -> None:
        while True:
            record = await self._store.load(f"wish:{conversation}")
            header = {"name": name, **wish}
            if record is not None and record.header["name"] == name:
                header = {**record.header, **header}
            try:
                version = 0 if record is None else record.version
                await self._store.commit(f"wish:{conversation}", expected_version=version, header=header)
            except VersionConflict:
                continue
            return

    # -- in the worker that runs it --------------------------------------------------------------

    async def _run(self, conversation: str, run: Run) -> None:
        live, record = run.live, run.record
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(live.run)
                group.start_soon(self._heed, conversation, live)
                while not record.complete:
                    with anyio.move_on_after(HEARTBEAT):
                        await live.changed(record.upto)
                    with anyio.move_on_after(PUBLISH_EVERY):
                        await live.finished()
                    await record.write(live)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):  # the worker may be ending: others are to know how it went
                await record.write(live)
            run.written.set()
            if self._own.get(conversation) is run:
                del self._own[conversation]

    async def _heed(self, conversation: str, live: LiveReply) -> None:
        heard = 0
        while True:
            await anyio.sleep(HEED_EVERY)
            with suppress(HomingError):  # the store is away: it will be back
                wish = await self._store.load(f"wish:{conversation}")
                if wish is not None and wish.header["name"] == live.name and wish.version != heard:
                    heard = wish.version
                    live.touch()
                    if wish.header.get("stop"):
                        live.stop()


class Record:
    """The record of a reply, as the worker that runs it writes it."""

    def __init__(self, store: AsyncStore, name: str, version: int) -> None:
        self._store = store
        self._name = name
        self._version = version
        self.upto = 0
        self.complete = False

    async def write(self, live: LiveReply) -> None:
        """Write what is not written yet; if there is nothing, that the worker is alive."""
        if self.complete:
            return
        # One by one, not merged: a reader may have seen half of what a merged one would hold.
        frames = list(enumerate(live.journal.frames[self.upto :], self.upto + 1))
        batch = [[number, frame.event, frame.data] for number, frame in frames]
        turns = [{"frames": batch}] if batch else []
        try:
            self._version = await self._store.commit(self._name, expected_version=self._version, turns=turns)
        except VersionConflict:
            # Deleted, or taken over: this worker was silent for so long that it counted as dead.
            log.warning("the record of a reply is not this worker's any more: stopping the reply")
            live.stop()
            self.complete = True
        except HomingError as error:
            log.warning("a reply's progress could not be written, trying again: %s", error)
            await anyio.sleep(PUBLISH_EVERY)
        else:
            self.upto = frames[-1][0] if frames else self.upto
            self.complete = bool(frames) and frames[-1][1].last


@dataclass(frozen=True)
class Run:
    """A reply that runs here, and its record."""

    live: LiveReply
    record: Record
    written: anyio.Event = field(default_factory=anyio.Event)
    """Set when the record is complete."""
