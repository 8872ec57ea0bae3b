"""The full world's report: whoever knows the truth gets full marks, whoever says nothing gets none."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from unipixel.data.world import found_ids
from unipixel.engine import UniPixel
from unipixel.eval import ablations, world
from unipixel.eval.world_full import REFERRING, ROWS, Question, evaluate_full, f1, pointed, questions
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Answer, Masklet, Media

SCENES = 4


def asked(heldout: bool) -> list[Question]:
    """All questions of a report."""
    found = [question for row in (REFERRING, *ROWS) for question in questions(row, SCENES, heldout)]
    return found + [question for frames in (1, 8) for question, _ in pointed(SCENES, frames, heldout)]


def remembered(question: Question, see: bool) -> ObjectMemoryBank:
    """A bank with the marked objects, their masks empty for who does not see."""
    bank = ObjectMemoryBank()
    for number, k in question.task.ids.items():
        bank = bank.with_object(Masklet(number, question.scene.masks[k] & see))
    return bank


class Knowing:
    """Stands in for a model: looks up the truth of each question."""

    def __init__(self, known: list[Question], see: bool = True) -> None:
        self.known = {(q.scene.frames.tobytes(), q.task.question): q for q in known}
        self.see = see

    def ask(self, media: Media, text: str, **given: Any) -> Answer:
        question = self.known[media.frames.tobytes(), text]
        assert {p.object_id for p in given["prompts"]} == set(question.task.ids)
        memory = remembered(question, self.see)
        if not self.see:
            return Answer("", (), {}, memory)
        drawn = {number: Masklet(number, question.scene.masks[k]) for number, k in found_ids(question.task).items()}
        return Answer(question.text, (), drawn, memory)


def report(heldout: bool, see: bool) -> dict[str, float]:
    model = cast(UniPixel, Knowing(asked(heldout), see))
    return {row.name: row.value for row in evaluate_full(model, SCENES, heldout)}


def test_the_truth_gets_full_marks():
    values = report(heldout=True, see=True)
    assert values.pop("wrongly refused") == 0
    assert len(values) >= 20
    assert {name: value for name, value in values.items() if value < 99.99} == {}


def test_silence_gets_none_but_for_what_is_not_there():
    values = report(heldout=False, see=False)
    assert values.pop("wrongly refused") == 100
    assert values.pop('"not there" right') == 100
    words = {name: value for name, value in values.items() if name.endswith("right") or "F1" in name}
    assert len(words) >= 10
    assert set(words.values()) == {0}
    assert all(value < 70 for value in values.values())  # J&F counts frames on which there is nothing


def test_splits_and_rows_have_questions_of_their_own():
    once, again, other = (
        [(q.task.question, q.scene.frames.tobytes()) for q in questions(REFERRING, 4, heldout)]
        for heldout in (True, True, False)
    )
    assert once == again
    assert not set(once) & set(other)
    rows = [[q.scene.frames.tobytes() for q in questions(row, 2, True)] for row in (REFERRING, *ROWS)]
    assert all(rows)
    assert len({frames for row in rows for frames in row}) == sum(map(len, rows))


def test_f1_counts_each_mask_once():
    question = next(q for q in questions(next(r for r in ROWS if r.targets == 2), 4, True) if len(q.task.targets) == 2)
    one, two = (question.scene.masks[k] for k in question.task.targets)

    def score(*masks: np.ndarray) -> float:
        drawn = {90 + n: Masklet(90 + n, mask) for n, mask in enumerate(masks)}
        return f1(question, Answer("", (), drawn, ObjectMemoryBank()))

    assert score(two, one) == 1
    assert score(one, one) == pytest.approx(0.5)
    assert score(one | two) in (0, pytest.approx(2 / 3))
    assert score(one) == pytest.approx(2 / 3)
    assert score() == 0


@pytest.mark.parametrize("contents", ["shapes", "full"])
def test_the_command_asks_what_it_is_told_to(
    contents: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    called: list[tuple[str, int, bool]] = []
    monkeypatch.setattr(world.UniPixel, "from_pretrained", lambda name: None)
    for name in ("evaluate", "evaluate_full"):
        monkeypatch.setattr(world, name, lambda model, n, held, show, name=name: called.append((name, n, held)) or [])
    assert world.main(["world", "--contents", contents, "--scenes", "8", "--split", "familiar", "--json"]) == 0
    assert called == [("evaluate" if contents == "shapes" else "evaluate_full", 8, False)]
    assert capsys.readouterr().out == "{}\n"


@pytest.mark.slow
def test_what_a_clicked_object_is_comes_from_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert ablations.main(["ablations", "--model", "nano", "--scenes", "16"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    pictures = {row[:32].strip(): float(row[32:42]) for row in rows}
    assert list(pictures) == list(ablations.VARIANTS)
    assert pictures["as it is"] > pictures["memory emptied"] + 40
    assert pictures["as it is"] > pictures["other pooling order"] + 20


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_what_was_changed_is_as_before(name: str) -> None:
    network = UniPixel.from_pretrained("nano").network
    order, encode = network.config.mem_feature_order, network.encode_regions
    with ablations.VARIANTS[name](network):
        changed = (network.config.mem_feature_order, network.encode_regions) != (order, encode)
    assert changed == (name != "as it is")
    assert (network.config.mem_feature_order, network.encode_regions) == (order, encode)
