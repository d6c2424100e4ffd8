"""One HTTP request, built from a call's settings. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._version import __version__
from ..affinity.strategies import Affinity, NoAffinity, pinned_headers, strategy_for
from ..encoding.messages import encode_request
from ..retry.timers import Timeout
from ..secrets.caller import caller_digest
from .environment import CREDENTIAL_HEADERS, merge_headers
from .options import Options
from .resume_style import ResumeChoice

USER_AGENT = f"homing/{__version__}"


@dataclass(slots=True)
class Request:
    """What one call sends. The attempts of a call differ only in ``with_key``."""

    method: str
    path: str
    timeout: Timeout
    params: dict[str, Any] | None = None
    messages: Sequence[bytes] = ()
    stream: bool = False
    affinity: Affinity = field(default_factory=NoAffinity)
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    conversation: str | None = None
    """The id of the turn's conversation, for tracing hooks. It is not sent."""
    resume: ResumeChoice = "never"
    max_response_bytes: float | None = None
    """Infinity for no limit, None for the client's limit."""
    said: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The combined headers of client and call, without routing headers. Set by `build`."""

    @property
    def home(self) -> str | None:
        """The key that leads to a replica; None for a request that may go to any."""
        return None if isinstance(self.affinity, NoAffinity) else self.key

    def build(self, options: Options, *, with_key: bool) -> tuple[str, dict[str, str], bytes | None]:
        """Return the URL, headers and body of the next attempt."""
        headers = {
            "Accept": "text/event-stream" if self.stream else "application/json",
            # Compression delays the first token, and saves nothing on events of a few hundred bytes.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
            **({} if self.params is None else {"Content-Type": "application/json"}),
            **options.credentials.headers(),
        }
        params = None if self.params is None else dict(self.params)
        # What is closer to the call wins. As in openai-python, a caller's own Authorization header is kept.
        headers = merge_headers(headers, options.headers, name="default_headers")
        self.said = merge_headers(headers, self.headers, name="extra_headers")
        routing = {**pinned_headers(options.affinity), **pinned_headers(self.affinity)}
        if with_key and self.key is not None:
            self.strategy(options).apply(self.key, routing, {} if params is None else params)
        headers = merge_headers(headers, routing, name="the affinity strategy")
        headers = merge_headers(headers, self.headers, name="extra_headers")
        content = None if params is None else encode_request(params, self.messages)
        return options.base_url + self.path, headers, content

    def strategy(self, options: Options) -> Affinity:
        """Return the strategy for the request's caller. Call it after `build`."""
        return strategy_for(self.affinity, lambda: self.caller(options))

    def caller(self, options: Options) -> bytes:
        """Return the digest of the caller: of credentials, and the headers and query of client and call.

        Call it after `build`.
        """
        given = {name.lower() for name in (*options.headers, *self.headers)} | CREDENTIAL_HEADERS
        said = (header for header in self.said.items() if header[0].lower() in given)
        return caller_digest(said, self.all_query(options), salt=options.salt)

    def all_query(self, options: Options) -> dict[str, Any]:
        """Return the combined query parameters of client and call."""
        return {**options.query, **self.query}
