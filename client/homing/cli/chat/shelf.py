"""The conversations that ``homing chat`` keeps."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from homing import Client, Conversation, ConversationNotFound
from homing.errors import ConfigurationError
from homing.stores import ConversationSummary, MemoryStore, SQLiteStore, Store
from homing.stores.base import MAX_PAGE

from ...core.text.control_characters import strip_controls

TITLE = 48
"""Characters of the first question that serve as the conversation's title, to fit on one line of a list."""

NAME = 8
"""Characters of a generated id: enough for one person's conversations, and checked for being free."""


def folder() -> Path:
    """Return the folder of this user's conversations, which only the user can read. It is created if missing."""
    path = default_file().parent
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def default_file() -> Path:
    """Return the default file for conversations."""
    return Path(click.get_app_dir("homing"), "chats.db")


def open_store(path: Path | None, *, private: bool) -> Store:
    """Return the store that the command-line options select."""
    if private:
        return MemoryStore()
    if path is None:
        folder()
        path = default_file()
    return SQLiteStore(path)


def entitle(chat: Conversation, text: str) -> None:
    """Derive the title of an untitled conversation from its first message."""
    if not chat.metadata.get("title"):
        chat.metadata["title"] = title_of(text)


def title_of(text: str) -> str:
    """Return the title of a conversation that begins with ``text``. Pure."""
    line = " ".join(strip_controls(text).split())
    return line if len(line) <= TITLE else line[: TITLE - 1].rstrip() + "…"


class Shelf:
    """Creates and finds conversations in ``store``."""

    def __init__(
        self, client: Client, store: Store, *, system: str | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.client = client
        self.store = store
        self._system = system
        self._params = dict(params or {})

    def new(self) -> Conversation:
        """Create a conversation with an id that is short enough to type."""
        while True:
            name = secrets.token_hex(NAME // 2)
            if self.store.load(name) is None:
                return self.open(name)

    def load(self, conversation_id: str) -> Conversation:
        """Open an existing conversation. Raises `ConversationNotFound`."""
        return self.client.load_conversation(conversation_id, store=self.store, **self._params)

    def open(self, conversation_id: str) -> Conversation:
        """Open the conversation with this id, or create it."""
        chat = self.client.conversation(conversation_id, system=self._system, store=self.store, **self._params)
        try:
            chat.reload()
        except ConversationNotFound:
            pass  # it is new, and its first turn creates it in the store
        return chat

    def last(self) -> Conversation:
        """Open the most recently used conversation. Raises `ConfigurationError` if there is none."""
        kept = summaries(self.store)
        if not kept:
            raise ConfigurationError("there is no conversation yet to go on with: leave --last out")
        return self.load(kept[0].id)

    def read(self, path: Path) -> Conversation:
        """Import a conversation from a file that ``/save`` wrote, under a new id if its own is taken.

        Raises `ConfigurationError` if the file can't be read or isn't one of these.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}") from None
        if not isinstance(data, dict):
            raise ConfigurationError(f"{path} holds no conversation: /save FILE.json writes one")
        if data.get("id") is not None and self.store.load(data["id"]) is not None:
            del data["id"]
        chat = Conversation.from_dict(self.client, data, store=self.store)
        chat.save()
        return chat


def summaries(store: Store) -> list[ConversationSummary]:
    """Return all conversations, most recently used first."""
    found: list[ConversationSummary] = []
    cursor: str | None = None
    while True:
        page = store.list(limit=MAX_PAGE, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found, key=lambda summary: -summary.updated_at)


def ids(store: Store) -> list[str]:
    """Return the ids to offer as completions: those that can be typed."""
    return [one.id for one in summaries(store) if one.id.isprintable()]


def listing(kept: Iterable[ConversationSummary]) -> list[tuple[str, ...]]:
    """Return a table of conversations: id, turns, last use, title."""
    rows: list[tuple[str, ...]] = [("id", "turns", "last used", "title")]
    for one in kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated_at))
        title = str((one.header.get("metadata") or {}).get("title") or "")
        rows.append((one.id, str(one.turn_count), used, title))
    return rows
