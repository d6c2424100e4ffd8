"""The two clients offer the same: methods, signatures, properties, documentation.

Most of the sync client is generated, so this holds what a generator cannot see: modules that
are written by hand twice, and rewriting rules that miss a name.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import homing

HOME = Path(homing.__file__).parent
MODULES = sorted(path.stem for path in (HOME / "_async").glob("*.py") if path.stem not in ("__init__", "network"))
"""``network`` is each side's own: sockets with threads need what an event loop brings."""


def pair(name: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"homing._async.{name}"), importlib.import_module(f"homing._sync.{name}")


def plain(name: str) -> str:
    """Return what the sync side calls it."""
    name = re.sub(r"\bAsync([A-Z])", r"\1", name)
    name = re.sub(r"\bAwaitable\[(\w+)\]", r"\1", name)
    name = {"aclose": "close", "async_transport": "transport", "handle_async_request": "handle_request"}.get(name, name)
    return re.sub(r"^__a(enter|exit|iter|next)__$", r"__\1__", name)


def offered(thing: type | ModuleType) -> dict[str, Any]:
    """Return what is public in a class or a module, and its special methods, by their sync names."""
    special = {"__init__", "__call__", "__repr__", "__aenter__", "__aexit__", "__aiter__", "__anext__"}
    special |= {plain(name) for name in special} | {"_repr_markdown_"}
    found = {}
    for name, value in vars(thing).items():
        if isinstance(thing, ModuleType) and getattr(value, "__module__", None) != thing.__name__:
            continue  # imported from elsewhere
        if not name.startswith("_") or name in special:
            found[plain(name)] = value
    return found


def ours(kind: type) -> list[str]:
    """Return the names of those base classes that are our own."""
    return [base.__name__ for base in kind.__mro__ if base.__module__.startswith("homing")]


def shape(value: Any) -> object:
    """Return what two twins must have in common."""
    if isinstance(value, property):
        return "property", shape(value.fget)
    if isinstance(value, (classmethod, staticmethod)):
        return type(value).__name__, shape(value.__func__)
    if callable(value) and not isinstance(value, type):
        return plain(str(inspect.signature(value)))
    return type(value)


def twins() -> list[Any]:
    """Return every public class of both sides with its name, in pairs."""
    found = []
    for name in MODULES:
        one, other = (offered(module) for module in pair(name))
        found += [
            pytest.param(one[key], other.get(key), id=f"{name}.{key}") for key in one if isinstance(one[key], type)
        ]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_both_sides_have_the_same_classes_and_functions(name: str) -> None:
    one, other = (offered(module) for module in pair(name))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert shape(value) == shape(other[key]), key


@pytest.mark.parametrize(("one", "other"), twins())
def test_both_classes_offer_the_same(one: type, other: type) -> None:
    mine, theirs = offered(one), offered(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert shape(value) == shape(theirs[name]), name
    assert [plain(name) for name in ours(one)] == ours(other)


@pytest.mark.parametrize(("one", "other"), twins())
def test_nothing_on_the_sync_side_is_to_be_awaited(one: type, other: type) -> None:
    for name, value in offered(other).items():
        assert not inspect.iscoroutinefunction(value), name
        assert not inspect.isasyncgenfunction(value), name
    assert not {name for name in vars(other) if re.match(r"__a(enter|exit|iter|next)__", name)}


def test_every_public_class_of_one_side_is_public_on_the_other() -> None:
    names = {name for name in homing.__all__ if name.startswith("Async")}
    wanted = {"AsyncClient", "AsyncConversation", "AsyncReplyStream", "AsyncRunStream", "AsyncStream"}
    assert names >= wanted
    for name in names:
        assert plain(name) in homing.__all__
        assert getattr(homing, name).__name__ == name
        assert getattr(homing, plain(name)).__module__.startswith("homing._sync.")


def test_both_clients_lead_to_the_same_places() -> None:
    one, other = homing.AsyncClient("http://127.0.0.1:9"), homing.Client("http://127.0.0.1:9")
    places: list[Callable[[Any], Any]] = [
        lambda client: client,
        lambda client: client.chat,
        lambda client: client.chat.completions,
        lambda client: client.chat.completions.with_raw_response,
        lambda client: client.models,
        lambda client: client.conversation(),
        lambda client: client.conversation().stream("Hi"),
        lambda client: client.conversation().run_stream("Hi"),
        lambda client: client.chat.completions.stream(messages=[{"role": "user", "content": "Hi"}]),
    ]
    for place in places:
        mine, theirs = place(one), place(other)
        assert plain(type(mine).__name__) == type(theirs).__name__
        assert {name for name in vars(mine) if name[0] != "_"} == {name for name in vars(theirs) if name[0] != "_"}
    other.close()


def test_the_mapping_of_names() -> None:
    names = {
        "AsyncIterator[AsyncX]": "Iterator[X]",
        "Awaitable[T]": "T",
        "aclose": "close",
        "__anext__": "__next__",
        "aside": "aside",
    }
    assert {name: plain(name) for name in names} == names
