"""Write the sync twin of every async module and test.

    python scripts/unasync.py            write
    python scripts/unasync.py --check    fail when a twin is stale, missing or left over, or a rule is unused

The async source is the one that people edit. Modules in BY_HAND differ in more than words
(threads are not tasks) and exist twice, under the same name and with the same interface.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PAIRS = {
    "client/homing/_async": "client/homing/_sync",
    "client/homing/_http/_async": "client/homing/_http/_sync",
    "client/homing/integrations/_sdk/_async": "client/homing/integrations/_sdk/_sync",
    "tests/_async": "tests/_sync",
}
BY_HAND = {"call_guard.py", "client_store.py", "network.py", "tasks.py", "tool_runner.py", "__init__.py"}

HEADER = "# Generated from {source} by scripts/unasync.py: edit that file, not this one.\n"

# Order matters: each rule sees what the ones before have left.
RULES: list[tuple[str, str]] = [
    (r"(?m)^.*# async only\n", ""),
    (r"(?m)^pytestmark = pytest\.mark\.anyio\n", ""),
    (r"\[pytest\.mark\.anyio, ", "["),
    (r", anyio_backend: object\b", ""),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__anext__\b", "__next__"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_bytes\b", "iter_bytes"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\basync_(homing_client|server_url|transport|http_client)\b", r"\1"),
    (r"\bhandle_async_request\b", "handle_request"),
    (r"\banyio\.Event\b", "threading.Event"),
    (r"\bimport anyio\b", "import threading"),
    (r"(from [.\w]*)\b_async\b", r"\1_sync"),
    (r"\b_concurrency\.tasks\b", "_concurrency.threads"),
]


def convert(text: str, source: str, used: set[str]) -> str:
    """Return the sync twin of ``text``."""
    for pattern, replacement in RULES:
        text, count = re.subn(pattern, replacement, text)
        if count:
            used.add(pattern)
    return HEADER.format(source=source) + text


def main(argv: list[str]) -> int:
    """Write or check all twins; return the exit status."""
    check = "--check" in argv
    used: set[str] = set()
    problems: list[str] = []
    for async_dir, sync_dir in PAIRS.items():
        wanted: set[str] = set()
        for source in sorted((ROOT / async_dir).rglob("*.py")):
            name = source.relative_to(ROOT / async_dir)
            wanted.add(str(name))
            twin = ROOT / sync_dir / name
            if source.name in BY_HAND:
                if not twin.exists():
                    problems.append(f"{sync_dir}/{name} is written by hand and missing")
                continue
            text = convert(source.read_text(), f"{async_dir}/{name}", used)
            if check:
                if not twin.exists() or twin.read_text() != text:
                    problems.append(f"{sync_dir}/{name} is stale: run `python scripts/unasync.py`")
            else:
                twin.parent.mkdir(parents=True, exist_ok=True)
                twin.write_text(text)
        problems += [
            f"{sync_dir}/{twin.name} has no async source"
            for twin in (ROOT / sync_dir).rglob("*.py")
            if str(twin.relative_to(ROOT / sync_dir)) not in wanted
        ]
    if check:
        problems += [f"rule never used: {pattern}" for pattern, _ in RULES if pattern not in used]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
