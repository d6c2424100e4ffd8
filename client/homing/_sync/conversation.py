# Generated from client/homing/_async/conversation.py by scripts/unasync.py: edit that file, not this one.
"""Conversations: history, an affinity key of their own, one turn at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from pydantic import BaseModel
from typing_extensions import Unpack

from ..core.affinity.strategies import check_key, fork_keys, new_key
from ..core.conversation.pending_turn import PendingTurn
from ..core.conversation.settings import ConversationSettings
from ..core.conversation.submission import Submission, ToolResults
from ..core.conversation.transcript import Content, Transcript, Turn, user_message
from ..core.conversation.trim import Trim
from ..core.request.completion import chat_request, check_turn, split_call_options
from ..core.request.environment import check_mapping
from ..core.request.response_format import check_model
from ..core.secrets.redact import protect_secrets
from ..core.streaming.accumulator import Accumulator
from ..core.tools.definitions import ToolLike, definitions, tool_list
from ..core.tools.results import as_tool_calls, pending_calls
from ..core.tools.run import LIMITS, ToolRun, check_count
from ..errors import ConfigurationError
from ..reply import Reply, RunReply
from ..types import ChatCompletionMessageToolCall
from .conversation_state import ConversationState
from .parse_stream import ParseStream
from .reply_stream import ReplyStream
from .run_stream import RunStream
from .turn_lock import OnBusy

if TYPE_CHECKING:
    from ..types.params import ParseParams, RunParams, TurnParams
    from .client import Client
    from .client_store import AnyStore

Parsed = TypeVar("Parsed", bound=BaseModel)


class Conversation(ConversationState):
    """A conversation with the model: each turn comes home to the replica that holds its prefix.

    Made by ``client.conversation(...)``. A turn is a transaction: it enters the `history` when its
    reply has ended. A failed turn leaves the history as it was (the error carries the partial text);
    one that its caller stopped is kept and marked ``interrupted``.

    With a ``store`` a turn is saved before its reply is returned, and before the last event of its
    stream. What the store holds under this ``id`` is read when it is first needed, and continued:
    its system prompt and affinity key stand. See docs/never-lose-a-turn.md.

    ``on_busy`` says what happens when a turn is begun while another runs: ``"wait"`` for it,
    ``"raise"`` `ConversationBusy`, or ``"cancel"`` the running one, which is then kept as interrupted.
    ``trim`` keeps prompts below a number of tokens. ``metadata`` is yours: a title, an owner.
    """

    def __init__(
        self,
        client: Client,
        id: str | None = None,  # noqa: A002  # the user's word for it
        *,
        system: str | None = None,
        model: str | None = None,
        tools: Iterable[Any] | None = None,
        on_busy: OnBusy = "wait",
        affinity_key: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        store: AnyStore | None = None,
        trim: Trim | None = None,
        metadata: Mapping[str, Any] | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        if trim is not None and not isinstance(trim, Trim):
            raise ConfigurationError(f"trim must be a Trim, such as Trim(high=24_000), got {trim!r}")
        defaults = dict(defaults or {})
        self._tools = None if tools is None else tool_list(tools)
        if self._tools is not None:
            defaults["tools"] = definitions(self._tools)
        super().__init__(
            client,
            id or new_key(),
            ConversationSettings(
                new_key() if affinity_key is None else check_key(affinity_key),
                model=model,
                defaults=defaults,
                metadata=dict(check_mapping(metadata or {}, name="metadata")),
            ),
            Transcript(system) if transcript is None else transcript,
            on_busy=on_busy,
            store=store,
            is_new=id is None or transcript is not None,
            own_key=affinity_key is not None,
        )
        self.trim = trim

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied, for it holds its client: pass its to_dict() on and go "
            "on with from_dict(client, data), load it from a store, or fork() it"
        )

    # -- turns ---------------------------------------------------------------------------------

    def send(self, content: Content, **params: Unpack[TurnParams]) -> Reply:
        """Say ``content`` (text, or a list of parts) and return the whole reply.

        ``params`` are the model's parameters for this turn, and the call's own: ``timeout``, ``resume``,
        ``extra_headers``, ``extra_query``, ``extra_body``. Type checkers know them (`TurnParams`); at run
        time any other name is sent too, so that a newer server can be used to the full. Raises the errors of
        `homing.errors`.
        """
        protect_secrets(params)
        return self._turn([user_message(content)], params, shows=False).reply()

    def stream(self, content: Content, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """Say ``content`` and stream the reply: a context manager and an iterator over typed events,
        ``.text`` over text only. The request goes out with the first item asked for."""
        protect_secrets(params)
        return self._turn([user_message(content)], params)

    def parse(
        self, content: Content, response_format: type[Parsed], *, repair: int = 0, **params: Unpack[ParseParams]
    ) -> Reply[Parsed]:
        """Say ``content`` and return a reply whose ``parsed`` is a ``response_format``, a pydantic model.

        ``repair`` is how often a model whose answer does not fit is told so and asked again, 0 by default: a
        server that binds its output to the schema needs it for validators only. The history keeps the
        question and the answer that fits; ``usage`` adds up all requests.

        Raises, all with the text as it came, and the turn is not recorded: `LengthFinishReasonError` when it
        was cut at the token limit, `ContentFilterFinishReasonError`, `RefusalError`, and
        `APIResponseValidationError` when it does not fit.
        """
        protect_secrets(params)
        check_count(repair, "repair", least=0)
        check_model(response_format)
        pending_turn = PendingTurn([user_message(content)])
        stream: ParseStream[Parsed] = ParseStream(
            self, pending_turn, self._checked(params), shows=False, response_format=response_format
        )
        stream.repairs = repair
        return stream.reply()

    def run(
        self, content: Content, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunReply:
        """Say ``content``, let the model call ``tools``, and return its answer. All of it is one turn.

        ``tools`` are functions (`Tool` says more about one), by default those of the conversation. A call
        is run when its arguments fit the function's signature; otherwise the model is told what is wrong.
        A tool that is a mapping has no function: its call is handed to you, in the reply's ``pending``, and
        `submit` goes on with its result. ``params`` are the limits of the run (`RunParams`) and the model's
        parameters, which hold for each round. A forced ``tool_choice`` holds for the first.

        A run that fails leaves the history as it was; the error's ``messages`` hold what had been said. Raises
        `MaxRoundsExceeded`, `ToolError` with ``on_tool_error="raise"``, `LengthFinishReasonError` and
        `StreamInterrupted` when a call was cut, and the other errors of `homing.errors`.
        """
        protect_secrets(params)
        return self._run(PendingTurn([user_message(content)]), tools, params, shows=False).reply()

    def run_stream(
        self, content: Content, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunStream:
        """`run`, streamed: the events of each reply, ``round.started``, and ``tool.started``, ``tool.finished``
        or ``tool.failed`` for each call."""
        protect_secrets(params)
        return self._run(PendingTurn([user_message(content)]), tools, params)

    @property
    def pending_calls(self) -> list[ChatCompletionMessageToolCall]:
        """The tool calls at the end of the history that wait for a result; see `submit`."""
        turn = self.turns[-1] if self.turns else None
        return [] if turn is None else as_tool_calls(pending_calls(turn.messages, turn.finish_reason))

    def submit(
        self, results: ToolResults, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunReply:
        """Give the results of the calls that the last reply waits for, and go on as `run` does.

        ``results``: by call id, or a list in the order of the calls; each is text, a pydantic model, what JSON
        can carry, or an exception, of which the model is told. The turn that had stopped at the calls is
        replaced by the longer one when the model has answered.
        """
        return self._run(Submission(results=results), tools, params, shows=False).reply()

    def submit_stream(
        self, results: ToolResults, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunStream:
        """`submit`, streamed."""
        return self._run(Submission(results=results), tools, params)

    def regenerate(self, **params: Unpack[TurnParams]) -> Reply:
        """Ask again for the last reply (of the turn that runs now, if one does), which is replaced when
        the new one has ended."""
        return self._turn(None, params, shows=False, at=-1).reply()

    def stream_regenerate(self, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """`regenerate`, streamed. Stopped early, what had come replaces the old reply."""
        return self._turn(None, params, at=-1)

    def edit(self, turn: int | Turn, content: Content, **params: Unpack[TurnParams]) -> Reply:
        """Say something else in place of ``turn`` (its number, counted from 0 or from the end, or one of `turns`).

        That turn and all that followed are replaced when the new reply has ended; if it fails, they stay.
        """
        protect_secrets(params)
        return self._turn([user_message(content)], params, shows=False, at=turn).reply()

    def stream_edit(self, turn: int | Turn, content: Content, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """`edit`, streamed. Stopped early, what had come is kept in place of what was."""
        protect_secrets(params)
        return self._turn([user_message(content)], params, at=turn)

    def aside(self, content: Content, **params: Unpack[TurnParams]) -> Reply:
        """Ask on this context, on the same replica, without recording it: a title, a summary."""
        protect_secrets(params)
        return self._turn([user_message(content)], params, shows=False, record=False).reply()

    # -- forks ---------------------------------------------------------------------------------

    @overload
    def fork(self, n: None = None, *, affinity: Literal["inherit", "new"] = "inherit") -> Conversation: ...

    @overload
    def fork(self, n: int, *, affinity: Literal["inherit", "new"] = "inherit") -> list[Conversation]: ...

    def fork(
        self, n: int | None = None, *, affinity: Literal["inherit", "new"] = "inherit"
    ) -> Conversation | list[Conversation]:
        """Return a conversation that goes its own way from here, or a list of ``n``.

        It inherits the affinity key, since the replica's cache serves both; of many parallel forks
        only the first few do, so that they do not queue up on one replica. ``"new"`` gives new keys.
        It has an id of its own, and is saved in the same store with its first turn, or by `save`.
        """
        if affinity not in ("inherit", "new"):
            raise ConfigurationError(f"affinity must be 'inherit' or 'new', got {affinity!r}")
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise ConfigurationError(f"n must be a positive integer, got {n!r}")
        forks = [
            Conversation(
                self._client,
                model=self.model,
                on_busy=self.on_busy,
                affinity_key=key if key == self.affinity_key else None,
                tools=self._tools,
                defaults=self.defaults,
                store=None if self._persistence is None else self._persistence.store,
                trim=self.trim,
                metadata=self.metadata,
                transcript=self._known().copy(),
            )
            for key in fork_keys(self.affinity_key, n or 1, inherit=affinity == "inherit")
        ]
        return forks[0] if n is None else forks

    def rekey(self) -> str:
        """Take a new affinity key, so that the next turn may reach another replica; return it."""
        self.affinity_key = self._fresh = new_key()
        return self.affinity_key

    @classmethod
    def from_dict(
        cls,
        client: Client,
        data: Mapping[str, Any],
        *,
        on_busy: OnBusy = "wait",
        store: AnyStore | None = None,
        trim: Trim | None = None,
    ) -> Conversation:
        """Continue a saved conversation, on the replica it was on (its affinity key is kept).

        With a ``store`` it is saved there with its next turn, or by `save`, unless there is one of its id.
        """
        transcript = Transcript.from_dict(data)
        header = ConversationSettings.from_dict(data)
        conversation = cls(
            client,
            data.get("id"),
            model=header.model,
            on_busy=on_busy,
            affinity_key=header.affinity_key,
            defaults=header.defaults,
            store=store,
            trim=trim,
            metadata=header.metadata,
            transcript=transcript,
        )
        conversation._other = {k: v for k, v in header.other.items() if k not in ("id", "turns")}
        return conversation

    # -- for the reply's stream ----------------------------------------------------------------

    def _turn(
        self,
        new: list[dict[str, Any]] | None,
        params: Mapping[str, Any],
        *,
        shows: bool = True,
        at: int | Turn | None = None,
        record: bool = True,
    ) -> ReplyStream[Any]:
        pending_turn = PendingTurn(new, at, record=record)
        return ReplyStream(self, pending_turn, self._checked(params), shows=shows, response_format=None)

    def _run(
        self,
        pending_turn: PendingTurn,
        tools: Iterable[ToolLike] | None,
        params: Mapping[str, Any],
        *,
        shows: bool = True,
    ) -> RunStream:
        rest = self._checked(params)
        limits: dict[str, Any] = {name: rest.pop(name) for name in LIMITS if name in rest}
        known = self._tools or self.defaults.get("tools") or ()
        return RunStream(
            self, pending_turn, rest, ToolRun(known if tools is None else tools, **limits), shows=shows
        )

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse what the caller got wrong, before anything is sent or waited for."""
        protect_secrets(params)
        check_turn({**self.defaults, **params})
        return dict(params)

    def _request(self, turn: ReplyStream[Any], prompt: list[bytes]) -> Any:
        client = self._client
        options = client._options
        params = {**self.defaults, **turn.params}
        call_options = split_call_options(params)
        if params.get("tools"):
            params["tools"] = definitions(params["tools"])
        if turn.response_format is not None:
            params["response_format"] = turn.response_format
        request = chat_request(
            options,
            params,
            prompt,
            model=self.model or options.served_model,
            stream=True,
            affinity=options.affinity,
            key=self.affinity_key,
            **call_options,
        )
        request.conversation = self.id
        response_format = turn.response_format  # and not the turn: it would hold itself alive
        return client._call(request, accumulate=lambda: Accumulator(response_format), shows=turn.shows)
