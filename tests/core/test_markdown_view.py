"""What is shown of a reply under way, and of turns that are over."""

from __future__ import annotations

from typing import Any

from homing.core.conversation.transcript import make_turn
from homing.core.telemetry.measurements import Telemetry
from homing.integrations._markdown_view import REDRAW, SHORT, LiveMarkdown, summary, turns_table
from homing.reply import Reply
from homing.types import ChatCompletion, ToolFailed, ToolFinished, ToolStarted
from homing.types.events import ContentDelta, Finished, ReasoningDelta, RefusalDelta, Waiting

COMPLETION = ChatCompletion.model_validate({"id": "c", "created": 0, "model": "m", "choices": []})
WARM = Telemetry(
    replica="r3", verdict="warm", prompt_tokens=157, cached_tokens=140, time_to_first_token=0.0442, waited=1.25
)


def live(*events: Any) -> LiveMarkdown:
    shown = LiveMarkdown()
    for event in events:
        shown.take(event)
    return shown


def test_a_wait_is_shown_until_something_comes() -> None:
    waiting = Waiting(elapsed=3.2, deadline=1200, attempt=2, next_in=0.25, cause="HTTP 503")
    assert live().markdown == ""
    assert live(waiting).markdown == "*No replica is ready: waiting for 3 s (HTTP 503).*"
    assert live(waiting, ContentDelta("Hello")).markdown == "Hello"


def test_text_grows_as_it_is_and_thoughts_are_a_quotation() -> None:
    shown = live(ReasoningDelta("Let me\n"), ReasoningDelta("\nsee."), ContentDelta("# It\n\nis "), ContentDelta("so."))
    assert shown.markdown == "> Let me\n> \n> see.\n\n# It\n\nis so."
    assert live(RefusalDelta("I won't.")).markdown == "I won't."


def test_a_tool_is_a_line_when_it_begins_and_a_line_when_it_ends() -> None:
    shown = live(
        ContentDelta("Let me look."),
        ToolStarted("1", "get_price", {"city": "Oslo", "nights": 2}),
        ToolStarted("2", "get_date", {}),
        ToolFinished("1", "get_price", 180, "180", 0.1),
        ToolFailed("2", "get_date", ValueError("x"), "Error: no `clock`", 0.1),
        ContentDelta("180."),
    )
    assert shown.markdown.split("\n\n") == [
        "Let me look.",
        "`get_price(city='Oslo', nights=2)`",
        "`get_date()`",
        "`get_price` → `180`",
        "`get_date` failed: `Error: no 'clock'`",
        "180.",
    ]


def test_a_long_result_is_cut_to_one_line() -> None:
    line = live(ToolFinished("1", "read", None, "many words\n" * 50, 0.1)).markdown
    assert len(line) < SHORT + 20
    assert "\n" not in line
    assert line.endswith(" …`")


def test_it_is_drawn_when_there_is_something_new_and_not_too_often() -> None:
    shown = LiveMarkdown()
    assert not shown.due(0.0)
    shown.take(ContentDelta("a"))
    assert shown.due(0.0)
    assert not shown.due(100.0)  # nothing new
    shown.take(ContentDelta("b"))
    assert not shown.due(REDRAW / 2)
    assert shown.due(REDRAW)
    shown.take(Finished("stop"))
    assert not shown.due(100.0)


def test_the_end_says_where_it_came_from() -> None:
    reply = Reply({"content": "Hello"}, "stop", WARM, COMPLETION)
    assert live(ContentDelta("Hello")).ended(reply) == (
        "Hello\n\n*r3 · warm · 140 of 157 prompt tokens cached · first token after 44 ms · waited 1.2 s for a replica*"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert summary(Telemetry(verdict="unknown", prompt_tokens=10)) == "unknown"
    assert summary(Telemetry(verdict="first"), interrupted=True) == "stopped · first"
    stopped = Reply({"content": ""}, "interrupted", Telemetry(verdict="first"), COMPLETION)
    assert LiveMarkdown().ended(stopped) == "*stopped · first*"


def test_turns_are_rows_and_unknown_is_not_zero() -> None:
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    told = make_turn([user, assistant], "stop", WARM)
    untold = make_turn([user, assistant], "stop", Telemetry(verdict="unknown"))
    assert turns_table([told, untold]).splitlines() == [
        "| turn | replica | verdict | prompt | cached | first token, ms | waited, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 0 | r3 | warm | 157 | 140 | 44 | 1.2 |",
        "| 1 | – | unknown | – | – | – | 0.0 |",
    ]
