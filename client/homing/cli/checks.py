"""What the doctor concludes from its measurements. Pure; `doctor` does the measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warn", "fail", "unknown"]

BUFFERED_SPREAD = 0.1
"""If all pieces of a stream arrived within this share of its duration, something on the way buffered it."""
SHORT_STREAM = 0.1
"""Seconds below which a stream is too short to tell whether it was buffered."""
FEW_PIECES = 4
"""Fewer pieces may arrive together by chance, because an engine sends several tokens at once if it can."""
CLOCK_SKEW = 5.0
"""Tolerated seconds between the server's ``Date`` (in whole seconds, plus network latency) and this machine's clock."""
CERTIFICATE_DAYS = 14
"""Days of validity left below which an automatically renewed certificate should have been renewed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was checked, the result, and how to fix it."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def judge_stream(pieces: Sequence[float], *, sent: float) -> Check:
    """Judge from the arrival times of the pieces whether the server really streams. ``sent`` is the request's time."""
    if not pieces:
        return Check("streaming", "fail", "the stream brought no text", "Look at the server's log.")
    whole = pieces[-1] - sent
    spread = pieces[-1] - pieces[0]
    told = f"{len(pieces)} pieces over {spread:.2f} s, the first after {pieces[0] - sent:.2f} s"
    if len(pieces) < FEW_PIECES or whole < SHORT_STREAM:
        return Check("streaming", "unknown", f"{told}: too short to tell")
    if spread < BUFFERED_SPREAD * whole:
        return Check(
            "streaming",
            "fail",
            f"{told}: they came all at once",
            "Something on the way collects the answer. Turn response buffering off in the proxy "
            "(nginx: proxy_buffering off, or the header X-Accel-Buffering: no) and compression too.",
        )
    return Check("streaming", "ok", told)


def judge_usage(prompt_tokens: int | None) -> Check:
    """Judge whether streams report token counts."""
    if prompt_tokens is None:
        return Check("usage", "warn", "streams report no counts", "The server ignores stream_options.include_usage.")
    return Check("usage", "ok", f"{prompt_tokens} prompt tokens reported")


def judge_cache(first: Sequence[int | None], later: Sequence[int | None]) -> Check:
    """Judge from the cached tokens of first and later turns whether a cache is on and reported."""
    known = [cached for cached in later if cached is not None]
    if not known:
        return Check(
            "cached tokens",
            "warn",
            "not reported",
            "Start SGLang with --enable-cache-report; without it 0 and unknown look alike.",
        )
    if not any(known):
        return Check(
            "cached tokens",
            "fail",
            "reported, but later turns found nothing in a cache",
            "The prefix cache is off, or turns reach other replicas: see affinity. Hybrid models with "
            "speculation need SGLang's extra-buffer strategy (docs: Configure).",
        )
    share = sum(1 for cached in known if cached) / len(known)
    return Check("cached tokens", "ok", f"{share:.0%} of the later turns found their prefix cached")


def judge_affinity(homes: Mapping[str, Sequence[str | None]], stray: Sequence[str | None]) -> Check:
    """Judge affinity by the replicas that each conversation's turns reached, and those that keyless requests did."""
    seen = {replica for replicas in homes.values() for replica in replicas}
    if None in seen:
        return Check(
            "affinity",
            "unknown",
            "replies do not say which replica they are from",
            "Deploy with `homing deploy`, or look at the cached tokens instead.",
        )
    strayed = [key for key, replicas in homes.items() if len(set(replicas)) > 1]
    told = f"{len(homes)} conversations over {len(seen)} replica{'s' * (len(seen) != 1)}"
    if strayed:
        return Check(
            "affinity",
            "fail",
            f"{told}: {len(strayed)} strayed",
            "The router does not hash the affinity header, or replicas came and went meanwhile. Which header does "
            "it want? Client(affinity=HeaderAffinity('…')).",
        )
    if len(seen | set(stray)) == 1:
        return Check("affinity", "unknown", f"{told}: no choice", "Ask again with two or more replicas up.")
    return Check("affinity", "ok", f"{told}: every turn came home")


def judge_clock(skew: float | None) -> Check:
    """Judge whether both clocks agree, which matters because tokens expire and logs are compared."""
    if skew is None:
        return Check("clock", "unknown", "the server states no date")
    if abs(skew) > CLOCK_SKEW:
        ahead = "ahead of" if skew > 0 else "behind"
        return Check(
            "clock", "warn", f"the server is {abs(skew):.0f} s {ahead} this machine", "Set this machine's clock by NTP."
        )
    return Check("clock", "ok", "agrees with the server's to a few seconds")


def judge_certificate(days: float | None, *, loopback: bool) -> Check:
    """Judge how many ``days`` the certificate remains valid, None for plain HTTP."""
    if days is None and loopback:
        return Check("TLS", "ok", "plain HTTP, on this machine")
    if days is None:
        return Check("TLS", "warn", "plain HTTP", "Anybody on the way reads keys and conversations: use https.")
    if days < CERTIFICATE_DAYS:
        return Check("TLS", "warn", f"the certificate ends in {days:.0f} days", "See why it has not been renewed.")
    return Check("TLS", "ok", f"trusted, valid for {days:.0f} more days")


def judge_model(wanted: str | None, served: Sequence[str]) -> Check:
    """Judge whether the server serves the ``wanted`` model."""
    listed = ", ".join(served) or "none"
    if not served:
        return Check(
            "model", "fail", "the server lists none", "Is this an OpenAI-compatible server? Has it loaded a model?"
        )
    if wanted is not None and wanted not in served:
        fix = "Pass --model, or set HOMING_MODEL."
        return Check("model", "warn", f"{wanted} is not listed; there are: {listed}", fix)
    return Check("model", "ok", listed)


def worst(checks: Sequence[Check]) -> Verdict:
    """Return the worst verdict of all checks."""
    order: tuple[Verdict, ...] = ("fail", "warn", "unknown", "ok")
    for verdict in order:
        if any(check.verdict == verdict for check in checks):
            return verdict
    return "ok"
