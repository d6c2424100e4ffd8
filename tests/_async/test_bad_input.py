from __future__ import annotations

from typing import Any

import httpx
import pytest

import homing
from homing.testing import Fault
from homing_server.local import Edge

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.mark.edge(check_model=True)
async def test_unknown_model(async_homing_client: homing.AsyncClient) -> None:
    with pytest.raises(homing.NotFoundError):
        await async_homing_client.chat.completions.create(model="nope", messages=HELLO)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "empty"),
        ("Hello", "must be a list"),
        (None, "must be a list of messages, .* got NoneType"),
        ([{"content": "Hello"}], r"messages\[0\] needs a 'role'"),
        ([{"role": "user", "content": "ok"}, "Hello"], r"messages\[1\] must be a mapping"),
        ([{"role": "user", "content": float("nan")}], "cannot be sent as JSON"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": object()}], "cannot be sent as JSON"),
    ],
)
async def test_malformed_messages(async_homing_client: homing.AsyncClient, messages: Any, words: str) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        await async_homing_client.chat.completions.create(messages=messages)


@pytest.mark.edge(context_length=64)
async def test_over_long_context(async_homing_client: homing.AsyncClient) -> None:
    chat = async_homing_client.conversation()
    with pytest.raises(homing.ContextWindowExceeded, match="longer than"):
        await chat.send("word " * 500)
    assert chat.history == []
    with pytest.raises(homing.ContextWindowExceeded):
        await async_homing_client.chat.completions.create(messages=[{"role": "user", "content": "word " * 500}])


