"""Ask a deployed server for streamed replies. Runs where ``modal run`` was typed.

The example's helper on Homing's own client, which is imported when called: the container,
which imports this module too, has only modal and pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homing_server.settings import MINUTES


async def probe(url: str, messages: Sequence[Mapping[str, Any]] | None = None, timeout: float = 5 * MINUTES) -> str:
    """Stream one reply to the terminal and return its text.

    Waits up to ``timeout`` seconds for a replica, then raises ``homing.ColdStartTimeout``;
    dropped connections before the first word are tried again, after it they are not. Each
    call is a conversation of its own, with its own affinity key under both of Modal's
    names: the example's constant ``"0"`` sent every conversation to one replica. Keys come
    from the environment (``HOMING_API_KEY``, ``MODAL_PROXY_TOKEN_ID`` and ``_SECRET``).
    """
    from homing import AsyncClient

    if messages is None:
        messages = [{"role": "user", "content": "Tell me a joke."}]
    plain: Any = [dict(message) for message in messages]
    pieces: list[str] = []
    # SGLang does not look at the model's name; naming one saves the client from asking for it.
    async with (
        AsyncClient(url, model="default", cold_start_timeout=timeout) as client,
        client.chat.completions.stream(messages=plain) as stream,
    ):
        async for text in stream.text:
            pieces.append(text)
            print(text, end="", flush=True)  # noqa: T201 - showing the reply is the point
    print()  # noqa: T201
    return "".join(pieces)


async def two_prompts(url: str | None, *, timeout: float, prompt: str | None = None, twice: bool = True) -> None:
    """Stream the example's two replies, or with ``twice`` false the first of them.

    ``timeout`` in seconds is for each and covers the cold start; ``prompt`` replaces the example's
    question. Raises ``RuntimeError`` when Modal gave the server no ``url``.
    """
    if url is None:
        raise RuntimeError("Modal assigned no URL to this server; see `modal app list`")
    messages: list[dict[str, Any]] = [
        {
            "role": "system",
            "content": "You are a pirate who can't help but drop sly reminders that he went to Harvard.",
        },
        {
            "role": "user",
            "content": [{"type": "text", "text": prompt or "Explain the Singular Value Decomposition."}],
        },
    ]
    await probe(url, messages, timeout=timeout)
    if twice:
        messages[0]["content"] = "You are Jar Jar Binks."
        print(f"Sending messages to {url}:", *messages, sep="\n\t")  # noqa: T201
        await probe(url, messages, timeout=timeout)
