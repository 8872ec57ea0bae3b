"""Nano's tokenizer: a small byte-level BPE with Qwen2.5-VL's control tokens and UniPixel's three."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from unipixel.data.world import FULL
from unipixel.data.world.language import all_texts
from unipixel.grammar import LOCALIZE, SYSTEM_PROMPT, UNIPIXEL_TOKENS, render_memory

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    *UNIPIXEL_TOKENS,
)

# As Qwen2's: words with their space, single digits, runs of punctuation, line ends.
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(vocab_size: int = 1536, texts: int = 30_000) -> Tokenizer:
    """Learn the merges from the drawn world's questions and answers and the grammar's own sentences.

    The full world's words are among them, though nano learns only those of shapes so far: a tokenizer stays for good.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(CONTROL_TOKENS),
        show_progress=False,
    )
    grammar = [SYSTEM_PROMPT, LOCALIZE, "system\n", "user\n", "assistant\n"]
    grammar += [render_memory(8, False, {1: [(1, 2), (3, 4)]}), render_memory(1, True, {1: [(1, 1)]})]
    world = chain(all_texts(texts // 2), all_texts(texts // 2, contents=FULL))
    tokenizer.train_from_iterator(chain(grammar * 2000, world), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and the configuration with which transformers loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": [t for t in CONTROL_TOKENS if t not in ("<|im_end|>", "<|endoftext|>")],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
