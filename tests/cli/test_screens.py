"""What each verb shows at a real terminal, beside what docs/cli.md says that it shows."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from homing import Client, ColdStartTimeout
from homing.cli.app import COMMANDS
from homing.stores import SQLiteStore
from homing_server.local import Answer, Edge, EdgeSettings, EngineSettings, Fault

from . import screens
from .terminal import Terminal

ANSWER = """\
Three reasons:

1. **Prefill is work.** Every token of the prompt is computed once, unless it is cached.
2. **It grows.** Turn 20 carries the nineteen before it.
3. **It is per replica.** Come home, and it is there.

```python
chat = client.conversation()
```

| turn | prompt | cached |
|------|--------|--------|
| 1    | 21     | 0      |
| 2    | 157    | 140    |
"""
STORY = "It begins in a harbour. A pigeon leaves at dawn and crosses the bay, and by noon"


@pytest.fixture
def edge_settings() -> EdgeSettings:
    engine = EngineSettings(prefill_rate=20_000, decode_rate=200, default_temperature=0, thinking=True)
    return EdgeSettings(min_replicas=0, max_replicas=3, initial_replicas=3, cold_start=0.0, engine=engine)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as terminal:
        yield terminal


@pytest.fixture
def known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let conversations have the same affinity keys in each run, so that they reach the same replicas."""
    numbers = itertools.count()
    for module in ("homing._sync.conversation", "homing._async.conversation"):
        monkeypatch.setattr(f"{module}.new_key", lambda: f"key-{next(numbers)}")


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Do ``action`` in a thread for the length of a block; its failure is the test's."""
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(action)
        yield
        done.result()


def test_chat(edge: Edge, terminal: Terminal, tmp_path: Path) -> None:
    """One conversation: a cold start, a whole reply, one that Ctrl-C stops, and what is kept of it."""
    terminal.resize(lines=50)
    edge.hold_cold()
    home = {"XDG_CONFIG_HOME": str(tmp_path), "HOMING_BASE_URL": edge.url}
    with terminal.process("chat", "--id", "trip", **home) as process:
        terminal.wait_for(r"^>$")
        edge.answer_next(
            Answer(ANSWER, reasoning="They ask about caches.\nThree reasons will do."),
            Answer(STORY, reasoning="A story."),
        )
        terminal.type("Why do KV caches matter?\r")
        terminal.wait_for("waiting for a replica")
        screens.check("chat-cold", "$ homing chat --id trip\n" + terminal.text)
        terminal.type("Tell me")  # meanwhile: it must not show up in the middle of the reply
        edge.become_ready(1)
        terminal.wait_for(r"· first\n> Tell me$")
        assert b"Tell" not in terminal.written.partition(b"prompt tokens cached")[0]
        assert terminal.style("They ask about caches.").italics
        assert terminal.style("Prefill").bold

        edge.inject(Fault.hang(after_chunks=20))
        terminal.type("\x1b\ra story.\r")
        terminal.wait_for("A pigeon leaves at dawn and")
        terminal.type("\x03")
        terminal.wait_for(r"stopped: what had come is kept\n.*\n>$")
        edge.wait_for(lambda edge: edge.running == 0)
        assert edge.log[-1].outcome == "aborted"
        terminal.type("/stats\r")
        terminal.wait_for(r"waited .*\n>$")
        terminal.type("/quit\r")
        assert process.wait(30) == 0
    screens.check("chat", "$ homing chat --id trip\n" + terminal.text)
    assert (tmp_path / "homing" / "history").stat().st_mode & 0o777 == 0o600

    # What was stopped is kept, for another process too.
    with Client(edge.url) as client, SQLiteStore(tmp_path / "homing" / "chats.db") as store:
        chat = client.load_conversation("trip", store=store)
    assert [turn.finish_reason for turn in chat.turns] == ["stop", "interrupted"]
    assert chat.history[-2]["content"] == "Tell me\na story."
    assert chat.history[-1]["content"] == "It begins in a harbour. A pigeon leaves at dawn and"
    terminal.clear()
    assert terminal.run("chat", "--list", **home) == 0
    screens.check("chat-list", "$ homing chat --list\n" + terminal.text)
    terminal.clear()
    edge.answer_next(Answer("By noon she is home."))
    assert terminal.run("chat", "--last", "And then?", **home) == 0
    screens.check("chat-prompt", '$ homing chat --last "And then?"\n' + terminal.text)


