"""`python -m unipixel bench`: how long people wait, for the preview, the first word, the first mask, every frame.

Times are those of the engine on the demo clip; the page adds what drawing and the network take.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from unipixel.media import load_media
from unipixel.types import Media, Point, TextDelta

if TYPE_CHECKING:
    from unipixel.engine import UniPixel

CLIP = Path(__file__).parents[1] / "assets" / "demo" / "clip.mp4"
QUESTION = "Segment the white heart."
CLICK = Point((33, 128), object_id=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table (or JSON); ValueError for media or a model that cannot be read."""
    from unipixel.engine import UniPixel, default_model  # torch: only once it is needed

    parser = argparse.ArgumentParser(prog="unipixel bench", description=__doc__)
    parser.add_argument("media", nargs="?", default=str(CLIP), help="a clip (default: the demo's)")
    parser.add_argument("--model", default=None, help="nano, a folder or a hub id")
    parser.add_argument("--device", default=None, help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--max_frames", type=int, default=16, help="frames taken from the clip")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        raise ValueError(f"--repeats must be 1 or more, not {args.repeats}.")
    model = UniPixel.from_pretrained(args.model or default_model(), device=args.device)
    media = load_media(args.media, args.max_frames)
    found = measure(model, media, args.repeats)
    print(json.dumps(found) if args.json else render(found, f"{model.name} on {_machine(model)}"))
    return 0


def measure(model: UniPixel, media: Media, repeats: int = 5) -> dict[str, float]:
    """Medians of `repeats` runs: milliseconds, and frames a second for masks on every frame of the source."""
    width, height = media.width, media.height
    click = CLICK if CLICK.xy[0] < width and CLICK.xy[1] < height else replace(CLICK, xy=(width / 2, height / 2))

    def first_word(clip: Media) -> Any:
        return next((event for event in model.stream(clip, QUESTION) if isinstance(event, TextDelta)), None)

    def first_mask(clip: Media) -> Any:
        return next(iter(model.stream(clip, "What is @1?", prompts=[click])))

    model.ask(media, QUESTION)  # warms up, and encodes
    known = list(model.track(media, [click]).values())
    same = [media] * repeats
    found = {
        "preview, new clip": _typical(lambda clip: model.preview(clip, [click]), _unseen(media, repeats)),
        "preview, frame encoded": _typical(lambda clip: model.preview(clip, [click]), same),
        "first word, new clip": _typical(first_word, _unseen(media, repeats)),
        "first word, clip encoded": _typical(first_word, same),
        "first mask of a marked object, clip encoded": _typical(first_mask, same),
        "one object tracked, clip encoded": _typical(lambda clip: model.track(clip, [click]), same),
    }
    start = time.perf_counter()
    frames = sum(1 for _ in model.fill(media, known))
    found["every frame, frames a second"] = frames / (time.perf_counter() - start)
    return {name: round(value, 1) for name, value in found.items()}


def _unseen(media: Media, count: int) -> list[Media]:
    """The same clip with other single pixels: pictures that no cache knows."""
    clips = []
    for _ in range(count):
        frames = media.frames.copy()
        frames[:, -1, -1] = np.random.default_rng().integers(0, 256, (media.num_frames, 3), np.uint8)
        clips.append(replace(media, frames=frames))
    return clips


def _typical(act: Callable[[Media], Any], clips: Sequence[Media]) -> float:
    """Median milliseconds of `act` over `clips`."""
    times = []
    for clip in clips:
        start = time.perf_counter()
        act(clip)
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def render(found: dict[str, float], title: str) -> str:
    """The table as Markdown."""
    rows = [f"| {name} | {value:g}{'' if 'a second' in name else ' ms'} |" for name, value in found.items()]
    return "\n".join([f"| {title} | |", "|---|--:|", *rows])


def _machine(model: UniPixel) -> str:
    device = model.network.device
    if device.type != "cpu":
        return str(device)
    import torch

    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
