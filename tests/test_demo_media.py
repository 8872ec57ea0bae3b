"""The page's examples: the command in examples/ makes them, and nano does with each what its title promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unipixel.data.world import Scene
from unipixel.engine import UniPixel
from unipixel.media import load_media
from unipixel.types import Answer, BoolArray, Point, Prompt
from unipixel.web.examples import Example, find_examples
from unipixel.web.marks import Picture, read_marks
from unipixel.web.render import UNCERTAIN

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "assets" / "demo"
sys.path.insert(0, str(ROOT / "examples"))

import make_demo_media  # noqa: E402  (examples are no package)


@pytest.fixture(scope="module")
def nano() -> UniPixel:
    return UniPixel.from_pretrained("nano")


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return make_demo_media.draw_media()


def example(title: str) -> Example:
    (found,) = [e for e in find_examples(DEMO) if e.title.startswith(title)]
    return found


def prompts(of: Example) -> tuple[Prompt, ...]:
    """The marks of an example as the page reads them."""
    media = load_media(of.path, 16)
    value = {"media_id": "x", "marks": json.dumps(of.marks)}
    return read_marks(value, "x", Picture(media.height, media.width, media.num_frames)).prompts


def ask(nano: UniPixel, of: Example) -> Answer:
    return nano.ask(load_media(of.path, 16), of.question, prompts=prompts(of))


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


def truth(scene: Scene, index: int, of: Example) -> BoolArray:
    """T x H x W: object `index` on the frames that the page samples."""
    return scene.masks[index, list(load_media(of.path, 16).frame_indices)]


def test_the_command_makes_the_examples(tmp_path: Path) -> None:
    make_demo_media.main(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in DEMO.iterdir()}
    assert (tmp_path / "examples.json").read_text() == (DEMO / "examples.json").read_text()
    for name in names - {"examples.json"}:
        made, kept = load_media(tmp_path / name, 16).frames, load_media(DEMO / name, 16).frames
        assert made.shape == kept.shape
        assert np.abs(made.astype(int) - kept).mean() < 2  # encoders of video differ a little


@pytest.mark.parametrize(
    "title, name, index",
    [("Click a moving object", "clip.mp4", 0), ("Click an object", "picture.png", 1)],
)
def test_a_clicked_object_is_named(nano: UniPixel, scenes: dict[str, Scene], title: str, name: str, index: int) -> None:
    found, shape = ask(nano, example(title)), scenes[name].objects[index]
    assert shape.color in found.text
    assert shape.shape in found.text
    masks = found.memory[1].masks
    assert np.mean([iou(a, b) for a, b in zip(masks, truth(scenes[name], index, example(title)))]) > 0.75


@pytest.mark.parametrize(
    "title, name, index", [("Follow an object by name", "clip.mp4", 1), ("Find one object", "picture.png", 3)]
)
def test_a_named_object_is_found(nano: UniPixel, scenes: dict[str, Scene], title: str, name: str, index: int) -> None:
    (found,) = ask(nano, example(title)).masklets.values()
    assert np.mean([iou(a, b) for a, b in zip(found.masks, truth(scenes[name], index, example(title)))]) > 0.75


def test_several_objects_are_found_at_once(nano: UniPixel, scenes: dict[str, Scene]) -> None:
    scene, several = scenes["crowd.png"], example("Find several objects")
    found = ask(nano, several).masklets.values()
    wanted = [k for k, spec in enumerate(scene.objects) if f"{spec.shape}s" in several.question]
    assert len(found) == len(wanted) >= 2
    for k in wanted:
        assert max(iou(masklet.masks[0], scene.masks[k, 0]) for masklet in found) > 0.75


def test_what_is_not_there_is_not_found(nano: UniPixel, scenes: dict[str, Scene]) -> None:
    missing = example("Ask for what is not there")
    answer = ask(nano, missing)
    assert not any(spec.name in missing.question for spec in scenes["few.png"].objects)
    assert answer.text.startswith(("No", "There is no"))
    assert not answer.masklets


def test_the_mask_that_slips_can_be_corrected(nano: UniPixel, scenes: dict[str, Scene]) -> None:
    slip = example("Correct a mask")
    media, true = load_media(slip.path, 16), truth(scenes["slip.mp4"], make_demo_media.SLIPS, slip)
    before = ask(nano, slip).memory[1].masklet
    fits = np.array([iou(a, b) for a, b in zip(before.masks, true)])
    assert fits[0] > 0.7
    faded = int(np.flatnonzero(before.scores < UNCERTAIN)[0])  # as the timeline shows it
    assert fits[faded] < 0.5
    there: dict[str, Any] = make_demo_media.click_on(scenes["slip.mp4"], make_demo_media.SLIPS, faded)
    click = Point((there["x"], there["y"]), frame=faded, object_id=1)
    after = nano.correct(media, before, [click], anchors=[0])
    assert np.mean([iou(a, b) for a, b in zip(after.masks, true)]) > max(0.8, fits.mean() + 0.15)


def test_things_without_a_name_can_be_pointed_at(nano: UniPixel, scenes: dict[str, Scene]) -> None:
    things = example("Point at what it has no word for")
    (found,) = nano.preview(load_media(things.path, 1), prompts(things)).values()
    assert iou(found.mask, truth(scenes["things.png"], make_demo_media.NAMELESS, things)[0]) > 0.75
