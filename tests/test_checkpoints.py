"""Checkpoints on disk: every layout that is read, what is saved, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TOKENIZER_FOLDER, clip, random_network, tiny_config, tiny_engine, tiny_network, tiny_tokenizer
from torch import Tensor

from unipixel.checkpoints import read_config
from unipixel.config import released_config
from unipixel.engine import UniPixel
from unipixel.eval.metrics import iou
from unipixel.model.quantize import BITS, BLOCK, quantized_layers
from unipixel.model.sam2 import read_sam2_numbers
from unipixel.model.storage import StoredEmbedding, StoredLinear
from unipixel.model.tensors import PEFT_PREFIX, disk_to_memory, memory_to_disk
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import load_model, read_tensors, save_model
from unipixel.plan import find_plan_config
from unipixel.processing import to_tensor, vision_inputs
from unipixel.types import Answer, Box, Point, Region

MEDIA = clip()


@pytest.fixture(scope="module")
def network() -> UniPixelForConditionalGeneration:
    return tiny_network()


@pytest.fixture(scope="module")
def saved(network: UniPixelForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_model(network, folder, torch.float32)
    return folder


def assert_same_tensors(a: UniPixelForConditionalGeneration, b: UniPixelForConditionalGeneration) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert set(ours) == set(theirs)
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


def test_a_saved_model_loads_as_it_was(network: UniPixelForConditionalGeneration, saved: Path) -> None:
    loaded = load_model(saved)
    assert_same_tensors(network, loaded)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    ours, theirs = (
        {k: v for k, v in m.config.to_dict().items() if k not in ("dtype", "_name_or_path")} for m in (network, loaded)
    )
    assert ours == theirs
    pixels, grid = vision_inputs(to_tensor(MEDIA.frames), network.config)
    with torch.inference_mode():
        answers = [m.encode_vision(pixels, grid)[0].tokens for m in (network, loaded)]
        read = [
            m.read(m.embed(torch.tensor([[50, 60, 70]])), torch.arange(3).expand(3, 1, 3)) for m in (network, loaded)
        ]
    assert torch.equal(*answers)
    assert torch.equal(*read)


def test_an_untied_head_is_saved_too(tmp_path: Path) -> None:
    network = random_network(tiny_config(tied=False), seed=1)
    save_model(network, tmp_path, torch.float32)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert_same_tensors(network, load_model(tmp_path))


def test_a_saved_model_is_in_the_released_layout(saved: Path) -> None:
    keys = set(load_file(saved / "model.safetensors"))
    parts = {"visual", "model", "sam2", "seg_head", "ref_encoder", "ref_proj", "ref_proj_single", "ref_proj_double"}
    assert {key.split(".")[0] for key in keys} == parts | {"tem_pe", "tem_emb", "tem_proj", "msk_proj"}
    assert "model.layers.0.self_attn.q_proj.weight" in keys
    assert not any("gamma" in key for key in keys)
    assert {memory_to_disk(disk_to_memory(key)) for key in keys} == keys


def test_newer_and_older_layouts_mean_the_same(saved: Path, tmp_path: Path, network: Any) -> None:
    newer = {disk_to_memory(k): v for k, v in load_file(saved / "model.safetensors").items()}
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    save_file(newer, tmp_path / "model.safetensors")
    assert_same_tensors(network, load_model(tmp_path))


def test_shards_are_read_together(saved: Path, tmp_path: Path, network: Any) -> None:
    tensors = load_file(saved / "model.safetensors")
    names = list(tensors)
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in set(places.values()):
        save_file({n: tensors[n] for n in names if places[n] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    assert_same_tensors(network, load_model(tmp_path))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-1\.safetensors"):
        read_tensors(tmp_path)


KEY = "visual.blocks.0.mlp.up_proj.weight"


def without(tensors: dict[str, Tensor]) -> None:
    del tensors[KEY]


def renamed(tensors: dict[str, Tensor]) -> None:
    tensors["visual.surprise.weight"] = tensors[KEY].clone()


def reshaped(tensors: dict[str, Tensor]) -> None:
    tensors[KEY] = tensors[KEY][1:].contiguous()


def not_a_number(tensors: dict[str, Tensor]) -> None:
    tensors[KEY][3, 4] = float("nan")


@pytest.mark.parametrize(
    "harm, says",
    [
        (without, r"1 missing \(model\.visual\.blocks\.0\.mlp\.up_proj\.weight\)"),
        (renamed, r"1 unexpected \(model\.visual\.surprise\.weight\)"),
        (reshaped, r"1 of another shape \(model\.visual\.blocks\.0\.mlp\.up_proj\.weight\)"),
        (not_a_number, r"1 not finite \(model\.visual\.blocks\.0\.mlp\.up_proj\.weight\)"),
    ],
)
def test_wrong_tensors_are_named(
    saved: Path, tmp_path: Path, harm: Callable[[dict[str, Tensor]], None], says: str
) -> None:
    tensors = load_file(saved / "model.safetensors")
    harm(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    with pytest.raises(ValueError, match=says):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_an_error_that_names_it(saved: Path, tmp_path: Path, share: float) -> None:
    data = (saved / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: int(len(data) * share)])
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "llama"}', "[]"])
def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="config"):
        load_model(tmp_path)


@pytest.fixture(scope="module")
def released_keys(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "parity" / "unipixel_3b_keys.json").read_text())


def test_names_of_the_released_model_go_there_and_back(released_keys: dict[str, Any]) -> None:
    names = released_keys["keys"]
    assert [key for key in names if memory_to_disk(disk_to_memory(key)) != key] == []
    assert len({disk_to_memory(key) for key in names}) == len(names)


def released_shapes(name: str) -> dict[str, list[int]]:
    """Names on disk and shapes of a released model, built without weights."""
    with torch.device("meta"):
        model = UniPixelForConditionalGeneration(released_config(f"PolyU-ChenLab/{name}"))
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {memory_to_disk(k): list(v.shape) for k, v in model.state_dict().items() if k not in tied}


def test_the_3b_has_exactly_the_listed_tensors(released_keys: dict[str, Any]) -> None:
    ours = released_shapes("UniPixel-3B")
    listed = {k: v["shape"] for k, v in released_keys["keys"].items()}
    in_memory_only = {"lm_head.weight"} & set(listed)
    assert ours == {k: v for k, v in listed.items() if k not in in_memory_only}
    assert len(ours) == released_keys["n_keys_disk"] == 1475


def test_the_7b_has_the_tensors_of_the_3b_in_its_own_sizes(released_keys: dict[str, Any]) -> None:
    """Both differ only in the language model's numbers, in what is as wide as it, and in the head."""
    ours = released_shapes("UniPixel-7B")
    sizes = {2048: 3584, 11008: 18944, released_keys["vocab_size"]: 152064}
    wanted = {"lm_head.weight": [152064, 3584]}
    for name, known in released_keys["keys"].items():
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        if name == "lm_head.weight" or (layer and int(layer[1]) >= 28):
            continue
        shape = known["shape"]
        if not name.startswith(("sam2.", "visual.blocks.")):
            shape = [sizes.get(size, size) for size in shape]
        if layer and re.search(r"self_attn\.[kv]_proj", name):
            shape = [512, *shape[1:]]  # four heads of 128 instead of two
        wanted[name] = shape
    assert ours == wanted
    language_and_vision = sum(math.prod(v) for k, v in ours.items() if k.startswith(("visual.", "model.", "lm_head.")))
    assert language_and_vision == 8_292_166_656, "what Qwen2.5-VL-7B is known to have"


