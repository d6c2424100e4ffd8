"""Which server a command talks to: the options that all commands share, and the client made from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from homing import AsyncClient, Client, Hooks

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--url", help="The server's URL, with or without /v1. Default: HOMING_BASE_URL, OPENAI_BASE_URL."),
    click.option("--api-key", help="Of the engine. Better in HOMING_API_KEY, where no process list shows it."),
    click.option(
        "--proxy-token",
        help="Modal's, wk-….ws-… Better in MODAL_PROXY_TOKEN_ID and MODAL_PROXY_TOKEN_SECRET.",
    ),
    click.option("--model", help="Default: HOMING_MODEL, else the first that the server lists."),
)


def _giving(options: Iterable[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_server(
            *, url: str | None, api_key: str | None, proxy_token: str | None, model: str | None, **rest: Any
        ) -> Any:
            return command(server=Server(url, api_key=api_key, proxy_token=proxy_token, model=model), **rest)

        wrapped: Any = with_server
        for option in reversed(tuple(options)):
            wrapped = option(wrapped)
        result: F = wrapped
        return result

    return decorate


def server_options(command: F) -> F:
    """Add the options of `Server` to ``command``, which receives them as one argument ``server``."""
    return _giving(_OPTIONS)(command)


def server_argument(command: F) -> F:
    """Do what `server_options` does, with the URL as an argument instead of an option."""
    return _giving((click.argument("url", required=False), *_OPTIONS[1:]))(command)


class Server:
    """The server as given on the command line."""

    def __init__(self, url: str | None, *, api_key: str | None, proxy_token: str | None, model: str | None) -> None:
        self._given: dict[str, Any] = {"api_key": api_key, "proxy_token": proxy_token, "model": model}
        self._url = url

    def client(self, *, hooks: Hooks | None = None, **settings: Any) -> Client:
        """Return a client. Raises `ConfigurationError` if no server is configured."""
        return Client(self._url, hooks=hooks, **self._given, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """Return an asynchronous client. Raises as `client` does."""
        return AsyncClient(self._url, **self._given, **settings)
