"""httpx, httpx-sse and pydantic put together by hand, as many backends do."""

import functools
from typing import Any

import httpx
import httpx_sse
from pydantic import BaseModel, ConfigDict

from . import MODEL, QUESTION

PACKAGES = ["httpx", "httpcore", "h11", "httpx-sse", "pydantic"]


class Wire(BaseModel):
    model_config = ConfigDict(extra="allow")


class Message(Wire):
    role: str | None = None
    content: str | None = None
    tool_calls: list[Any] | None = None


class Choice(Wire):
    index: int = 0
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None


class Answer(Wire):
    id: str = ""
    created: int = 0
    model: str = ""
    choices: list[Choice]
    usage: dict[str, Any] | None = None


class Stack:
    def __init__(self, origin):
        self.origin = origin
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self.client = functools.cache(lambda: httpx.Client(limits=limits, timeout=60))
        self.aclient = functools.cache(lambda: httpx.AsyncClient(limits=limits, timeout=60))

    def _call(self, path, messages, *, stream=False):
        body = {"model": MODEL, "messages": messages, "stream": stream}
        return ("POST", f"{self.origin}/{path}/v1/chat/completions"), {"json": body}

    def stream(self, path, note):
        where, what = self._call(path, QUESTION, stream=True)
        with httpx_sse.connect_sse(self.client(), *where, **what) as source:
            for event in source.iter_sse():
                if event.data == "[DONE]":
                    break
                for choice in Answer.model_validate_json(event.data).choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    async def astream(self, path, note):
        where, what = self._call(path, QUESTION, stream=True)
        async with httpx_sse.aconnect_sse(self.aclient(), *where, **what) as source:
            async for event in source.aiter_sse():
                if event.data == "[DONE]":
                    break
                for choice in Answer.model_validate_json(event.data).choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    def request(self, path, messages=QUESTION):
        where, what = self._call(path, messages)
        response = self.client().request(*where, **what)
        return Answer.model_validate_json(response.content).choices[0].message.content

    async def arequest(self, path, messages=QUESTION):
        where, what = self._call(path, messages)
        response = await self.aclient().request(*where, **what)
        return Answer.model_validate_json(response.content).choices[0].message.content

    async def aclose(self):
        await self.aclient().aclose()
