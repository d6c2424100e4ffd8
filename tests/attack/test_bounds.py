"""One bound for all of an answer: streamed or whole, packed or not, over any transport."""

from __future__ import annotations

import gzip
import json
import resource
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import homing
from homing.core.errors.server_errors import MAX_ERROR_BODY
from homing.core.request.environment import MAX_RESPONSE_BYTES
from homing.core.streaming.accumulator import MAX_CHOICES
from homing.core.streaming.chunks import parse_response
from homing.core.streaming.decoder import MAX_HELD
from homing.core.streaming.tool_calls import MAX_TOOL_CALLS
from homing.types import ModelList
from tests.transport.peers import chunk

from .floods import ASK, END, EVENT, FACES, HELLO, JSON, OWN, SSE, ask, create, failure, flooding, stream

MEGABYTE = 1 << 20
PATIENT = {"timeout": None, "max_retries": 2, "cold_start_timeout": 60.0, "max_response_bytes": MEGABYTE}
"""Settings with which a failure that is not final would be tried again, or waited out."""


def too_large(kind: str, url: str, action: Any, **settings: Any) -> homing.ResponseTooLarge:
    retried: list[object] = []
    hooks = homing.Hooks(on_retry=retried.append, on_wait=retried.append)
    error = failure(kind, url, action, **{**PATIENT, "hooks": hooks, **settings})
    assert not retried
    assert isinstance(error, homing.ResponseTooLarge)
    assert "max_response_bytes" in str(error)
    assert str(error.received) in str(error)
    return error


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("action", [create, lambda client: client.models.list()], ids=["create", "models"])
@pytest.mark.parametrize("body", [b" " * 4096, b'"' + b"x" * 4095], ids=["blanks", "text"])
def test_a_whole_answer_has_a_bound(kind: str, action: Any, body: bytes) -> None:
    with flooding(JSON, chunk(body)) as url:
        error = too_large(kind, url, action)
    assert error.limit == MEGABYTE
    # What one read brings is the most that can be too much.
    assert MEGABYTE < error.received < 2 * MEGABYTE


@pytest.mark.parametrize("kind", FACES)
def test_a_stream_has_a_bound_and_the_error_has_what_came(kind: str) -> None:
    with flooding(SSE, chunk(HELLO)) as url:
        error = too_large(kind, url, stream)
    assert MEGABYTE < error.received < 2 * MEGABYTE
    assert error.partial_text.count("Hello") > 5000


@pytest.mark.parametrize("kind", OWN)
def test_keep_alives_count_too(kind: str) -> None:
    with flooding(SSE, chunk(b": x\n\n" * 1000)) as url:
        too_large(kind, url, stream)


def _arguments(number: int) -> bytes:
    call = b'"tool_calls":[{"index":%d,"id":"c","function":{"name":"f","arguments":"%b"}}]'
    return EVENT % (0, call % (number, b"x" * 1000), b"")


@pytest.mark.parametrize("kind", OWN)
def test_the_arguments_of_a_tool_call_count(kind: str) -> None:
    with flooding(SSE, chunk(_arguments(0))) as url:
        error = too_large(kind, url, stream)
    assert error.partial is not None


@pytest.mark.parametrize("kind", FACES)
def test_the_bound_of_a_call_takes_the_place_of_the_client_s(kind: str) -> None:
    answer = json.dumps({"id": "x", "created": 1, "model": "m", "choices": [], "rest": "x" * 2000}).encode()
    whole = JSON + chunk(answer) + b"0\r\n\r\n"
    with flooding(whole) as url:
        assert ask(kind, url, create, max_response_bytes=3000).id == "x"
    with flooding(whole) as url:
        error = failure(kind, url, lambda client: client.chat.completions.create(**ASK, max_response_bytes=1000))
        assert isinstance(error, homing.ResponseTooLarge)
        assert error.limit == 1000
    with flooding(whole) as url:
        free = ask(kind, url, lambda c: c.chat.completions.create(**ASK, max_response_bytes=None), max_response_bytes=9)
        assert free.id == "x"


def test_copies_of_a_client_have_bounds_of_their_own() -> None:
    with homing.Client("http://engine.test") as client:
        assert client._options.max_response_bytes == MAX_RESPONSE_BYTES
        assert client.with_options(max_response_bytes=5)._options.max_response_bytes == 5
    for wrong in (0, -1, True, 1.5, "9"):
        with pytest.raises(homing.ConfigurationError, match="max_response_bytes"):
            homing.Client("http://engine.test", max_response_bytes=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OWN)
def test_an_error_is_told_whatever_the_bound(kind: str) -> None:
    said = b'{"message":"no such thing, and here is why: %b"}' % (b"x" * 5000)
    with flooding(JSON.replace(b"200 OK", b"400 Bad Request") + chunk(said) + b"0\r\n\r\n") as url:
        assert isinstance(failure(kind, url, create, max_response_bytes=1000), homing.BadRequestError)


