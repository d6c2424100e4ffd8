"""Programs that fork in awkward moments, each in a process of its own: `python -m tests.attack.forking NAME URL`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import ssl
import sys
import threading
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import pytest

from homing import AsyncClient, Client, EchoAffinity, HomingError, Hooks, ModalAffinity
from homing.core.affinity.strategies import new_key

ASKED: list[Any] = [{"role": "user", "content": "Hello"}]
WAIT: list[Any] = [{"role": "user", "content": "Wait"}]
WHOLE = "One two three."
GUARD = 60
"""Seconds after which a child is taken to hang, and killed."""


def tell(url: str, what: str) -> Any:
    """Have the server do ``what``, or say it."""
    context = ssl.create_default_context() if url.startswith("https") else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"{url}/_tell/{what}") as answer:
        return json.load(answer)


def begin(work: Callable[[], object]) -> int:
    """Fork, and do ``work`` in the child. Return its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(GUARD)
        work()
        gc.collect()
        status = 0
    except BaseException:  # noqa: BLE001 - shown
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(pid: int) -> None:
    """Wait for a child, which must have done its work."""
    assert os.waitpid(pid, 0)[1] == 0, "the child failed or hung"


def sockets() -> set[str]:
    """Return the sockets of this process, as the system knows them."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:  # the listing's own
            continue
        if name.startswith("socket:"):
            found.add(name)
    return found


def use(client: Client, who: str = "child") -> None:
    """Do what a program does with a client."""
    named = client.with_options(default_headers={"x-who": who})
    assert named.chat.completions.create(messages=ASKED).choices[0].message.content == WHOLE
    conversation = named.conversation()
    assert conversation.send("Hello").text == WHOLE
    assert "".join(conversation.stream("Again").text) == WHOLE


async def use_async(client: AsyncClient, who: str = "child") -> None:
    named = client.with_options(default_headers={"x-who": who})
    answer = await named.chat.completions.create(messages=ASKED)
    assert answer.choices[0].message.content == WHOLE
    conversation = named.conversation()
    assert (await conversation.send("Hello")).text == WHOLE
    assert "".join([piece async for piece in conversation.stream("Again").text]) == WHOLE


@contextmanager
def threads(*works: Callable[[], object]) -> Iterator[None]:
    """Do ``works`` in threads meanwhile. None may raise."""
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    running = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(GUARD)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


# -- the moments -------------------------------------------------------------------------------------


def cold_start(url: str) -> None:
    """A thread of the parent leads a cold start, others wait for it. The server comes up when the child asks."""
    tell(url, "cool")
    waits = [threading.Event() for _ in range(3)]
    waiting = iter(waits)
    client = Client(url, model="m", hooks=Hooks(on_wait=lambda notice: next(waiting, waits[-1]).set()))
    with threads(*[lambda: use(client, "parent")] * 3):
        for wait in waits:
            assert wait.wait(GUARD)
        child = begin(lambda: use(client))
        end(child)
    use(client, "parent")


def look_up(url: str) -> None:
    """A thread of the parent asks for the model's name."""
    tell(url, "cool")
    waits = threading.Event()
    client = Client(url, hooks=Hooks(on_wait=lambda notice: waits.set()))
    with threads(lambda: use(client, "parent")):
        assert waits.wait(GUARD)
        end(begin(lambda: use(client)))


def locks(url: str) -> None:
    """Another thread holds every lock there is."""
    client = Client(url, model="m", placement="balanced", affinity=ModalAffinity() + EchoAffinity())
    use(client, "parent")
    conversation = client.conversation()
    stream = conversation.stream("Wait")
    assert next(iter(stream.text))
    kinds = (type(threading.Lock()), type(threading.RLock()))
    found: list[Any] = []
    for owner in gc.get_objects():
        if not type(owner).__module__.startswith("homing.") or type(owner).__module__ in OTHERS:
            continue
        names = [*getattr(owner, "__dict__", ()), *getattr(type(owner), "__slots__", ())]
        found += [value for name in names if isinstance(value := getattr(owner, name, None), kinds)]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        taken = [lock for lock in found if lock.acquire(blocking=False)]
        assert len(taken) >= 7, "readiness, replicas, sums, histories, tokens, connections, the call under way"
        held.set()
        assert done.wait(GUARD)
        for lock in taken:
            lock.release()

    def child() -> None:
        use(client)
        stream.cancel()
        stream.close()
        assert stream.response is not None
        stream.response.close()
        client.close()

    with threads(hold):
        assert held.wait(GUARD)
        pid = begin(child)
        done.set()
    end(pid)
    tell(url, "go")
    assert stream.reply().text == WHOLE
    use(client, "parent")


OTHERS = ("homing._concurrency.threads", "homing._sync.turn_lock")
"""Alarms, which are locks that are held by custom; and what `turn` is about."""


def idle(url: str) -> None:
    """The parent has connections that wait to be used again. Children and theirs open their own."""
    client = Client(url, model="m")
    use(client, "parent")
    theirs = sockets()
    assert theirs

    def child() -> None:
        if "HTTP_PROXY" in os.environ:
            gc.collect()  # httpx's own connections have no other end
        assert not sockets() & theirs
        use(client)
        end(begin(lambda: use(client, "grandchild")))
        use(client)
        client.close()

    for pid in [begin(child), begin(child)]:
        end(pid)
    use(client, "parent")
    ports: dict[str, set[int]] = {}
    for who, port in tell(url, "seen"):
        ports.setdefault(who, set()).add(port)
    assert len(ports["parent"]) == 1, ports
    assert len(ports["child"]) == len(ports["grandchild"]) == 2
    assert not ports["parent"] & ports["child"] | ports["child"] & ports["grandchild"]


