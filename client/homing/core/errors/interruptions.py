"""Errors for a broken reply that was not resumed."""

from __future__ import annotations

from ...errors import APIError, APITimeoutError, ResponseTooLarge, StreamInterrupted


def not_resumed(error: APIError, why: str) -> APIError:
    """Add to the error of a broken reply why it was not resumed."""
    error.message = f"{error.message}; not resumed: {why}"
    error.args = (error.message,)
    return error


def failed_to_resume(broken: APIError, failure: Exception) -> Exception:
    """Return the exception to raise when the request to resume a reply failed.

    To the caller, it is still the interruption. Only the caller's own limits, of time or bytes, stay as they are.
    """
    if failure is broken or isinstance(failure, (APITimeoutError, ResponseTooLarge)):
        return failure
    kind = type(broken) if isinstance(broken, StreamInterrupted) else StreamInterrupted
    return kind(f"{broken.message}; going on with it failed: {failure}")
