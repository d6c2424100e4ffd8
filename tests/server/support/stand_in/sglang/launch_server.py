"""A stand-in for `python -m sglang.launch_server`: same flags in, the routes we use out, through uvicorn.

Like the real one it calls `uvicorn.run(app, ..., timeout_keep_alive=5)` in the process that
was started. What it does is scripted by a JSON object in STAND_IN; what happened goes to the
file named by STAND_IN_LOG, one JSON object a line.

    boot        seconds during which /health answers 503
    deaf        number of first /health requests that it never answers
    die_after   seconds after which it exits with code 3, having printed `dying words N`
    crash_at    words of a stream after which it exits with code 9, without another byte
    first       seconds that the first chat completion takes
    hang_after  chat completions after which /health_generate never answers
    term        "exit": die on SIGTERM; "ignore"; "drain": finish what is running, then exit
    server_info fields of /server_info
    child       start a worker process of its own, as SGLang does
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

BEGAN = time.monotonic()
SCRIPT: dict[str, Any] = json.loads(os.environ.get("STAND_IN") or "{}")


def note(event: str, **fields: Any) -> None:
    if path := os.environ.get("STAND_IN_LOG"):
        line = json.dumps({"event": event, "pid": os.getpid(), "at": time.monotonic(), **fields})
        with open(path, "a") as log:
            log.write(line + "\n")


class StandIn:
    def __init__(self) -> None:
        self.completions = 0
        self.looks = 0
        self.running = 0

    async def health(self, request: Request) -> Response:
        self.looks += 1
        if self.looks == 1:
            note("first-look")
        if self.looks <= SCRIPT.get("deaf", 0):
            await asyncio.sleep(3600)
        return Response(status_code=200 if time.monotonic() - BEGAN >= SCRIPT.get("boot", 0) else 503)

    async def health_generate(self, request: Request) -> Response:
        if "hang_after" in SCRIPT and self.completions >= SCRIPT["hang_after"]:
            await asyncio.sleep(3600)
        return Response()

    async def server_info(self, request: Request) -> Response:
        return JSONResponse({"disable_radix_cache": False, **SCRIPT.get("server_info", {})})

    async def anything(self, request: Request) -> Response:
        note("request", path=request.url.path)
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.completions += 1
        note("chat", stream=bool(body.get("stream")), headers=sorted(request.headers))
        if "refuse" in SCRIPT:
            return JSONResponse({"message": "no chat template"}, status_code=SCRIPT["refuse"])
        if self.completions == 1:
            await asyncio.sleep(SCRIPT.get("first", 0))
        if body.get("stream"):
            last = body["messages"][-1] if body.get("continue_final_message") else {"content": ""}
            begun = len(last["content"].split())  # goes on behind what it is said to have written
            words = self.tokens(begun + body.get("max_tokens", 5), begun)
            return Streaming(self, words)
        message = {"role": "assistant", "content": "hi"}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def tokens(self, count: int, begun: int) -> AsyncIterator[str]:
        for index in range(begun, count):
            if index == SCRIPT.get("crash_at"):
                note("crash")
                os._exit(9)
            last = index == count - 1
            choice = {"index": 0, "delta": {"content": f"t{index} "}, "finish_reason": "stop" if last else None}
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            yield f"data: {json.dumps(chunk)}\n\n"
            await asyncio.sleep(SCRIPT.get("pace", 0.02))
        yield "data: [DONE]\n\n"
        note("stream-done")


class Streaming(StreamingResponse):
    """A stream that counts as running until its last chunk has been written, not only the last text."""

    def __init__(self, stand_in: StandIn, words: AsyncIterator[str]) -> None:
        super().__init__(words, media_type="text/event-stream")
        self.stand_in = stand_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.stand_in.running += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stand_in.running -= 1


def on_sigterm(stand_in: StandIn) -> None:
    note("sigterm", running=stand_in.running)
    term = SCRIPT.get("term", "drain")
    if term == "exit":
        os._exit(0)
    if term == "drain":
        threading.Thread(target=drain, args=(stand_in,), daemon=True).start()


def drain(stand_in: StandIn) -> None:
    while stand_in.running:
        time.sleep(0.02)
    note("drained")
    os._exit(0)


def main() -> None:
    argv = sys.argv[1:]
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) if SCRIPT.get("child") else None
    seen = sorted(name for name in os.environ if name.startswith("HOMING_"))
    note("start", argv=argv, environ=seen, worker=worker.pid if worker else None)
    if "die_after" in SCRIPT:
        for number in range(60):
            print(f"dying words {number}", flush=True)
        time.sleep(SCRIPT["die_after"])
        note("die")
        sys.exit(3)

    stand_in = StandIn()
    names = ["flush_cache", "release_memory_occupation", "resume_memory_occupation", "metrics", "model_info"]
    app = Starlette(
        routes=[
            Route("/health", stand_in.health),
            Route("/health_generate", stand_in.health_generate),
            Route("/server_info", stand_in.server_info),
            Route("/v1/chat/completions", stand_in.chat, methods=["POST"]),
            *(Route(f"/{name}", stand_in.anything, methods=["GET", "POST"]) for name in names),
        ]
    )

    async def serve() -> None:
        port = int(argv[argv.index("--port") + 1])
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_keep_alive=5)
        note("keep-alive", seconds=config.timeout_keep_alive)
        server = uvicorn.Server(config)
        server.capture_signals = __import__("contextlib").nullcontext  # type: ignore[method-assign]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm, stand_in)
        await server.serve()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
