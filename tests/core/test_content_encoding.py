from __future__ import annotations

import httpx
import pytest

from homing._http.content_encoding import BYTEWISE, SLICE, slice_size


@pytest.mark.parametrize(
    ("encodings", "size"),
    [(["gzip"], SLICE), (["identity", " Deflate "], SLICE), (["br"], BYTEWISE), (["zstd"], BYTEWISE), ([""], BYTEWISE)],
)
def test_what_may_unpack_to_much_is_unpacked_a_little_at_a_time(encodings: list[str], size: int) -> None:
    assert slice_size(encodings) == size


def test_what_is_packed_twice_is_refused() -> None:
    with pytest.raises(httpx.DecodingError, match="2 times"):
        slice_size(["gzip", "br"])
