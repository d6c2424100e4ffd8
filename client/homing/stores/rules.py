"""The rules that every store shares, without any I/O.

This module decides what a valid commit is, when to reject it, how many turns to keep, how to encode
values and how a page ends, so that a dictionary, SQLite, Redis and PostgreSQL cannot disagree.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError, StoreError, VersionConflict
from .base import MAX_PAGE, ConversationSummary, Header, Page, StoredConversation, Turn

MAX_ID_LENGTH = 255
"""Characters. MySQL indexes at most 3072 bytes, and a character may take four."""

FIRST_VERSION_BITS = 31
"""First versions are random numbers with this many bits. A recreated conversation continues the count of
the deleted one with a chance of one in two billion, and 64 bits leave room to count."""

END_OF_TIME = 2**53
"""Microseconds. Greater than every timestamp, and still exact in a double."""

AFTER_EVERY_ID = "\U0010ffff"
"""Greater than every possible id: no character is greater, and this one is not printable."""

logger = logging.getLogger("homing.stores")


@dataclass(frozen=True, slots=True)
class StoredState:
    """The part of a conversation's latest state that a commit depends on."""

    version: int
    turn_count: int

    @classmethod
    def found(cls, conversation_id: str, version: object, turn_count: object) -> StoredState:
        """Check the values from the store. Raises `StoreError` if they are damaged."""
        return cls(_whole(conversation_id, "version", version), _whole(conversation_id, "turn count", turn_count))


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What a commit does to the stored conversation: keep ``kept`` turns, then append."""

    version: int
    kept: int
    turn_count: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit with checked arguments and encoded values."""

    id: str
    expected_version: int
    header: str | None
    keep: int | None
    turns: tuple[str, ...]
    first_version: int

    @classmethod
    def checked(
        cls,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None,
        keep: int | None,
        turns: Sequence[Turn],
    ) -> Commit:
        """Check and encode the arguments of `Store.commit`."""
        check_count("expected_version", expected_version)
        if keep is not None:
            check_count("keep", keep)
        return cls(
            id=checked_id(conversation_id),
            expected_version=expected_version,
            header=None if header is None else encode("header", header),
            keep=keep,
            turns=tuple(encode(f"turns[{index}]", turn) for index, turn in enumerate(turns)),
            first_version=1 + secrets.randbits(FIRST_VERSION_BITS),
        )

    def against(self, head: StoredState | None) -> CommitPlan:
        """Decide what this change does to the stored conversation. Raises if it is rejected."""
        if self.expected_version != (head.version if head else 0):
            raise self.conflict(head)
        turn_count = head.turn_count if head else 0
        kept = turn_count if self.keep is None else self.keep
        if kept > turn_count:
            raise ConfigurationError(
                f"keep={kept}, but the conversation has {turn_count} turns: give at most that, or None for all"
            )
        return CommitPlan(
            version=head.version + 1 if head else self.first_version,
            kept=kept,
            turn_count=kept + len(self.turns),
        )

    def conflict(self, head: StoredState | None) -> VersionConflict:
        """Return the error that explains a rejection to the caller."""
        expected, name = self.expected_version, repr(self.id)
        if head is None:
            message = f"conversation {name} was deleted: expected version {expected}. Start it anew with 0"
        elif expected == 0:
            message = f"conversation {name} exists already. Load it and build on version {head.version}"
        else:
            message = (
                f"conversation {name} has moved on: expected version {expected}, found {head.version}. "
                "Load it again, then retry"
            )
        return VersionConflict(message, expected=expected, found=head.version if head else None)


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation without its turns, as stored: header encoded, times in microseconds."""

    id: str
    version: int
    header: str
    turn_count: int
    created_at: int
    updated_at: int

    def summary(self) -> ConversationSummary:
        """Decode it for a listing. Raises `StoreError` if it is damaged."""
        if not isinstance(self.id, str) or not _is_text(self.id):
            raise damaged(repr(self.id), "its id is no text")
        return ConversationSummary(
            id=self.id,
            version=_whole(self.id, "version", self.version),
            header=_decoded(self.id, "header", self.header),
            turn_count=_whole(self.id, "turn count", self.turn_count),
            created_at=seconds(_whole(self.id, "time of creation", self.created_at)),
            updated_at=seconds(_whole(self.id, "time of the latest commit", self.updated_at)),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation with its turns, as stored."""

    row: Row
    turns: Sequence[str]

    def conversation(self) -> StoredConversation:
        """Decode it. Raises `StoreError` if it is damaged."""
        summary = self.row.summary()
        if summary.turn_count != len(self.turns):
            raise damaged(summary.id, f"of {summary.turn_count} turns {len(self.turns)} are there")
        return StoredConversation(
            id=summary.id,
            version=summary.version,
            header=summary.header,
            turns=[_decoded(summary.id, f"turn {index}", turn) for index, turn in enumerate(self.turns)],
            created_at=summary.created_at,
            updated_at=summary.updated_at,
        )


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a listing: everything after it was created earlier, or has a smaller id."""

    created_at: float  # whole, unless the row is damaged
    id: str

    @classmethod
    def of(cls, row: Row) -> Position:
        """The position of a row, even if damaged: bytes sort before all text, and ids are cut at invalid UTF-8."""
        name = row.id if isinstance(row.id, str) else AFTER_EVERY_ID
        sound = next((end for end, letter in enumerate(name) if "\ud800" <= letter <= "\udfff"), len(name))
        return cls(max(row.created_at, -END_OF_TIME), name[:sound])

    def cursor(self) -> str:
        """Encode it for the caller, who must not rely on its format."""
        return base64.urlsafe_b64encode(json.dumps([self.created_at, self.id]).encode()).decode()


START = Position(END_OF_TIME, "")


def position_of(cursor: str | None) -> Position:
    """Decode a cursor. None means the start of the listing."""
    if cursor is None:
        return START
    created_at: Any
    conversation_id: Any
    try:
        created_at, conversation_id = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (AttributeError, ValueError, TypeError, binascii.Error):
        created_at = conversation_id = None
    if (
        type(created_at) not in (int, float)
        or not abs(created_at) <= END_OF_TIME
        or type(conversation_id) is not str
        or not _is_text(conversation_id)
    ):
        raise ConfigurationError(f"cursor={cursor!r} is not one: give the next_cursor of the page before")
    return Position(created_at, conversation_id)


def page_of(rows: Sequence[Row], limit: int) -> Page:
    """Make a page of up to ``limit`` rows from a query for ``limit + 1``.

    A damaged row affects only itself: it is left out, a warning names it, and the cursor continues after it.
    """
    last = rows[limit - 1] if len(rows) > limit else None
    items: list[ConversationSummary] = []
    for row in rows[:limit]:
        try:
            items.append(row.summary())
        except StoreError as error:
            logger.warning("Left out of a listing: %s", error)
    return Page(items, next_cursor=Position.of(last).cursor() if last else None)


def checked_id(conversation_id: str) -> str:
    """Reject an id that some store could confuse with another one.

    Databases pad, cut or reject spaces and control characters in keys, each in its own way.
    """
    if (
        not isinstance(conversation_id, str)
        or not 1 <= len(conversation_id) <= MAX_ID_LENGTH
        or not conversation_id.isprintable()
        or " " in conversation_id
    ):
        raise ConfigurationError(
            f"conversation_id={conversation_id!r}: give 1 to {MAX_ID_LENGTH} printable characters without spaces"
        )
    return conversation_id


def checked_limit(limit: int) -> int:
    """Reject an invalid page size."""
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise ConfigurationError(f"limit={limit!r}: ask for 1 to {MAX_PAGE} conversations per page")
    return limit


def check_count(name: str, value: int) -> None:
    """Reject anything but a whole number of 0 or more; True doesn't count as 1."""
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{name}={value!r}: give a whole number, 0 or more")