# ----------------------------------------------------------------------------------------------------- configurations


def as_released(folder: Path, saved: Path) -> dict[str, Any]:
    """Write the tiny model's configuration the way older libraries did: flat, with `torch_dtype` and `rope_scaling`."""
    values = json.loads((saved / "config.json").read_text())
    text = values.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "torch_dtype": "bfloat16"}
    text["rope_scaling"] = {"type": "mrope", "rope_type": "default", "mrope_section": rope["mrope_section"]}
    text.pop("dtype", None)
    flat = {**values, **{k: v for k, v in text.items() if k not in ("model_type", "architectures")}}
    flat |= {"tie_word_embeddings": True, "base_model_path": None, "sam2_inference_mode": False}
    folder.joinpath("config.json").write_text(json.dumps(flat))
    return flat


def test_a_flat_configuration_means_the_same(saved: Path, tmp_path: Path, network: Any) -> None:
    as_released(tmp_path, saved)
    shutil.copy(saved / "model.safetensors", tmp_path)
    loaded = load_model(tmp_path)
    assert_same_tensors(network, loaded)
    ids, places = torch.tensor([[50, 60, 70]]), torch.arange(3).expand(3, 1, 3)
    with torch.inference_mode():
        ours, theirs = (m.read(m.embed(ids), places) for m in (network, loaded))
    assert torch.equal(ours, theirs)


