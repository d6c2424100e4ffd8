"""An emulated SGLang 0.5.23: its routes, its keys and its moods, without a model.

Answers to chat completions come from ``completions``; what is here is the server around
them. Nothing runs in the background: an engine that is not asked costs nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from . import tokens
from .answers import Script
from .chat_request import Refusal, not_json
from .completions import Completions
from .prefix_cache import PrefixCache
from .replica import PLAIN_TEXT, Reply, Request, parsed, send, send_json
from .scheduler import Scheduler
from .settings import EngineSettings

ENGINE_VERSION = "0.5.23"
_OPEN_PATHS = ("/health", "/ready", "/metrics")

Handler = Callable[[Request, Reply], Awaitable[None]]


class EmulatedEngine:
    """One emulated replica: ``replica_id`` is its weight version, as on Homing's own servers.

    ``script`` holds prepared answers, ``clock`` and ``sleep`` (seconds) pace it.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        replica_id: str,
        script: Script | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._replica_id = replica_id
        self._created = int(time.time())
        self.cache = PrefixCache(capacity=settings.cache_tokens)
        self.scheduler = Scheduler(
            max_running=settings.max_running,
            max_queued=settings.max_queued,
            prefill_rate=settings.prefill_rate,
            decode_rate=settings.decode_rate,
            clock=clock,
            sleep=sleep,
        )
        self._completions = Completions(
            settings,
            scheduler=self.scheduler,
            cache=self.cache,
            script=script or Script(),
            seed=seed,
            weight_version=replica_id,
        )
        get, either = ("GET",), ("GET", "POST")
        self._routes: dict[str, tuple[tuple[str, ...], Handler]] = {
            "/v1/chat/completions": (("POST",), self._chat),
            "/v1/tokenize": (("POST",), self._tokenize),
            "/tokenize": (("POST",), self._tokenize),
            "/v1/models": (get, self._models),
            "/v1/loads": (get, self._loads),
            "/health": (get, self._nothing),
            "/health_generate": (get, self._nothing),
            "/ready": (get, self._nothing),
            "/ping": (either, self._nothing),
            "/model_info": (get, self._model_info),
            "/get_model_info": (get, self._model_info),
            "/server_info": (get, self._server_info),
            "/get_server_info": (get, self._server_info),
            "/metrics": (get, self._metrics),
            "/flush_cache": (either, self._flush_cache),
            "/abort_request": (("POST",), self._abort),
        }

    def __repr__(self) -> str:
        return f"<EmulatedEngine {self._replica_id} running={self.scheduler.running} {self.cache!r}>"

    async def start(self) -> None:
        """Nothing to load; the edge adds the cold start."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request in SGLang's way."""
        if not self._admitted(request):
            await send_json(reply, 401, {"error": "Unauthorized"})
            return
        methods, handler = self._routes.get(request.path, ((), None))
        if handler is None and request.path.startswith("/v1/models/"):
            methods, handler = ("GET",), self._model
        if handler is None:
            await send_json(reply, 404, {"detail": "Not Found"})
        elif request.method not in methods:
            allow = [("allow", ", ".join(methods))]
            await send_json(reply, 405, {"detail": "Method Not Allowed"}, headers=allow)
        else:
            try:
                await handler(request, reply)
            except Refusal as refusal:
                await send_json(reply, refusal.status, refusal.body)
            except RecursionError:  # read, but too deep for what is made of it; before anything is sent
                await send_json(reply, 400, not_json("nested too deeply").body)

    def _admitted(self, request: Request) -> bool:
        key = self._settings.api_key
        if key is None or request.path.startswith(_OPEN_PATHS):
            return True
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, f"Bearer {key.get_secret_value()}".encode())

    async def _chat(self, request: Request, reply: Reply) -> None:
        if self._settings.check_model:
            model = _object(request.body).get("model")
            if model != self._settings.model:
                await send_json(reply, 404, _no_such_model(model))
                return
        await self._completions.answer(request, reply)

    async def _tokenize(self, request: Request, reply: Reply) -> None:
        prompt = _object(request.body).get("prompt")
        if not isinstance(prompt, str):
            raise Refusal(400, f"Invalid prompt type: {type(prompt)}. Expected str or List[str].")
        ids = tokens.encode(prompt)
        length = self._settings.context_length
        await send_json(reply, 200, {"tokens": list(ids), "count": len(ids), "max_model_len": length})

    async def _models(self, request: Request, reply: Reply) -> None:
        await send_json(reply, 200, {"object": "list", "data": [self._card()]})

    async def _model(self, request: Request, reply: Reply) -> None:
        name = request.path.removeprefix("/v1/models/")
        known = name == self._settings.model
        await send_json(reply, 200 if known else 404, self._card() if known else _no_such_model(name))

    def _card(self) -> dict[str, Any]:
        name = self._settings.model
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm" if self._settings.continues == "vllm" else "sglang",
            "root": name,
            "parent": None,
            "max_model_len": self._settings.context_length,
        }

    async def _nothing(self, request: Request, reply: Reply) -> None:
        await send(reply, 200, b"", content_type="")

    async def _model_info(self, request: Request, reply: Reply) -> None:
        await send_json(reply, 200, self._info())

    def _info(self) -> dict[str, Any]:
        return {
            "model_path": self._settings.model,
            "served_model_name": self._settings.model,
            "tokenizer_path": self._settings.model,
            "is_generation": True,
            "weight_version": self._replica_id,
            "reasoning_parser": "qwen3",
            "tool_call_parser": "qwen",
            "model_type": "homing_emulated",
        }

    async def _server_info(self, request: Request, reply: Reply) -> None:
        settings = self._settings
        info = {
            **self._info(),
            "context_length": settings.context_length,
            "max_running_requests": settings.max_running,
            "max_queued_requests": settings.max_queued,
            "disable_radix_cache": False,
            "enable_cache_report": settings.cache_report,
            # SGLang prints its key here in clear; that much fidelity helps nobody.
            "api_key": None if settings.api_key is None else "**********",
            "max_total_num_tokens": settings.cache_tokens,
            "version": ENGINE_VERSION,
        }
        await send_json(reply, 200, info)

    async def _loads(self, request: Request, reply: Reply) -> None:
        load = {
            "dp_rank": 0,
            "num_running_reqs": self.scheduler.running,
            "num_waiting_reqs": self.scheduler.waiting,
            "num_used_tokens": self.cache.size,
            "max_total_num_tokens": self._settings.cache_tokens,
            "max_running_requests": self._settings.max_running,
        }
        now = datetime.now(timezone.utc).isoformat()
        await send_json(reply, 200, {"timestamp": now, "version": ENGINE_VERSION, "loads": [load]})

    async def _metrics(self, request: Request, reply: Reply) -> None:
        lines = []
        for name, text, value in (
            ("num_running_reqs", "The number of running requests.", self.scheduler.running),
            ("num_queue_reqs", "The number of requests in the waiting queue.", self.scheduler.waiting),
            ("num_used_tokens", "The number of used tokens.", self.cache.size),
        ):
            lines += [f"# HELP sglang:{name} {text}", f"# TYPE sglang:{name} gauge"]
            lines += [f'sglang:{name}{{model_name="{self._settings.model}"}} {float(value)}']
        body = "\n".join(lines) + "\n"
        await send(reply, 200, body, content_type="text/plain; version=0.0.4; charset=utf-8")

    async def _flush_cache(self, request: Request, reply: Reply) -> None:
        busy = self.scheduler.running or self.scheduler.waiting
        if not busy:
            self.cache.clear()
        outcome = "Failed to flush cache." if busy else "Cache flushed."
        note = "Please check backend logs for more details. (When there are running or waiting requests, "
        note += "the operation will not be performed.)"
        await send(reply, 400 if busy else 200, f"{outcome}\n{note}\n", content_type=PLAIN_TEXT)

    async def _abort(self, request: Request, reply: Reply) -> None:
        body = _object(request.body)
        self._completions.abort(None if body.get("abort_all") else str(body.get("rid", "")) or "\0")
        await send(reply, 200, b"", content_type="")


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = parsed(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _no_such_model(name: object) -> dict[str, Any]:
    error = {"type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    return {"error": {"message": f"The model '{name}' does not exist", **error}}
