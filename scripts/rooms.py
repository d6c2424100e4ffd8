"""The client's rooms: the packages, which may import which, and the drawing of it.

    python scripts/rooms.py            write docs/images/rooms.svg
    python scripts/rooms.py --check    fail when an import goes against the map, or the drawing is stale
    python scripts/rooms.py --table    modules and lines of each room, in Markdown

A room may import what it can reach along the arrows. Each arrow stands for an import that is there and that no
other way covers. Generated twins follow their sources and are left out. So are imports for type checkers only,
which never run, and those within functions, which run when an extra is asked for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "client" / "homing"
DRAWING = ROOT / "docs" / "images" / "rooms.svg"

FLOORS = (
    ("testing", "cli", "integrations"),
    ("_async",),
    ("stores", "_http", "", "core.rounds"),
    ("", "", "core.resume", "", "core.conversation", "reply"),
    ("", "core.streaming", "core.request", "core.tools"),
    ("", "core.retry", "", "", "core.affinity", ""),
    ("_concurrency", "core.errors", "core.telemetry", "core.encoding"),
    ("", "core.secrets", "", ""),
    ("", "_http_library", "", ""),
    ("", "errors", "", ""),
    ("core.process", "core.text", "types", ""),
)
"""As they are drawn, from the top; an empty name is an empty place."""

ARROWS = {
    "cli": ("stores",),
    "integrations": ("_async",),
    "_async": ("_http", "core.resume", "core.rounds", "stores"),
    "_http": ("core.retry", "_concurrency"),
    "core.rounds": ("core.conversation", "core.streaming", "reply"),
    "core.resume": ("core.streaming", "core.request"),
    "core.conversation": ("core.request", "core.tools"),
    "reply": ("core.telemetry", "core.tools"),
    "stores": ("errors", "_concurrency"),
    "core.streaming": ("core.errors", "core.telemetry"),
    "core.request": ("core.retry", "core.affinity"),
    "core.tools": ("core.errors", "core.affinity"),
    "core.retry": ("core.telemetry", "core.errors"),
    "core.affinity": ("core.encoding",),
    "core.telemetry": ("errors", "types", "core.process"),
    "core.errors": ("core.secrets",),
    "core.secrets": ("_http_library",),
    "_http_library": ("errors",),
    "core.encoding": ("errors", "types", "core.process"),
    "_concurrency": ("core.process",),
    "errors": ("core.text",),
}
"""Which room imports which, but for what another way covers."""

ROOMS = frozenset(room for floor in FLOORS for room in floor if room)
TWINS = ("_sync",)
FACADE = ("__init__", "_version")
"""The package itself, which hands out names of all rooms when they are asked for."""


def room_of(module: str) -> str | None:
    """Return the room of a module of Homing, such as ``core.retry.policy``; None for the package itself and twins."""
    parts = module.split(".")
    if not module or parts[0] in FACADE or any(part in TWINS for part in parts):
        return None
    return ".".join(parts[:2]) if parts[0] == "core" and len(parts) > 1 else parts[0]


def modules() -> dict[str, Path]:
    """Return the modules below ``homing``, by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports() -> dict[tuple[str, str], list[str]]:
    """Return the arrows there are: from room, to room, and the modules that make them."""
    known = modules()
    found: dict[tuple[str, str], list[str]] = {}
    for name, path in known.items():
        source = room_of(name)
        if source is None or source == "core":
            continue
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        for node in _running(ast.parse(path.read_text())):
            for target in targets_of(node, package):
                room = room_of(target if target in known else target.rpartition(".")[0])
                if room is not None and room not in (source, "core"):
                    found.setdefault((source, room), []).append(name)
    return found


