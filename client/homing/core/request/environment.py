"""The server's address, credentials and model: from arguments first, then from the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ...errors import ConfigurationError

BASE_URL_VARIABLES = ("HOMING_BASE_URL", "OPENAI_BASE_URL")
API_KEY_VARIABLES = ("HOMING_API_KEY", "OPENAI_API_KEY")
MODEL_VARIABLE = "HOMING_MODEL"
PROXY_TOKEN_VARIABLES = ("MODAL_PROXY_TOKEN_ID", "MODAL_PROXY_TOKEN_SECRET")

COLD_START_TIMEOUT = 1200.0
"""Seconds to wait for a replica. The server may take that long to load weights and compile kernels, and
modal-examples#1553 shows what a shorter default does."""

MAX_RESPONSE_BYTES = 256 * 1024 * 1024
"""Bytes of one response. A token takes about 300 bytes of a stream, or 2 KB with 20 log probabilities, so this is
room for 900,000 or 130,000 tokens. Anything longer is not a reply but a flood or a decompression bomb."""

CREDENTIAL_HEADERS = frozenset({"authorization", "modal-key", "modal-secret"})
"""The headers that `Credentials` sets, in lower case."""

ApiKey = str | Callable[[], str]
ProxyToken = str | tuple[str, str]

PROTECTED_HEADERS = frozenset({"content-length", "transfer-encoding", "host", "connection"})
"""Headers that belong to the transport. Setting them by hand only breaks requests."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t -~]*")
_NO_URL = re.compile(r"""[\x00-\x20\x7f<>"{}|\\^`]""")  # RFC 3986 doesn't allow them; placeholders use them
_LIKE_A_HOST = re.compile(
    r"(?:[a-z]{1,8}://(?:\*\*\*@)?[a-z0-9.-]*|localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\w{0,5})?(?:/v1)?/?",
    re.IGNORECASE,
)
_JOINED_PROXY_TOKEN = re.compile(r"(wk-[^.\s]+)\.(ws-\S+)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What authenticates a request. The ``repr`` shows which kinds are present, never a value."""

    api_key: ApiKey | None = field(default=None, repr=False)
    proxy_token: tuple[str, str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        kinds = ["api_key"] * (self.api_key is not None) + ["proxy_token"] * (self.proxy_token is not None)
        return f"Credentials({', '.join(kinds) or 'none'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not to be pickled or copied: read them again where they are needed")

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request. A callable key is called each time, so keys may rotate.

        Modal's proxy token goes into ``Modal-Key`` and ``Modal-Secret``, which leaves ``Authorization`` free for
        the engine's own key.
        """
        headers: dict[str, str] = {}
        if self.api_key is not None:
            key = self.api_key() if callable(self.api_key) else self.api_key
            headers["Authorization"] = f"Bearer {_header_value(key, 'api_key')}"
        if self.proxy_token is not None:
            headers["Modal-Key"], headers["Modal-Secret"] = self.proxy_token
        return headers


def resolve_max_response_bytes(value: int | None) -> float:
    """Return the limit in bytes, infinity for None. Raises `ConfigurationError`."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"max_response_bytes must be a whole number from 1, or None for no limit; got {value!r}"
        )
    return value


def resolve_base_url(base_url: str | None, environment: Mapping[str, str]) -> str:
    """Return the server's URL without a trailing ``/v1``."""
    source = "base_url"
    if base_url is None:
        for source in BASE_URL_VARIABLES:
            if environment.get(source):
                base_url = environment[source]
                break
        else:
            raise ConfigurationError(
                "no server given: pass base_url=… or set HOMING_BASE_URL (OPENAI_BASE_URL is read too). "
                "`homing up` starts a local one"
            )
    parts = _split(str(base_url).strip())
    if parts is None:
        raise ConfigurationError(f"{source} must look like https://host or http://host:port, got {_shown(base_url)}")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{source} must not hold a password: pass api_key=… or proxy_token=… instead")
    if "=" in parts.query:
        raise ConfigurationError(
            f"{source} must not have a query (not shown: it may hold a key): pass default_query=… instead"
        )
    path = parts.path.rstrip("/")
    if path == "/v1" or path.endswith("/v1"):
        path = path[: -len("/v1")]
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _split(url: str) -> SplitResult | None:
    """Return the parts of a server's URL, or None if it cannot be one."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not _NO_URL.search(url)
    except ValueError:  # an invalid port or IPv6 address
        return None
    return parts if fits else None


def resolve_credentials(
    api_key: ApiKey | None, proxy_token: ProxyToken | None, environment: Mapping[str, str]
) -> Credentials:
    """Return the credentials from the arguments, or else from the environment."""
    token = _proxy_token(proxy_token)
    if api_key is None:
        api_key = next((environment[name] for name in API_KEY_VARIABLES if environment.get(name)), None)
    if token is None:
        identity, secret = (environment.get(name) for name in PROXY_TOKEN_VARIABLES)
        if bool(identity) != bool(secret):
            raise ConfigurationError(f"set both {' and '.join(PROXY_TOKEN_VARIABLES)}, or neither")
        if identity and secret:
            token = _proxy_token((identity, secret))
    if isinstance(api_key, str):
        joined = _JOINED_PROXY_TOKEN.fullmatch(api_key.strip())
        if joined is not None:
            # Modal also accepts the joined form as a Bearer token, but that leaves no room for an engine key.
            token, api_key = token or (joined[1], joined[2]), None
        else:
            api_key = _header_value(api_key, "api_key")
    elif api_key is not None and not callable(api_key):
        raise ConfigurationError(
            f"api_key must be a string, or a function that returns one, got {type(api_key).__name__}"
        )
    return Credentials(api_key, token)


def resolve_model(model: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the model's name, or None if the server should be asked."""
    if model is not None and not isinstance(model, str):
        raise ConfigurationError(f"model must be a string, got {model!r}")
    return model or environment.get(MODEL_VARIABLE) or None


