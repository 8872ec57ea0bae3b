"""Measuring on a data folder: a perfect answer gets 100, a wrong one does not, and a model learns what it is taught."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from unipixel import cli
from unipixel.data import MaskArray, Sample, read_folder, write_folder
from unipixel.data.samplers import all_exchanges
from unipixel.engine import UniPixel
from unipixel.eval.metrics import contour_f, cumulative_iou, j_and_f, mean_iou, region_j
from unipixel.eval.own import Tally, ask_sample, evaluate
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Answer, Masklet, Media, Prompt, Turn

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "train"))


def square(x: int, frames: int = 1) -> np.ndarray:
    mask = np.zeros((frames, 40, 40), bool)
    mask[:, 10:30, x : x + 10] = True
    return mask


def sample(frames: int = 1) -> Sample:
    media = Media(np.zeros((frames, 40, 40, 3), np.uint8), tuple(range(frames)), 8.0 * (frames > 1))
    masks = {i: {t: MaskArray(square(x)[0]) for t in range(frames)} for i, x in ((3, 5), (8, 25))}
    turns = (
        Turn("Segment the left one.", "It is @3."),
        Turn("What is @8?", "@8 is a square."),
        Turn("Segment the cat.", "There is no cat."),
    )
    return Sample(media, masks, turns)


class Oracle:
    """Answers from the sample itself, all masks moved `shift` columns to the right."""

    def __init__(self, known: Sample, shift: int = 0, silent: bool = False) -> None:
        self.known, self.shift, self.silent = known, shift, silent

    def ask(
        self, media: Media, question: str, *, prompts: Sequence[Prompt] = (), history: Sequence[Turn] = ()
    ) -> Answer:
        (exchange,) = (e for e in all_exchanges(self.known) if e.question == question)
        assert {mark.object_id for mark in prompts} == set(exchange.shown)
        assert tuple(history) == exchange.history
        bank = ObjectMemoryBank()
        for i in exchange.shown:
            bank = bank.with_object(self._masklet(i, media), origin="point")
        found = {} if self.silent else {i: self._masklet(i, media) for i in exchange.found}
        return Answer(exchange.answer.upper(), (), found, bank)

    def _masklet(self, object_id: int, media: Media) -> Masklet:
        return Masklet(object_id, np.roll(self.known.read_masks([object_id], media)[0], self.shift, -1))


def measured(model: Oracle, known: Sample) -> Mapping[str, tuple[float, int]]:
    tally = Tally()
    ask_sample(cast("UniPixel", model), known, tally)
    return tally.report()


@pytest.mark.parametrize("frames", [1, 3])
def test_right_answers_get_everything(frames: int) -> None:
    known = sample(frames)
    report = measured(Oracle(known), known)
    assert report == {
        "j": (100.0, 1),
        "f": (100.0, 1),
        "jf": (100.0, 1),
        "giou": (100.0, 2),
        "ciou": (100.0, 2),
        "marked": (100.0, 1),
        "absent": (100.0, 1),
        "text": (100.0, 3),
    }


def test_masks_beside_their_objects_get_less() -> None:
    known = sample()
    report = measured(Oracle(known, shift=5), known)
    assert report["j"][0] == pytest.approx(100 / 3)  # half of each lies on the other
    assert report["giou"][0] == pytest.approx((100 / 3 + 100) / 2)  # nothing was found where nothing is
    assert report["marked"][0] < 60


def test_a_model_that_marks_nothing_is_right_only_where_nothing_is() -> None:
    known = sample()
    report = measured(Oracle(known, silent=True), known)
    assert (report["j"][0], report["absent"][0], report["giou"][0]) == (0.0, 100.0, 50.0)


def test_metrics_agree_with_each_other() -> None:
    found, true = square(5, 2), square(10, 2)
    assert j_and_f(found, true) == pytest.approx((region_j(found, true) + contour_f(found, true)) / 2)
    nothing = np.zeros_like(true)
    pairs = [(found, true), (nothing, nothing)]
    assert mean_iou(pairs) == pytest.approx((1 / 3 + 1) / 2)
    assert cumulative_iou(pairs) == pytest.approx(1 / 3)


def test_the_command_measures_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder([sample()], tmp_path)
    assert cli.main(["eval", str(tmp_path), "--json", "--marks", "box"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["text"]["count"] == 3
    assert cli.main(["eval", str(tmp_path / "nothing")]) == 2
    assert "no folder nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_nano_learns_a_new_word_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eighty steps on 64 pictures, less than a minute on two idle cores."""
    import teach_a_word  # pyright: ignore[reportMissingImports]

    def j_of(model: Any) -> float:
        return evaluate(UniPixel.from_pretrained(str(model)), read_folder(tmp_path / "test"))["j"][0]

    write_folder(teach_a_word.blicks(64, seed=1), tmp_path / "train")
    write_folder(teach_a_word.blicks(32, seed=2), tmp_path / "test")
    train = ["train", "--data", str(tmp_path / "train"), "--from", "nano", "--steps", "80", "--batch", "4"]
    assert cli.main([*train, "--lora_rank", "32", "--lora_alpha", "64", "--output_dir", str(tmp_path / "model")]) == 0
    before, after = j_of("nano"), j_of(tmp_path / "model")
    assert after >= before + 20
    assert after >= 60
