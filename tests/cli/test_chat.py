"""``homing chat`` beside its looks: what is said, kept, written to a pipe, and survives."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from homing import Client
from homing.cli.app import homing
from homing.cli.chat.plain import PlainScreen
from homing.cli.chat.shelf import Shelf, summaries, title_of
from homing.cli.chat.talk import Talk
from homing.stores import MemoryStore, SQLiteStore
from homing_server.local import Answer, Edge, EdgeSettings, EngineSettings, Fault

from .command import CLEAN
from .terminal import Terminal


@pytest.fixture
def edge_settings() -> EdgeSettings:
    return EdgeSettings.instant(engine=EngineSettings(thinking=True))


class Person:
    """Types what a test says, and notes what stood on the line before."""

    def __init__(self, *lines: str | BaseException) -> None:
        self._lines = list(lines)
        self.drafts: list[str] = []

    def read(self, draft: str = "") -> str:
        self.drafts.append(draft)
        if not self._lines:
            raise EOFError
        line = self._lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line


class Session:
    """A talk whose screen can be read."""

    def __init__(self, client: Client) -> None:
        self.out, self.notes = io.StringIO(), io.StringIO()
        self.shelf = Shelf(client, MemoryStore())
        self.talk = Talk(self.shelf, self.shelf.open("first"), PlainScreen(self.out, self.notes))

    def type(self, *lines: str | BaseException) -> Person:
        person = Person(*lines)
        self.talk.run(person)
        return person

    @property
    def said(self) -> list[str]:
        return [str(message["content"]) for message in self.talk.chat.history]


@pytest.fixture
def session(edge: Edge, homing_client: Client) -> Session:
    edge.answer_next(*(Answer(f"Answer {number}.") for number in range(1, 9)))
    return Session(homing_client)


def test_turns_can_be_taken_back_asked_again_and_said_otherwise(session: Session) -> None:
    session.type("One?", "Two?")
    assert session.said == ["One?", "Answer 1.", "Two?", "Answer 2."]
    session.type("/regenerate")
    assert session.said == ["One?", "Answer 1.", "Two?", "Answer 3."]
    person = session.type("/edit 1", "Uno?")
    assert person.drafts == ["", "One?", ""]
    assert session.said == ["Uno?", "Answer 4."]
    session.type("Due?", "/undo")
    assert session.said == ["Uno?", "Answer 4."]
    assert "took back 1 turn; 1 turn left" in session.notes.getvalue()
    person = session.type("/edit", KeyboardInterrupt(), "Tre?")  # left as it was
    assert session.said == ["Uno?", "Answer 4.", "Tre?", "Answer 6."]


def test_forks_and_other_conversations(session: Session) -> None:
    session.type("One?")
    key = session.talk.chat.affinity_key
    session.type("/fork", "Two?")
    fork = session.talk.chat
    assert (fork.affinity_key, session.said) == (key, ["One?", "Answer 1.", "Two?", "Answer 2."])
    session.type("/load first")
    assert session.said == ["One?", "Answer 1."]
    session.type("/new", "Who?", "/list")
    listed = session.out.getvalue()
    assert {one.id for one in summaries(session.shelf.store)} == {"first", fork.id, session.talk.chat.id}
    assert "One? (fork)" in listed
    assert "Who?" in listed
    assert len(session.talk.chat.id) == 8
    session.type("/load nobody")
    assert "no conversation 'nobody'" in session.notes.getvalue()
    assert session.said == ["Who?", "Answer 3."], "and the one that was open still is"


def test_files(session: Session, tmp_path: Path) -> None:
    file, page = tmp_path / "trip.json", tmp_path / "trip.md"
    session.type("One?", f"/save {file}", f"/save {page}", "/save", f"/save {tmp_path}/trip.txt", f"/save {file}")
    assert "**assistant**\n\nAnswer 1." in page.read_text()
    notes = session.notes.getvalue()
    assert "kept as first" in notes
    assert "say FILE.json" in notes
    assert "is there already: choose another name" in notes
    key = session.talk.chat.affinity_key
    session.type(f"/load {file}")
    assert session.talk.chat.id != "first", "there was one of that name: it is a copy"
    assert session.talk.chat.affinity_key == key
    assert session.said == ["One?", "Answer 1."]
    assert session.out.getvalue().endswith("> One?\nAnswer 1.\n"), "where it stood is shown"
    page.rename(tmp_path / "page.json")
    session.type(f"/load {tmp_path}/page.json", f"/load {tmp_path}/none.json", "/load", f"/save {tmp_path}/no/a.json")
    notes = session.notes.getvalue()
    assert notes.count("cannot be read") == 2
    assert "cannot be written" in notes
    assert "say which" in notes


def test_what_is_typed_wrong_loses_nothing(session: Session) -> None:
    session.type("One?", "/dance", "/undo x", "/edit 7", "/edit 0", "  ", "/help", "/stats", "/quit", "not said")
    notes = session.notes.getvalue()
    for told in ("there is no /dance", "'x' is no number", "there is no turn 7", "there is no turn 0", "Alt-Enter"):
        assert told in notes
    assert session.said == ["One?", "Answer 1."]
    assert "replica r" in session.out.getvalue()
    session.type(" /dance", "/usr/bin?")
    assert session.said[2::2] == ["/dance", "/usr/bin?"]


def test_a_message_that_failed_stands_on_the_line_again(session: Session, edge: Edge) -> None:
    session.type("One?")
    edge.inject(Fault.raw(b'{"error": {"message": "no such luck"}}', status=400))
    person = session.type("Two?")
    assert person.drafts == ["", "Two?"]
    assert "no such luck" in session.notes.getvalue()
    assert session.said == ["One?", "Answer 1."]


def press(when: Callable[[], object]) -> threading.Thread:
    """Press Ctrl-C in this process when ``when`` returns."""

    def wait() -> None:
        when()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_while_a_replica_is_waited_for(session: Session, edge: Edge) -> None:
    edge.hold_cold()
    pressing = press(lambda: edge.wait_for(lambda edge: len(edge.log) >= 1))
    session.type("Anybody?")
    pressing.join()
    assert session.talk.chat.turns[-1].interrupted
    edge.become_ready(1)
    session.type("/regenerate")
    assert session.said == ["Anybody?", "Answer 1."]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- in a pipe ------------------------------------------------------------------------------------


@pytest.fixture
def chat(edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run ``homing chat`` in a pipe, with a folder of its own."""
    for name in {*os.environ} - {*CLEAN}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*arguments: str, said: str = "") -> Result:
        return CliRunner().invoke(homing, ["chat", "--url", edge.url, *arguments], input=said)

    return run  # type: ignore[return-value]


