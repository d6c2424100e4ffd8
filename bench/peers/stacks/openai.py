"""openai-python, 2.x or 3.x, whichever the environment holds."""

import functools

import openai

from . import MODEL, QUESTION

PACKAGES = ["openai", "httpx", "httpx2", "pydantic", "pydantic_core"]


class Stack:
    def __init__(self, origin):
        def settings(path):
            return {"base_url": f"{origin}/{path}/v1", "api_key": "none", "max_retries": 0}

        self.client = functools.cache(lambda path: openai.OpenAI(**settings(path)))
        self.aclient = functools.cache(lambda path: openai.AsyncOpenAI(**settings(path)))

    def stream(self, path, note):
        completions = self.client(path).chat.completions
        with completions.create(
            model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    async def astream(self, path, note):
        completions = self.aclient(path).chat.completions
        async with await completions.create(
            model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        ) as stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        note(choice.delta.content)

    def request(self, path, messages=QUESTION):
        completion = self.client(path).chat.completions.create(model=MODEL, messages=messages)
        return completion.choices[0].message.content

    async def arequest(self, path, messages=QUESTION):
        completion = await self.aclient(path).chat.completions.create(model=MODEL, messages=messages)
        return completion.choices[0].message.content

    async def aclose(self):
        """Clients end with their process."""
