"""``/_edge/…``: state, log, metrics and faults of a running edge, over HTTP."""

from __future__ import annotations

from typing import Any

from homing.errors import ConfigurationError

from .faults import Fault, Faults
from .lifecycle import Lifecycle
from .records import Log
from .replica import JSON_TYPE, Reply, Request, media_type, parsed, send, send_json
from .settings import EdgeSettings


class Control:
    """Answers requests about the edge itself. They are neither routed nor recorded."""

    def __init__(self, settings: EdgeSettings, *, lifecycle: Lifecycle, faults: Faults, log: Log) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._faults = faults
        self._log = log

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        method = "GET" if request.method == "HEAD" else request.method  # the listener leaves the body out
        call = (method, request.path.removeprefix("/_edge/"))
        if call == ("GET", "state"):
            await send_json(reply, 200, self.state())
        elif call == ("GET", "log"):
            await send_json(reply, 200, [record.to_json() for record in self._log.records])
        elif call == ("GET", "metrics"):
            body = self.metrics()
            await send(reply, 200, body, content_type="text/plain; version=0.0.4; charset=utf-8")
        elif call == ("GET", "faults"):
            await send_json(reply, 200, self._armed())
        elif call == ("DELETE", "faults"):
            self._faults.clear()
            await send_json(reply, 200, self._armed())
        elif call == ("POST", "faults"):
            if media_type(request) != JSON_TYPE:  # what a page may send unasked has another one
                await send_json(reply, 415, {"detail": f"a fault is {JSON_TYPE}: say so in content-type"})
                return
            await self._arm(request, reply)
        else:
            await send_json(reply, 404, {"detail": f"{request.method} {request.path} is not part of /_edge/"})

    def state(self) -> dict[str, Any]:
        """Return the fleet as JSON."""
        fleet, pids = self._lifecycle.fleet, self._lifecycle.pids
        replicas = [
            {"id": member.id, "state": member.state.value, "running": member.running}
            | ({"pid": pids[member.id]} if member.id in pids else {})
            for member in fleet.members
        ]
        limits = {"min_replicas": fleet.minimum, "max_replicas": fleet.maximum, "held_cold": fleet.held}
        return {
            "stand_in": "a development edge, not a production router",
            "replicas": replicas,
            "running": fleet.running,
            **limits,
            "outcomes": dict(self._log.outcomes),
            "faults": len(self._faults.armed),
        }

    def metrics(self) -> str:
        """Return the same in Prometheus' text format."""
        lines = ["# TYPE homing_edge_replicas gauge"]
        members = self._lifecycle.fleet.members
        for state in ("starting", "ready", "draining"):
            count = sum(member.state.value == state for member in members)
            lines.append(f'homing_edge_replicas{{state="{state}"}} {count}')
        lines.append("# TYPE homing_edge_running_requests gauge")
        lines += [f'homing_edge_running_requests{{replica="{m.id}"}} {m.running}' for m in members]
        lines.append("# TYPE homing_edge_requests_total counter")
        for outcome, count in sorted(self._log.outcomes.items()):
            lines.append(f'homing_edge_requests_total{{outcome="{outcome}"}} {count}')
        return "\n".join(lines) + "\n"

    async def _arm(self, request: Request, reply: Reply) -> None:
        try:
            given = parsed(request.body)
            if not isinstance(given, dict):
                raise ConfigurationError("Fault: must be a JSON object with a 'kind'")
            self._faults.arm(Fault(**given))
        except ValueError as error:  # ConfigurationError is one
            await send_json(reply, 400, {"detail": str(error)})
            return
        await send_json(reply, 200, self._armed())

    def _armed(self) -> list[dict[str, Any]]:
        return [
            fault.model_dump(exclude_defaults=True, exclude={"body"}) | {"kind": fault.kind}
            for fault in self._faults.armed
        ]
