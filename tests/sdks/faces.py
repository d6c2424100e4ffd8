"""The openai SDK under one face, so that one test serves its sync and its async client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio.from_thread
import openai

# Not trio: the SDK leaves its own async generators to the garbage collector there.
KINDS = ["threads", "asyncio"]


class Sync:
    """`openai.OpenAI`."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = openai.OpenAI(base_url=f"{url}/v1", **{"api_key": "-", "max_retries": 0, **options})

    def create(self, **params: Any) -> Any:
        """Return a whole completion."""
        return self._client.chat.completions.create(**params)

    def chunks(self, **params: Any) -> list[Any]:
        """Return the chunks of a stream, read to its end."""
        return list(self._client.chat.completions.create(stream=True, **params))

    def events(self, **params: Any) -> tuple[list[Any], Any]:
        """Return the events of ``.stream()`` and its final completion."""
        with self._client.chat.completions.stream(**params) as stream:
            return list(stream), stream.get_final_completion()

    def first_chunk(self, **params: Any) -> Any:
        """Read one chunk of a stream and leave."""
        with self._client.chat.completions.create(stream=True, **params) as stream:
            return next(iter(stream))

    def parse(self, **params: Any) -> Any:
        """Return a completion whose content has been parsed."""
        return self._client.chat.completions.parse(**params)

    def models(self) -> list[str]:
        """Return the ids at ``/v1/models``."""
        return [model.id for model in self._client.models.list()]

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


class Async:
    """`openai.AsyncOpenAI` in an event loop of its own, on another thread."""

    def __init__(self, library: str, url: str, **options: Any) -> None:
        self._loop: AbstractContextManager[Any] = anyio.from_thread.start_blocking_portal(library)
        self._portal: Any = self._loop.__enter__()
        self._client = openai.AsyncOpenAI(base_url=f"{url}/v1", **{"api_key": "-", "max_retries": 0, **options})

    def create(self, **params: Any) -> Any:
        """Return a whole completion."""
        return self._run(lambda: self._client.chat.completions.create(**params))

    def chunks(self, **params: Any) -> list[Any]:
        """Return the chunks of a stream, read to its end."""

        async def read() -> list[Any]:
            return [chunk async for chunk in await self._client.chat.completions.create(stream=True, **params)]

        return list(self._run(read))

    def events(self, **params: Any) -> tuple[list[Any], Any]:
        """Return the events of ``.stream()`` and its final completion."""

        async def read() -> tuple[list[Any], Any]:
            async with self._client.chat.completions.stream(**params) as stream:
                return [event async for event in stream], await stream.get_final_completion()

        events, final = self._run(read)
        return events, final

    def first_chunk(self, **params: Any) -> Any:
        """Read one chunk of a stream and leave."""

        async def read() -> Any:
            async with await self._client.chat.completions.create(stream=True, **params) as stream:
                return await stream.__anext__()

        return self._run(read)

    def parse(self, **params: Any) -> Any:
        """Return a completion whose content has been parsed."""
        return self._run(lambda: self._client.chat.completions.parse(**params))

    def models(self) -> list[str]:
        """Return the ids at ``/v1/models``."""

        async def read() -> list[str]:
            return [model.id async for model in self._client.models.list()]

        return list(self._run(read))

    def close(self) -> None:
        """Close the client's connections and end its loop."""
        self._run(self._client.close)
        self._loop.__exit__(None, None, None)

    def _run(self, action: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return await action()

        return self._portal.call(run)


def make(kind: str, url: str, **options: Any) -> Sync | Async:
    """Return a client by its kind."""
    return Sync(url, **options) if kind == "threads" else Async(kind, url, **options)
