"""How well a model answers the questions of a data folder: `python -m unipixel eval FOLDER`.

Every turn is asked through the engine, after the folder's own earlier turns; objects that a question names are marked
as a person would. Masks are measured as DAVIS (J, F) and RefCOCO (gIoU, cIoU) do, texts word for word.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unipixel.data.own import read_folder
from unipixel.data.sample import Sample, Task
from unipixel.data.samplers import BOX, CENTRE, MASK, POINT, SCRIBBLE, Exchange, all_exchanges, sample_mark
from unipixel.engine import UniPixel, default_model
from unipixel.eval.metrics import contour_f, cumulative_iou, mean_iou, region_j
from unipixel.grammar import mentioned_ids, rename_ids
from unipixel.types import BoolArray, Prompt

MARKS = (POINT, CENTRE, BOX, SCRIBBLE, MASK)
NAMES = {
    "j": "J (region)",
    "f": "F (contour)",
    "jf": "J&F",
    "giou": "gIoU",
    "ciou": "cIoU",
    "marked": "J&F of marked objects",
    "absent": '"not there" right',
    "text": "answers word for word",
}

Pair = tuple[BoolArray, BoolArray]  # found and true masks, T x H x W each


@dataclass(eq=False)
class Tally:
    """What was found so far: mask pairs of requested and of marked objects, and which texts and absences were right."""

    requested: list[Pair] = field(default_factory=list)
    marked: list[Pair] = field(default_factory=list)
    texts: list[bool] = field(default_factory=list)
    absent: list[bool] = field(default_factory=list)

    def report(self) -> dict[str, tuple[float, int]]:
        """Every measure in percent with the number of cases behind it; those without a case are left out."""
        present = [pair for pair in self.requested if pair[1].any()]
        j, f = ([measure(*pair) for pair in present] for measure in (region_j, contour_f))
        marked = [(region_j(*pair) + contour_f(*pair)) / 2 for pair in self.marked]
        values: Mapping[str, Sequence[float]] = {
            "j": j,
            "f": f,
            "jf": [(a + b) / 2 for a, b in zip(j, f)],
            "marked": marked,
            "absent": self.absent,
            "text": self.texts,
        }
        found = {name: (100 * float(np.mean(v)), len(v)) for name, v in values.items() if len(v)}
        if self.requested:
            found["giou"] = (100 * mean_iou(self.requested), len(self.requested))
            found["ciou"] = (100 * cumulative_iou(self.requested), len(self.requested))
        return {name: found[name] for name in NAMES if name in found}


def ask_sample(
    model: UniPixel, sample: Sample, tally: Tally, marks: str = POINT, max_frames: int = 16, seed: int = 0
) -> None:
    """Ask everything about one sample and add what was found to `tally`."""
    media = sample.read_evenly(max_frames)
    rng = np.random.default_rng(seed)
    for exchange in all_exchanges(sample):
        shown = dict(zip(exchange.shown, sample.read_masks(exchange.shown, media)))
        prompts = list(_marks(rng, shown, marks))
        if len(prompts) < len(shown):
            continue  # an object that no frame shows cannot be marked
        answer = model.ask(media, exchange.question, prompts=prompts, history=exchange.history)
        tally.marked += [(answer.memory[i].masks, mask) for i, mask in shown.items()]
        new = [masklet.masks for i, masklet in answer.masklets.items() if i not in shown]
        nothing = np.zeros(media.frames.shape[:3], bool)
        true = sample.read_masks(exchange.found, media)
        if exchange.found or _is_request(exchange):
            tally.requested.append((np.logical_or.reduce([nothing, *new]), np.logical_or.reduce([nothing, *true])))
        if not exchange.found:
            tally.absent += [not new] if _is_request(exchange) else []
        tally.texts.append(_plain(answer.text) == _plain(exchange.answer))


def _is_request(exchange: Exchange) -> bool:
    """Whether a question without masks in its answer asked for some: "Segment the cat." - "There is no cat." """
    words = exchange.question.lower().split()
    return not exchange.shown and bool({"segment", "mask", "find"} & {word.strip(".,?!") for word in words})


def _marks(rng: np.random.Generator, masks: Mapping[int, BoolArray], kind: str) -> Iterator[Prompt]:
    marks = (sample_mark(rng, mask, i, {kind: 1.0}) for i, mask in masks.items())
    return (mark for mark in marks if mark is not None)


def _plain(text: str) -> str:
    """A text with its objects numbered by first mention, without regard to capitals and spaces."""
    numbers = {object_id: n for n, object_id in enumerate(mentioned_ids(text), 1)}
    return " ".join(rename_ids(text, numbers).lower().split())


def evaluate(model: UniPixel, task: Task, marks: str = POINT, max_frames: int = 16) -> dict[str, tuple[float, int]]:
    """All measures over a task, by the names in `NAMES`: percent and number of cases."""
    tally = Tally()
    for n, sample in enumerate(task.samples):
        ask_sample(model, sample, tally, marks, max_frames, seed=n)
    return tally.report()


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel eval FOLDER`."""
    parser = argparse.ArgumentParser("unipixel eval", description="Measure a model on a data folder.")
    parser.add_argument("folder", type=Path, help="a folder as docs/own_data.md describes it")
    parser.add_argument("--model", default=default_model(), help="nano, a folder or a hub id")
    parser.add_argument("--marks", choices=MARKS, default=POINT, help="how objects in questions are marked")
    parser.add_argument("--max_frames", type=int, default=16, help="frames sampled from a clip")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(argv)
    task = read_folder(options.folder)
    report = evaluate(UniPixel.from_pretrained(options.model), task, options.marks, options.max_frames)
    if options.json:
        print(json.dumps({name: {"value": round(value, 2), "count": count} for name, (value, count) in report.items()}))
        return 0
    for name, (value, count) in report.items():
        print(f"{NAMES[name]:28}{value:8.1f}{count:6d}")
    return 0
