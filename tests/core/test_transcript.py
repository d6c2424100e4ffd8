"""Turns enter whole, the prompt begins byte for byte as before, and what was saved comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.conversation.pending_turn import PendingTurn
from homing.core.conversation.transcript import Transcript, Turn, assistant_message, make_turn, text_of, user_message
from homing.core.encoding.messages import encode_messages
from homing.core.telemetry.measurements import PreviousTurn, Telemetry
from homing.errors import ConfigurationError
from homing.types import ChatCompletion
from homing.types.completion import INTERRUPTED

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
REPLY = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXT},
    optional={"reasoning_content": TEXT, "refusal": TEXT, "tool_calls": st.just([CALL])},
)
TELEMETRY = st.builds(
    Telemetry,
    verdict=st.sampled_from(["first", "warm", "cold", "moved"]),
    prompt_tokens=st.none() | st.integers(0, 9999),
    cached_tokens=st.none() | st.integers(0, 9999),
    replica=st.none() | TEXT,
    waited=st.floats(0, 1e6),
)
TURN = st.builds(
    lambda said, reply, finish, telemetry: make_turn([user_message(said), reply], finish, telemetry),
    TEXT,
    REPLY,
    st.sampled_from(["stop", "length", INTERRUPTED, None]),
    TELEMETRY,
)
TRANSCRIPT = st.builds(Transcript, st.none() | TEXT, st.lists(TURN, max_size=5))


def turn(said: str = "Hi", reply: str = "Hello", **telemetry: Any) -> Turn:
    messages = [user_message(said), {"role": "assistant", "content": reply}]
    return make_turn(messages, "stop", Telemetry(**telemetry))


def completion(**message: Any) -> ChatCompletion:
    return ChatCompletion.model_validate({"choices": [{"message": message, "finish_reason": "stop"}]})


@given(TRANSCRIPT)
def test_what_was_saved_comes_back(transcript: Transcript) -> None:
    saved = json.loads(json.dumps(transcript.to_dict()))
    again = Transcript.from_dict(saved)
    assert again.to_dict() == saved == transcript.to_dict()
    assert again.turns == transcript.turns
    assert again.prompt() == transcript.prompt()
    assert again.previous() == transcript.previous()


@given(TRANSCRIPT, st.lists(TURN, min_size=1, max_size=3))
def test_each_prompt_begins_with_the_bytes_of_the_one_before(transcript: Transcript, more: list[Turn]) -> None:
    for finished in more:
        before = transcript.prompt()
        transcript.append(finished)
        after = transcript.prompt(user_message("next"))
        assert after[: len(before)] == before
        assert after[-1:] == encode_messages([user_message("next")])


@given(TRANSCRIPT, st.data())
def test_a_prompt_up_to_a_turn_is_that_of_the_shorter_transcript(transcript: Transcript, data: st.DataObject) -> None:
    upto = data.draw(st.integers(0, len(transcript.turns)))
    shorter = Transcript(transcript.system, transcript.turns[:upto])
    assert transcript.prompt(upto=upto) == shorter.prompt()
    assert transcript.previous(upto) == shorter.previous()


def test_a_regenerated_turn_takes_the_place_of_the_old_one() -> None:
    transcript = Transcript(turns=[turn("1"), turn("2")])
    transcript.append(turn("2", "better"), upto=1)
    assert [message["content"] for message in transcript.messages] == ["1", "Hello", "2", "better"]


def test_what_the_next_prompt_leaves_out() -> None:
    made = make_turn(
        [
            user_message("Hi"),
            {"role": "assistant", "content": "", "reasoning_content": "hm"},
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning": "hm"},
            {"role": "tool", "content": "", "tool_call_id": "c"},
            {"role": "assistant", "content": "Hello", "reasoning_content": "hm"},
        ],
        "stop",
    )
    sent = [json.loads(message) for message in Transcript(turns=[made]).prompt()]
    assert sent == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "", "tool_call_id": "c"},
        {"role": "assistant", "content": "Hello"},
    ]
    assert len(made.messages) == 6  # the history keeps all of it


def test_messages_are_copies() -> None:
    transcript = Transcript("Be brief.", [turn()])
    transcript.messages[1]["content"] = "changed"
    assert [message["content"] for message in transcript.messages] == ["Be brief.", "Hi", "Hello"]


def test_a_copy_goes_its_own_way() -> None:
    transcript = Transcript("s", [turn()])
    twin = transcript.copy()
    twin.append(turn("2"))
    assert (len(transcript.turns), len(twin.turns)) == (1, 2)


def test_what_the_cache_should_still_hold() -> None:
    transcript = Transcript()
    assert transcript.previous() is None
    transcript.append(turn())
    assert transcript.previous() == PreviousTurn(None)
    transcript.append(turn(prompt_tokens=7, replica="r1"))
    transcript.append(turn())  # no usage came: the turn before is the last that is known of
    assert transcript.previous() == PreviousTurn(7, "r1")
    assert transcript.previous(start=0) == PreviousTurn(7, "r1")


def test_a_changed_beginning_is_told() -> None:
    transcript = Transcript(turns=[turn(), turn(prompt_tokens=7, replica="r1"), turn()])
    assert transcript.previous(start=1) == PreviousTurn(None, "r1", prefix_changed=True)
    assert transcript.previous(2, edited=True) == PreviousTurn(7, "r1", prefix_changed=True)
    assert transcript.previous(1, start=1) == PreviousTurn(None, None, prefix_changed=True)
    assert transcript.previous(0, edited=True) == PreviousTurn(None, None, prefix_changed=True)
    assert transcript.previous(0) is None


def test_a_trimmed_prompt_stays_as_it_is() -> None:
    turns = [turn("1"), turn("2"), make_turn([user_message("3")], "stop", start=2)]
    transcript = Transcript("s", turns)
    assert [transcript.start(upto) for upto in (None, 3, 2, 0)] == [2, 2, 0, 0]
    head, third = encode_messages([{"role": "system", "content": "s"}, user_message("3")])
    assert transcript.prompt() == [head, third]
    assert transcript.prompt(start=1) == [head, *turns[1].encoded, third]
    assert transcript.prompt(upto=2) == [head, *turns[0].encoded, *turns[1].encoded]
    assert len(transcript.messages) == 6  # the history keeps all of it


def test_what_a_reply_answers() -> None:
    called: dict[str, Any] = {"role": "assistant", "tool_calls": [CALL]}
    tool = [called, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    assert turn("Hi").asked == [user_message("Hi")]
    assert make_turn([user_message("Hi")], INTERRUPTED).asked == [user_message("Hi")]
    with_tools = make_turn([user_message("Hi"), *tool, {"role": "assistant", "content": "One."}], "stop")
    assert with_tools.asked == [user_message("Hi"), *tool]
    with_tools.asked[0]["content"] = "changed"
    assert with_tools.asked[0] == user_message("Hi")
    assert make_turn([], None).asked == []


def test_what_a_turns_own_prompt_weighed() -> None:
    answered, stopped = turn("Hi", "Hello"), make_turn([user_message("Hi")], INTERRUPTED)
    assert answered.asked_weight == stopped.asked_weight == stopped.weight < answered.weight
    silent = make_turn([user_message("Hi"), {"role": "assistant", "content": ""}], INTERRUPTED)
    assert silent.asked_weight == silent.weight == stopped.weight


def test_the_assistants_message() -> None:
    assert assistant_message(ChatCompletion(choices=[])) == {"role": "assistant", "content": ""}
    assert assistant_message(completion(content=None)) == {"role": "assistant", "content": ""}
    full = completion(
        content="a",
        reasoning="b",
        refusal="c",
        tool_calls=[CALL],
        function_call={"name": "f", "arguments": "{}"},
        unfinished_tool_calls=[CALL],
    )
    assert assistant_message(full) == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "b",
        "refusal": "c",
        "tool_calls": [CALL],
        "function_call": {"name": "f", "arguments": "{}"},
    }


def test_what_a_user_says() -> None:
    assert user_message("Hi") == {"role": "user", "content": "Hi"}
    part = {"type": "text", "text": "Hi"}
    made = user_message((part,))
    assert made == {"role": "user", "content": [part]}
    assert made["content"][0] is not part


@pytest.mark.parametrize("content", [None, 3, b"Hi", {"type": "text"}, ["Hi"], [{"type": "text"}, None]])
def test_what_a_user_cannot_say(content: Any) -> None:
    with pytest.raises(ConfigurationError, match="content"):
        user_message(content)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "format None, expected 1"),
        ({"format": 2}, "written by a newer Homing"),
        ({"format": 1, "turns": [{}]}, "damaged"),
        ({"format": 1, "turns": [3]}, "damaged"),
        ({"format": 1, "turns": [{"messages": 3}]}, "damaged"),
        ({"format": 1, "turns": [{"messages": ["Hi"]}]}, "damaged"),
        ({"format": 1, "turns": 3}, "damaged"),
        ({"format": 1, "turns": [{"messages": [], "telemetry": 3}]}, "damaged"),
        ({"format": 1, "turns": [{"messages": [{"content": "Hi"}]}]}, "needs a 'role'"),
        ({"format": 1, "system": 3}, "system must be a string"),
    ],
)
def test_what_is_no_saved_transcript(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Transcript.from_dict(data)


def test_the_beginning_of_a_trimmed_prompt_is_saved() -> None:
    saved = Transcript(turns=[turn(), make_turn([user_message("Hi")], "stop", start=1)]).to_dict()
    assert "start" not in saved["turns"][0]
    assert Transcript.from_dict(saved).start() == 1


def test_fields_of_a_later_version_are_ignored() -> None:
    saved = Transcript(turns=[turn(prompt_tokens=3)]).to_dict()
    saved["turns"][0]["telemetry"]["novelty"] = 1
    saved["turns"][0]["novelty"] = 1
    assert Transcript.from_dict(saved).turns[0].telemetry.prompt_tokens == 3


def test_resumed_turns_are_marked_and_stay_so() -> None:
    turn = make_turn([user_message("Hi")], "stop", Telemetry(resumes=2))
    assert turn.resumed == 2
    saved = Transcript(None, [turn, make_turn([user_message("Hi")], "stop")]).to_dict()
    assert [turn.resumed for turn in Transcript.from_dict(saved).turns] == [2, 0]


def test_interrupted_turns_are_marked() -> None:
    assert make_turn([user_message("Hi")], INTERRUPTED).interrupted
    assert not make_turn([user_message("Hi")], "stop").interrupted


def test_for_reading() -> None:
    url: dict[str, Any] = {"type": "image_url", "image_url": {"url": "x"}}
    picture = [{"type": "text", "text": "What?"}, url]
    messages = [user_message(picture), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    transcript = Transcript("Be brief.", [make_turn(messages, "stop"), turn()])
    assert transcript.to_markdown() == (
        "**system**\n\nBe brief.\n\n"
        "**user**\n\nWhat?\n[image_url]\n\n"
        '**assistant**\n\n`f({"a":1})`\n\n'
        "**user**\n\nHi\n\n"
        "**assistant**\n\nHello"
    )


PARTS = [{"text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(("content", "text"), [("a", "a"), (None, ""), ([], ""), (PARTS, "a\nb")])
def test_text_of(content: Any, text: str) -> None:
    assert text_of(content) == text


def test_what_a_turns_last_reply_answers() -> None:
    result = {"role": "tool", "tool_call_id": "c", "content": "42"}
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    said = {"role": "assistant", "content": "Hello"}
    user = user_message("Hi")
    for messages, asked in [
        ([user, said], [user]),
        ([user, calling, result, said], [user, calling, result]),
        ([user, calling, result], [user]),  # handed over half done: the calls are what was said last
        ([user, calling], [user]),
        ([user], [user]),
        ([], []),
    ]:
        assert make_turn(messages, None).asked == asked


def test_another_request_of_the_same_turn() -> None:
    transcript = Transcript("S", [turn(prompt_tokens=5, replica="r1")])
    place = PendingTurn([user_message("Hi")]).place(transcript, None)
    before = place.previous()
    assert before is not None
    assert before.prompt_tokens == 5
    later = place.after([{"role": "assistant", "content": "Let me see."}], Telemetry(prompt_tokens=9, replica="r2"))
    previous = later.previous()
    assert previous is not None
    assert (previous.prompt_tokens, previous.replica, previous.prefix_changed) == (9, "r2", False)
    assert later.weight > place.weight
    assert later.prompt()[: len(place.prompt())] == place.prompt()
    assert len(place.new) == 1


def test_a_turn_holds_its_text_once() -> None:
    thought = {"role": "assistant", "content": "Hello!", "reasoning_content": "Greet."}
    for reply, shared in (({"role": "assistant", "content": "Hello!"}, 2), (thought, 1)):
        made = make_turn([user_message("Hi"), reply], "stop")
        assert made.messages == (user_message("Hi"), reply)
        kept = {id(message) for message in made.saved}
        assert len(kept & {id(message) for message in made.encoded}) == shared


def test_what_is_done_to_a_turns_messages_is_done_to_copies() -> None:
    made = make_turn([user_message([{"type": "text", "text": "Hi"}])], "stop")
    made.messages[0]["content"][0]["text"] = "changed"
    made.asked[0]["role"] = "system"
    assert made.messages == (user_message([{"type": "text", "text": "Hi"}]),)
