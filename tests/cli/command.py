"""The ``homing`` command, run here: a process of its own would cost a second, and is tested with the screens."""

from __future__ import annotations

import os
from subprocess import CompletedProcess

from click.testing import CliRunner

from homing.cli import app

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("HOMING_", "OPENAI_", "MODAL_")) and name != "FORCE_COLOR"
}


def homing(*arguments: str, **environment: str) -> CompletedProcess[str]:
    """Run it to its end, without any settings of the environment but these."""
    unset: dict[str, str | None] = dict.fromkeys({*os.environ} - {*CLEAN})
    runner = CliRunner(env={**unset, **environment}, catch_exceptions=False)
    done = runner.invoke(app.homing, arguments, prog_name="homing")
    return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
