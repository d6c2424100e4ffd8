"""httpx2 with the event source it comes with, and plain JSON."""

import functools

import httpx2

from . import MODEL, QUESTION

PACKAGES = ["httpx2", "httpcore2", "h11"]


class Stack:
    def __init__(self, origin):
        self.origin = origin
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self.client = functools.cache(lambda: httpx2.Client(limits=limits, timeout=60))
        self.aclient = functools.cache(lambda: httpx2.AsyncClient(limits=limits, timeout=60))

    def _call(self, path, messages, *, stream=False):
        body = {"model": MODEL, "messages": messages, "stream": stream}
        return (f"{self.origin}/{path}/v1/chat/completions",), {"json": body}

    def stream(self, path, note):
        where, what = self._call(path, QUESTION, stream=True)
        with self.client().sse(*where, method="POST", **what) as source:
            for event in source:
                if event.data == "[DONE]":
                    break
                for choice in event.json()["choices"]:
                    if choice["delta"].get("content"):
                        note(choice["delta"]["content"])

    async def astream(self, path, note):
        where, what = self._call(path, QUESTION, stream=True)
        async with self.aclient().sse(*where, method="POST", **what) as source:
            async for event in source:
                if event.data == "[DONE]":
                    break
                for choice in event.json()["choices"]:
                    if choice["delta"].get("content"):
                        note(choice["delta"]["content"])

    def request(self, path, messages=QUESTION):
        where, what = self._call(path, messages)
        return self.client().post(*where, **what).json()["choices"][0]["message"]["content"]

    async def arequest(self, path, messages=QUESTION):
        where, what = self._call(path, messages)
        response = await self.aclient().post(*where, **what)
        return response.json()["choices"][0]["message"]["content"]

    async def aclose(self):
        await self.aclient().aclose()
