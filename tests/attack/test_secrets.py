"""Planted secrets, and every place where one could come to light."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import dataclasses
import functools
import html
import io
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from rich.console import Console
from rich.traceback import Traceback

import homing
from homing import errors
from homing.core.errors.server_errors import invalid_response, status_error
from homing.core.request.environment import resolve_base_url
from homing.core.secrets.redact import (
    SHORTEST,
    SecretMapping,
    redact,
    redacted_request,
    redacted_response,
    secrets_in,
    strip_secrets,
)
from homing.integrations.openai import http_client
from homing.integrations.otel import CAPTURE_VARIABLE, instrument
from tests.transport.peers import Asked, Peer, Server, answer

CORES = (
    "K1apikey", "K2identity", "K3modal", "K4header", "K5query", "K6extra", "K7asked", "K8basic",
)  # fmt: skip
"""What no secret can be quoted without, however it is encoded; but for base64."""

API_KEY = "K1apikey\"/+=\\<p>&'7"
PROXY_TOKEN = ("wk-K2identity99", "ws-K3modal+/99")
HEADERS = {"X-Team": 'K4header"/+ =77', "Proxy-Authorization": "Basic " + base64.b64encode(b"me:K8basic/+77").decode()}
QUERY = {"key": "K5query é/+&77"}
EXTRA_HEADERS = {"X-Extra": "K6extra\\7777"}
EXTRA_QUERY = {"asked": "K7asked/+77"}
SECRETS = (API_KEY, *PROXY_TOKEN, *HEADERS.values(), *QUERY.values(), *EXTRA_HEADERS.values(), *EXTRA_QUERY.values())
CODED = tuple(base64.b64encode(secret.encode()).decode() for secret in (*SECRETS, "me:K8basic/+77"))

MESSAGES: list[Any] = [{"role": "user", "content": "q"}]
PATIENCE = 30.0
"""Seconds until a command counts as hung."""


def found(text: str) -> list[str]:
    """Return the secrets that a text lets be read."""
    plain = text.lower()
    return [core for core in CORES if core.lower() in plain] + [code for code in CODED if code in text]


def check(where: str, text: str) -> None:
    assert not found(text), f"{where} holds {found(text)}: {text[:2000]}"


def test_the_search_finds() -> None:
    assert found(" ".join(SECRETS)) == [*CORES[:7], CODED[-1]]
    assert found(" ".join(CODED)) == list(CODED)


# -- a server that tells everything it is told ---------------------------------------------------


def gossip(asked: Asked) -> str:
    """Say what came with a request, in every spelling."""
    values = [*asked.headers.values(), *(value for _, value in parse_qsl(urlsplit(asked.target).query))]
    values += [value.partition(" ")[2] for value in values if " " in value]
    spellings: tuple[Callable[[str], str], ...] = (
        str,
        quote,
        lambda text: re.sub("%..", lambda escape: escape[0].lower(), quote(text, safe="")),
        quote_plus,
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps({"q": text}).replace("/", "\\/"),
        html.escape,
        repr,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: f"key={text}&x",
        lambda text: quote(f"a={text}", safe=""),
        lambda text: f"tab\\t{json.dumps(text)[1:-1]}",
        lambda text: f"http://me:{quote(text, safe='')}@h/",
    )
    # As utf-8: urllib reads it so, h11 has the same bytes.
    return " | ".join(spell(value) for value in values for spell in spellings) + f" | {asked.target}"


@dataclass
class Server1(Server):
    """Answers as it is told."""

    mode: str = "refuse"
    script: Any = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script = self._each
        super().__post_init__()

    def _each(self, peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            self.note(asked)
            said = gossip(asked)
            self.said.append(said)
            told = json.dumps({"error": {"message": said, "code": said, "list": [said, 1]}}).encode()
            if self.mode == "refuse":
                told_by = f"X-Said: {asked.headers.get('x-team')}\r\nSet-Cookie: session=K6extra-in-a-cookie\r\n"
                peer.send(answer(told, status="401 Unauthorized", headers=told_by))
            elif self.mode == "refuse-text":
                peer.send(answer(said.encode(), status="500 Internal Server Error"))
            elif self.mode == "error-in-200":
                peer.send(answer(told, headers=JSON))
            elif self.mode == "nonsense":
                peer.send(answer(said.encode(), headers=JSON))
            elif self.mode == "redirect":
                peer.send(answer(b"", status="307 T", headers=f"Location: /?{quote(said)}\r\n"))
            elif self.mode == "stream-error":
                peer.send(answer(b"data: " + told + b"\n\n", headers=EVENTS))
            elif self.mode == "break":
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
                peer.send(head, b"data: " + CHUNK + b"\n\n")
                return peer.close()
            elif self.mode == "close":
                return peer.close()
            elif self.mode == "silent":
                return peer.wait_closed()
        return None


JSON = "Content-Type: application/json\r\n"
EVENTS = "Content-Type: text/event-stream\r\n"
CHUNK = json.dumps(
    {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
     "choices": [{"index": 0, "delta": {"content": "so far"}, "finish_reason": None}]}
).encode()  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server1]:
    server = Server1(script=None)
    yield server
    server.stop()


# -- where to look ---------------------------------------------------------------------------------


def look_through(what: Any) -> None:
    """Look at all that can be reached from an object without calling anything."""
    seen: set[int] = set()
    left: list[tuple[str, Any]] = [(type(what).__name__, what)]
    kept: list[Any] = []
    while left:
        path, one = left.pop()
        if id(one) in seen or isinstance(one, (type, int, float)):
            continue
        seen.add(id(one))
        kept.append(one)  # so that no id is used again
        check(f"str of {path}", str(one))
        check(f"repr of {path}", repr(one))
        if isinstance(one, (str, bytes)):
            check(path, one if isinstance(one, str) else one.decode("latin-1"))
        elif isinstance(one, dict):
            left += [(f"{path}[{key!r}]", value) for key, value in one.items()]
            left += [(f"{path} key", key) for key in one]
        elif isinstance(one, (list, tuple, set, frozenset)):
            left += [(f"{path}[{number}]", value) for number, value in enumerate(one)]
        if not callable(one) and not isinstance(one, logging.Logger):
            left += [(f"{path}.{name}", value) for name, value in getattr(one, "__dict__", {}).items()]
        if isinstance(one, BaseException):
            left += [(f"{path}.{name}", getattr(one, name)) for name in ("args", "__cause__", "__context__")]
            look_at_frames(path, one)


def look_at_frames(path: str, error: BaseException) -> None:
    """Look at the locals of every frame, but for those of this file."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename != __file__:
            for name, value in frame.f_locals.items():
                check(f"{path}: {frame.f_code.co_filename}:{frame.f_lineno} {name}", safe_repr(value))


def safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - half made
        return ""


def look_at(error: BaseException) -> None:
    """Look at an error as logs, queues and services that collect errors do."""
    look_through(error)
    plain = traceback.TracebackException.from_exception(error, capture_locals=True)
    left: list[traceback.TracebackException | None] = [plain]
    while left:
        if (one := left.pop()) is not None:
            one.stack[:] = [frame for frame in one.stack if frame.filename != __file__]
            left += [one.__cause__, one.__context__]
    check("the traceback", "".join(plain.format()))
    console = Console(file=io.StringIO(), width=400)
    ours = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=1000, locals_max_string=10_000,
        suppress=(), width=400, max_frames=0,
    )  # fmt: skip
    for stack in ours.trace.stacks:
        stack.frames = [frame for frame in stack.frames if frame.filename != __file__]
    console.print(ours)
    assert isinstance(console.file, io.StringIO)
    check("rich", console.file.getvalue())
    if isinstance(error, errors.HomingError):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(error, protocol)
            check(f"pickle {protocol}", data.decode("latin-1"))
            look_through(pickle.loads(data))
        look_through(copy.copy(error))
        look_through(copy.deepcopy(error))


# -- calls that fail ---------------------------------------------------------------------------------


class Answer(BaseModel):
    """What parse asks for."""

    number: int


