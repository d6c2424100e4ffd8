"""Cookies, kept for a key and a caller."""

from __future__ import annotations

from collections import OrderedDict
from http.cookiejar import CookieJar

import httpx
import pytest

from homing._http.cookie_jars import ReadOnlyJar, exclude_our_cookies
from homing._http.request_control import EXTENSION, RequestControl
from homing.core.affinity import cookies as module
from homing.core.affinity.cookies import MAX_COOKIES, MAX_SIZE, CookieStore, without
from homing.core.secrets.caller import caller_digest

ALICE, BOB = b"alice", b"bob"


def response(*set_cookies: str, url: str = "http://host/v1/models", ours: bool = True) -> httpx.Response:
    asked = httpx.Request("GET", url, extensions={EXTENSION: RequestControl()} if ours else {})
    headers = [(b"set-cookie", value.encode("latin-1")) for value in set_cookies]
    return httpx.Response(200, headers=headers, request=asked)


def sent(jar: CookieJar | None, url: str = "http://host/v1/chat/completions") -> str | None:
    request = httpx.Request("POST", url)
    if jar is not None:
        httpx.Cookies(jar).set_cookie_header(request)
    header: str | None = request.headers.get("cookie")
    return header


def test_they_are_kept_for_one_key_of_one_caller() -> None:
    memory = CookieStore()
    assert not memory
    memory.keep(ALICE, "k", response("a=1"))
    assert memory
    assert sent(memory.of(ALICE, "k")) == "a=1"
    assert memory.of(ALICE, "other") is memory.of(BOB, "k") is None


def test_a_jar_that_was_handed_out_changes_nothing() -> None:
    memory = CookieStore()
    memory.keep(ALICE, "k", response("a=1"))
    jar = memory.of(ALICE, "k")
    assert jar is not None
    jar.clear()
    assert sent(memory.of(ALICE, "k")) == "a=1"


def test_what_is_taken_back_leaves_nothing() -> None:
    memory = CookieStore()
    memory.keep(ALICE, "k", response("a=1", "b=2"))
    memory.keep(ALICE, "k", response("a=; Max-Age=0"))
    assert sent(memory.of(ALICE, "k")) == "b=2"
    memory.keep(ALICE, "k", response("b=; Max-Age=0"))
    assert not memory


@pytest.mark.parametrize(
    "bad", [[f"n{number}=1" for number in range(MAX_COOKIES)], [f"b={'x' * MAX_SIZE}"]], ids=["many", "large"]
)
def test_more_than_a_request_can_carry_is_dropped(bad: list[str]) -> None:
    memory = CookieStore()
    memory.keep(ALICE, "k", response("a=1"))
    memory.keep(ALICE, "k", response(*bad))
    assert not memory


def test_what_cannot_travel_is_not_kept() -> None:
    memory = CookieStore()
    memory.keep(ALICE, "k", response("ä=1", "b=\xff", "c=3", "d"))
    assert sent(memory.of(ALICE, "k")) == "c=3; d"


def test_the_longest_unused_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY", 2)
    memory = CookieStore()
    memory.keep(ALICE, "one", response("a=1"))
    memory.keep(ALICE, "two", response("a=2"))
    memory.of(ALICE, "one")
    memory.keep(ALICE, "three", response("a=3"))
    kept = [sent(memory.of(ALICE, key)) for key in ("one", "two", "three")]
    assert kept == ["a=1", None, "a=3"]


def test_a_key_that_another_thread_forgets_in_between_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(OrderedDict[object, object]):
        def move_to_end(self, key: object, last: bool = True) -> None:
            self.pop(key)
            super().move_to_end(key, last)

    memory = CookieStore()
    monkeypatch.setattr(memory, "_kept", Forgetful())
    memory.keep(ALICE, "k", response("a=1"))
    assert sent(memory.of(ALICE, "k")) == "a=1"


def test_cookies_of_the_same_name_are_left_out() -> None:
    ours, theirs = httpx.Cookies({"a": "1", "b": "2"}).jar, httpx.Cookies({"b": "3"}).jar
    assert sent(without(ours, theirs)) == "a=1"


def test_a_jar_is_spared_what_servers_set_on_our_calls() -> None:
    cookies = httpx.Cookies({"mine": "1"})
    for _ in range(2):
        exclude_our_cookies(cookies.jar)
    cookies.extract_cookies(response("a=1", ours=True))
    assert dict(cookies) == {"mine": "1"}
    cookies.extract_cookies(response("b=1", ours=False))
    assert dict(cookies) == {"mine": "1", "b": "1"}


def test_a_closed_jar_takes_nothing() -> None:
    cookies = httpx.Cookies(ReadOnlyJar())
    cookies.extract_cookies(response("a=1", ours=False))
    assert not cookies


def test_callers_are_told_apart_by_what_they_send_but_not_by_what_names_a_request() -> None:
    def caller(headers: dict[str, str], query: dict[str, object] | None = None, salt: bytes = b"s") -> bytes:
        return caller_digest(headers.items(), query or {}, salt=salt)

    one = caller({"Authorization": "Bearer a", "X-Tenant": "t"})
    assert one == caller({"x-tenant": "t", "authorization": "Bearer a", "traceparent": "00", "X-B3-TraceId": "1"})
    others = [
        caller({"Authorization": "Bearer b", "X-Tenant": "t"}),
        caller({"Authorization": "Bearer a"}),
        caller({"Authorization": "Bearer a", "X-Tenant": "t"}, {"key": 1}),
        caller({"Authorization": "Bearer a", "X-Tenant": "t"}, {"key": "1"}),
        caller({"Authorization": "Bearer a", "X-Tenant": "t"}, salt=b"another"),
    ]
    assert len({one, *others}) == 6
