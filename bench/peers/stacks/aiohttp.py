"""aiohttp as in Modal's example: lines of bytes, json.loads, no models, no timers. Async only."""

import json

import aiohttp

from . import MODEL, QUESTION

PACKAGES = ["aiohttp"]


class Stack:
    def __init__(self, origin):
        self.origin = origin
        self.session = None

    def _session(self):
        if self.session is None:
            # The example leaves the limit at 100 connections, with which 300 streams would queue.
            self.session = aiohttp.ClientSession(base_url=self.origin, connector=aiohttp.TCPConnector(limit=0))
        return self.session

    async def astream(self, path, note):
        payload = {"model": MODEL, "messages": QUESTION, "stream": True}
        headers = {"Accept": "text/event-stream"}
        async with self._session().post(f"/{path}/v1/chat/completions", json=payload, headers=headers) as response:
            response.raise_for_status()
            async for raw in response.content:
                line = raw.decode("utf-8", errors="ignore").strip()
                if not line or not line.startswith("data:"):
                    continue
                data = line[len("data:") :].strip()
                if data == "[DONE]":
                    break
                try:
                    event = json.loads(data)
                except json.JSONDecodeError:
                    continue
                delta = (event.get("choices") or [{}])[0].get("delta") or {}
                content = delta.get("content")
                if content:
                    note(content)

    async def arequest(self, path, messages=QUESTION):
        payload = {"model": MODEL, "messages": messages}
        async with self._session().post(f"/{path}/v1/chat/completions", json=payload) as response:
            response.raise_for_status()
            answer = await response.json()
            return answer["choices"][0]["message"]["content"]

    async def aclose(self):
        if self.session is not None:
            await self.session.close()
