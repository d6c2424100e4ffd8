"""``homing wait``: waits until a replica responds."""

from __future__ import annotations

import click

from homing import ColdStartTimeout, Hooks

from .connection import Server, server_options
from .output import say, say_json
from .progress import WaitLine

TIMEOUT = 1200.0
"""Seconds; the client's own default, longer than any start-up time that `homing deploy` sets."""
GAVE_UP = 2
"""Exit status if no replica came up in time; 1 stands for any other problem."""


@click.command()
@server_options
@click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def wait(server: Server, timeout: float, as_json: bool) -> None:
    """Wake the server and wait until a replica answers.

    Exits with 0 when one does and with 2 when none did in time.
    """
    line = WaitLine()
    with server.client(hooks=Hooks(on_wait=line)) as client:
        try:
            ready = client.wait_until_ready(timeout)
        except ColdStartTimeout as error:
            line.clear()
            if as_json:
                say_json({"ready": False, "waited": round(error.waited, 3), "attempts": error.attempts})
            else:
                say(f"not ready: {error}", err=True)
            raise click.exceptions.Exit(GAVE_UP) from None
        line.clear()
        if as_json:
            say_json({"ready": True, "waited": round(ready.waited, 3), "attempts": ready.attempts})
        else:
            say(f"ready after {ready.waited:.1f} s ({ready.attempts} attempts): {client.base_url}")