Call = Callable[[homing.Client], Any]
EXTRA: dict[str, Any] = {"extra_headers": EXTRA_HEADERS, "extra_query": EXTRA_QUERY}
CALLS: dict[str, Call] = {
    "create": lambda c: c.chat.completions.create(messages=MESSAGES, **EXTRA),
    "create-stream": lambda c: list(c.chat.completions.create(messages=MESSAGES, stream=True, **EXTRA)),
    "raw": lambda c: c.chat.completions.with_raw_response.create(messages=MESSAGES, **EXTRA),
    "stream": lambda c: list(c.chat.completions.stream(messages=MESSAGES, **EXTRA)),
    "parse": lambda c: c.chat.completions.parse(messages=MESSAGES, response_format=Answer, **EXTRA),
    "send": lambda c: c.conversation().send("q", **EXTRA),
    "defaults": lambda c: c.conversation(**EXTRA).send("q"),
    "turn-stream": lambda c: list(c.conversation().stream("q", resume="never", **EXTRA)),
    "turn-parse": lambda c: c.conversation().parse("q", Answer, **EXTRA),
    "run": lambda c: c.conversation().run("q", [], **EXTRA),
    "models": lambda c: c.models.list(),
    "ready": lambda c: c.wait_until_ready(),
}
FEW = ("create", "create-stream", "send")
"""The ways that errors take: from a whole answer, from a stream, through a conversation."""
OWN = ("", "httpx", "httpx2")
"""Whose ``http_client``; without one the transport is ours."""
MODES = ("refuse", "refuse-text", "error-in-200", "nonsense", "redirect", "stream-error", "break", "close", "silent")


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {
        "base_url": url, "model": "m", "api_key": API_KEY, "proxy_token": PROXY_TOKEN, "default_headers": HEADERS,
        "default_query": QUERY, "max_retries": 1, "retry": homing.RetryPolicy(max_retries=1, wait=lambda _: 0.0),
        "cold_start_timeout": 0, "timeout": homing.Timeout(total=PATIENCE, first_token=0.2, silence=0.2, gap=0.2),
        **more,
    }  # fmt: skip


