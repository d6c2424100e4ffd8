"""What the gate in front of the engine costs: time per request and per streamed event.

    python bench/gate.py [--rounds 15]

The same ASGI app with the gate and without, in turns, without a network; the smallest of all
rounds counts, since everything else that happens on the machine only adds. For comparison: an
engine spends milliseconds on a token.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from homing_server.gate import App, Gate, Keys, Message, Receive, Scope, Send

EVENTS = 2_000
REQUESTS = 500
SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "headers": [(b"host", b"replica"), (b"authorization", b"Bearer sk-caller"), (b"content-type", b"application/json")],
}
CHUNK = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'


def app(events: int) -> App:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(events):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return streaming


async def nothing() -> Message:
    raise AssertionError("no body is read")


async def taken(served: App, times: int) -> float:
    async def send(message: Message) -> None: ...

    began = time.perf_counter()
    for _ in range(times):
        await served(SCOPE, nothing, send)
    return time.perf_counter() - began


async def measure(rounds: int) -> dict[str, float]:
    gated = lambda served: Gate(served, keys=Keys(caller="sk-caller", admin="sk-admin"), replica="ta-1")  # noqa: E731
    cases: dict[str, tuple[Any, int, int]] = {
        "request, bare": (app(0), REQUESTS, REQUESTS),
        "request, gated": (gated(app(0)), REQUESTS, REQUESTS),
        "event, bare": (app(EVENTS), 1, EVENTS),
        "event, gated": (gated(app(EVENTS)), 1, EVENTS),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, (served, times, units) in cases.items():
            best[name] = min(best[name], await taken(served, times) / units)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    best = asyncio.run(measure(parser.parse_args().rounds))
    for what in ("request", "event"):
        added = best[f"{what}, gated"] - best[f"{what}, bare"]
        print(f"the gate adds {1e6 * added:.2f} µs to each {what}")


if __name__ == "__main__":
    main()