def _running(tree: ast.Module) -> Iterator[ast.ImportFrom]:
    """Yield the imports that run when a module is imported."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Try):
            yield from (inner for inner in node.body if isinstance(inner, ast.ImportFrom))


def targets_of(node: ast.ImportFrom, package: list[str]) -> list[str]:
    """Return what a statement in ``package`` imports from Homing, by name below ``homing``."""
    if node.level:
        base = [*package[: len(package) - node.level + 1], *filter(None, (node.module or "").split("."))]
        return [".".join([*base, alias.name]) for alias in node.names]
    module = node.module or ""
    if module == "homing" or module.startswith("homing."):
        return [f"{module}.{alias.name}".removeprefix("homing.") for alias in node.names]
    return []


def reachable(room: str) -> set[str]:
    """Return what ``room`` may import."""
    found: set[str] = set()
    todo = [room]
    while todo:
        for below in ARROWS.get(todo.pop(), ()):
            if below not in found:
                found.add(below)
                todo.append(below)
    return found


def problems() -> list[str]:
    """Return what is wrong with the imports, or with the map."""
    found = []
    there = imports()
    for (source, target), by in sorted(there.items()):
        if target not in reachable(source):
            found.append(f"{source} may not import {target}: {', '.join(sorted(set(by)))}")
    for source, targets in ARROWS.items():
        for target in targets:
            if (source, target) not in there:
                found.append(f"the arrow {source} -> {target} stands for no import")
            if any(target in reachable(other) for other in targets if other != target):
                found.append(f"the arrow {source} -> {target} is covered by another way")
        if source in reachable(source):
            found.append(f"{source} can reach itself")
    rooms = {room for name in modules() if (room := room_of(name)) not in (None, "core")}
    found += [f"{room} is not on the map" for room in sorted(rooms - ROOMS)]
    found += [f"{room} is on the map and not there" for room in sorted(ROOMS - rooms)]
    return found


WIDTH, HEIGHT, ROW, BOX = 1000, 40, 92, 150


def drawing() -> str:
    """Return the map as an SVG picture."""
    place: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(FLOORS):
        gap = WIDTH / len(floor)
        for position, room in enumerate(floor):
            if room:
                place[room] = (gap * (position + 0.5), 30 + number * ROW)
    total = 30 + len(FLOORS) * ROW - 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" '
        'aria-labelledby="title description" font-family="sans-serif" font-size="14">',
        '  <title id="title">The rooms of the client, and which may import which</title>',
        '  <desc id="description">'
        + escape(" ".join(f"{room} imports {', '.join(below)}." for room, below in ARROWS.items()))
        + "</desc>",
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#37474f"/></marker></defs>',
        f'  <rect width="{WIDTH}" height="{total}" fill="#ffffff"/>',
    ]
    for source, targets in ARROWS.items():
        for target in targets:
            (x, y), (to_x, to_y) = place[source], place[target]
            lines.append(
                f'  <path d="M{x:.0f} {y + HEIGHT:.0f} C{x:.0f} {y + HEIGHT + 40:.0f} {to_x:.0f} {to_y - 40:.0f} '
                f'{to_x:.0f} {to_y:.0f}" fill="none" stroke="#90a4ae" stroke-width="1.4" marker-end="url(#tip)"/>'
            )
    for room, (x, y) in place.items():
        core = room.startswith("core.")
        fill, stroke = ("#e3f2fd", "#1565c0") if core else ("#ffffff", "#546e7a")
        label = "_async, _sync" if room == "_async" else room
        lines += [
            f'  <rect x="{x - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{HEIGHT}" rx="4" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="1.5"/>',
            f'  <text x="{x:.0f}" y="{y + 25:.0f}" text-anchor="middle" fill="#263238">{escape(label)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def table() -> str:
    """Return modules and lines of each room, written by hand, as a Markdown table."""
    sizes = {room: [0, 0] for floor in FLOORS for room in floor if room}
    for name, path in modules().items():
        room = room_of(name)
        text = path.read_text()
        if room in sizes and not text.startswith("# Generated"):
            sizes[room][0] += 1
            sizes[room][1] += len(text.splitlines())
    rows = [f"| `{room}` | {count} | {lines:,} |" for room, (count, lines) in sizes.items()]
    return "\n".join(["| Room | Modules | Lines |", "|---|---:|---:|", *rows])


def main(argv: list[str]) -> int:
    """Write, check or print; return the exit status."""
    if "--table" in argv:
        print(table())
        return 0
    wrong = problems()
    if "--check" in argv:
        if not DRAWING.exists() or DRAWING.read_text() != drawing():
            wrong.append("docs/images/rooms.svg is stale: run `python scripts/rooms.py`")
    else:
        DRAWING.write_text(drawing())
    for problem in wrong:
        print(problem)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
