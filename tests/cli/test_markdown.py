"""Growing Markdown: however it comes in pieces, the screen ends up as if it had come at once."""

from __future__ import annotations

import io
import time

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.document import Document
from rich.console import Console

from homing.cli.chat.editor import _Commands
from homing.cli.chat.markdown import blocks, split_finished
from homing.cli.chat.screen import _Page
from homing.cli.chat.talk import COMMANDS

TEXT = """\
# Title

A *paragraph* of two
lines, with <b>HTML</b> and a [link](https://example.com/x).
- one
- two

  more of two

1. first
2. second
> quoted

```python
for n in range(3):

    print(n)
```
| a | b |
|---|---|
| 1 | 2 |

Setext
======

<div>
  kept
</div>

***
The end."""


def shown(pieces: list[str], *, columns: int = 60, lines: int = 12, tall: int = 80) -> str:
    """Return what a terminal of so many lines shows, with what has left it above."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=columns, height=lines)
    page = _Page(console, time.monotonic)
    with page:
        for piece in pieces:
            page.content(piece)
            with page._lock:
                page._live.refresh()
    # On a taller screen: what is redrawn fits on the short one, so the cursor never has to go higher.
    screen = pyte.Screen(columns, tall)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    return "\n".join(line.rstrip() for line in screen.display).rstrip()


def test_as_it_looks() -> None:
    assert (
        shown([TEXT])
        == """\
                           Title

A paragraph of two lines, with <b>HTML</b> and a link
(https://example.com/x).

 • one
 • two
   more of two

 1 first
 2 second

▌ quoted

 for n in range(3):

     print(n)

 a  b
 ────
 1  2

                           Setext

<div> kept </div>

------------------------------------------------------------

The end."""
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pieces_make_no_difference(size: int) -> None:
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert shown(pieces) == shown([TEXT])


def test_what_is_longer_than_the_screen_is_whole_in_the_end() -> None:
    code = "".join(f"line {number}\n" for number in range(40))
    pieces = [*f"```\n{code}```\nDone.".splitlines(keepends=True)]
    assert shown(pieces).split("\n") == [*(f" line {number}" for number in range(40)), "", "Done."]


@given(st.lists(st.sampled_from([*TEXT.splitlines(keepends=True), "\n", "    x\n", "\x85\u2028 y\n", "- ", "z"])))
def test_blocks_are_the_text_again(lines: list[str]) -> None:
    text = "".join(lines)
    assert "".join(blocks(text)) == text
    finished, rest = split_finished(text)
    assert "".join(finished) + rest == text
    more, left = split_finished(text + "w")
    assert more == finished, "what is finished does not depend on the line that has begun"
    assert left == rest + "w"


def test_completion() -> None:
    completer = _Commands(COMMANDS, lambda: ["trip", "tour", "work"])

    def completed(text: str) -> list[str]:
        return [one.text for one in completer.get_completions(Document(text), None)]  # type: ignore[arg-type]

    assert completed("/re") == ["/regenerate"]
    assert completed("/load t") == ["trip", "tour"]
    assert completed("hello /re") == []
