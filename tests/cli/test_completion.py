"""Completion as the shells ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from homing.cli import app
from homing.cli.app import COMMANDS, homing
from homing.cli.completion import SHELLS, VARIABLE
from homing.errors import ConfigurationError
from homing.stores import SQLiteStore


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "chats.db"
    with SQLiteStore(path) as store:
        for name in ("trip", "tour", "work"):
            store.commit(name, expected_version=0)
    monkeypatch.setenv("HOMING_CHATS", str(path))
    return path


def completed(monkeypatch: pytest.MonkeyPatch, shell: str, *words: str) -> str:
    """Ask as the script of that shell does (click's protocol)."""
    monkeypatch.setenv(VARIABLE, f"{shell}_complete")
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    typed = words[:-1] if shell == "fish" else words
    monkeypatch.setenv("COMP_WORDS", " ".join(typed))
    monkeypatch.setenv("COMP_CWORD", place)
    done = CliRunner().invoke(homing, prog_name="homing")
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_completes(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = completed(monkeypatch, shell, "homing", "")
    assert all(name in commands for name in COMMANDS)
    assert "wait" in completed(monkeypatch, shell, "homing", "wa")
    assert "--probes" in completed(monkeypatch, shell, "homing", "doctor", "--pr")
    ids = completed(monkeypatch, shell, "homing", "chat", "--id", "t")
    assert ("trip" in ids, "tour" in ids, "work" in ids) == (True, True, False)
    assert "logs" in completed(monkeypatch, shell, "homing", "server", "l")


def test_completing_makes_no_file(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CHATS", str(kept.with_name("none.db")))
    completed(monkeypatch, "bash", "homing", "chat", "--id", "t")
    assert not kept.with_name("none.db").exists()


def test_a_missing_extra_is_no_message_in_the_middle_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> ModuleType:
        raise ConfigurationError("this needs another extra")

    monkeypatch.setattr(app, "importlib", SimpleNamespace(import_module=without))
    assert CliRunner().invoke(app.homing, ["up"]).stderr == "Error: this needs another extra\n"
    assert completed(monkeypatch, "bash", "homing", "up", "--po").strip() == ""


def test_in_a_real_bash(tmp_path: Path) -> None:
    command = tmp_path / "homing"
    command.write_text(f"#!{sys.executable}\nfrom homing.cli import main; main()\n")
    command.chmod(0o755)
    script = tmp_path / "completion"
    script.write_text(CliRunner().invoke(homing, ["completion", "bash"], prog_name="homing").stdout)
    asked = 'source "$1"; COMP_WORDS=(homing chat --id tr); COMP_CWORD=3; _homing_completion homing; echo "$COMPREPLY"'
    done = subprocess.run(
        ["bash", "--norc", "-c", asked, "bash", str(script)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("trip\n", "")
