"""bench/chaos.py: a short campaign with everything in it, and that the audit finds what a bad store or client does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import homing
from homing.stores import MemoryStore, StoredConversation
from homing.testing import Fault
from homing_server.local import Edge

BENCH = Path(__file__).resolve().parents[2] / "bench"

KINDS = ("send", "stream", "events", "run", "run_stream", "stop")
TASK_KINDS = (*KINDS, "cancel")


@pytest.fixture(autouse=True)
def bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def test_no_turn_is_lost_duplicated_or_reordered_under_faults(tmp_path: Path) -> None:
    """Two client processes, both kinds of client, every kind of fault, two sudden ends."""
    from chaos.campaign import Campaign, Plan

    much = {"turns": 160, "faults": 50, "conversations": 8, "workers": 2, "lanes": 4}
    plan = Plan(**much, kills=2, storms=1, outages=2, shared=0.25, patience=0.3)
    report = Campaign(plan, tmp_path).run()
    assert report.findings.lines() == []
    assert report.short == []
    assert report.passed
    assert report.faults["client killed"] == 2
    assert report.turns["killed"] >= 1  # it was in the middle of something
    assert report.resumed >= 1
    assert len(report.faults) >= 15
    assert {"send", "stream", "run"} <= set(report.kinds)


# What the audit says of bad stores and clients. Each line of a lane is said by the bench's own code.


class Lane:
    """Says turns through the bench's code, on threads or tasks, and keeps the journal."""

    def __init__(self, edge: Edge) -> None:
        from chaos import oracle

        self.edge = edge
        self.entries: list[dict[str, Any]] = []
        edge.answer_with(oracle.answer)

    def say(self, store: Any, kinds: Sequence[Any], *, tasks: bool = False, client: Any = None) -> None:
        from chaos import tasks as on_tasks
        from chaos import threads as on_threads
        from chaos.journal import Journal
        from chaos.lane import Line, system_prompt

        lines = []
        for number, kind in enumerate(kinds):
            turn = f"c0.w0t0.{number}"
            words = "note 2" if kind.startswith("run") else "hello"
            lines.append(Line(turn, kind, f"{turn} {words}", breaks_after=3, patience=0.0))
        journal = Journal(self.entries.append)
        if tasks:

            async def say() -> None:
                async with homing.AsyncClient(self.edge.url) as plain:
                    chat = plain.conversation("c0", system=system_prompt("c0"), store=store)
                    for line in lines:
                        await on_tasks.say(chat, line, journal)

            asyncio.run(say())
            return
        with (client or homing.Client)(self.edge.url) as made:
            chat = made.conversation("c0", system=system_prompt("c0"), store=store)
            for line in lines:
                on_threads.say(chat, line, journal)

    def audit(self, store: Any) -> Any:
        from chaos.audit import audit

        self.edge.wait_for(lambda e: e.running == 0)  # a stream that was left has been noted
        found = store.load("c0")
        return audit(self.entries, {} if found is None else {"c0": found}, self.edge.log)[0]


@pytest.fixture
def lane(edge: Edge) -> Lane:
    return Lane(edge)


@pytest.mark.parametrize("tasks", [False, True])
def test_an_honest_store_and_client_pass(lane: Lane, tasks: bool) -> None:
    store = MemoryStore()
    lane.say(store, TASK_KINDS * 2 if tasks else KINDS * 2, tasks=tasks)
    assert lane.audit(store).lines() == []
    assert [entry["what"] for entry in lane.entries].count("begin") == (14 if tasks else 12)


class Broken(MemoryStore):
    """A store that does something to what it reads back."""

    def __init__(self, spoil: Callable[[list[dict[str, Any]]], object]) -> None:
        super().__init__()
        self._spoil = spoil

    def load(self, conversation_id: str) -> StoredConversation | None:
        found = super().load(conversation_id)
        if found is not None:
            self._spoil(found.turns)
        return found


def swap(turns: list[dict[str, Any]]) -> None:
    turns[0], turns[1] = turns[1], turns[0]


def chop(turns: list[dict[str, Any]]) -> None:
    turns[1]["messages"][-1]["content"] = turns[1]["messages"][-1]["content"][:-1]


def invent(turns: list[dict[str, Any]]) -> None:
    turns.append({**turns[0], "messages": [{"role": "user", "content": "c0.w0t0.99 hi"}, turns[0]["messages"][1]]})


def half(turns: list[dict[str, Any]]) -> None:
    del turns[1]["messages"][-1]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda turns: turns.pop(), {"lost"}),
        (lambda turns: turns.pop(0), {"lost", "unasked", "altered"}),
        (lambda turns: turns.append(turns[-1]), {"duplicated", "unasked", "altered"}),
        (swap, {"reordered", "unasked", "altered"}),
        (chop, {"altered", "unasked"}),
        (half, {"altered", "unasked"}),
        (invent, {"revived"}),
    ],
    ids=["the last is lost", "the first is lost", "duplicated", "reordered", "chopped", "half", "invented"],
)
def test_a_bad_store_is_found_out(lane: Lane, spoil: Any, found: set[str]) -> None:
    store = Broken(lambda turns: None)
    lane.say(store, ["send", "stream", "run"])
    assert lane.audit(store).total == 0
    store._spoil = spoil
    findings = lane.audit(store)
    assert {line.partition(":")[0] for line in findings.lines()} == found


