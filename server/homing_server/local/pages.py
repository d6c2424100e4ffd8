"""Keeps web pages out: any page that the user has open can send requests to 127.0.0.1.

A page may be served under a name that its owner then lets point here (DNS rebinding): the browser takes the answer
for the page's own, but says the name in ``Host``. Or it sends what needs no leave (a form, an image, a "simple"
request) and cannot read the answer: such requests say where they come from, in ``Sec-Fetch-Site`` or ``Origin``. No
page can change these headers, and programs that are no browsers say nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .doorkeeper import Refused
from .hosts import hostname, is_loopback, plain

OWN_SITES = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` may say (Fetch Metadata): a page of this very edge, or the user, by hand."""


def keep_out(headers: Mapping[str, str], *, names: Collection[str], reached: str | None) -> None:
    """Let a request pass or raise ``Refused``: 421 for a name that is not the edge's, 403 for a page of others.

    ``names`` are the hosts under which the edge may be asked for, as `hosts.bare` writes them, beside loopback's and
    ``reached``, the address at which this request has come in.
    """
    authority = headers.get("host", "")
    host = hostname(authority)
    if not (host and (host in names or host == plain(reached or "") or is_loopback(host))):
        raise Refused(
            421,
            f"this edge is not known as {host or 'nothing'!a}. If that is your own name for it, allow it: "
            "homing up --allow-host NAME, or EdgeSettings(allowed_hosts=…).",
        )
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != authority.lower()
    if foreign or headers.get("sec-fetch-site", "none") not in OWN_SITES:
        raise Refused(403, "pages of other origins may not use this edge; let their server ask it.")
