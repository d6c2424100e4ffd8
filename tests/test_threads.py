"""Each public bug about streams that Homing answers has a test that names its thread."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

THREADS = {
    "transport errors escape the SDK": "openai-python#2356, #2065, #1384",
    "a missing finish_reason is taken for success": (
        "litellm#42140, agent-afk#635, tidebreak#1124, GoModel#1017, pydantic-ai#6610, vercel/ai#19165"
    ),
    "[DONE] without finish_reason is complete": "oh-my-pi#9433",
    "half tool calls are handed out": "command-code#785, ANOLISA#2209",
    "a drop before anything was visible": "hermes-agent#112419",
    "blocks of retry or id alone are no events": "openai-python#2722, #2721, #2943, #3833, openai-go#621",
    "a bare data line": "hermes-agent#111887",
    "event: error is ignored": "openai-python#2796, #2943, clicky#132",
    "U+2028 splits no line": "httpx-sse#34",
    "a byte order mark, split UTF-8": "ANOLISA#2209",
    "CRLF and lone CR": "hey-api#3054, a2a-js#714",
    "events, not single data lines": "WrzDJ#354",
    "an error inside a stream is swallowed": "any-llm#847, mastra#22097",
    "an error frame is retried as if truncated": "codegraff#748",
    "error objects in streams with status 200": "guidellm#743, llama.cpp#14566, vllm#40986",
    "the usage chunk has no choices": "apfel#100, ATOM#1711",
    "usage on every chunk ends nothing": "opencode-cmd-provider#213",
    "cached tokens: zero is not unknown": "sglang#28801, sglang#4707",
}

# A name in a comment may stand for several numbers: "openai-python#2722, #2721".
_NAME = re.compile(r"([A-Za-z][\w./-]*)(#\d+(?:, #\d+)*)")


def named(text: str) -> set[str]:
    return {match[1] + number for match in _NAME.finditer(text) for number in re.findall(r"#\d+", match[2])}


@pytest.fixture(scope="module")
def tested() -> set[str]:
    """The threads named in the tests that are written by hand."""
    written = [path for path in TESTS.rglob("test_*.py") if "_sync" not in path.parts and path != Path(__file__)]
    return set().union(*(named(path.read_text()) for path in written))


@pytest.mark.parametrize("bug", THREADS)
def test_a_test_names_the_thread(bug: str, tested: set[str]) -> None:
    wanted = named(THREADS[bug])
    assert wanted
    assert wanted <= tested
