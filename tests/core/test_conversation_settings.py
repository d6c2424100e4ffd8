"""What is saved beside the turns comes back, and a layout that we do not know is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from homing.core.conversation import settings as header_module
from homing.core.conversation.settings import ConversationSettings, upgraded
from homing.core.conversation.transcript import FORMAT
from homing.errors import ConfigurationError

JSON = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none() | st.booleans(), max_size=3)
KEY = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(
    st.builds(
        ConversationSettings,
        KEY,
        system=st.none() | st.text(max_size=9),
        model=st.none() | st.text(max_size=9),
        defaults=st.fixed_dictionaries({}, optional={"temperature": st.floats(0, 2), "tools": st.lists(JSON)}),
        metadata=JSON,
        other=st.fixed_dictionaries({}, optional={"novelty": JSON}),
    )
)
def test_what_was_saved_comes_back(header: ConversationSettings) -> None:
    saved = json.loads(json.dumps(header.to_dict()))
    assert saved["format"] == FORMAT
    assert ConversationSettings.from_dict(saved) == header
    assert ConversationSettings.from_dict(saved).to_dict() == saved


class Answer(BaseModel):
    text: str


def test_neither_code_nor_what_belongs_to_one_process_is_saved() -> None:
    defaults = {
        "temperature": 0,
        "stop": ("a", "b"),
        "extra_body": {"key": "sk-secret"},
        "extra_headers": {"Authorization": "Bearer sk-secret"},
        "extra_query": {},
        "timeout": 5.0,
        "response_format": Answer,
        "tools": [len],
        "tool": Answer(text="a model's data is data"),
    }
    saved = ConversationSettings("k", defaults=defaults).to_dict()
    assert saved["defaults"] == {"temperature": 0, "stop": ["a", "b"], "tool": {"text": "a model's data is data"}}
    assert "secret" not in json.dumps(saved)


def test_metadata_must_be_plain() -> None:
    with pytest.raises(ConfigurationError, match="metadata"):
        ConversationSettings("k", metadata={"f": len}).to_dict()


def test_a_header_that_a_program_wrote_before_there_was_a_format() -> None:
    old = {"affinity_key": "k-8f3a", "title": "Caches", "system": "S", "metadata": {"owner": "ann"}}
    header = ConversationSettings.from_dict(old)
    assert header == ConversationSettings("k-8f3a", system="S", metadata={"title": "Caches", "owner": "ann"})
    assert ConversationSettings.from_dict({"title": "T", "metadata": 3}).metadata == {"title": "T"}
    assert ConversationSettings.from_dict({}).affinity_key  # it never had one: it gets one
    assert old == {"affinity_key": "k-8f3a", "title": "Caches", "system": "S", "metadata": {"owner": "ann"}}


def test_formats_are_upgraded_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version will: each step knows only the next."""

    def to_2(data: dict[str, Any]) -> dict[str, Any]:
        return {"key": data.pop("affinity_key"), **data, "format": 2}

    monkeypatch.setattr(header_module, "FORMAT", 2)
    monkeypatch.setitem(header_module.UPGRADES, 1, to_2)
    assert upgraded({"affinity_key": "k", "title": "T"}) == {"key": "k", "metadata": {"title": "T"}, "format": 2}
    assert upgraded({"affinity_key": "k", "format": 1}) == {"key": "k", "format": 2}
    assert upgraded({"key": "k", "format": 2}) == {"key": "k", "format": 2}


@pytest.mark.parametrize("found", [FORMAT + 1, 99, "2", None, -1, [1]])
def test_a_newer_format_is_refused(found: Any) -> None:
    with pytest.raises(ConfigurationError, match="upgrade Homing here first"):
        ConversationSettings.from_dict({"format": found, "affinity_key": "k"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"format": 1, "defaults": 3}, "defaults are damaged"),
        ({"format": 1, "metadata": [1]}, "metadata are damaged"),
        ({"format": 1, "affinity_key": "line\nend"}, "affinity_key"),
        ({"format": 1, "affinity_key": 3}, "affinity_key"),
    ],
)
def test_what_is_no_header(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ConversationSettings.from_dict(data)
