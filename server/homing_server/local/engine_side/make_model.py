"""Makes a model with random weights and its tokenizer: ``python make_model.py FOLDER [--shape NAME]``.

Its text means nothing, but everything around the text is real: prefill, cache, sampling,
grammars. Runs in the engine's own environment.

Only tokens that are one whole word ever win: the rows of the others in the output layer are
zero. So a reply that is sent back as history becomes the same tokens again, as it does with
a trained model, and the prefix cache can be measured to the token.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Tokens of their own but not "special", as in Qwen3: parsers must find them in the text.
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]

# ChatML as Qwen3 writes it. Thinking is off unless asked for: random text never ends it. Then
# the empty thought stays in the history too, so that a turn's prompt begins with all of the last.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.role == 'assistant' and not enable_thinking %}<think>

</think>

{% endif %}{% if message.content is string %}{{ message.content }}{% elif message.content -%}
{%- for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

# Context in tokens. KV cache of the tiny one: 512 bytes a token.
CONTEXT = 32_768
SHAPES: dict[str, dict[str, int]] = {
    # Starts anywhere in seconds: under a million parameters.
    "tiny": {
        "vocab_size": 2_048,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
    # Qwen3-4B's layers, so that prefill costs what it costs there; two KV heads, 36 KiB a token.
    "4b": {
        "vocab_size": 16_384,
        "hidden_size": 2_560,
        "intermediate_size": 9_728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
    },
}
# Standard deviation of the weights: wide enough in the tiny one that replies differ.
SPREAD = {"tiny": 0.05, "4b": 0.02}


def make_tokenizer(size: int) -> tuple[Any, list[int]]:
    """Return a byte-level BPE tokenizer and the tokens that are whole words to it.

    Trained on the standard library's source, which every Python has.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found, unused-ignore]
    from transformers import PreTrainedTokenizerFast  # type: ignore[import-not-found, unused-ignore]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(MARKS),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    words = []
    for token, number in tokenizer.get_vocab().items():
        # "Ġ" is how byte-level BPE writes a space.
        if re.fullmatch("Ġ[A-Za-z]{2,}", token) and tokenizer.encode(" " + token[1:]).ids == [number]:
            words.append(number)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    fast.chat_template = TEMPLATE
    return fast, sorted(words)


def _texts() -> list[str]:
    library = Path(os.__file__).parent
    return [path.read_text(encoding="utf-8", errors="replace") for path in sorted(library.glob("*.py"))]


def make_weights(shape: str, tokenizer: Any, words: list[int], *, device: str) -> Any:
    """Return the model, the same each time for one shape and device."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    from transformers import Qwen3Config, Qwen3ForCausalLM  # type: ignore[import-not-found, unused-ignore]

    config = Qwen3Config(
        **SHAPES[shape],
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        rope_theta=1_000_000.0,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=SPREAD[shape],
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        keep = torch.zeros(config.vocab_size, dtype=torch.bool, device=device)
        keep[torch.tensor(words, device=device)] = True
        model.lm_head.weight[~keep] = 0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # A request that names no sampling gets words too: the twenty likeliest tokens are.
    model.generation_config.update(do_sample=True, temperature=0.7, top_k=20)
    return model


def main() -> None:
    """Write the model into a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    tokenizer, words = make_tokenizer(SHAPES[given.shape]["vocab_size"])
    tokenizer.save_pretrained(given.folder)
    make_weights(given.shape, tokenizer, words, device=given.device).save_pretrained(given.folder)
    # Words that are one token each: prompts of an exact length are made of them.
    (given.folder / "words.json").write_text(json.dumps([tokenizer.decode([number]) for number in words]))


if __name__ == "__main__":
    if os.environ.get("HOMING_ENGINE_WITHOUT_GPU") == "1":
        sys.path.insert(0, str(Path(__file__).resolve().parent / "cpu"))
        import without_gpu  # type: ignore[import-not-found, unused-ignore]

        without_gpu.prepare()
    main()
