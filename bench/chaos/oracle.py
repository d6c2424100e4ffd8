"""What the engine says: a function of what it was asked, which the audit can work out again.

The whole conversation goes into it, so that a turn that was lost, repeated or put elsewhere on the way
to the engine changes every later reply.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from homing_server.local import Answer, ToolCall
from homing_server.local.answers import prose

Message = Mapping[str, Any]

_NOTES = re.compile(r"note (\d)")


def answer(request: Mapping[str, Any]) -> Answer:
    """Return the answer to a request, which may carry a half reply that it is to go on with."""
    messages = request["messages"]
    if request.get("continue_final_message"):
        messages = messages[:-1]
    calls = calls_for(messages[-1])
    if calls:
        return Answer(tool_calls=[ToolCall("note", call) for call in calls])
    return Answer(text_for(messages))


def calls_for(last: Message) -> list[dict[str, Any]]:
    """Return the arguments of the tool calls that this last message brings about, none if it is no such one."""
    found = _NOTES.search(last["content"]) if last["role"] == "user" else None
    turn = "" if found is None else last["content"].split()[0]
    return [] if found is None else [{"turn": turn, "number": number} for number in range(int(found[1]))]


def text_for(messages: Sequence[Message]) -> str:
    """Return the text that follows these messages."""
    return prose(random.Random(digest(messages)), (1, 2))


def digest(messages: Sequence[Message]) -> str:
    """Return what the edge's log calls these messages."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:12]
