"""What stage 2 is worth: nano with a new seg head, trained with that stage and without it, for as many steps.

python examples/train/without_stage_two.py
"""

from pathlib import Path

import torch
from transformers import AutoTokenizer

from unipixel import UniPixel, cli
from unipixel.engine import find_checkpoint
from unipixel.eval.world import referring
from unipixel.model.weights import load_model
from unipixel.train.starts import save_checkpoint

FOLDER = Path("runs/without_stage_two")
STEPS = 200
SCENES = 100


def forget_seg_head(out: Path) -> None:
    """Nano as it is, but what tells SAM 2 the language model's meaning starts anew."""
    nano = find_checkpoint("nano")
    network = load_model(nano)
    torch.manual_seed(0)
    for layer in network.seg_head:
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    save_checkpoint(network, AutoTokenizer.from_pretrained(nano), out)


def train(stage: str, steps: int, start: str, out: str) -> None:
    """One stage on the drawn world."""
    named = {"stage": stage, "steps": steps, "from": FOLDER / start, "output_dir": FOLDER / out}
    cli.main(["train", "--data", "world", *(word for k, v in named.items() for word in (f"--{k}", str(v)))])


if __name__ == "__main__":
    forget_seg_head(FOLDER / "start")
    train("seg", STEPS, "start", "seg")
    train("joint", STEPS, "seg", "with")
    train("joint", 2 * STEPS, "start", "without")
    for name in ("start", "seg", "with", "without"):
        model = UniPixel.from_pretrained(str(FOLDER / name))
        print(f"{name:10}{referring(model, SCENES, 1, heldout=False).value:8.1f}  image referring cIoU")
