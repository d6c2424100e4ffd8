"""One run of the bench: a server, the peers in turn, and what they gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .environments import PEERS, python
from .results import Results
from .workers import Failed, Workers, complain

Figure = Callable[[Any], float | None]


@dataclass
class Bench:
    """``origin`` is the loopback server's; ``cpu`` the one for the workers; ``quick`` asks for less of everything."""

    origin: str
    cpu: str | None = None
    quick: bool = False
    rounds: int = 9
    only: frozenset[str] = frozenset()
    results: Results = field(default_factory=Results)

    def chosen(self, peers: Sequence[str]) -> list[str]:
        """Return those of ``peers`` that take part in this run. (litellm alone would take half of a quick one.)"""
        only = self.only or {PEERS[peer].environment for peer in PEERS} - ({"litellm"} if self.quick else set())
        return [peer for peer in peers if peer.partition(",")[0] in only]

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """Lend fresh processes for one section."""
        with Workers(self.origin, self.cpu) as workers:
            yield workers

    def interleave(
        self,
        workers: Workers,
        title: str,
        peers: Sequence[str],
        order: Mapping[str, Any],
        figures: Mapping[str, Figure],
        *,
        rounds: int | None = None,
        warm_up: Mapping[str, Any] | None = None,
    ) -> None:
        """Let the peers do ``order`` in turn, ``rounds`` times, and note the ``figures`` of each answer.

        Each is warmed up once with ``warm_up``, or the order itself. Who fails is dropped, and said so.
        """
        began = time.perf_counter()
        peers = self.chosen(peers)
        for peer in list(peers):
            try:
                worker = workers.of(peer)
                self.results.about["versions"].setdefault(PEERS[peer].environment, worker.do("versions"))
                worker.do(**{**order, **(warm_up or {})})
            except Failed as failure:
                peers.remove(peer)
                self._failed(title, peer, failure)
        for turn in range(rounds or self.rounds):
            for peer in _rotated(peers, turn):
                try:
                    answer = workers.of(peer).do(**order)
                except Failed as failure:
                    peers.remove(peer)
                    self._failed(title, peer, failure)
                    continue
                for figure, value_of in figures.items():
                    value = value_of(answer)
                    if value is not None:
                        self.results.add(figure, peer, value)
        complain(f"  {title}: {time.perf_counter() - began:.0f} s")

    def make_environments(self, peers: Sequence[str]) -> None:
        """Make what is missing before anything is measured."""
        for environment in sorted({PEERS[peer].environment for peer in self.chosen(peers)}):
            python(environment)

    def _failed(self, title: str, peer: str, failure: Failed) -> None:
        self.results.failures[f"{title}: {peer}"] = str(failure)
        complain(f"  {title}: {peer} failed: {failure}")


def _rotated(peers: Sequence[str], by: int) -> list[str]:
    return [*peers[by % max(1, len(peers)) :], *peers[: by % max(1, len(peers))]]
