"""``SGLangServer``: the engine on Modal's Server, authenticated, one URL for all replicas.

What ``homing deploy`` deploys. By hand::

    modal deploy -m homing_server.server
    modal run -m homing_server.server           # two prompts against a fresh replica

Compared with the example's ``http_server`` (:mod:`homing_server.sglang_low_latency`):
callers need a Modal proxy token, checked at the edge without waking a GPU; the edge drains
for minutes instead of seconds; it enforces a limit of requests per replica; and it is not
experimental. Needs modal 1.6.
"""

from __future__ import annotations

from typing import Any

import modal

from homing_server.lifecycle import lifecycle
from homing_server.probe import two_prompts
from homing_server.recipe import serving
from homing_server.resources import resources
from homing_server.settings import MINUTES, ServerSettings

settings = ServerSettings.load(variant="server")


app = modal.App(name=settings.app)


@app.server(**serving(settings), **resources(settings))
class SGLangServer(lifecycle(settings)):  # type: ignore[misc] # snapshots or not
    """One replica: a container with an SGLang engine on ``settings.port``."""

    settings = settings


@app.local_entrypoint()
async def test(  # its name and arguments are those of the example
    test_timeout: int = 10 * MINUTES,  # noqa: PT028
    prompt: str | None = None,  # noqa: PT028
    twice: bool = True,  # noqa: PT028
) -> None:
    """Start a replica and stream one reply, or two (``--no-twice``), from this machine.

    Needs a proxy token in the environment, as every caller does: ``MODAL_PROXY_TOKEN_ID`` and
    ``MODAL_PROXY_TOKEN_SECRET``. ``test_timeout`` in seconds covers the cold start too.
    """
    deployed: Any = SGLangServer  # the decorator makes a modal.Server of it
    await two_prompts(await deployed.get_url.aio(), timeout=test_timeout, prompt=prompt, twice=twice)
