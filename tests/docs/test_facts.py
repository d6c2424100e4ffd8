"""The tables of the pages name everything that there is, with the numbers of the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from homing import errors
from homing._http import fast_heads
from homing.core.affinity import strategies as affinity
from homing.core.errors import server_errors
from homing.core.request.environment import COLD_START_TIMEOUT, MAX_RESPONSE_BYTES
from homing.core.retry import policy, timers
from homing.core.retry.timers import Timeout
from homing.core.streaming import accumulator, sse, tool_calls
from homing.core.telemetry import measurements
from homing.core.telemetry.hooks import Hooks, Retrying
from homing.core.telemetry.measurements import Telemetry
from homing.integrations import _browser_events
from homing.integrations.fastapi import LINGER
from homing.types import events

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def prose(name: str) -> str:
    """A page without its line ends."""
    return " ".join(page(name).split())


def rows(text: str) -> dict[str, str]:
    """The rows of a page's tables, by each of the names in code in their first cells."""
    found: dict[str, str] = {}
    for first, rest in re.findall(r"^\| (.+?) \|(.*)\|$", text, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)[^`]*`", first):
            found[name] = rest
    return found


def public_errors() -> list[type[Exception]]:
    everything = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [value for value in everything if issubclass(value, errors.HomingError)]


def test_every_error_is_in_the_tree_and_in_the_table() -> None:
    text, described = page("errors.md"), rows(page("errors.md"))
    # The bases say nothing that their subclasses don't.
    for error in public_errors():
        assert re.search(rf"^[ │├└─]*{error.__name__}\b", text, re.MULTILINE), error
        assert error.__name__ in described or error in (errors.HomingError, errors.APIError), error
    assert {*described} <= {error.__name__ for error in public_errors()}


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    path: list[tuple[int, type]] = []
    drawn = page("errors.md").split("```text\n")[1].split("```")[0]
    for line in drawn.splitlines():
        depth, name = re.match(r"([ │├└─]*)(\w+)", line).groups()  # type: ignore[union-attr]
        path = [*(above for above in path if above[0] < len(depth)), (len(depth), getattr(errors, name))]
        if len(path) > 1:
            assert path[-1][1].__base__ is path[-2][1] or name == "ConfigurationError", name
    assert path[0][1] is errors.HomingError


def test_every_event_is_in_the_table() -> None:
    described = rows(page("streaming.md"))
    for event in typing.get_args(events.StreamEvent):
        assert event.type in described
        for field in dataclasses.fields(event):
            shared = field.name in ("index", "choice_index") or field.name.startswith("_")
            assert shared or f"`{field.name}`" in described[event.type], (event.type, field.name)


def test_every_size_limit_is_the_code_s() -> None:
    text = prose("streaming.md")
    assert f"streamed or whole: {MAX_RESPONSE_BYTES >> 20} MiB" in text
    assert f"beyond {MAX_RESPONSE_BYTES >> 20} MiB `ResponseTooLarge`" in page("what-happens.md")
    assert f"up to {timers.LATE_BYTES >> 20} MiB more is read" in text
    assert f"| a line, or an event, of a stream | {sse.MAX_LINE >> 20} MiB |" in text
    assert sse.MAX_LINE == sse.MAX_EVENT
    assert f"| choices of a reply | {accumulator.MAX_CHOICES}," in text
    assert f"| tool calls of a choice | {tool_calls.MAX_TOOL_CALLS} |" in text
    assert f"| {fast_heads.MAX_HEADS}; with an" in text
    assert f"Of an error's body {server_errors.MAX_ERROR_BODY >> 20} MiB is read" in text


@pytest.mark.parametrize("field", dataclasses.fields(Timeout), ids=lambda field: field.name)
def test_every_time_limit_is_in_the_table(field: dataclasses.Field[float | None]) -> None:
    default = "none" if field.default is None else f"{field.default:g} s"
    assert f"| `{field.name}` | {default} |" in page("streaming.md")


def test_every_hook_is_in_the_table() -> None:
    assert {field.name for field in dataclasses.fields(Hooks)} <= rows(page("cold-starts.md")).keys()


def test_every_hook_and_what_it_is_given_is_in_the_table() -> None:
    described = rows(page("observability.md"))
    assert {field.name for field in dataclasses.fields(Hooks)} <= described.keys()
    for hook, given in (("on_wait", events.Waiting), ("on_retry", Retrying)):
        assert {field.name for field in dataclasses.fields(given)} <= {*re.findall(r"`(\w+)`", described[hook])}


def test_the_numbers_of_what_happens_when_are_the_code_s() -> None:
    table = page("what-happens.md")
    assert f"`GapTimeout` after {timers.GAP:g} s" in table
    assert f"`SilenceTimeout` after {timers.SILENCE:g} s" in table
    assert f"after {COLD_START_TIMEOUT / 60:g} minutes `ColdStartTimeout`" in table
    assert policy.SATURATED_AFTER == policy.MAX_RETRIES == 2
    assert "after two refusals one attempt goes without the key" in table
    assert "two more tries with pauses at random" in table


def test_every_measurement_and_verdict_is_in_the_tables() -> None:
    described = rows(page("affinity.md")).keys()
    properties = {name for name, value in vars(Telemetry).items() if isinstance(value, property)}
    assert {field.name for field in dataclasses.fields(Telemetry)} | properties <= described
    assert {*typing.get_args(measurements.Verdict)} <= described


def test_every_event_for_browsers_is_in_the_table_and_heard_by_the_page() -> None:
    described = rows(page("chatbot.md").partition("## A reply that outlives")[0]).keys()
    listed = set(re.findall(r"^    (\w+) ", _browser_events.__doc__ or "", re.MULTILINE))
    script = (DOCS.parent / "examples" / "chatbot" / "static" / "api.js").read_text()
    heard = set(re.findall(r'"(\w+)"', re.findall(r"for \(const kind of \[(.*?)\]", script)[0]))
    assert described == listed == heard
    assert f"a comment every {_browser_events.KEEP_ALIVE_EVERY:g} s" in prose("chatbot.md")
    assert f"nobody has followed for {LINGER:g} s" in prose("chatbot.md")


def test_every_strategy_is_in_the_table() -> None:
    strategies = {name for name in vars(affinity) if name.endswith("Affinity") and not name.startswith("_")}
    assert strategies - {"Affinity", "CombinedAffinity"} <= rows(page("affinity.md")).keys()


def test_the_numbers_are_the_code_s() -> None:
    assert f"{measurements.WARM_SHARE:.0%}".replace("%", " %") in prose("affinity.md")
    assert f"the first {affinity.FORK_SIBLINGS} the conversation's" in prose("affinity.md")
    assert f"up to {affinity.MAX_KEY} printable" in prose("affinity.md")
    cold = page("cold-starts.md")
    assert f"| {COLD_START_TIMEOUT:g} s; 0: do not wait |" in cold
    assert f"| {policy.MAX_RETRIES} more tries; pauses at random up to {policy.FIRST_BACKOFF:g}, 1" in cold
    assert f"2 … {policy.MAX_BACKOFF:g} s, `Retry-After`" in cold
    assert f"`Retry-After` honoured up to {policy.RETRY_AFTER_CAP:g} s" in cold
    assert ", ".join(str(status) for status in sorted(policy.TRANSIENT_STATUSES)[:-1]) in cold
