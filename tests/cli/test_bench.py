"""``homing bench`` on emulated replicas, whose caches are exact, and on servers that do not help."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from homing.cli.app import homing
from homing.cli.bench.comparison import conclusion, side_by_side
from homing.cli.bench.figures import Measured, quantile, summarise
from homing_server.local import Edge, EngineSettings, Fault

QUICK = ["--conversations", "6", "--reply-tokens", "4", "--think", "0", "0", "--ramp", "0"]


def bench(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(homing, ["bench", url, *QUICK, *arguments])


def data(url: str, *arguments: str) -> dict[str, Any]:
    done = bench(url, "--json", *arguments)
    assert done.exit_code == 0, done.output
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_a_comparison(edge: Edge, tmp_path: Path) -> None:
    plots = [tmp_path / "bench.svg", tmp_path / "bench.png"]
    found = data(edge.url, "--repeats", "2", "--seed", "7", *(f"--plot={path}" for path in plots))
    assert [(run["policy"], run["repeat"]) for run in found["runs"]] == [
        ("affinity", 0),
        ("none", 0),
        ("none", 1),
        ("affinity", 1),
    ]
    kept, lost = found["sides"]["affinity"], found["sides"]["none"]
    for side in (kept, lost):
        assert (side["turns"], side["failed"], side["completion_tokens"]) == (48, 0, 192)
        assert sum(load["turns"] for load in side["replicas"].values()) == 48
    # Missing: the system prompt, once more on each replica but the first, or not yet there when all begin.
    assert kept["cached_share"] > 0.85 * kept["best_share"]
    assert lost["cached_share"] < 0.85 * kept["cached_share"]
    assert all(load["turns"] % 4 == 0 for load in kept["replicas"].values()), "a conversation is never divided"
    keys = {record.key for record in edge.log if record.path == "/v1/chat/completions"}
    assert None in keys
    assert len(keys) == 1 + 2 * 6, "one for each conversation with affinity"
    assert plots[0].read_text().startswith("<?xml")
    assert plots[1].read_bytes().startswith(b"\x89PNG")


def test_runs_do_not_share_their_words_and_a_seed_repeats_them(edge: Edge) -> None:
    def words() -> set[str]:
        said = {json.dumps((record.request or {}).get("messages", [])) for record in edge.log if record.stream}
        edge.reset()
        return said

    few = ["--turns", "1", "--warm-up", "0"]
    data(edge.url, *few, "--seed", "7")
    first = words()
    assert len(first) == 12, "six with and six without, all different"
    data(edge.url, *few, "--seed", "7")
    assert words() == first
    data(edge.url, *few)
    assert not words() & first


def test_one_side_in_another_header(edge: Edge) -> None:
    found = data(edge.url, "--affinity", "on", "--header", "X-SMG-Routing-Key", "--turns", "1", "--at-once", "2")
    assert [*found["sides"]] == ["affinity"]
    measured = [record for record in edge.log if record.path == "/v1/chat/completions"][2:]
    assert all("x-smg-routing-key" in record.headers for record in measured)
    assert not any("modal-session-id" in record.headers for record in measured)


@pytest.mark.edge(engine=EngineSettings(prefill_rate=1e9, decode_rate=1e9, cache_report=False))
def test_a_server_that_counts_no_cached_tokens(edge: Edge) -> None:
    # sglang#28801: zero and unknown look alike
    done = bench(edge.url, "--turns", "2")
    assert done.exit_code == 0
    assert "unknown" in next(line for line in done.stdout.splitlines() if line.startswith("prompt tokens cached"))
    assert "--enable-cache-report" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_count_that_is_left_out_where_others_have_one_is_zero() -> None:
    # SGLang 0.5.9 and vLLM leave it out where it is zero.
    turns = [Measured(0, 0, "r1", prompt=100, cached=None), Measured(0, 1, "r1", prompt=100, cached=80)]
    assert summarise(turns, wall=1.0)["cached_share"] == 0.4
    assert summarise(turns[:1], wall=1.0)["cached_share"] is None
    assert summarise(turns[:1], wall=1.0, reported=True)["cached_share"] == 0.0


def test_quantiles() -> None:
    assert quantile([], 0.5) is None
    assert [quantile([3, 1, 2, 4], share) for share in (0, 0.5, 0.99)] == [1, 3, 4]


def test_turns_that_fail_are_told_and_counted(edge: Edge) -> None:
    done = bench(edge.url, "--set", "temperature=-1")
    assert done.exit_code == 1
    assert "temperature must be" in done.stderr
    failed = next(line for line in done.stdout.splitlines() if line.startswith("  failed"))
    assert failed.split() == ["failed", "6", "6"], "each conversation ends with the turn that fails"


def test_a_conversation_that_fails_leaves_the_others_alone(edge: Edge) -> None:
    edge.inject(Fault.raw(b"{}", status=400))
    done = bench(edge.url, "--warm-up", "0", "--affinity", "off", "--json")
    assert done.exit_code == 1
    assert (json.loads(done.stdout)["sides"]["none"]["turns"]) == 1 + 5 * 4


def test_ctrl_c_shows_what_has_been_measured(edge: Edge) -> None:
    def press() -> None:
        edge.wait_for(lambda edge: sum(record.key is None and record.stream for record in edge.log) > 6)
        os.kill(os.getpid(), signal.SIGINT)

    edge.inject(Fault.hang(after_chunks=1, nth=30))  # in the second run: it would not end by itself
    thread = threading.Thread(target=press)
    thread.start()
    done = bench(edge.url, "--json", "--warm-up", "0")
    thread.join()
    assert done.exit_code == 130
    assert [*json.loads(done.stdout)["sides"]] == ["affinity"]


def test_bad_input_is_refused_before_the_load() -> None:
    nobody = "http://127.0.0.1:9"
    assert "must end with .png or .svg" in bench(nobody, "--plot", "bench.doc").stderr
    assert "KEY=VALUE" in bench(nobody, "--set", "temperature").stderr
    done = bench(nobody, "--timeout", "0")
    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_words() -> None:
    figures = {
        **summarise([Measured(0, 0, None, 0.1, 0.5, [0.1], 100, 50, 10)], wall=1.0),
        "tokens_per_second": 0.0,
    }
    assert conclusion({"affinity": figures}) == []
    said = conclusion({"affinity": figures, "none": figures})
    assert "Replies do not say which replica they are from." in said
    assert "1.00× the time to first token at p50" in said[-1]
    assert "unknown × the throughput" in said[-1]
    assert ("throughput", "", "0.0 tokens/s") in side_by_side({"affinity": figures})
