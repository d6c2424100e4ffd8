"""The command: runs the load with and without affinity and shows the results."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from homing import AsyncClient, HeaderAffinity, Hooks

from ...core.text.control_characters import one_line
from ..changes import parse_changes
from ..connection import Server, server_argument
from ..output import columns, say
from ..progress import WaitLine
from ..wait import TIMEOUT
from .comparison import NAMES, conclusion, mistakes, side_by_side
from .figures import Measured, reports_cache, summarise
from .load import Load, Shape
from .plots import check_plot, plot

SIDES = {"both": ("affinity", "none"), "on": ("affinity",), "off": ("none",)}
TURN_TIMEOUT = 300.0
"""Seconds for one turn. A late response from an overloaded server is a finding, but the wait must end."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 plus the number of SIGINT, as in shells."""


@click.command()
@server_argument
@click.option("--affinity", type=click.Choice(list(SIDES)), default="both", show_default=True, help="With, without.")
@click.option("--header", help="Send the key in this header instead of Modal's, such as X-SMG-Routing-Key.")
@click.option("--conversations", default=16, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--at-once", type=click.IntRange(1), help="Most of them at the same time; default: all.")
@click.option("--turns", default=4, show_default=True, type=click.IntRange(1), help="Of each conversation.")
@click.option("--system-tokens", default=200, show_default=True, type=click.IntRange(0), help="System prompt of all.")
@click.option("--user-tokens", default=150, show_default=True, type=click.IntRange(1), help="What a user says.")
@click.option("--reply-tokens", default=64, show_default=True, type=click.IntRange(1), help="Limit of a reply.")
@click.option("--think", nargs=2, type=click.FloatRange(0), default=(0.1, 0.5), show_default=True, help="Seconds.")
@click.option("--ramp", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds to begin all in.")
@click.option("--repeats", default=1, show_default=True, type=click.IntRange(1), help="Of the whole, in turn.")
@click.option("--warm-up", default=2, show_default=True, type=click.IntRange(0), help="Conversations not measured.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Parameter of the model; repeat it.")
@click.option("--seed", help="Say the words of an earlier run again; its caches may still hold them.")
@click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait for a cold server.")
@click.option("--plot", "plots", multiple=True, type=click.Path(path_type=Path, dir_okay=False), help="PNG or SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def bench(
    server: Server,
    affinity: str,
    header: str | None,
    at_once: int | None,
    repeats: int,
    warm_up: int,
    changes: tuple[str, ...],
    seed: str | None,
    timeout: float,
    plots: tuple[Path, ...],
    as_json: bool,
    **lengths: Any,
) -> None:
    """Load any OpenAI-compatible server at URL with conversations, with and without affinity.

    Each conversation sends turn after turn; its prompt grows by what was said. Every run has other words of
    the same length, so that nobody profits from what another left in the caches. Replies may be shorter than
    --reply-tokens; SGLang and vLLM fill them with --set ignore_eos=true. Exits with 1 if a turn failed.
    """
    for path in plots:
        check_plot(path)
    comparison = Comparison(
        server,
        Shape(**lengths, at_once=at_once),
        sides=SIDES[affinity],
        header=header,
        params={"temperature": 0, **parse_changes(changes)},
        seed=seed or secrets.token_hex(4),
        timeout=timeout,
    )
    with _bar(comparison.turns * repeats) as advance, contextlib.suppress(KeyboardInterrupt):
        # After Ctrl-C, the results so far are shown.
        asyncio.run(comparison.measure(repeats=repeats, warm_up=warm_up, advance=advance))
    result = comparison.result()
    if not result["runs"]:
        raise click.exceptions.Exit(INTERRUPTED)
    for path in plots:
        plot(result, path)
    _show(result, as_json=as_json)
    if len(result["runs"]) < repeats * len(comparison.sides):
        raise click.exceptions.Exit(INTERRUPTED)
    if any(figures["failed"] for figures in result["sides"].values()):
        raise click.exceptions.Exit(1)


@dataclass
class Comparison:
    """The same load under several routing policies, and the measurements."""

    server: Server
    shape: Shape
    sides: tuple[str, ...]
    header: str | None
    params: dict[str, Any]
    seed: str
    timeout: float
    url: str = ""
    _runs: list[tuple[str, int, list[Measured], float]] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """Number of turns in one repeat."""
        return self.shape.conversations * self.shape.turns * len(self.sides)

    async def measure(self, *, repeats: int, warm_up: int, advance: Callable[[Measured, str], None]) -> None:
        """Wake the server, warm it up, and run every side in every repeat, in alternating order."""
        line = WaitLine()
        async with self._client("none", hooks=Hooks(on_wait=line)) as client:
            self.url = client.base_url
            await client.wait_until_ready(self.timeout)
            line.clear()
            if warm_up:
                shape = {**asdict(self.shape), "conversations": warm_up, "turns": min(self.shape.turns, 2)}
                await Load(Shape(**shape), seed=f"{self.seed} warm-up", params=self.params).run(client)
        for repeat in range(repeats):
            for side in self.sides if repeat % 2 == 0 else self.sides[::-1]:
                load = Load(self.shape, seed=f"{self.seed} {repeat} {side}", params=self.params)
                async with self._client(side) as client:
                    turns, wall = await load.run(
                        client,
                        on_turn=lambda turn, name=NAMES[side]: advance(turn, name),  # type: ignore[misc]
                    )
                self._runs.append((side, repeat, turns, wall))

    def result(self) -> dict[str, Any]:
        """Return the figures of each run, and of all runs of each side together."""
        reported = reports_cache(turn for _, _, turns, _ in self._runs for turn in turns)
        replicas = sorted({t.replica for _, _, turns, _ in self._runs for t in turns if t.replica is not None})
        runs = [
            {
                "policy": side,
                "repeat": repeat,
                "figures": summarise(turns, wall=wall, replicas=replicas, reported=reported),
            }
            for side, repeat, turns, wall in self._runs
        ]
        together = {}
        for side in dict.fromkeys(side for side, *_ in self._runs):
            mine = [(turns, wall) for name, _, turns, wall in self._runs if name == side]
            numbered = _numbered([turns for turns, _ in mine])
            wall = sum(wall for _, wall in mine)
            together[side] = summarise(numbered, wall=wall, replicas=replicas, reported=reported)
        shape = self.shape
        return {
            "title": f"{self.url}: {shape.conversations} conversations × {shape.turns} turns",
            "url": self.url,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seed": self.seed,
            "load": asdict(shape),
            "params": self.params,
            "sides": together,
            "runs": runs,
        }

    def _client(self, side: str, **settings: Any) -> AsyncClient:
        affinity: Any = "none" if side == "none" else "prefix" if self.header is None else HeaderAffinity(self.header)
        return self.server.async_client(affinity=affinity, timeout=TURN_TIMEOUT, **settings)


def _numbered(runs: list[list[Measured]]) -> list[Measured]:
    """Return the turns of all runs, with distinct conversation numbers for different runs."""
    found = []
    for number, turns in enumerate(runs):
        for turn in turns:
            values = {name: getattr(turn, name) for name in turn.__slots__}
            found.append(Measured(**{**values, "conversation": turn.conversation * len(runs) + number}))
    return found


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(result, indent=1))
        return
    say(result["title"])
    say()
    for number, line in enumerate(columns(side_by_side(result["sides"]))):
        say(line, bold=number == 0)
    said = conclusion(result["sides"])
    for line in ["", *said] if said else ():
        say(line)
    for mistake in mistakes(result["sides"].values()):
        say(one_line(mistake), fg="red", err=True)


@contextlib.contextmanager
def _bar(turns: int) -> Iterator[Callable[[Measured, str], None]]:
    """Show progress on standard error if that is a terminal."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda turn, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description:<13}")
    parts = (text, BarColumn(), MofNCompleteColumn(), TextColumn("turns"), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("waking up", total=turns)
        yield lambda turn, name: progress.update(task, advance=1, description=name)
