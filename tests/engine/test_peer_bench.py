"""SGLang's own benchmark (``bench_serving``) against the edge: somebody else's client, and its count of the cache."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from homing_server.local import Edge
from homing_server.local.engine_environment import ENGINE_SIDE, TINY_MODEL, WITHOUT_GPU, EngineEnvironment

CONVERSATIONS, TURNS, REPLY = 5, 4, 8
# As launch.py does: without a GPU SGLang is importable only so. Hugging Face's `datasets` (with pyarrow,
# 60 MB) is imported for one set of images, which is not used here: a name stands in for it. Nothing of
# the benchmark itself is replaced.
RUN = f"""
import sys, types
sys.modules["datasets"] = types.SimpleNamespace(load_dataset=None)
sys.path.insert(0, {str(ENGINE_SIDE / "cpu")!r})
import without_gpu
without_gpu.prepare()
from sglang.benchmark.serving import cli_main
cli_main()
"""


def test_its_conversations_come_home_by_its_own_routing_key(edge: Edge, tmp_path: Path) -> None:
    environment, out = EngineEnvironment(), tmp_path / "out.jsonl"
    asked = len(edge.log)
    options = {
        "backend": "sglang-oai-chat",
        "base-url": edge.url,
        "model": TINY_MODEL,
        "tokenizer": environment.tiny_model,
        "dataset-name": "generated-shared-prefix",
        "gsp-num-groups": CONVERSATIONS,
        "gsp-prompts-per-group": 1,
        "gsp-num-turns": TURNS,
        "gsp-system-prompt-len": 60,
        "gsp-question-len": 30,
        "gsp-output-len": REPLY,
        "max-concurrency": 3,
        "warmup-requests": 0,  # they would go without a key, and fill any cache
        "extra-request-body": json.dumps({"chat_template_kwargs": {"enable_thinking": False}}),
        "output-file": out,
    }
    switches = ["--gsp-send-routing-key", "--cache-report", "--output-details", "--disable-tqdm"]
    done = subprocess.run(
        [environment.python, "-c", RUN, *(f"--{name}={value}" for name, value in options.items()), *switches],
        env={**os.environ, **WITHOUT_GPU, "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    count = CONVERSATIONS * TURNS
    assert result["completed"] == count
    assert result["errors"] == [""] * count
    prompts, cached, replies = result["input_lens"], result["cached_tokens"], result["output_lens"]
    # Where random weights have made eight tokens that are no text it reads nothing, not even the usage.
    assert set(replies) <= {0, REPLY}
    assert any(replies)
    for turn in range(count):
        if turn % TURNS and replies[turn]:  # its lists have one conversation behind the other
            assert cached[turn] >= prompts[turn - 1] + replies[turn - 1] - 1, "all but the very last token"
    chats = [record for record in edge.log[asked:] if record.path.endswith("/chat/completions")]
    homes = {(record.key, record.replica) for record in chats}
    assert len(chats) == count
    assert sum(bool(record.tokens.cached) for record in chats) >= count - CONVERSATIONS
    assert len(homes) == len({key for key, _ in homes}) == CONVERSATIONS
