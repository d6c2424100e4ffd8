"""How much of a prompt a message is, without a tokenizer: bytes of text, as JSON has them.

Bytes become tokens by what the server reported of an earlier prompt of the same conversation
(`homing.core.conversation.trim`). So only proportions matter, and text is in proportion; a picture in
base64 is not, and counts as a fixed amount of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..encoding.messages import encode_json

BYTES_PER_TOKEN: Final = 3.5
"""Before the first usage report: English text has about 4 bytes a token, with the template's own
tokens somewhat fewer. Chinese and code have 2 to 3, so a first prompt in them is underestimated."""

MEDIA_TOKENS: Final = 1000
"""Of a part that is no text: a picture of a megapixel is 700 to 1300 tokens for the Qwen, OpenAI and Gemini
families. Its base64 would otherwise weigh a thousand times that."""

MEDIA_WEIGHT: Final = int(MEDIA_TOKENS * BYTES_PER_TOKEN)


def weigh(message: Mapping[str, Any], encoded: bytes) -> int:
    """Return the weight of ``message``, whose encoding is ``encoded``."""
    weight = len(encoded)
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        for part in content:
            if isinstance(part, Mapping) and part.get("type") not in ("text", None):
                weight += MEDIA_WEIGHT - len(encode_json(part, name="a part of the content"))
    return weight
