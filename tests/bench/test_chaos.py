"""bench/chaos.py: a short campaign with everything in it, and that the audit finds what a bad store or client does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import homing
from homing.stores import MemoryStore, StoredConversation
from homing.testing import Fault
from homing_server.local import Edge, Record

BENCH = Path(__file__).resolve().parents[2] / "bench"

KINDS = ("send", "stream", "events", "run", "run_stream", "stop")
TASK_KINDS = (*KINDS, "cancel")


@pytest.fixture(autouse=True)
def bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.slow
def test_no_turn_is_lost_duplicated_or_reordered_under_faults(tmp_path: Path) -> None:
    """Two client processes, both kinds of client, every kind of fault, two sudden ends."""
    from chaos.campaign import Campaign, Plan

    much: dict[str, Any] = {"turns": 240, "faults": 80, "conversations": 8, "workers": 2, "lanes": 4}
    plan = Plan(**much, kills=2, storms=1, outages=3, shared=0.25, patience=0.3, limit=3.0)
    report = Campaign(plan, tmp_path).run()
    assert report.findings.lines() == []
    assert report.short == []
    assert report.passed
    assert report.faults["client killed"] == 2
    assert report.turns["killed"] >= 1  # it was in the middle of something
    assert report.resumed >= 1
    assert len(report.faults) >= 15
    assert {"SIGINT in a turn", "SIGALRM in a turn", "fork"} <= set(report.faults)
    assert report.turns["answered"] >= 1
    assert report.faults["stream dropped"] + report.faults["stream dropped in a cycle"] >= 1
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


def test_a_dropped_stream_that_the_next_turn_does_not_save_is_found_out(lane: Lane) -> None:
    store = MemoryStore()
    lane.say(store, ["stop", "send"])
    stopped = next(entry for entry in lane.entries if entry["what"] == "acked")
    stopped.update(what="dropped", followed=True, cycle=False)
    lane.entries[0]["kind"] = "drop"
    assert lane.audit(store).lines() == []
    found = store.load("c0")
    assert found is not None
    store.commit("c0", expected_version=found.version, keep=0, turns=found.turns[1:])
    assert "lost: c0.w0t0.0 (drop) was dropped and is not stored" in lane.audit(store).lines()
    stopped["followed"] = False  # then there was nothing that would have saved it
    assert lane.audit(store).lost == []


@pytest.mark.parametrize("signal", [None, "SIGINT"])
def test_only_a_signal_may_interrupt_what_nobody_stops(lane: Lane, signal: str | None) -> None:
    store = MemoryStore()
    lane.edge.inject(Fault.hang(after_chunks=6))  # or the end may be there before it is stopped
    lane.say(store, ["stop"])
    begin, end = lane.entries
    begin.update(kind="stream", signal=signal)
    end["what"] = "struck"
    assert lane.audit(store).total == (0 if signal else 1)
    found = store.load("c0")
    assert found is not None
    store.delete("c0")
    assert lane.audit(store).total == 0  # whether it stays is a matter of a moment


@pytest.mark.parametrize(("shown", "found"), [("", 0), ("Some words", 1)])
def test_only_a_turn_that_was_left_before_its_reply_may_arrive_late(shown: str, found: int) -> None:
    """Its request and the next turn's are on their way at once, on two connections."""
    from chaos import oracle
    from chaos.audit import audit

    said = {"role": "assistant", "content": shown}
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "c0.w0t0.0 hello"}]
    then = [*asked, *([said] if shown else []), {"role": "user", "content": "c0.w0t0.1 hello"}]
    turns = [
        {"messages": [asked[-1], said], "finish_reason": "interrupted"},
        {"messages": [then[-1], {"role": "assistant", "content": oracle.text_for(then)}], "finish_reason": "stop"},
    ]
    log = [
        Record(number, 0.0, "POST", "/", "k", {}, digest=oracle.digest(messages), status=200)
        for number, messages in enumerate([then, asked])
    ]
    entries: list[dict[str, Any]] = [
        {"what": "begin", "turn": f"c0.w0t0.{number}", "kind": "stream", "signal": "SIGINT"} for number in range(2)
    ]
    stored = {"c0": StoredConversation("c0", 2, {"affinity_key": "k", "system": "S"}, turns, 0.0, 0.0)}
    assert len(audit(entries, stored, log)[0].reordered) == found
    in_order = [replace(record, number=1 - record.number) for record in log]
    assert audit(entries, stored, in_order)[0].reordered == []


def test_a_conflict_with_nobody_is_found_out() -> None:
    from chaos.audit import audit

    def entries(writer: str) -> list[dict[str, Any]]:
        turn = f"c0.{writer}.0"
        failed = {"what": "failed", "turn": turn, "error": "VersionConflict", "shown": ""}
        return [{"what": "begin", "turn": turn, "kind": "send", "signal": None}, failed]

    assert len(audit(entries("w0t0"), {}, ())[0].stray) == 1
    assert audit([*entries("w0t0"), *entries("w1t0")], {}, ())[0].total == 0


