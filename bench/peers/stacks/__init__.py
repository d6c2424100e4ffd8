"""The ways to talk to an engine, all with the same four methods.

A stack is made with the server's origin. `path` is what the loopback server is to answer (see
loopback/server.c); `note` is called with every piece of text.

    stream(path, note)            read a streamed reply to its end
    await astream(path, note)     the same in a task
    request(path, messages)       a reply in one piece; returns its text
    await arequest(path, messages)
    await aclose()

Each is written as a user of the library would, with what the library gives: typed objects where
it has them, plain JSON where it has none.
"""

QUESTION = [{"role": "user", "content": "Why do KV caches matter?"}]
MODEL = "Qwen/Qwen3-8B-FP8"
