"""What a worker measures, the same for every stack. CPU seconds are getrusage's: user and system, all threads."""

import asyncio
import functools
import random
import resource
import time


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss():
    """Bytes of memory in use now (not the peak)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@functools.cache
def history(count, characters):
    """Return a conversation of ``count`` messages of that length each, no two alike."""
    words = "the singular value decomposition of a matrix generalises its eigendecomposition and "
    text = words * (characters // len(words) + 1)
    return [{"role": "assistant" if i % 2 else "user", "content": f"{i:06d} {text}"[:characters]} for i in range(count)]


# -- one stream or request after the other ---------------------------------------------------


def streams(stack, path, times):
    texts = []
    cpu_before, wall_before = cpu(), time.perf_counter()
    for _ in range(times):
        stack.stream(path, texts.append)
    return {"cpu": cpu() - cpu_before, "wall": time.perf_counter() - wall_before, "texts": len(texts)}


async def astreams(stack, path, times):
    texts = []
    cpu_before, wall_before = cpu(), time.perf_counter()
    for _ in range(times):
        await stack.astream(path, texts.append)
    return {"cpu": cpu() - cpu_before, "wall": time.perf_counter() - wall_before, "texts": len(texts)}


def requests(stack, path, times):
    sizes = set()
    before = cpu()
    for _ in range(times):
        sizes.add(len(stack.request(path)))
    return {"cpu": cpu() - before, "times": times, "sizes": sorted(sizes)}


async def arequests(stack, path, times):
    sizes = set()
    before = cpu()
    for _ in range(times):
        sizes.add(len(await stack.arequest(path)))
    return {"cpu": cpu() - before, "times": times, "sizes": sorted(sizes)}


def turns(stack, path, times, count, characters):
    """Send a long list of messages again and again, each time with another last one: the next turn."""
    messages = list(history(count, characters))
    text = messages[-1]["content"]
    stack.request(path, messages)
    used = 0.0
    for turn in range(times):
        messages[-1] = {"role": "user", "content": f"{turn} {text}"[:characters]}
        before = cpu()
        stack.request(path, messages)
        used += cpu() - before
    return {"cpu": used}


async def concurrent(stack, path, tasks, requests):
    """Let ``tasks`` send ``requests`` in all, each its next one as soon as it has an answer."""
    left = iter(range(requests))
    took = []

    async def one():
        for _ in left:
            began = time.perf_counter()
            await stack.arequest(path)
            took.append(time.perf_counter() - began)

    cpu_before, wall_before = cpu(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    wall = time.perf_counter() - wall_before
    took.sort()
    return {
        "cpu": cpu() - cpu_before,
        "wall": wall,
        "rate": len(took) / wall,
        "p50": quantile(took, 0.5),
        "p99": quantile(took, 0.99),
    }


# -- many streams at once --------------------------------------------------------------------


async def flood(stack, path, count):
    """Read ``count`` streams at once, each as fast as it comes."""
    texts = []
    cpu_before, wall_before = cpu(), time.perf_counter()
    await asyncio.gather(*(stack.astream(path, texts.append) for _ in range(count)))
    wall = time.perf_counter() - wall_before
    return {"cpu": cpu() - cpu_before, "wall": wall, "texts": len(texts), "rate": len(texts) / wall}


async def paced(stack, path, count, warm_up, window):
    """Hold ``count`` paced streams and look at ``window`` seconds of them: CPU share and added delay."""
    delays = []
    clock = time.monotonic_ns

    def note(text):
        delays.append(clock() - int(text))  # the text is when the server sent it

    async def one():
        await asyncio.sleep(random.random() * warm_up / 3)
        await stack.astream(path, note)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await asyncio.sleep(warm_up)
    delays.clear()
    cpu_before, wall_before = cpu(), time.perf_counter()
    await asyncio.sleep(window)
    used, wall = cpu() - cpu_before, time.perf_counter() - wall_before
    seen = sorted(delays)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, Exception) and not isinstance(end, asyncio.CancelledError)]
    if failed:
        raise failed[0]
    if not seen:
        raise TimeoutError("not one event came: the machine has no time for this process")
    return {
        "share": used / wall,
        "each": used / len(seen),
        "rate": len(seen) / wall,
        "p50": quantile(seen, 0.5) / 1e6,
        "p99": quantile(seen, 0.99) / 1e6,
    }


async def held(stack, path, count):
    """Open ``count`` streams that then stand still, and see what each of them takes."""

    events = int(path.partition("-")[2])

    async def opened(number):
        arrived = asyncio.Semaphore(0)
        made = [asyncio.create_task(stack.astream(path, lambda _: arrived.release())) for _ in range(number)]
        for _ in range(number * events):
            await arrived.acquire()
        return made

    for _ in range(3):
        await stack.astream("burst-20", len)
    tasks = await opened(20)  # buffers and caches that are there once
    before = rss()
    tasks += await opened(count)
    taken = rss() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"bytes": taken / count}
