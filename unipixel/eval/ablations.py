"""What parts of the memory are worth: `python -m unipixel eval ablations`.

The drawn world's questions about clicked objects, with the model as it is and with one part of it changed. What is
named needs the memory: the question itself says no more than "@1".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from unipixel.engine import UniPixel, default_model
from unipixel.eval.world import pointing
from unipixel.eval.world_measure import CLIP_FRAMES
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import VisionFeatures


@contextmanager
def nothing(network: UniPixelForConditionalGeneration) -> Iterator[None]:
    """The model as it is."""
    yield


@contextmanager
def other_order(network: UniPixelForConditionalGeneration) -> Iterator[None]:
    """`<|mem|>` pools vision features in the order that the model was not trained with: windows or rows."""
    config = network.config
    kept = config.mem_feature_order
    config.mem_feature_order = "window" if kept == "raster" else "raster"
    try:
        yield
    finally:
        config.mem_feature_order = kept


@contextmanager
def empty_memory(network: UniPixelForConditionalGeneration) -> Iterator[None]:
    """`<|mem|>` tokens stand where they stood, but nothing of the object is in them."""
    encode = network.encode_regions

    def encode_nothing(vision: VisionFeatures, masks: Tensor) -> Tensor:
        return torch.zeros_like(encode(vision, masks))

    network.encode_regions = encode_nothing
    try:
        yield
    finally:
        del network.encode_regions  # the method is below


VARIANTS: Mapping[str, Callable[[UniPixelForConditionalGeneration], AbstractContextManager[None]]] = {
    "as it is": nothing,
    "other pooling order": other_order,
    "memory emptied": empty_memory,
}


def named(model: UniPixel, scenes: int, heldout: bool) -> tuple[float, float]:
    """How often (in percent) colour and shape of a clicked object are right: in pictures, in clips."""
    pictures, clips = (
        pointing(model, n, frames, heldout)[-1] for n, frames in ((scenes, 1), (scenes // 4, CLIP_FRAMES))
    )
    return pictures.value, clips.value


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel eval ablations`."""
    parser = argparse.ArgumentParser("unipixel eval", description="Measure what the object memory is worth.")
    parser.add_argument("what", choices=["ablations"])
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--scenes", type=int, default=100, help="clicks in pictures; a quarter as many in clips")
    parser.add_argument("--split", choices=["heldout", "familiar"], default="familiar")
    options = parser.parse_args(argv)
    if options.scenes < 4:
        raise ValueError(f"--scenes must be at least 4, not {options.scenes}.")
    print(f"{'colour and shape named':32}{'pictures':>10}{'clips':>10}")
    for name, change in VARIANTS.items():
        model = UniPixel.from_pretrained(options.model)  # anew: features of frames are kept
        with change(model.network):
            values = named(model, options.scenes, options.split == "heldout")
        print(f"{name:32}" + "".join(f"{value:10.1f}" for value in values), flush=True)
    return 0
