"""The interactive session: each input is a message or a command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from homing import Conversation, HomingError, Reply, ReplyStream, StoreError
from homing.errors import ConfigurationError

from ...core.text.control_characters import strip_controls
from .shelf import Shelf, entitle, listing, summaries

COMMANDS: Mapping[str, str] = {
    "/help": "show this",
    "/regenerate": "ask again for the last reply",
    "/edit": "[N] say something else in place of turn N, the last one if left out; what followed it goes",
    "/undo": "[N] take back the last turn, or N of them",
    "/fork": "go on in a copy; /load brings the original back",
    "/new": "begin another conversation",
    "/list": "show the conversations that are kept",
    "/load": "ID or FILE.json: go on with another one",
    "/save": "[FILE] write it to FILE.json (to /load) or FILE.md (to read); it is kept here anyway",
    "/stats": "show what the last reply and the conversation cost",
    "/quit": "leave; Ctrl-D does the same",
}
_COMMAND = re.compile(r"/[a-z]+(?=\s|$)")
"""``/usr/bin?`` isn't a command. To send a message that looks like one, put a blank before it."""


class Display(Protocol):
    """Where replies and notes go: a `Screen` or a `PlainScreen`."""

    def reply(self, stream: ReplyStream[None]) -> Reply:
        """Show a reply as it arrives. Ctrl-C stops it."""
        ...

    def note(self, text: str) -> None:
        """Show a remark that isn't from the model."""

    def warning(self, text: str) -> None:
        """Show what went wrong."""

    def said(self, role: str, text: str) -> None:
        """Show an earlier message."""

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show rows in columns."""


class Input(Protocol):
    """Where messages come from."""

    def read(self, draft: str = "") -> str:
        """Return the next message; ``draft`` is its initial text. Raises `EOFError` at the end, `KeyboardInterrupt`
        on Ctrl-C."""
        ...


class Talk:
    """The open conversation, and the commands that act on it."""

    def __init__(self, shelf: Shelf, chat: Conversation, screen: Display) -> None:
        self.chat = chat
        self._shelf = shelf
        self._screen = screen
        self._draft = ""
        self._editing: int | None = None
        self._last: Reply | None = None

    def run(self, source: Input) -> None:
        """Process input until the user quits."""
        while True:
            draft, self._draft = self._draft, ""
            try:
                text = source.read(draft)
            except EOFError:
                return
            except KeyboardInterrupt:
                self._editing = None
                self._screen.note("Ctrl-D or /quit leaves")
                continue
            if not self.take(text):
                return

    def take(self, text: str) -> bool:
        """Send ``text`` or run it as a command. Return whether the session continues."""
        command = _COMMAND.match(text)
        try:
            if command is None:
                self._say(text.strip())
                return True
            self._editing = None
            if command[0] == "/quit":
                return False
            self._command(command[0], text[command.end() :].strip())
        except HomingError as error:
            self._screen.warning(str(error))
        except KeyboardInterrupt:
            self._screen.note("stopped")
        return True

    def _say(self, text: str) -> None:
        at, self._editing = self._editing, None
        if not text:
            return
        entitle(self.chat, text)
        try:
            self._show(self.chat.stream(text) if at is None else self.chat.stream_edit(at, text))
        except HomingError as error:
            if not (isinstance(error, StoreError) and error.reply is not None):
                # The turn wasn't recorded; what had arrived is on the screen.
                self._draft, self._editing = text, at
            raise

    def _show(self, stream: ReplyStream[None]) -> None:
        self._last = self._screen.reply(stream)

    def _command(self, name: str, argument: str) -> None:
        does: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/regenerate": lambda _: self._show(self.chat.stream_regenerate()),
            "/edit": self._edit,
            "/undo": self._undo,
            "/fork": self._fork,
            "/new": lambda _: self._open(self._shelf.new()),
            "/list": lambda _: self._screen.table(listing(summaries(self._shelf.store))),
            "/load": self._load,
            "/save": self._save,
            "/stats": lambda _: self._screen.table(stats(self.chat, self._last)),
        }
        if name not in does:
            raise ConfigurationError(f"there is no {name}: see /help, or put a blank before it to say it")
        does[name](argument)

    def _help(self, _: str) -> None:
        self._screen.table(list(COMMANDS.items()))
        self._screen.note("Enter sends, Alt-Enter begins a new line, Tab completes, Ctrl-C stops a reply and keeps it")

    def _edit(self, argument: str) -> None:
        turns = self.chat.turns
        at = _number(argument, len(turns)) - 1
        if not 0 <= at < len(turns):
            raise ConfigurationError(f"there is no turn {at + 1}: there are {len(turns)}")
        content = turns[at].messages[0].get("content")
        self._draft, self._editing = strip_controls(content) if isinstance(content, str) else "", at
        self._screen.note(f"turn {at + 1} of {len(turns)}; Ctrl-C leaves it as it is")

    def _undo(self, argument: str) -> None:
        undone = self.chat.undo(_number(argument, 1))
        self._screen.note(f"took back {_turns(len(undone))}; {_turns(len(self.chat.turns))} left")

    def _fork(self, _: str) -> None:
        origin = self.chat
        fork = origin.fork()
        fork.metadata = {**origin.metadata, "title": f"{origin.metadata.get('title') or origin.id} (fork)"}
        fork.save()
        self.chat = fork
        self._screen.note(f"conversation {fork.id}, a fork of {origin.id}, which stays as it is")

    def _load(self, argument: str) -> None:
        if not argument:
            raise ConfigurationError("say which: /load ID (see /list) or /load FILE.json")
        path = Path(argument).expanduser()
        self._open(self._shelf.read(path) if path.suffix == ".json" else self._shelf.load(argument))

    def _open(self, chat: Conversation) -> None:
        self.chat, self._last = chat, None
        self.greet()

    def greet(self) -> None:
        """Show which conversation is open, and its last turn."""
        self._screen.note(f"conversation {self.chat.id}; /help says what can be done")
        if self.chat.turns:
            for message in self.chat.turns[-1].messages:
                if message.get("role") in ("user", "assistant") and isinstance(message.get("content"), str):
                    self._screen.said(message["role"], message["content"])

    def _save(self, argument: str) -> None:
        if not argument:
            self.chat.save()
            self._screen.note(f"kept as {self.chat.id}")
            return
        path = Path(argument).expanduser()
        if path.suffix not in (".json", ".md"):
            raise ConfigurationError("say FILE.json, which /load reads, or FILE.md, for people")
        data = json.dumps(self.chat.to_dict(), ensure_ascii=False, indent=1) + "\n"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(data if path.suffix == ".json" else self.chat.transcript() + "\n")
        except FileExistsError:
            raise ConfigurationError(f"{path} is there already: choose another name") from None
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
        self._screen.note(f"written to {path}")


def stats(chat: Conversation, last: Reply | None) -> list[tuple[str, ...]]:
    """Return what the last reply and the whole conversation cost, as rows. Pure."""
    totals = chat.totals
    share = "unknown" if totals.cached_share is None else f"{totals.cached_share:.0%}"
    rows: list[tuple[str, ...]] = [
        ("conversation", chat.id),
        ("affinity key", chat.affinity_key),
        ("turns", str(len(chat.turns))),
        ("since it was opened", f"{totals.replies} replies, {totals.prompt_tokens} prompt tokens, {share} cached"),
    ]
    if last is not None:
        told = last.telemetry
        tokens = (told.completion_tokens, told.prompt_tokens, told.cached_tokens)
        rows += [
            ("last reply", f"verdict {told.verdict}, replica {told.replica or 'unknown'}"),
            ("  tokens", "{} after {}, of which {} cached".format(*map(_known, tokens))),
            ("  first token", _seconds(told.time_to_first_token)),
            ("  gaps p50, p99", f"{_seconds(told.gap_p50)}, {_seconds(told.gap_p99)}"),
            ("  waited", f"{told.waited:.1f} s, {told.retries} retries, {told.resumes} resumed"),
        ]
    return rows


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.3f} s"


def _turns(count: int) -> str:
    return f"{count} turn{'s' * (count != 1)}"


def _number(argument: str, default: int) -> int:
    try:
        return int(argument) if argument else default
    except ValueError:
        raise ConfigurationError(f"{argument!r} is no number of turns") from None