class Watcher:
    """Hooks that look at what they are given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.seen: list[Any] = []
        hooks = homing.Hooks(
            on_wait=self.seen.append,
            on_retry=self.seen.append,
            on_reply=self.seen.append,
            on_error=self.seen.append,
            on_call=self._call,
        )
        self.hooks = instrument(hooks, tracer_provider=tracers)

    def _call(self, calling: Any) -> Any:
        self.seen.append(calling)
        return self.seen.append

    def look(self) -> None:
        for one in self.seen:
            look_through(one)
            if dataclasses.is_dataclass(one):
                for name in [f.name for f in dataclasses.fields(one)]:
                    look_through(getattr(one, name))
        for span in self.exporter.get_finished_spans():
            check("a span", span.to_json())


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("mode", MODES)
def test_failed_calls(
    server: Server1, mode: str, own: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(CAPTURE_VARIABLE, "true")
    server.mode = mode
    watcher = Watcher()
    failed = 0
    with contextlib.ExitStack() as stack:
        headers = {"X-Own": "K4header in httpx"}
        http = stack.enter_context(import_module(own).Client(headers=headers)) if own else None
        client = stack.enter_context(homing.Client(**settings(server.url, hooks=watcher.hooks, http_client=http)))
        for name, call in CALLS.items():
            if mode != "refuse" and name not in FEW:
                continue
            try:
                call(client)
            except errors.HomingError as error:
                failed += 1
                look_at(error)
        check("repr of the client", repr(client))
        look_through(client._options)
    assert failed >= 2
    assert any(found(said) for said in server.said), "the server has told nothing"
    watcher.look()
    if not own:  # httpx logs URLs
        check("the log", caplog.text)


async def _cancelled(url: str, own: str) -> BaseException:
    http = import_module(own).AsyncClient() if own else None
    client = homing.AsyncClient(**settings(url, timeout=None, http_client=http))
    try:
        await asyncio.wait_for(client.conversation().send("q", **EXTRA), 0.05)
    except asyncio.TimeoutError as error:
        return error
    finally:
        await client.aclose()
        if http is not None:
            await http.aclose()
    raise AssertionError("the server has answered")


@pytest.mark.parametrize("own", OWN)
def test_a_cancelled_call(server: Server1, own: str) -> None:
    server.mode = "silent"
    look_at(asyncio.run(_cancelled(server.url, own)))


make: Any = homing.Client
WRONG: dict[str, Callable[[Any], Any]] = {
    "content": lambda c: c.conversation().send(42, **EXTRA),
    "content of a stream": lambda c: c.conversation().stream(42, **EXTRA),
    "content of a run": lambda c: c.conversation().run(42, [], **EXTRA),
    "repairs": lambda c: c.conversation().parse("q", Answer, repair=-1, **EXTRA),
    "no turn's": lambda c: c.conversation().send("q", messages=[], **EXTRA),
    "a conversation's": lambda c: c.conversation("", trim=5, **EXTRA),
    "a default": lambda c: c.conversation(affinity_key="é", **EXTRA),
    "messages": lambda c: c.chat.completions.create(messages=5, **EXTRA),
    "a format": lambda c: c.chat.completions.parse(messages=MESSAGES, response_format=5, **EXTRA),
    "a header": lambda c: c.conversation().send("q", extra_headers={"X-Key": "K6extra\n7"}),
    "a header's name": lambda c: c.conversation().send("q", extra_headers={"X-Key: K6extra77": ""}),
    "a changed key": lambda c: c.with_options(api_key="K1apikey\n"[:-1] + "é", default_headers=HEADERS),
    "a change": lambda c: c.with_options(api_key=API_KEY, default_query=QUERY, timeout="x"),
    "an argument": lambda c: make(**settings("http://h", cold_start_timeout=-1)),
    "a client": lambda c: make(**settings("http://h", http_client=5)),
    "a key from a function": lambda c: c.with_options(api_key=lambda: "K1apikey\nX").conversation().send("q"),
    "a key that is none": lambda c: make("http://h", api_key="ak-K1apikey77"),
    "a token": lambda c: make("http://h", proxy_token="K3modal77"),
    **{
        f"the URL {url}": functools.partial(lambda url, _: make(url), url)
        for url in (
            "http://h K1apikey77", "K1apikey77", "sk-K1apikey77", "http://h/?key=K5query77", "ftp://me:K8basic77@h",
            "http://me:K8basic77@h", "h:K8basic77@h/x", "ftp://h/K1apikey77", "http://h:K1apikey77", "//me:K8basic@h",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_not_quoted(name: str) -> None:
    with homing.Client(**settings("http://127.0.0.1:9")) as client:
        with pytest.raises((errors.ConfigurationError, TypeError)) as caught:
            WRONG[name](client)
        look_at(caught.value)


def test_what_is_no_secret_is_quoted() -> None:
    for url in ("localhost:8000", "api.example.com", "ftp://api.example.com/v1", "http://h:99999"):
        with pytest.raises(errors.ConfigurationError, match=re.escape(repr(url))):
            resolve_base_url(url, {})


def test_options_and_their_parts() -> None:
    with homing.Client(**settings("http://h")) as client:
        options = client._options
        changed = client.with_options(model="n")
        for part in (options, options.credentials, options.headers, options.query, client, changed):
            look_through(part)
            look_through(copy.copy(part) if part is options else part)
            with pytest.raises(TypeError):
                pickle.dumps(part)
            with pytest.raises(TypeError):
                copy.deepcopy(part)
        assert (dict(options.headers), options.query, len(options.query)) == (HEADERS, QUERY, 1)
        assert repr(options.query) == "{'key': [hidden]}"


def test_below_another_sdk(server: Server1) -> None:
    """Our transport below somebody else's client: what hooks are told, and our frames."""
    seen: list[Any] = []
    server.mode = "refuse-text"
    hooks = homing.Hooks(on_wait=seen.append, on_retry=seen.append)
    terms: dict[str, Any] = {"base_url": server.url, "proxy_token": PROXY_TOKEN, "cold_start_timeout": 0}
    with http_client(library="httpx", hooks=hooks, timeout=PATIENCE, **terms) as http:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        http.post(f"{server.url}/v1/chat/completions", json={"messages": MESSAGES}, headers=headers, params=QUERY)
        server.mode = "silent"
        with pytest.raises(httpx.TimeoutException) as caught:
            http.get(server.url, timeout=0.2)
    for one in seen:
        look_through(one)
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if "homing" in frame.f_code.co_filename:
            check("a frame of ours", repr({name: safe_repr(value) for name, value in frame.f_locals.items()}))


# -- commands --------------------------------------------------------------------------------------


