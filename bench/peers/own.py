"""Looks into Homing itself, in its own environment: idle conversations, framings, simulated cold starts."""

import gc
import heapq
import itertools
import json
import random
import sys
import time

from homing import Client, Conversation
from homing.core.retry.readiness import Readiness, Waiter
from homing.core.streaming.sse import EventDecoder


def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def idle(count, turns=20):
    """Hold ``count`` conversations of ``turns`` turns; return the bytes taken and the bytes of their text."""
    client = Client("http://127.0.0.1:1", model="m")

    def saved(number):
        made = []
        for turn in range(turns):
            question, answer = (f"{number} {turn} {who} " for who in "qa")
            messages = [
                {"role": "user", "content": (question * 60)[:300]},
                {"role": "assistant", "content": (answer * 120)[:700]},
            ]
            telemetry = {"verdict": "warm", "prompt_tokens": 300 * turn, "completion_tokens": 200, "duration": 1.5}
            made.append({"messages": messages, "finish_reason": "stop", "telemetry": telemetry})
        return {"format": 1, "system": "You are terse.", "turns": made}

    held = [Conversation.from_dict(client, saved(number)) for number in range(20)]
    gc.collect()
    before = rss()
    held += [Conversation.from_dict(client, saved(number)) for number in range(count)]
    gc.collect()
    return {"bytes": rss() - before, "text": count * turns * 1000, "conversations": count}


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%06d"}}]}\n\n'


def framing(scale):
    """Return, for each shape of input, nanoseconds a byte at a small and an eight times larger size."""

    def fed(pieces):
        decoder = EventDecoder(max_line=1 << 30, max_event=1 << 30)
        size, before = 0, time.process_time()
        for piece in pieces:
            size += len(piece)
            decoder.feed(piece)
        return (time.process_time() - before) / size * 1e9

    def one_line_byte_by_byte(n):
        return itertools.chain([b"data: "], itertools.repeat(b"x", n * 100_000), [b"\n\n"])

    def one_line_in_reads(n):
        return itertools.chain([b"data: "], itertools.repeat(b"x" * 65_536, n * 16), [b"\n\n"])

    def many_events_in_one_read(n):
        return [b"".join(EVENT % i for i in range(n * 15_000))]

    def many_events_byte_by_byte(n):
        whole = b"".join(EVENT % i for i in range(n * 1_500))
        return (whole[i : i + 1] for i in range(len(whole)))

    def one_event_of_many_lines(n):
        return [b"data: x\n" * (n * 20_000) + b"\n"]

    def lines_of_two_carriage_returns(n):
        return itertools.repeat(b"data: x\r\n\r\n", n * 10_000)

    shapes = (
        one_line_byte_by_byte,
        one_line_in_reads,
        many_events_in_one_read,
        many_events_byte_by_byte,
        one_event_of_many_lines,
        lines_of_two_carriage_returns,
    )
    return {shape.__name__: [fed(shape(scale)), fed(shape(8 * scale))] for shape in shapes}


ROUND_TRIP = 0.002


def homing_policy(waiters, ready_at):
    """Drive the real `Readiness` on a simulated clock; return when requests went out and who was served when."""
    readiness, queue, order = Readiness(), [], itertools.count()
    sent, served = [], []
    state = {"now": 0.0}

    def at(when, action):
        heapq.heappush(queue, (when, next(order), action))

    class Caller:
        def __init__(self):
            self.turn = 0
            self.over = False
            self.ticket = Waiter(self.wake)

        def wake(self):
            self.turn += 1
            at(state["now"], lambda turn=self.turn: self.ask(turn))

        def ask(self, turn):
            if self.over or turn != self.turn:
                return
            hold = readiness.ask(self.ticket, state["now"])
            self.turn += 1
            if hold is not None:
                at(state["now"] + hold, lambda turn=self.turn: self.ask(turn))
                return
            sent.append(state["now"])
            at(state["now"] + ROUND_TRIP, lambda ok=state["now"] >= ready_at: self.answered(ok))

        def answered(self, ok):
            if ok:
                readiness.answered(self.ticket, state["now"])
                self.over = True
                served.append(state["now"])
                return
            readiness.not_ready(self.ticket, state["now"])
            self.wake()

    for _ in range(waiters):
        caller = Caller()
        at(random.random() * 0.05, lambda caller=caller: caller.ask(0))
    while queue and len(served) < waiters:
        state["now"], _, action = heapq.heappop(queue)
        action()
    return sent, served


def each_for_itself(gap_of):
    """Return the policy of waiters that know nothing of each other, with their gap after each refusal."""

    def policy(waiters, ready_at):
        sent, served = [], []
        for _ in range(waiters):
            now = random.random() * 0.05
            for tries in itertools.count(1):
                sent.append(now)
                if now >= ready_at:
                    served.append(now + ROUND_TRIP)
                    break
                now += ROUND_TRIP + gap_of(tries)
        return sent, served

    return policy


POLICIES = {
    "homing": homing_policy,
    "seed: 1 s polls": each_for_itself(lambda _: 1.0),
    "polls each 0.25 s": each_for_itself(lambda _: 0.25),
    "tenacity, exponential with jitter": each_for_itself(lambda tries: min(60, 2 ** (tries - 1) + random.random())),
    "openai, unlimited retries": each_for_itself(
        lambda tries: min(0.5 * 2 ** (tries - 1), 8) * (1 - 0.25 * random.random())
    ),
}


def cold(waiters, runs):
    """Simulate every policy at start times from 3 s to 20 min: regret, requests, and the herd on release."""
    random.seed(6)
    found = {}
    for name, policy in POLICIES.items():
        for nominal in (3.0, 10.0, 37.3, 120.0, 600.0, 1200.0):
            worst, means, requests, herds = 0.0, [], [], []
            for _ in range(runs):
                ready_at = nominal + random.random()
                sent, served = policy(waiters, ready_at)
                lost = [when - ready_at for when in served]
                worst = max(worst, *lost)
                means.append(sum(lost) / len(lost))
                requests.append(len(sent))
                herds.append(crowd([when for when in sent if when >= ready_at]) / waiters)
            found.setdefault(name, {})[str(nominal)] = {
                "worst": worst,
                "mean": sum(means) / runs,
                "requests": sum(requests) / runs,
                "herd": max(herds),
            }
    return found


def crowd(times, within=0.01):
    """Return the largest number of ``times`` that lie within that many seconds."""
    times, most, first = sorted(times), 0, 0
    for last, when in enumerate(times):
        while when - times[first] > within:
            first += 1
        most = max(most, last - first + 1)
    return most


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    print(json.dumps({"idle": idle, "framing": framing, "cold": cold}[what](*map(int, numbers))))
