"""Every exception crosses what exceptions cross: pickle, copy, processes, job queues. A new one is tried at once."""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import inspect
import json
import multiprocessing
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import homing
import homing_server.process
from homing import errors
from homing.core.telemetry.measurements import Telemetry
from homing.testing import Edge, EdgeSettings, Fault
from homing.types import ChatCompletion

PATIENCE = 60.0
"""Seconds until a worker counts as lost. A spawned one imports everything anew."""

CONTEXTS = [name for name in ("spawn", "fork", "forkserver") if name in multiprocessing.get_all_start_methods()]
JSON = {"error": {"message": "no", "code": "c", "param": "p", "type": "t"}}


def completion() -> ChatCompletion:
    message = {"role": "assistant", "content": "so far", "reasoning_content": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    return ChatCompletion.model_validate({"id": "i", "created": 1, "model": "m", "choices": [choice]})


def reply() -> homing.Reply[None]:
    return homing.Reply({"role": "assistant", "content": "so far"}, "stop", Telemetry("cold"), completion())


def response() -> httpx.Response:
    request = httpx.Request("POST", "http://h/v1/chat/completions", headers={"X-Key": "[hidden]"})
    return httpx.Response(418, headers={"x-request-id": "r1"}, json=JSON, request=request)


ARGUMENTS: dict[str, Callable[[], Any]] = {
    "message": lambda: "what to do",
    "status_code": lambda: 418,
    "response": response,
    "body": lambda: JSON,
    "partial": completion,
    "completion": completion,
    "waited": lambda: 1.5,
    "attempts": lambda: 3,
    "last": lambda: errors.RateLimitError("full", status_code=429, body=JSON),
    "expected": lambda: 4,
    "found": lambda: 5,
    "returncode": lambda: 9,
    "argv": lambda: ["engine", "--flag"],
    "tail": lambda: ("last", "lines"),
    "ignores": lambda: True,
}
"""How to make one: each argument that an exception's constructor takes, by its name."""


def exceptions() -> Iterator[type[BaseException]]:
    """Yield what our packages define, as far as it can be imported here."""
    found: dict[str, type[BaseException]] = {}
    for package in (homing, homing_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            try:
                members = vars(importlib.import_module(module.name))
            except (ImportError, errors.ConfigurationError):
                continue  # an extra that is not installed
            for kind in members.values():
                if not isinstance(kind, type) or not issubclass(kind, BaseException) or kind.__module__ != module.name:
                    continue
                # The edge's own signals never leave it.
                if issubclass(kind, errors.HomingError) or not module.name.startswith("homing_server.local"):
                    found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    yield from found.values()


KINDS = list(exceptions())
OURS = [kind for kind in KINDS if issubclass(kind, errors.HomingError)]


def made(kind: type[BaseException]) -> BaseException:
    """Make one with everything that it can hold."""
    signature = inspect.signature(kind.__init__)
    names = {parameter.name for parameter in signature.parameters.values()}
    named = {name: make() for name, make in ARGUMENTS.items() if name in names}
    if "args" in names:  # Exception's own
        error = kind("what to do")
    else:
        positional = [named.pop(p.name) for p in signature.parameters.values() if p.name in named and p.kind == 1]
        error = kind(*positional, **named)
    if isinstance(error, errors.HomingError):
        error.messages = ({"role": "user", "content": "q"},)
    if hasattr(kind, "reply"):
        error.reply = reply()  # type: ignore[attr-defined]
    error.__notes__ = ["a note"]  # type: ignore[attr-defined]  # as add_note does, which 3.10 lacks
    return error


def told(value: Any) -> Any:
    """Return what there is to compare of a field."""
    if isinstance(value, BaseException):
        return (type(value), str(value), repr(value), value.args, {k: told(v) for k, v in vars(value).items()})
    if isinstance(value, httpx.Response):
        return (value.status_code, value.headers, value.text, told(value.request))
    if isinstance(value, httpx.Request):
        return (value.method, str(value.url), value.headers)
    return value


def test_the_tree_is_found() -> None:
    assert {errors.BadRequestError, errors.StoreError, homing_server.process.EngineDied} <= set(KINDS)
    assert len(KINDS) > 40


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_pickle_and_copy(kind: type[BaseException]) -> None:
    error = made(kind)
    before = told(error)
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    twins += [copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(copy.copy(error)))]
    for twin in twins:
        assert twin is not error
        assert told(twin) == before
        with pytest.raises(kind):
            raise twin


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_queue_that_keeps_class_and_args_only(kind: type[errors.HomingError]) -> None:
    """As celery's JSON results: ``kind(*args)``."""
    error = made(kind)
    row = json.dumps({"module": kind.__module__, "type": kind.__name__, "args": error.args})
    read = json.loads(row)
    twin = getattr(importlib.import_module(read["module"]), read["type"])(*read["args"])
    assert (type(twin), str(twin)) == (kind, str(error))
    assert vars(error).keys() - {"messages", "reply", "__notes__"} <= vars(twin).keys() | {"status_code"}
    if isinstance(twin, (errors.APIError, errors.FinishReasonError)):
        assert twin.partial_text == ""


def test_the_status_is_known_by_the_class() -> None:
    kinds = {errors.BadRequestError: 400, errors.RateLimitError: 429, errors.InternalServerError: 500}
    assert {kind: kind("as a queue made it").status_code for kind in kinds} == kinds


def test_an_error_of_ones_own() -> None:
    error = pickle.loads(pickle.dumps(Mine("b", size=3)))
    assert (type(error), str(error), error.size) == (Mine, "b is too much", 3)


class Mine(errors.APIError):
    """A user's own, with a constructor that is not its base's."""

    def __init__(self, what: str, *, size: int) -> None:
        super().__init__(f"{what} is too much")
        self.size = size


def raise_one(number: int) -> None:
    raise made(KINDS[number])


def ask(url: str) -> str:
    with homing.Client(url, max_retries=0, cold_start_timeout=0) as client:
        return client.conversation().send("Hello?").text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("start", CONTEXTS)
def test_processes(start: str) -> None:
    context = multiprocessing.get_context(start)
    with Edge(EdgeSettings.instant()) as edge, concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        for number, kind in enumerate(KINDS):
            if issubclass(kind, Exception):  # what is not, ends a worker
                error = executor.submit(raise_one, number).exception(PATIENCE)
                assert error is not None
                error.__cause__ = None  # where the executor puts the worker's traceback
                assert told(error) == told(made(kind))
        edge.inject(Fault.answer(400, json.dumps(JSON), content_type="application/json"))
        with pytest.raises(errors.BadRequestError) as caught:
            executor.submit(ask, edge.url).result(PATIENCE)
        assert (caught.value.status_code, caught.value.code, caught.value.body) == (400, "c", JSON)
        assert caught.value.request is not None
        assert str(caught.value.request.url) == f"{edge.url}/v1/chat/completions"
        assert caught.value.response is not None
        assert caught.value.response.json() == JSON
        assert executor.submit(len, "abc").result(PATIENCE) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("start", CONTEXTS)
def test_a_pool(start: str) -> None:
    with multiprocessing.get_context(start).Pool(1) as pool:
        for kind in (errors.BadRequestError, errors.ColdStartTimeout, errors.MaxRoundsExceeded, errors.VersionConflict):
            with pytest.raises(kind) as caught:
                pool.apply_async(raise_one, (KINDS.index(kind),)).get(PATIENCE)
            assert told(caught.value) == told(made(kind))


def test_what_does_not_travel_says_what_to_do_instead() -> None:
    with homing.Client("http://h") as client:
        chat = client.conversation()
        ways: list[Callable[[Any], Any]] = [pickle.dumps, copy.deepcopy, copy.copy]
        for way in ways[:2]:
            with pytest.raises(TypeError, match="make one in each process"):
                way(client)
        for way in ways:
            with pytest.raises(TypeError, match="to_dict"):
                way(chat)
        assert copy.copy(client).base_url == client.base_url
