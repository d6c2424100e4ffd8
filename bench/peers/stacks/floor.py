"""No client: a socket, a split at blank lines, jiter. What a client cannot go below in Python.

It knows the loopback server's framing and checks nothing.
"""

import asyncio
import json
import socket
from urllib.parse import urlsplit

import jiter

from . import MODEL, QUESTION

PACKAGES = ["jiter"]


def request_bytes(path, messages, *, stream):
    body = json.dumps({"model": MODEL, "messages": messages, "stream": stream}).encode()
    head = f"POST /{path}/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def text_of(event):
    choices = jiter.from_json(event[event.index(b"{") : event.rindex(b"}") + 1])["choices"]
    return choices[0]["delta"]["content"] if choices else None


def take(held, note):
    """Report the events that are whole; return the rest."""
    *events, rest = held.split(b"\n\n")
    for event in events:
        if b"{" in event:
            text = text_of(event)
            if text:
                note(text)
    return rest


class Reader(asyncio.Protocol):
    def __init__(self):
        self.waiter = None
        self.held = b""

    def data_received(self, data):
        self.held += data
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def more(self):
        if not self.held:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        held, self.held = self.held, b""
        return held


class Stack:
    def __init__(self, origin):
        parts = urlsplit(origin)
        self.address = parts.hostname, parts.port
        self.sock = None
        self.idle = []

    def _socket(self):
        if self.sock is None:
            self.sock = socket.create_connection(self.address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.sock

    def stream(self, path, note):
        sock = self._socket()
        sock.sendall(request_bytes(path, QUESTION, stream=True))
        rest = b""
        while True:
            data = rest + sock.recv(65536)
            rest = take(data, note)
            if data.endswith(b"0\r\n\r\n"):
                return

    async def _connection(self):
        if self.idle:
            return self.idle.pop()
        return await asyncio.get_running_loop().create_connection(Reader, *self.address)

    async def astream(self, path, note):
        transport, reader = await self._connection()
        transport.write(request_bytes(path, QUESTION, stream=True))
        rest = b""
        while True:
            data = rest + await reader.more()
            rest = take(data, note)
            if data.endswith(b"0\r\n\r\n"):
                self.idle.append((transport, reader))
                return

    def request(self, path, messages=QUESTION):
        sock = self._socket()
        sock.sendall(request_bytes(path, messages, stream=False))
        data = b""
        while not data.endswith(b"}}"):
            data += sock.recv(65536)
        return jiter.from_json(data[data.index(b"\r\n\r\n") + 4 :])["choices"][0]["message"]["content"]

    async def arequest(self, path, messages=QUESTION):
        transport, reader = await self._connection()
        transport.write(request_bytes(path, messages, stream=False))
        data = b""
        while not data.endswith(b"}}"):
            data += await reader.more()
        self.idle.append((transport, reader))
        return jiter.from_json(data[data.index(b"\r\n\r\n") + 4 :])["choices"][0]["message"]["content"]

    async def aclose(self):
        for transport, _ in self.idle:
            transport.abort()
