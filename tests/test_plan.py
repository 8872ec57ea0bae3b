"""The memory plan counts what a model really takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import clip, tiny_engine, tiny_network
from torch import Tensor

from unipixel.config import RELEASED, released_config
from unipixel.model.weights import load_model, save_model
from unipixel.plan import FORMATS, TEXT_TOKENS, find_plan_config, plan_memory


def size(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("name, dtype", [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_weights_are_those_that_are_loaded(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    save_model(tiny_network(), tmp_path)
    loaded = load_model(tmp_path, dtype)
    plan = plan_memory("tiny", find_plan_config(str(tmp_path)))
    assert plan.weights[name] == size(*loaded.parameters())
    assert sum(plan.parameters.values()) == sum(p.numel() for p in loaded.parameters())


def test_caches_and_features_are_those_that_are_kept() -> None:
    engine, media = tiny_engine(), clip()
    plan = plan_memory("tiny", engine.network.config, media.num_frames)
    prefix = engine.encoder.prefix(media)
    kept = size(*(tensor for pair in prefix.keys_values for tensor in pair))
    clip_tokens = plan.tokens - TEXT_TOKENS
    assert clip_tokens == int((prefix.input_ids == engine.network.config.video_token_id).sum())
    assert plan.cache["float32"] == 2 * kept * plan.tokens // prefix.input_ids.shape[1]
    shorter = plan_memory("tiny", engine.network.config, media.num_frames - 1)
    features = engine.encoder.frame(media, 0)
    assert plan.features - shorter.features == size(features.low, *features.high)


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_are_planned_without_the_hub(name: str) -> None:
    plan = plan_memory(name, find_plan_config(name))
    totals = [plan.total(number_format) for number_format in FORMATS]
    assert totals == sorted(totals, reverse=True)
    assert plan.tokens == 8 * 256 + TEXT_TOKENS
    assert plan.parameters["SAM 2"] == 80_850_178
    more = plan_memory(name, released_config(name), 64)
    assert more.weights == plan.weights
    assert more.total("bfloat16") > plan.total("bfloat16")
