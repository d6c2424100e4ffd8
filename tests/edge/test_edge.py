"""The edge over real sockets: routing, cold start, limits, door, life and steering."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from pydantic import SecretStr

from homing.errors import ConfigurationError, HomingError
from homing_server.local import Edge, EdgeSettings, EngineSettings, Fault, ProxyToken, listener

from .talk import CHAT, ask, post, stream, user

HELLO = user("hello")
BOTH = ("Modal-Session-ID", "Modal-Routing-Affinity-Key")
TOKEN = ProxyToken(id="wk-1", secret=SecretStr("ws-right"))
OTHER = ProxyToken(id="wk-2", secret=SecretStr("ws-other"))


def home(edge: Edge, **headers: str) -> str:
    body = {"messages": [HELLO], "max_tokens": 1}
    answer = httpx.post(edge.url + CHAT, json=body, headers=headers, verify=False)
    assert answer.status_code == 200
    return answer.headers["x-homing-replica"]


@pytest.mark.parametrize("header", BOTH)
def test_every_turn_of_a_key_reaches_one_replica(edge: Edge, header: str) -> None:
    homes = {key: {home(edge, **{header: key}) for _ in range(3)} for key in map(str, range(20))}
    assert all(len(replicas) == 1 for replicas in homes.values())
    assert len(set().union(*homes.values())) == 3


def test_the_newer_header_wins(edge: Edge) -> None:
    old, new = BOTH
    for number in range(10):
        assert home(edge, **{old: "other", new: str(number)}) == home(edge, **{new: str(number)})


def test_without_a_key_requests_spread(edge: Edge) -> None:
    assert len({home(edge) for _ in range(30)}) == 3


@pytest.mark.parametrize("configured", [False, True])
def test_the_gateways_header_counts_only_where_configured(configured: bool) -> None:
    with Edge(EdgeSettings.instant(smg_routing_key=configured)) as edge:
        homes = {home(edge, **{"X-SMG-Routing-Key": "k"}) for _ in range(30)}
        assert (len(homes) == 1) == configured


# Acceptance: on scale-up only about 1/n of the conversations move.
def test_scaling_up_moves_about_a_quarter(edge: Edge) -> None:
    keys = [f"conversation {n}" for n in range(60)]
    before = {key: home(edge, **{BOTH[0]: key}) for key in keys}
    edge.scale(4)
    after = {key: home(edge, **{BOTH[0]: key}) for key in keys}
    moved = [key for key in keys if before[key] != after[key]]
    assert {after[key] for key in moved} == {"r4"}
    assert 5 <= len(moved) <= 25


def test_every_reply_names_its_replica_streams_and_errors_too(edge: Edge) -> None:
    kinds: list[dict[str, Any]] = [{}, {"stream": True}, {"temperature": -1}]
    for fields in kinds:
        answer = post(edge.url, HELLO, **fields)
        assert answer.headers["x-homing-replica"] == edge.log[-1].replica


@pytest.mark.edge(min_replicas=0, max_replicas=3, initial_replicas=0, cold_start=3_600)
def test_cold_edge_answers_503_at_once_and_wakes(edge: Edge) -> None:
    assert edge.replicas == {}
    for _ in range(5):
        refused = post(edge.url, HELLO)
        assert (refused.status_code, refused.headers["content-type"]) == (503, "text/plain; charset=utf-8")
        assert "retry-after" not in refused.headers
        assert "x-homing-replica" not in refused.headers
    assert edge.replicas == {"r1": "starting"}
    edge.become_ready()
    assert ask(edge.url, HELLO)
    assert Counter(record.outcome for record in edge.log) == {"refused": 5, "completed": 1}


@pytest.mark.edge(min_replicas=0, max_replicas=1, initial_replicas=0, cold_start=0.05)
def test_a_cold_start_ends_by_itself(edge: Edge) -> None:
    assert post(edge.url, HELLO).status_code == 503
    edge.wait_for(lambda e: e.ready)
    assert post(edge.url, HELLO).status_code == 200


def test_hold_cold_and_become_ready(edge: Edge) -> None:
    edge.hold_cold()
    assert post(edge.url, HELLO).status_code == 503
    assert set(edge.replicas.values()) == {"starting"}
    edge.become_ready(1)
    assert len(edge.ready) == 1
    edge.become_ready()
    assert len(edge.ready) == 3


def test_become_ready_starts_replicas_when_none_is_on_its_way(edge: Edge) -> None:
    edge.hold_cold()
    edge.become_ready()
    assert len(edge.ready) == 3


@pytest.mark.edge(min_replicas=1, max_replicas=2, target_concurrency=1)
def test_concurrency_scales_up(edge: Edge) -> None:
    edge.inject(Fault.hang(times=None))
    with httpx.Client() as client:
        calls = [threading.Thread(target=_ignore_errors, args=(client, edge.url)) for _ in range(2)]
        for call in calls:
            call.start()
        edge.wait_for(lambda e: len(e.ready) == 2)
        for replica_id in list(edge.replicas):
            edge.kill(replica_id)
        for call in calls:
            call.join()


def _ignore_errors(client: httpx.Client, url: str) -> None:
    try:
        client.post(url + CHAT, json={"messages": [HELLO]}, timeout=30)
    except httpx.TransportError:
        pass


@pytest.mark.edge(replicas=1, max_concurrency=1, decode_rate=1)
def test_a_full_replica_answers_429(edge: Edge) -> None:
    with httpx.stream("POST", edge.url + CHAT, json={"messages": [HELLO], "stream": True}) as running:
        assert running.status_code == 200
        refused = post(edge.url, HELLO)
        assert (refused.status_code, refused.headers["x-homing-replica"]) == (429, "r1")
        assert refused.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.edge(replicas=2, exit_grace=3_600, decode_rate=200)
def test_draining_finishes_its_streams_and_takes_nothing_new(edge: Edge) -> None:
    with httpx.stream("POST", edge.url + CHAT, json={"messages": [HELLO], "stream": True}) as running:
        draining = running.headers["x-homing-replica"]
        edge.drain(draining)
        assert edge.replicas[draining] == "draining"
        assert {home(edge) for _ in range(5)} == set(edge.ready)
        assert running.read().endswith(b"data: [DONE]\n\n")
    edge.wait_for(lambda e: draining not in e.replicas)
    assert edge.log[0].outcome == "completed"


@pytest.mark.edge(replicas=2, exit_grace=0.05, decode_rate=1)
def test_the_exit_grace_cuts_what_still_runs(edge: Edge) -> None:
    with httpx.stream("POST", edge.url + CHAT, json={"messages": [HELLO], "stream": True}, timeout=30) as running:
        edge.drain(running.headers["x-homing-replica"])
        with pytest.raises(httpx.RemoteProtocolError):
            running.read()
    edge.wait_for(lambda e: e.log[0].outcome == "cut")


AUTH: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"Modal-Key": "wk-1", "Modal-Secret": "ws-wrong"}, 401),
    ({"Modal-Key": "wk-1"}, 401),
    ({"Authorization": "Bearer sk-something"}, 401),
    ({"Authorization": "Bearer wk-1.ws-wrong"}, 401),
    ({"Modal-Key": "wk-2", "Modal-Secret": "ws-other"}, 403),
    ({"Authorization": "Bearer wk-2.ws-other"}, 403),
    ({"Modal-Key": "wk-1", "Modal-Secret": "ws-right"}, 503),
    ({"Authorization": "Bearer wk-1.ws-right"}, 503),
]


@pytest.mark.edge(
    min_replicas=0, max_replicas=1, initial_replicas=0, proxy_token=TOKEN, forbidden_tokens=(OTHER,), cold_start=9
)
@pytest.mark.parametrize(("headers", "status"), AUTH)
def test_proxy_auth_wakes_nothing(edge: Edge, headers: dict[str, str], status: int) -> None:
    refused = httpx.post(edge.url + CHAT, json={"messages": [HELLO]}, headers=headers)
    assert refused.status_code == status
    assert edge.replicas == ({"r1": "starting"} if status == 503 else {})
    assert (status == 503) == (refused.text == "no ready replica\n")
    assert "ws-" not in repr(edge.log) + str(dict(edge.log[-1].headers))


@pytest.mark.edge(proxy_token=TOKEN, api_key="engine")
def test_proxy_token_in_its_own_headers_leaves_authorization_to_the_engine(edge: Edge) -> None:
    proxy = {"Modal-Key": "wk-1", "Modal-Secret": "ws-right"}
    for key, status in (("engine", 200), ("wrong", 401)):
        headers = {**proxy, "Authorization": f"Bearer {key}"}
        answer = httpx.post(edge.url + CHAT, json={"messages": [HELLO]}, headers=headers)
        assert answer.status_code == status


def test_secrets_are_not_shown() -> None:
    settings = EdgeSettings.instant(proxy_token=TOKEN, api_key=SecretStr("engine-key"))
    assert "ws-right" not in repr(settings) + repr(Edge(settings))
    assert "engine-key" not in repr(settings)
    with pytest.raises(ConfigurationError) as refused:
        ProxyToken(id="wk-1", secret=SecretStr("as-a-wrong-one"))
    assert "as-a-wrong-one" not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__}"


def test_the_log_tells_what_happened(edge: Edge) -> None:
    ask(edge.url, HELLO, key="k")
    stream(edge.url, HELLO, user("more"), key="k")
    first, second = edge.log
    assert (first.number, first.key, first.status, first.outcome, first.stream) == (1, "k", 200, "completed", False)
    assert (second.number, second.stream) == (2, True)
    assert first.digest != second.digest
    assert first.tokens.prompt
    assert first.tokens.completion
    assert (first.tokens.cached, first.request and first.request["messages"]) == (0, [HELLO])
    assert first.headers["modal-session-id"] == "k"
    shown = httpx.get(edge.url + "/_edge/log").json()
    assert [record["digest"] for record in shown] == [first.digest, second.digest]
    assert "hello" not in str(shown), "contents stay in the process"


def test_state_and_metrics(edge: Edge) -> None:
    ask(edge.url, HELLO)
    state = httpx.get(edge.url + "/_edge/state").json()
    assert [replica["state"] for replica in state["replicas"]] == ["ready"] * 3
    assert state["outcomes"] == {"completed": 1}
    metrics = httpx.get(edge.url + "/_edge/metrics").text
    assert 'homing_edge_replicas{state="ready"} 3' in metrics
    assert 'homing_edge_requests_total{outcome="completed"} 1' in metrics
    assert httpx.get(edge.url + "/_edge/nothing").status_code == 404
    assert len(edge.log) == 1, "questions about the edge are not requests"


def test_reset_gives_a_fresh_edge(edge: Edge) -> None:
    ask(edge.url, HELLO, key="k")
    edge.answer_with("scripted")
    edge.inject(Fault.rate_limited())
    edge.hold_cold()
    edge.reset()
    assert (len(edge.ready), edge.log) == (3, ())
    reply = ask(edge.url, HELLO, key="k")
    assert reply["choices"][0]["message"]["content"] != "scripted"
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.edge(log_size=3)
def test_the_log_is_bounded(edge: Edge) -> None:
    for _ in range(5):
        ask(edge.url, HELLO)
    assert [record.number for record in edge.log] == [3, 4, 5]


def test_wait_for_says_what_it_saw(edge: Edge) -> None:
    with pytest.raises(TimeoutError, match=r"r1.*0 running, 0 requests"):
        edge.wait_for(lambda e: False, timeout=0.01)


@pytest.mark.parametrize("act", [Edge.kill, Edge.drain])
def test_steering_a_replica_that_is_not_there(edge: Edge, act: Callable[[Edge, str], None]) -> None:
    with pytest.raises(ConfigurationError, match="replica_id: there is no 'r9'; there are: r1, r2, r3"):
        act(edge, "r9")


def test_an_edge_that_was_not_started() -> None:
    edge = Edge()
    with pytest.raises(HomingError, match="has not been started"):
        _ = edge.url
    edge.stop()  # harmless


def test_start_and_stop_by_hand_and_again() -> None:
    edge = Edge(EdgeSettings.instant())
    for _ in range(2):
        edge.start()
        with pytest.raises(HomingError, match="already running"):
            edge.start()
        assert ask(edge.url, HELLO)
        edge.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(edge.url)


def test_a_taken_port_is_a_configuration_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port: cannot listen on 127\.0\.0\.1:{port}"):
            Edge(EdgeSettings.instant(port=port)).start()


@pytest.mark.edge(decode_rate=300)
def test_stopping_with_grace_lets_streams_finish() -> None:
    with Edge(EdgeSettings.instant(decode_rate=300)) as edge:
        with httpx.stream("POST", edge.url + CHAT, json={"messages": [HELLO], "stream": True}) as running:
            stopping = threading.Thread(target=lambda: edge.stop(grace=30))
            stopping.start()
            assert running.read().endswith(b"data: [DONE]\n\n")
        stopping.join()


def test_stopping_without_grace_cuts_streams_at_once() -> None:
    body = {"messages": [HELLO], "stream": True}
    with (
        Edge(EdgeSettings.instant(decode_rate=1)) as edge,
        httpx.stream("POST", edge.url + CHAT, json=body) as running,
    ):
        edge.stop()
        with pytest.raises(httpx.TransportError):
            running.read()


@pytest.mark.anyio
async def test_async_context_manager(anyio_backend: Any) -> None:
    async with Edge(EdgeSettings.instant()) as edge:
        async with httpx.AsyncClient() as client:
            answer = await client.post(edge.url + CHAT, json={"messages": [HELLO]})
        assert answer.status_code == 200
        await anyio.to_thread.run_sync(edge.wait_for, lambda e: e.running == 0)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_many_conversations_at_once(edge: Edge) -> None:
    async def all_at_once() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            calls = [
                client.post(edge.url + CHAT, json={"messages": [HELLO]}, headers={BOTH[0]: str(n)}) for n in range(200)
            ]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert asyncio.run(all_at_once()) == [200] * 200
    assert Counter(record.outcome for record in edge.log) == {"completed": 200}


@pytest.mark.edge(latency=0.01)
def test_latency_is_added(edge: Edge) -> None:
    ask(edge.url, HELLO)
    assert (edge.log[-1].seconds or 0) >= 0.01


def test_a_client_that_leaves_before_its_body_is_complete(edge: Edge) -> None:
    port = int(edge.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
    assert ask(edge.url, HELLO)
    assert len(edge.log) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_replicas": 4}, r"min_replicas \(4\) must not be above max_replicas \(3\)"),
        ({"initial_replicas": 9}, r"initial_replicas \(9\)"),
        ({"cold_start": -1}, "cold_start"),
        ({"cold_start": float("nan")}, "cold_start"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"port": 70_000}, "port"),
        ({"backends": ("http://a",)}, "number of backends"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_settings_name_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EdgeSettings(**fields)


def test_instant_takes_fields_of_edge_and_engine() -> None:
    settings = EdgeSettings.instant(replicas=2, cold_start=4, thinking=True)
    assert (settings.min_replicas, settings.max_replicas, settings.cold_start) == (2, 2, 4)
    assert settings.engine.thinking
    assert EdgeSettings.instant(engine=EngineSettings(model="m")).engine.model == "m"
    with pytest.raises(ConfigurationError, match="engine: must be"):
        EdgeSettings.instant(engine="fast")
    with pytest.raises(ConfigurationError, match="sentences"):
        EngineSettings(sentences=(4, 2))


def test_an_engine_that_fails_is_a_500(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: dict[str, Any]) -> str:
        raise RuntimeError("bug in a scripted answer")

    edge.answer_with(broken)
    assert post(edge.url, HELLO).status_code == 500
    assert edge.log[-1].outcome == "failed"
    assert "bug in a scripted answer" in caplog.text


def test_steering_from_a_callback_is_refused(edge: Edge) -> None:
    seen: list[str] = []

    def meddle(request: dict[str, Any]) -> str:
        try:
            edge.scale(1)
        except HomingError as error:
            seen.append(str(error))
        return "ok"

    edge.answer_with(meddle)
    ask(edge.url, HELLO)
    assert "own callbacks" in seen[0]


def test_small_writes_are_not_held_back() -> None:
    async def serve() -> int:
        loop = asyncio.get_running_loop()
        option: asyncio.Future[int] = loop.create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sock = transport.get_extra_info("socket")
                option.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        sock = listener.bind("127.0.0.1", 0)
        server = await loop.create_server(Accepted, sock=sock)
        _, writer = await asyncio.open_connection(*sock.getsockname())
        nodelay = await option
        writer.close()
        server.close()
        return nodelay

    assert asyncio.run(serve()) != 0


def test_binding_leaves_no_socket_behind() -> None:
    with pytest.raises(OSError, match=r".+"):
        listener.bind("203.0.113.1", 0)  # TEST-NET-3: not ours
