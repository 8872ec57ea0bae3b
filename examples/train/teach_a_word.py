"""Teach nano a word it does not know, in a few minutes on a CPU, and see that it has learnt it.

python examples/train/teach_a_word.py          (a "blick" is whatever is green)
"""

from pathlib import Path

import numpy as np

from unipixel import cli
from unipixel.data import MaskArray, Sample, write_folder
from unipixel.data.world import draw_scene
from unipixel.types import Media

FOLDER = Path("runs/blick")


def blicks(count: int, seed: int) -> list[Sample]:
    """Pictures with one green object each, which is called a blick."""
    rng, samples = np.random.default_rng(seed), []
    while len(samples) < count:
        scene = draw_scene(rng, num_objects=(2, 4))
        green = [k for k, spec in enumerate(scene.objects) if spec.color == "green" and scene.areas[k, 0] >= 400]
        if len(green) == 1:
            mask = {0: MaskArray(scene.masks[green[0], 0])}
            samples.append(Sample(Media(scene.frames, (0,)), {1: mask}, labels={1: "blick"}))
    return samples


if __name__ == "__main__":
    write_folder(blicks(64, seed=1), FOLDER / "train")
    write_folder(blicks(40, seed=2), FOLDER / "test")
    test = str(FOLDER / "test")
    cli.main(["eval", test])
    cli.main(
        [
            "train",
            "--data",
            str(FOLDER / "train"),
            "--steps",
            "80",
            "--batch",
            "4",
            "--output_dir",
            str(FOLDER / "model"),
        ]
    )
    cli.main(["eval", test, "--model", str(FOLDER / "model")])
