"""What has been measured: for each figure and peer, one value a round."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any


class Results:
    """Values by figure (such as ``event.sync.flat``) and peer, with what is to be known about the run."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}
        self.failures: dict[str, str] = {}
        self.about: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "python": sys.version.split()[0],
            "machine": machine(),
            "load_before": round(os.getloadavg()[0], 2),
            "versions": {},
        }

    def add(self, figure: str, peer: str, value: float) -> None:
        """Note one round's value."""
        self.values.setdefault(figure, {}).setdefault(peer, []).append(value)

    def peers(self, figure: str) -> list[str]:
        """Return who has values for ``figure``."""
        return list(self.values.get(figure, ()))

    def median(self, figure: str, peer: str) -> float | None:
        """Return the median of all rounds, None if there are none."""
        values = self.values.get(figure, {}).get(peer)
        return statistics.median(values) if values else None

    def least(self, figure: str, peer: str) -> float | None:
        """Return the least value of all rounds."""
        values = self.values.get(figure, {}).get(peer)
        return min(values) if values else None

    def ratio(self, figure: str, peer: str, other: str) -> float | None:
        """Return how many times ``other`` goes into ``peer``, by medians."""
        above, below = self.median(figure, peer), self.median(figure, other)
        return above / below if above is not None and below else None

    def save(self, file: Path) -> None:
        """Write everything as JSON."""
        self.about["load_after"] = round(os.getloadavg()[0], 2)
        whole = {"about": self.about, "failures": self.failures, "values": self.values}
        file.write_text(json.dumps(whole, indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Results:
        """Read what `save` has written."""
        whole = json.loads(file.read_text())
        results = cls()
        results.about, results.failures, results.values = whole["about"], whole["failures"], whole["values"]
        return results


def machine() -> str:
    """Describe the machine in a few words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return f"{os.cpu_count()} × {name}, {platform.system()} {platform.release()}"
