"""Cookie jars of httpx clients, kept free of what servers set on Homing's calls."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

from .request_control import EXTENSION


class ReadOnlyJar(CookieJar):
    """The jar of an httpx client above a transport of ours: it holds what its user puts in, and nothing else."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Take nothing: the transport keeps what servers set (`CookieStore`)."""


class _OthersOnly:
    """In place of a jar's ``extract_cookies``: takes over what responses to requests of others set."""

    def __init__(self, extract: Callable[[Any, Any], None]) -> None:
        self._extract = extract

    def __call__(self, response: Any, request: Any) -> None:
        if EXTENSION not in request.request.extensions:
            self._extract(response, request)


def exclude_our_cookies(jar: CookieJar) -> None:
    """Keep what servers set on our calls out of ``jar``, which belongs to a user's own httpx client.

    httpx offers no other place: its client reads the cookies of each response into its one jar. What the
    user has put there goes on being sent, and what servers set on the user's own requests still enters.
    """
    if not isinstance(jar.extract_cookies, _OthersOnly):
        jar.extract_cookies = _OthersOnly(jar.extract_cookies)  # type: ignore[method-assign]
