"""Runs with tools, against the edge's scripted model."""

from __future__ import annotations

import gc
import json
import threading
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

import homing
from homing import Tool, ToolError
from homing.testing import Answer, Fault, ToolCall, assert_one_replica, requests_of
from homing_server.local import Edge

from .tasks import gather, hangs_until_cancelled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]

ASK_HUMAN = {"type": "function", "function": {"name": "ask_human", "parameters": {"type": "object", "properties": {}}}}


class Weather(BaseModel):
    city: str
    degrees: int


def get_weather(city: str, unit: Literal["C", "F"] = "C") -> Weather:
    """Look the weather up.

    Args:
        city: The city's name.
        unit: Celsius or Fahrenheit.
    """
    return Weather(city=city, degrees=31 if unit == "C" else 88)


async def get_time(zone: str) -> str:
    """Tell the time."""
    return f"14:05 in {zone}"


def calls(*made: tuple[str, Any]) -> Answer:
    return Answer(tool_calls=[ToolCall(name, arguments, f"call_{i}") for i, (name, arguments) in enumerate(made)])


def sent(edge: Edge, chat: Any) -> list[dict[str, Any]]:
    """The bodies of the conversation's requests for replies."""
    return [record.request for record in requests_of(edge, chat) if record.request is not None]


def roles(messages: Any) -> list[str]:
    return [message["role"] for message in messages]