def test_what_a_forked_child_is_told_is_held_against_the_engine() -> None:
    from chaos import oracle
    from chaos.audit import audit

    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "hello"}]
    begin: dict[str, Any] = {"what": "begin", "turn": "fork7.child.0", "kind": "fork", "signal": None}
    answered = {"what": "answered", "turn": "fork7.child.0", "asked": asked, "text": oracle.text_for(asked)}
    assert audit([begin, answered], {}, ())[0].total == 0
    assert len(audit([begin, {**answered, "text": "?"}], {}, ())[0].altered) == 1


HANGS = """
import asyncio, json, threading
from chaos.journal import Journal
from chaos.watchdog import Watched

async def for_ever():
    watched.loop = asyncio.get_running_loop()
    watched.note("begin", "c0.w0a0.1")
    await asyncio.Event().wait()

with Watched(Journal(lambda entry: print(json.dumps(entry), flush=True)), limit=0.02) as watched:
    watched.note("begin", "c0.w0a0.0")
    watched.note("acked", "c0.w0a0.0")
    asyncio.run(for_ever())
"""


def test_a_turn_that_hangs_is_shown_and_ends_its_process() -> None:
    from chaos.audit import audit
    from chaos.watchdog import HUNG

    ended = subprocess.run([sys.executable, "-c", HANGS], cwd=BENCH, capture_output=True, text=True, timeout=60)
    assert ended.returncode == HUNG
    assert "in for_ever" in ended.stderr  # the task, …
    assert "run_until_complete" in ended.stderr  # … and its thread
    entries = [json.loads(line) for line in ended.stdout.splitlines()]
    for entry in entries:
        if entry["what"] in ("begin", "acked"):
            entry.update(kind="send", signal=None)
    assert [line.partition(": no end")[0] for line in audit(entries, {}, ())[0].hung] == ["c0.w0a0.1"]


FORKS = """
import time
from chaos.disturb import Forks
from chaos.journal import Journal, to_pipe

class Locked:
    def conversation(self, **settings):
        time.sleep(600)

Forks.PAUSE = (0, 0)
with Forks("", Locked(), Journal(to_pipe(1)), limit=0.02) as forks:
    forks._over.wait(0.01)
"""


def test_a_forked_child_that_hangs_is_shown_and_ends() -> None:
    from chaos.audit import audit

    ended = subprocess.run([sys.executable, "-c", FORKS], cwd=BENCH, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "in conversation" in ended.stderr
    entries = [json.loads(line) for line in ended.stdout.splitlines()]
    findings, turns = audit(entries, {}, ())
    assert len(findings.hung) == len(turns) >= 1


def test_a_balancer_gives_each_newcomer_a_server_and_knows_it_again(edge: Edge) -> None:
    from chaos.balancer import Balancer, astray

    def ask(key: str, cookie: str | None = None) -> str | None:
        headers = {"Modal-Session-ID": key, "X-Chaos-Process": "1", **({"Cookie": cookie} if cookie else {})}
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        answer = httpx.post(balancer.url + "/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        assert "[DONE]" in answer.text
        given: str | None = answer.headers.get("set-cookie")
        return given

    with Balancer(edge.url) as balancer:
        assert [ask(f"key-{number}") for number in range(4)] == [f"SRV={s}; path=/" for s in ("s1", "s2", "s3", "s1")]
        assert ask("key-0", "SRV=s1") is None
        assert astray(balancer.visits) == []
        balancer.take_away("s1")
        assert ask("key-0", "SRV=s1") == "SRV=s2; path=/"
        assert ask("key-0", "SRV=s2") is None
        assert astray(balancer.visits) == []
        ask("key-1", "SRV=s3")  # key-2's
        ask("key-0", "SRV=s1")  # where it was at home before
        ask("key-3")
    stray, old, nameless = astray(balancer.visits)
    assert "never given" in stray
    assert "was at home at ['s2']" in old
    assert "without its cookie" in nameless


def test_a_balancers_server_that_no_conversation_gets_is_noticed() -> None:
    from chaos.balancer import SPREAD, Visit, astray

    visits = [Visit("1", f"key-{number}", None, "s2", told=True, whole=True) for number in range(SPREAD)]
    assert sorted(astray(visits)) == [f"no conversation of {SPREAD} was at {name}" for name in ("s1", "s3")]
    assert astray(visits[1:]) == []


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
    kinds = [kind.name for kind in fields(Findings)]
    assert {"lost", "duplicated", "reordered", "altered", "leaked", "hung"} <= set(kinds)
    for kind in kinds:
        bad = report(4, enough, Findings(**{kind: ["c0.w0t0.1"]}))
        assert not bad.passed
        assert f"{kind}: c0.w0t0.1" in lines(bad)
