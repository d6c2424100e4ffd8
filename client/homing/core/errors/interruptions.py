"""Errors of a broken reply that was not resumed."""

from __future__ import annotations

from ...errors import APIError, APITimeoutError, ResponseTooLarge, StreamInterrupted


def not_resumed(error: APIError, why: str) -> APIError:
    """Say in the error of a broken reply why it was not gone on with."""
    error.message = f"{error.message}; not resumed: {why}"
    error.args = (error.message,)
    return error


def failed_to_resume(broken: APIError, failure: Exception) -> Exception:
    """Return what to raise when the request that should have gone on with a reply has failed.

    For the caller it is still the interruption; a limit of theirs, of time or bytes, stays what it is.
    """
    if failure is broken or isinstance(failure, (APITimeoutError, ResponseTooLarge)):
        return failure
    kind = type(broken) if isinstance(broken, StreamInterrupted) else StreamInterrupted
    return kind(f"{broken.message}; going on with it failed: {failure}")
