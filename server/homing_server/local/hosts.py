"""Names and addresses of hosts, each in one spelling."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

# The letters of DNS, and "_", which containers have in their names.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def hostname(authority: str) -> str:
    """Return the host of ``Host``'s value in small letters, without its port; nothing for what is none."""
    try:
        url = urlsplit(f"//{authority}")
        _ = url.port
    except ValueError:
        return ""
    host = url.hostname or ""
    if url.path or url.query or url.fragment or "@" in url.netloc or ("[" in url.netloc and _address(host) is None):
        return ""
    return plain(host.removesuffix("."))


def bare(host: str) -> str:
    """Return a host of the settings as `hostname` would: an IPv6 address may be without its brackets."""
    return hostname(f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host)


def plain(host: str) -> str:
    """Return an address in its usual spelling, and a name as it is.

    An IPv4 address may be written as an IPv6 one: a socket for both does so. The zone of an IPv6 address is left
    out: it names an interface of this machine, and no ``Host`` has it.
    """
    address = _address(host)
    return host if address is None else str(address)


def is_loopback(host: str) -> bool:
    """Whether this host is always the machine itself."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def checked(host: str) -> str:
    """Return ``host`` if a ``Host`` header can name it. Raises ``ValueError``."""
    found = bare(host)
    if _address(found) is None and not _NAME.fullmatch(found):
        raise ValueError("must be a host name such as edge.example, or an IP address: no scheme, path or wildcard")
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
