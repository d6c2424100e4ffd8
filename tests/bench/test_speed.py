"""bench/run.py: that it measures and reports. How fast anything is, no test asserts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import speed.goals
    import speed.report
    import speed.results

    return speed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, int]:
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, str(ROOT / "bench" / "run.py"), "--quick", "--rounds", "1", "--here", "--out", str(out)]
    command += ["--peers", "homing,httpx", "--sections", "events,requests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads((out / "results.json").read_text()), (out / "report.md").read_text(), done.returncode


@pytest.mark.slow
def test_every_peer_has_a_value_for_every_figure(run: tuple[Any, str, int]) -> None:
    results, _, _ = run
    assert all("uvloop" in what for what in results["failures"])  # which need not be installed
    assert {"event.sync.flat", "event.async.each", "request.async", "history.1000"} <= set(results["values"])
    for figure, values in results["values"].items():
        assert {"homing", "httpx"} <= set(values) or "paced" in figure, figure  # quick: fewer peers there
        assert all(value > 0 for rounds in values.values() for value in rounds)


@pytest.mark.slow
def test_the_exit_code_tells_of_missed_goals(run: tuple[Any, str, int]) -> None:
    results, report, code = run
    assert ("**missed**" in report or bool(results["failures"])) == (code == 1)
    assert "not measured" in report


def test_goals_are_met_or_missed_by_their_limits(speed: Any) -> None:
    def verdict(value: float, *, at_least: bool) -> bool | None:
        met: bool | None = speed.goals.Goal(1, "", lambda _: value, 3.0, at_least).verdict(speed.results.Results()).met
        return met

    assert verdict(2.9, at_least=False)
    assert not verdict(3.1, at_least=False)
    assert verdict(3.1, at_least=True)
    assert not verdict(2.9, at_least=True)


def test_a_page_gets_the_parts_it_has_places_for(speed: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    place = "Before\n<!-- goals -->\n{}\n<!-- end -->\n\n<!-- about -->\n{}\n<!-- end -->\nAfter\n"
    for before in (place.format("old", ""), place.replace("{}\n", "")):
        page.write_text(before)
        speed.report.publish(page, {"goals": "new", "about": "1 | 2", "unknown": "?"})
        assert page.read_text() == place.format("new", "1 | 2")


def test_medians_and_ratios_are_by_peer(speed: Any, tmp_path: Path) -> None:
    results = speed.results.Results()
    for value in (1.0, 9.0, 2.0):
        results.add("event", "homing", value)
        results.add("event", "openai3", 20 * value)
    results.save(tmp_path / "results.json")
    read = speed.results.Results.load(tmp_path / "results.json")
    assert (read.median("event", "homing"), read.least("event", "homing")) == (2.0, 1.0)
    assert read.ratio("event", "openai3", "homing") == 20.0
    assert read.ratio("event", "aiohttp", "homing") is None
    assert read.ratio("unknown", "homing", "homing") is None
