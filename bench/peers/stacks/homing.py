"""Homing: typed chunks, telemetry and all timers on, as they are by default."""

import functools

import homing

from . import MODEL, QUESTION

PACKAGES = ["homing", "httpx", "httpcore", "h11", "pydantic", "pydantic_core", "anyio"]


class Stack:
    def __init__(self, origin):
        self.origin = origin
        self.client = functools.cache(lambda path: homing.Client(f"{origin}/{path}", model=MODEL))
        self.aclient = functools.cache(lambda path: homing.AsyncClient(f"{origin}/{path}", model=MODEL))

    def stream(self, path, note):
        with self.client(path).chat.completions.create(messages=QUESTION, stream=True) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    async def astream(self, path, note):
        async with await self.aclient(path).chat.completions.create(messages=QUESTION, stream=True) as stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    def request(self, path, messages=QUESTION):
        return self.client(path).chat.completions.create(messages=messages).choices[0].message.content

    async def arequest(self, path, messages=QUESTION):
        completion = await self.aclient(path).chat.completions.create(messages=messages)
        return completion.choices[0].message.content

    async def aclose(self):
        """Clients end with their process."""


class Text(Stack):
    """The same, reading `stream(...).text`."""

    def stream(self, path, note):
        with self.client(path).chat.completions.stream(messages=QUESTION) as stream:
            for text in stream.text:
                note(text)

    async def astream(self, path, note):
        async with self.aclient(path).chat.completions.stream(messages=QUESTION) as stream:
            async for text in stream.text:
                note(text)


class Events(Stack):
    """The same, iterating over typed events."""

    def stream(self, path, note):
        with self.client(path).chat.completions.stream(messages=QUESTION) as stream:
            for event in stream:
                if event.type == "content.delta":
                    note(event.delta)

    async def astream(self, path, note):
        async with self.aclient(path).chat.completions.stream(messages=QUESTION) as stream:
            async for event in stream:
                if event.type == "content.delta":
                    note(event.delta)


class Conversation(Stack):
    """The same from a conversation that holds the history: each turn adds one message to it."""

    def __init__(self, origin):
        super().__init__(origin)
        self.held = {}

    def request(self, path, messages=QUESTION):
        conversation = self.held.get(len(messages))
        if conversation is None:
            pairs = zip(messages[:-1:2], messages[1:-1:2], strict=False)
            turns = [{"messages": list(pair), "finish_reason": "stop"} for pair in pairs]
            saved = {"format": 1, "system": None, "turns": turns}
            conversation = homing.Conversation.from_dict(self.client(path), saved)
            self.held[len(messages)] = conversation
        return conversation.aside(messages[-1]["content"]).text
