"""Compare the definitions of two trees as syntax trees, modulo the renames in renames.json.

    python scripts/compare_trees.py BEFORE AFTER [FOLDER...]

Moves don't count: every definition of BEFORE must be found once in AFTER, in whatever module. Docstrings, comments,
layout, imports, the order of slots and generated twins are left out. Two names that the table makes one are one
name. Prints the definitions that are on one side only, and exits with 1 if there are any.
"""

from __future__ import annotations

import ast
import collections
import json
import sys
from pathlib import Path

RENAMES: dict[str, list[str]] = json.loads((Path(__file__).parent / "renames.json").read_text())
FOLDERS = ["client", "server"]


def groups() -> dict[str, str]:
    """Return one representative for each name that was renamed, or that another was renamed to."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.get(name, name) != name:
            name = parent[name]
        return name

    for old, renamed in RENAMES.items():
        for new in renamed:
            parent[find(old)] = find(new)
    return {name: find(name) for name in {*RENAMES, *(new for renamed in RENAMES.values() for new in renamed)}}


SAME = groups()


class Normal(ast.NodeTransformer):
    """Rewrites a tree so that those which mean the same are equal."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Give names their representatives; drop docstrings and imports."""
        for field in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                setattr(node, field, SAME.get(name, name))
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [one for one in statements if not _counts_for_nothing(one)])
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.rpartition(".")[2] if node.value.startswith("homing.") else node.value
            node.value = SAME.get(name, name)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            super().generic_visit(node)
            if isinstance(node.value, ast.Tuple):
                node.value.elts.sort(key=ast.dump)
            return node
        return super().generic_visit(node)


def _counts_for_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, (ast.Import, ast.ImportFrom))


def definitions(root: Path, folder: str) -> dict[str, list[str]]:
    """Return the places of each definition in the modules below a folder."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted((root / folder).rglob("*.py")):
        text = path.read_text()
        if text.startswith("# Generated"):
            continue
        for node in ast.parse(text).body:
            if not _counts_for_nothing(node):
                place = f"{path.relative_to(root)}:{node.lineno} {getattr(node, 'name', '')}".rstrip()
                found[ast.dump(Normal().visit(node))].append(place)
    return found


def main(argv: list[str]) -> int:
    """Compare; return the exit status."""
    before, after, *folders = argv
    different = 0
    for folder in folders or FOLDERS:
        old, new = definitions(Path(before), folder), definitions(Path(after), folder)
        for sign, mine, others in (("-", old, new), ("+", new, old)):
            for definition, places in mine.items():
                for place in places[len(others.get(definition, ())) :]:
                    print(sign, place)
                    different += 1
        print(f"{folder}: {sum(map(len, old.values()))} definitions before, {sum(map(len, new.values()))} after")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
