"""What is left of the conversations, against what the clients were told and what the edge was asked.

Nothing of the client's own code is used: an audit with the same mistake in it would find nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from homing.stores import StoredConversation
from homing_server.local import Record

from . import oracle
from .journal import Entry

INTERRUPTED = "interrupted"


@dataclass
class Findings:
    """What is wrong, a line for each case; nothing, it is to be hoped."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, or shown before a cancellation, and not in the store."""
    duplicated: list[str] = field(default_factory=list)
    """In the store twice, or a tool call run twice."""
    reordered: list[str] = field(default_factory=list)
    """Not in the order in which they were said, or asked."""
    altered: list[str] = field(default_factory=list)
    """Not what was streamed, or not what the engine says to this."""
    revived: list[str] = field(default_factory=list)
    """In the store though the call had failed, or though nobody had said it."""
    unasked: list[str] = field(default_factory=list)
    """In the store, but the edge was never asked this on top of what stands before it."""
    stray: list[str] = field(default_factory=list)
    """Exceptions where there should be none."""
    leaked: list[str] = field(default_factory=list)
    """Connections, tasks, threads and file handles that are still there at the end."""
    hung: list[str] = field(default_factory=list)
    """Turns, also of forked children, that never came to an end."""
    astray: list[str] = field(default_factory=list)
    """Behind the balancer: away from the conversation's home, or with another one's cookie."""

    @property
    def total(self) -> int:
        """How many in all."""
        return sum(len(getattr(self, kind.name)) for kind in fields(self))

    def lines(self) -> list[str]:
        """Return all of them for reading."""
        return [f"{kind.name}: {case}" for kind in fields(self) for case in getattr(self, kind.name)]


@dataclass
class Fate:
    """What its writer knows of one turn. ``end`` is None where the process was killed before it heard."""

    kind: str
    signal: str | None = None
    """What was sent into it, whether or not it came in time."""
    end: Entry | None = None
    stored: int = 0
    """Times."""
    tools: Counter[int] = field(default_factory=Counter)


def fates(entries: Iterable[Entry], findings: Findings) -> dict[str, Fate]:
    """Put the journals' entries together, turn by turn; note what stands alone."""
    found: dict[str, Fate] = {}
    for entry in entries:
        what, turn = entry["what"], entry["turn"]
        if what == "begin":
            if turn in found:
                findings.stray.append(f"{turn} was begun twice: the bench itself is wrong")
            found[turn] = Fate(entry["kind"], entry["signal"])
        elif what == "tool":
            found[turn].tools[entry["number"]] += 1
        elif what == "stray":
            findings.stray.append(entry["error"])
        elif what == "end":
            findings.leaked += entry["leaks"]
        elif what == "hung":
            findings.hung.append(f"{turn}: {entry['error']}")
        else:
            found[turn].end = entry
    return found


def audit(
    entries: Sequence[Entry],
    stored: Mapping[str, StoredConversation],
    log: Sequence[Record],
) -> tuple[Findings, dict[str, Fate]]:
    """Look at every turn that was begun, and at every turn that is stored."""
    findings = Findings()
    turns = fates(entries, findings)
    asked: dict[str, list[Record]] = {}
    for record in log:
        if record.digest is not None and record.status is not None:
            asked.setdefault(record.digest, []).append(record)
    seen: Counter[str] = Counter()
    for name, conversation in stored.items():
        _conversation(name, conversation, turns, asked, seen, findings)
    for turn, times in seen.items():
        if times > 1:
            findings.duplicated.append(f"{turn} is stored {times} times")
    shared = _shared(turns)
    for turn, fate in turns.items():
        fate.stored = seen[turn]
        _missing(turn, fate, shared, findings)
        for number, times in fate.tools.items():
            if times > 1:
                findings.duplicated.append(f"the tool of {turn} was run {times} times with number {number}")
    return findings, turns


def _shared(turns: Iterable[str]) -> set[str]:
    """Return the conversations with several writers."""
    writers: dict[str, set[str]] = {}
    for turn in turns:
        name, writer, _ = turn.split(".")
        writers.setdefault(name, set()).add(writer)
    return {name for name, found in writers.items() if len(found) > 1}


def _missing(turn: str, fate: Fate, shared: Container[str], findings: Findings) -> None:
    end = fate.end or {"what": "killed"}
    # Where somebody else was faster a cancelled turn is refused, and the cancellation leaves no place to say so.
    alone = turn.split(".")[0] not in shared
    # A stream that was dropped is saved with the next turn.
    left = end["what"] == "cancelled" or (end["what"] == "dropped" and end["followed"])
    if not fate.stored and (end["what"] == "acked" or (left and end["shown"] and alone)):
        findings.lost.append(f"{turn} ({fate.kind}) was {end['what']} and is not stored")
    if fate.stored and end["what"] == "failed":
        findings.revived.append(f"{turn} failed ({end['error']}) and is stored")
    if end["what"] == "failed" and end["error"] == "VersionConflict" and alone:
        findings.stray.append(f"{turn}: VersionConflict in a conversation that nobody else writes to")
    if end["what"] == "answered" and end["text"] != oracle.text_for(end["asked"]):
        findings.altered.append(f"{turn} (forked): {end['text']!r} instead of {oracle.text_for(end['asked'])!r}")


