"""Which replica a new conversation begins on, as far as a client can tell."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from homing import ConfigurationError
from homing.core.affinity import placement
from homing.core.affinity.placement import DRAWS, KEYS_EACH, RECENT, Replicas, Search, sends_headers
from homing.core.affinity.strategies import BodyAffinity, EchoAffinity, HeaderAffinity, ModalAffinity, NoAffinity
from homing.core.request.options import Options
from homing.core.retry.readiness import Waiter


def options(**changes: object) -> Options:
    made = Options.resolve(
        "http://localhost",
        api_key=None,
        proxy_token=None,
        model=None,
        timeout=None,
        cold_start_timeout=None,
        max_retries=None,
        retry=None,
        affinity="prefix",
        placement="balanced",
        default_headers=None,
        default_query=None,
        hooks=None,
        environment={},
    )
    return made.changed(**changes)  # type: ignore[arg-type]


def busy(replicas: Replicas, replica: str, turns: int, *, now: float = 0.0) -> list[str]:
    """Let so many conversations have a turn in flight on ``replica``."""
    keys = [f"{replica} {number}" for number in range(turns)]
    for key in keys:
        replicas.begin(key, now)
        replicas.seen(key, replica, now)
    return keys


def tried_out(replicas: Replicas, *names: str) -> None:
    """Let enough unused keys be known that these replicas are taken to be all there are."""
    for number in range(KEYS_EACH):
        for name in names:
            replicas.seen(f"to {name} {number}", name, 0.0)


def found(replicas: Replicas, homes: dict[str, str], names: list[str], *, now: float = 0.0) -> tuple[str, int]:
    """Search with a router that hashes at random; return the key and how many were tried out."""
    search, draws = Search(replicas), 0
    while (key := search.draw(now)) is not None:
        draws += 1
        homes[key] = random.choice(names)
        replicas.seen(key, homes[key], now)
    assert search.key is not None
    return search.key, draws


def test_a_key_of_the_least_busy_replica_is_taken() -> None:
    replicas = Replicas()
    busy(replicas, "a", 3)
    busy(replicas, "b", 1)
    tried_out(replicas, "a", "b")
    search = Search(replicas)
    assert search.draw(0.0) is None
    assert search.key == "to b 0"
    assert replicas.loads(0.0) == {"a": (3, 3), "b": (1, 2)}


def test_turns_in_flight_weigh_more_than_conversations() -> None:
    replicas = Replicas()
    busy(replicas, "a", 1)
    for key in busy(replicas, "b", 5):
        replicas.end(key, 0.0)
    tried_out(replicas, "a", "b")
    search = Search(replicas)
    assert search.draw(0.0) is None
    assert search.key == "to b 0"


def test_keys_are_tried_out_until_one_leads_to_the_least_busy() -> None:
    replicas = Replicas()
    busy(replicas, "a", KEYS_EACH)
    busy(replicas, "b", KEYS_EACH - 1)
    search = Search(replicas)
    first = search.draw(0.0)
    assert first is not None
    replicas.seen(first, "a", 0.0)
    second = search.draw(0.0)
    assert second not in (None, first)
    replicas.seen(second, "b", 0.0)
    assert search.draw(0.0) is None
    assert search.key == second
    replicas.begin(second or "", 0.0)
    replicas.begin(busy(replicas, "b", 1)[0], 0.0)
    another = Search(replicas)
    assert another.draw(0.0) is None
    assert another.key == first, "what was tried out before is not lost"


def test_a_busy_replica_is_not_taken_while_there_may_be_others() -> None:
    replicas = Replicas()
    (key,) = busy(replicas, "a", 1)
    replicas.seen("to a", "a", 0.0)
    assert Search(replicas).draw(0.0) is not None
    replicas.end(key, 0.0)
    search = Search(replicas)
    assert search.draw(0.0) is None
    assert search.key == "to a", "but an idle one is"


def test_the_first_of_all_tries_nothing_out() -> None:
    replicas = Replicas()
    search = Search(replicas)
    assert search.draw(0.0) is None
    assert search.key is not None
    replicas.begin(search.key, 0.0)
    assert Search(replicas).draw(0.0) is not None, "its replica is not known yet, and that it is busy is"


def test_after_some_draws_the_best_that_was_found_will_do() -> None:
    replicas = Replicas()
    busy(replicas, "a", 2)
    busy(replicas, "b", 1)
    busy(replicas, "c", 0)
    replicas.begin("last", 0.0)
    replicas.seen("last", "c", 0.0)
    replicas.end("last", 0.0)
    search, asked = Search(replicas), []
    while (key := search.draw(0.0)) is not None:
        asked.append(key)
        replicas.seen(key, "a" if len(asked) % 2 else "b", 0.0)
    assert len(asked) == DRAWS
    assert search.key in (asked[1], asked[3]), "nothing led to c, and b is better than a"


def test_a_search_that_is_given_up_takes_any_key() -> None:
    replicas = Replicas()
    busy(replicas, "a", 1)
    busy(replicas, "b", 1)
    search = Search(replicas)
    assert search.draw(0.0) is not None
    search.give_up()
    assert search.draw(0.0) is None
    assert search.key is not None
    assert replicas.loads(0.0) == {"a": (1, 1), "b": (1, 1)}


def test_nothing_is_tried_out_where_answers_name_no_replica() -> None:
    replicas = Replicas()
    replicas.begin("running", 0.0)
    replicas.seen("running", None, 0.0)
    search = Search(replicas)
    assert search.draw(0.0) is None
    assert search.key is not None
    replicas.seen(None, "a", 0.0)
    assert Search(replicas).draw(0.0) is not None, "another version is deployed"


def test_nothing_is_tried_out_where_there_is_one_replica() -> None:
    replicas = Replicas()
    for key in busy(replicas, "a", KEYS_EACH - 1):
        replicas.end(key, 0.0)
    assert Search(replicas).draw(0.0) is not None, "that might still be chance"
    replicas.begin("one more", 0.0)
    replicas.seen("one more", "a", 0.0)
    assert Search(replicas).draw(0.0) is None
    replicas.begin("elsewhere", 0.0)
    replicas.seen("elsewhere", "b", 0.0)
    assert Search(replicas).draw(0.0) is not None


def test_what_was_long_ago_does_not_count() -> None:
    replicas = Replicas()
    (old,) = busy(replicas, "a", 1)
    replicas.end(old, 0.0)
    replicas.seen("spare", "a", 0.0)
    assert replicas.loads(RECENT - 1) == {"a": (0, 1)}
    assert replicas.loads(RECENT) == {}


def test_a_turn_that_takes_long_counts_until_it_ends() -> None:
    replicas = Replicas()
    (running,) = busy(replicas, "a", 1)
    assert replicas.loads(10 * RECENT) == {"a": (1, 1)}
    replicas.end(running, 10 * RECENT)
    assert replicas.loads(10 * RECENT) == {"a": (0, 1)}


def test_a_turn_whose_replica_is_not_known_yet_counts_nowhere() -> None:
    replicas = Replicas()
    replicas.begin("new", 0.0)
    assert replicas.loads(0.0) == {}
    replicas.seen("new", "a", 0.0)
    assert replicas.loads(0.0) == {"a": (1, 1)}


def test_a_conversation_that_moves_counts_where_it_is() -> None:
    replicas = Replicas()
    (key,) = busy(replicas, "a", 1)
    replicas.seen(key, "b", 0.0)
    assert replicas.loads(0.0) == {"b": (1, 1)}


def test_a_key_that_leads_elsewhere_than_it_did_tells_that_the_fleet_has_changed() -> None:
    replicas = Replicas()
    for key in ("one", "two"):
        replicas.seen(key, "a", 0.0)
    replicas.seen("one", "b", 1.0)
    assert replicas.loads(1.0) == {"b": (0, 0)}
    replicas.seen("one", "b", 2.0)
    assert replicas.loads(2.0) == {"b": (0, 0)}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MEMORY", 3)
    replicas = Replicas()
    first, *_ = busy(replicas, "a", 5)
    for number in range(5):
        replicas.seen(f"spare {number}", "b", 0.0)
    assert replicas.loads(0.0) == {"a": (3, 3), "b": (0, 0)}
    replicas.end(first, 0.0)  # forgotten already
    assert replicas.loads(0.0) == {"a": (3, 3), "b": (0, 0)}
    assert len(replicas._spare) == 3


def test_what_nobody_has_used_for_long_is_forgotten_without_anybody_looking() -> None:
    # bench/soak.py: a client of many short conversations held on to the last 10,000 of them
    replicas = Replicas()
    for number in range(100):
        key, now = f"{number}", number * RECENT
        replicas.begin(key, now)
        replicas.seen(key, "a", now)
        replicas.end(key, now)
    assert len(replicas._homes) == 1


def test_forty_conversations_on_four_replicas_are_even_for_little_more_than_a_question_each() -> None:
    random.seed(1)
    names = ["a", "b", "c", "d"]
    replicas, draws = Replicas(), 0
    homes: dict[str, str] = {}
    for _ in range(40):
        key, asked = found(replicas, homes, names)
        replicas.begin(key, 0.0)
        replicas.seen(key, homes.setdefault(key, "a"), 0.0)
        draws += asked
    counts = Counter(homes[key] for key in replicas._homes)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert draws < 60


def test_only_a_key_in_a_header_can_be_tried_out() -> None:
    assert sends_headers(ModalAffinity())
    assert sends_headers(HeaderAffinity("X-SMG-Routing-Key") + BodyAffinity())
    assert not any(sends_headers(strategy) for strategy in (NoAffinity(), BodyAffinity(), EchoAffinity()))


def test_searching_is_asked_for_and_not_done_while_a_server_starts() -> None:
    given = options()
    assert given.search() is not None
    assert options(placement="hash").search() is None
    assert options(affinity="none").search() is None
    ticket = Waiter(lambda: None)
    given.server_state.readiness.ask(ticket, 0.0)
    given.server_state.readiness.not_ready(ticket, 0.0, retry_after=0.0)
    assert given.search() is None


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="placement must be 'hash' or 'balanced', got 'even'"):
        options(placement="even")