def asked(edge: Edge) -> list[Any]:
    return [(record.request or {})["messages"][-1]["content"] for record in edge.log if record.request]


def test_a_prompt_and_the_standard_input_are_one_turn(edge: Edge, chat: Callable[..., Result]) -> None:
    edge.answer_next(Answer("# Plain\n\x1b[2J", reasoning="Hm."))
    done = chat("Explain", "this:", said="a diff\nof lines\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "# Plain\n\x1b[2J\n", "")
    assert asked(edge) == ["Explain this:\n\na diff\nof lines"]


def test_each_line_a_turn_and_json(edge: Edge, chat: Callable[..., Result]) -> None:
    options = ["--id", "trip", "--system", "Terse.", "--set", "max_tokens=9"]
    done = chat("--lines", "--json", *options, said="One?\n\nTwo?\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["id"], first["finish_reason"], first["telemetry"]["verdict"]) == ("trip", "length", "first")
    assert first["reasoning"]
    assert second["telemetry"]["verdict"] == "warm"
    assert asked(edge) == ["One?", "Two?"]
    done = chat("--id", "trip", "--system", "Wordy.", "Three?")
    assert "another system prompt, which stands" in done.stderr
    assert edge.log[-1].request is not None
    assert edge.log[-1].request["messages"][0]["content"] == "Terse."
    assert edge.log[-1].request["max_tokens"] == 9, "so do the parameters"
    [kept] = json.loads(chat("--list", "--json").stdout)
    assert (kept["id"], kept["turns"], kept["title"]) == ("trip", 3, "One?")


def test_errors_in_a_pipe_keep_what_had_come(edge: Edge, chat: Callable[..., Result]) -> None:
    edge.answer_next(Answer("It begins in a harbour."))
    edge.inject(Fault.error_in_stream(after_chunks=6))
    done = chat("--json", "--set", "resume=never", "Go on.")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert told["error"]
    assert "It begin".startswith(told["partial"][:8])
    assert told["partial"]
    edge.answer_next(Answer("It begins in a harbour."))
    edge.inject(Fault.error_in_stream(after_chunks=6))
    done = chat("--set", "resume=never", "Go on.")
    assert done.exit_code == 1
    assert done.stdout == told["partial"] + "\n"
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize("as_json", [["--json"], []], ids=["json", "text"])
def test_ctrl_c_in_a_pipe(edge: Edge, chat: Callable[..., Result], as_json: Sequence[str]) -> None:
    edge.answer_next(Answer("It begins in a harbour."))
    edge.inject(Fault.hang(after_chunks=6))
    pressing = press(lambda: edge.wait_for(lambda edge: any(record.fault for record in edge.log)))
    done = chat(*as_json, "--id", "trip", "Go on.")
    pressing.join()
    assert done.exit_code == 130
    assert json.loads(chat("--list", "--json").stdout)[0]["turns"] == 1


def test_which_conversation(edge: Edge, chat: Callable[..., Result], tmp_path: Path) -> None:
    assert "leave --last out" in chat("--last", "Hello?").stderr
    assert chat("--private", "Hello?").exit_code == 0
    assert json.loads(chat("--list", "--json").stdout) == []
    assert chat("One?").exit_code == chat("Two?").exit_code == 0
    assert chat("--last", "And then?").exit_code == 0
    kept = json.loads(chat("--list", "--json").stdout)
    assert [(one["title"], one["turns"]) for one in kept] == [("Two?", 2), ("One?", 1)]
    assert chat("--delete", kept[0]["id"]).exit_code == 0
    assert "see --list" in chat("--delete", kept[0]["id"]).stderr
    assert chat("--store", str(tmp_path / "other.db"), "Three?").exit_code == 0
    assert len(json.loads(chat("--list", "--json").stdout)) == 1
    assert (tmp_path / "homing").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "homing" / "chats.db").stat().st_mode & 0o777 == 0o600
    assert chat("--last", "--id", "x", "Hello?").exit_code == 2
    assert "nothing to say" in chat().stderr


# -- at a terminal --------------------------------------------------------------------------------

ATTACK = "\x1b]0;mine\x07\x1b[2J\x1b[H\x1b]52;c;bWluZQ==\x07\x9b31mBefore <b>bold</b>\x08\x08 after\n"


@pytest.mark.parametrize("plain", [["--plain"], []], ids=["plain", "markdown"])
def test_a_reply_cannot_drive_the_terminal(edge: Edge, tmp_path: Path, plain: Sequence[str]) -> None:
    edge.answer_next(Answer(ATTACK))
    with Terminal() as terminal:
        print("above", file=(above := os.fdopen(os.dup(terminal.slave), "w")), flush=True)
        above.close()
        assert terminal.run("chat", "--url", edge.url, *plain, "Hello?", XDG_CONFIG_HOME=str(tmp_path)) == 0
        assert terminal.text.startswith("above\n")
        assert "Before <b>bold</b> after" in terminal.text, "and HTML is shown, not dropped"
        for harm in (b"\x1b]0", b"\x1b]52", b"\x1b[2J", b"\x9b31m", b"\x07"):
            assert harm not in terminal.written.partition(b"above")[2].rpartition(b"\x1b]2;")[0], harm


def test_titles() -> None:
    assert title_of("  What\nis \x1b[1mthis?") == "What is [1mthis?"
    assert len(title_of("long " * 40)) <= 48


def test_the_store_is_closed_and_holds_what_was_said(edge: Edge, chat: Callable[..., Result], tmp_path: Path) -> None:
    edge.answer_next(Answer("Here."))
    assert chat("--id", "trip", "Where?").exit_code == 0
    with SQLiteStore(tmp_path / "homing" / "chats.db") as store, Client(edge.url) as client:
        assert client.load_conversation("trip", store=store).history[-1]["content"] == "Here."