def _conversation(
    name: str,
    conversation: StoredConversation,
    turns: Mapping[str, Fate],
    asked: Mapping[str, Sequence[Record]],
    seen: Counter[str],
    findings: Findings,
) -> None:
    """Go through one conversation from its first turn to its last."""
    key = conversation.header["affinity_key"]
    context: list[dict[str, Any]] = [{"role": "system", "content": conversation.header["system"]}]
    numbers: dict[str, int] = {}
    latest = 0
    for turn in conversation.turns:
        question, *replies = turn["messages"]
        words = question["content"].split()
        about, writer, number = words[0].split(".")
        if about != name or words[0] not in turns:
            findings.revived.append(f"{words[0]} is stored under {name}, and nobody has said it there")
            continue
        seen[words[0]] += 1
        if int(number) < numbers.get(writer, -1):
            findings.reordered.append(f"{words[0]} is stored behind number {numbers[writer]}")
        numbers[writer] = int(number)
        context.append(question)
        records = asked.get(oracle.digest(context), ())
        if _struck_before_it_was_sent(turns[words[0]], turn, records):
            pass
        elif not any(record.key == key for record in records):
            findings.unasked.append(f"{words[0]}: the edge has not seen it on this history, with this key")
        elif records[0].number < latest:
            findings.reordered.append(f"{words[0]} was asked before what is stored before it")
        elif not _left_before_its_reply(turn):
            latest = records[0].number
        _replies(words[0], turns[words[0]], context, replies, turn["finish_reason"], findings)
        # A reply that was stopped before its first word is kept, and not sent again.
        context += [said for said in replies if said["role"] == "tool" or said.get("content") or said.get("tool_calls")]


def _left_before_its_reply(turn: Mapping[str, Any]) -> bool:
    """Whether a stream ended before anything came.

    Its request is then on its way while the next turn begins on another connection, and either may arrive first.
    """
    said = turn["messages"][1:]
    return turn["finish_reason"] == INTERRUPTED and len(said) == 1 and not said[0]["content"]


def _struck_before_it_was_sent(fate: Fate, turn: Mapping[str, Any], records: Sequence[Record]) -> bool:
    """Whether a signal has ended a stream before its request went out: it is kept, with nothing behind the question."""
    return not records and fate.signal is not None and _left_before_its_reply(turn)


def _replies(
    turn: str,
    fate: Fate,
    context: Sequence[Mapping[str, Any]],
    replies: Sequence[Mapping[str, Any]],
    finish: str | None,
    findings: Findings,
) -> None:
    """Hold what is stored of one turn against what was streamed and against what the engine says."""

    def altered(what: str) -> None:
        findings.altered.append(f"{turn} ({fate.kind}, {(fate.end or {}).get('what', 'killed')}): {what}")

    calls = oracle.calls_for(context[-1])
    said = list(context)
    if calls and fate.signal is not None and finish == INTERRUPTED:
        said += replies[:-1]  # it was struck before its end, and holds what had come by then
    elif calls:
        roles = [message["role"] for message in replies]
        if roles != ["assistant", *["tool"] * len(calls), "assistant"]:
            altered(f"the run's messages are {roles}")
            return
        results = [message["content"] for message in replies[1:-1]]
        if results != [f"noted {call['number']}" for call in calls]:
            altered(f"the tools' results are {results}")
        if (fate.end or {}).get("what") == "acked" and dict(fate.tools) != {call["number"]: 1 for call in calls}:
            altered(f"the tools were run {dict(fate.tools)} times")
        said += replies[:-1]
    elif [message["role"] for message in replies] != ["assistant"]:
        altered(f"{len(replies)} messages behind the question")
        return
    text, whole = replies[-1]["content"], oracle.text_for(said)
    if finish == INTERRUPTED:
        if fate.kind not in ("stop", "cancel", "drop") and fate.signal is None:
            altered("interrupted, though nobody has stopped it")
        if not whole.startswith(text):
            altered(f"{text!r} is not the beginning of {whole!r}")
    elif text != whole:
        altered(f"{text!r} instead of {whole!r}")
    end = fate.end
    if end is None or "shown" not in end:
        return
    if not text.startswith(end["shown"]):
        altered(f"{text!r} is stored, {end['shown']!r} was shown")
    all_shown = end["shown"] == text or fate.kind in ("stop", "cancel")
    if end["what"] == "acked" and (end["text"] != text or not all_shown):
        altered(f"{text!r} is stored, {end['text']!r} was returned, {end['shown']!r} was shown")
