"""The table of commands. Each is imported only when it runs, so a missing extra affects only the command it's for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

import click
from click.shell_completion import CompletionItem

from homing.errors import HomingError

from ..core.text.control_characters import strip_controls

COMMANDS: Mapping[str, tuple[str, str]] = {
    # name: (module:attribute, summary in `homing --help`)
    "chat": ("homing.cli.chat.command:chat", "Talk to the model, at the terminal or in a pipe."),
    "wait": ("homing.cli.wait:wait", "Wake a server and wait until a replica answers."),
    "status": ("homing.cli.status:status", "Ask once whether a replica is up."),
    "doctor": ("homing.cli.doctor:doctor", "Find out what is wrong with a server, and the fix."),
    "bench": ("homing.cli.bench.command:bench", "Load a server, with and without affinity."),
    "up": ("homing.cli.up:up", "Serve a local stand-in for your Modal server."),
    "engine": ("homing.cli.engine:engine", "Install SGLang for `homing up --engine sglang` without a GPU."),
    "deploy": ("homing.cli.deploy:deploy", "Deploy an SGLang server to Modal."),
    "server": ("homing.cli.server:server", "Show, read and stop a deployed server."),
    "completion": ("homing.cli.completion:completion", "Print what bash, zsh or fish completes by."),
}


class CommandTable(click.Group):
    """A group that imports a command's module only to run the command or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            return cast(click.Command, getattr(importlib.import_module(module), attribute))
        except HomingError as error:  # names the extra to install
            if ctx.resilient_parsing:  # shell completion has no use for messages
                return None
            raise click.ClickException(str(error)) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command from the table, without importing anything, or an option of `homing` itself."""
        names = [CompletionItem(n, help=h) for n, (_, h) in COMMANDS.items() if n.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Homing's own errors become messages instead of tracebacks."""
        try:
            return super().invoke(ctx)
        except HomingError as error:
            raise click.ClickException(str(error)) from error
        except click.ClickException as error:  # its message may quote foreign text, such as a file's name
            vars(error)["message"] = strip_controls(error.message)
            raise


@click.group(cls=CommandTable)
@click.version_option(package_name="homing", prog_name="homing")
def homing() -> None:
    """Talk to your own LLM servers."""
