"""Python processes that have imported modal already, which is most of what a short one does.

Some eighty commands in this folder import modal, half a second of processor each. One process
imports it for them and forks for each command. It has no threads and has made no connection
when it forks, so a command finds what it would find in an interpreter of its own; those that
show that this is so start one (`fresh=True` in `modal_cli.run`).

    python -m tests.server.support.fork_server        one order a line: argv, env, out, err

Answers each with two lines: the pid, and the exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[3]


class ForkServer:
    """Runs `python <argv>` as a fork; `argv` begins with -m and a module, or -c and a program."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**env},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # nothing may be read ahead: `select` would not see a second line in a buffer
        )

    def run(self, argv: Sequence[str], env: Mapping[str, str], *, timeout: float) -> subprocess.CompletedProcess[str]:
        """Like `subprocess.run` with captured text."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"argv": list(argv), "env": dict(env), "out": str(out), "err": str(err)}
            assert self._process.stdin
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            pid = self._answer(timeout)
            if pid is None:
                raise RuntimeError("the fork server does not fork")
            code = self._answer(timeout)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                self._answer(timeout)
                raise subprocess.TimeoutExpired(list(argv), timeout, out.read_text(), err.read_text())
            return subprocess.CompletedProcess(list(argv), code, out.read_text(), err.read_text())

    def close(self) -> None:
        self._process.communicate()  # the end of its input ends it

    def _answer(self, timeout: float) -> int | None:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        return int(self._process.stdout.readline()) if ready else None


def become(argv: Sequence[str], env: Mapping[str, str], out: str, err: str) -> NoReturn:
    """In the fork: be the interpreter that was ordered."""
    code = 1
    try:
        for descriptor, path in ((1, out), (2, err)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
            os.close(file)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(env)
        warnings.simplefilter("always")
        sys.argv = [argv[0], *argv[2:]]
        if argv[0] == "-m":
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            exec(compile(argv[1], "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - an interpreter prints whatever ended it
        traceback.print_exc()
    finally:
        # Threads of modal may still run: leave as `exit` would, but do not wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    import modal.cli.entry_point

    import homing
    import homing.cli.deploy
    import homing.cli.server
    import homing.integrations.modal

    loaded: list[Any] = [homing.Client, homing.AsyncClient, modal.cli.entry_point]
    assert loaded
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(**order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
