"""A page that the user has open can neither read nor drive the local edge; and the edge stands a crowd."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import h11
import pytest

from homing.errors import ConfigurationError
from homing_server.local import Edge, EdgeSettings, Fault, ProxyToken
from homing_server.local.doorkeeper import Refused
from homing_server.local.hosts import bare, hostname, is_loopback
from homing_server.local.pages import keep_out

HELLO = json.dumps({"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}).encode()
FAULT = json.dumps({"kind": "answer", "status": 418, "path": "*", "times": None}).encode()
CHAT, FAULTS = "/v1/chat/completions", "/_edge/faults"
ROUTES = [
    ("GET", "/_edge/state", b""),
    ("GET", "/_edge/log", b""),
    ("GET", "/_edge/metrics", b""),
    ("GET", FAULTS, b""),
    ("POST", FAULTS, FAULT),
    ("DELETE", FAULTS, b""),
    ("OPTIONS", FAULTS, b""),
    ("HEAD", "/_edge/log", b""),
    ("POST", CHAT, HELLO),
    ("OPTIONS", CHAT, b""),
    ("GET", "/v1/models", b""),
    ("GET", "/health", b""),
    ("GET", "/%5fedge/log", b""),
]


class Remote:
    """An edge in another process."""

    def __init__(self, url: str) -> None:
        self.url = url


def ask(
    edge: Edge | Remote, method: str, path: str, body: bytes = b"", *, host: str | None = "", **said: str
) -> tuple[int, dict[str, str], bytes]:
    """Send exactly these headers (``_`` is ``-``), as a browser would write them, whatever they claim."""
    where = urlsplit(edge.url)
    headers = {name.replace("_", "-"): value for name, value in said.items()}
    if host is not None:
        headers["Host"] = host or where.netloc
    version = b"1.0" if host is None else b"1.1"
    lines = [f"{method} {path} HTTP/{version.decode()}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target=path, headers=[("Host", "x"), ("Connection", "close")]))
    peer.send(h11.EndOfMessage())
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as raw:
        raw.sendall("\r\n".join(lines).encode("latin-1") + body)
        status, found, data = 0, {}, b""
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                peer.receive_data(raw.recv(65_536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                found = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                data += event.data
            else:
                return status, found, data


@pytest.fixture(scope="module")
def own() -> Iterator[Edge]:
    with Edge(EdgeSettings.instant(replicas=1)) as edge:
        yield edge


def untouched(edge: Edge) -> bool:
    """Whether no fault is armed and nothing was recorded."""
    state = json.loads(ask(edge, "GET", "/_edge/state")[2])
    return state["faults"] == 0 and not edge.log and not state["outcomes"]


PAGES = {
    "form": {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site", "Content_Type": "text/plain"},
    "fetch": {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site", "Content_Type": "application/json"},
    "an old browser's": {"Origin": "http://evil.example", "Content_Type": "application/json"},
    "image": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    "sandboxed": {"Origin": "null", "Content_Type": "application/json"},
    "another port": {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site", "Content_Type": "application/json"},
    "another port, old": {"Origin": "http://localhost:1", "Content_Type": "application/json"},
    "preflight": {
        "Origin": "https://evil.example",
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Private_Network": "true",
    },
    "a file": {"Origin": "file://", "Content_Type": "application/json"},
    "no URL": {"Origin": "http://[", "Content_Type": "application/json"},
}
HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "evil.example#@127.0.0.1:{port}",
    "127.0.0.1@evil.example:{port}",
    "evil.example/127.0.0.1",
    "10.1.2.3:{port}",
    "0.0.0.0:{port}",
    "[fe80::1]:{port}",
    "[::ffff:10.1.2.3]:{port}",
    "[",
    "127.0.0.1:evil",
    "localhost\x85",
    "",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_others_is_refused(edge: Edge, page: str) -> None:
    for method, path, body in ROUTES:
        status, headers, told = ask(edge, method, path, body, **PAGES[page])
        assert status == 403, (method, path)
        assert not [name for name in headers if name.startswith("access-control")]
        assert b"replica" not in told
    assert untouched(edge)


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_that_points_here_by_rebinding_is_refused(edge: Edge, host: str) -> None:
    host = host.format(port=urlsplit(edge.url).port)
    for method, path, body in ROUTES:
        status, headers, told = ask(edge, method, path, body, host=host or " ", Content_Type="application/json")
        assert status in (400, 421), (method, path)  # by the HTTP parser, or by us
        assert not [name for name in headers if name.startswith("access-control")]
        assert b"replicas" not in told
    assert untouched(edge)


def test_without_a_host(own: Edge) -> None:
    assert ask(own, "GET", "/_edge/state", host=None)[0] == 421
    where = urlsplit(own.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as raw:
        raw.sendall(b"GET /_edge/log HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_the_machine_itself_may(own: Edge, host: str) -> None:
    port = urlsplit(own.url).port
    for authority in (host, f"{host}:{port}", f"{host}:9999"):  # a tunnel has a port of its own
        assert ask(own, "GET", "/_edge/state", host=authority)[0] == 200
        assert ask(own, "GET", "/v1/models", host=authority)[0] == 200


def test_pages_of_the_edge_itself_and_the_user_may(own: Edge) -> None:
    assert ask(own, "GET", "/_edge/state", Sec_Fetch_Site="none")[0] == 200
    assert ask(own, "GET", "/_edge/state", Sec_Fetch_Site="same-origin", Origin=own.url)[0] == 200
    assert ask(own, "POST", CHAT, HELLO, Origin=own.url, Content_Type="application/json")[0] == 200


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"]
)
def test_what_a_form_may_send_arms_nothing(edge: Edge, kind: str) -> None:
    said = {"Content_Type": kind} if kind else {}
    assert ask(edge, "POST", FAULTS, FAULT, **said)[0] == 415
    assert untouched(edge)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_programs_arm_faults_and_disarm_them(edge: Edge, kind: str) -> None:
    assert ask(edge, "POST", FAULTS, FAULT, Content_Type=kind)[0] == 200
    assert ask(edge, "POST", CHAT, HELLO, Content_Type="application/json")[0] == 418
    assert ask(edge, "DELETE", FAULTS)[2] == b"[]"


def test_head_is_get_without_a_body(own: Edge) -> None:
    for path in ("state", "log", "metrics", "faults"):
        (found, headers, _), (status, same, body) = (ask(own, method, f"/_edge/{path}") for method in ("GET", "HEAD"))
        assert (found, status, body) == (200, 200, b"")
        assert headers["content-type"] == same["content-type"]
    assert ask(own, "HEAD", "/_edge/nothing")[0] == 404


def test_get_changes_nothing(edge: Edge) -> None:
    edge.inject(Fault.overloaded(times=None))
    before = json.loads(ask(edge, "GET", "/_edge/state")[2])
    for path in ("state", "log", "metrics", "faults", "faults?method=DELETE", "nothing"):
        for method in ("GET", "HEAD", "OPTIONS"):
            ask(edge, method, f"/_edge/{path}", X_HTTP_Method_Override="DELETE")
    assert json.loads(ask(edge, "GET", "/_edge/state")[2]) == before


def test_names_that_the_user_allows() -> None:
    names = ("edge.example", "Other.Example", "fd00::7")
    with Edge(EdgeSettings.instant(replicas=1, allowed_hosts=names)) as edge:
        for host in ("edge.example", "EDGE.example:8000", "other.example.", "[fd00::7]:80"):
            assert ask(edge, "GET", "/v1/models", host=host)[0] == 200
        told = ask(edge, "GET", "/v1/models", host="sub.edge.example")
        assert told[0] == 421
        assert b"--allow-host" in told[2]
        page = {"Origin": "https://edge.example", "Content_Type": "application/json"}
        assert ask(edge, "POST", CHAT, HELLO, host="edge.example", **page)[0] == 200, "behind a proxy with TLS"
        assert ask(edge, "POST", CHAT, HELLO, **page)[0] == 403, "but it is another origin than 127.0.0.1"


@pytest.mark.parametrize(
    "host",
    [
        "http://foo",
        "foo/",
        "*",
        "*.foo",
        "",
        ".",
        " ",
        "foo bar",
        "foo..bar",
        "me@foo",
        "foo:port",
        "[foo]",
        "::g",
        "ü.de",
    ],
)
def test_what_is_no_name_cannot_be_allowed(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed_hosts.1: .*a host name such as"):
        EdgeSettings(allowed_hosts=("edge.example", host))


@pytest.mark.parametrize(
    "host", ["foo", "my_container", "a-b.example.", "foo:80", "10.0.0.1", "fd00::7", "[fd00::7]:80"]
)
def test_names_that_can_be_allowed(host: str) -> None:
    assert EdgeSettings(allowed_hosts=(host,)).allowed_hosts == (host,)


def test_an_address_of_all_networks() -> None:
    with Edge(EdgeSettings.instant(replicas=1, host="0.0.0.0")) as edge:
        for host in ("0.0.0.0", "127.0.0.1", "localhost"):
            assert ask(edge, "GET", "/_edge/state", host=host)[0] == 200
        assert ask(edge, "GET", "/_edge/state", host="192.0.2.7")[0] == 421
        assert ask(edge, "GET", "/_edge/state", host="evil.example")[0] == 421


def test_the_address_that_a_request_came_in_at(own: Edge) -> None:
    # Another address of this machine than the one that is bound.
    with Edge(EdgeSettings.instant(replicas=1, host="127.0.0.2")) as edge:
        assert ask(edge, "GET", "/_edge/state", host="127.0.0.2")[0] == 200
    assert hostname("[::1]:80") == bare("::1") == bare("[::1]") == "::1"
    # A socket for IPv4 and IPv6 writes both as IPv6, and a zone where it is link-local.
    for host, reached in (
        ("192.168.1.5:8000", "::ffff:192.168.1.5"),
        ("[::ffff:192.168.1.5]", "192.168.1.5"),
        ("[FD00:0::7]", "fd00::7"),
        ("[fe80::1]:8000", "fe80::1%eth0"),
    ):
        keep_out({"host": host}, names={"::"}, reached=reached)
        with pytest.raises(Refused):
            keep_out({"host": host}, names={"::"}, reached="::ffff:192.168.1.6")
        with pytest.raises(Refused):
            keep_out({"host": host}, names={"::"}, reached=None)
    assert is_loopback("::1")
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("::ffff:10.0.0.1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("localhost.evil.example")


def test_state_holds_no_secret_and_asks_for_the_token() -> None:
    token = ProxyToken.parse("wk-me.ws-secret-token-1")
    with Edge(EdgeSettings.instant(replicas=1, proxy_token=token, api_key="secret-engine-2")) as edge:
        pass_on = {"Modal_Key": "wk-me", "Modal_Secret": "ws-secret-token-1"}
        body = {"Authorization": "Bearer secret-engine-2", "Cookie": "a=secret-cookie-3", **pass_on}
        assert ask(edge, "POST", f"{CHAT}?key=secret-query-4", HELLO, Content_Type="application/json", **body)[0] == 200
        for path in ("state", "log", "metrics", "faults"):
            assert ask(edge, "GET", f"/_edge/{path}")[0] == 401
            status, _, told = ask(edge, "GET", f"/_edge/{path}", b"", **pass_on)
            assert status == 200
            assert b"secret" not in told
        assert ask(edge, "POST", FAULTS, FAULT, Content_Type="application/json")[0] == 401
    # A backend's URL may hold a password.
    with Edge(EdgeSettings.instant(backends=("http://me:secret-5@127.0.0.1:9",), replicas=1)) as edge:
        status, _, told = ask(edge, "GET", "/v1/models")
        assert (status, b"secret" in told, b"127.0.0.1:9" in told) == (502, False, True)


# -- a crowd --------------------------------------------------------------------------------------


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
def test_requests_leave_no_files_open(own: Edge) -> None:
    ask(own, "POST", CHAT, HELLO, Content_Type="application/json")
    before = files()
    for _ in range(200):
        assert ask(own, "POST", CHAT, HELLO, Content_Type="application/json")[0] == 200
    own.wait_for(lambda edge: edge.running == 0)
    assert files() <= before + 2  # the last one may be closing
    own.reset()


CROWDED = """
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from homing_server.local import Edge, EdgeSettings, listener
listener._BODY_PAUSE = 0.0
with Edge(EdgeSettings.instant(replicas=1)) as edge:
    print(edge.url, flush=True)
    sys.stdin.read()
