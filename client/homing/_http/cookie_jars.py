"""Cookie jars of httpx clients, kept free of cookies that servers set on Homing's calls."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

from .request_control import EXTENSION


class ReadOnlyJar(CookieJar):
    """The jar of an httpx client above our transport: it holds only what its user puts in."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Store nothing: the transport keeps the cookies that servers set (`CookieStore`)."""


class _OthersOnly:
    """Replaces a jar's ``extract_cookies``: stores only cookies from responses to others' requests."""

    def __init__(self, extract: Callable[[Any, Any], None]) -> None:
        self._extract = extract

    def __call__(self, response: Any, request: Any) -> None:
        if EXTENSION not in request.request.extensions:
            self._extract(response, request)


def exclude_our_cookies(jar: CookieJar) -> None:
    """Keep cookies that servers set on our calls out of ``jar``, which belongs to a user's own httpx client.

    httpx offers no other hook: its client reads the cookies of each response into its one jar. The user's
    own cookies are still sent, and cookies that servers set on the user's own requests are still stored.
    """
    if not isinstance(jar.extract_cookies, _OthersOnly):
        jar.extract_cookies = _OthersOnly(jar.extract_cookies)  # type: ignore[method-assign]
