"""Cookies that servers set: kept for a conversation and a caller, not for a client.

A balancer that routes by cookie (HAProxy's ``cookie insert``, AWS's ``AWSALB``, nginx's ``sticky``)
says with its first response where the next request shall go. In one jar for a whole client the
first such cookie takes all conversations to one replica, and a session that was opened for one
caller goes out under another's key. So a cookie is the server's part of an affinity key: it is
kept for the key that the request had and for who had asked (`core.caller`), and goes along with
these alone. Cookies' own rules (domain, path, Secure, expiry) are `http.cookiejar`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from http.cookiejar import Cookie, CookieJar
from typing import Any, Final

import httpx

MEMORY: Final = 10_000
"""Keys for which cookies are kept, as for other tokens of servers; the longest unused are forgotten first."""

MAX_COOKIES: Final = 50
"""Cookies of one key: what RFC 6265, section 6.1, asks of clients for one domain."""

MAX_SIZE: Final = 8192
"""Characters of one key's cookies: servers refuse a request with more than 8 or 16 KiB of headers."""


class _Kept:
    """The cookies of one key. Their values may be credentials: neither ``repr`` nor ``vars`` shows them."""

    __slots__ = ("_cookies",)

    def __init__(self, cookies: tuple[Cookie, ...] = ()) -> None:
        self._cookies = cookies

    def jar(self) -> CookieJar:
        """Return a jar with these, the caller's own."""
        jar = CookieJar()
        for cookie in self._cookies:
            jar.set_cookie(cookie)
        return jar


class CookieStore:
    """The cookies of many conversations. False as long as there are none.

    What is kept is never changed, only replaced, so threads need no lock. Of two responses to one key
    at the same moment the later one's cookies count.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, str], _Kept] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def of(self, caller: bytes, key: str) -> CookieJar | None:
        """Return a jar with the cookies of ``key``, the reader's own; None if there are none."""
        place = caller, key
        kept = self._kept.get(place)
        if kept is None:
            return None
        with suppress(KeyError):  # another thread may have forgotten it just now
            self._kept.move_to_end(place)
        return kept.jar()

    def keep(self, caller: bytes, key: str, response: Any, *, library: Any = httpx) -> None:
        """Take over the cookies that ``response`` sets or deletes. ``library``: httpx, or its twin."""
        place = caller, key
        jar = self._kept.get(place, _Kept()).jar()
        library.Cookies(jar).extract_cookies(response)
        cookies = tuple(cookie for cookie in jar if _travels(cookie))
        size = sum(len(cookie.name) + len(cookie.value or "") for cookie in cookies)
        if not cookies or len(cookies) > MAX_COOKIES or size > MAX_SIZE:
            self._kept.pop(place, None)  # all of them: nobody can say which the server could do without
            return
        self._kept[place] = _Kept(cookies)
        while len(self._kept) > MEMORY:
            self._kept.popitem(last=False)


def _travels(cookie: Cookie) -> bool:
    # RFC 6265 allows nothing else in a request, and httpx stumbles over it.
    return f"{cookie.name}{cookie.value}".isascii()


def without(jar: CookieJar, others: CookieJar) -> CookieJar:
    """Return the cookies of ``jar`` whose names ``others`` does not hold."""
    names = {cookie.name for cookie in others}
    return _Kept(tuple(cookie for cookie in jar if cookie.name not in names)).jar()