class Forgetful(MemoryStore):
    """A store that loses the second commit and says that all is well."""

    commits = 0

    def commit(self, conversation_id: str, **what: Any) -> int:
        self.commits += 1
        if self.commits == 2:
            return int(what["expected_version"]) + 1
        return super().commit(conversation_id, **what)


def test_a_lost_commit_is_found_out(lane: Lane) -> None:
    store = Forgetful()
    lane.say(store, ["send", "send"])
    assert [line.partition(" (")[0] for line in lane.audit(store).lines()] == ["lost: c0.w0t0.1"]


def test_a_client_that_says_a_turn_twice_is_found_out(lane: Lane) -> None:
    class Twice(homing.Client):
        def conversation(self, *names: Any, **settings: Any) -> Any:
            chat = super().conversation(*names, **settings)
            once = chat.send

            def twice(question: str) -> Any:
                once(question)
                return once(question)

            chat.send = twice  # type: ignore[method-assign, assignment]
            return chat

    store = MemoryStore()
    lane.say(store, ["send"], client=Twice)
    assert lane.audit(store).duplicated == ["c0.w0t0.0 is stored 2 times"]


def test_a_client_that_shows_other_than_it_keeps_is_found_out(lane: Lane) -> None:
    store = MemoryStore()
    lane.say(store, ["stream", "send"])
    acked = [entry for entry in lane.entries if entry["what"] == "acked"]
    acked[0]["shown"] += "?"
    acked[1]["text"] = "?"
    assert len(lane.audit(store).altered) == 3


@pytest.mark.parametrize("fault", [Fault.eof(after_chunks=5), Fault.malformed(after_chunks=5)])
def test_a_failed_turn_that_is_stored_is_found_out(lane: Lane, fault: Fault) -> None:
    store = MemoryStore()
    lane.edge.inject(fault)
    lane.say(store, ["send", "send"], client=lambda url: homing.Client(url, max_retries=0, resume="never"))
    assert [entry["what"] for entry in lane.entries] == ["begin", "failed", "begin", "acked"]
    assert lane.audit(store).total == 0
    found = store.load("c0")
    assert found is not None
    messages = [{"role": "user", "content": "c0.w0t0.0 hello"}, {"role": "assistant", "content": "x"}]
    again = {**found.turns[0], "messages": messages}
    store.commit("c0", expected_version=found.version, turns=[again])
    assert "c0.w0t0.0 failed" in lane.audit(store).revived[0]


def test_a_turn_that_was_shown_and_cancelled_is_kept(lane: Lane) -> None:
    store = MemoryStore()
    lane.say(store, ["send", "cancel"], tasks=True)
    assert lane.audit(store).total == 0
    assert lane.entries[-1]["what"] == "cancelled"
    found = store.load("c0")
    assert found is not None
    store.commit("c0", expected_version=found.version, keep=1)
    assert "was cancelled and is not stored" in lane.audit(store).lost[0]


def test_tools_run_twice_are_found_out(lane: Lane) -> None:
    store = MemoryStore()
    lane.say(store, ["run"])
    lane.entries.append({"what": "tool", "turn": "c0.w0t0.0", "number": 1})
    findings = lane.audit(store)
    assert len(findings.duplicated) == len(findings.altered) == 1


def test_leaks_and_strays_are_found(tmp_path: Path) -> None:
    from chaos.audit import audit
    from chaos.leftovers import Holdings

    before = Holdings.now()
    with (tmp_path / "kept open").open("w"):
        (leak,) = Holdings.now().more_than(before)
        assert leak.endswith("kept open")
    assert Holdings.now().more_than(before) == []
    entries: list[dict[str, Any]] = [
        {"what": "end", "turn": "", "leaks": [leak]},
        {"what": "stray", "turn": "", "error": "KeyError"},
    ]
    findings, _ = audit(entries, {}, ())
    assert findings.lines() == ["stray: KeyError", f"leaked: {leak}"]


def test_the_schedule_is_a_function_of_its_seed() -> None:
    from chaos.schedule import FAULTS, schedule

    one, same, other = (list(schedule(seed=seed, faults=300, storms=2, requests=1000)) for seed in (1, 1, 2))
    assert one == same != other
    assert {fault.label for fault in one} >= set(FAULTS)
    assert [fault.nth for fault in one] == sorted(fault.nth or 0 for fault in one)


def test_a_campaign_passes_only_with_enough_in_it_and_nothing_found() -> None:
    from chaos.audit import Findings
    from chaos.campaign import Plan, Report, counted
    from chaos.report import lines

    plan = Plan(turns=4, faults=3, conversations=2)

    def report(acked: int, faults: Counter[str], findings: Findings) -> Report:
        turns, other = Counter(acked=acked), Counter[str]()
        return Report(plan, 1.0, turns, other, other, 0, other, faults, findings)

    enough = counted(["kill", "503 in storm 0", "503 in storm 0", "503 in storm 0", "kill"])
    assert report(4, enough, Findings()).passed
    assert not report(3, enough, Findings()).passed
    fewer = enough - Counter(["kill"])
    assert not report(4, fewer, Findings()).passed  # the refusals of a storm are one fault
    assert "TOO LITTLE: faults: 2 of 3" in lines(report(4, fewer, Findings()))
    for kind in ("lost", "duplicated", "reordered", "altered", "revived", "unasked", "stray", "leaked"):
        bad = report(4, enough, Findings(**{kind: ["c0.w0t0.1"]}))
        assert not bad.passed
        assert f"{kind}: c0.w0t0.1" in lines(bad)
