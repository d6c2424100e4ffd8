"""A lane on a thread, with the sync client."""

from __future__ import annotations

import homing
from homing.stores import Store

from .journal import Journal
from .lane import Lane, Line, system_prompt


def hold(lane: Lane, client: homing.Client, store: Store, journal: Journal) -> None:
    """Say all that the lane has to say."""
    chats: dict[str, homing.Conversation] = {}
    for name, line in lane.lines():
        if name not in chats:
            chats[name] = client.conversation(name, system=system_prompt(name), store=store)
        if say(chats[name], line, journal):
            lane.acknowledged(name)


def say(chat: homing.Conversation, line: Line, journal: Journal) -> bool:
    """Say one line; return whether it was acknowledged."""
    shown: list[str] = []
    journal.note("begin", line.id, kind=line.kind)
    try:
        reply = _reply(chat, line, shown, journal)
    except homing.VersionConflict:
        journal.note("failed", line.id, error="VersionConflict", shown="".join(shown))
        chat.reload()
    except homing.StoreError as error:
        journal.note("unsure", line.id, error=repr(error)[:500])
    except homing.HomingError as error:
        journal.note("failed", line.id, error=type(error).__name__, shown="".join(shown))
    else:
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


def _reply(chat: homing.Conversation, line: Line, shown: list[str], journal: Journal) -> homing.Reply:
    def note(turn: str, number: int) -> str:
        """Take a note.

        Args:
            turn: Whose note.
            number: Which note.
        """
        journal.note("tool", turn, number=number)
        return f"noted {number}"

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
