"""docs/configure.md: every setting, with the default of the code and a reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from homing_server.presets import PRESETS
from homing_server.pricing import BROAD_REGION, NARROW_REGION
from homing_server.settings import (
    EXIT_BUDGET,
    EXIT_GRACE_CAP,
    EXIT_GRACE_DEFAULT,
    SPECULATION_PAYS_UP_TO,
    ServerSettings,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "configure.md").read_text()


def rows() -> dict[str, tuple[str, str]]:
    """Each setting's default and reason, as the tables have them."""
    found = {}
    for first, default, reason in re.findall(r"^\| (`.+?) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE):
        names = re.findall(r"`(\w+)`", first)
        parts = [part.strip() for part in default.split(",")] if len(names) > 1 else [default]
        for at, name in enumerate(names):
            found[name] = (parts[at] if len(parts) == len(names) else default, reason)
    return found


ROWS = rows()


def test_every_setting_is_there_and_no_other() -> None:
    assert set(ROWS) == set(ServerSettings.model_fields)


@pytest.mark.parametrize("name", ServerSettings.model_fields)
def test_its_default_is_the_codes_and_it_has_a_reason(name: str) -> None:
    default: Any = ServerSettings.model_fields[name].default
    said, reason = ROWS[name]
    assert reason.strip()
    if default is True or default is False:
        assert said.startswith(str(default).lower()) or "preset" in said
    elif isinstance(default, (int, float)):
        assert re.match(rf"{default:g}(?!\d)", said)
    elif isinstance(default, str) and default:
        assert default in said
    elif default is PydanticUndefined:
        assert "preset" in said
    else:  # None, "" or nothing: what happens then is said in words
        assert said


def test_the_numbers_in_its_words_are_the_codes() -> None:
    caps, defaults = EXIT_GRACE_CAP, EXIT_GRACE_DEFAULT
    assert f"caps are {caps['http_server']} and {caps['server']}" in ROWS["exit_grace_period"][1]
    assert ROWS["exit_grace_period"][0] == f"{defaults['http_server']}, on a `server` {defaults['server']}"
    assert ROWS["drain_timeout"][0].startswith(f"{EXIT_BUDGET},")
    assert f"up to about {SPECULATION_PAYS_UP_TO}" in ROWS["target_concurrency"][1]
    assert f"{NARROW_REGION:g} times" in ROWS["compute_region"][1]
    assert f"{BROAD_REGION:g} times" in ROWS["compute_region"][1]


def test_every_preset_is_on_the_deploy_page_with_its_model_and_gpus() -> None:
    page = (DOCS / "deploy.md").read_text()
    model = ""
    for name in PRESETS:
        settings = ServerSettings.of(name)
        (row,) = re.findall(rf"^\| `{re.escape(name)}`.*$", page, re.MULTILINE)
        assert settings.model in row or ("the same" in row and settings.model == model)
        assert f"{settings.gpu_count} × {settings.gpu_type.rstrip('!')}" in row
        model = settings.model
