"""The drawn world's held-out questions: `python -m unipixel eval world`.

Scenes come from fixed seeds that training never uses. The split "heldout" also has colour-shape pairs and wordings
that training never saw, "familiar" has not. `--contents full` asks about the full world instead (`world_full`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unipixel.data.world import SHAPES_ONLY, Scene, draw_scene
from unipixel.data.world.language import MIN_AREA, sample_task
from unipixel.engine import UniPixel, default_model
from unipixel.eval.metrics import cumulative_iou, j_and_f
from unipixel.eval.world_full import Row, evaluate_full, f1, measure, right_answer
from unipixel.eval.world_measure import CLIP_FRAMES, HELDOUT_SEED, Measure, scene_media
from unipixel.types import Answer, BoolArray, Box, Point

# Rows that are scored as the full world's are.
_SEVERAL = Row("several targets F1@0.5", ("refer_all", "refer_two"), 1, f1, 2, SHAPES_ONLY)
_PIXEL_QA = Row("PixelQA right", ("similar",), 1, right_answer, 1, SHAPES_ONLY)


def _mask_of(answer: Answer, shape: tuple[int, ...]) -> BoolArray:
    """All masks of an answer as one: T x H x W."""
    masks = [masklet.masks for masklet in answer.masklets.values()]
    return np.logical_or.reduce(masks) if masks else np.zeros(shape, bool)


def _unique_pair(rng: np.random.Generator, scene: Scene) -> int | None:
    """An object whose colour and shape no other has and that can be seen on frame 0."""
    pairs = [(spec.color, spec.shape) for spec in scene.objects]
    good = [k for k, p in enumerate(pairs) if pairs.count(p) == 1 and scene.areas[k, 0] >= MIN_AREA * scene.side**2]
    return int(rng.choice(good)) if good else None


def referring(model: UniPixel, scenes: int, frames: int, heldout: bool = True) -> Measure:
    """ "Segment the <colour> <shape>": cIoU on pictures, J&F on clips."""
    pairs = []
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, frames, n])
        scene = draw_scene(rng, num_frames=frames, heldout=heldout)
        k = _unique_pair(rng, scene)
        if k is not None:
            answer = model.ask(scene_media(scene), f"Segment the {scene.objects[k].color} {scene.objects[k].shape}.")
            pairs.append((_mask_of(answer, scene.masks[k].shape), scene.masks[k]))
    if frames == 1:
        return Measure("image referring cIoU", 100 * cumulative_iou(pairs), len(pairs))
    return Measure("video referring J&F", 100 * float(np.mean([j_and_f(a, b) for a, b in pairs])), len(pairs))


def _mark(rng: np.random.Generator, scene: Scene, k: int, box: bool = False) -> Point | Box:
    """A click or box on object k, on a frame that shows it."""
    frames = np.flatnonzero(scene.areas[k] >= MIN_AREA * scene.side**2)
    t = int(rng.choice(frames))
    rows, columns = np.nonzero(scene.masks[k, t])
    if box:
        return Box((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), frame=t, object_id=1)
    i = rng.integers(len(rows))
    return Point((float(columns[i]) + 0.5, float(rows[i]) + 0.5), frame=t, object_id=1)


def pointing(model: UniPixel, scenes: int, frames: int, heldout: bool = True) -> list[Measure]:
    """A click or box, then "What is @1?": J&F of the masklet, and whether colour and shape are named right."""
    fits: dict[str, list[float]] = {"point": [], "box": []}
    named: list[bool] = []
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, 50 + frames, n])
        scene = draw_scene(rng, num_frames=frames, heldout=heldout)
        shown = np.flatnonzero(scene.areas.max(1) >= MIN_AREA * scene.side**2)
        if not len(shown):
            continue
        k, kind = int(rng.choice(shown)), ("point", "box")[n % 2]
        mark = _mark(rng, scene, k, kind == "box")
        answer = model.ask(scene_media(scene), "What is @1?", prompts=[mark])
        fits[kind].append(j_and_f(answer.memory[1].masks, scene.masks[k]))
        words = answer.text.lower().replace(".", "").split()
        named.append(scene.objects[k].color in words and scene.objects[k].shape in words)
    what = "image" if frames == 1 else "video"
    measures = [Measure(f"{what} {kind} to mask J&F", 100 * float(np.mean(v)), len(v)) for kind, v in fits.items() if v]
    return [*measures, Measure(f"{what} colour and shape named", 100 * float(np.mean(named)), len(named))]


def presence(model: UniPixel, scenes: int, heldout: bool = True) -> list[Measure]:
    """Requests for what is not there must give no mask, requests for what is there must give one."""
    rights: dict[str, list[bool]] = {"absent": [], "refer": []}
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, 90, n])
        scene = draw_scene(rng, heldout=heldout)
        for kind, right in rights.items():
            try:
                task = sample_task(rng, scene, kinds=[kind])
            except ValueError:  # this scene allows no such question
                continue
            answer = model.ask(scene_media(scene), task.question)
            right.append(bool(answer.masklets) == (kind == "refer"))
    return [
        Measure('"not there" right', 100 * float(np.mean(rights["absent"])), len(rights["absent"])),
        Measure("wrongly refused", 100 - 100 * float(np.mean(rights["refer"])), len(rights["refer"])),
    ]


def exact(model: UniPixel, scenes: int, kind: str) -> Measure:
    """Share of `kind` questions about pictures that are answered word for word."""
    right = []
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, 120, n])
        scene = draw_scene(rng)
        try:
            task = sample_task(rng, scene, kinds=[kind])
        except ValueError:
            continue
        right.append(model.ask(scene_media(scene), task.question).text == task.answer)
    return Measure(f"{kind} right", 100 * float(np.mean(right)), len(right))


def speed(model: UniPixel) -> Measure:
    """Seconds for an 8-frame clip and its first question (not a percentage)."""
    scene = draw_scene(np.random.default_rng([HELDOUT_SEED, 150]), num_frames=CLIP_FRAMES)
    started = time.perf_counter()
    model.ask(scene_media(scene), "Segment everything.")
    return Measure("seconds per clip and question", time.perf_counter() - started, 1)


def evaluate(
    model: UniPixel, scenes: int, heldout: bool = True, report: Callable[[Measure], None] = lambda row: None
) -> list[Measure]:
    """All rows; `report` hears of each as it is ready. Clips are a quarter as many as pictures."""
    rows: list[Measure] = []
    clips = max(1, scenes // 4)
    steps: Mapping[str, Callable[[], list[Measure]]] = {
        "image": lambda: [referring(model, scenes, 1, heldout)],
        "video": lambda: [referring(model, clips, CLIP_FRAMES, heldout)],
        "pointing": lambda: pointing(model, scenes, 1, heldout) + pointing(model, clips, CLIP_FRAMES, heldout),
        "presence": lambda: presence(model, scenes, heldout),
        "count": lambda: [exact(model, scenes, "count")],
        "masks": lambda: [measure(model, row, scenes, heldout) for row in (_SEVERAL, _PIXEL_QA)],
        "speed": lambda: [speed(model)],
    }
    for step in steps.values():
        for row in step():
            report(row)
            rows.append(row)
    return rows


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel eval world`."""
    parser = argparse.ArgumentParser(
        "unipixel eval", description="Measure a model on the drawn world's held-out split."
    )
    parser.add_argument("what", choices=["world"])
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--scenes", type=int, default=200, help="questions a row about pictures; a quarter about clips")
    parser.add_argument("--split", choices=["heldout", "familiar"], default="heldout")
    parser.add_argument("--contents", choices=["shapes", "full"], default="shapes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(argv)
    if options.scenes < 4:
        raise ValueError(f"--scenes must be at least 4, not {options.scenes}.")
    model = UniPixel.from_pretrained(options.model)

    def show(row: Measure) -> None:
        if not options.json:
            print(f"{row.name:32}{row.value:8.1f}{row.count:6d}", flush=True)

    run = evaluate_full if options.contents == "full" else evaluate
    rows = run(model, options.scenes, options.split == "heldout", show)
    if options.json:
        print(json.dumps({row.name: {"value": round(row.value, 2), "count": row.count} for row in rows}))
    return 0
