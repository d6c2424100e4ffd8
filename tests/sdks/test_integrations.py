"""Other SDKs over `homing.integrations.openai`: one test of affinity and cold starts for all of them.

`make test-sdks` runs it in environments that have them (scripts/environments.py); ``HOMING_TEST_SDKS`` says
which ones it must find there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import anyio.from_thread
import pytest

import homing
from homing.integrations.openai import affinity_headers, async_http_client, http_client
from homing.testing import Edge, assert_no_running

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.edge(default_temperature=0.0)]

TURNS = 3
OPENINGS = [f"Opening {number}" for number in range(6)]
Talk = Callable[[str], list[str]]
"""Holds `TURNS` turns that begin with the text; returns the answers."""


class Setting:
    """Where an SDK's conversation runs: an edge, and Homing's settings."""

    def __init__(self, edge: Edge, portal: Any, **settings: Any) -> None:
        self.url = f"{edge.url}/v1"
        self.portal = portal
        self.settings = settings
        self.opened: list[Any] = []

    def sync(self) -> Any:
        self.opened.append(http_client(**self.settings))
        return self.opened[-1]

    def asynchronous(self) -> Any:
        client = async_http_client(**self.settings)
        self.opened.append(client)
        return client


def openai_sync(setting: Setting) -> Talk:
    from openai import OpenAI

    client = OpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.sync())

    def talk(opening: str) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": opening}]
        answers = []
        for _ in range(TURNS):
            reply = client.chat.completions.create(model="m", messages=messages).choices[0].message
            answers.append(reply.content or "")
            messages += [reply, {"role": "user", "content": "Go on."}]
        return answers

    return talk


def openai_async(setting: Setting) -> Talk:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.asynchronous())

    async def talk(opening: str) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": opening}]
        answers = []
        for _ in range(TURNS):
            chunks = await client.chat.completions.create(model="m", messages=messages, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
            answers.append(text)
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Go on."}]
        return answers

    return lambda opening: list(setting.portal.call(talk, opening))


def langchain(setting: Setting) -> Talk:
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model="m",
        base_url=setting.url,
        api_key="-",  # type: ignore[arg-type]
        max_retries=0,
        http_client=setting.sync(),
        http_async_client=setting.asynchronous(),
    )

    async def talk(opening: str) -> list[str]:
        messages: list[Any] = [HumanMessage(opening)]
        for turn in range(TURNS):
            reply = await model.ainvoke(messages) if turn % 2 else model.invoke(messages)
            messages += [reply, HumanMessage("Go on.")]
        return [str(message.content) for message in messages[1::2]]

    return lambda opening: list(setting.portal.call(talk, opening))


def pydantic_ai(setting: Setting) -> Talk:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.asynchronous())
    agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)), instructions="Be terse.")

    async def talk(opening: str) -> list[str]:
        history: list[Any] = []
        answers = []
        for turn in range(TURNS):
            result = await agent.run("Go on." if turn else opening, message_history=history)
            history = result.all_messages()
            answers.append(result.output)
        return answers

    return lambda opening: list(setting.portal.call(talk, opening))


def agents_sdk(setting: Setting) -> Talk:
    from agents import Agent, OpenAIChatCompletionsModel, Runner, SQLiteSession, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.asynchronous())
    agent = Agent(name="Homing", instructions="Be terse.", model=OpenAIChatCompletionsModel("m", client))

    async def talk(opening: str) -> list[str]:
        session = SQLiteSession(opening)
        answers = []
        for turn in range(TURNS):
            result = await Runner.run(agent, "Go on." if turn else opening, session=session)
            answers.append(result.final_output)
        return answers

    return lambda opening: list(setting.portal.call(talk, opening))


def instructor_sdk(setting: Setting) -> Talk:
    import instructor
    from openai import OpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: str

    client = instructor.from_openai(
        OpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.sync()),
        mode=instructor.Mode.JSON_SCHEMA,
    )

    def talk(opening: str) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": opening}]
        answers = []
        for _ in range(TURNS):
            answer = client.chat.completions.create(model="m", messages=messages, response_model=Answer)
            answers.append(answer.model_dump_json())
            messages += [{"role": "assistant", "content": answers[-1]}, {"role": "user", "content": "Go on."}]
        return answers

    return talk


def litellm_sdk(setting: Setting) -> Talk:
    import litellm
    from openai import OpenAI

    client = OpenAI(base_url=setting.url, api_key="-", max_retries=0, http_client=setting.sync())

    def talk(opening: str) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": opening}]
        for _ in range(TURNS):
            answer: Any = litellm.completion(
                model="openai/m", messages=messages, client=client, api_base=setting.url, api_key="-", max_retries=0
            )
            messages += [answer.choices[0].message.model_dump(), {"role": "user", "content": "Go on."}]
        return [message["content"] for message in messages[1::2]]

    return talk


SDKS: dict[str, Callable[[Setting], Talk]] = {
    "openai": openai_sync,
    "openai-async": openai_async,
    "langchain": langchain,
    "pydantic-ai": pydantic_ai,
    "agents": agents_sdk,
    "instructor": instructor_sdk,
    "litellm": litellm_sdk,
}
HERE = os.environ.get("HOMING_TEST_SDKS", "openai,openai-async").split(",")


@pytest.fixture
def opened(edge: Edge) -> Iterator[Callable[..., Setting]]:
    """Open settings; close their clients afterwards."""
    settings: list[Setting] = []
    with anyio.from_thread.start_blocking_portal("asyncio") as portal:

        def open_(**more: Any) -> Setting:
            settings.append(Setting(edge, portal, **more))
            return settings[-1]

        yield open_
        for setting in settings:
            for client in setting.opened:
                portal.call(client.aclose) if hasattr(client, "aclose") else client.close()
    assert_no_running(edge)


@pytest.mark.parametrize("sdk", HERE)
def test_every_turn_of_a_conversation_comes_home(sdk: str, opened: Callable[..., Setting], edge: Edge) -> None:
    # harbor#2723, litellm#41032, pi#7104
    talk = SDKS[sdk](opened(salt="fixed, so that the spread is"))
    for opening in OPENINGS:
        assert all(talk(opening))
    asked = [record for record in edge.log if record.path.endswith("/chat/completions")]
    assert len(asked) == TURNS * len(OPENINGS)
    homes: dict[str | None, set[str | None]] = {}
    for record in asked:
        homes.setdefault(record.key, set()).add(record.replica)
    assert None not in homes
    assert len(homes) == len(OPENINGS)
    assert all(len(replicas) == 1 for replicas in homes.values())
    assert len(set.union(*homes.values())) > 1
    # The point of it: from the second turn on the replica finds the prefix.
    warm = [record for number, record in enumerate(asked) if number % TURNS]
    assert all(record.tokens.cached for record in warm)


@pytest.mark.parametrize("sdk", HERE)
def test_a_cold_start_is_waited_out(sdk: str, opened: Callable[..., Setting], edge: Edge) -> None:
    # litellm#1242, langchain#24077, smolagents#2435
    waits: list[homing.Waiting] = []

    def wake(wait: homing.Waiting) -> None:
        waits.append(wait)
        if len(waits) == 2:
            edge.become_ready(1)

    edge.hold_cold()
    assert all(SDKS[sdk](opened(hooks=homing.Hooks(on_wait=wake)))("Hello"))
    assert waits
    assert waits[0].cause == "HTTP 503"


def test_waiting_in_vain_is_not_begun_again_by_the_sdk(opened: Callable[..., Setting], edge: Edge) -> None:
    import openai

    edge.hold_cold()
    setting = opened(cold_start_timeout=0.3)
    client = openai.OpenAI(base_url=setting.url, api_key="-", max_retries=5, http_client=setting.sync())
    with pytest.raises(openai.InternalServerError, match="no replica became ready"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    waited = [record.time for record in edge.log]
    assert len(waited) < 6  # one budget of ours, not six


def test_an_explicit_key_is_one_header_helper_away(edge: Edge) -> None:
    import openai

    with openai.OpenAI(base_url=f"{edge.url}/v1", api_key="-", default_headers=affinity_headers("mine")) as client:
        for text in ("One", "Two", "Three"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    assert {record.key for record in edge.log} == {"mine"}
    assert len({record.replica for record in edge.log}) == 1
