"""What a server hands out belongs to the conversation and the caller that it was handed to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from homing.core.affinity.cookies import MAX_COOKIES
from homing.core.affinity.strategies import EchoAffinity, HeaderAffinity
from homing.integrations.openai import affinity_headers

from ..transport.peers import Asked
from .balancer import SERVERS, Balancer, Response
from .voices import AsyncVoice, Voice

QUESTION: list[Any] = [{"role": "user", "content": "q"}]
Behind = Callable[..., Balancer]
OWN = ["", "httpx", "httpx2"]
"""Whose ``http_client``; without one the connections are ours."""


@pytest.fixture(params=["sync", "async"])
def voice(request: pytest.FixtureRequest) -> Iterator[Voice]:
    if request.param == "sync":
        spoken = Voice()
        yield spoken
        spoken.close()
        return
    with start_blocking_portal() as portal:
        heard = AsyncVoice(portal)
        yield heard
        heard.close()


@pytest.fixture
def behind() -> Iterator[Behind]:
    """Start a balancer."""
    started: list[Balancer] = []

    def start(**how: Any) -> Balancer:
        started.append(Balancer(**how))
        return started[-1]

    yield start
    for balancer in started:
        balancer.http.stop()


def post(voice: Voice, http: Any, balancer: Balancer, opening: str, bearer: str, **more: str) -> None:
    """Ask as an SDK does."""
    body = {"model": "m", "messages": [{"role": "user", "content": opening}]}
    headers = {"Authorization": f"Bearer {bearer}", "X-Stainless-Retry-Count": str(len(balancer.seen)), **more}
    assert voice.do(http.post, f"{balancer.url}/v1/chat/completions", json=body, headers=headers).is_success


def numbered() -> Callable[[Asked, str], list[str]]:
    """Return what sets a session of its own with each response."""
    numbers = itertools.count(1)
    return lambda asked, server: [f"session={next(numbers)}; Path=/"]


def ask(voice: Voice, client: Any, **params: Any) -> None:
    voice.do(client.chat.completions.create, messages=QUESTION, **params)


# -- an affinity of the conversation -------------------------------------------------------------


@pytest.mark.parametrize("own", OWN)
def test_conversations_spread_over_all_servers_and_each_stays_at_home(voice: Voice, behind: Behind, own: str) -> None:
    balancer = behind()
    client = voice.client(balancer.url, http_client=voice.http_client(own) if own else None)
    chats = [client.conversation() for _ in range(12)]
    for order in (chats, chats[::-1], chats):
        for chat in order:
            voice.do(chat.send, "q")
    homes = balancer.homes()
    assert [len(turns) for turns in homes.values()] == [3] * 12
    assert all(len(set(turns)) == 1 for turns in homes.values())
    assert sorted(turns[0] for turns in homes.values()) == sorted(SERVERS * 4)


def test_a_key_brings_its_loose_calls_home_and_its_model_lookup_too(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    client = voice.client(balancer.url, model=None)
    for number, order in enumerate(("abc", "cba", "abc")):
        for content in order:
            messages = [{"role": "user", "content": content}]
            voice.do(client.chat.completions.create, messages=messages, extra_headers={"X-Request-Id": str(number)})
    assert [len(set(turns)) for turns in balancer.homes().values()] == [1, 1, 1]
    assert {turns[0] for turns in balancer.homes().values()} == set(SERVERS)


def test_forks_and_copies_with_the_same_caller_go_along(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    client = voice.client(balancer.url, api_key="alice-key")
    chat = client.conversation(affinity_key="k")
    voice.do(chat.send, "q")
    for other in (*chat.fork(2), client.with_options(timeout=9).conversation(affinity_key="k")):
        voice.do(other.send, "q")
    assert [seen.server for seen in balancer.seen] == ["s1"] * 4


def test_a_new_key_begins_anew(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    chat = voice.client(balancer.url).conversation()
    voice.do(chat.send, "q")
    voice.do(chat.fork(affinity="new").send, "q")
    chat.rekey()
    voice.do(chat.send, "q")
    assert [seen.cookie for seen in balancer.seen] == [None] * 3


def test_without_affinity_there_are_no_cookies(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    client = voice.client(balancer.url, affinity="none")
    chat = client.conversation()
    for _ in range(2):
        voice.do(chat.send, "q")
        ask(voice, client)
        voice.do(client.models.list)
    assert {seen.cookie for seen in balancer.seen} == {None}


def test_the_attempt_that_goes_anywhere_leaves_home_where_it_is(voice: Voice, behind: Behind) -> None:
    full: list[int] = []

    def says(asked: Asked) -> Response | None:
        return Response("429 Too Many Requests", ("Retry-After: 0",)) if full and full.pop() else None

    balancer = behind(says=says)
    chat = voice.client(balancer.url).conversation()
    voice.do(chat.send, "q")
    full[:] = [1, 1]
    voice.do(chat.send, "q")
    voice.do(chat.send, "q")
    assert [seen.server for seen in balancer.seen] == ["s1", "s1", "s1", "s2", "s1"]


# -- never another caller's ----------------------------------------------------------------------


class Rotating:
    """A function that returns keys: another one from the second call on."""

    def __init__(self) -> None:
        self.keys = ["alice-key"]

    def __call__(self) -> str:
        return self.keys.pop() if self.keys else "bob-key"


OTHERS = {
    "api_key": {"api_key": "bob-key"},
    "proxy_token": {"proxy_token": "wk-bob.ws-bob"},
    "Authorization": {"default_headers": {"authorization": "Basic Ym9i"}},
    "a header that nobody knows": {"default_headers": {"X-Tenant": "bob"}},
    "query": {"default_query": {"key": "bob"}},
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_no_cookie_crosses_to_a_copy_with_another_credential(
    voice: Voice, behind: Behind, other: dict[str, Any], own: str
) -> None:
    balancer = behind(sets=numbered())
    http_client = voice.http_client(own) if own else None
    alice = voice.client(balancer.url, http_client=http_client).with_options(api_key="alice-key")
    bob = alice.with_options(**other)
    for client in (alice, bob, alice, bob):
        ask(voice, client, affinity_key="k")
    assert [seen.cookie for seen in balancer.seen] == [None, None, "session=1", "session=2"]
    # Neither do conversations that have, or take, the same key.
    voice.do(alice.conversation(affinity_key="k").send, "q")
    voice.do(bob.conversation(affinity_key="k").send, "q")
    assert [seen.cookie for seen in balancer.seen[4:]] == ["session=3", "session=4"]


@pytest.mark.parametrize(
    "bob",
    [
        {"extra_headers": {"Authorization": "Bearer bob-key"}},
        {"extra_headers": {"X-Api-Key": "bob-key"}},
        {"extra_query": {"key": "bob"}},
    ],
    ids=str,
)
def test_no_cookie_crosses_to_a_call_with_another_credential(voice: Voice, behind: Behind, bob: dict[str, Any]) -> None:
    balancer = behind(sets=numbered())
    client = voice.client(balancer.url, api_key="alice-key")
    for call in ({}, bob, {}, bob):
        ask(voice, client, **call)
    assert [seen.cookie for seen in balancer.seen] == [None, None, "session=1", "session=2"]


def test_no_cookie_crosses_to_the_next_key_of_a_function(voice: Voice, behind: Behind) -> None:
    balancer = behind(sets=numbered())
    chat = voice.client(balancer.url, api_key=Rotating()).conversation()
    for _ in range(3):
        voice.do(chat.send, "q")
    assert [(seen.bearer, seen.cookie) for seen in balancer.seen] == [
        ("Bearer alice-key", None), ("Bearer bob-key", None), ("Bearer bob-key", "session=2"),
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_no_cookie_crosses_to_another_client(voice: Voice, behind: Behind, library: str) -> None:
    one, two = behind(), behind()  # one host, two ports: cookies do not tell these apart
    shared = voice.http_client(library)
    for url in (one.url, two.url, one.url, two.url):
        client = voice.client(url, http_client=shared)
        ask(voice, client, affinity_key="k")
    assert {seen.cookie for seen in one.seen + two.seen} == {None}


def test_no_token_that_a_server_issues_crosses(voice: Voice, behind: Behind) -> None:
    def says(asked: Asked) -> Response:
        return Response(headers=(f"X-Session-Token: of-{asked.headers['authorization'][7:]}",))

    balancer = behind(says=says, sets=lambda asked, server: [])
    alice = voice.client(balancer.url, api_key="alice-key", affinity=EchoAffinity())
    bob = alice.with_options(api_key="bob-key")
    for client in (alice, bob, alice, bob):
        ask(voice, client)
    tokens = [seen.headers.get("x-session-token") for seen in balancer.seen]
    assert tokens == [None, None, "of-alice-key", "of-bob-key"]


def test_each_caller_is_told_its_own_model_once(voice: Voice, behind: Behind) -> None:
    balancer = behind(model=lambda asked: f"model of {asked.headers['authorization'][7:]}")
    alice = voice.client(balancer.url, api_key="alice-key", model=None)
    clients = [alice, alice.with_options(api_key="bob-key"), alice.with_options(api_key="bob-key"), alice]
    models = [voice.do(client.chat.completions.create, messages=QUESTION).model for client in clients]
    assert models == ["model of alice-key", "model of bob-key", "model of bob-key", "model of alice-key"]
    assert [seen.path for seen in balancer.seen].count("/v1/models") == 2


# -- the rules of cookies, and the user's own ----------------------------------------------------


@pytest.mark.parametrize(
    ("set_cookie", "sent"),
    [
        (["a=1"], "a=1"),
        (["a=1; Path=/v1", "b=2; Path=/elsewhere", "c=3; Path=/"], "a=1; c=3"),
        (["a=1; Secure", "b=2; HttpOnly"], "b=2"),
        (["a=1; Domain=example.com", "b=2; Domain=com"], None),
        (["a=1; Max-Age=60", "b=2; Max-Age=0"], "a=1"),
        (["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], None),
        ([";", "=", "\xff\xfe=1", "a=\xe9", "b=2"], "b=2"),
        (["a=\x7f\t1 2", "b"], ...),
        ([f"n{number}=1" for number in range(MAX_COOKIES + 1)], None),
        (["a=" + "x" * 9000], None),
    ],
    ids=repr,
)
def test_cookies_keep_their_rules(voice: Voice, behind: Behind, set_cookie: list[str], sent: Any) -> None:
    balancer = behind(sets=lambda asked, server: set_cookie)
    chat = voice.client(balancer.url).conversation()
    for _ in range(2):
        assert voice.do(chat.send, "q").text == "hi"
    if sent is not ...:
        assert balancer.seen[1].cookie == sent


def test_a_server_may_take_its_cookie_back(voice: Voice, behind: Behind) -> None:
    ages = iter([60, 0, 60])
    balancer = behind(sets=lambda asked, server: [f"a=1; Max-Age={next(ages)}"])
    chat = voice.client(balancer.url).conversation()
    for _ in range(3):
        voice.do(chat.send, "q")
    assert [seen.cookie for seen in balancer.seen] == [None, "a=1", None]


def test_a_cookie_of_a_redirect_goes_where_that_leads(voice: Voice, behind: Behind) -> None:
    def says(asked: Asked) -> Response | None:
        there = asked.target == "/v1/chat/completions"
        return Response("307 Temporary Redirect", ("Location: /there",)) if there else None

    balancer = behind(says=says)
    chat = voice.client(balancer.url).conversation()
    for _ in range(2):
        voice.do(chat.send, "q")
    assert [seen.cookie for seen in balancer.seen] == [None, "SRV=s1", "SRV=s1", "SRV=s1"]


@pytest.mark.parametrize("name", ["Cookie", "cookie"])
def test_a_cookie_header_of_the_users_own_wins(voice: Voice, behind: Behind, name: str) -> None:
    balancer = behind()
    chat = voice.client(balancer.url, default_headers={name: "mine=1"}).conversation()
    for headers in ({}, {}, {name: "mine=2"}):
        voice.do(chat.send, "q", extra_headers=headers)
    assert [seen.cookie for seen in balancer.seen] == ["mine=1", "mine=1", "mine=2"]


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_jar_of_an_own_http_client_is_sent_and_left_alone(voice: Voice, behind: Behind, library: str) -> None:
    takes_back = ["mine=; Max-Age=0; Path=/", "SRV=theirs; Path=/", "new=1; Path=/"]
    balancer = behind(sets=lambda asked, server: takes_back)
    own = voice.http_client(library)
    own.cookies.set("mine", "1", domain="127.0.0.1", path="/")
    own.cookies.set("SRV", "s3")
    client = voice.client(balancer.url, http_client=own)
    for chat in [client.conversation(), client.conversation()] * 2:
        voice.do(chat.send, "q")
    assert {cookie.name: cookie.value for cookie in own.cookies.jar} == {"mine": "1", "SRV": "s3"}
    assert {(seen.cookie or "").count("SRV=") for seen in balancer.seen} == {1}  # and not both
    assert [seen.cookies for seen in balancer.seen] == (
        [{"mine": "1", "SRV": "s3"}] * 2 + [{"mine": "1", "SRV": "s3", "new": "1"}] * 2
    )
    voice.do(own.get, balancer.url)  # what the user asks by himself is his jar's, as ever
    assert "new" in own.cookies
    own.cookies = {"fresh": "1"}
    voice.do(client.conversation().send, "q")
    assert list(own.cookies) == ["fresh"]


# -- other SDKs ----------------------------------------------------------------------------------


def test_another_sdks_conversations_spread_and_do_not_cross(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    http = voice.sdks_client()
    for order in ("abc", "cba", "abc"):
        for opening in order:
            post(voice, http, balancer, opening, "alice-key")
    assert [len(set(turns)) for turns in balancer.homes().values()] == [1, 1, 1]
    assert {turns[0] for turns in balancer.homes().values()} == set(SERVERS)
    post(voice, http, balancer, "a", "bob-key")
    assert balancer.seen[-1].cookie is None
    assert not http.cookies


def test_another_sdks_calls_with_a_key_of_their_own_go_home_too(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    http = voice.sdks_client()
    for key in ("one", "two", "two", "one"):
        post(voice, http, balancer, "a", "alice-key", **affinity_headers(key))
    assert balancer.homes() == {"one": ["s1", "s1"], "two": ["s2", "s2"]}


def test_cookies_that_the_user_gave_another_sdks_client_stay(voice: Voice, behind: Behind) -> None:
    balancer = behind()
    http = voice.sdks_client(cookies={"mine": "1"})
    for _ in range(2):
        post(voice, http, balancer, "a", "alice-key")
    assert [seen.cookie for seen in balancer.seen] == ["mine=1"] * 2
    assert dict(http.cookies) == {"mine": "1"}


def test_no_token_that_a_server_issues_crosses_below_another_sdk(voice: Voice, behind: Behind) -> None:
    def says(asked: Asked) -> Response:
        return Response(headers=(f"X-Session-Token: of-{asked.headers['authorization'][7:]}",))

    balancer = behind(says=says, sets=lambda asked, server: [])
    http = voice.sdks_client(affinity=EchoAffinity() + HeaderAffinity("Modal-Session-ID"))
    for bearer in ("alice-key", "bob-key", "alice-key"):
        post(voice, http, balancer, "a", bearer)
    assert [seen.headers.get("x-session-token") for seen in balancer.seen] == [None, None, "of-alice-key"]
