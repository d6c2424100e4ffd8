"""Keep conversations in a SQLite file: restarts, a second writer, undo, a listing, retention.

Run it with `python examples/stores.py [file]`, with HOMING_BASE_URL set (`homing up` prints one).
Without a file it uses a temporary one.
"""

import sys
import tempfile
import time

from homing import Client, Conversation, Reply, VersionConflict
from homing.stores import SQLiteStore


def say(chat: Conversation, text: str) -> Reply:
    """Say it on top of whatever the conversation has become."""
    while True:
        try:
            return chat.send(text)
        except VersionConflict as conflict:
            print(f"  somebody was faster: {conflict}")
            chat.reload()


def main(path: str) -> None:
    with Client() as client, SQLiteStore(path) as store:
        chat = client.conversation("caches", system="You are terse.", store=store, metadata={"title": "Caches"})
        say(chat, "Why do KV caches matter?")
        client.conversation("lunch", store=store, metadata={"title": "Lunch"}).send("What is there to eat?")

    with Client() as client, SQLiteStore(path) as store:  # after a restart
        chat = client.load_conversation("caches", store=store)
        reply = say(chat, "And across replicas?")
        print(f"after the restart: {reply.telemetry.verdict}, {reply.telemetry.cached_tokens} tokens cached")

        # Another client stands for another process. It says something while we hold the old state.
        with Client() as other:
            other.load_conversation("caches", store=store).send("Me too.")
        say(chat, "Where were we?")

        undone = chat.undo(2)
        print(f"undone: {[turn.messages[0]['content'] for turn in undone]}")
        for item in store.list().items:
            print(f"{item.id}: {item.turn_count} turn(s), {item.header['metadata']['title']!r}")
        print(f"pruned: {store.prune(before=time.time() - 30 * 86400)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/chats.db")