async def test_a_run_is_one_turn(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(system="Be brief.")
    edge.answer_next(calls(("get_weather", {"city": "Málaga"})), "It is 31 degrees.")
    reply = await chat.run("How warm is it?", [get_weather])
    assert reply.text == "It is 31 degrees."
    assert roles(chat.history) == ["system", "user", "assistant", "tool", "assistant"]
    assert len(chat.turns) == 1
    assert chat.history[3] == {"role": "tool", "tool_call_id": "call_0", "content": '{"city":"Málaga","degrees":31}'}
    assert list(reply.messages) == chat.history[1:]
    assert [one.finish_reason for one in reply.rounds] == ["tool_calls", "stop"]
    first, second = sent(edge, chat)
    [tool] = first["tools"]
    assert tool["function"]["description"] == "Look the weather up."
    assert tool["function"]["parameters"]["properties"]["city"] == {
        "type": "string",
        "description": "The city's name.",
    }
    assert second["messages"] == chat.history[:-1]
    assert_one_replica(edge, chat)


async def test_what_a_run_cost(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # The conversation's own tools: they stand at the head of every prompt, so every turn has to send them.
    chat = async_homing_client.conversation(tools=[get_weather])
    edge.answer_next(calls(("get_weather", {"city": "Oslo"})), "31.")
    reply = await chat.run("How warm is it?")
    usages = [one.usage for one in reply.rounds]
    assert reply.usage is not None
    assert reply.usage.total_tokens == sum(usage.total_tokens for usage in usages if usage is not None)
    assert [one.telemetry.verdict for one in reply.rounds] == ["first", "warm"]
    assert reply.telemetry.verdict == "first"
    assert reply.telemetry.attempts == 2
    assert chat.totals.replies == 2
    assert chat.totals.prompt_tokens == reply.usage.prompt_tokens
    assert (await chat.send("Thanks.")).telemetry.verdict == "warm"


@pytest.mark.edge(thinking=True)
async def test_reasoning_stays_within_the_run(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # Models that reason between calls are given their own thoughts back, until the turn is over.
    chat = async_homing_client.conversation(tools=[get_weather])
    call = Answer(reasoning="Which city? " * 40, tool_calls=[ToolCall("get_weather", {"city": "Oslo"})])
    edge.answer_next(call, Answer("31.", reasoning="Now I know."))
    reply = await chat.run("How warm is it?")
    assert "Which city?" in sent(edge, chat)[1]["messages"][1]["reasoning_content"]
    assert [one.telemetry.verdict for one in reply.rounds] == ["first", "warm"]
    after = await chat.send("Thanks.")
    assert after.telemetry.verdict == "warm"
    assert after.telemetry.reusable_tokens == reply.rounds[0].telemetry.prompt_tokens
    assert "reasoning_content" not in json.dumps(sent(edge, chat)[-1])


async def test_parallel_calls_run_at_once_and_are_told_in_order(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    both = threading.Barrier(2, timeout=30)

    def slow(number: int) -> int:
        both.wait()  # breaks unless the other one runs too
        return number

    chat = async_homing_client.conversation()
    edge.answer_next(calls(("slow", {"number": 1}), ("slow", {"number": 2})), "Done.")
    await chat.run("Both.", [slow])
    assert [message["content"] for message in chat.history if message["role"] == "tool"] == ["1", "2"]


async def test_one_at_a_time_where_tools_share_something(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    running: list[int] = []
    most: list[int] = []

    def alone(number: int) -> None:
        running.append(number)
        most.append(len(running))
        running.remove(number)

    chat = async_homing_client.conversation()
    edge.answer_next(calls(*[("alone", {"number": i}) for i in range(20)]), "Done.")
    await chat.run("All.", [alone], tools_at_once=1)
    assert most == [1] * 20


async def test_the_events_of_a_run(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    def broken(why: str) -> str:
        raise KeyError(why)

    chat = async_homing_client.conversation()
    edge.answer_next(
        Answer("Let me see.", tool_calls=[ToolCall("get_weather", {"city": "Oslo"}, "a")]),
        calls(("broken", {"why": "x"}), ("get_weather", {"place": 3}), ("nonsense", {})),
        "It is warm.",
    )
    async with chat.run_stream("How warm?", [get_weather, broken]) as run:
        events: list[Any] = [event async for event in run]
        reply = await run.reply()
    kinds = [event.type for event in events if event.type.startswith(("round", "tool.", "finished"))]
    assert kinds == [
        "round.started",
        "tool.started",
        "tool.finished",
        "round.started",
        "tool.started",
        "tool.failed",
        "tool.failed",
        "tool.failed",
        "round.started",
        "finished",
    ]
    assert events[-1].type == "finished"
    started, finished, *failed = [event for event in events if event.type.startswith("tool.")]
    assert (started.id, started.name, started.arguments) == ("a", "get_weather", {"city": "Oslo"})
    assert finished.result == Weather(city="Oslo", degrees=31)
    assert finished.content == finished.result.model_dump_json()
    assert [event.number for event in events if event.type == "round.started"] == [1, 2, 3]
    assert [type(event.error) for event in failed if event.type == "tool.failed"] == [ToolError, ToolError, KeyError]
    assert "".join(event.delta for event in events if event.type == "content.delta") == "Let me see.It is warm."
    assert reply.text == "It is warm."
    edge.answer_next(calls(("get_weather", {"city": "Oslo"})), "Still.")
    assert "".join([piece async for piece in chat.run_stream("And now?", [get_weather]).text]) == "Still."
    assert len(chat.turns) == 2


async def test_what_a_tool_may_be_and_return(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    class Counter:
        count = 0

        def add(self, by: Annotated[int, Field(ge=1)]) -> int:
            """Add to it."""
            self.count += by
            return self.count

    def nothing() -> None:
        """Do nothing."""

    counter = Counter()
    chat = async_homing_client.conversation()
    tools: list[Any] = [Tool(counter.add, name="add-to", description="More."), nothing, get_weather]
    edge.answer_next(
        calls(
            ("add-to", {"by": 2}), ("nothing", ""), ("get_weather", {"city": "x", "unit": "F"}), ("add-to", {"by": 0})
        ),
        "Done.",
    )
    await chat.run("Go.", tools)
    told = [message["content"] for message in chat.history if message["role"] == "tool"]
    assert told[:3] == ["2", "null", '{"city":"x","degrees":88}']
    assert "by: Input should be greater than or equal to 1" in told[3]
    assert counter.count == 2


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("get_weather", '{"city": "Mál', "the arguments are not right: Invalid JSON"),  # ANOLISA#2209
        ("get_weather", '{"city": 3}', "city: Input should be a valid string"),
        ("get_weather", '{"city": "x", "unit": "K"}', "unit: Input should be 'C' or 'F'"),
        ("get_weather", '{"city": "x", "mood": 1}', "mood: Extra inputs are not permitted"),
        ("get_weather", "{}", "city: Field required"),
        ("weather", "{}", "there is no tool weather. The tools are: ask_human, get_weather"),
        ("ask_human", "[]", "they must be a JSON object"),
        ("ask_human", '{"a', "they must be a JSON object"),
    ],
)
async def test_what_the_model_does_wrong_is_told_to_it_and_never_run(
    async_homing_client: homing.AsyncClient, edge: Edge, name: str, arguments: str, told: str
) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(calls((name, arguments)), "Sorry.")
    assert (await chat.run("Go.", [get_weather, ASK_HUMAN], on_tool_error="raise")).text == "Sorry."
    [content] = [message["content"] for message in chat.history if message["role"] == "tool"]
    assert content.startswith("Error: ")
    assert told in content


@pytest.mark.parametrize("finish", ["length", "content_filter", "abort"])
async def test_truncated_arguments_never_run(async_homing_client: homing.AsyncClient, edge: Edge, finish: str) -> None:
    # command-code#785, ANOLISA#2209, halogen-flash#96
    ran: list[str] = []

    def delete(path: str = "/") -> None:
        ran.append(path)

    chat = async_homing_client.conversation()
    await chat.send("Hello")
    before = chat.history
    kinds = {"length": homing.LengthFinishReasonError, "content_filter": homing.ContentFilterFinishReasonError}
    for arguments in ('{"path": "/tm', '{"path": "/tmp"}', ""):
        edge.answer_next(Answer(tool_calls=[ToolCall("delete", arguments)], finish_reason=finish))
        with pytest.raises(kinds.get(finish, homing.StreamInterrupted), match="nothing was run") as caught:
            await chat.run("Clean up.", [delete])
        assert caught.value.messages == ({"role": "user", "content": "Clean up."},)
    assert ran == []
    assert chat.history == before
    await chat.send("Still works?")


@pytest.mark.parametrize("after_chunks", [2, 4, 6])
async def test_a_stream_that_ends_within_a_call_runs_nothing(
    async_homing_client: homing.AsyncClient, edge: Edge, after_chunks: int
) -> None:
    # command-code#785: in the first round, and in a later one
    ran: list[str] = []

    def note(text: str) -> str:
        ran.append(text)
        return "noted"

    client = async_homing_client.with_options(max_retries=0)
    chat = client.conversation()
    long = {"text": "word " * 40}
    edge.answer_next(calls(("note", {"text": "one"})), calls(("note", long)))
    edge.inject(Fault.truncate(after_chunks=after_chunks, nth=2))
    with pytest.raises(homing.APIError) as caught:
        async with chat.run_stream("Note two things.", [note]) as run:
            async for _ in run:
                pass
    assert ran == ["one"]
    assert chat.history == []
    assert roles(caught.value.messages) == ["user", "assistant", "tool"]


async def test_failure_in_a_later_round_leaves_history_as_it_was(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    chat = async_homing_client.conversation()
    await chat.send("Hello")
    before = chat.history
    edge.answer_next(calls(("get_weather", {"city": "Oslo"})))
    edge.inject(Fault.answer(400, '{"error": {"message": "no"}}', content_type="application/json", nth=2))
    with pytest.raises(homing.BadRequestError) as caught:
        await chat.run("How warm?", [get_weather])
    assert chat.history == before
    assert roles(caught.value.messages) == ["user", "assistant", "tool"]
    assert caught.value.messages[-1]["content"] == '{"city":"Oslo","degrees":31}'
    await chat.send("Still works?")


async def test_max_rounds(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    ran: list[int] = []

    def again(number: int) -> int:
        ran.append(number)
        return number

    chat = async_homing_client.conversation()
    edge.answer_with(lambda request: calls(("again", {"number": len(request["messages"])})))
    with pytest.raises(homing.MaxRoundsExceeded, match="again in round 3, the last one") as caught:
        await chat.run("Go.", [again], max_rounds=3)
    assert ran == [1, 3]
    assert roles(caught.value.messages) == ["user", "assistant", "tool", "assistant", "tool"]
    assert caught.value.completion.choices[0].finish_reason == "tool_calls"
    assert chat.history == []


async def test_a_tools_exception_is_told_without_its_words(
    async_homing_client: homing.AsyncClient, edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="homing")

    def secret() -> None:
        raise RuntimeError("password=hunter2 at postgres://me:hunter2@db")

    def honest() -> None:
        raise ToolError("there is no city of that name")

    chat = async_homing_client.conversation()
    edge.answer_next(calls(("secret", {}), ("honest", {})), "Sorry.")
    await chat.run("Go.", [secret, honest])
    told = [message["content"] for message in chat.history if message["role"] == "tool"]
    assert told == ["Error: the tool failed (RuntimeError)", "Error: there is no city of that name"]
    assert "the tool secret failed: RuntimeError" in caplog.messages
    assert "hunter2" not in caplog.text
    caplog.set_level("DEBUG", logger="homing")
    before = chat.history
    edge.answer_next(calls(("secret", {}), ("honest", {})), "Never said.")
    with pytest.raises(ToolError, match=r"^the tool secret failed: RuntimeError$") as caught:
        await chat.run("Go.", [secret, honest], on_tool_error="raise")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "hunter2" in caplog.text
    assert roles(caught.value.messages) == ["user", "assistant", "tool", "tool"]
    assert chat.history == before


async def test_a_tool_that_hangs_is_given_up(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    async with hangs_until_cancelled() as hang:
        chat = async_homing_client.conversation()
        edge.answer_next(calls(("hang", {}), ("get_weather", {"city": "Oslo"})), "Sorry.")
        await chat.run("Go.", [Tool(hang, name="hang", timeout=0.05), get_weather])
        told = [message["content"] for message in chat.history if message["role"] == "tool"]
        assert told == ["Error: the tool did not end within 0.05 s", '{"city":"Oslo","degrees":31}']
        edge.answer_next(calls(("hang", {})))
        with pytest.raises(ToolError, match="did not end within"):
            await chat.run("Go.", [Tool(hang, name="hang")], tool_timeout=0.05, on_tool_error="raise")


async def test_stopping_while_tools_run_keeps_what_had_a_result(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # vercel/ai#10638: what is kept must make a valid prompt
    async with hangs_until_cancelled() as hang:
        chat = async_homing_client.conversation()
        edge.answer_next(calls(("get_weather", {"city": "Oslo"}), ("hang", {})))
        # One at a time: when the second one runs, the first has its result.
        run = chat.run_stream("Go.", [get_weather, Tool(hang, name="hang", timeout=None)], tools_at_once=1)

        async def read(_: str) -> None:
            async for _event in run:
                pass

        async def wake() -> None:
            def cancel() -> None:
                hang.began.wait(30)
                run.cancel()

            threading.Thread(target=cancel, daemon=True).start()

        await gather(wake, read)
        reply = await run.reply()
    assert reply.interrupted
    assert reply.pending == []
    assert chat.turns[-1].interrupted
    assert roles(chat.history) == ["user", "assistant", "tool"]
    assert [call["function"]["name"] for call in chat.history[1]["tool_calls"]] == ["get_weather"]
    await chat.send("Go on.")
    assert roles(sent(edge, chat)[-1]["messages"]) == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize("stop_at", ["round.started", "tool.started", "tool.finished"])
async def test_leaving_a_run_anywhere_leaves_no_half_calls(
    async_homing_client: homing.AsyncClient, edge: Edge, stop_at: str
) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(calls(("get_weather", {"city": "Oslo"})), "Never read.")
    async with chat.run_stream("Go.", [get_weather]) as run:
        async for event in run:
            if event.type == stop_at:
                break
    assert chat.turns[-1].interrupted
    kept = {"tool.finished": ["user", "assistant", "tool", "assistant"]}
    assert roles(chat.history) == kept.get(stop_at, ["user", "assistant"])
    assert stop_at == "tool.finished" or "tool_calls" not in chat.history[-1]
    assert chat.pending_calls == []
    assert (await chat.send("Go on.")).text


async def test_a_run_that_is_dropped_does_not_lock_the_conversation(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(calls(("get_weather", {"city": "Oslo"})), "Never read.")
    run = chat.run_stream("Go.", [get_weather])
    while (await run.__anext__()).type != "tool.started":
        pass
    del run
    gc.collect()
    assert chat.turns[-1].interrupted
    assert (await chat.send("Go on.")).text


async def test_on_busy_cancel_ends_a_run(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    async with hangs_until_cancelled() as hang:
        chat = async_homing_client.conversation(on_busy="cancel", model="m")
        edge.answer_next(calls(("hang", {})), "Two it is.")

        async def first(_: str) -> homing.RunReply:
            return await chat.run("One.", [Tool(hang, name="hang", timeout=None)])

        async def second(_: str) -> homing.Reply:
            await hang.has_begun()
            return await chat.send("Two.")

        one, two = await gather(first, second)
    assert (one.interrupted, two.text) == (True, "Two it is.")
    assert roles(chat.history) == ["user", "assistant", "user", "assistant"]


async def test_a_call_without_a_function_is_handed_over(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(system="S")
    edge.answer_next(calls(("ask_human", {"question": "Really?"}), ("get_weather", {"city": "Oslo"})), "Good, then.")
    reply = await chat.run("Go.", [get_weather, ASK_HUMAN])
    [call] = reply.pending
    assert (call.id, call.function.name, reply.finish_reason) == ("call_0", "ask_human", "tool_calls")
    assert chat.pending_calls == reply.pending
    assert roles(chat.history) == ["system", "user", "assistant", "tool"]

    # It may take days, and another process.
    again = homing.AsyncConversation.from_dict(async_homing_client, json.loads(json.dumps(chat.to_dict())))
    assert again.pending_calls == [call]
    final = await again.submit({call.id: "Yes."}, [get_weather, ASK_HUMAN])
    assert (final.text, final.pending) == ("Good, then.", [])
    assert [message["content"] for message in again.history if message["role"] == "tool"] == [
        "Yes.",
        '{"city":"Oslo","degrees":31}',
    ]
    assert len(again.turns) == 1
    assert final.telemetry.verdict == "warm"
    assert sent(edge, again)[-1]["messages"] == again.history[:-1]


async def test_a_plain_turn_can_be_answered_too(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(tools=[ASK_HUMAN])
    edge.answer_next(calls(("ask_human", {}), ("ask_human", {})), calls(("ask_human", {})), "Thanks.")
    reply = await chat.send("Go.")
    assert len(reply.tool_calls) == 2
    with pytest.raises(homing.ConfigurationError, match="2 tool calls wait for a result, 1 were given"):
        await chat.submit(["Yes."])
    with pytest.raises(homing.ConfigurationError, match="every tool call that waits needs a result"):
        await chat.submit({"call_0": "Yes.", "call_7": "No."})
    with pytest.raises(homing.ConfigurationError, match="cannot be told as JSON"):
        await chat.submit(["Yes.", object()])
    assert len(chat.pending_calls) == 2
    more = await chat.submit(["Yes.", ToolError("nobody is there")])
    assert len(more.pending) == 1
    async with chat.submit_stream([{"answer": 3}]) as run:
        assert [event.type async for event in run][-1] == "finished"
    told = [message["content"] for message in chat.history if message["role"] == "tool"]
    assert told == ["Yes.", "Error: nobody is there", '{"answer":3}']
    with pytest.raises(homing.ConfigurationError, match="no tool call waits"):
        await chat.submit(["Again."])


async def test_saying_something_else_drops_the_calls_that_wait(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # vercel/ai#10638
    chat = async_homing_client.conversation()
    edge.answer_next(calls(("ask_human", {})))
    await chat.run("Go.", [ASK_HUMAN])
    await chat.send("Never mind.")
    assert roles(sent(edge, chat)[-1]["messages"]) == ["user", "user"]
    assert chat.pending_calls == []


async def test_a_failed_submit_can_be_tried_again(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(calls(("ask_human", {})), "Good.")
    await chat.run("Go.", [ASK_HUMAN])
    before = chat.history
    edge.inject(Fault.answer(422, "no"))
    with pytest.raises(homing.UnprocessableEntityError) as caught:
        await chat.submit(["Yes."])
    assert roles(caught.value.messages) == ["user", "assistant", "tool"]
    assert chat.history == before
    assert (await chat.submit(["Yes."])).text == "Good."


async def test_a_forced_choice_holds_for_the_first_round(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(tools=[get_weather], tool_choice="required")
    reply = await chat.run("Hello.")
    assert [one.finish_reason for one in reply.rounds] == ["tool_calls", "stop"]
    assert [request["tool_choice"] for request in sent(edge, chat)] == ["required", "auto"]
    assert chat.fork()._tools == [get_weather]


async def test_send_describes_functions_and_runs_none(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    reply = await chat.send("Please get weather.", tools=[get_weather])
    assert [call.function.name for call in reply.tool_calls] == ["get_weather"]


async def test_calls_without_ids_are_told_apart(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    made = [ToolCall("get_weather", {"city": city}, "same") for city in ("Oslo", "Rome")]
    edge.answer_next(Answer(tool_calls=made), "Done.")
    await chat.run("Go.", [get_weather])
    ids = [call["id"] for call in chat.history[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert ids == [message["tool_call_id"] for message in chat.history[2:4]]


async def test_a_tool_may_ask_a_fork_but_not_its_own_conversation(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    asked: list[str] = []
    client = homing.Client(base_url=edge.url)
    own = client.conversation()

    def ask(which: str) -> str:
        chat = own if which == "own" else own.fork()
        asked.append(which)
        return chat.send("Hello").text

    chat = async_homing_client.conversation()
    edge.answer_next(calls(("ask", {"which": "own"})), "Hello yourself.", "Done.")
    assert (await chat.run("Go.", [ask])).text == "Done."  # another conversation: nothing in its way
    edge.answer_next(calls(("ask", {"which": "own"})), "Done.")
    in_thread: list[Any] = []
    worker = threading.Thread(target=lambda: in_thread.append(own.run("Go.", [ask])))
    worker.start()
    worker.join(60)
    assert "ConversationBusy" in in_thread[0].messages[2]["content"]
    client.close()


async def test_a_run_without_tools_is_a_turn(async_homing_client: homing.AsyncClient) -> None:
    chat = async_homing_client.conversation()
    reply = await chat.run("Hello", max_tokens=5)
    assert (reply.pending, len(reply.rounds), reply.finish_reason) == ([], 1, "length")


@pytest.mark.parametrize(
    ("tools", "params", "words"),
    [
        (get_weather, {}, "must be a list"),
        ("get_weather", {}, "must be a list"),
        ([get_weather, get_weather], {}, "two tools have the same name"),
        ([{"name": "x"}], {}, "a tool that is a mapping looks like"),
        ([3], {}, "must be a function, a Tool or a mapping"),
        ([], {"max_rounds": 0}, "max_rounds"),
        ([], {"tools_at_once": True}, "tools_at_once"),
        ([], {"tool_timeout": 0}, "tool_timeout"),
        ([], {"on_tool_error": "ignore"}, "on_tool_error"),
        ([], {"n": 2}, "a turn has one reply"),
    ],
)
async def test_what_cannot_be_run(
    async_homing_client: homing.AsyncClient, tools: Any, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        await async_homing_client.conversation().run("Go.", tools, **params)


async def test_all_rounds_of_a_placed_conversation_go_to_one_replica(edge: Edge) -> None:
    # Before its first turn a new conversation may be given another key, which leads to a less busy replica.
    async with homing.AsyncClient(edge.url, placement="balanced", model="m") as client:
        moved = False
        for number in range(20):
            chat = client.conversation()
            drawn = chat.affinity_key
            again = calls(("get_weather", {"city": "Oslo"}))
            edge.answer_next(again, again, "Done.")
            reply = await chat.run(f"Question {number}.", [get_weather])
            assert [one.telemetry.verdict for one in reply.rounds] == ["first", "warm", "warm"]
            assert len(sent(edge, chat)) == 3
            moved = chat.affinity_key != drawn
            if moved:
                break
    assert moved, "no conversation was given another key"
