"""The chatbot's backend, in two workers that share a store: no browser here (tests/browser has one)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from homing.stores import SQLiteStore
from homing.testing import Fault, assert_no_running
from homing_server.local import Edge

from ..chatting import Person, text_of, two_workers
from ..serving import serving

from chatbot import underway  # isort: skip  # the line above says where it is
from chatbot.app import make_app  # isort: skip

LONG = "One two three four five six seven eight nine ten. " * 8


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
def person(running: tuple[Edge, list[str]]) -> Iterator[Person]:
    with Person(running[1]) as person:
        yield person


# -- who may see what ----------------------------------------------------------------------------


def test_the_page_is_strict_and_brings_a_cookie_that_scripts_cannot_read(running: tuple[Edge, list[str]]) -> None:
    first = httpx.get(f"{running[1][0]}/")
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    assert first.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|<style|\sstyle=", first.text)
    cookie = first.headers["set-cookie"]
    assert re.match(r"chatbot_owner=[\w-]{43};", cookie)
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    again = httpx.get(f"{running[1][0]}/", headers={"cookie": cookie.partition(";")[0]})
    assert "set-cookie" not in again.headers
    script = httpx.get(f"{running[1][0]}/static/app.js")
    assert script.headers["content-security-policy"] == policy


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/turns", {"content": "Mine now"}),
        ("POST", "/regenerate", None),
        ("POST", "/stop", None),
        ("POST", "/fork", {"turns": 1}),
        ("GET", "/replies/{reply}", None),
    ],
)
def test_nobody_else_s_conversation_is_there(edge: Edge, person: Person, method: str, path: str, body: Any) -> None:
    chat, reply = person.create()
    person.follow(chat, reply)
    path = f"/{chat}{path.format(reply=reply)}"
    with Person(person.workers) as stranger:
        stranger.call(method, path, body, status=404)
        assert stranger.call("GET", "") == []
        stranger.http.cookies.clear()
        stranger.call(method, path, body, status=401)
    assert len(person.call("GET", f"/{chat}")["turns"]) == 1


def test_other_records_of_the_store_are_no_conversations(edge: Edge, person: Person, place: Path) -> None:
    chat = person.ask()
    with SQLiteStore(place) as store:
        names = {item.id for item in store.list(limit=1000).items}
        [cookie] = person.http.cookies.values()
        assert not any(cookie in repr(store.load(name)) + repr(vars) for name in names)
        assert all(cookie not in str(item.header) for item in store.list(limit=1000).items)
    assert f"live:{chat}" in names
    for name in (*(name for name in names if ":" in name), "a b", "nonsense"):
        person.call("GET", f"/{name}", status=404)


def test_requests_from_other_sites_are_refused(edge: Edge, person: Person) -> None:
    chat = person.ask()
    url = f"/api/conversations/{chat}"
    for site in ("cross-site", "same-site", "none"):
        assert person.http.delete(url, headers={"sec-fetch-site": site}).status_code == 403
    # What a form can send without asking first is no JSON.
    form = person.http.post(f"{url}/turns", content='{"content": "x"}', headers={"content-type": "text/plain"})
    assert form.status_code == 422
    assert len(person.call("GET", f"/{chat}")["turns"]) == 1


@pytest.mark.parametrize("content", ["", "x" * 32_001])
def test_what_is_too_short_or_too_long(edge: Edge, person: Person, content: str) -> None:
    person.call("POST", "", {"content": content}, status=422)


# -- a conversation ------------------------------------------------------------------------------


def test_a_conversation_and_its_list(edge: Edge, person: Person) -> None:
    edge.answer_next("First.", "Second.")
    chat = person.ask("What   is\nthis?" + " Long." * 20)
    events = person.follow(chat, person.say(chat, "And?", worker=1), worker=1)
    assert text_of(events) == "Second."
    shown = person.call("GET", f"/{chat}")
    assert [turn["text"] for turn in shown["turns"]] == ["First.", "Second."]
    assert shown["turns"][1]["telemetry"]["verdict"] == "warm"
    assert shown["latest"] is None
    other = person.ask("Another")
    listed = person.call("GET", "")
    assert [entry["id"] for entry in listed] == [other, chat]
    assert listed[1]["title"].startswith("What is this? Long.")
    assert len(listed[1]["title"]) == 60
    person.call("DELETE", f"/{chat}", status=204)
    person.call("GET", f"/{chat}", status=404)
    assert [entry["id"] for entry in person.call("GET", "")] == [other]


def test_edit_regenerate_fork(edge: Edge, person: Person) -> None:
    edge.answer_next("One.", "Two.", "Two again.", "Another two.", "Fork's.")
    chat = person.ask("1?")
    person.follow(chat, person.say(chat, "2?"))
    person.follow(chat, person.call("POST", f"/{chat}/regenerate", status=202)["reply"])
    person.follow(chat, person.say(chat, "Other 2?", at=1))
    fork = person.call("POST", f"/{chat}/fork", {"turns": 1}, status=201)["id"]
    person.follow(fork, person.say(fork, "Else?"))

    def said(chat: str) -> list[tuple[str, str]]:
        return [(turn["content"], turn["text"]) for turn in person.call("GET", f"/{chat}")["turns"]]

    assert said(chat) == [("1?", "One."), ("Other 2?", "Another two.")]
    assert said(fork) == [("1?", "One."), ("Else?", "Fork's.")]
    keys = {record.key for record in edge.log if record.path.endswith("completions")}
    assert len(keys) == 1  # the fork comes home to the same replica
    assert edge.log[-1].tokens.cached
    person.call("POST", f"/{chat}/turns", {"content": "x", "at": 2}, status=409)


def test_a_failed_turn_loses_nothing(edge: Edge, person: Person) -> None:
    chat = person.ask()
    edge.inject(Fault.answer(400, '{"message": "sk-secret"}'))
    [event] = person.follow(chat, person.say(chat, "A question of great length"))
    assert event.json()["type"] == "BadRequestError"
    shown = person.call("GET", f"/{chat}", worker=1)
    assert len(shown["turns"]) == 1
    assert shown["latest"]["asked"] == {"content": "A question of great length", "at": None}
    assert shown["latest"]["error"] == event.json()
    assert not shown["latest"]["running"]
    person.follow(chat, person.say(chat, "A question of great length"))
    assert person.call("GET", f"/{chat}")["latest"] is None


# -- several workers -----------------------------------------------------------------------------


def test_a_reply_is_followed_in_another_worker_and_after_a_reload(edge: Edge, person: Person) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.slow(0.002))
    chat, reply = person.create()
    with person.events(chat, reply) as events:
        before = [next(events) for _ in range(3)]
    shown = person.call("GET", f"/{chat}", worker=1)
    if shown["latest"] is not None:  # if not over already
        assert (shown["latest"]["reply"], shown["latest"]["running"]) == (reply, True)
        assert shown["latest"]["asked"]["content"] == "Hello"
    after = person.follow(chat, reply, worker=1, after=before[-1].id)
    assert text_of(before) + text_of(after) == LONG
    assert text_of(person.follow(chat, reply, worker=1)) == LONG
    assert len(person.call("GET", f"/{chat}", worker=1)["turns"]) == 1


def test_one_reply_at_a_time_whichever_worker_is_asked(edge: Edge, person: Person) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    chat, reply = person.create()
    for worker in (0, 1):
        refused = person.call("POST", f"/{chat}/turns", {"content": "Me too"}, worker=worker, status=409)
        assert refused["error"]["type"] == "ConversationBusy"
    person.call("POST", f"/{chat}/stop", status=202)
    assert person.follow(chat, reply)[-1].event == "done"


@pytest.mark.parametrize("worker", [0, 1])
def test_stop_is_heard_wherever_the_reply_runs(edge: Edge, person: Person, worker: int) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))
    chat, reply = person.create()
    with person.events(chat, reply, worker=1 - worker) as events:
        first = next(events)
        person.call("POST", f"/{chat}/stop", worker=worker, status=202)
        rest = list(events)
    assert rest[-1].json()["finish_reason"] == "interrupted"
    assert_no_running(edge)
    [turn] = person.call("GET", f"/{chat}")["turns"]
    assert turn["text"] == text_of([first, *rest])


def test_a_worker_that_died_is_found_out_and_another_takes_over(
    edge: Edge, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    chat, reply = person.create("Is anybody there?")
    with person.events(chat, reply) as events:
        next(events)
        monkeypatch.setattr(underway, "LEASE", -1.0)  # its heartbeats count no more
        lost = person.follow(chat, reply, worker=1)[-1]
        assert lost.json()["type"] == "WorkerLost"
        shown = person.call("GET", f"/{chat}", worker=1)["latest"]
        assert (shown["running"], shown["asked"]["content"]) == (False, "Is anybody there?")
        url = f"{person.workers[1]}/api/conversations/{chat}/turns"
        answer = person.http.post(url, json={"content": "Again"})
        for _ in range(100):
            if answer.status_code == 202:
                break
            # A heartbeat came in between, since it is not really dead.
            answer = person.http.post(url, json={"content": "Again"})
        again = answer.json()["reply"]
        monkeypatch.undo()
        # It was not dead after all: it finds its record gone, and stops.
        old = list(events)[-1]
    new = person.follow(chat, again, worker=1)[-1]
    assert_no_running(edge)
    # Whoever is first has saved its turn; the other is told, and has overwritten nothing.
    assert "done" in (old.event, new.event)
    conflicts = [event.json()["type"] for event in (old, new) if event.event == "failed"]
    assert conflicts in ([], ["VersionConflict"])
    assert len(person.call("GET", f"/{chat}")["turns"]) == 2 - len(conflicts)


def test_a_worker_that_is_told_to_end_leaves_nothing_open(edge: Edge, person: Person, place: Path) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))
    with serving(make_app(str(place), edge.url)) as third:
        workers, person.workers = person.workers, [third]
        chat, reply = person.create()
        person.workers = workers
        with person.events(chat, reply) as events:
            next(events)
    assert_no_running(edge)
    seen = person.follow(chat, reply)
    assert seen[-1].json()["finish_reason"] == "interrupted"
    [turn] = person.call("GET", f"/{chat}")["turns"]
    assert (turn["content"], turn["text"]) == ("Hello", text_of(seen))


def test_deleting_stops_what_runs(edge: Edge, person: Person) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    chat, reply = person.create()
    with person.events(chat, reply) as events:
        next(events)
        person.call("DELETE", f"/{chat}", status=204)
        list(events)
    assert_no_running(edge)
    person.call("GET", f"/{chat}", status=404)
    assert person.http.get(f"/api/conversations/{chat}/replies/{reply}").status_code == 404


def test_a_reply_of_before_is_not_followed_for_ever(edge: Edge, person: Person) -> None:
    chat, first = person.create()
    person.follow(chat, first)
    person.follow(chat, person.say(chat, "More"))
    url = f"/api/conversations/{chat}/replies/{first}"
    assert person.http.get(url).status_code == 204  # an EventSource does not come back


def test_a_port_that_is_taken_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatbot import __main__ as program

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(program, "PORT", taken.getsockname()[1])
        with pytest.raises(SystemExit, match="CHATBOT_PORT="):
            program.main()
    program.check_port()  # it is free again
