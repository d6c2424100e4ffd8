"""Which HTTP library an object is of, and what that raises."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import httpx
import pytest

from homing._http_library import check_client, http_errors, library_of, read_timeouts
from homing.errors import ConfigurationError

from ..libraries import LIBRARIES


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_object_is_of_the_library_that_its_class_is_from(name: str) -> None:
    library: Any = import_module(name)

    class Mine(library.Client):  # type: ignore[misc]
        pass

    class Odd(library.ReadTimeout):  # type: ignore[misc]
        pass

    with Mine() as client:
        assert library_of(client) is library
        check_client(client, httpx.Client)
    for value in (Odd("late"), library.InvalidURL("no"), library.Response(200), library.MockTransport(print)):
        assert library_of(value) is library
    assert isinstance(Odd("late"), http_errors())
    assert isinstance(Odd("late"), read_timeouts(KeyError))
    assert not isinstance(library.ConnectTimeout("late"), read_timeouts())
    for error in (library.InvalidURL("no"), library.StreamClosed(), library.DecodingError("no"), KeyError("other")):
        assert isinstance(error, http_errors(KeyError))
    assert not isinstance(KeyError("other"), http_errors())


def test_everything_else_is_told_as_httpx_s() -> None:
    assert library_of(OSError("no")) is library_of(None) is httpx


@pytest.mark.parametrize(
    "half", [None, ModuleType("httpx2")], ids=["not to be imported", "about to be imported by another thread"]
)
def test_a_program_without_httpx2(half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", half)
    assert set(http_errors()) == {httpx.HTTPError, httpx.InvalidURL, httpx.StreamError}
    assert set(read_timeouts()) == {httpx.ReadTimeout}


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_no_client_of_the_kind_is_named(name: str) -> None:
    library: Any = import_module(name)
    others = {f"{name}.AsyncClient": library.AsyncClient(), "builtins.type": library.Client, "builtins.int": 5}
    for shown, other in others.items():
        with pytest.raises(ConfigurationError) as caught:
            check_client(other, httpx.Client)
        assert str(caught.value) == (
            f"http_client must be an httpx.Client or an httpx2.Client, got {shown}: pass one of these, or leave it out"
        )
    with library.Client() as client, pytest.raises(ConfigurationError, match=f"httpx2.AsyncClient, got {name}.Client"):
        check_client(client, httpx.AsyncClient)
