# Generated from client/homing/_async/conversation_state.py by scripts/unasync.py: edit that file, not this one.
"""A conversation's history and settings, and the store that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._concurrency.threads import defer_signals, run_to_completion
from ..core.conversation.pending_turn import check_undo
from ..core.conversation.settings import ConversationSettings
from ..core.conversation.transcript import Transcript, Turn
from ..core.telemetry.hooks import logger
from ..core.telemetry.measurements import Totals
from ..core.text.markdown import sanitize_markdown
from ..errors import ConfigurationError, ConversationNotFound, HomingError, StoreError, VersionConflict
from ..reply import Reply
from .persistence import Persistence
from .turn_lock import TurnClaim, OnBusy

if TYPE_CHECKING:
    from .client import Client
    from .client_store import AnyStore


class ConversationState:
    """The persistent half of an `Conversation`: turns and settings, in memory and in a store.

    Every change holds the turn lock and is written to the store first.
    """

    def __init__(
        self,
        client: Client,
        conversation_id: str,
        header: ConversationSettings,
        transcript: Transcript,
        *,
        on_busy: OnBusy,
        store: AnyStore | None,
        is_new: bool,
        own_key: bool,
    ) -> None:
        if on_busy not in ("wait", "raise", "cancel"):
            raise ConfigurationError(f"on_busy must be 'wait', 'raise' or 'cancel', got {on_busy!r}")
        self.id = conversation_id
        self.affinity_key = header.affinity_key
        self.model = header.model
        self.defaults = header.defaults
        self.metadata = header.metadata
        self.on_busy: OnBusy = on_busy
        self.totals = Totals()
        self._other = header.other
        self._own_key = own_key
        # A key that no turn has used yet and the caller didn't choose: placement may replace it.
        self._fresh = None if own_key else header.affinity_key
        self._transcript = transcript
        self._client = client
        self._turn_lock = client._turn_locks.of(store, conversation_id)
        self._persistence = (
            None if store is None else Persistence(store, conversation_id, self._turn_lock, is_new=is_new)
        )

    @property
    def history(self) -> list[dict[str, Any]]:
        """Copies of all messages, the system prompt first. Includes messages trimmed from prompts."""
        return self._known().messages

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The finished turns, oldest first."""
        return tuple(self._known().turns)

    @property
    def system(self) -> str | None:
        """The system prompt."""
        return self._known().system

    def undo(self, n: int = 1) -> tuple[Turn, ...]:
        """Remove the last ``n`` turns, also from the store, and return them.

        Raises:
            ConfigurationError: ``n`` is not between 1 and the number of turns.
            ConversationBusy: A turn is running, and ``on_busy`` is ``"raise"`` or waiting would deadlock.
            DeadlineExceeded: The wait for a running turn took longer than ``Timeout.total``.
            VersionConflict: The stored conversation has changed since it was loaded.
            StoreError: The store fails.
        """
        claim = TurnClaim()
        try:
            self._begin_change(claim)
            self._open(fresh=False)
            kept, undone = check_undo(self._transcript.turns, n)
            run_to_completion(lambda: self._take_over(kept))
        finally:
            claim.released = True
            self._turn_lock.release(claim)
        return undone

    def save(self) -> None:
        """Save unsaved changes: a turn that could not be saved, `metadata`, a new affinity key.

        Turns are saved automatically.

        Raises:
            ConfigurationError: The conversation has no store.
            ConversationBusy: As for `undo`.
            DeadlineExceeded: As for `undo`.
            VersionConflict: The stored conversation has changed since it was loaded.
            StoreError: The store fails.
        """
        self._stored()
        claim = TurnClaim()
        try:
            self._begin_change(claim)
            self._open(fresh=False)
            run_to_completion(lambda: self._take_over(self._transcript.turns))
        finally:
            claim.released = True
            self._turn_lock.release(claim)

    def reload(self) -> None:
        """Load the latest state from the store: after a `VersionConflict`, or to look before the first turn.

        Drops turns that could not be saved.

        Raises:
            ConversationNotFound: The store has no conversation with this id.
            ConfigurationError: The conversation has no store, or a newer version of Homing wrote it.
            ConversationBusy: As for `undo`.
            DeadlineExceeded: As for `undo`.
            StoreError: The store fails.
        """
        self._stored()
        claim = TurnClaim()
        try:
            self._begin_change(claim)
            if not self._load():
                raise ConversationNotFound(f"there is no conversation {self.id!r} in the store")
        finally:
            claim.released = True
            self._turn_lock.release(claim)

    def to_dict(self) -> dict[str, Any]:
        """Return the conversation as plain, JSON-serializable data. `from_dict` reads it back.

        Like a store, it omits code and per-process settings: the functions of tools (their definitions
        are kept), timeouts, extra headers. Pass these again.
        """
        turns = self._known().to_dict()["turns"]
        return {**self._header().to_dict(), "id": self.id, "turns": turns}

    def transcript(self) -> str:
        """Return the conversation as Markdown."""
        return self._known().to_markdown()

    def _repr_markdown_(self) -> str:
        return sanitize_markdown(self.transcript())

    def __repr__(self) -> str:
        if not hasattr(self, "_persistence"):
            return f"<{type(self).__name__}, not made yet>"  # in the traceback of a constructor that failed
        archive = self._persistence
        turns = len(self._transcript.turns) if archive is None or archive.opened else "not loaded"
        return f"<{type(self).__name__} {self.id} turns={turns}>"

    # -- with the turn lock --------------------------------------------------------------------

    def _begin_change(self, claim: TurnClaim) -> None:
        """Acquire the turn lock, waiting no longer than the client's ``Timeout.total``."""
        options = self._client._options
        total = options.timeout.total
        until = None if total is None else options.clock() + total
        self._turn_lock.acquire(claim, self.id, self.on_busy, until=until, total=total)
        self._record_dropped()

    def _record_dropped(self) -> None:
        """Record the partial replies of garbage-collected streams before anything else enters the history."""
        dropped = self._turn_lock.dropped
        while dropped:
            dropped[0]._turn.record_dropped(dropped[0]._call)
            dropped[0]._turn.conversation._save_quietly()
            dropped.popleft()

    def _save_quietly(self) -> None:
        """Save the turn of a garbage-collected stream. If that fails, this object's next turn saves it."""
        try:
            run_to_completion(lambda: self._take_over(self._transcript.turns))
        except HomingError as failure:
            logger.warning("a stopped turn could not be saved: %s", failure)

    def _open(self, *, fresh: bool) -> bool:
        """Load the stored state if it is not known yet; return whether anything was loaded.

        ``fresh``: the next change may build on the latest state, whatever it is, because it doesn't target
        a particular one.
        """
        archive = self._persistence
        if archive is None:
            return False
        if archive.opened:
            if not archive.behind():
                return False
            if not fresh or not archive.is_saved(self._transcript.turns):
                raise VersionConflict(
                    f"conversation {self.id!r} has moved on, and this object holds an older state: "
                    "reload() brings the newest, then look and try again",
                    expected=archive.version,
                    found=self._turn_lock.version,
                )
        return self._load()

    def _load(self) -> bool:
        """Load the stored state without interruption, so that the state here and its known version stay consistent."""
        return defer_signals(self._load_now)

    def _load_now(self) -> bool:
        archive = self._stored()
        first = not archive.opened
        loaded = archive.load()
        if loaded is None:
            return False
        header, turns = loaded
        self._transcript = Transcript(header.system, turns)
        if not (first and self._own_key):
            self.affinity_key = header.affinity_key
            self._fresh = None
        self.model = self.model or header.model
        self.defaults = {**header.defaults, **self.defaults}  # the program's current values win
        self.metadata = {**header.metadata, **self.metadata} if first else header.metadata
        self._other = header.other
        return True

    def _record(self, turn: Turn, upto: int | None, reply: Reply[Any]) -> None:
        """Add a turn, to the store first."""
        turns = self._transcript.with_turn(turn, upto=upto)
        try:
            self._take_over(turns)
        except VersionConflict as conflict:
            conflict.reply = reply
            raise
        except HomingError as error:
            self._transcript.turns = turns  # ahead of the store; the next save catches up
            raise _not_saved(error, reply) from error

    def _keep_key(self, key: str | None) -> None:
        """Keep the key that a turn used, unless the key was changed meanwhile."""
        if key is not None and self.affinity_key == self._fresh:
            self.affinity_key = key
        self._fresh = None

    def _take_over(self, turns: list[Turn]) -> None:
        if self._persistence is not None:
            self._persistence.save(turns, self._header().to_dict())
        self._transcript.turns = turns

    def _header(self) -> ConversationSettings:
        return ConversationSettings(
            self.affinity_key, self._transcript.system, self.model, self.defaults, self.metadata, self._other
        )

    def _stored(self) -> Persistence:
        if self._persistence is None:
            raise ConfigurationError("this conversation has no store: client.conversation(id, store=...) has one")
        return self._persistence

    def _known(self) -> Transcript:
        if self._persistence is not None and not self._persistence.opened:
            raise ConfigurationError(
                f"conversation {self.id!r} has not been read from its store yet: call reload(), or send something"
            )
        if self._turn_lock.dropped:
            self._note_dropped()
        return self._transcript

    def _note_dropped(self) -> None:
        """Conclude garbage-collected streams, unless a running turn will."""
        claim = TurnClaim()
        try:
            if self._turn_lock.try_acquire(claim):
                for stream in tuple(self._turn_lock.dropped):
                    stream._turn.record_dropped(stream._call)
        finally:
            claim.released = True
            self._turn_lock.release(claim)


def _not_saved(error: HomingError, reply: Reply[Any]) -> StoreError:
    failure = StoreError(
        f"{error} (The reply came, and stands in the history: it is this error's `reply`. save() tries again, "
        "and so does the next turn. Do not ask again.)"
    )
    failure.reply = reply
    return failure
