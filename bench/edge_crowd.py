"""The local edge under 20,000 requests and beside 10,000 idle connections: does it stay flat, does it still serve?

    python bench/edge_crowd.py
    python bench/edge_crowd.py --requests 4000 --idle 1000 --log 500

The edge runs in a process of its own, which is looked at from outside. The log of requests fills up to its limit in
the first half; from there on nothing may grow. Exits with 1 if resident memory grows by more than 5 % in the second
half or between two crowds of idle connections, if files are left open, or if a request is not answered. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

ALLOWED = 0.05
"""Growth of memory, as a share: allocators round up."""
CLIENTS = 8
"""Connections that the requests are sent on, at once."""
SETTLING = 10.0
"""Seconds at most until the edge has closed what its clients have closed."""
BODY = json.dumps({"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 8})
EDGE = """
import sys
from homing_server.local import Edge, EdgeSettings
with Edge(EdgeSettings.instant(replicas=2, keep_requests=False, log_size=int(sys.argv[1]))) as edge:
    print(edge.url, flush=True)
    sys.stdin.read()
"""


class Watched:
    """The edge's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._proc = Path(f"/proc/{process.pid}")
        url = urlsplit(process.stdout.readline().strip())
        self.address = (url.hostname or "", url.port or 0)

    @property
    def megabytes(self) -> float:
        """Resident."""
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def files(self) -> int:
        """Open."""
        return len(list((self._proc / "fd").iterdir()))

    def settle(self, files: int) -> int:
        """Return how many files are open, when no more than ``files`` are or the time is up."""
        ends = time.monotonic() + SETTLING
        while self.files > files and time.monotonic() < ends:
            time.sleep(0.05)
        return self.files

    def ask(self, count: int = 1) -> None:
        """Send requests, one after the other. Raises `RuntimeError` for one that is not answered well."""
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=60)) as connection:
            for _ in range(count):
                connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise RuntimeError(f"answered with {response.status}")

    def load(self, count: int) -> None:
        """Send requests on several connections at once."""
        threads = [threading.Thread(target=self.ask, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def crowd(self, count: int) -> str:
        """Open idle connections, ask beside them, close them; return what was seen."""
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection(self.address))
            began = time.monotonic()
            self.ask()
            told = f"answered in {time.monotonic() - began:.2f} s beside {count} idle connections"
            return f"{told}, {self.files} files, {self.megabytes:.1f} MB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--log", type=int, default=5_000, help="requests that the edge remembers")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pipe = subprocess.PIPE
    problems = []
    command = [sys.executable, "-c", EDGE, str(options.log)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        edge = Watched(process)
        files = edge.files
        sizes = []
        for tenth in range(1, 11):
            edge.load(options.requests // 10)
            sizes.append(edge.megabytes)
            told = f"{tenth * options.requests // 10:7} requests  {sizes[-1]:7.1f} MB"
            print(f"{told}  {edge.settle(files)} files", flush=True)
        if sizes[-1] > sizes[4] * (1 + ALLOWED):
            problems.append(f"memory grew from {sizes[4]:.1f} to {sizes[-1]:.1f} MB in the second half")
        crowded = []
        for _ in range(3):
            print(edge.crowd(options.idle), flush=True)
            left = edge.settle(files)
            crowded.append(edge.megabytes)
            print(f"  gone: {left} files, {crowded[-1]:.1f} MB", flush=True)
        if crowded[-1] > crowded[0] * (1 + ALLOWED):
            problems.append(f"memory grew from {crowded[0]:.1f} to {crowded[-1]:.1f} MB by idle connections")
        if left > files:
            problems.append(f"{left - files} files are left open")
        process.communicate()
    print("\n".join(problems) or "flat")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
