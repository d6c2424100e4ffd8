"""The chatbot, two users in two browsers: neither sees, continues, stops, copies or deletes what is the other's."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from homing.stores import SQLiteStore
from homing.testing import Fault, assert_no_running
from homing_server.local import Edge

from ..chatting import Person, text_of, two_workers

SECRET = "The treasure is below the old oak."
TABS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chatbot") / "chats.db"


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[tuple[Edge, list[str]]]:
    with two_workers(place) as workers:
        yield workers


@pytest.fixture
def edge(running: tuple[Edge, list[str]]) -> Edge:
    running[0].reset()
    return running[0]


@pytest.fixture
def alice(running: tuple[Edge, list[str]]) -> Iterator[Person]:
    with Person(running[1]) as person:
        yield person


@pytest.fixture
def bob(running: tuple[Edge, list[str]]) -> Iterator[Person]:
    with Person(running[1]) as person:
        yield person


ATTEMPTS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("POST", "/turns", {"content": "What did she say?"}),
    ("POST", "/turns", {"content": "What did she say?", "at": 0}),
    ("POST", "/regenerate", None),
    ("POST", "/stop", None),
    ("POST", "/fork", {"turns": 1}),
    ("GET", "/replies/{reply}", None),
]


@pytest.mark.parametrize("worker", [0, 1])
def test_a_reply_under_way_is_not_the_other_s(edge: Edge, alice: Person, bob: Person, worker: int) -> None:
    edge.answer_with(SECRET)
    edge.inject(Fault.hang(after_chunks=4))
    chat, reply = alice.create()
    with alice.events(chat, reply) as events:
        first = next(events)
        for method, path, body in ATTEMPTS:
            refused = bob.call(method, f"/{chat}{path.format(reply=reply)}", body, worker=worker, status=404)
            assert refused == {"detail": "There is no such conversation."}
        assert bob.call("GET", "", worker=worker) == []
        assert edge.running == 1  # nobody has stopped it
        alice.call("POST", f"/{chat}/stop", status=202)
        rest = list(events)
    assert_no_running(edge)
    [turn] = alice.call("GET", f"/{chat}")["turns"]
    assert turn["text"] == text_of([first, *rest])
    assert [entry["id"] for entry in alice.call("GET", "")] == [chat]


def test_ids_cannot_be_guessed_or_made_up(edge: Edge, alice: Person, bob: Person) -> None:
    chats = [alice.ask() for _ in range(3)]
    assert all(re.fullmatch(r"[\w-]{22}", chat) for chat in chats)  # 128 bits
    assert len({chat[:8] for chat in chats}) == 3  # and none of them tells the next
    missing = bob.http.get(f"/api/conversations/{secrets.token_urlsafe(16)}")
    theirs = bob.http.get(f"/api/conversations/{chats[0]}")
    assert (missing.status_code, missing.content) == (theirs.status_code, theirs.content)
    [chat, *_] = chats
    for name in (f"live:{chat}", f"live%3A{chat}", f"{chat}%00", f"{chat}%0A", f"{chat}/", "..%2F", "%2e%2e"):
        assert bob.http.get(f"/api/conversations/{name}", follow_redirects=True).status_code == 404, name


def test_two_people_at_once_get_each_their_own(edge: Edge, alice: Person, bob: Person) -> None:
    people = {"alice": alice, "bob": bob}

    def talk(number: int) -> tuple[str, str]:
        name = "alice" if number % 2 else "bob"
        with Person(people[name].workers) as tab:
            tab.http.cookies = httpx.Cookies(people[name].http.cookies)
            chat, reply = tab.create(f"{name} {number}")
            tab.follow(chat, reply, worker=number // 2 % 2)
            return name, chat

    with ThreadPoolExecutor(TABS) as tabs:
        talks = list(tabs.map(talk, range(2 * TABS)))
    for name, person in people.items():
        mine = {chat for whose, chat in talks if whose == name}
        listed = person.call("GET", "")
        assert {entry["id"] for entry in listed} == mine
        assert all(entry["title"].startswith(name) for entry in listed)
        for chat in mine:
            [turn] = person.call("GET", f"/{chat}")["turns"]
            assert turn["content"].startswith(name)


def test_tabs_of_one_person_take_turns(edge: Edge, alice: Person) -> None:
    chat = alice.ask()

    def say(number: int) -> int:
        with httpx.Client(cookies=alice.http.cookies, timeout=30) as tab:
            url = f"{alice.workers[number % 2]}/api/conversations/{chat}/turns"
            return tab.post(url, json={"content": f"tab {number}"}).status_code

    with ThreadPoolExecutor(TABS) as tabs:
        statuses = list(tabs.map(say, range(TABS)))
    assert set(statuses) <= {202, 409}
    shown = alice.call("GET", f"/{chat}")
    if shown["latest"] is not None:
        alice.follow(chat, shown["latest"]["reply"])
        shown = alice.call("GET", f"/{chat}")
    assert len(shown["turns"]) == 1 + statuses.count(202)  # none is lost, and none twice


# -- the cookie --------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", ["", "x", "y" * 42, "ü" * 43, "a" * 44, '"><script>'])
def test_a_cookie_that_is_none_of_ours_is_replaced(running: tuple[Edge, list[str]], planted: str) -> None:
    """Else its owner would be locked out for a year."""
    with httpx.Client(base_url=running[1][0]) as http:
        header = b"chatbot_owner=" + planted.encode()
        assert http.get("/api/conversations", headers={b"cookie": header}).status_code == 401
        page = http.get("/", headers={b"cookie": header})
    assert re.match(r"chatbot_owner=[\w-]{43};", page.headers["set-cookie"])


def test_over_https_nobody_else_can_plant_the_cookie(running: tuple[Edge, list[str]]) -> None:
    planted = "attacker" * 5 + "xyz"
    forwarded = {"x-forwarded-proto": "https"}  # as from a proxy on this machine
    with httpx.Client(base_url=running[1][0], headers={**forwarded, "cookie": f"chatbot_owner={planted}"}) as http:
        assert http.get("/api/conversations").status_code == 401
        cookie = http.get("/").headers["set-cookie"]
    assert re.match(r"__Host-chatbot_owner=[\w-]{43};", cookie)
    assert planted not in cookie
    # What browsers ask of such a name, or else they refuse the cookie:
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


def test_no_cache_keeps_what_is_one_person_s(edge: Edge, alice: Person) -> None:
    """A shared cache that kept the first page would hand its cookie to the next visitor."""
    first = httpx.get(f"{alice.workers[0]}/")
    assert first.headers["cache-control"] == "no-store"
    cookies = {httpx.get(f"{alice.workers[0]}/").cookies["chatbot_owner"] for _ in range(3)}
    assert len(cookies) == 3
    chat, reply = alice.create()
    alice.follow(chat, reply)
    for path in ("", f"/{chat}", f"/{chat}/replies/{reply}"):
        answer = alice.http.get(f"/api/conversations{path}")
        assert answer.headers["cache-control"] == "no-store"


# -- other sites' pages ------------------------------------------------------------------------------

WRITES = [
    ("POST", "", True),
    *[(method, f"/{{chat}}{path}", body is not None) for method, path, body in ATTEMPTS if method != "GET"],
]


@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:1"},
        # Over plain http browsers say no more than this. Another port of this host is the same site to a cookie.
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_another_site_s_page_changes_nothing(edge: Edge, alice: Person, sent: dict[str, str]) -> None:
    chat = alice.ask()
    for method, path, has_body in WRITES:
        url = f"/api/conversations{path.format(chat=chat)}"
        body = b'{"content": "x", "turns": 1}' if has_body else None
        for kind in ({}, {"content-type": "application/json"}, {"content-type": "text/plain"}):
            assert alice.http.request(method, url, content=body, headers={**sent, **kind}).status_code == 403
    assert len(alice.call("GET", "")) == 1
    assert len(alice.call("GET", f"/{chat}")["turns"]) == 1


def test_its_own_page_may(edge: Edge, alice: Person) -> None:
    own = httpx.URL(alice.workers[0])
    for sent in (
        {"sec-fetch-site": "same-origin", "origin": str(own)},
        {"origin": f"http://{own.netloc.decode()}"},
        # A proxy in front that calls it by another name:
        {"sec-fetch-site": "same-origin", "origin": "https://chat.example"},
    ):
        made = alice.http.post("/api/conversations", json={"content": "Hello"}, headers=sent)
        assert made.status_code == 201
        alice.follow(made.json()["id"], made.json()["reply"])


def test_what_is_deleted_is_gone(edge: Edge, alice: Person, bob: Person, place: Path) -> None:
    kept = bob.ask("Mine stays")
    edge.answer_with(SECRET)
    chat = alice.ask(SECRET)
    alice.call("DELETE", f"/{chat}", status=204)
    with SQLiteStore(place) as store:
        names = [item.id for item in store.list(limit=1000).items]
    assert not [name for name in names if chat in name]
    assert kept in names
    assert len(bob.call("GET", f"/{kept}")["turns"]) == 1
