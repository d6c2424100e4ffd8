"""litellm with an OpenAI-compatible server."""

import litellm

from . import MODEL, QUESTION

PACKAGES = ["litellm", "openai", "httpx", "aiohttp", "pydantic"]


class Stack:
    def __init__(self, origin):
        self.origin = origin

    def _settings(self, path, messages, **more):
        return {
            "model": f"openai/{MODEL}",
            "messages": messages,
            "api_base": f"{self.origin}/{path}/v1",
            "api_key": "none",
            "num_retries": 0,
            **more,
        }

    def stream(self, path, note):
        options = {"include_usage": True}
        for chunk in litellm.completion(**self._settings(path, QUESTION, stream=True, stream_options=options)):
            for choice in chunk.choices:
                if choice.delta.content:
                    note(choice.delta.content)

    async def astream(self, path, note):
        options = {"include_usage": True}
        stream = await litellm.acompletion(**self._settings(path, QUESTION, stream=True, stream_options=options))
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    note(choice.delta.content)

    def request(self, path, messages=QUESTION):
        return litellm.completion(**self._settings(path, messages)).choices[0].message.content

    async def arequest(self, path, messages=QUESTION):
        completion = await litellm.acompletion(**self._settings(path, messages))
        return completion.choices[0].message.content

    async def aclose(self):
        """Clients end with their process."""
