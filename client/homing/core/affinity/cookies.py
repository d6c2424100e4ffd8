"""Cookies that servers set, stored per conversation and caller instead of per client.

A load balancer that routes by cookie (HAProxy's ``cookie insert``, AWS's ``AWSALB``, nginx's ``sticky``)
chooses the replica for the next request in its first response. With one jar for the whole client, the first
such cookie would send all conversations to one replica, and a session opened for one caller would be sent
with another caller's key. So a cookie is treated as the server's part of an affinity key: it is stored for
the request's key and caller (`core.secrets.caller`), and sent only with these. The rules for cookies (domain,
path, Secure, expiry) are left to ``http.cookiejar``.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from http.cookiejar import Cookie, CookieJar
from typing import Any, Final

import httpx

MEMORY: Final = 10_000
"""Keys whose cookies are kept: as many as for other server-issued tokens. The least recently used go first."""

MAX_COOKIES: Final = 50
"""Cookies per key: what RFC 6265, section 6.1, asks clients to support per domain."""

MAX_SIZE: Final = 8192
"""Characters of one key's cookies: servers reject requests with more than 8 or 16 KiB of headers."""


class _Kept:
    """The cookies of one key. Their values may be credentials: neither ``repr`` nor ``vars`` shows them."""

    __slots__ = ("_cookies",)

    def __init__(self, cookies: tuple[Cookie, ...] = ()) -> None:
        self._cookies = cookies

    def jar(self) -> CookieJar:
        """Return a new jar with these cookies."""
        jar = CookieJar()
        for cookie in self._cookies:
            jar.set_cookie(cookie)
        return jar


class CookieStore:
    """The cookies of many conversations. Falsy while empty.

    Entries are replaced, never modified, so threads need no lock. If two responses for one key arrive at the
    same moment, the later one's cookies win.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, str], _Kept] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def of(self, caller: bytes, key: str) -> CookieJar | None:
        """Return a new jar with the cookies of ``key``, or None if there are none."""
        place = caller, key
        kept = self._kept.get(place)
        if kept is None:
            return None
        with suppress(KeyError):  # another thread may have dropped it just now
            self._kept.move_to_end(place)
        return kept.jar()

    def keep(self, caller: bytes, key: str, response: Any, *, library: Any = httpx) -> None:
        """Apply the cookies that ``response`` sets or deletes. ``library`` is httpx or httpx2."""
        place = caller, key
        jar = self._kept.get(place, _Kept()).jar()
        library.Cookies(jar).extract_cookies(response)
        cookies = tuple(cookie for cookie in jar if _travels(cookie))
        size = sum(len(cookie.name) + len(cookie.value or "") for cookie in cookies)
        if not cookies or len(cookies) > MAX_COOKIES or size > MAX_SIZE:
            self._kept.pop(place, None)  # all of them: the client can't know which ones the server needs
            return
        self._kept[place] = _Kept(cookies)
        while len(self._kept) > MEMORY:
            self._kept.popitem(last=False)


def _travels(cookie: Cookie) -> bool:
    # RFC 6265 allows only ASCII in a request, and httpx fails on anything else.
    return f"{cookie.name}{cookie.value}".isascii()


def without(jar: CookieJar, others: CookieJar) -> CookieJar:
    """Return the cookies of ``jar`` whose names ``others`` does not hold."""
    names = {cookie.name for cookie in others}
    return _Kept(tuple(cookie for cookie in jar if cookie.name not in names)).jar()
