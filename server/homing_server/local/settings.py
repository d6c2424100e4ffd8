"""Every knob of the local edge and of its emulated engine, validated in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from homing.errors import ConfigurationError

from .hosts import checked

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TokensPerSecond = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Host = Annotated[str, AfterValidator(checked)]

INSTANT = math.inf
"""A speed that costs no time: what tests want."""


class Settings(BaseModel):
    """Base of the settings: frozen, no unknown names, errors that name field and fix, no secrets in them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Hidden from type checkers so that they keep the constructor pydantic derives from the fields.
    if not TYPE_CHECKING:

        def __init__(self, /, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                # `from None`: pydantic's own error object still holds the rejected input, maybe a secret.
                raise ConfigurationError(f"{type(self).__name__}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Return a validation error as one line, ``field: what is wrong``, without the rejected values."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg']}" for p in problems)


class ProxyToken(Settings):
    """A Modal-style proxy token: ``id`` is ``wk-…``, ``secret`` is ``ws-…``."""

    id: Annotated[str, Field(pattern=r"^wk-[^.\s]+$")]
    secret: SecretStr

    @model_validator(mode="after")
    def _secret_has_its_shape(self) -> ProxyToken:
        if not self.secret.get_secret_value().startswith("ws-"):
            raise ValueError("secret must start with 'ws-' (an 'ak-'/'as-' API token is not a proxy token)")
        return self

    @classmethod
    def parse(cls, joined: str) -> ProxyToken:
        """Read ``wk-….ws-…``, the form that fits an ``Authorization`` header."""
        token_id, _, secret = joined.partition(".")
        return cls(id=token_id, secret=SecretStr(secret))


class EngineSettings(Settings):
    """The emulated engine of each replica.

    Speeds default to a mid-size model on one GPU, so that a demo feels real; use
    ``EdgeSettings.instant()`` where only the answers matter.
    """

    model: Annotated[str, Field(min_length=1)] = "homing-emulated"
    """Name served at ``/v1/models``."""
    check_model: bool = False
    """Answer 404 for another model name, as OpenAI does. SGLang does not check and echoes the name."""
    context_length: Positive = 32_768
    """Tokens of prompt plus reply."""
    api_key: SecretStr | None = None
    """Key that the engine itself asks for (``Authorization: Bearer``); None is SGLang's default, open."""
    prefill_rate: TokensPerSecond = 8_000.0
    """Prompt tokens per second; only tokens missing from the prefix cache cost."""
    decode_rate: TokensPerSecond = 80.0
    """Generated tokens per second and stream."""
    max_running: Positive = 16
    """Requests generated at once; more of them queue."""
    max_queued: Count | None = None
    """Queue bound; a request beyond it gets SGLang's 503. None: unbounded, SGLang's default."""
    cache_tokens: Positive | None = 200_000
    """Capacity of the prefix cache in tokens, least recently used leaves evicted first. None: unbounded."""
    cache_report: bool = True
    """SGLang's ``--enable-cache-report``: without it usage holds no ``prompt_tokens_details``."""
    usage_by_default: bool = False
    """SGLang's ``--stream-response-default-include-usage``."""
    template: Literal["qwen3", "qwen3.5"] = "qwen3"
    """Which chat template: qwen3.5 opens ``<think>`` in the prompt, in qwen3 the model writes it."""
    thinking: bool = False
    """Whether the model reasons when a request does not say (``chat_template_kwargs.enable_thinking``)."""
    continues: Literal["sglang", "vllm", "ignores", "refuses"] = "sglang"
    """What ``continue_final_message`` does: SGLang's way; vLLM's, which wants ``add_generation_prompt: false``
    with it; nothing, as in engines that do not know it; or a 400."""
    default_temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.7
    """For requests that name none; 0 makes every reply a function of its prompt."""
    sentences: tuple[Positive, Positive] = (3, 7)
    """Shortest and longest reply that the engine writes by itself, in sentences."""

    @model_validator(mode="after")
    def _sentences_in_order(self) -> EngineSettings:
        if self.sentences[0] > self.sentences[1]:
            raise ValueError("sentences must be (shortest, longest)")
        return self


class EdgeSettings(Settings):
    """The edge: its fleet of replicas, its autoscaler and its door. Times in seconds."""

    host: str = "127.0.0.1"
    """Address to listen on. At any but a loopback address everybody on that network can use the edge and, through
    ``/_edge/``, steer it and read its log; with ``proxy_token`` only those who have it."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """0 takes a free port; ``Edge.url`` says which."""
    min_replicas: Count = 1
    max_replicas: Positive = 3
    initial_replicas: Count | None = None
    """Replicas that are ready at once when the edge starts. None means ``min_replicas``.

    0 is a server that nobody has called yet: it stays at zero until the first request,
    which is refused with 503 and starts ``min_replicas`` (at least one).
    """
    cold_start: Seconds = 3.0
    """From the decision to start a replica until it is ready. Real ones take minutes; 3 s can be watched."""
    scaledown_window: Seconds = 60.0
    """How long a replica above ``min_replicas`` stays idle before it goes. 60 s is Modal's default."""
    target_concurrency: Annotated[float, Field(gt=0)] = 10.0
    """Requests in flight per replica that the autoscaler aims for."""
    max_concurrency: Positive | None = None
    """Hard limit per replica, beyond it 429. None: no limit, Modal's default."""
    exit_grace: Seconds = 15.0
    """How long a draining replica may finish its requests before they are cut."""
    allowed_hosts: tuple[Host, ...] = ()
    """Names under which the edge may be asked for, beside loopback's, ``host`` and the address that a request came
    in at: a name of this machine, of a tunnel or a container. Any other ``Host`` is refused (DNS rebinding)."""
    latency: Seconds = 0.0
    """Added before each request is looked at, as a network would."""
    proxy_token: ProxyToken | None = None
    """Ask for this token (``Modal-Key``/``Modal-Secret`` or ``Authorization: Bearer wk-….ws-…``)."""
    forbidden_tokens: tuple[ProxyToken, ...] = ()
    """Tokens that are known but may not enter: 403 instead of 401."""
    smg_routing_key: bool = False
    """Also read SGLang Model Gateway's ``X-SMG-Routing-Key`` as affinity key, after Modal's headers."""
    backends: tuple[str, ...] = ()
    """Base URLs of OpenAI-compatible servers to put behind the edge instead of emulated replicas."""
    log_size: Positive = 10_000
    """Requests remembered in ``Edge.log``; the oldest fall out."""
    keep_requests: bool = False
    """Keep each request's parsed JSON body in its log record (tests; a server would fill its memory)."""
    seed: int = 0
    """Feeds everything random: routing without a key, sampling without a seed, fault probabilities."""
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _bounds_agree(self) -> EdgeSettings:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) must not be above max_replicas ({self.max_replicas})")
        if self.first_replicas > self.max_replicas:
            raise ValueError(
                f"initial_replicas ({self.first_replicas}) must not be above max_replicas ({self.max_replicas})"
            )
        if self.backends and self.max_replicas > len(self.backends):
            raise ValueError(
                f"max_replicas ({self.max_replicas}) must not be above the number of backends ({len(self.backends)})"
            )
        return self

    @property
    def first_replicas(self) -> int:
        """How many replicas are ready when the edge starts."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas

    @classmethod
    def instant(cls, **changes: Any) -> EdgeSettings:
        """Return settings for tests: three warm replicas, no delay anywhere, temperature 0.

        ``changes`` are fields of ``EdgeSettings`` or ``EngineSettings`` by name, and
        ``replicas=n`` for a fixed fleet of n. Raises ``ConfigurationError`` for others.
        """
        engine: dict[str, Any] = {
            "prefill_rate": INSTANT,
            "decode_rate": INSTANT,
            "default_temperature": 0.0,
        }
        edge: dict[str, Any] = {"cold_start": 0.0, "exit_grace": 0.0, "keep_requests": True}
        given = changes.pop("engine", None)
        if isinstance(given, EngineSettings):
            engine.update({name: getattr(given, name) for name in given.model_fields_set})
        elif given is not None:
            raise ConfigurationError("engine: must be an EngineSettings")
        replicas = changes.pop("replicas", 3)
        if not {"min_replicas", "max_replicas"} & changes.keys():
            edge.update(min_replicas=replicas, max_replicas=replicas)
        for name, value in changes.items():
            (engine if name in EngineSettings.model_fields else edge)[name] = value
        return cls(**edge, engine=EngineSettings(**engine))
