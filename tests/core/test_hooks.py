"""Hooks watch and cannot break a turn; log lines come when they are asked for."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from homing.core.telemetry.hooks import Hooks, Retrying, call_hook, log_as_asked, report_retry, report_wait
from homing.errors import ConfigurationError
from homing.types.events import Waiting

logger = logging.getLogger("homing")


@pytest.fixture
def quiet() -> Iterator[None]:
    handlers, level = list(logger.handlers), logger.level
    logger.handlers.clear()
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_a_hook_is_called_and_what_it_raises_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []
    call_hook(seen.append, "event")
    call_hook(None, "event")
    assert seen == ["event"]

    def broken(event: object) -> None:
        raise RuntimeError("hook bug")

    call_hook(broken, "event")
    assert "a Homing hook failed" in caplog.text
    assert "hook bug" in caplog.text


def test_waits_and_retries_are_told_to_the_log_and_to_the_hook(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []
    hooks = Hooks(on_wait=seen.append, on_retry=seen.append)
    waiting = Waiting(elapsed=5.0, deadline=60.0, attempt=2, next_in=0.25, cause="HTTP 503")
    retrying = Retrying(RuntimeError("reset"), 1, 0.5)
    with caplog.at_level(logging.INFO, "homing"):
        report_wait(hooks, waiting)
        report_retry(hooks, retrying, "reset")
    assert seen == [waiting, retrying]
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for a replica: 5.0 s of at most 60 s, attempt 2, next in 0.25 s (HTTP 503)",
        "attempt 1 failed (reset), next in 0.50 s",
    ]


def test_what_cannot_be_called_is_no_hook() -> None:
    with pytest.raises(ConfigurationError, match="on_retry must be a function of one argument, got 3"):
        Hooks(on_retry=3)  # type: ignore[arg-type]


def test_a_hook_may_be_left_by_ctrl_c() -> None:
    def interrupted(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_hook(interrupted, "event")


@pytest.mark.usefixtures("quiet")
def test_log_lines_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    log_as_asked({})
    log_as_asked({"HOMING_LOG": ""})
    assert not logger.handlers
    log_as_asked({"HOMING_LOG": "info"})
    log_as_asked({"HOMING_LOG": "debug"})  # once for the process
    logger.info("waiting")
    logger.debug("detail")
    assert errors.getvalue().count("waiting") == 1
    assert "detail" not in errors.getvalue()


@pytest.mark.usefixtures("quiet")
def test_a_program_that_logs_already_is_left_alone() -> None:
    handler = logging.NullHandler()
    logger.addHandler(handler)
    log_as_asked({"HOMING_LOG": "debug"})
    assert logger.handlers == [handler]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("level", ["loud", "1"])
def test_an_unknown_level(level: str) -> None:
    with pytest.raises(ConfigurationError, match="HOMING_LOG must be a level such as info"):
        log_as_asked({"HOMING_LOG": level})
    assert not logger.handlers
