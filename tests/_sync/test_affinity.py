# Generated from tests/_async/test_affinity.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

import itertools
from typing import Any

import pytest

import homing
from homing.testing import assert_one_replica
from homing_server.local import Edge

from .tasks import gather

pytestmark = [pytest.mark.usefixtures("settled")]


def test_60_conversations_of_5_turns_each_stay_on_one_replica(
    homing_client: homing.Client, edge: Edge
) -> None:
    # harbor#2723, verifiers#1680
    chats = [homing_client.conversation(system=f"You are {n}.") for n in range(60)]
    for _ in range(5):
        gather(*[chat.send for chat in chats])
    homes = [assert_one_replica(edge, chat) for chat in chats]
    assert set(homes) == set(edge.ready)
    # Binomial(60, 1/3): less than 4 on one of them has a chance of 1 in 2,500,000.
    assert all(homes.count(replica) >= 4 for replica in edge.ready)
    assert {turn.telemetry.verdict for chat in chats for turn in chat.turns[1:]} == {"warm"}
    for chat in chats:
        told = [turn.telemetry for turn in chat.turns]
        for before, after in itertools.pairwise(told):
            assert before.prompt_tokens is not None
            assert before.completion_tokens is not None
            # The previous prompt and what the template adds: the reply, but for its end token, which was
            # sampled last and never computed.
            assert after.cached_tokens == before.prompt_tokens + before.completion_tokens - 1


@pytest.mark.edge(min_replicas=3, max_replicas=3)
def test_scaling_up_moves_about_one_in_n(homing_client: homing.Client, edge: Edge) -> None:
    chats = [homing_client.conversation() for _ in range(60)]
    gather(*[chat.send for chat in chats])
    edge.scale(4)
    edge.wait_for(lambda e: len(e.ready) == 4)
    gather(*[chat.send for chat in chats])
    # By what the turns say: where many start at once, each may have asked for the model's name besides.
    routes = [[turn.telemetry.replica for turn in chat.turns] for chat in chats]
    moved = [route for route in routes if route[0] != route[1]]
    # Binomial(60, 1/4): more than 30 has a chance of 1 in 100,000; and only the new one gains any.
    assert 1 <= len(moved) <= 30
    assert len({route[1] for route in moved}) == 1


def test_without_affinity_conversations_stray(edge: Edge, homing_client: homing.Client) -> None:
    # opengeni#386, hermes-agent#14612
    stray = homing_client.with_options(affinity="none")
    chats = [stray.conversation(system=f"Your number is {n}, and you never forget it." * 5) for n in range(10)]
    for _ in range(5):
        gather(*[chat.send for chat in chats])
    assert {record.key for record in edge.log} == {None}
    assert {turn.telemetry.verdict for chat in chats for turn in chat.turns[1:]} != {"warm"}


def test_a_growing_message_list_keeps_its_replica_without_code_changes(
    homing_client: homing.Client, edge: Edge
) -> None:
    messages: list[Any] = [{"role": "system", "content": "S"}, {"role": "user", "content": "One."}]
    for content in ("Two.", "Three.", "Four."):
        completion = homing_client.chat.completions.create(messages=messages)
        messages += [completion.choices[0].message, {"role": "user", "content": content}]
    keys = {record.key for record in edge.log if record.path.endswith("completions")}
    assert len(keys) == 1
    assert_one_replica(edge, keys.pop() or "")


def test_keys_of_loose_calls_cannot_be_guessed_from_their_content(edge: Edge) -> None:
    messages: list[Any] = [{"role": "user", "content": "secret"}]
    for _ in range(2):
        with homing.Client(edge.url, model="m") as client:
            client.chat.completions.create(messages=messages)
    assert len({record.key for record in edge.log}) == 2


def test_an_explicit_key_wins(homing_client: homing.Client, edge: Edge) -> None:
    create = homing_client.chat.completions.create
    create(messages=[{"role": "user", "content": "x"}], affinity_key="mine")
    create(messages=[{"role": "user", "content": "x"}], affinity="none")
    assert [record.key for record in edge.log[-2:]] == ["mine", None]


def test_both_of_modals_headers_carry_the_key(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation(model="m")
    chat.send("Hello")
    headers = edge.log[-1].headers
    assert headers["modal-session-id"] == headers["modal-routing-affinity-key"] == chat.affinity_key


def test_other_strategies(edge: Edge) -> None:
    # litellm#41032, pi#7104
    strategy = homing.HeaderAffinity("X-SMG-Routing-Key") + homing.BodyAffinity("prompt_cache_key")
    with homing.Client(edge.url, affinity=strategy, model="m") as client:
        chat = client.conversation()
        chat.send("Hello")
    record = edge.log[-1]
    assert record.headers["x-smg-routing-key"] == chat.affinity_key
    assert record.request is not None
    assert record.request["prompt_cache_key"] == chat.affinity_key
    assert "modal-session-id" not in record.headers


@pytest.mark.parametrize("key", ["", "two words", "line\nend", "naïve", "x" * 129])
def test_keys_that_cannot_travel_are_refused(homing_client: homing.Client, key: str) -> None:
    with pytest.raises(homing.ConfigurationError, match="affinity_key"):
        homing_client.conversation(affinity_key=key)