def idle_async(url: str) -> None:
    async def main() -> None:
        client = AsyncClient(url, model="m")
        await use_async(client, "parent")

        async def child() -> None:
            await use_async(client)
            await client.aclose()

        end(begin(lambda: asyncio.run(child())))
        await use_async(client, "parent")
        await client.aclose()

    asyncio.run(main())
    ports = {who: {port for name, port in tell(url, "seen") if name == who} for who in ("parent", "child")}
    assert len(ports["parent"]) == len(ports["child"]) == 1
    assert ports["parent"] != ports["child"]


def streams(url: str) -> None:
    """The forking thread is in the middle of a stream, in every form there is. The child leaves it in every way."""
    for opened in STREAMS:
        for leave in LEAVES:
            tell(url, "hold")
            client = Client(url, model="m")
            conversation = client.conversation()
            stream: Any = opened(client, conversation)
            seen = [next(stream)]

            def child(client: Client = client, stream: Any = stream, leave: Callable[[Any], None] = leave) -> None:
                leave(stream)
                del stream
                gc.collect()
                use(client)

            pid = begin(child)
            end(pid)
            assert tell(url, "broken") == 0
            tell(url, "go")
            seen += stream
            assert "".join(_text(item) for item in seen) == WHOLE
            client.close()


def _text(item: Any) -> str:
    if hasattr(item, "choices"):
        return "".join(choice.delta.content or "" for choice in item.choices)
    return item.delta if getattr(item, "type", "") == "content.delta" else ""


def _with(stream: Any) -> None:
    try:
        with stream:
            raise SystemExit  # as a child of a program does that is done
    except SystemExit:
        pass


def _read(stream: Any) -> None:
    for _ in range(2):
        with pytest.raises(HomingError, match="fork"):
            list(stream)


STREAMS: list[Callable[[Client, Any], Any]] = [
    lambda client, conversation: conversation.stream("Wait"),
    lambda client, conversation: conversation.run_stream("Wait", tools=[]),
    lambda client, conversation: client.chat.completions.create(messages=WAIT, stream=True),
    lambda client, conversation: client.chat.completions.stream(messages=WAIT),
]
LEAVES: list[Callable[[Any], None]] = [
    lambda stream: None,  # dropped
    lambda stream: stream.close(),
    lambda stream: stream.cancel(),
    lambda stream: stream.response.close(),
    _with,
    _read,
]


def streams_async(url: str) -> None:
    """The same in an event loop, whose selector the child shares."""

    async def main() -> None:
        for leave in ("drop", "close", "cancel", "read", "response"):
            tell(url, "hold")
            client = AsyncClient(url, model="m")
            conversation = client.conversation()
            stream = conversation.stream("Wait")
            text = stream.text
            seen = [await text.__anext__()]

            async def child(client: AsyncClient = client, stream: Any = stream, leave: str = leave) -> None:
                if leave == "close":
                    await stream.aclose()
                elif leave == "cancel":
                    stream.cancel()
                elif leave == "response":
                    await stream.response.aclose()
                elif leave == "read":
                    with pytest.raises(HomingError, match="fork"):
                        await stream.reply()
                del stream
                gc.collect()
                await use_async(client)
                await client.aclose()

            end(begin(lambda child=child: asyncio.run(child())))  # type: ignore[misc]
            assert tell(url, "broken") == 0
            tell(url, "go")
            seen += [piece async for piece in text]
            assert "".join(seen) == WHOLE
            assert conversation.history[-1]["content"] == WHOLE
            await client.aclose()

    asyncio.run(main())


def turn(url: str) -> None:
    """A turn runs in another thread of the parent: the child's copy of the conversation is free."""
    client = Client(url, model="m")
    conversation = client.conversation(on_busy="raise")
    tell(url, "hold")
    heard = threading.Event()

    def speak() -> None:
        said = ""
        for piece in conversation.stream("Wait").text:
            said += piece
            heard.set()
        assert said == WHOLE

    with threads(speak):
        assert heard.wait(GUARD)
        end(begin(lambda: conversation.send("Hello")))
        tell(url, "go")
    assert [message["content"] for message in conversation.history] == ["Wait", WHOLE]


def unbegun(url: str) -> None:
    """A stream of which nothing has been asked for is anybody's."""
    client = Client(url, model="m")
    stream = client.conversation().stream("Hello")
    end(begin(lambda: _equal(stream.reply().text, WHOLE)))
    assert stream.reply().text == WHOLE


def _equal(one: object, other: object) -> None:
    assert one == other


def chance(url: str) -> None:
    """Keys and pauses of parent and children differ."""
    new_key()
    random.random()
    drawn: list[list[str]] = []
    for _ in range(2):
        read, write = os.pipe()

        def child(write: int = write) -> None:
            key = Client(url, model="m").conversation().affinity_key
            os.write(write, f"{new_key()} {key} {random.random()}".encode())

        end(begin(child))
        drawn.append(os.read(read, 1000).decode().split())
    drawn.append([new_key(), new_key(), str(random.random())])
    assert len({word for words in drawn for word in words}) == 9


shared: Client | None = None


def _work(url: str) -> int:
    global shared
    if shared is None:  # spawned
        shared = Client(url, model="m")
    use(shared)
    return os.getpid()


def pools(url: str) -> None:
    """multiprocessing and concurrent.futures, forked with a client in use, and spawned."""
    global shared
    shared = Client(url, model="m")
    use(shared, "parent")
    for method in ("fork", "spawn"):
        with get_context(method).Pool(2) as pool:
            assert os.getpid() not in pool.map_async(_work, [url] * 4).get(GUARD)
        with ProcessPoolExecutor(2, mp_context=get_context(method)) as executor:
            assert os.getpid() not in list(executor.map(_work, [url] * 4, timeout=GUARD))
    use(shared, "parent")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
