"""``homing doctor``: finds out what is wrong between this machine and the server, and how to fix it."""

from __future__ import annotations

import email.utils
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import click

from homing import (
    AuthenticationError,
    Client,
    ColdStartTimeout,
    Conversation,
    HomingError,
    Hooks,
    NoAffinity,
    PermissionDeniedError,
    Reply,
)

from ..core.text.control_characters import one_line
from .checks import (
    Check,
    judge_affinity,
    judge_cache,
    judge_certificate,
    judge_clock,
    judge_model,
    judge_stream,
    judge_usage,
    worst,
)
from .connection import Server, server_options
from .output import say
from .progress import WaitLine
from .wait import TIMEOUT

TURNS = 3
"""Turns per probe conversation: the second shows the cache, the third that the first two weren't chance."""
CONNECT_TIMEOUT = 10.0
"""Seconds for a bare connection; one to the other side of the world takes one second."""
REPLY_TOKENS = 48
"""Enough pieces to tell whether they stream, few enough to be cheap."""
PROMPT = "Count from 1 to 40, separated by blanks, and say nothing else."
NEED_A_MODEL = ("streaming", "usage", "clock", "cached tokens", "affinity")
"""Checks that request replies."""
_MARKS = {"ok": "✓", "warn": "!", "fail": "✗", "unknown": "?"}


@click.command()
@server_options
@click.option("--probes", default=6, show_default=True, type=click.IntRange(1), help="Conversations for affinity.")
@click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait for a cold server.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(server: Server, probes: int, timeout: float, as_json: bool) -> None:
    """Look at URL, TLS, keys, model, streaming, usage, cache, affinity and clocks.

    Sends a few short requests. Exits with 1 if anything is broken.
    """
    findings: list[Check] = []
    with Examination(server, probes=probes, timeout=timeout) as examination:
        for check in examination.checks():
            findings.append(check)
            if not as_json:
                _show(check)
    if as_json:
        told = {"verdict": worst(findings), "checks": [check.to_dict() for check in findings]}
        say(json.dumps(told, indent=1))
    if worst(findings) == "fail":
        raise click.exceptions.Exit(1)


def _show(check: Check) -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "cyan"}[check.verdict]
    say(one_line(f" {check.name:<14} {check.found}"), mark=click.style(_MARKS[check.verdict], fg=colour))
    if check.fix and check.verdict != "ok":
        say(f"  → {one_line(check.fix)}")


@dataclass
class Probe:
    """One short conversation and its replies."""

    replies: list[Reply] = field(default_factory=list)

    def hold(self, chat: Conversation) -> None:
        """Run the conversation's turns and collect the replies."""
        for turn in range(TURNS):
            self.replies.append(chat.send(f"Say a word about the number {turn}.", max_tokens=8))


class Examination:
    """Takes the measurements step by step. A failed step skips those that depend on it."""

    def __init__(self, server: Server, *, probes: int, timeout: float) -> None:
        self._line = WaitLine()
        self._client: Client = server.client(hooks=Hooks(on_wait=self._line), cold_start_timeout=timeout)
        self._probes = probes

    def __enter__(self) -> Examination:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def checks(self) -> Iterator[Check]:
        """Yield the findings as they become available."""
        reached = self._reach()
        yield reached[0]
        if reached[0].verdict == "fail":
            return
        host = urlsplit(self._client.base_url).hostname
        yield judge_certificate(reached[1], loopback=host in ("localhost", "127.0.0.1", "::1"))
        try:
            yield from self._ask()
        except (AuthenticationError, PermissionDeniedError) as error:
            self._line.clear()
            yield Check("auth", "fail", error.message, "Modal's proxy auth wants --proxy-token, an engine --api-key.")
        except ColdStartTimeout as error:
            yield Check("ready", "fail", str(error), "Look at the server's log: `homing server logs`.")
        except HomingError as error:
            self._line.clear()
            yield Check("request", "fail", str(error), "Mend this first: the other checks need it.")

    def _reach(self) -> tuple[Check, float | None]:
        """Connect without HTTP to check name, port and certificate. Return also the certificate's days left."""
        url = urlsplit(self._client.base_url)
        host, secure = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if secure else 80)
        try:
            with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT) as plain:
                found = Check("reach", "ok", f"{host}:{port}")
                if not secure:
                    return found, None
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
                    ends = ssl.cert_time_to_seconds(str((wrapped.getpeercert() or {})["notAfter"]))
                    return found, (ends - time.time()) / 86_400
        except socket.gaierror:
            return Check("reach", "fail", f"the name {host} cannot be resolved", "Check the URL."), None
        except ssl.SSLCertVerificationError as error:
            fix = "Check the host name; for a certificate of your own pass an http_client that trusts it."
            return Check("reach", "fail", f"the certificate is not trusted: {error.verify_message}", fix), None
        except ssl.SSLError as error:
            return Check("reach", "fail", f"TLS failed: {error.reason}", "Is it an https server?"), None
        except OSError as error:
            fix = "Is it running? For a local one: `homing up`."
            return Check("reach", "fail", f"cannot connect to {host}:{port}: {error.strerror or error}", fix), None

    def _ask(self) -> Iterator[Check]:
        client = self._client
        ready = client.wait_until_ready()
        self._line.clear()
        cold = f"after a cold start of {ready.waited:.1f} s" if ready.waited else "at once"
        yield Check("ready", "ok", f"answered {cold}")
        yield Check("auth", "ok", "the server takes these credentials")
        served = [model.id for model in client.models.list().data]
        wanted = client._options.model
        yield judge_model(wanted, served)
        model = wanted or next(iter(served), None)
        if model is None:
            yield from (Check(name, "unknown", "skipped: there is no model to ask") for name in NEED_A_MODEL)
            return
        yield from self._stream(model)
        yield from self._affinity()

    def _stream(self, model: str) -> Iterator[Check]:
        sent = time.monotonic()
        pieces: list[float] = []
        stream = self._client.chat.completions.stream(
            model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=REPLY_TOKENS
        )
        with stream:
            pieces += [time.monotonic() for event in stream if event.type in ("content.delta", "reasoning.delta")]
            usage = stream.current_completion_snapshot.usage
            date = stream.response.headers.get("date") if stream.response is not None else None
        yield judge_stream(pieces, sent=sent)
        yield judge_usage(None if usage is None else usage.prompt_tokens)
        yield judge_clock(_skew(date))

    def _affinity(self) -> Iterator[Check]:
        probes = [Probe() for _ in range(self._probes)]
        homes: dict[str, list[str | None]] = {}
        for probe in probes:
            chat = self._client.conversation(system="You answer with one word.")
            probe.hold(chat)
            homes[chat.affinity_key] = [reply.telemetry.replica for reply in probe.replies]
        cached = [[reply.telemetry.cached_tokens for reply in probe.replies] for probe in probes]
        yield judge_cache([turns[0] for turns in cached], [tokens for turns in cached for tokens in turns[1:]])
        loose = self._client.with_options(affinity=NoAffinity())
        stray = Probe()
        stray.hold(loose.conversation())
        yield judge_affinity(homes, [reply.telemetry.replica for reply in stray.replies])


def _skew(date: str | None) -> float | None:
    """Return the seconds that the server's clock is ahead, or None if it sends no valid date."""
    try:
        return None if date is None else email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return None
