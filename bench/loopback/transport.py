"""What the transport costs beside httpx's own: CPU per streamed event, and per request.

    python bench/loopback/transport.py [--rounds 9]

Bytes only, no events and no models: this is the floor under the client. All stacks take turns in
every round, so that the machine's moods meet them alike; only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent))

from launch import pin_apart, running  # type: ignore[import-not-found]

from homing._http._async.transport import AsyncTransport
from homing._http._sync.transport import Transport
from homing._http.request_control import EXTENSION, RequestControl

GAP = 30.0
"""Seconds the deadline moves ahead with each piece, as the client above does."""

Stack = Callable[[str, int], int]
"""Reads a URL that often; returns the bytes."""


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def floor(url: str, times: int) -> int:
    """A socket and nothing else: the kernel's part."""
    parts = urlsplit(url)
    size = 0
    with socket.create_connection((parts.hostname, parts.port or 80)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        for _ in range(times):
            sock.sendall(request)
            tail = b""
            while not (tail.endswith((b"0\r\n\r\n", b"null}}"))):
                data = sock.recv(65536)
                size += len(data)
                tail = (tail + data)[-16:]
    return size


def with_client(transport: httpx.BaseTransport, call: RequestControl | None) -> Stack:
    client = httpx.Client(transport=transport, timeout=30, trust_env=False)
    extensions = {} if call is None else {EXTENSION: call}

    def run(url: str, times: int) -> int:
        size = 0
        for _ in range(times):
            with client.stream("POST", url, content=b"{}", extensions=extensions) as response:
                stream = response.stream
                assert isinstance(stream, httpx.SyncByteStream)
                for data in stream:
                    size += len(data)
                    if call is not None:
                        call.deadline = call.clock() + GAP
        return size

    return run


class Loop:
    """One event loop for all async stacks."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def with_client(self, transport: httpx.AsyncBaseTransport, call: RequestControl | None) -> Stack:
        client = httpx.AsyncClient(transport=transport, timeout=30, trust_env=False)
        extensions = {} if call is None else {EXTENSION: call}

        async def run(url: str, times: int) -> int:
            size = 0
            for _ in range(times):
                async with client.stream("POST", url, content=b"{}", extensions=extensions) as response:
                    stream = response.stream
                    assert isinstance(stream, httpx.AsyncByteStream)
                    async for data in stream:
                        size += len(data)
                        if call is not None:
                            call.deadline = call.clock() + GAP
            return size

        return lambda url, times: self.loop.run_until_complete(run(url, times))

    def many(self, transport: httpx.AsyncBaseTransport, streams: int) -> Stack:
        client = httpx.AsyncClient(transport=transport, timeout=60, trust_env=False)

        async def one(url: str) -> int:
            size = 0
            async with client.stream("POST", url, content=b"{}") as response:
                stream = response.stream
                assert isinstance(stream, httpx.AsyncByteStream)
                async for data in stream:
                    size += len(data)
            return size

        async def run(url: str) -> int:
            return sum(await asyncio.gather(*(one(url) for _ in range(streams))))

        return lambda url, times: self.loop.run_until_complete(run(url))


def measure(title: str, stacks: dict[str, Stack], url: str, *, times: int, units: int, unit: str, rounds: int) -> None:
    """Print the median microseconds of CPU per unit, and the ratio to the first stack."""
    sizes = {name: stack(url, 1) for name, stack in stacks.items()}  # warm, and everybody reads the same
    taken: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(rounds):
        for name, stack in stacks.items():
            before = cpu()
            stack(url, times)
            taken[name].append((cpu() - before) / (times * units) * 1e6)
    reference = statistics.median(next(iter(taken.values())))
    print(f"\n{title} (µs CPU per {unit}, median of {rounds}; min; ratio)")
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"  {name:34}{median:10.2f}{min(values):10.2f}{reference / median:8.2f}x   {sizes[name]} bytes")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--quick", action="store_true", help="fewer events")
    options = arguments.parse_args()
    scale = 1 if options.quick else 4
    apart = pin_apart()
    print(
        f"Python {sys.version.split()[0]}, httpx {httpx.__version__}, load {os.getloadavg()[0]:.2f}, "
        f"server on {'its own CPU' if apart else 'the same CPUs'}, {time.strftime('%Y-%m-%d')}"
    )
    loop = Loop()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    stacks: dict[str, Stack] = {
        "httpx.HTTPTransport": with_client(httpx.HTTPTransport(), None),
        "Transport": with_client(Transport(), None),
        "Transport, deadline moving": with_client(Transport(), RequestControl()),
        "httpx.AsyncHTTPTransport": loop.with_client(httpx.AsyncHTTPTransport(), None),
        "AsyncTransport": loop.with_client(AsyncTransport(), None),
        "AsyncTransport, deadline moving": loop.with_client(AsyncTransport(), RequestControl()),
        "floor: a bare socket": floor,
    }
    with running(cpu=apart) as base:
        for title, path, events in (
            ("Events flat out, one HTTP chunk each, 64 KiB reads", "burst-5000", 5000),
            ("Events flat out, one write each", "each-5000", 5000),
            ("Events at 1,000 a second", "paced-500-1000", 500),
        ):
            times = 1 if path.startswith("paced") else scale
            measure(title, stacks, f"{base}/{path}", times=times, units=events, unit="event", rounds=options.rounds)
        measure(
            "Requests on a warm connection, 2 KB answers",
            stacks,
            f"{base}/json-2000",
            times=50 * scale,
            units=1,
            unit="request",
            rounds=options.rounds,
        )
        for streams, path, events in ((100, "burst-500", 500), (300, "paced-50-50", 50)):
            crowd = {
                "httpx.AsyncHTTPTransport": loop.many(httpx.AsyncHTTPTransport(limits=limits), streams),
                "AsyncTransport": loop.many(AsyncTransport(), streams),
            }
            measure(
                f"{streams} streams at once, {path}",
                crowd,
                f"{base}/{path}",
                times=1,
                units=streams * events,
                unit="event",
                rounds=max(3, options.rounds // 3),
            )


if __name__ == "__main__":
    main()