def command_lines() -> str:
    """Return the arguments of all processes, as anybody on the machine sees them."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "arguments", [("doctor", "--json"), ("doctor",), ("status",), ("wait", "--timeout", "1")], ids=" ".join
)
def test_commands(server: Server1, arguments: tuple[str, ...]) -> None:
    identity, secret = PROXY_TOKEN
    keys = {"HOMING_API_KEY": API_KEY, "MODAL_PROXY_TOKEN_ID": identity, "MODAL_PROXY_TOKEN_SECRET": secret}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HOMING_", "OPENAI_", "MODAL_"))}
    with subprocess.Popen(
        [Path(sys.executable).with_name("homing"), *arguments],
        env={**clean, **keys, "HOMING_BASE_URL": server.url, "HOMING_LOG": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        server.wait(lambda server: bool(server.requests))
        check("the process list", command_lines())
        shown, _ = process.communicate(timeout=PATIENCE)
    assert shown
    check(" ".join(arguments), shown)


# -- the tools themselves ----------------------------------------------------------------------------


def test_only_whole_tokens_of_a_length_are_blotted_out() -> None:
    secret = "s" * SHORTEST
    said = f"{secret} x{secret} {secret}x {secret}, '{secret}' a%3D{secret} \\n{secret} \\u0022{secret}"
    shown = f"[hidden] x{secret} {secret}x [hidden], '[hidden]' a%3D[hidden] \\n[hidden] \\u0022[hidden]"
    assert redact(said, [secret]) == shown
    assert redact("the s and the ssss", ["s", "ssss", ""]) == "the s and the ssss"
    assert redact({secret: [secret, 1, None]}, [secret]) == {secret: ["[hidden]", 1, None]}
    assert redact("wrong: Basic bm8=", ["Basic bm8="]) == "wrong: [hidden]"
    assert redact("user:pass7777", ["Basic dXNlcjpwYXNzNzc3Nw=="]) == "[hidden]"
    assert redact("see http://me:short@h/x", []) == "see http://[hidden]@h/x"
    assert redact("/x/y", ["Basic /w=="]) == "/x/y"  # what is no text


@pytest.mark.parametrize("key", ["maximum", "context-length", "exceeds", "model's", "context_length_exceeded"])
def test_an_error_is_classified_by_what_was_said(key: str) -> None:
    said = {"error": {"message": f"the model's maximum context length: {key}", "code": "context_length_exceeded"}}
    error = status_error(400, json.dumps(said).encode(), secrets=[key])
    assert type(error) is errors.ContextWindowExceeded
    assert isinstance(error.body, dict)
    assert list(error.body["error"]) == ["message", "code"]
    assert (key in str(error)) is (len(key) < SHORTEST)
    assert (key in str(invalid_response("odd", f"said {key}", secrets=[key]))) is (len(key) < SHORTEST)


def test_a_redacted_copy_says_what_was_sent_where() -> None:
    request = httpx.Request(
        "POST",
        "http://me:K8basic@h:1/v1?a=K5query&b=2",
        headers={"X-Key": API_KEY, "Accept": "*/*"},
        json={"q": "K1apikey"},
    )
    copied = redacted_request(request)
    assert (copied.method, copied.url.host, copied.url.path, copied.headers["accept"]) == ("POST", "h", "/v1", "*/*")
    assert dict(copied.url.params) == {"a": "[hidden]", "b": "[hidden]"}
    assert copied.headers["x-key"] == "[hidden]"
    assert copied.content == b""
    look_through(copied)
    response = httpx.Response(
        429, headers={"Retry-After": "7", "X-Session-Token": "K4header", "X-RateLimit-Remaining-Tokens": "12",
                      "X-Echo": API_KEY, "Content-Encoding": "identity"},
        request=request, content=b"K1apikey", extensions={"http_version": b"HTTP/1.1", "network_stream": object()},
    )  # fmt: skip
    shown = redacted_response(response, {"error": "full"}, secrets_in(request))
    look_through(shown)
    assert (shown.status_code, shown.headers["retry-after"], shown.json()) == (429, "7", {"error": "full"})
    assert shown.headers["x-ratelimit-remaining-tokens"] == "12"
    assert shown.extensions == {"http_version": b"HTTP/1.1"}
    assert redacted_response(httpx.Response(500), None, ()).content == b""
    assert redacted_response(httpx.Response(500), "a page", ()).text == "a page"


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_what_the_callers_code_was_handling_keeps_its_frames(name: str) -> None:
    library: Any = import_module(name)
    try:
        raise ValueError("the caller's")
    except ValueError as handled:
        theirs = handled
        try:
            try:
                raise library.ConnectError("no", request=library.Request("GET", "http://h/?k=K5query77"))
            except library.ConnectError as error:
                raise errors.ServerUnreachable("gone") from error
        except errors.ServerUnreachable as error:
            ours = error
    cause: Any = ours.__cause__
    assert isinstance(cause, library.ConnectError)
    assert cause.__context__ is theirs
    cause.__cause__ = ours  # a circle
    strip_secrets(ours)
    assert (ours.__traceback__, cause.__traceback__) == (None, None)
    assert theirs.__traceback__ is not None
    assert "K5query" not in str(cause.request.url)
    assert isinstance(SecretMapping({"a": 1}), Mapping)


@pytest.mark.parametrize(
    "said",
    [
        "\x1b[31m{}\x1b[0m", "\\x1b[31m{}", "\\033[1;31m{}", "\\x00{}", "%250A{}", "Basic dTpwYXNzd29yZA {}",
    ],
)  # fmt: skip
def test_an_escape_before_a_key_hides_it_not(said: str) -> None:
    assert "Zq9xLmPw77" not in redact(said.format("Zq9xLmPw77"), ["Zq9xLmPw77"])
    assert "dTpwYXNzd29yZA" not in redact(said, [])


def test_what_cleaning_would_put_together_is_blotted_out() -> None:
    for between in ("\0", "\u200b", "\u202e", "\x1b[0m"):
        said = between.join("key Zq9xLmPw77")
        assert "Zq9" not in str(status_error(401, said.encode(), secrets=["Zq9xLmPw77"]))


def test_every_spelling() -> None:
    secret = "a/b+c'd\\e&f\"g é\U0001f600%77"
    escapes: tuple[Callable[[str], str], ...] = (
        lambda c: f"\\u{ord(c):04x}", lambda c: f"&#{ord(c)};", lambda c: f"&#0{ord(c)};", lambda c: f"&#x{ord(c):X};",
    )  # fmt: skip
    spelled = ["".join(c if c.isascii() and c.isalnum() else one(c) for c in secret) for one in escapes]
    data = secret.encode()
    spelled += [quote(quote(secret, safe=""), safe=""), json.dumps(json.dumps(secret)), repr(data), data.hex()]
    spelled += [base64.urlsafe_b64encode(data).decode(), base64.b64encode(data).decode().rstrip("=")]
    for said in spelled:
        assert "77" not in redact(said, [secret]).replace("[hidden]", ""), said
        assert redact(f"key {said}.", [secret]).startswith("key "), said
        assert "[hidden]" in redact(f"key {said}.", [secret]), said


def test_basic_in_ordinary_words() -> None:
    for said in ("Basic authentication", "Basic abcde", "Basic realm=x"):
        assert redact(said, []) == said


def test_a_search_that_ends() -> None:
    redact("\\\\\\\\\\/" * 500, ["\\/" * 20 + "zzzzzzzz"])  # would take for ever if a text could be read in two ways


@pytest.mark.parametrize(
    "reply", [b"HTPP %s\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad %s\r\n\r\n",
              b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n\r\n",
              b"HTTP/1.1 401 %s\r\nContent-Length: 0\r\n\r\n",
              b"HTTP/1.1 307 X\r\nLocation: http://%s.x/\r\nContent-Length: 0\r\n\r\n",
              b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n\r\n"],
)  # fmt: skip
def test_what_the_transport_quotes(reply: bytes) -> None:
    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(reply % b"K1apikey77")
            peer.close()

    server, watcher = Server(script=script), Watcher()
    terms = settings(server.url, api_key="K1apikey77", hooks=watcher.hooks)
    with homing.Client(**terms) as client, pytest.raises(errors.HomingError) as caught:
        CALLS["create-stream"](client)
    server.stop()
    look_at(caught.value)
    watcher.look()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "NO_PROXY"])
def test_a_proxy_that_cannot_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv(name, "http://u:K8basic77#1@127.0.0.1")
    with pytest.raises(errors.ConfigurationError, match=name) as caught:
        homing.Client("http://10.1.1.1")
    look_at(caught.value)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_a_forward_proxy_quotes(scheme: str, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        if (asked := peer.request()) is not None:
            code = asked.headers["proxy-authorization"].partition(" ")[2].encode()
            body = code + b" K8basic77"
            peer.send(b"HTTP/1.1 407 K8basic77\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            peer.close()

    server = Server(script=script)
    proxy = f"http://me:K8basic77@127.0.0.1:{server.port}"
    with contextlib.ExitStack() as stack:
        if own:
            http = stack.enter_context(import_module(own).Client(proxy=proxy))
        else:
            monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy)
            http = None
        client = stack.enter_context(homing.Client(**settings(f"{scheme}://10.1.1.1", http_client=http)))
        with pytest.raises(errors.HomingError) as caught:
            CALLS["create"](client)
    server.stop()
    look_at(caught.value)
    assert base64.b64encode(b"me:K8basic77").decode() not in f"{caught.value} {getattr(caught.value, 'body', '')}"