def check_mapping(value: Mapping[str, Any], *, name: str) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else raise `ConfigurationError`, which refers to it as ``name``."""
    if not isinstance(value, (dict, Mapping)):  # dict first: checking an abstract class takes ten times as long
        raise ConfigurationError(f"{name} must be a mapping of names to values, got {type(value).__name__}")
    return value


def merge_headers(headers: Mapping[str, str], more: Mapping[str, str], *, name: str) -> dict[str, str]:
    """Return ``headers`` with ``more`` added. An existing name is replaced, whatever its case.

    Raises `ConfigurationError`, which refers to ``more`` as ``name``, for invalid headers and the transport's own.
    """
    check_mapping(more, name=name)
    if not more:
        return headers if type(headers) is dict else dict(headers)
    for key in more:
        if not isinstance(key, str) or not _HEADER_NAME.fullmatch(key):
            del key  # keep it out of tracebacks that show locals
            raise ConfigurationError(
                f"{name} holds what cannot be the name of a header (not shown: it may hold a key): "
                "letters, digits and hyphens only"
            )
        if key.lower() in PROTECTED_HEADERS:
            raise ConfigurationError(f"{name} may not set {key!r}: the transport does")
        if not isinstance(more[key], str) or not _HEADER_VALUE.fullmatch(more[key]):
            raise ConfigurationError(
                f"{name}[{key!r}] must be a string of printable ASCII (its value is not shown): quote or encode it"
            )
    merged = {key.lower(): (key, value) for key, value in headers.items()}
    merged.update((key.lower(), (key, value)) for key, value in more.items())
    return dict(merged.values())


def _proxy_token(token: ProxyToken | None) -> tuple[str, str] | None:
    if token is None:
        return None
    if isinstance(token, str):
        joined = _JOINED_PROXY_TOKEN.fullmatch(token.strip())
        if joined is None:
            raise ConfigurationError("proxy_token must look like 'wk-….ws-…', or be a pair (id, secret)" + _hint(token))
        return joined[1], joined[2]
    try:
        identity, secret = token
    except (TypeError, ValueError):
        raise ConfigurationError("proxy_token must be 'wk-….ws-…' or a pair (id, secret)") from None
    for part in (identity, secret):
        hint = _hint(str(part))
        if hint:
            raise ConfigurationError("this is not a proxy token" + hint)
    return _header_value(identity, "proxy_token id"), _header_value(secret, "proxy_token secret")


def _header_value(value: str, name: str) -> str:
    value = value.strip() if isinstance(value, str) else value
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a non-empty string")
    if not all(" " <= character <= "~" for character in value):
        raise ConfigurationError(f"{name} holds a character that cannot travel in a header (its value is not shown)")
    hint = _hint(value) if name == "api_key" else ""
    if hint:
        raise ConfigurationError(f"{name} cannot be used here" + hint)
    return value


def _hint(token: str) -> str:
    if token.startswith(("ak-", "as-")):
        return (
            ": ak-…/as-… is Modal's API token, which deploys and administrates. A server wants a proxy "
            "token (wk-…/ws-…): create one with `modal workspace proxy-tokens create`"
        )
    return ""


def _shown(url: object) -> str:
    """Return what may be quoted of an invalid URL: scheme and host, if it holds nothing else."""
    text = re.sub(r"//[^/@]*@", "//***@", str(url).strip())
    host = _LIKE_A_HOST.fullmatch(text)
    return repr(text) if host is not None or not text else "something else (not shown: it may hold a key)"
