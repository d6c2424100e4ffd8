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
"""Characters of a first question that name its conversation: one line of a list."""

NAME = 8
"""Characters of a name that was made up: enough for one person's conversations, and it is looked up first."""


def folder() -> Path:
    """Return the folder of this user's conversations, readable by them only; made if it is missing."""
    path = default_file().parent
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def default_file() -> Path:
    """Return where conversations are kept unless the user says otherwise."""
    return Path(click.get_app_dir("homing"), "chats.db")


def open_store(path: Path | None, *, private: bool) -> Store:
    """Return the store that the command line asks for."""
    if private:
        return MemoryStore()
    if path is None:
        folder()
        path = default_file()
    return SQLiteStore(path)


def entitle(chat: Conversation, text: str) -> None:
    """Name a conversation without a name by what is said first."""
    if not chat.metadata.get("title"):
        chat.metadata["title"] = title_of(text)


def title_of(text: str) -> str:
    """Return the name of the conversation that begins with ``text``. Pure."""
    line = " ".join(strip_controls(text).split())
    return line if len(line) <= TITLE else line[: TITLE - 1].rstrip() + "…"


class Shelf:
    """Begins and finds conversations in ``store``."""

    def __init__(
        self, client: Client, store: Store, *, system: str | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.client = client
        self.store = store
        self._system = system
        self._params = dict(params or {})

    def new(self) -> Conversation:
        """Begin a conversation, under a name that is short enough to be typed."""
        while True:
            name = secrets.token_hex(NAME // 2)
            if self.store.load(name) is None:
                return self.open(name)

    def load(self, conversation_id: str) -> Conversation:
        """Go on with one. Raises `ConversationNotFound`."""
        return self.client.load_conversation(conversation_id, store=self.store, **self._params)

    def open(self, conversation_id: str) -> Conversation:
        """Go on with one, or begin it under this name."""
        chat = self.client.conversation(conversation_id, system=self._system, store=self.store, **self._params)
        try:
            chat.reload()
        except ConversationNotFound:
            pass  # then it is new, and the first turn makes it
        return chat

    def last(self) -> Conversation:
        """Go on with the one that was used last. Raises `ConfigurationError` when there is none."""
        kept = summaries(self.store)
        if not kept:
            raise ConfigurationError("there is no conversation yet to go on with: leave --last out")
        return self.load(kept[0].id)

    def read(self, path: Path) -> Conversation:
        """Take in a conversation from a file that ``/save`` wrote; as a copy where its name is taken.

        Raises `ConfigurationError` for what is no such file.
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
    """Return all conversations, the one used last first."""
    found: list[ConversationSummary] = []
    cursor: str | None = None
    while True:
        page = store.list(limit=MAX_PAGE, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found, key=lambda summary: -summary.updated_at)


def ids(store: Store) -> list[str]:
    """Return the ids that a shell, or the line being typed, may be offered: those that can be typed."""
    return [one.id for one in summaries(store) if one.id.isprintable()]


def listing(kept: Iterable[ConversationSummary]) -> list[tuple[str, ...]]:
    """Return a table of them: id, turns, last use, title."""
    rows: list[tuple[str, ...]] = [("id", "turns", "last used", "title")]
    for one in kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated_at))
        title = str((one.header.get("metadata") or {}).get("title") or "")
        rows.append((one.id, str(one.turn_count), used, title))
    return rows