@pytest.mark.edge(api_key="right")
async def test_wrong_key(edge: Edge) -> None:
    async with homing.AsyncClient(edge.url, api_key="sk-very-wrong-indeed", model="m") as client:
        with pytest.raises(homing.AuthenticationError) as caught:
            await client.chat.completions.create(messages=HELLO)
    assert "very-wrong" not in f"{caught.value!r} {caught.value} {caught.value.body} {client!r}"
    async with homing.AsyncClient(edge.url, api_key=lambda: "right", model="m") as client:
        assert await client.chat.completions.create(messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_quotes_the_key_is_masked(edge: Edge, stream: bool) -> None:
    said = "engine: bad key hunter-2-key"
    async with homing.AsyncClient(edge.url, api_key=lambda: "hunter-2-key", model="m", max_retries=0) as client:
        edge.inject(Fault.error_in_stream(message=said, code=400) if stream else Fault.answer(400, said))
        with pytest.raises(homing.BadRequestError) as caught:
            async with client.chat.completions.stream(messages=HELLO) as events:
                await events.until_done()
    assert "engine: bad key [hidden]" in str(caught.value)
    assert "hunter" not in f"{caught.value!r} {caught.value.body}"


@pytest.mark.edge(proxy_token={"id": "wk-id", "secret": "ws-secret"}, initial_replicas=0)
async def test_proxy_token(edge: Edge) -> None:
    async with homing.AsyncClient(edge.url, model="m") as client:
        with pytest.raises(homing.AuthenticationError):
            await client.chat.completions.create(messages=HELLO)
    assert not edge.ready
    for token in (("wk-id", "ws-secret"), "wk-id.ws-secret"):
        async with homing.AsyncClient(edge.url, proxy_token=token, model="m") as client:
            assert await client.chat.completions.create(messages=HELLO)
    async with homing.AsyncClient(edge.url, api_key="wk-id.ws-secret", model="m") as client:
        assert await client.chat.completions.create(messages=HELLO)


async def test_html_instead_of_json(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    edge.inject(Fault.html())
    with pytest.raises(homing.APIResponseValidationError):
        await async_homing_client.chat.completions.create(messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
async def test_200_with_an_error_body(async_homing_client: homing.AsyncClient, edge: Edge, stream: bool) -> None:
    # guidellm#743
    edge.inject(Fault.error_body(times=None))
    with pytest.raises(homing.InternalServerError, match="upstream failed"):
        await async_homing_client.chat.completions.create(messages=HELLO, stream=stream)


async def test_a_truncated_whole_answer_is_not_a_success(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    edge.inject(Fault.truncate(times=None))
    with pytest.raises(homing.APIConnectionError):
        await async_homing_client.chat.completions.create(messages=HELLO)


async def test_a_redirect_to_another_host_is_not_followed(any_client: homing.AsyncClient, edge: Edge) -> None:
    redirect = Fault.answer(307, "")
    redirect = redirect.model_copy(update={"headers": (("location", "http://elsewhere.invalid/v1"),)})
    edge.inject(redirect)
    with pytest.raises(homing.ConfigurationError, match="elsewhere.invalid"):
        await any_client.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url must look like"),
        ({"base_url": "http://user:pw@host"}, "must not hold a password"),
        ({"base_url": "http://x", "api_key": "ak-123"}, "proxy token"),
        ({"base_url": "http://x", "api_key": "line\nend"}, "cannot travel"),
        ({"base_url": "http://x", "proxy_token": "nonsense"}, "proxy_token"),
        ({"base_url": "http://x", "timeout": -1}, "positive"),
        ({"base_url": "http://x", "max_retries": -1}, "max_retries"),
        ({"base_url": "http://x", "cold_start_timeout": "soon"}, "cold_start_timeout"),
        ({"base_url": "http://x", "affinity": "sticky"}, "affinity"),
        ({"base_url": "http://x", "http_client": object()}, "http_client"),
    ],
)
async def test_settings_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        homing.AsyncClient(**settings)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tools": print}, "tools must be a list of functions"),
        ({"tools": 5}, "tools must be a list of functions"),
        ({"metadata": 5}, "metadata must be a mapping"),
        ({"system": 5}, "system must be a string"),
        ({"on_busy": "sometimes"}, "on_busy must be"),
    ],
)
async def test_what_a_conversation_cannot_have(
    async_homing_client: homing.AsyncClient, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        async_homing_client.conversation(**given)


@pytest.mark.parametrize("response_format", [dict, "City", list[int], None])
async def test_what_nothing_can_be_parsed_as(
    async_homing_client: homing.AsyncClient, edge: Edge, response_format: Any
) -> None:
    for parse in (
        lambda: async_homing_client.conversation().parse("Hello", response_format),
        lambda: async_homing_client.chat.completions.parse(messages=HELLO, response_format=response_format),
    ):
        with pytest.raises(homing.ConfigurationError, match="response_format must be a pydantic model class"):
            await parse()
    assert not edge.log


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"extra_body": 5}, "extra_body must be a mapping"),
        ({"extra_query": 5}, "extra_query must be a mapping"),
        ({"extra_headers": 5}, "extra_headers must be a mapping"),
        ({"response_format": dict}, "response_format must be a pydantic model class"),
        ({"messages": []}, "messages: the prompt"),
        ({"stream": True}, r"stream\(content\)"),
        ({"affinity": "none"}, "with_options"),
        ({"affinity_key": "mine"}, r"conversation\(affinity_key"),
        ({"n": 2}, r"fork\(n\)"),
    ],
)
async def test_what_a_turn_does_not_take(
    async_homing_client: homing.AsyncClient, edge: Edge, given: dict[str, Any], words: str
) -> None:
    chat = async_homing_client.conversation(n=1)  # type: ignore[call-arg]
    with pytest.raises(homing.ConfigurationError, match=words):
        await chat.send("Hello", **given)
    assert not edge.log
    assert (await chat.send("Hello")).text


async def test_a_closed_client_says_so(edge: Edge) -> None:
    async with homing.AsyncClient(edge.url) as client:
        await client.models.list()
    with pytest.raises(homing.ConfigurationError, match="closed"):
        await client.models.list()


async def test_a_missing_server_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOMING_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(homing.ConfigurationError, match="HOMING_BASE_URL"):
        homing.AsyncClient()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_url_may_have_v1_or_not(edge: Edge, suffix: str) -> None:
    async with homing.AsyncClient(edge.url + suffix) as client:
        assert (await client.models.list()).data


async def test_raw_response(async_homing_client: homing.AsyncClient) -> None:
    raw = await async_homing_client.chat.completions.with_raw_response.create(messages=HELLO)
    assert raw.status_code == 200
    assert raw.headers["x-homing-replica"]
    assert raw.parse().choices[0].message.content in raw.text
    assert raw.retries_taken == 0


