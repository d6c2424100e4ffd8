"""Conversations in Redis, for programs that run on many machines."""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StoreError
from .base import DEFAULT_PAGE, ConversationSummary, Header, Page, Store, StoredConversation, Turn
from .rules import (
    START,
    Commit,
    Position,
    Record,
    Row,
    StoredState,
    checked_id,
    checked_limit,
    checked_moment,
    damaged,
    logger,
    microseconds,
    page_of,
    position_of,
)
from .workers import Workers, run_aside

try:
    import redis
except ImportError as error:
    raise ImportError("RedisStore needs redis-py: pip install 'homing[redis]'") from error

if TYPE_CHECKING:
    from redis.client import Pipeline

SOCKET_TIMEOUT = 10.0
"""Seconds for one response. Redis responds in well under a millisecond; ten seconds outlast a
failover's pause and a slow snapshot, and still end the wait for a dead machine."""

CALL_TIMEOUT = 60.0
"""Seconds for one call: a few responses, and redis-py's own retries."""

PRUNE_TIMEOUT = 3600.0
"""The same for `RedisStore.prune`, which deletes conversations one by one."""

MAX_THREADS = 16
"""Concurrent calls, each with its own connection. Redis executes commands serially; more would only queue there."""

SCHEMA_VERSION = 1
"""Version of the layout of the keys below; stored along with them."""

_ROW = ("version", "header", "turn_count", "created_at", "updated_at")


