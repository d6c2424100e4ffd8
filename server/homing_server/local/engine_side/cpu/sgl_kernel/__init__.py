"""A stand-in for SGLang's kernels on a machine without a GPU.

``sglang-kernel`` exists as CUDA wheels only. SGLang 0.5.23 takes plain PyTorch paths on a
CPU without AMX, but imports a few kernel names all the same. The one that it then calls
has a body here; the others are for speculative decoding and refuse to be called.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.4.10"


def assign_req_to_token_pool_cpu(
    req_pool_indices: Any, req_to_token: Any, start_offset: Any, end_offset: Any, out_cache_loc: Any, pool_len: int
) -> None:
    """Write each request's new cache locations into its row of the table, from start to end."""
    taken = 0
    rows = zip(req_pool_indices.tolist(), start_offset.tolist(), end_offset.tolist(), strict=True)
    for row, start, end in rows:
        count = end - start
        req_to_token[row, start:end] = out_cache_loc[taken : taken + count].to(req_to_token.dtype)
        taken += count


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"sgl_kernel.{name} needs a GPU")

    return missing
