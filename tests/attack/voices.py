"""The two clients behind one face, so that what one test says holds for both."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from anyio.from_thread import BlockingPortal

from homing import AsyncClient, Client
from homing.integrations.openai import async_http_client, http_client


class Voice:
    """Speaks with `Client`."""

    def __init__(self) -> None:
        self._opened: list[Any] = []

    def client(self, url: str, **settings: Any) -> Any:
        self._opened.append(Client(url, **{"model": "m", **settings}))
        return self._opened[-1]

    def http_client(self, library: str, **settings: Any) -> Any:
        self._opened.append(import_module(library).Client(trust_env=False, **settings))
        return self._opened[-1]

    def sdks_client(self, **settings: Any) -> Any:
        self._opened.append(http_client(library="httpx", **settings))
        return self._opened[-1]

    def do(self, method: Any, *args: Any, **params: Any) -> Any:
        """Call a method of such a client, and return what it returns in the end."""
        return method(*args, **params)

    def close(self) -> None:
        for client in self._opened:
            client.close()


class AsyncVoice(Voice):
    """Speaks with `AsyncClient`, in one event loop."""

    def __init__(self, portal: BlockingPortal) -> None:
        super().__init__()
        self._portal = portal

    def client(self, url: str, **settings: Any) -> Any:
        self._opened.append(AsyncClient(url, **{"model": "m", **settings}))
        return self._opened[-1]

    def http_client(self, library: str, **settings: Any) -> Any:
        self._opened.append(import_module(library).AsyncClient(trust_env=False, **settings))
        return self._opened[-1]

    def sdks_client(self, **settings: Any) -> Any:
        self._opened.append(async_http_client(library="httpx", **settings))
        return self._opened[-1]

    def do(self, method: Any, *args: Any, **params: Any) -> Any:
        async def done() -> Any:
            return await method(*args, **params)

        return self._portal.call(done)

    def close(self) -> None:
        for client in self._opened:
            self.do(client.aclose)
