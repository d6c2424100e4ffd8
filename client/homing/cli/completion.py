"""``homing completion``: what a shell needs to complete commands, options and conversation ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .output import say

VARIABLE = "_HOMING_COMPLETE"
"""The environment variable that click uses: if the shell function sets it, `homing` prints completions and exits."""
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion of SHELL. In its start-up file:

    \b
    bash, ~/.bashrc                  eval "$(homing completion bash)"
    zsh, ~/.zshrc                    eval "$(homing completion zsh)"
    fish, ~/.config/fish/config.fish homing completion fish | source
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    say(found(context.find_root().command, {}, "homing", VARIABLE).source())