"""


HALF_SENT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
)


@pytest.mark.parametrize("begun", [b"", b"GET /v1/mod", HALF_SENT], ids=["nothing", "half a head", "no body"])
def test_more_idle_connections_than_it_has_files_for(begun: bytes) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", CROWDED], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        edge = Remote(process.stdout.readline().strip())
        where = urlsplit(edge.url)
        address = (where.hostname or "", where.port or 0)
        for _ in range(600):
            idle = stack.enter_context(socket.create_connection(address, timeout=20))
            with contextlib.suppress(OSError):  # it may be closed already
                idle.sendall(begun)
                if begun == HALF_SENT:
                    idle.recv(1)  # it is asked for the body, so its request has begun
        for _ in range(3):
            assert ask(edge, "POST", CHAT, HELLO, Content_Type="application/json")[0] == 200
        told = process.communicate()[1]  # ends it
    assert process.returncode == 0
    assert told == "", "files never ran out"


def test_up_takes_as_many_files_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    from homing.cli import up

    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: taken.append(limits))
    for soft, hard in ((256, 4096), (4096, 4096), (256, resource.RLIM_INFINITY), (256, 10**6)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=(soft, hard): limits)
        up._more_files()
    assert taken == [(4096, 4096), (65_536, resource.RLIM_INFINITY), (65_536, 10**6)]
