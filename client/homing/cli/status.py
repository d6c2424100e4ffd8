"""``homing status``: asks once, without waiting for a cold server."""

from __future__ import annotations

import time
from typing import Any

import click

from homing import APIStatusError, ColdStartTimeout, HomingError

from ..core.text.control_characters import one_line
from .connection import Server, server_options
from .output import say, say_json

NOT_READY = 2
"""Exit status if no replica is ready; 1 stands for any other problem."""


@click.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def status(server: Server, as_json: bool) -> None:
    """Ask once whether a replica is up, and what it serves.

    The request wakes a server that has scaled to zero, as any request does; this command does not wait for
    it. Exits with 0 if a replica answered, 2 if none is ready.
    """
    with server.client(cold_start_timeout=0, max_retries=0) as client:
        told: dict[str, Any] = {"url": client.base_url}
        began = time.monotonic()
        code = 0
        try:
            models = client.models.list()
        except ColdStartTimeout as error:
            code, told["state"], told["cause"] = NOT_READY, "cold", _cause(error)
        except HomingError as error:
            code, told["state"], told["cause"] = 1, "failed", str(error)
        else:
            told |= {"state": "ready", "seconds": round(time.monotonic() - began, 3)}
            told["models"] = [model.id for model in models.data]
    if as_json:
        say_json(told)
    else:
        for name, value in told.items():
            if value is not None:
                say(one_line(f"{name:<8} {', '.join(value) if isinstance(value, list) else value}"))
    if code:
        raise click.exceptions.Exit(code)


def _cause(error: ColdStartTimeout) -> str:
    last = error.last
    return f"HTTP {last.status_code}" if isinstance(last, APIStatusError) else str(last)
