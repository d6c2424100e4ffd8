# Generated from client/homing/_async/conversation.py by scripts/unasync.py: edit that file, not this one.
"""Conversations: each has its own history and affinity key, and runs one turn at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from ..core.request.request import Request
from ..core.request.response_format import check_model
from ..core.rounds.repair import Repair
from ..core.rounds.rounds import ONE_REQUEST, Rounds
from ..core.rounds.tool_run import LIMITS, ToolRun, check_count, in_later_rounds
from ..core.secrets.redact import protect_secrets
from ..core.tools.definitions import ToolLike, definitions, tool_list
from ..core.tools.results import as_tool_calls, pending_calls
from ..errors import ConfigurationError
from ..reply import Reply, RunReply
from ..types import ChatCompletionMessageToolCall
from .conversation_state import ConversationState
from .reply_stream import ReplyStream, RunStream
from .turn_lock import OnBusy

if TYPE_CHECKING:
    from ..types.params import ParseParams, RunParams, TurnParams
    from .client import Client
    from .client_store import AnyStore

Parsed = TypeVar("Parsed", bound=BaseModel)


class Conversation(ConversationState):
    """A conversation with the model. Each turn returns to the replica that has its prefix cached.

    Create one with ``client.conversation(...)``. A turn is a transaction: it enters the `history` when its
    reply ends. A failed turn leaves the history unchanged; the error carries the partial text. A turn
    that the caller stopped is kept and marked ``interrupted``.

    With a ``store``, a turn is saved before its reply is returned, or before the last event of its
    stream. See docs/never-lose-a-turn.md.

    Args:
        client: The client that makes the requests.
        id: The conversation's id. Defaults to a random one. If the ``store`` already holds a conversation
            with this id, it is read when first needed and continued, with its own system prompt.
        system: The system prompt.
        model: The model for this conversation. Defaults to the client's.
        tools: Tools that the model may call: functions, `Tool` objects, or definitions as mappings.
        on_busy: What to do when a turn begins while another is running: ``"wait"`` for it, ``"raise"``
            `ConversationBusy`, or ``"cancel"`` the running turn, which is then kept as interrupted.
        affinity_key: Selects the replica. Defaults to the stored key, or a random one.
        defaults: Parameters for every turn.
        store: Where to save the conversation.
        trim: Keeps prompts below a number of tokens.
        metadata: The caller's own data, such as a title or an owner.
        transcript: The history to start with, in place of ``system``.

    Raises:
        ConfigurationError: An argument is invalid.
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
        """Send ``content`` and return the whole reply.

        Args:
            content: The user's message: text, or a list of content parts.
            **params: The model's parameters for this turn, and options of the call: ``timeout``, ``resume``,
                ``extra_headers``, ``extra_query``, ``extra_body``. `TurnParams` lists them for type checkers.
                At run time, unknown names are sent too, so newer servers' parameters work.

        Raises:
            ConfigurationError: An argument is invalid.
            ConversationBusy: Another turn is running, and ``on_busy`` is ``"raise"`` or waiting would deadlock.
            ColdStartTimeout: No replica became ready in time.
            APIError: The call failed; see its subclasses in `homing.errors`.
            StoreError: The store fails. If it failed to save the reply, that is the error's ``reply``.
            VersionConflict: The stored conversation has changed. The error's ``reply``, if any, is in no history.
        """
        protect_secrets(params)
        return self._turn([user_message(content)], params, shows=False).reply()

    def stream(self, content: Content, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """Send ``content`` and stream the reply.

        The request is sent when the first item is requested; that is also when the errors of `send` are raised.

        Args:
            content: The user's message: text, or a list of content parts.
            **params: As for `send`.

        Returns:
            A context manager and an iterator over typed events. Its ``text`` iterates over the text only.
        """
        protect_secrets(params)
        return self._turn([user_message(content)], params)

    def parse(
        self, content: Content, response_format: type[Parsed], *, repair: int = 0, **params: Unpack[ParseParams]
    ) -> Reply[Parsed]:
        """Send ``content`` and return a reply whose ``parsed`` is an instance of ``response_format``.

        If parsing fails, the turn is not recorded; the error carries the text as received. The history keeps
        the question and the valid answer, without failed attempts. ``usage`` covers all requests.

        Args:
            content: The user's message: text, or a list of content parts.
            response_format: A pydantic model.
            repair: How often to report an invalid answer to the model and ask again. A server that constrains
                its output to the schema needs this only for validators.
            **params: As for `send`, except ``response_format``.

        Raises:
            LengthFinishReasonError: The answer was cut at the token limit.
            ContentFilterFinishReasonError: The server withheld the content.
            RefusalError: The model refused.
            APIResponseValidationError: The answer doesn't match ``response_format``.
            HomingError: Any other error of `send`.
        """
        protect_secrets(params)
        check_count(repair, "repair", least=0)
        check_model(response_format)
        rounds = Repair(response_format, repair)
        asked = {**params, "response_format": response_format}
        return self._turn([user_message(content)], asked, shows=False, rounds=rounds).reply()

    def run(
        self, content: Content, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunReply:
        """Send ``content``, let the model call ``tools``, and return its answer.

        All of this is one turn. A call runs if its arguments match the function's signature; otherwise the
        model receives an explanation. A failed run leaves the history unchanged; the error's ``messages``
        hold the messages exchanged until then.

        Args:
            content: The user's message: text, or a list of content parts.
            tools: Functions, or `Tool` objects for more control. Defaults to the conversation's. A tool given
                as a mapping has no function: its calls are returned in the reply's ``pending``, and `submit`
                continues with their results.
            **params: The limits of the run (`RunParams`), and the model's parameters for every round. A forced
                ``tool_choice`` applies to the first round only.

        Raises:
            MaxRoundsExceeded: The model still called tools in the last round.
            ToolError: A tool failed, and ``on_tool_error`` is ``"raise"``.
            LengthFinishReasonError: A tool call was cut at the token limit.
            StreamInterrupted: The reply broke off within a tool call.
            HomingError: Any other error of `send`.
        """
        protect_secrets(params)
        return self._run(PendingTurn([user_message(content)]), tools, params, shows=False).reply()

    def run_stream(
        self, content: Content, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunStream:
        """Stream `run`: takes the same arguments, and raises the same errors during iteration.

        Returns:
            A stream of each reply's events, ``round.started`` for each round, and ``tool.started``,
                ``tool.finished`` or ``tool.failed`` for each call.
        """
        protect_secrets(params)
        return self._run(PendingTurn([user_message(content)]), tools, params)

    @property
    def pending_calls(self) -> list[ChatCompletionMessageToolCall]:
        """The tool calls at the end of the history that still need a result; see `submit`."""
        turn = self.turns[-1] if self.turns else None
        return [] if turn is None else as_tool_calls(pending_calls(turn.messages, turn.finish_reason))

    def submit(
        self, results: ToolResults, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunReply:
        """Submit the results of the last reply's pending tool calls, and continue as `run` does.

        When the model has answered, the longer turn replaces the one that stopped at the calls.

        Args:
            results: A mapping from call ids, or a list in the order of the calls. Each result is text, a
                pydantic model, a JSON-serializable value, or an exception to report to the model.
            tools: As for `run`.
            **params: As for `run`.

        Raises:
            ConfigurationError: No call is pending, or the results don't match the calls.
            HomingError: Any other error of `run`.
        """
        return self._run(Submission(results=results), tools, params, shows=False).reply()

    def submit_stream(
        self, results: ToolResults, tools: Iterable[ToolLike] | None = None, **params: Unpack[RunParams]
    ) -> RunStream:
        """Stream `submit`: takes the same arguments, and yields the same events as `run_stream`."""
        return self._run(Submission(results=results), tools, params)

    def regenerate(self, **params: Unpack[TurnParams]) -> Reply:
        """Ask for the last reply again.

        The new reply replaces the old one when it ends. If a turn is running, this applies to that turn.

        Args:
            **params: As for `send`.

        Raises:
            ConfigurationError: The conversation has no turns yet.
            HomingError: Any other error of `send`.
        """
        return self._turn(None, params, shows=False, at=-1).reply()

    def stream_regenerate(self, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """Stream `regenerate`. If stopped early, the partial reply replaces the old one."""
        return self._turn(None, params, at=-1)

    def edit(self, turn: int | Turn, content: Content, **params: Unpack[TurnParams]) -> Reply:
        """Replace ``turn`` and everything after it with a new message and its reply.

        The replacement happens when the new reply ends. If it fails, the old turns stay.

        Args:
            turn: One of `turns`, or its index, counted from 0, or from the end if negative.
            content: The new user message: text, or a list of content parts.
            **params: As for `send`.

        Raises:
            ConfigurationError: The conversation has no such turn.
            HomingError: Any other error of `send`.
        """
        protect_secrets(params)
        return self._turn([user_message(content)], params, shows=False, at=turn).reply()

    def stream_edit(self, turn: int | Turn, content: Content, **params: Unpack[TurnParams]) -> ReplyStream[None]:
        """Stream `edit`. If stopped early, the partial reply replaces the old turns."""
        protect_secrets(params)
        return self._turn([user_message(content)], params, at=turn)

    def aside(self, content: Content, **params: Unpack[TurnParams]) -> Reply:
        """Ask in this context, on the same replica, without recording the turn: for a title or a summary.

        Takes the same arguments and raises the same errors as `send`.
        """
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
        """Return a conversation that diverges from this point, or a list of ``n``.

        Each fork has its own id. It is saved in the same store with its first turn, or by `save`.

        Args:
            n: How many forks to return, as a list. None returns a single conversation.
            affinity: ``"inherit"`` keeps the affinity key, because the replica's cache serves both. If ``n`` is
                large, only the first few forks inherit it, so that they don't queue on one replica. ``"new"``
                gives every fork a new key.

        Raises:
            ConfigurationError: An argument is invalid, or the conversation has not been read from its store yet.
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
        """Switch to a new affinity key and return it. The next turn may reach another replica."""
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
        """Continue a conversation saved with `to_dict`, on the same replica (it keeps its affinity key).

        Args:
            client: The client that makes the requests.
            data: The result of `to_dict`.
            on_busy: As for `Conversation`.
            store: Where to save the conversation, with its next turn or by `save`. It must not hold a
                conversation with the same id yet.
            trim: As for `Conversation`.

        Raises:
            ConfigurationError: ``data`` is damaged, or a newer version of Homing wrote it.
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
        rounds: Rounds = ONE_REQUEST,
    ) -> ReplyStream[Any]:
        pending_turn = PendingTurn(new, at, record=record)
        return ReplyStream(self, pending_turn, self._checked(params), shows=shows, rounds=rounds)

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
        run = ToolRun(known if tools is None else tools, **limits)
        if run.definitions:
            rest["tools"] = run.definitions
        if isinstance(pending_turn, Submission):
            rest.update(in_later_rounds({**self.defaults, **rest}))
        return RunStream(self, pending_turn, rest, shows=shows, rounds=run)

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Reject invalid parameters before sending or waiting for anything."""
        protect_secrets(params)
        check_turn({**self.defaults, **params})
        return dict(params)

    def _request(self, params: Mapping[str, Any], prompt: Sequence[bytes]) -> Request:
        options = self._client._options
        params = {**self.defaults, **params}
        call_options = split_call_options(params)
        if params.get("tools"):
            params["tools"] = definitions(params["tools"])
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
        return request