async def test_health_and_readiness(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    assert await async_homing_client.health()
    assert (await async_homing_client.wait_until_ready()).attempts == 1
    edge.hold_cold()
    for replica in edge.ready:
        edge.kill(replica)
    assert not await async_homing_client.health()


async def test_extra_headers_query_and_body(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    await async_homing_client.chat.completions.create(
        messages=HELLO,
        top_k=3,
        extra_headers={"X-Mine": "1"},
        extra_query={"q": "1"},
        extra_body={"odd": [1]},
    )
    record = edge.log[-1]
    assert record.headers["x-mine"] == "1"
    assert record.request is not None
    assert (record.request["odd"], record.request["top_k"]) == ([1], 3)
    with pytest.raises(homing.ConfigurationError, match="extra_headers"):
        await async_homing_client.chat.completions.create(messages=HELLO, extra_headers={"X": "a\nb"})


def in_use(client: homing.AsyncClient) -> int:
    """Return how many connections are neither idle nor closed, on our transport or httpx's."""
    http: Any = client._endpoint.http
    if hasattr(http, "pool"):
        return int(http.pool.in_use)
    transport = http._transport
    return sum(not (connection.is_idle() or connection.is_closed()) for connection in transport._pool.connections)


BAD = [
    pytest.param({"model": "nope"}, None, homing.NotFoundError, id="unknown model"),
    pytest.param({"content": object()}, None, homing.ConfigurationError, id="malformed message"),
    pytest.param({"content": [{"type": "hologram"}]}, None, homing.BadRequestError, id="unknown part"),
    pytest.param({"content": "word " * 500}, None, homing.ContextWindowExceeded, id="over-long context"),
    pytest.param({"key": "sk-wrong"}, None, homing.AuthenticationError, id="wrong key"),
    pytest.param({}, Fault.html(times=None), homing.APIResponseValidationError, id="HTML"),
    pytest.param({}, Fault.error_body(times=None), homing.InternalServerError, id="200 with an error"),
    pytest.param({}, Fault.truncate(times=None), homing.StreamInterrupted, id="truncated at once"),
    pytest.param({}, Fault.truncate(inside="event", after_chunks=4, times=None), homing.StreamInterrupted, id="cut"),
    pytest.param({}, Fault.long_line(20_000_000, times=None), homing.APIResponseValidationError, id="endless line"),
    pytest.param({}, Fault.nan(after_chunks=4, times=None), homing.APIResponseValidationError, id="NaN received"),
    pytest.param({"temperature": float("nan")}, None, homing.ConfigurationError, id="NaN sent"),
    pytest.param({"extra_headers": {"X": "a\x07b"}}, None, homing.ConfigurationError, id="control character"),
]


@pytest.mark.edge(check_model=True, context_length=400, api_key="right")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("params", "fault", "error"), BAD)
async def test_bad_input_loses_nothing_and_keeps_no_connection(
    any_client: homing.AsyncClient,
    edge: Edge,
    params: dict[str, Any],
    fault: Fault | None,
    error: type[Exception],
    streamed: bool,
) -> None:
    keys = ["right"]
    http = any_client._endpoint.http
    own = http if isinstance(http, httpx.AsyncClient) else None
    async with homing.AsyncClient(edge.url, http_client=own, api_key=lambda: keys[0], max_retries=0) as client:
        chat = client.conversation(system="S", resume="never")
        await chat.send("One.")
        before = chat.history
        if fault is not None:
            edge.inject(fault)
        given = {"content": "Two.", **params}
        keys[0] = given.pop("key", "right")
        with pytest.raises(error) as caught:
            if streamed:
                async with chat.stream(given.pop("content"), **given) as stream:
                    await stream.reply()
            else:
                await chat.send(given.pop("content"), **given)
        assert type(caught.value) is error
        assert "sk-wrong" not in f"{caught.value!r}"
        assert in_use(client) == 0
        assert chat.history == before
        # Nothing stands in the way of going on.
        keys[0] = "right"
        edge._do(edge._faults.clear)
        assert (await chat.send("Two.")).text
        assert len(chat.turns) == 2
    edge.wait_for(lambda e: e.running == 0)


@pytest.mark.parametrize("key", ["line\nend", "bell\x07", "nul\x00", "delete\x7f"])
async def test_control_characters_in_an_affinity_key(async_homing_client: homing.AsyncClient, key: str) -> None:
    chat = async_homing_client.conversation()
    await chat.send("One.")
    with pytest.raises(homing.ConfigurationError, match="affinity_key"):
        async_homing_client.conversation(affinity_key=key)
    with pytest.raises(homing.ConfigurationError, match="affinity_key"):
        await async_homing_client.chat.completions.create(messages=HELLO, affinity_key=key)
    home, chat.affinity_key = chat.affinity_key, key
    with pytest.raises(homing.ConfigurationError, match="printable ASCII"):
        await chat.send("Two.")
    chat.affinity_key = home
    assert (await chat.send("Two.")).telemetry.verdict == "warm"
