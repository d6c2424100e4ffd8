"""An event stream read by the standard's own algorithm, for comparison.

It is that of WHATWG HTML 9.2.6, line by line and on the whole input, with nothing in common with the
decoder under test, not even httpx-sse.
"""

from __future__ import annotations

import re

from homing.core.streaming.sse import Event


def reference(stream: bytes) -> list[Event]:
    text = stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = re.split("\r\n|\r|\n", text)[:-1]  # what follows the last line end is no line
    events = []
    name = data = ""
    for line in lines:
        if line == "":
            if data:
                events.append(Event(name or "message", data[:-1].encode()))
            name = data = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value + "\n"
    return events
