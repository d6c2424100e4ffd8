"""A run's results as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .goals import Verdict
from .results import Results

TABLES: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "events",
        "CPU per streamed event, µs",
        [
            ("sync", "event.sync.flat"),
            ("sync, a write each", "event.sync.each"),
            ("sync, 1,000/s", "event.sync.paced"),
            ("async", "event.async.flat"),
            ("async, a write each", "event.async.each"),
            ("async, 1,000/s", "event.async.paced"),
        ],
    ),
    (
        "streams",
        "Many streams in one process",
        [
            ("300 × 50/s: CPU of one core", "streams.300.share"),
            ("µs an event", "streams.300.each"),
            ("p50, ms", "streams.300.p50"),
            ("p99, ms", "streams.300.p99"),
            ("500 × 50/s: CPU", "streams.500.share"),
            ("µs an event", "streams.500.each"),
            ("handled", "streams.500.handled"),
            ("p99, ms", "streams.500.p99"),
            ("100 flat out: events per CPU second", "streams.flood.rate"),
        ],
    ),
    (
        "requests",
        "One request",
        [
            ("sync, µs CPU", "request.sync"),
            ("async, µs CPU", "request.async"),
            ("10 messages, ms", "history.10"),
            ("100 messages, ms", "history.100"),
            ("1,000 messages, ms", "history.1000"),
        ],
    ),
    (
        "concurrency",
        "64 requests at once",
        [
            ("requests/s", "concurrency.rate"),
            ("requests per CPU second", "concurrency.per_cpu"),
            ("p50, ms", "concurrency.p50"),
            ("p99, ms", "concurrency.p99"),
        ],
    ),
    (
        "import",
        "Import and size",
        [
            ("import, ms CPU", "import.cpu"),
            ("MiB", "import.memory"),
            ("first client, ms CPU", "first_client.cpu"),
            ("MiB", "first_client.memory"),
            ("installed, MB", "installed"),
        ],
    ),
    (
        "memory",
        "Memory",
        [
            ("an open stream, KiB", "memory.stream"),
            ("a conversation of 20 turns, KiB", "memory.conversation"),
            ("the same over its text", "memory.idle"),
        ],
    ),
    (
        "cold",
        "A real cold start, 200 waiters",
        [
            ("mean regret, s", "cold.real.mean"),
            ("worst, s", "cold.real.worst"),
            ("requests", "cold.real.requests"),
            ("failed", "cold.real.failed"),
        ],
    ),
]
STARTS = ("3.0", "10.0", "37.3", "120.0", "600.0", "1200.0")
TABLES.append(
    (
        "simulated",
        "Simulated cold starts, 200 waiters: mean regret, s, and requests",
        [
            (f"{float(start):g} s{what}", f"cold.simulated.{start}.{name}")
            for start in STARTS
            for what, name in (("", "mean"), (": requests", "requests"))
        ],
    )
)


def number(value: float | None) -> str:
    """Write a figure with three digits."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(results: Results, columns: Sequence[tuple[str, str]]) -> str:
    """Return medians with, in brackets, how many times Homing's they are."""
    peers = list(dict.fromkeys(peer for _, figure in columns for peer in results.peers(figure)))
    columns = [column for column in columns if results.peers(column[1])]

    def cell(figure: str, peer: str) -> str:
        times = results.ratio(figure, peer, "homing")
        shown = number(results.median(figure, peer))
        return shown if times is None or peer == "homing" else f"{shown} ({times:.2g}×)"

    rows = ([peer, *(cell(figure, peer) for _, figure in columns)] for peer in peers)
    return table(["", *(title for title, _ in columns)], rows)


def framing(results: Results) -> str:
    shapes = [figure.split(".")[1] for figure in results.values if figure.endswith(".growth")]
    rows = [
        [
            shape.replace("_", " "),
            *(number(results.least(f"framing.{shape}.{size}", "homing")) for size in ("small", "large", "growth")),
        ]
        for shape in shapes
    ]
    return table(["ns a byte (least of the rounds)", "at a size", "at 8 times that", "growth"], rows) if rows else ""


def goals(verdicts: Iterable[Verdict]) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [
        [
            str(verdict.goal.number),
            verdict.goal.text,
            f"{'≥' if verdict.goal.at_least else '≤'} {number(verdict.goal.limit)}",
            number(verdict.value),
            words[verdict.met],
        ]
        for verdict in verdicts
    ]
    return table(["goal", "", "limit", "measured", ""], rows)


def about(results: Results) -> str:
    known = results.about
    loads = f"{known['load_before']} before, {known.get('load_after', '–')} after"
    lines = [
        f"{known['date']}, Python {known['python']}, {known['machine']}; load average {loads}; "
        f"{known.get('server', '')}; medians of {known.get('rounds', '?')} interleaved rounds, "
        "a figure in brackets is the multiple of Homing's.",
        "",
    ]
    for environment, versions in sorted(known["versions"].items()):
        packages = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "python")
        lines.append(f"- {environment}: {packages}")
    return "\n".join(lines)


def sections(results: Results, verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Return each part of the report by its name."""
    parts = {"about": about(results), "goals": goals(verdicts)}
    for name, _, columns in TABLES:
        if any(results.peers(figure) for _, figure in columns):
            parts[name] = figures(results, columns)
    parts["framing"] = framing(results)
    if results.failures:
        parts["failures"] = "\n".join(f"- {what}: {why}" for what, why in results.failures.items())
    return parts


def whole(results: Results, verdicts: Iterable[Verdict]) -> str:
    """Return the report as a page of its own."""
    titles = {name: title for name, title, _ in TABLES} | {"about": "The run", "goals": "Goals", "framing": "Framing"}
    parts = sections(results, verdicts)
    return "\n\n".join(f"## {titles.get(name, name)}\n\n{text}" for name, text in parts.items() if text) + "\n"


def publish(page: Path, parts: dict[str, str]) -> None:
    """Put the parts into ``page``, between ``<!-- name -->`` and ``<!-- end -->``."""
    text = page.read_text()
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)  # an empty place has no line between
        text = pattern.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)
    page.write_text(text)
