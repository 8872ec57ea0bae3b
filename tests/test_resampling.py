"""How far other libraries' resizing is from ours on the recorded pictures: the table of docs/fidelity.md."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image

from unipixel.config import UniPixelConfig
from unipixel.media import load_media
from unipixel.processing import resize_for_sam, resize_for_vision, to_tensor, vision_size

PICTURES = sorted((Path(__file__).parents[2] / "shared" / "parity" / "media").rglob("*.png"))


@pytest.mark.skipif(not PICTURES, reason="the recorded pictures are not here")
def test_other_resamplers_differ_by_what_the_documentation_says() -> None:
    worst = {"torch": 0.0, "vision opencv": 0.0, "pillow": 0.0, "sam opencv": 0.0}
    for path in PICTURES:
        picture = load_media(path).frames[0]
        frames = to_tensor(picture[None])
        h, w = vision_size(*picture.shape[:2], UniPixelConfig())
        ours = resize_for_vision(frames, h, w)[0].permute(1, 2, 0).numpy().astype(float)
        other = F.interpolate(frames.float(), (h, w), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
        pairs = {
            "torch": (other.round().clamp(0, 255).numpy(), ours),
            "vision opencv": (cv2.resize(picture, (w, h), interpolation=cv2.INTER_CUBIC).astype(float), ours),
        }
        ours = resize_for_sam(frames, 256)[0].permute(1, 2, 0).numpy()
        small = Image.fromarray(picture).resize((256, 256), Image.Resampling.BILINEAR)
        pairs["pillow"] = (np.asarray(small, float), ours)
        pairs["sam opencv"] = (cv2.resize(picture, (256, 256), interpolation=cv2.INTER_LINEAR).astype(float), ours)
        worst = {name: max(worst[name], float(np.abs(a - b).max())) for name, (a, b) in pairs.items()}
    print(worst)  # with `pytest -s`, the figures of the table
    assert worst["torch"] <= 1.01
    assert worst["pillow"] <= 1.01
    assert worst["sam opencv"] <= 0.76
    assert 10 <= worst["vision opencv"] <= 16
