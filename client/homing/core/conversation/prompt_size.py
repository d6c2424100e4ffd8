"""The size of a message without a tokenizer: its bytes of text, as encoded in JSON.

The token count that the server reported for an earlier prompt of the same conversation converts bytes to tokens
(`homing.core.conversation.trim`). So only proportions matter. Text is in proportion; a base64 image is not, so it
counts as a fixed amount of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..encoding.messages import encode_json

BYTES_PER_TOKEN: Final = 3.5
"""Used before the first usage report. English text has about 4 bytes a token, or somewhat fewer with the
template's own tokens. Chinese and code have 2 to 3, so a first prompt in these is underestimated."""

MEDIA_TOKENS: Final = 1000
"""Tokens of a part that isn't text. A one-megapixel image is 700 to 1300 tokens in the Qwen, OpenAI and Gemini
families. Counted as text, its base64 would weigh a thousand times as much."""

MEDIA_WEIGHT: Final = int(MEDIA_TOKENS * BYTES_PER_TOKEN)


def weigh(message: Mapping[str, Any], encoded: bytes) -> int:
    """Return the weight of ``message`` in bytes of text, given its encoding."""
    weight = len(encoded)
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        for part in content:
            if isinstance(part, Mapping) and part.get("type") not in ("text", None):
                weight += MEDIA_WEIGHT - len(encode_json(part, name="a part of the content"))
    return weight
