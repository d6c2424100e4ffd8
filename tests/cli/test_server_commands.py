"""``homing wait``, ``status`` and ``doctor`` against the edge, and against what goes wrong in front of it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from homing_server.local import Edge, EngineSettings, Fault, ProxyToken

from .command import homing
from .spoiler import spoiler

TOKEN = "wk-abc.ws-secret0123"
SLOW = EngineSettings(prefill_rate=1e9, decode_rate=100)


def findings(*arguments: str, **environment: str) -> dict[str, Any]:
    done = homing("doctor", "--json", "--probes", "5", *arguments, **environment)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["verdict"] == "fail" else 0)
    return {check["name"]: check for check in found["checks"]}


def test_wait_wakes_the_server_and_says_how_long(edge: Edge) -> None:
    edge.hold_cold()

    def wake() -> None:
        edge.wait_for(lambda edge: len(edge.log) >= 2)
        edge.become_ready(1)

    waking = threading.Thread(target=wake)
    waking.start()
    done = homing("wait", HOMING_BASE_URL=edge.url)
    waking.join()
    assert done.returncode == 0
    assert done.stdout.startswith("ready after ")
    assert done.stderr.startswith("waiting for a replica: 0 s of at most 1200 s (HTTP 503)\n")
    assert "\x1b" not in done.stderr
    assert json.loads(homing("wait", "--json", "--url", edge.url).stdout)["ready"] is True


def test_wait_gives_up_with_a_status_of_its_own(edge: Edge) -> None:
    edge.hold_cold()
    done = homing("wait", "--url", edge.url, "--timeout", "0.5")
    assert done.returncode == 2
    assert "no replica became ready within 0.5 s" in done.stderr
    told = json.loads(homing("wait", "--url", edge.url, "--timeout", "0.5", "--json").stdout)
    assert told["ready"] is False


def test_without_a_server_the_variable_is_named() -> None:
    for command in ("wait", "status", "doctor"):
        done = homing(command)
        assert done.returncode == 1
        assert "HOMING_BASE_URL" in done.stderr
        assert "Traceback" not in done.stderr


def test_status_does_not_wait(edge: Edge) -> None:
    told = json.loads(homing("status", "--json", "--url", edge.url).stdout)
    assert (told["state"], told["models"]) == ("ready", ["homing-emulated"])
    edge.hold_cold()
    done = homing("status", "--url", edge.url)
    assert done.returncode == 2
    assert "cold" in done.stdout
    assert "HTTP 503" in done.stdout
    done = homing("status", "--json", "--url", "http://127.0.0.1:9")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (2, "cold")


def test_a_server_without_models(edge: Edge) -> None:
    edge.inject(Fault.raw(b'{"object":"list","data":[]}', content_type="application/json", path="*", times=None))
    found = findings("--url", edge.url)
    assert found["model"]["verdict"] == "fail"
    assert "OpenAI-compatible" in found["model"]["fix"]
    skipped = {name for name, check in found.items() if "no model" in check["found"]}
    assert skipped == {"streaming", "usage", "clock", "cached tokens", "affinity"}
    shown = homing("doctor", "--url", edge.url)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "the server lists none" in shown.stdout
    assert "skipped" in shown.stdout


@pytest.mark.edge(engine=SLOW)
def test_a_healthy_server(edge: Edge) -> None:
    found = findings("--url", edge.url)
    assert {name: check["verdict"] for name, check in found.items()} == dict.fromkeys(found, "ok")
    assert list(found) == [
        *("reach", "TLS", "ready", "auth", "model", "streaming", "usage", "clock", "cached tokens", "affinity")
    ]
    shown = homing("doctor", "--url", edge.url, "--probes", "2")
    assert shown.returncode == 0
    assert "✓ streaming" in shown.stdout
    assert "\x1b" not in shown.stdout


@pytest.mark.edge(engine=SLOW)
def test_a_proxy_that_collects_streams_and_drops_the_key(edge: Edge) -> None:
    drop = frozenset({"modal-session-id", "modal-routing-affinity-key"})
    with spoiler(edge.url, drop_request=drop, date="Wed, 25 Nov 2020 00:00:00 GMT") as url:
        found = findings("--url", url)
    assert found["streaming"]["verdict"] == "fail"
    assert "proxy_buffering off" in found["streaming"]["fix"]
    assert found["affinity"]["verdict"] == "fail"
    assert "strayed" in found["affinity"]["found"]
    assert found["clock"]["verdict"] == "warn"
    assert "behind" in found["clock"]["found"]


@pytest.mark.edge(engine=EngineSettings(prefill_rate=1e9, decode_rate=1e9, cache_report=False))
def test_a_server_that_does_not_report_its_cache(edge: Edge) -> None:
    found = findings("--url", edge.url)
    assert found["cached tokens"]["verdict"] == "warn"
    assert "--enable-cache-report" in found["cached tokens"]["fix"]


@pytest.mark.edge(proxy_token=ProxyToken.parse(TOKEN))
def test_keys(edge: Edge) -> None:
    found = findings("--url", edge.url)
    assert found["auth"]["verdict"] == "fail"
    assert "--proxy-token" in found["auth"]["fix"]
    given = {"MODAL_PROXY_TOKEN_ID": "wk-abc", "MODAL_PROXY_TOKEN_SECRET": "ws-secret0123"}
    done = homing("doctor", "--url", edge.url, "--probes", "1", **given)
    assert done.returncode == 0
    assert "secret0123" not in done.stdout + done.stderr


def test_nobody_there() -> None:
    found = findings("--url", "http://127.0.0.1:9")
    assert found["reach"]["verdict"] == "fail"
    assert "homing up" in found["reach"]["fix"]
    assert findings("--url", "http://no-such-host.invalid")["reach"]["fix"] == "Check the URL."


@pytest.mark.edge(initial_replicas=1, max_replicas=1)
def test_with_one_replica_affinity_cannot_be_told(edge: Edge) -> None:
    assert findings("--url", edge.url, "--model", "other")["affinity"]["verdict"] == "unknown"
