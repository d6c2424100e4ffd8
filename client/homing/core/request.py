"""One HTTP request, built from a call's settings. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._version import __version__
from .affinity import Affinity, NoAffinity, pinned_headers
from .encode import encode_request
from .options import Options
from .resume_style import ResumeChoice
from .settings import merge_headers
from .timers import Timeout

USER_AGENT = f"homing/{__version__}"


@dataclass(slots=True)
class Request:
    """What one call wants to send. Attempts of the call differ only in ``with_key``."""

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
    """Whose turn it is, for those who trace calls; it is not sent."""
    resume: ResumeChoice = "never"

    def build(self, options: Options, *, with_key: bool) -> tuple[str, dict[str, str], bytes | None]:
        """Return URL, headers and body of the next attempt."""
        headers = {
            "Accept": "text/event-stream" if self.stream else "application/json",
            # Compression delays the first token and saves nothing on a few hundred bytes an event.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
            **({} if self.params is None else {"Content-Type": "application/json"}),
            **options.credentials.headers(),
        }
        params = None if self.params is None else dict(self.params)
        routing = {**pinned_headers(options.affinity), **pinned_headers(self.affinity)}
        if with_key and self.key is not None:
            self.affinity.apply(self.key, routing, {} if params is None else params)
        # What is closer to the call wins; as in openai-python, a caller's own Authorization stands.
        headers = merge_headers(headers, options.headers, name="default_headers")
        headers = merge_headers(headers, routing, name="the affinity strategy")
        headers = merge_headers(headers, self.headers, name="extra_headers")
        content = None if params is None else encode_request(params, self.messages)
        return options.base_url + self.path, headers, content

    def all_query(self, options: Options) -> dict[str, Any]:
        """Return the query parameters of client and call together."""
        return {**options.query, **self.query}
