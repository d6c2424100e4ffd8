"""A streamed reply: bytes in, what the caller asked for out. SSE, chunks, the reply so far, structured output.

Imports `core.errors` and `core.telemetry`. Doesn't depend on requests, retries or conversations.
"""
