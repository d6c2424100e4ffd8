"""Patterns for a secret in plain form, quoted in a URL, JSON, Python, HTML or base64, or in one within another."""

from __future__ import annotations

import base64
import functools
import html.entities
import json
import re
from collections.abc import Iterable
from typing import Final

# Escapes that may directly precede a secret. They end in a letter or digit but aren't part of it: escapes of
# Python, JSON, a shell or a URL, and terminal colors (ECMA-48's CSI; its ESC may be missing).
_ESCAPE: Final = (
    r"\\(?:[abefnrtv]|[0-7]{1,3}|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})" r"|%(?:25)*[0-9a-f]{2}" r"|\[[0-9:;?]*[a-z]"
)
_BEFORE: Final = rf"(?:(?<![A-Za-z0-9])|(?P<escape>{_ESCAPE}))"
_AFTER: Final = r"(?![A-Za-z0-9])"


def token_pattern(words: Iterable[str]) -> str:
    """Return a pattern that finds each of ``words``, in any case, as a token: no letter or digit beside it.

    An escape may precede the token. The group ``escape`` captures it.
    """
    return f"{_BEFORE}(?:{anywhere_pattern(words)}){_AFTER}"


def anywhere_pattern(words: Iterable[str]) -> str:
    """Return a pattern that finds each of ``words`` anywhere, in every spelling."""
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(way for word in longest_first for way in (*_coded(word), _spelled(word)))


def _coded(word: str) -> list[str]:
    data = word.encode("utf-8", "surrogatepass")
    padding = f"(?:{_character('=', 1)}){{0,2}}"
    both = (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode())
    return [*dict.fromkeys(_spelled(code.rstrip("=")) + padding for code in both), data.hex()]


def _spelled(word: str) -> str:
    runs = re.finditer(r"[A-Za-z0-9]+|(?<=\\)(?P<after>[^\\])|(?P<one>.)(?P=one)*", word, re.DOTALL)
    return "".join(
        _character(run["after"], 1, escape="")
        if run["after"]
        else _character(run["one"], len(run[0]))
        if run["one"]
        else run[0]
        for run in runs
    )


@functools.lru_cache(maxsize=256)
def _character(character: str, times: int, *, escape: str = r"\\{1,4}") -> str:
    """Return a pattern for a character that is repeated ``times`` in a row.

    ``escape`` matches the backslashes before it; it is empty where a preceding backslash takes them all.
    Every repetition is bounded, and a text matches in only one way, so that no server can make the search slow.
    """
    data = character.encode("utf-8", "surrogatepass")
    code = ord(character)
    names = [name for name, value in html.entities.html5.items() if value == character and name.endswith(";")]
    ways = [
        f"{escape}u{code:04x}",
        "".join(f"{escape}x{byte:02x}" for byte in data),
        "".join(f"%(?:25){{0,2}}{byte:02x}" for byte in data),
        f"&(?:amp;){{0,2}}(?:{'|'.join((f'#0{{0,6}}{code};', f'#x0{{0,6}}{code:x};', *names))})",
    ]
    if character == "\\":
        # A backslash that is spelled with letters may precede an escape.
        return rf"(?:\\{{{times},{8 * times}}}|(?:{'|'.join(ways)}){{{times}}}\\{{0,4}})"
    in_json = json.dumps(character)[1:-1].replace("\\", r"\\{1,4}")
    ways.append((f"(?:{escape})?" if escape else "") + re.escape(character))
    # No alternative twice, or the number of ways to match would be exponential in the number of characters.
    if not character.isascii():
        ways.append(re.escape(data.decode("latin-1")))
    if code > 0xFFFF or character in "\b\f\n\r\t":
        ways.append(in_json)
    if character == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)}){{{times}}}"
