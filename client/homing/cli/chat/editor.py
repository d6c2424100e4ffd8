"""The input line: multi-line text, history and completion, by prompt_toolkit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from homing.errors import ConfigurationError

try:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
except ImportError:
    raise ConfigurationError("homing chat needs prompt_toolkit: pip install 'homing[cli]'") from None

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document


class Editor:
    """Reads the user's messages. Enter sends, Alt-Enter starts a new line, pasted text stays in one piece.

    Args:
        history: File that keeps earlier input, readable only by the user; None keeps it in memory.
        commands: The ``/`` commands, each with its summary.
        ids: Returns the conversations that ``/load`` can open.
    """

    def __init__(self, history: Path | None, *, commands: Mapping[str, str], ids: Callable[[], Iterable[str]]) -> None:
        if history is not None:
            history.touch(mode=0o600)
        keys = KeyBindings()
        keys.add("enter")(_send)
        keys.add("escape", "enter")(_new_line)
        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="… ",
            history=InMemoryHistory() if history is None else FileHistory(str(history)),
            completer=_Commands(commands, ids),
            complete_while_typing=False,
            key_bindings=keys,
            enable_open_in_editor=True,
        )

    def read(self, draft: str = "") -> str:
        """Return the message, once sent. ``draft`` is the initial text of the line.

        Raises `KeyboardInterrupt` for Ctrl-C and `EOFError` for Ctrl-D on an empty line.
        """
        return self._session.prompt(default=draft)


def _send(event: KeyPressEvent) -> None:
    event.current_buffer.validate_and_handle()


def _new_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


class _Commands(Completer):
    def __init__(self, commands: Mapping[str, str], ids: Callable[[], Iterable[str]]) -> None:
        self._commands = commands
        self._ids = ids

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        if typed.startswith("/load "):
            begun = typed.removeprefix("/load ")
            yield from (Completion(one, -len(begun)) for one in self._ids() if one.startswith(begun))
        elif typed.startswith("/"):
            for name, summary in self._commands.items():
                if name.startswith(typed):
                    yield Completion(name, -len(typed), display_meta=summary)
