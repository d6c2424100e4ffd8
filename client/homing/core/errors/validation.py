"""Pydantic's validation errors on one line."""

from __future__ import annotations

from pydantic import ValidationError


def describe_errors(error: ValidationError) -> str:
    """Describe on one line what pydantic rejected, without the values, which may be long."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in found]
    return " ".join("; ".join(said).split())
