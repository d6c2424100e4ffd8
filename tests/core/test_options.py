"""A client's arguments, and copies with some of them changed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from homing.core.affinity.strategies import BodyAffinity, ModalAffinity, NoAffinity
from homing.core.encoding.messages import encode_messages
from homing.core.request.environment import COLD_START_TIMEOUT, Credentials
from homing.core.request.options import Options
from homing.core.request.resume_style import ResumeStyle
from homing.core.retry.policy import MAX_RETRIES, RetryPolicy
from homing.core.retry.timers import Timeout
from homing.core.telemetry.hooks import Hooks
from homing.core.telemetry.measurements import Telemetry
from homing.errors import ConfigurationError

DEFAULTS: dict[str, Any] = {
    "api_key": None,
    "proxy_token": None,
    "model": None,
    "timeout": Timeout(),
    "cold_start_timeout": None,
    "max_retries": None,
    "retry": None,
    "affinity": "prefix",
    "default_headers": None,
    "default_query": None,
    "hooks": None,
    "environment": {},
}
HELLO = [{"role": "user", "content": "Hello"}]


def options(**changes: Any) -> Options:
    return Options.resolve("http://host/v1", **{**DEFAULTS, **changes})


def test_defaults() -> None:
    plain = options()
    assert plain.base_url == "http://host"
    assert plain.timeout == Timeout()
    assert plain.cold_start_timeout == COLD_START_TIMEOUT
    assert plain.policy == RetryPolicy()
    assert plain.policy.max_retries == MAX_RETRIES
    assert isinstance(plain.affinity, ModalAffinity)
    assert plain.prefix_keys
    assert plain.hooks == Hooks()
    assert plain.salt != options().salt  # so that no header tells the same content of two clients


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_MODEL", "from-the-environment")
    assert options(environment=None).model == "from-the-environment"


def test_no_secret_is_in_the_representation() -> None:
    shown = repr(options(api_key="hunter2", proxy_token=("wk-hunter2", "ws-hunter2")))
    assert "hunter2" not in shown
    assert "salt" not in shown


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"timeout": 5}, "timeout", Timeout(total=5)),
        ({"timeout": None}, "timeout", Timeout.of(None)),
        ({"cold_start_timeout": 0}, "cold_start_timeout", 0.0),
        ({"cold_start_timeout": math.inf}, "cold_start_timeout", math.inf),
        ({"cold_start_timeout": None}, "cold_start_timeout", COLD_START_TIMEOUT),
        ({"model": "b"}, "model", "b"),
        ({"model": None}, "model", None),
        ({"api_key": "new"}, "credentials", Credentials("new", ("wk-a", "ws-b"))),
        ({"api_key": None}, "credentials", Credentials("key", ("wk-a", "ws-b"))),
        ({"proxy_token": "wk-c.ws-d"}, "credentials", Credentials("key", ("wk-c", "ws-d"))),
        ({"default_headers": {"x-a": "2"}}, "headers", {"x-a": "2", "X-B": "1"}),
        ({"default_headers": None}, "headers", {"X-A": "1", "X-B": "1"}),
        ({"default_query": {"b": 2}}, "query", {"a": 1, "b": 2}),
        ({"default_query": None}, "query", {"a": 1}),
        ({"resume": "never"}, "resume", "never"),
        ({"resume": ResumeStyle("vllm")}, "resume", ResumeStyle("vllm")),
        ({"hooks": None}, "hooks", Hooks()),
        ({"hooks": Hooks(on_reply=print)}, "hooks", Hooks(on_reply=print)),
    ],
)
def test_a_changed_copy(change: Any, field: str, value: object) -> None:
    before = options(
        api_key="key",
        proxy_token="wk-a.ws-b",
        model="a",
        default_headers={"X-A": "1", "X-B": "1"},
        default_query={"a": 1},
        hooks=Hooks(on_wait=print),
    )
    after = before.changed(**change)
    assert getattr(after, field) == value
    assert {name for name in vars(after) if getattr(after, name) != getattr(before, name)} <= {field}
    assert after.server_state is before.server_state  # they talk to the same server


def test_a_changed_number_of_retries_keeps_the_rest_of_the_policy() -> None:
    policy = RetryPolicy(max_retries=7, retry_after_cap=5)
    before = options(retry=policy)
    assert before.policy is policy
    assert before.changed(max_retries=1).policy == RetryPolicy(max_retries=1, retry_after_cap=5)
    assert before.changed(retry=RetryPolicy(max_retries=3)).policy == RetryPolicy(max_retries=3)
    assert options(retry=policy, max_retries=0).policy == RetryPolicy(max_retries=0, retry_after_cap=5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_url": "http://other"}, "with_options cannot change 'base_url'"),
        ({"tiemout": 3}, "cannot change 'tiemout'"),
        ({"retry": 3}, "retry must be a RetryPolicy"),
        ({"max_retries": 1.5}, "max_retries must be an integer"),
        ({"cold_start_timeout": -1}, "cold_start_timeout must be seconds"),
        ({"cold_start_timeout": math.nan}, "cold_start_timeout"),
        ({"cold_start_timeout": True}, "cold_start_timeout"),
        ({"timeout": -1}, "Timeout.total"),
        ({"timeout": "5"}, "timeout must be a homing.Timeout, a number of seconds or None, got '5'"),
        ({"timeout": object()}, "timeout must be a homing.Timeout"),
        ({"model": 5}, "model must be a string, got 5"),
        ({"hooks": print}, r"hooks must be Hooks\(on_wait=…\)"),
        ({"default_query": 5}, "default_query must be a mapping of names to values, got int"),
        ({"api_key": 5}, "api_key must be a string, or a function that returns one, got int"),
        ({"affinity": "sticky"}, "affinity must be 'prefix', 'none' or a strategy"),
        ({"affinity": None}, "affinity must be"),
        ({"resume": "always"}, "resume must be 'auto', 'never' or a ResumeStyle"),
        ({"api_key": "ak-1"}, "proxy token"),
        ({"default_headers": {"Host": "x"}}, "default_headers may not set 'Host'"),
        ({"default_headers": {"X": "é"}}, "default_headers"),
    ],
)
def test_a_change_that_cannot_work(change: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        options().changed(**change)
    if not change.keys() & {"base_url", "tiemout"}:
        with pytest.raises(ConfigurationError, match=words):
            options(**change)


@pytest.mark.parametrize(
    ("client", "call", "key", "strategy", "kind"),
    [
        ("prefix", None, None, ModalAffinity, "prefix"),
        ("prefix", None, "mine", ModalAffinity, "mine"),
        ("none", None, None, NoAffinity, None),
        ("none", None, "mine", NoAffinity, "mine"),
        ("none", "prefix", None, ModalAffinity, "prefix"),
        ("prefix", "none", None, NoAffinity, None),
        (BodyAffinity(), None, None, BodyAffinity, "prefix"),
        ("prefix", BodyAffinity(), None, BodyAffinity, "prefix"),
        (NoAffinity(), None, None, NoAffinity, None),
    ],
)
def test_the_key_of_a_call_without_a_conversation(
    client: Any, call: Any, key: str | None, strategy: type, kind: str | None
) -> None:
    chosen, chosen_key = options(affinity=client).stateless_key(HELLO, encode_messages(HELLO), call, key)
    assert type(chosen) is strategy
    if kind == "prefix":
        assert chosen_key is not None
        assert chosen_key.startswith("p-")
    else:
        assert chosen_key == kind


def test_a_key_that_cannot_travel_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="affinity_key"):
        options().stateless_key(HELLO, encode_messages(HELLO), None, "a\nb")


def test_replies_are_summed_over_all_copies() -> None:
    before = options()
    before.server_state.count(Telemetry(prompt_tokens=5))
    before.changed(model="b").server_state.count(Telemetry(prompt_tokens=2))
    assert (before.server_state.totals.replies, before.server_state.totals.prompt_tokens) == (2, 7)


def test_each_caller_has_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        return "k"

    alice = options(api_key="alice")
    callers = [
        alice,
        alice.changed(api_key="bob"),
        alice.changed(api_key=key),
        alice.changed(proxy_token="wk-a.ws-b"),
        alice.changed(default_headers={"X-Tenant": "bob"}),
        alice.changed(default_query={"key": "bob"}),
    ]
    assert [caller.served_model for caller in callers] == [None] * 6
    for number, caller in enumerate(callers):
        caller.server_state.models.tell(caller, str(number))
    assert [caller.served_model for caller in callers] == list("012345")
    assert callers[1].changed(timeout=3, default_headers={"traceparent": "00"}).served_model == "1"
    assert alice.changed(model="m").served_model == "m"
    monkeypatch.setattr("homing.core.request.server_state.CALLERS", 6)
    last = alice.changed(api_key="eve")
    last.server_state.models.tell(last, "6")
    assert (alice.served_model, callers[1].served_model, last.served_model) == (None, "1", "6")
