"""The ``homing`` command: deploy, run and try a server from a terminal."""

from __future__ import annotations


def main() -> None:
    """Run the command line (console script ``homing``). Needs ``pip install 'homing[cli]'``."""
    try:
        import click  # noqa: F401
    except ImportError:
        raise SystemExit("homing: the command line needs click: pip install 'homing[cli]'") from None
    from .app import homing

    homing()
