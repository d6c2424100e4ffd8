"""``homing server``: manages a deployed server through Modal's own commands."""

from __future__ import annotations

import click

from homing.cli.deploy import environment_option, require_modal, run_modal
from homing.cli.output import say
from homing_server.settings import APP_NAME

_APP = click.option("--app", default=APP_NAME["server"], show_default=True, help="Name of the Modal App.")
_ENVIRONMENT = click.option("-e", "--env", "modal_environment", help="Modal environment.")


@click.group()
def server() -> None:
    """Show, read and stop a server deployed with `homing deploy`."""


@server.command()
@_APP
@click.option("--name", default="SGLangServer", show_default=True, help="Name of the Server or class.")
@_ENVIRONMENT
def status(app: str, name: str, modal_environment: str | None) -> None:
    """Show its URL, and what Modal knows of the App."""
    require_modal()
    from homing.integrations.modal import server_url

    say(f"URL: {server_url(app, name, environment=modal_environment)}")
    _run(["app", "info", app, *environment_option(modal_environment)])


@server.command()
@_APP
@click.option("-f", "--follow", is_flag=True, help="Go on as new lines come.")
@_ENVIRONMENT
def logs(app: str, follow: bool, modal_environment: str | None) -> None:
    """Show the log of its replicas."""
    require_modal()
    _run(["app", "logs", app, *(["--follow"] if follow else []), *environment_option(modal_environment)])


@server.command()
@_APP
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_ENVIRONMENT
def stop(app: str, yes: bool, modal_environment: str | None) -> None:
    """Stop the App: its replicas end and its URL goes."""
    require_modal()
    _run(["app", "stop", app, *(["--yes"] if yes else []), *environment_option(modal_environment)])


def _run(arguments: list[str]) -> None:
    if code := run_modal(arguments):
        raise click.exceptions.Exit(code)
