"""HTTP to the engine on this machine. Standard library only, as all that starts an engine."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping


class Loopback:
    """HTTP to the engine on this machine, as its supervisor. Never logs what it reads.

    ``/server_info`` holds whatever keys SGLang was given, so bodies stay out of messages
    except for errors of the chat route.
    """

    def __init__(self, port: int, key: str | None = None) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._key = key
        # No proxies: HTTP_PROXY of the environment must not see, or fail, loopback traffic.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def request(
        self, path: str, *, timeout: float, body: bytes | None = None, method: str | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and lower-case headers; OSError when no answer came in ``timeout`` seconds."""
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._base + path, data=body, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=timeout) as reply:
                return reply.status, reply.read(), _lower(reply.headers.items())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), _lower(error.headers.items())


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
