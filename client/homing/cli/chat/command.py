"""The command and its options, and whether it runs interactively or in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from homing import Conversation
from homing.errors import ConfigurationError
from homing.stores import Store

from ..changes import parse_changes
from ..connection import Server, server_options
from ..output import columns, say, say_json
from ..wait import TIMEOUT
from .plain import PlainScreen, reply_as_data
from .shelf import Shelf, default_file, entitle, folder, ids, listing, open_store, summaries
from .talk import COMMANDS, Display, Talk

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 plus the number of SIGINT, as in shells."""


def _ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    path = Path(context.params.get("store_path") or default_file())
    if not path.exists():  # completing must not create it
        return []
    with open_store(path, private=False) as store:
        return [CompletionItem(one) for one in ids(store) if one.startswith(incomplete)]


@click.command()
@click.argument("prompt", nargs=-1)
@server_options
@click.option("--id", "chat_id", shell_complete=_ids, help="Go on with this conversation, or begin it by this name.")
@click.option("--last", is_flag=True, help="Go on with the conversation that was used last.")
@click.option("--list", "listed", is_flag=True, help="Show the conversations that are kept, and end.")
@click.option("--delete", "deleted", metavar="ID", shell_complete=_ids, help="Delete a conversation, and end.")
@click.option("--system", help="System prompt of a new conversation.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Parameter of the model; repeat it.")
@click.option("--lines", is_flag=True, help="Each line of the standard input is a turn of its own.")
@click.option("--plain", is_flag=True, help="No Markdown, no colour, no reasoning: the answer as it comes.")
@click.option("--json", "as_json", is_flag=True, help="Print each reply as a line of JSON.")
@click.option("--private", is_flag=True, help="Keep nothing: no conversation, no history of what was typed.")
@click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HOMING_CHATS",
    help="SQLite file of the conversations.  [env: HOMING_CHATS; default: chats.db in the user's folder for homing]",
)
@click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait for a cold server.")
def chat(
    server: Server, store_path: Path | None, private: bool, listed: bool, deleted: str | None, **rest: Any
) -> None:
    """Talk to the model: at the terminal, or PROMPT and standard input in a pipe.

    At a terminal without PROMPT it is a conversation: /help says what can be done. Otherwise PROMPT and what
    comes through the standard input are said together, as one turn (--lines: a turn for each line), and the
    answer goes to the standard output. Conversations are kept: --list, --last, --id.
    """
    with open_store(store_path, private=private) as store:
        if listed:
            _list(store, as_json=rest["as_json"])
        elif deleted is not None:
            if not store.delete(deleted):
                raise ConfigurationError(f"there is no conversation {deleted!r}: see --list")
        else:
            _talk(server, store, private=private, **rest)


def _list(store: Store, *, as_json: bool) -> None:
    kept = summaries(store)
    if as_json:
        found = [
            {"id": one.id, "turns": one.turn_count, "updated_at": one.updated_at, "title": _title(one.header)}
            for one in kept
        ]
        say_json(found)
        return
    for line in columns(listing(kept)):
        say(line)


def _title(header: dict[str, Any]) -> str | None:
    title: str | None = (header.get("metadata") or {}).get("title")
    return title


def _talk(
    server: Server,
    store: Store,
    *,
    prompt: tuple[str, ...],
    chat_id: str | None,
    last: bool,
    system: str | None,
    changes: tuple[str, ...],
    lines: bool,
    plain: bool,
    as_json: bool,
    private: bool,
    timeout: float,
) -> None:
    if last and chat_id is not None:
        raise click.UsageError("--last and --id name two conversations: give one of them")
    typed = sys.stdin.isatty()
    with server.client(cold_start_timeout=timeout) as client:
        shelf = Shelf(client, store, system=system, params=parse_changes(changes))
        talk = shelf.last() if last else shelf.new() if chat_id is None else shelf.open(chat_id)
        if system is not None and talk.turns and talk.system != system:
            say("The conversation has begun with another system prompt, which stands.", err=True)
        if typed and sys.stdout.isatty() and not (prompt or as_json or lines):
            _converse(shelf, talk, private=private, plain=plain)
            return
        said = False
        for text in _texts(prompt, lines=lines, typed=typed):
            said = True
            _say(talk, text, plain=plain, as_json=as_json)
        if not said:
            raise click.UsageError("nothing to say: give a PROMPT, or text through the standard input")


def _texts(prompt: tuple[str, ...], *, lines: bool, typed: bool) -> Iterator[str]:
    asked = " ".join(prompt)
    if lines:
        if asked:
            yield asked
        yield from filter(None, (line.strip() for line in sys.stdin))
        return
    piped = "" if typed and asked else sys.stdin.read().strip()
    whole = "\n\n".join(filter(None, (asked, piped)))
    if whole:
        yield whole


def _say(talk: Conversation, text: str, *, plain: bool, as_json: bool) -> None:
    """Send ``text`` and print the reply. Raises `click.exceptions.Exit` if the reply is incomplete."""
    entitle(talk, text)
    if as_json:
        told = reply_as_data(talk, text)
        say_json(told)
        if "error" in told:
            raise click.exceptions.Exit(1)
        stopped = told["finish_reason"] == "interrupted"
    else:
        stopped = _display(plain=plain).reply(talk.stream(text)).interrupted
    if stopped:
        raise click.exceptions.Exit(INTERRUPTED)


def _display(*, plain: bool) -> Display:
    if plain or not sys.stdout.isatty():
        return PlainScreen()
    from .screen import Screen, console

    return Screen(console())


def _converse(shelf: Shelf, talk: Conversation, *, private: bool, plain: bool) -> None:
    from .editor import Editor

    history = None if private else folder() / "history"
    editor = Editor(history, commands=COMMANDS, ids=lambda: ids(shelf.store))
    session = Talk(shelf, talk, _display(plain=plain))
    session.greet()
    session.run(editor)
