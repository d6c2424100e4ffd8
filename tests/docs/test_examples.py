"""Every code block of the README and the docs runs and prints what is shown; so do the examples."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from homing_server.local import Edge

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in DOCS if "```python" in page.read_text()]
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
# A block of Python, and the ```text block right behind it, if there is one: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n?```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
END = "\x1d\n"
# What differs from run to run: times, which replica it was, and whatever the page leaves out.
VARIES = re.compile(r"(?P<time>\d+(?:\.\d+)?(?= m?s\b))|(?P<replica>\br\d\b)|(?P<lines>^…\n)|(?P<rest>…)", re.MULTILINE)
PATTERNS = {"time": r"\d+(?:\.\d+)?", "replica": r"r\d", "lines": r"(?:.*\n)*?", "rest": r"(?s:.*?)"}


def run(edge: Edge, *command: str) -> str:
    environment = {**os.environ, "HOMING_BASE_URL": edge.url, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def agrees(printed: str, shown: str) -> bool:
    """Whether ``shown`` is what was printed, but for what varies; blanks at the ends don't count."""
    shown, pattern, done = f"{shown.rstrip()}\n", "", 0
    for varying in VARIES.finditer(shown):
        pattern += re.escape(shown[done : varying.start()]) + PATTERNS[varying.lastgroup or ""]
        done = varying.end()
    return re.fullmatch(pattern + re.escape(shown[done:]), f"{printed.strip()}\n") is not None


# Not at once: some pages do something while a reply is under way.
@pytest.mark.edge(decode_rate=1000)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_code_runs_from_top_to_bottom(page: Path, edge: Edge, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text())
    if any("import pytest" in code for code, _ in blocks):
        test = tmp_path / "test_page.py"
        test.write_text("\n".join(code for code, _ in blocks))
        run(edge, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test))
        return
    check(blocks, edge, tmp_path / f"{page.stem}.py")


def test_the_reference_s_examples_run(edge: Edge, tmp_path: Path) -> None:
    """All of them in one process: none leans on another's names but by saying them again."""
    blocks = [block for page in REFERENCE for block in BLOCK.findall(page.read_text())]
    assert len(blocks) >= len(REFERENCE)
    check(blocks, edge, tmp_path / "reference.py")


def check(blocks: list[tuple[str, str]], edge: Edge, script: Path) -> None:
    script.write_text("".join(f"{code}\nprint({END!r}, end='')\n" for code, _ in blocks))
    printed = run(edge, str(script)).split(END)
    for (_, shown), output in zip(blocks, printed[:-1], strict=True):
        assert not shown or agrees(output, shown), f"the page shows\n{shown}\nit prints\n{output}"


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\nb\n", "…\n", True),
        ("a lot\nof\nlines, b\n", "a … b\n", True),
        ("a lot\nof lines, c\n", "a … b\n", False),
        ("a\nb\nc\nd\n", "a\n…\nd\n", True),
        ("a\nd\n", "a\n…\nd\n", True),
        ("a\nb\nc d\n", "a\n…\nd\n", False),
        ("took 0.31 s on r3", "took 12 s on r1", True),
        ("31 tokens", "32 tokens", False),
        ("(a|b)", "(a|b)", True),
    ],
)
def test_what_agrees(printed: str, shown: str, same: bool) -> None:
    assert agrees(printed, shown) is same


def test_quickstart(edge: Edge) -> None:
    assert ": warm" in run(edge, "examples/quickstart.py")


def test_tools(edge: Edge) -> None:
    printed = run(edge, "examples/tools.py")
    assert "[get_price -> Error: no prices for" in printed
    assert "approved: ask_for_approval {" in printed
    assert "2 turns, 4 requests, warm" in printed


def test_structured_output(edge: Edge) -> None:
    printed = run(edge, "examples/structured_output.py")
    assert "cut: '{" in printed
    assert "1 turn, first" in printed


def test_async_many(edge: Edge) -> None:
    assert "'warm': 40" in run(edge, "examples/async_many.py")


def test_stores(edge: Edge) -> None:
    printed = run(edge, "examples/stores.py")
    assert "after the restart: warm" in printed
    assert "somebody was faster" in printed
    assert "undone: ['Me too.', 'Where were we?']" in printed
    assert "caches: 2 turn(s), 'Caches'" in printed


# The demo in no time; at its own pace it is `make demo`, which .ci/run makes. It starts an edge of its own.
QUICK = """
import asyncio, functools, sys
sys.path.insert(0, "examples")
import demo
demo.SETTINGS = demo.EdgeSettings.instant(initial_replicas=0, cold_start=0.3, min_replicas=3, max_replicas=3{settings})
{change}
sys.exit(asyncio.run(demo.main()))
"""


def test_the_demo_in_a_pipe(edge: Edge) -> None:
    printed = run(edge, "-c", QUICK.format(settings="", change=""))
    assert printed.count("  cold start:") >= 2
    home, stray = map(int, re.findall(r"(\d+)% came from a cache", printed))
    assert home > 80 > stray
    assert "All conversations came home." in printed
    assert "\x1b" not in printed
    assert "\r" not in printed


def test_the_demo_in_a_terminal_shows_the_wait_in_one_line() -> None:
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", QUICK.format(settings="", change="")]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=terminal, cwd=ROOT) as process:
        os.close(terminal)
        printed = b""
        with contextlib.suppress(OSError):  # EIO is how a pseudo-terminal says that all ends are closed
            while piece := os.read(master, 65536):
                printed += piece
        os.close(master)
    assert process.returncode == 0, printed.decode()
    assert printed.count(b"\r  cold start:") >= 2
    assert b"All conversations came home." in printed


@pytest.mark.parametrize(
    ("settings", "change", "said"),
    [
        ("", "demo.AsyncClient = functools.partial(demo.AsyncClient, affinity='none')", "strayed"),
        (", context_length=190", "", "a turn failed: 400"),
    ],
    ids=["a stray turn", "a failed turn"],
)
def test_the_demo_fails_when_something_went_wrong(settings: str, change: str, said: str) -> None:
    command = [sys.executable, "-c", QUICK.format(settings=settings, change=change)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^PROBLEM: .*{said}", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "came home." not in done.stdout
