"""Break one line at a time, and see that a test fails.

    python scripts/mutations.py            all of them
    python scripts/mutations.py A12 C9     some

Coverage says that a line runs, not that anybody would miss it. Each of these lines guards a bound or a hand-over,
and each could once be broken without a test that failed. A mutation is made in a copy of the tree, and only the
tests named beside it are run there. Exits with 1 when one survives, or can no longer be applied: a line that was
rewritten wants its mutation rewritten.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("client", "server", "tests", "examples", "pyproject.toml")
"""What the tests need. Compiled files stay behind: a mutation is often as long as what it replaces."""
LIMIT = 120
"""Seconds that the tests of one mutation may take; they take a few. A test that may hang guards itself: on a busy
machine nothing else would tell it from one that is slow."""
AT_ONCE = 2


@dataclass(frozen=True)
class Mutation:
    """``old`` stands in ``file`` once, and `tests` are to fail with ``new`` in its place. Generated twins need no
    mutations of their own."""

    name: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "A12",
        "what comes for a reader that does not read is bounded",
        "client/homing/_http/_sockets/asyncio.py",
        "elif self._size > RECEIVE_LIMIT and self._reading:",
        "elif False:",
        ("tests/transport/test_life.py::test_a_reader_that_is_slow_holds_the_server_back[asyncio]",),
    ),
    Mutation(
        "A1",
        "a whole reply does not wait for the end of its body",
        "client/homing/_async/attempt.py",
        "self._control.deadline = deadline = clock() + DRAIN",
        "deadline = clock() + DRAIN",
        ("tests/_async/test_streams.py::test_a_body_that_does_not_end_holds_a_reply_up_for_a_moment_only[asyncio]",),
    ),
    Mutation(
        "A16",
        "a prompt that is cut keeps the key that was found for it",
        "client/homing/_async/reply_stream.py",
        "self._ask(replace(request, messages=prompt,",
        "self._ask(replace(request, key=self._turn.conversation.affinity_key, messages=prompt,",
        ("tests/_async/test_trimming.py::test_a_prompt_that_is_cut_goes_to_the_replica_that_was_found_for_it",),
    ),
    Mutation(
        "A9",
        "the look-up's wait is the turn's",
        "client/homing/_async/call.py",
        "        self.budget.waited = lookup.budget.waited\n",
        "",
        ("tests/_async/test_cold_start.py::test_a_wait_for_the_models_name_is_part_of_the_turns",),
    ),
    Mutation(
        "A10",
        "a caller's own proxy token is not overwritten",
        "client/homing/integrations/_sdk/requests.py",
        "headers.setdefault(name, value)",
        "headers[name] = value",
        ("tests/_async/test_sdk_transport.py::test_a_proxy_token_of_the_callers_own_is_left_as_it_is",),
    ),
    Mutation(
        "C9 (mark)",
        "a prompt of just as many tokens as the mark is not cut",
        "client/homing/core/conversation/trim.py",
        "if prompt.tokens(start) <= self.high:",
        "if prompt.tokens(start) < self.high:",
        ("tests/core/test_trim.py::test_a_mark_is_the_last_size_that_is_not_too_long",),
    ),
    Mutation(
        "C9 (last turn)",
        "nor is its last turn cut",
        "client/homing/core/conversation/trim.py",
        "self.tokens(start) <= enough",
        "self.tokens(start) < enough",
        ("tests/core/test_trim.py::test_a_mark_is_the_last_size_that_is_not_too_long",),
    ),
    Mutation(
        "C9 (context)",
        "a prompt may fill the context to its last token",
        "client/homing/core/conversation/trim.py",
        "prompt.tokens(cut) <= room",
        "prompt.tokens(cut) < room",
        ("tests/core/test_trim.py::test_a_refused_prompt_may_fill_the_context_to_its_last_token",),
    ),
    Mutation(
        "A13",
        "a waiter that is cancelled in the moment of its turn gives it up",
        "client/homing/core/process/mutex.py",
        "        claim.released = True\n        with self._guard:",
        "        with self._guard:",
        ("tests/core/test_mutex.py::test_the_one_that_was_woken_gives_up_in_that_moment",),
    ),
    Mutation(
        "A13 (wake)",
        "and whoever is behind it is woken",
        "client/homing/core/process/mutex.py",
        "            first.wake()\n",
        "            pass\n",
        ("tests/core/test_mutex.py::test_the_one_that_was_woken_gives_up_in_that_moment",),
    ),
    Mutation(
        "H1",
        "a turn that waits keeps no dropped stream alive",
        "client/homing/_async/turn_lock.py",
        "        await self._look_at_holder(claim, name, on_busy, limits)\n",
        "        kept = self._mutex.holder and self._mutex.holder.stream()\n"
        "        await self._look_at_holder(claim, name, on_busy, limits)\n",
        ("tests/attack/test_dropped_streams.py::test_the_task_that_waits_for_a_dropped_stream[asyncio]",),
    ),
    Mutation(
        "H2",
        "a finalizer takes no lock",
        "client/homing/_sync/attempt.py",  # where the test looks
        "            self._body.finalize()\n",
        "            self._call.abort()\n",
        ("tests/attack/test_dropped_streams.py::test_a_finalizer_calls_nothing_that_could_wait",),
    ),
)


def copy(to: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, to / name)


def run(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str] | None:
    """Run ``tests`` in ``tree``; None when they take too long."""
    path = os.pathsep.join(str(tree / part) for part in ("client", "server"))  # before what is installed
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=tree, env=environment, timeout=LIMIT, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return None


def killed(mutation: Mutation) -> str | None:
    """Return None when the tests notice ``mutation``, else what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy(tree)
        file = tree / mutation.file
        text = file.read_text()
        if text.count(mutation.old) != 1:
            return f"does not apply: {mutation.old.strip()!r} is {text.count(mutation.old)} times in {mutation.file}"
        file.write_text(text.replace(mutation.old, mutation.new))
        result = run(tree, mutation.tests)
    if result is None:
        return f"its tests have no end after {LIMIT} s"
    # 1: tests were run, and some failed. Anything else, a name that is not there say, proves nothing.
    if result.returncode == 1 and re.search(r"^FAILED ", result.stdout, re.MULTILINE):
        return None
    if result.returncode == 0:
        return f"survives {', '.join(mutation.tests)}: {mutation.why}"
    return f"its tests could not be run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


def main(names: list[str]) -> int:
    """Try them; return the exit status."""
    chosen = [m for m in MUTATIONS if not names or m.name in names or m.name.split()[0] in names]
    with tempfile.TemporaryDirectory() as folder:  # a test that fails anyway would notice everything
        copy(Path(folder))
        sound = run(Path(folder), tuple(dict.fromkeys(test for m in chosen for test in m.tests)))
    if sound is None or sound.returncode:
        print("the tests fail without any mutation:", "too slow" if sound is None else sound.stdout[-3000:])
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(killed, chosen))
    for mutation, wrong in zip(chosen, results, strict=True):
        print(f"{mutation.name:15} {'noticed' if wrong is None else wrong}")
    return int(any(results) or not chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
