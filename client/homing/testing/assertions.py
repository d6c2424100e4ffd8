"""Assertions about where requests went and what is still running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from homing_server.local import Edge, Record

# Seconds. An abort is noticed within milliseconds; this allows for a loaded machine.
_SETTLE_TIMEOUT = 5.0


class HasAffinityKey(Protocol):
    """A conversation, or any other object with an affinity key."""

    @property
    def affinity_key(self) -> str | None:
        """The value sent in the affinity headers."""


def requests_of(edge: Edge, conversation: HasAffinityKey | str) -> list[Record]:
    """Return the log records of a conversation's requests, oldest first.

    Args:
        edge: The edge that received the requests.
        conversation: A conversation, or an affinity key.
    """
    key = conversation if isinstance(conversation, str) else conversation.affinity_key
    return [record for record in edge.log if record.key is not None and record.key == key]


def replicas_of(edge: Edge, conversation: HasAffinityKey | str) -> list[str]:
    """Return the replica of each request of a conversation, in order, without requests that reached none.

    Args:
        edge: The edge that received the requests.
        conversation: A conversation, or an affinity key.
    """
    return [record.replica for record in requests_of(edge, conversation) if record.replica]


def assert_one_replica(edge: Edge, conversation: HasAffinityKey | str) -> str:
    """Assert that all requests of a conversation reached the same replica; return its id.

    Args:
        edge: The edge that received the requests.
        conversation: A conversation, or an affinity key.

    Raises:
        AssertionError: The requests reached several replicas, or none at all, which would prove nothing.
    """
    replicas = replicas_of(edge, conversation)
    assert replicas, f"no request of {conversation!r} has reached a replica of {edge!r}"
    assert len(set(replicas)) == 1, f"the requests of {conversation!r} went to {', '.join(replicas)}"
    return replicas[0]


def assert_no_running(edge: Edge, *, timeout: float = _SETTLE_TIMEOUT) -> None:
    """Assert that every request has ended, including on the engines.

    Args:
        edge: The edge that received the requests.
        timeout: Seconds to wait for requests to end.

    Raises:
        AssertionError: A request is still running.
    """
    try:
        edge.wait_for(lambda e: e.running == 0, timeout=timeout)
    except TimeoutError:
        running = [record for record in edge.log if record.outcome == "running"]
        raise AssertionError(f"still running after {timeout:g} s: {running}") from None