@pytest.fixture(scope="module", params=["gzip", "deflate"])
def packed(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """64 MiB of blanks."""
    packer = zlib.compressobj(9, wbits=31 if request.param == "gzip" else 15)
    return request.param, b"".join(packer.compress(b" " * MEGABYTE) for _ in range(64)) + packer.flush()


def encoded(name: str, body: bytes) -> bytes:
    return JSON[:-2] + b"Content-Encoding: %b\r\n\r\n" % name.encode() + chunk(body)


@pytest.mark.parametrize("kind", FACES)
def test_a_bomb_is_not_unpacked(kind: str, packed: tuple[str, bytes]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with flooding(encoded(*packed)) as url:
        error = too_large(kind, url, create)
    # Counted is what it unpacks to, and no more of that than one slice beyond the bound.
    assert MEGABYTE < error.received <= 3 * MEGABYTE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # of 64 MiB, in KiB


@pytest.mark.parametrize("kind", FACES)
def test_a_bomb_within_a_bomb_is_refused(kind: str) -> None:
    inner = gzip.compress(b" " * 1000)
    with flooding(encoded("gzip, gzip", gzip.compress(inner))) as url:
        error = failure(kind, url, create, **PATIENT)
    assert isinstance(error, homing.APIResponseValidationError)
    assert "packed 2 times" in str(error)


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_honestly_is_unpacked(kind: str, encoding: str) -> None:
    answer = json.dumps({"id": "x", "created": 1, "model": "m", "choices": [], "rest": "x" * 100_000}).encode()
    body = gzip.compress(answer) if encoding == "gzip" else zlib.compress(answer)
    with flooding(encoded(encoding, body) + b"0\r\n\r\n") as url:
        assert ask(kind, url, create).id == "x"


@pytest.mark.parametrize("kind", OWN)
def test_choices_nobody_asked_for_come_to_an_end(kind: str) -> None:
    many = b"".join(EVENT % (number, b'"content":"x"', b"") for number in range(MAX_CHOICES + 1))
    with flooding(SSE + chunk(many)) as url:
        error = failure(kind, url, stream, **PATIENT)
    assert isinstance(error, homing.APIResponseValidationError)
    assert f"more than {MAX_CHOICES} choices" in str(error)
    assert error.partial is not None
    assert len(error.partial.choices) == MAX_CHOICES


@pytest.mark.parametrize("kind", OWN)
def test_tool_calls_come_to_an_end(kind: str) -> None:
    call = b'"tool_calls":[{"index":%d,"id":"c%d","function":{"name":"f","arguments":""}}]'
    many = b"".join(EVENT % (0, call % (number, number), b"") for number in range(MAX_TOOL_CALLS + 1))
    with flooding(SSE + chunk(many)) as url:
        error = failure(kind, url, stream, **PATIENT)
    assert isinstance(error, homing.APIResponseValidationError)
    assert f"more than {MAX_TOOL_CALLS} tool calls" in str(error)


@pytest.mark.parametrize("kind", OWN)
def test_chunks_that_show_nothing_are_not_kept(kind: str) -> None:
    bare = EVENT % (0, b'"role":"assistant"', b"")
    seen: list[object] = []
    with flooding(SSE + chunk(bare * (2 * MAX_HELD)), b"", b"") as url:
        # The server says no more: what has been handed out by the limit is what was not held.
        error = failure(kind, url, stream, timeout=homing.Timeout(first_token=0.2), each=seen.append)
    assert isinstance(error, homing.FirstTokenTimeout)
    assert len(seen) == 2 * MAX_HELD


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize(
    "flood",
    {
        "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n"),
        "one header": (b"HTTP/1.1 200 OK\r\nX-Header: ", b"x"),
        "one chunk extension": (JSON + b"1;", b"x"),
        "trailers": (JSON + b"1\r\n \r\n0\r\n", b"X-Trailer: value\r\n"),
    }.items(),
    ids=lambda flood: flood[0],
)
def test_heads_and_framing_have_an_end(kind: str, flood: tuple[str, tuple[bytes, bytes]]) -> None:
    waited: list[object] = []
    hooks = homing.Hooks(on_retry=waited.append, on_wait=waited.append)
    with flooding(*flood[1]) as url:
        error = failure(kind, url, create, **PATIENT, hooks=hooks)
    assert isinstance(error, homing.APIResponseValidationError)
    assert not waited  # the server is there, and not one to wait for


@pytest.mark.parametrize("kind", OWN)
def test_interim_answers_have_a_bound(kind: str) -> None:
    with flooding(b"", b"HTTP/1.1 102 Processing\r\n\r\n") as url:
        error = failure(kind, url, create, **PATIENT)
    assert isinstance(error, homing.APIResponseValidationError)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_what_a_resumed_reply_is_put_together_from_counts_as_one(name: str) -> None:
    library: Any = import_module(name)

    class Broken(library.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield HELLO * 10
            raise library.ReadError("gone")

    def answer(request: Any) -> Any:
        if not request.url.path.endswith("/chat/completions"):
            return library.Response(404)
        return library.Response(200, headers={"content-type": "text/event-stream"}, stream=Broken())

    limit = len(HELLO) * 15
    http = library.Client(transport=library.MockTransport(answer))
    with http, homing.Client("http://engine.test", model="m", http_client=http, max_response_bytes=limit) as client:
        stream = client.chat.completions.create(**ASK, stream=True, resume=homing.ResumeStyle())
        with pytest.raises(homing.ResponseTooLarge) as caught:
            list(stream)
    assert caught.value.received == len(HELLO) * 20


def test_a_large_answer_that_is_none_is_no_error_object() -> None:
    said = b'{"error":"%b"}' % (b"x" * (MAX_ERROR_BODY + 1))
    with pytest.raises(homing.APIResponseValidationError):
        parse_response(said, ModelList)


def test_an_honest_end_is_no_flood() -> None:
    assert [item.choices[0].delta.content for item in _read(HELLO + END)][:1] == ["Hello"]


def _read(body: bytes) -> Any:
    with flooding(SSE + chunk(body) + b"0\r\n\r\n") as url:
        return ask("sync", url, stream, max_response_bytes=len(body))
