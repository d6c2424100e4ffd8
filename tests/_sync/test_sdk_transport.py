# Generated from tests/_async/test_sdk_transport.py by scripts/unasync.py: edit that file, not this one.
"""httpx and httpx2 clients for other SDKs, over the transport that brings their requests home."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import threading
import pytest

import homing
from homing.core.affinity.strategies import BodyAffinity, HeaderAffinity
from homing.integrations.openai import Library, affinity_headers, http_client
from homing.testing import Fault, assert_no_running
from homing_server.local import Edge, ProxyToken

from .tasks import gather


CHAT = "/v1/chat/completions"
TOKEN = "wk-abc.ws-secret0123"


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Library:
    name: Library = request.param
    return name


@pytest.fixture
def borrowed(library: Library) -> Iterator[Any]:
    client = http_client(library=library)
    yield client
    client.close()


def ask(client: Any, url: str, messages: Any, *, headers: Any = None, **more: Any) -> Any:
    return client.post(url + CHAT, json={"model": "m", "messages": messages, **more}, headers=headers)


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def talk(client: Any, edge: Edge, opening: str, **more: Any) -> set[str]:
    """Hold three turns; return the replicas that they reached."""
    messages = said(opening)
    replicas = set()
    for _ in range(3):
        answer = ask(client, edge.url, messages, **more)
        replicas.add(answer.headers["x-homing-replica"])
        messages = [*messages, answer.json()["choices"][0]["message"], *said("And?")]
    return replicas


def test_a_growing_list_keeps_its_replica(borrowed: Any, edge: Edge) -> None:
    # verifiers#1680, opengeni#386
    visited = [talk(borrowed, edge, f"Opening {number}") for number in range(12)]
    assert [len(replicas) for replicas in visited] == [1] * 12
    assert len(set.union(*visited)) == 3


def test_without_affinity_nothing_is_added(library: Library, edge: Edge) -> None:
    with http_client(library=library, affinity="none") as client:
        ask(client, edge.url, said("Hello"))
    assert edge.log[-1].key is None


def test_an_explicit_key_wins(borrowed: Any, edge: Edge) -> None:
    headers = affinity_headers("mine")
    for opening in ("One", "Two", "Three"):
        talk(borrowed, edge, opening, headers=headers)
    assert {record.key for record in edge.log} == {"mine"}


def test_prompt_cache_key_is_the_key(borrowed: Any, edge: Edge) -> None:
    # The Agents SDK sets it for each session (DEMAND: openai-agents)
    for opening in ("One", "Two"):
        talk(borrowed, edge, opening, prompt_cache_key="session-1")
    (key,) = {record.key for record in edge.log}
    assert key is not None
    assert "session-1" not in key


def test_processes_with_one_salt_derive_one_key(library: Library, edge: Edge) -> None:
    for _ in range(2):
        with http_client(library=library, salt="a secret of the service") as client:
            ask(client, edge.url, said("Hello"))
    with http_client(library=library, salt="another secret") as client:
        ask(client, edge.url, said("Hello"))
    first, second, other = (record.key for record in edge.log)
    assert first == second != other


def test_the_clients_of_one_process_derive_one_key(library: Library, edge: Edge) -> None:
    # LangChain wants a sync and an async client for one and the same conversation.
    with http_client(library=library) as one, http_client(library=library) as other:
        ask(one, edge.url, said("Hello"))
        ask(other, edge.url, said("Hello"))
    assert len({record.key for record in edge.log}) == 1


@pytest.mark.edge(keep_requests=True)
def test_strategies_of_every_kind_travel(library: Library, edge: Edge) -> None:
    strategy = HeaderAffinity("X-Session") + BodyAffinity("session_id")
    with http_client(library=library, affinity=strategy) as client:
        answer = ask(client, edge.url, said("Hello"))
    assert answer.status_code == 200
    record = edge.log[-1]
    assert record.request is not None
    assert record.request["session_id"] == record.headers["x-session"]
    assert record.request["messages"] == said("Hello")


def test_a_cold_start_is_waited_for_by_one_prober(library: Library, edge: Edge) -> None:
    # OpenLLM#607, lilbee#465, litellm#1242
    waiting = 40
    waits: list[homing.Waiting] = []
    asked = threading.Event()

    def watch(wait: homing.Waiting) -> None:
        waits.append(wait)
        asked.set()

    edge.hold_cold()
    with http_client(library=library, hooks=homing.Hooks(on_wait=watch)) as client:

        def wake() -> None:
            asked.wait()
            edge.become_ready(3)

        def one(text: str) -> int:
            status: int = (ask(client, edge.url, said(text))).status_code
            return status

        statuses = gather(wake, *[one] * waiting)
    assert statuses[1:] == [200] * waiting
    assert waits[0].cause == "HTTP 503"
    # All of them once at most, and then only the leader.
    assert len([record for record in edge.log if record.status == 503]) <= waiting + 40


def test_waiting_in_vain_is_an_answer_that_no_sdk_repeats(library: Library, edge: Edge) -> None:
    edge.hold_cold()
    with http_client(library=library, cold_start_timeout=0.4) as client:
        answer = ask(client, edge.url, said("Hello"))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert "no replica became ready within 0.4 s" in answer.json()["error"]["message"]


@pytest.mark.parametrize("warm", [False, True])
def test_who_does_not_wait_gets_the_servers_own_answer(library: Library, edge: Edge, warm: bool) -> None:
    with http_client(library=library, cold_start_timeout=0) as client:
        if warm:
            ask(client, edge.url, said("Hello"))
        edge.inject(Fault.overloaded(retry_after=7))
        answer = ask(client, edge.url, said("Hello"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert "x-should-retry" not in answer.headers  # it may ask again as it sees fit
        assert len(edge.log) == 1 + warm
        with pytest.raises(Exception, match=r"refused|failed") as caught:
            ask(client, "http://127.0.0.1:9", said("Hello"))
        assert type(caught.value).__name__ == "ConnectError"
        assert type(caught.value).__module__.startswith(library)


def test_no_server_at_all_is_waited_for_too(library: Library) -> None:
    waits: list[homing.Waiting] = []
    hooks = homing.Hooks(on_wait=waits.append)
    with http_client(library=library, cold_start_timeout=0.3, hooks=hooks) as client:
        answer = ask(client, "http://127.0.0.1:9", said("Hello"))
    assert answer.status_code == 503
    assert waits


def test_what_is_wrong_with_the_request_comes_back_at_once(borrowed: Any, edge: Edge) -> None:
    for messages in ([], "nonsense", [{"content": "no role"}], [None]):
        answer = ask(borrowed, edge.url, messages)
        assert answer.status_code == 400
    assert (borrowed.get(edge.url + "/nowhere")).status_code == 404
    assert len(edge.log) == 5


def test_passing_trouble_of_a_warm_server_is_left_to_the_sdk(borrowed: Any, edge: Edge) -> None:
    ask(borrowed, edge.url, said("Hello"))
    edge.inject(Fault.rate_limited())
    answer = ask(borrowed, edge.url, said("Hello"))
    assert answer.status_code == 429
    assert answer.text
    edge.inject(Fault.kill())
    with pytest.raises(Exception, match="disconnected|closed") as caught:
        ask(borrowed, edge.url, said("Hello"))
    assert type(caught.value).__name__ == "RemoteProtocolError"
    assert not isinstance(caught.value, homing.HomingError)


def test_a_503_of_a_warm_server_is_a_hiccup(library: Library, edge: Edge) -> None:
    retries: list[homing.Retrying] = []
    with http_client(library=library, hooks=homing.Hooks(on_retry=retries.append)) as client:
        ask(client, edge.url, said("Hello"))
        edge.inject(Fault.overloaded())
        answer = ask(client, edge.url, said("Hello"))
    assert answer.status_code == 200
    assert len(retries) == 1


def test_a_stream_is_passed_on_as_it_comes_and_left_early(borrowed: Any, edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=3))
    body = {"model": "m", "messages": said("Hello"), "stream": True}
    with borrowed.stream("POST", edge.url + CHAT, json=body) as answer:
        for data in answer.iter_bytes():
            assert data.startswith(b"data: ")
            break
    assert_no_running(edge)


@pytest.mark.edge(proxy_token=ProxyToken.parse(TOKEN))
def test_a_proxy_token_goes_to_its_own_server_only(library: Library, edge: Edge) -> None:
    with http_client(library=library, base_url=edge.url, proxy_token=TOKEN) as client:
        assert (ask(client, edge.url, said("Hello"))).status_code == 200
    assert "modal-key" in edge.log[-1].headers
    with http_client(library=library, base_url="http://elsewhere", proxy_token=TOKEN) as client:
        assert (ask(client, edge.url, said("Hello"))).status_code == 401
    assert "modal-key" not in edge.log[-1].headers


@pytest.mark.edge(proxy_token=ProxyToken.parse(TOKEN))
def test_a_proxy_token_of_the_callers_own_is_left_as_it_is(library: Library, edge: Edge) -> None:
    # Told by who is let in: the edge's log keeps no credentials.
    right, wrong = TOKEN, "wk-other.ws-other"
    for own, clients, status in ((right, wrong, 200), (wrong, right, 401)):
        key, secret = own.split(".")
        headers = {"Modal-Key": key, "Modal-Secret": secret}
        with http_client(library=library, base_url=edge.url, proxy_token=clients) as client:
            assert (ask(client, edge.url, said("Hello"), headers=headers)).status_code == status
