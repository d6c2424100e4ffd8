"""One real cold start: 200 waiters on one client, by one policy, against a server that is not ready yet.

    python cold.py POLICY URL WAITERS

Prints when each waiter was served (monotonic nanoseconds, as the server counts) and who failed.
"""

import asyncio
import json
import sys
import time

QUESTION = [{"role": "user", "content": "Hello!"}]


def homing(url):
    from homing import AsyncClient

    client = AsyncClient(url, model="m")

    async def ask():
        await client.chat.completions.stream(messages=QUESTION).get_final_text()

    return ask


def openai(url, **settings):
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="none", **settings)

    async def ask():
        async for _ in await client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            pass

    return ask


def openai_patient(url):
    return openai(url, max_retries=100)


def polls(url, gap=1.0):
    import aiohttp

    connector = []

    async def ask():
        if not connector:
            connector.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        while True:
            body = {"messages": QUESTION, "stream": True}
            async with connector[0].post(f"{url}/v1/chat/completions", json=body) as response:
                if response.status != 503:
                    await response.read()
                    return
            await asyncio.sleep(gap)

    return ask


def fast_polls(url):
    return polls(url, gap=0.25)


def tenacity(url):
    import httpx
    from tenacity import retry, retry_if_exception_type, wait_exponential_jitter

    client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))

    @retry(retry=retry_if_exception_type(httpx.HTTPStatusError), wait=wait_exponential_jitter())
    async def ask():
        response = await client.post(f"{url}/v1/chat/completions", json={"messages": QUESTION, "stream": True})
        response.raise_for_status()

    return ask


async def main(policy, url, waiters):
    ask = {f.__name__: f for f in (homing, openai, openai_patient, polls, fast_polls, tenacity)}[policy](url)

    async def one(number):
        await asyncio.sleep(number * 0.5 / waiters)
        try:
            await ask()
        except Exception as error:  # noqa: BLE001  # whatever it raises, the waiter was not served
            return type(error).__name__
        return time.monotonic_ns()

    ends = await asyncio.gather(*map(one, range(waiters)))
    failed = [end for end in ends if isinstance(end, str)]
    print(json.dumps({"served": sorted(end for end in ends if not isinstance(end, str)), "failed": failed}))


if __name__ == "__main__":
    # Not this file's directory: another file of that name must not be found as a library.
    sys.path.pop(0)
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
