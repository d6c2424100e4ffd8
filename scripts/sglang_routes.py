"""Every route that SGLang's HTTP servers have, version by version, read from the sources of its wheels.

    python scripts/sglang_routes.py         write tests/server/sglang_routes.json

One `METHOD /path` each, `*` for an app that is mounted (it sees every method), `WEBSOCKET` for
a websocket. All of `sglang.srt` is read, whatever flag or variable a route depends on. A route
that is declared in a way that cannot be read ends the script: none may be missed. The file is for
`make test`, which has no network; `make test-modal` reads the wheels again and compares.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from sglang_options import ROOT, VERSIONS, sources

FIXTURE = ROOT / "tests" / "server" / "sglang_routes.json"

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
# Other ways to declare a route; SGLang uses none of them on an app that it serves.
UNUSED = ("mount", "host", "route", "add_route", "add_api_route", "websocket_route", "add_websocket_route")
# FastAPI's own, there unless DISABLE_OPENAPI_DOC is set. Starlette adds HEAD to each.
OWN = [f"{method} {path}" for path in ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
       for method in ("GET", "HEAD")]  # fmt: skip


class Unreadable(Exception):
    pass


def path_of(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """The path, a literal or the default of an environment variable: SGLang sets none of those."""
    if isinstance(node, ast.Name) and node.id in constants:
        node = constants[node.id]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
        node = node.args[1] if len(node.args) > 1 else ast.Constant("/")  # Ollama's root, shadowed by SGLang's own
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise Unreadable(ast.unparse(node))


def declared(call: ast.Call, constants: dict[str, ast.expr]) -> Iterator[str]:
    """What one call declares: `@app.get("/x")`, `@app.api_route("/x", methods=[…])`, `Mount("/x", …)`."""
    if isinstance(call.func, ast.Name) and call.func.id == "Mount":
        yield f"* {path_of(call.args[0], constants)}"
        return
    if not isinstance(call.func, ast.Attribute):
        return
    owner, how = ast.unparse(call.func.value), call.func.attr
    if owner.rpartition(".")[2] != "app" and not owner.endswith("router"):
        return
    if how in METHODS:
        yield f"{how.upper()} {path_of(call.args[0], constants)}"
    elif how == "websocket":
        yield f"WEBSOCKET {path_of(call.args[0], constants)}"
    elif how == "api_route":
        (methods,) = [keyword.value for keyword in call.keywords if keyword.arg == "methods"]
        for method in ast.literal_eval(methods):
            yield f"{method} {path_of(call.args[0], constants)}"
    elif how in UNUSED or (how == "include_router" and call.keywords):  # a prefix, for instance
        raise Unreadable(ast.unparse(call))


def in_file(file: Path) -> set[str]:
    """The routes that one module declares; none without FastAPI or Starlette (aiohttp's have ports of their own)."""
    text = file.read_text()
    if "fastapi" not in text and "starlette" not in text:
        return set()
    tree = ast.parse(text)
    constants = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    try:
        return {one for node in ast.walk(tree) if isinstance(node, ast.Call) for one in declared(node, constants)}
    except Unreadable as unreadable:
        raise SystemExit(f"{file}: cannot read this route: {unreadable}") from None


def routes(version: str) -> list[str]:
    """Every route of a version, by path."""
    found = set(OWN)
    for file in sorted((sources(version) / "sglang" / "srt").rglob("*.py")):
        found |= in_file(file)
    return sorted(found, key=lambda route: route.split()[::-1])


def text() -> str:
    """The whole file, a route a line."""
    return json.dumps({version: routes(version) for version in VERSIONS}, indent=1) + "\n"


if __name__ == "__main__":
    FIXTURE.write_text(text())
