"""Whether decoding takes time in proportion to the bytes, however they come."""

from __future__ import annotations

from ..bench import Bench
from ..workers import own


def run(bench: Bench) -> None:
    """Nanoseconds a byte at one size and at eight times that, for framings that have broken others."""
    if bench.chosen(["homing"]):
        for _ in range(3):
            for shape, (small, large) in own("framing", "1" if bench.quick else "8").items():
                bench.results.add(f"framing.{shape}.small", "homing", small)
                bench.results.add(f"framing.{shape}.large", "homing", large)
                bench.results.add(f"framing.{shape}.growth", "homing", large / small)
