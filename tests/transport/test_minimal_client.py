"""The client's own httpx client against httpx's, with the same server and the same request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from homing._http._async.minimal_client import AsyncMinimalClient
from homing._http._async.transport import AsyncTransport
from homing._http._sync.minimal_client import MinimalClient
from homing._http._sync.transport import Transport

from .peers import Server, answer

ASKED: dict[str, Any] = {
    "headers": {"Accept": "application/json", "User-Agent": "homing/0", "Content-Type": "application/json"},
    "content": b'{"a":1}',
    "params": None,
    "extensions": {"x": 1, "timeout": httpx.Timeout(5.0, connect=1.0).as_dict()},
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"content": None}, {"params": {"a": "1 2", "b": ["x", "y"]}}, {"headers": {"Accept": "*/*", "X-Key": "k"}}],
)
def test_it_builds_the_request_that_httpx_builds(method: str, changes: dict[str, Any]) -> None:
    asked = ASKED | changes
    # To a URL's own query httpx 0.27 adds the parameters, 0.28 puts them in its place; ours never have both.
    url = "http://Example.com:8080/v1/chat" + ("" if asked["params"] else "?z=0")
    lean, plain = MinimalClient(Transport()), httpx.Client(trust_env=False)
    for name in ("accept", "accept-encoding", "user-agent"):  # httpx's defaults, which every call of ours sets
        plain.headers.pop(name)
    ours, theirs = lean.build_request(method, url, **asked), plain.build_request(method, url, **asked)
    assert (ours.method, ours.url, ours.content) == (theirs.method, theirs.url, theirs.content)
    if method == "POST" and changes.get("content", b"x") is None:
        theirs.headers.pop("content-length")  # of nothing
    assert sorted(ours.headers.multi_items()) == sorted(theirs.headers.multi_items())
    assert ours.extensions == theirs.extensions
    lean.close()
    plain.close()


def test_a_response_is_one_of_httpx(server: Server) -> None:
    client = MinimalClient(Transport())
    response = client.send(client.build_request("POST", server.url, **ASKED))
    assert (response.read(), response.request.method, response.url) == (b"ok", "POST", httpx.URL(server.url))
    assert (response.reason_phrase, response.http_version) == ("OK", "HTTP/1.1")
    assert response.elapsed > timedelta(0)
    client.close()
    assert client.is_closed


def test_the_same_in_tasks(server: Server) -> None:
    async def talk() -> httpx.Response:
        client = AsyncMinimalClient(AsyncTransport())
        response = await client.send(client.build_request("POST", server.url, **ASKED))
        await response.aread()
        await client.aclose()
        return response

    response = anyio.run(talk)
    assert (response.content, response.request.url) == (b"ok", httpx.URL(server.url))
    assert response.elapsed > timedelta(0)


def test_it_keeps_no_cookies_and_sends_those_it_is_given(serve: Any) -> None:
    server = serve(answer(headers="Set-Cookie: AWSALB=r2; Path=/\r\n"))
    given = httpx.Cookies({"a": "1"}).jar
    with MinimalClient(Transport()) as client:
        for cookies in (None, None, given):
            client.send(client.build_request("POST", server.url, **ASKED, cookies=cookies)).read()
        assert not client.cookies
    assert [asked.headers.get("cookie") for asked in server.requests] == [None, None, "a=1"]