def encode(name: str, value: object) -> str:
    """Encode a JSON object; errors refer to it as ``name``.

    Keys keep their order: the next prompt is rebuilt from them, and a changed byte would
    lose the replica's cached prefix. Half a surrogate pair, left by a stream that was cut inside an
    emoji, has no UTF-8 form; such a value is encoded with ASCII escapes.
    """
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name} is {type(value).__name__}: give a JSON object (a dict)")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not plain JSON data: {error}") from error
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def decode(text: str) -> dict[str, Any]:
    """Decode the result of `encode`. Raises `ValueError` for anything else."""
    if not isinstance(text, str):
        raise ValueError(f"{type(text).__name__} instead of text")
    if not _is_text(text):
        raise ValueError("not UTF-8")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("JSON, but no object")
    return value


def _is_text(text: str) -> bool:
    """Whether the text has a UTF-8 form. Invalid bytes are decoded as surrogates, which have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def damaged(conversation_id: str, what: str) -> StoreError:
    """Return an error that says which conversation is damaged and how, without its content."""
    error = StoreError(
        f"conversation {conversation_id!r} is damaged in the store ({what}): restore it from a backup, or delete it"
    )
    error.conversation_id = conversation_id
    return error


def _decoded(conversation_id: str, name: str, text: str) -> dict[str, Any]:
    try:
        return decode(text)
    except ValueError as error:
        raise damaged(conversation_id, f"{name}: {error}") from None  # the cause's `doc` would hold the whole text


def _whole(conversation_id: str, name: str, value: object) -> int:
    """Check a number from the store, because SQLite accepts any value in any column."""
    if type(value) is not int or abs(value) >= 2**63:
        raise damaged(conversation_id, f"{name}: no whole number")
    return value


def microseconds(moment: float) -> int:
    """Convert seconds to whole microseconds, which every database stores exactly, unlike a float."""
    return round(moment * 1_000_000)


def checked_moment(name: str, moment: float) -> int:
    """Return a time in microseconds. Raises `ConfigurationError` if it is not a valid number."""
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not abs(moment) < END_OF_TIME / 1e6:
        raise ConfigurationError(f"{name}={moment!r}: give seconds since the epoch, as time.time() does")
    return microseconds(moment)


def seconds(moment: int) -> float:
    """The inverse of `microseconds`."""
    return moment / 1_000_000