def test_wait(edge: Edge, terminal: Terminal) -> None:
    edge.hold_cold()
    cold = []

    def wake() -> None:
        terminal.wait_for("waiting for a replica")
        cold.append(terminal.text)
        edge.become_ready(1)

    with meanwhile(wake):
        assert terminal.run("wait", HOMING_BASE_URL=edge.url) == 0
    screens.check("wait-cold", "$ homing wait\n" + cold[0])
    screens.check("wait", "$ homing wait\n" + terminal.text, numbers=False)


def test_status(edge: Edge, terminal: Terminal) -> None:
    assert terminal.run("status", HOMING_BASE_URL=edge.url) == 0
    screens.check("status", "$ homing status\n" + terminal.text, numbers=False)
    terminal.clear()
    edge.hold_cold()
    assert terminal.run("status", HOMING_BASE_URL=edge.url) == 2
    screens.check("status-cold", "$ homing status\n" + terminal.text)


@pytest.mark.usefixtures("known_keys")
def test_doctor(edge: Edge, terminal: Terminal) -> None:
    assert terminal.run("doctor", HOMING_BASE_URL=edge.url) == 0
    screens.check("doctor", "$ homing doctor\n" + terminal.text)
    terminal.clear()
    assert terminal.run("doctor", "--url", "http://127.0.0.1:9") == 1
    screens.check("doctor-unreachable", "$ homing doctor\n" + terminal.text)


@pytest.mark.usefixtures("known_keys")
def test_bench(edge: Edge, terminal: Terminal) -> None:
    """Its figures are held against what they must be by design in test_bench.py."""
    under_way = []

    def look() -> None:
        terminal.wait_for(r"with affinity ━.* [1-9]\d*/64 turns")
        under_way.append(terminal.text)

    lengths = ["--reply-tokens", "8", "--think", "0", "0", "--ramp", "0", "--conversations", "8", "--turns", "4"]
    command = " ".join(["homing bench http://127.0.0.1:8000", *lengths])
    with meanwhile(look):
        assert terminal.run("bench", edge.url, *lengths) == 0
    bar = under_way[0].replace("╸", "━").replace("╺", "━")
    screens.check("bench-running", f"$ {command}\n" + bar, numbers=False)
    screens.check("bench", f"$ {command}\n" + terminal.text, numbers=False)


def test_up(terminal: Terminal) -> None:
    terminal.resize(columns=100)

    def use() -> None:
        terminal.wait_for("Ctrl-C drains and stops")
        url = next(line.split("=")[1] for line in terminal.text.splitlines() if "export" in line)
        with Client(url, model="homing-emulated") as client:
            chat = client.conversation(affinity_key="conversation-42", max_tokens=8)
            with pytest.raises(ColdStartTimeout):
                client.with_options(cold_start_timeout=0).conversation(affinity_key="early-bird").send("Hello?")
            terminal.wait_for("replicas: r1 ready")
            chat.send("Where to?")
            chat.send("And then?")
        terminal.wait_for(r"cached \+8[^$]*cached \+8")
        os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    with meanwhile(use):
        fast = ["--cold-start", "1", "--decode-rate", "0", "--max-replicas", "1"]
        assert terminal.run("up", "--port", "0", *fast) == 0
    screens.check("up", "$ homing up --cold-start 1 --decode-rate 0 --max-replicas 1\n" + terminal.text)


def test_deploy(terminal: Terminal) -> None:
    terminal.resize(columns=100, lines=80)
    assert terminal.run("deploy", "--preset", "qwen3-4b", "--dry-run") == 0
    screens.check("deploy", "$ homing deploy --preset qwen3-4b --dry-run\n" + terminal.text)


@pytest.mark.parametrize("arguments", [[], ["engine"], ["completion"]], ids=lambda names: "-".join(names) or "homing")
def test_help(terminal: Terminal, arguments: list[str]) -> None:
    terminal.resize(lines=40)
    assert terminal.run(*arguments, "--help") == 0
    command = " ".join(["homing", *arguments])
    screens.check(f"{'-'.join(arguments) or 'homing'}-help", f"$ {command} --help\n{terminal.text}")


def test_the_page_shows_the_screens() -> None:
    shown = screens.published(screens.PAGE.read_text())
    kept = {path.stem: path.read_text() for path in screens.FOLDER.glob("*.txt")}
    assert shown == kept
    verbs = {screen.split()[2] for screen in kept.values()}
    assert {*COMMANDS} <= verbs, "every verb has its screen"
