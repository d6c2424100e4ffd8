"""``homing engine``: real SGLang on a machine without a GPU."""

from __future__ import annotations

import click

from homing_server.local.engine_environment import EngineEnvironment

from .output import say


@click.group()
def engine() -> None:
    """Real SGLang for the CPU, in an environment of its own."""


@engine.command()
def install() -> None:
    """Install SGLang for the CPU and make a tiny model.

    About 640 MB to download and 1.6 GB on disk, in HOMING_ENGINE_HOME or the user's cache
    folder. It may be broken off and started again. Your own Python is left alone.
    """
    EngineEnvironment().install(say=say)


@engine.command()
def status() -> None:
    """Say whether it is installed, and where."""
    environment = EngineEnvironment()
    say(f"environment  {environment.folder}  {'ready' if environment.ready else 'not installed'}")
    say(f"tiny model   {environment.tiny_model}  {'ready' if environment.tiny_model.is_dir() else 'not made'}")