class RedisStore(Store):
    """A store in Redis (5 or newer, one primary) or a compatible server.

    Each conversation is one hash, so that eviction and deletion remove it as a whole. Each
    turn is one field, so that a commit sends only the new turn. The rules are those of every other
    store, applied under WATCH/MULTI/EXEC. Redis Cluster is not supported: the listing and the
    conversation must change together, but live in different slots.

    A commit is as durable as the server makes it. Set ``appendonly yes``, ``appendfsync always``
    and ``maxmemory-policy noeviction``. With Redis's defaults, a crash loses everything after the last
    snapshot; the logger ``homing.stores`` warns about this.

    Args:
        server: ``redis://[user:password@]host:port/db``, ``rediss://…``, ``unix://…``, or an existing
            ``redis.Redis``, which the caller closes.
        prefix: Prefix of every key, so that several programs can share a database.
        clock: Returns seconds since the epoch; for tests.

    Raises:
        ImportError: redis-py is missing; the message contains the command that installs it.
        ConfigurationError: The URL is invalid.
        StoreError: The server is unreachable, or a newer version of Homing wrote the keys.
    """

    def __init__(
        self,
        server: str | redis.Redis,
        *,
        prefix: str = "homing:",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._owned = isinstance(server, str)
        # Any: redis-py's annotations use one type for its blocking and its asyncio client.
        self._redis: Any = _made(server) if isinstance(server, str) else server
        self._conversations = f"{prefix}conversation:"
        self._created = f"{prefix}created"
        """Sorted by name: creation time with leading zeros, colon, id."""
        self._updated = f"{prefix}updated"
        """Sorted by score: the time of the latest commit."""
        self._clock = clock
        client = self._redis
        self._workers: Workers[Any] = Workers(
            "homing-redis",
            waiting_for=repr(self),
            closed="this RedisStore is closed: open a new one",
            connect=lambda: client,
            translate=_translated,
            limit=CALL_TIMEOUT,
            most=MAX_THREADS,
            finish=partial(_disconnect, client) if self._owned else bool,
        )
        finalizer = weakref.finalize(self, self._workers.stop_soon)
        finalizer.atexit = False
        try:
            self._workers.run(partial(_check_server, schema=f"{prefix}schema"))
        except BaseException:
            self._workers.stop_soon()
            raise

    def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`. As durable as the server makes it."""
        change = Commit.checked(
            conversation_id, expected_version=expected_version, header=header, keep=keep, turns=turns
        )
        token = secrets.token_hex(8)  # recognises our own write if its response was lost

        def write(pipe: Pipeline) -> int:
            found: Any = pipe.hmget(key, "version", "turn_count", "token", "created_at", "updated_at")
            version, turn_count, latest, created, updated = (_text(value) for value in found)
            head = StoredState.found(conversation_id, _number(version), _number(turn_count)) if version else None
            if head and latest == token:
                pipe.multi()
                return head.version
            plan = change.against(head)
            # A clock that goes backwards must not age a conversation: prune() would delete it.
            now = max(microseconds(self._clock()), _number(updated) or 0)
            fields: dict[Any, Any] = {
                "version": plan.version,
                "turn_count": plan.turn_count,
                "updated_at": now,
                "token": token,
            }
            if head is None:
                fields |= {"header": "{}", "created_at": now}
            if change.header is not None:
                fields["header"] = change.header
            fields |= {_turn(plan.kept + offset): turn for offset, turn in enumerate(change.turns)}
            pipe.multi()
            dropped = range(plan.turn_count, head.turn_count if head else 0)
            if dropped:
                pipe.hdel(key, *(_turn(position) for position in dropped))
            pipe.hset(key, mapping=fields)
            pipe.zadd(self._created, {_member(_number(created) or now, conversation_id): 0})
            pipe.zadd(self._updated, {conversation_id: now})
            return plan.version

        key = self._conversations + conversation_id
        version: int = self._workers.run(lambda client: client.transaction(write, key, value_from_callable=True))
        return version

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        key = self._conversations + checked_id(conversation_id)
        found = self._workers.run(lambda client: client.hgetall(key), changes=False)
        fields = {_text(name): _text(value) for name, value in found.items()}
        if not fields:
            return None
        row = _row(conversation_id, [fields.get(name, "") for name in _ROW])
        turns: list[str] = []
        while (name := _turn(len(turns))) in fields:
            turns.append(fields[name])
        return Record(row, turns).conversation()

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        checked_limit(limit)
        position = position_of(cursor)
        newest = "+" if position == START else f"({_member(int(position.created_at), position.id)}"

        def read(client: Any) -> tuple[list[str], Any]:
            members = client.zrevrangebylex(self._created, newest, "-", start=0, num=limit + 1)
            names = [_text(member) for member in members]
            pipe = client.pipeline(transaction=False)
            for name in names[:limit]:
                pipe.hmget(self._conversations + name.partition(":")[2], *_ROW)
            return names, pipe.execute(raise_on_error=False)

        names, found = self._workers.run(read, changes=False)
        items: list[ConversationSummary] = []
        for name, values in zip(names, found, strict=False):
            conversation_id = name.partition(":")[2]
            if isinstance(values, redis.RedisError):  # another type of key
                logger.warning("Left out of a listing: %s", damaged(conversation_id, str(values)))
            elif values[0] is not None:  # else deleted since
                row = _row(conversation_id, [_text(value) for value in values])
                items += page_of([row], 1).items
        places = [place for name in names[:limit] if (place := _prompt_plan(name))]
        return Page(items, places[-1].cursor() if places and len(names) > limit else None)

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        checked_id(conversation_id)
        return self._workers.run(lambda client: self._delete(client, conversation_id, unless_since=None))

    def prune(self, *, before: float) -> int:
        """See `Store.prune`. Deletes conversations one by one, each only if still unused."""
        moment = checked_moment("before", before)

        def prune(client: Any) -> int:
            old = client.zrangebyscore(self._updated, "-inf", f"({moment}")
            return sum(self._delete(client, _text(conversation_id), unless_since=moment) for conversation_id in old)

        return self._workers.run(prune, limit=PRUNE_TIMEOUT)

    def close(self) -> None:
        """See `Store.close`. A client passed by the caller stays open."""
        self._workers.stop()

    def __repr__(self) -> str:
        return f"<RedisStore prefix={self._created.removesuffix('created')!r}>"  # the URL may contain a password

    def _delete(self, client: Any, conversation_id: str, *, unless_since: int | None) -> bool:
        key = self._conversations + conversation_id

        def write(pipe: Pipeline) -> bool:
            found: Any = pipe.hmget(key, "created_at", "updated_at")
            created, updated = (_number(_text(value)) for value in found)
            pipe.multi()
            if unless_since is not None and updated is not None and updated >= unless_since:
                return False
            pipe.delete(key)
            pipe.zrem(self._updated, conversation_id)
            if created:
                pipe.zrem(self._created, _member(created, conversation_id))
            return any(value is not None for value in found)

        deleted: bool = client.transaction(write, key, value_from_callable=True)
        return deleted


def _check_server(client: Any, *, schema: str) -> None:
    try:
        client.set(schema, SCHEMA_VERSION, nx=True)
    except ValueError as error:  # an invalid path or host name
        raise ConfigurationError(f"server: redis-py refuses the URL ({error})") from None
    found = _number(_text(client.get(schema)))
    if found is None or found > SCHEMA_VERSION:
        raise StoreError(
            f"the keys have schema version {found}, this version of Homing knows up to {SCHEMA_VERSION}: "
            "upgrade homing in this process"
        )
    persistence: Mapping[str, Any] = client.info("persistence")
    if not persistence.get("aof_enabled"):
        logger.warning(
            "This Redis keeps no append-only file: turns saved after its latest snapshot are lost if it "
            "crashes. Set appendonly yes and appendfsync always."
        )


def _disconnect(client: Any) -> None:
    client.close()
    client.connection_pool.disconnect()


def _translated(error: BaseException) -> BaseException:
    if not isinstance(error, redis.RedisError):
        return error
    return StoreError(f"Redis: {error}; is the server up and may this user write?")


def _made(url: str) -> redis.Redis:
    """Create the client where no signal handler runs, because the library uses locks of its own."""
    return run_aside(partial(_client, url), waiting_for="redis-py's client", limit=CALL_TIMEOUT)


def _client(url: str) -> redis.Redis:
    try:
        return redis.Redis.from_url(url, socket_timeout=SOCKET_TIMEOUT, socket_connect_timeout=SOCKET_TIMEOUT)
    except ValueError as error:
        # Without the URL: it may contain a password.
        raise ConfigurationError(
            "server: not a Redis URL; give redis://host:port/db, rediss://… or unix://…"
        ) from error


def _text(value: Any) -> str:
    """Decode a response. A client passed by the caller may have decoded it already."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value or ""


def _number(text: str) -> int | None:
    """Parse a number. Return None if it is invalid or missing."""
    try:
        return int(text)
    except ValueError:
        return None


def _turn(position: int) -> str:
    return f"turn:{position}"


def _member(created_at: int, conversation_id: str) -> str:
    return f"{created_at:016d}:{conversation_id}"


def _prompt_plan(member: str) -> Position | None:
    created_at, colon, conversation_id = member.partition(":")
    moment = _number(created_at)
    return Position(moment, conversation_id) if colon and moment is not None else None


def _row(conversation_id: str, values: Sequence[str]) -> Row:
    version, header, turn_count, created_at, updated_at = values
    numbers: list[Any] = [_number(value) for value in (version, turn_count, created_at, updated_at)]
    return Row(conversation_id, numbers[0], header, *numbers[1:])