def test_a_nested_configuration_may_tie_inside_only(saved: Path, tmp_path: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    del values["tie_word_embeddings"]
    values["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path).tie_word_embeddings


@pytest.mark.parametrize(
    "written, size",
    [
        ("configs/sam2.1_hiera_b+", 112),
        ("configs/sam2.1/sam2.1_hiera_t.yaml", 96),
        ("sam2.1_hiera_l", 144),
        (None, 112),
    ],
)
def test_missing_fields_and_named_sam2_get_the_released_values(tmp_path: Path, written: str | None, size: int) -> None:
    values = {"model_type": "pixel_qwen2_5_vl", "torch_dtype": "bfloat16", "vision_config": {}, "text_config": {}}
    if written is not None:
        values["sam2_config"] = written
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert config.dtype == torch.bfloat16
    assert read_sam2_numbers(config.sam2_config)["image_encoder"]["trunk"]["embed_dim"] == size
    assert (config.mem_feature_order, config.sam2_image_size, config.sam2_hidden_tokens) == ("window", 768, 2)
    assert (config.ref_token_id, config.seg_token_id, config.mem_token_id) == (151665, 151666, 151667)


# ---------------------------------------------------------------------------------------------------- number formats


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_the_masks(saved: Path, network: Any, dtype: torch.dtype) -> None:
    half = load_model(saved, dtype)
    formats = {name.split(".")[0]: parameter.dtype for name, parameter in half.named_parameters()}
    assert formats["model"] == formats["seg_head"] == formats["region_encoder"] == dtype
    assert formats["sam2"] == formats["prompt_encoder"] == torch.float32
    drawn = Region(np.pad(np.ones((60, 80), bool), ((30, 30), (40, 40))), frame=3, object_id=4)
    pointed = [Point((35, 40), frame=2, object_id=1), Box((100, 50, 140, 100), frame=1, object_id=2)]
    clicked = [Point((45, 90), object_id=3), Point((60, 90), label=0, frame=4, object_id=3)]
    full, light = (
        UniPixel(n, tiny_tokenizer()).ask(MEDIA, "What is @1?", prompts=[*pointed, *clicked, drawn], max_new_tokens=4)
        for n in (network, half)
    )
    overlaps = {i: iou(full.masklets[i].masks, light.masklets[i].masks) for i in full.masklets}
    assert overlaps[3] == overlaps[4] == 1, "what the language model does not touch stays as it is"
    assert min(overlaps.values()) > 0.9


# ---------------------------------------------------------------------------------------------------------- adapters

LORA_SCALE = 2.0  # alpha / rank


def adapted_modules(network: UniPixelForConditionalGeneration) -> list[str]:
    """What the original's training adapts: q, k, v, o of the vision tower and the language model."""
    ends = ("q_proj", "k_proj", "v_proj", "o_proj", "attn.qkv", "attn.proj")
    return [n for n, _ in network.named_modules() if n.startswith("model.") and n.endswith(ends)]


def lora_matrices(network: UniPixelForConditionalGeneration, rank: int = 4) -> dict[str, tuple[Tensor, Tensor]]:
    """Random A and B of every adapted module."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: network.get_submodule(name).weight for name in adapted_modules(network)}
    return {
        name: (
            torch.randn(rank, w.shape[1], generator=generator) / 8,
            torch.randn(w.shape[0], rank, generator=generator) / 8,
        )
        for name, w in weights.items()
    }


def older(name: str) -> str:
    """A module's name as older libraries had it in memory."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def write_adapter(folder: Path, base: Path, network: Any, rename: Callable[[str], str] = str) -> dict[str, Tensor]:
    """An adapter checkpoint as the original's training saves it; returns the tensors of the merged model."""
    folder.mkdir(exist_ok=True)
    matrices = lora_matrices(network)
    merged = {k: v.clone() for k, v in network.state_dict().items()}
    for name, (a, b) in matrices.items():
        merged[f"{name}.weight"] += LORA_SCALE * b @ a
    trained = [k for k in merged if k.startswith(("seg_head.", "model.language_model.embed_tokens."))]
    for key in trained:
        merged[key] = merged[key] + 0.125
    merged["lm_head.weight"] = merged["model.language_model.embed_tokens.weight"]
    lora = {f"{rename(n)}.lora_{'AB'[i]}.weight": pair[i] for n, pair in matrices.items() for i in (0, 1)}
    prefix = "base_model.model."
    save_file({prefix + k: v.contiguous() for k, v in lora.items()}, folder / "adapter_model.safetensors")
    save_file({prefix + rename(k): merged[k].contiguous() for k in trained}, folder / "pytorch_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    settings |= {"target_modules": [rename(n) for n in matrices], "base_model_name_or_path": "elsewhere"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    values = json.loads((base / "config.json").read_text()) | {"base_model_path": str(base)}
    (folder / "config.json").write_text(json.dumps(values))
    return merged


@pytest.mark.parametrize("rename", [str, older], ids=["newer names", "older names"])
def test_an_adapter_loads_as_its_merged_model(
    saved: Path, tmp_path: Path, network: Any, rename: Callable[[str], str]
) -> None:
    merged = write_adapter(tmp_path, saved, network, rename)
    loaded = load_model(tmp_path)
    state = loaded.state_dict()
    assert set(state) == set(merged)
    assert [k for k in state if not torch.allclose(state[k], merged[k], atol=1e-6)] == []
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert not any(p.requires_grad for p in loaded.parameters())
    changed = [k for k, v in network.state_dict().items() if not torch.equal(v, state[k])]
    assert len(changed) > len(adapted_modules(network))
    save_model(loaded, tmp_path / "whole", torch.float32)
    assert_same_tensors(loaded, load_model(tmp_path / "whole"))


def test_an_adapter_finds_its_base_beside_it(saved: Path, tmp_path: Path, network: Any) -> None:
    merged = write_adapter(tmp_path, saved, network)
    shutil.copytree(saved, tmp_path / "base")
    change_config(tmp_path, base_model_path="base")
    assert torch.allclose(load_model(tmp_path).seg_head[1].weight, merged["seg_head.1.weight"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER_FOLDER / name, tmp_path)
    engine = UniPixel.from_pretrained(str(tmp_path))
    hashes = {engine.weights}
    (tmp_path / "adapter_model.safetensors").unlink()
    without_lora = UniPixel.from_pretrained(str(tmp_path))
    assert without_lora.weights not in hashes
    assert torch.equal(without_lora.network.seg_head[1].weight, engine.network.seg_head[1].weight)


def change_config(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's configuration; None removes a field."""
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


LORA_KEY = "model.language_model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    "harm, says",
    [
        (lambda t: t.pop(PEFT_PREFIX + LORA_KEY), rf"1 missing \(.*{LORA_KEY}"),
        (lambda t: t.update(surprise=torch.ones(1)), r"1 unexpected \(.*surprise"),
        (lambda t: t.update({PEFT_PREFIX + LORA_KEY: torch.ones(4, 5)}), rf"1 of another shape \(.*{LORA_KEY}"),
        (lambda t: t[PEFT_PREFIX + LORA_KEY].fill_(float("nan")), rf"1 not finite \(.*{LORA_KEY}"),
    ],
    ids=["missing", "unexpected", "shape", "nan"],
)
def test_wrong_adapter_tensors_are_named(
    saved: Path, tmp_path: Path, network: Any, harm: Callable[[dict[str, Tensor]], Any], says: str
) -> None:
    write_adapter(tmp_path, saved, network)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    harm(tensors)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=says):
        load_model(tmp_path)


def test_an_adapter_without_its_parts_says_which(saved: Path, tmp_path: Path, network: Any) -> None:
    write_adapter(tmp_path, saved, network)
    change_config(tmp_path, base_model_path="not/there/at/all")
    with pytest.raises(ValueError, match="stands on the model 'not/there/at/all'"):
        load_model(tmp_path)
    change_config(tmp_path, base_model_path=None)
    with pytest.raises(ValueError, match="names no base_model_path"):
        load_model(tmp_path)
    change_config(tmp_path, base_model_path=str(saved))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["no_such_module"]}))
    with pytest.raises(ValueError, match=r"for another model.*no_such_module"):
        load_model(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        load_model(tmp_path)


def test_a_base_without_our_parts_needs_them_beside_the_adapter(saved: Path, tmp_path: Path, network: Any) -> None:
    """A first stage stands on plain Qwen2.5-VL: what that does not have must have been trained."""
    plain = tmp_path / "plain"
    plain.mkdir()
    tensors = load_file(saved / "model.safetensors")
    ours = {k: v for k, v in tensors.items() if not k.startswith(("visual.", "model."))}
    save_file({k: v for k, v in tensors.items() if k not in ours}, plain / "model.safetensors")
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    change_config(tmp_path, base_model_path="plain")
    save_file(ours, tmp_path / "pytorch_model.safetensors")
    assert_same_tensors(network, load_model(tmp_path))
    del ours["seg_head.1.weight"]
    save_file(ours, tmp_path / "pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(seg_head\.1\.weight\)"):
        load_model(tmp_path)


# ------------------------------------------------------------------------------------- kernels, devices, fewer bits


@pytest.fixture(scope="module")
def complete(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The saved model with its tokenizer: what `from_pretrained` takes."""
    folder = tmp_path_factory.mktemp("complete")
    for path in (*saved.iterdir(), *(TOKENIZER_FOLDER / n for n in ("tokenizer.json", "tokenizer_config.json"))):
        shutil.copy(path, folder)
    return str(folder)


ASKED: Any = {"prompts": [Point((35, 40), frame=2, object_id=1)], "max_new_tokens": 8}


@pytest.fixture(scope="module")
def plain(complete: str) -> Answer:
    return UniPixel.from_pretrained(complete, device="cpu").ask(MEDIA, "What is @1?", **ASKED)


def overlap(a: Answer, b: Answer) -> float:
    assert list(a.masklets) == list(b.masklets)
    return min(iou(a.masklets[i].masks, b.masklets[i].masks) for i in a.masklets)


def test_eager_and_sdpa_attention_agree(complete: str, plain: Answer) -> None:
    engine = UniPixel.from_pretrained(complete, device="cpu", attn_implementation="eager")
    assert engine.network.config.text._attn_implementation == "eager"
    assert engine.network.config.vision._attn_implementation == "eager"
    answer = engine.ask(MEDIA, "What is @1?", **ASKED)
    assert answer.text == plain.text
    assert overlap(answer, plain) > 0.99


def test_attention_that_is_not_there_is_refused(complete: str) -> None:
    with pytest.raises(ValueError, match="attn_implementation must be"):
        UniPixel.from_pretrained(complete, attn_implementation="magic")
    if importlib.util.find_spec("flash_attn") is None and importlib.util.find_spec("kernels") is None:
        with pytest.raises(ValueError, match="needs a package"):
            UniPixel.from_pretrained(complete, device="cpu", attn_implementation="flash_attention_2")


@pytest.mark.parametrize("device_map", ["auto", {"model.language_model.layers.1": "disk"}], ids=["auto", "disk"])
def test_spread_layers_answer_the_same(complete: str, plain: Answer, device_map: Any) -> None:
    engine = UniPixel.from_pretrained(complete, device="cpu", device_map=device_map)
    away = [n for n, p in engine.network.named_parameters() if p.is_meta]
    assert bool(away) == (device_map != "auto")
    assert all(name.startswith("model.language_model.layers.1.") for name in away)
    answer = engine.ask(MEDIA, "What is @1?", **ASKED)
    assert (answer.text, answer.memory) == (plain.text, plain.memory)


@pytest.mark.parametrize(
    "device_map", ["everywhere", {"sam2": "cpu"}, {"model.language_model.layers.2": "cpu"}], ids=str
)
def test_device_maps_that_mean_nothing_are_refused(complete: str, device_map: Any) -> None:
    with pytest.raises(ValueError, match="device_map"):
        UniPixel.from_pretrained(complete, device="cpu", device_map=device_map)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_on_a_cpu_are_storage(complete: str, plain: Answer, dtype: str) -> None:
    """Half the memory in all matrices; with weights that 16 bit hold exactly the answers are those of float32."""
    engine = UniPixel.from_pretrained(complete, device="cpu", dtype=dtype)
    network = engine.network
    sizes = {n: p.element_size() for n, p in network.named_parameters() if p.ndim == 2 and n.startswith("model.")}
    assert set(sizes.values()) == {2}
    assert network.lm_head.weight is network.get_input_embeddings().weight
    assert network.sam2.no_mem_embed.dtype == torch.float32
    assert overlap(engine.ask(MEDIA, "What is @1?", **ASKED), plain) > 0.9
    plain_layers = UniPixel.from_pretrained(complete, device="cpu").network.modules()
    assert not any(isinstance(module, (StoredLinear, StoredEmbedding)) for module in plain_layers)
    exact = tiny_engine().network.__class__(network.config).eval()
    exact.load_state_dict({k: v.float() for k, v in network.state_dict().items()})
    wide = UniPixel(exact.requires_grad_(False), tiny_tokenizer())
    answers = [e.ask(MEDIA, "What is @1?", **ASKED) for e in (engine, wide)]
    assert answers[0].text == answers[1].text
    assert overlap(*answers) > 0.999


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes (requirements-quantize.txt)"
)


@needs_bitsandbytes
@pytest.mark.parametrize("dtype, lowest", [("int8", 0.9), ("int4", 0.6)])
def test_fewer_bits_take_less_and_draw_alike(complete: str, plain: Answer, dtype: str, lowest: float) -> None:
    engine = UniPixel.from_pretrained(complete, device="cpu", dtype=dtype)
    layers = [engine.network.get_submodule(name) for name in quantized_layers(tiny_network())]
    small = [layer for layer in layers if dtype == "int8" or layer.in_features % BLOCK == 0]
    assert len(small) == (14 if dtype == "int8" else 12), "rows that are not whole blocks stay as they are"
    numbers = sum(layer.in_features * layer.out_features for layer in small)
    assert sum(layer.weight.numel() * layer.weight.element_size() for layer in small) == numbers * BITS[dtype] // 8
    assert engine.network.model.visual.blocks[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert engine.network.sam2.no_mem_embed.dtype == torch.float32
    answer = engine.ask(MEDIA, "What is @1?", **ASKED)
    assert overlap(answer, plain) > lowest
    assert engine.ask(MEDIA, "What is @1?", **ASKED).memory == answer.memory
    with pytest.raises(ValueError, match="cannot be saved"):
        save_model(engine.network, Path(complete))


def test_fewer_bits_without_their_package_say_so(complete: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unipixel.model.quantize.EXTRA", "no_such_package")
    with pytest.raises(ValueError, match="pip install"):
        UniPixel.from_pretrained(complete, device="cpu", dtype="int4")


def test_a_hub_id_is_downloaded_and_a_plan_takes_its_configuration_only(
    complete: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return complete

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_plan_config("someone/model").text.hidden_size == 64
    assert asked == [("someone/model", ["config.json"])]
    engine = UniPixel.from_pretrained("someone/model", device="cpu")
    assert engine.name == "someone/model"
    name, patterns = asked[1]
    assert name == "someone/model"
    assert "*.safetensors" in patterns
    assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in patterns)
