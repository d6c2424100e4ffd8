"""What a person does with the chatbot's page, and sees on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PROSE = " ".join(f"Sentence number {number} tells of pigeons." for number in range(1, 25))

MARKDOWN = """## How pigeons find home

They use **several** senses at once, and *check* one against another:

1. the sun, as a `compass`
2. the magnetic field
   - at night, and under clouds
3. smells, [as in Pisa](https://example.com/olfaction)

| Sense | Range |
|---|---|
| sun | any |
| smell | 500 km |

> A young bird learns the map; an old one trusts it.

```python
home = max(replicas, key=lambda replica: weight(key, replica))
```
"""


def write(page: Page, text: str) -> None:
    """Say something, without waiting for the reply."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def ask(page: Page, text: str) -> Locator:
    """Say something, and return the finished reply."""
    before = replies(page).count()
    write(page, text)
    last = page.locator("article.assistant").nth(before)
    expect(last.locator(".badges li").first).to_be_visible()
    settled(page)
    return last


def settled(page: Page) -> None:
    """Wait until no reply is under way."""
    expect(page.get_by_role("log", name="Messages")).to_have_attribute("aria-busy", "false")


def replies(page: Page) -> Locator:
    """Replies that have ended."""
    return page.locator("article.assistant:has(.badges)")


def under_way(page: Page) -> Locator:
    """The text of the reply that is being written."""
    return page.locator("article.live .text")


def stands_at(page: Page, words: str) -> str:
    """Wait until the reply under way has these words; return all that it has."""
    expect(under_way(page)).to_contain_text(words)
    return str(under_way(page).inner_text())


def badge(reply: Locator, name: str) -> str:
    return str(reply.locator(f"[data-badge={name}]").inner_text())


def said(page: Page) -> list[str]:
    """What stands on the page, oldest first."""
    return [re.sub(r"\s+", " ", text) for text in page.locator(".asked, article.assistant .text").all_inner_texts()]
