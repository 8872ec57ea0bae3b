"""What the embedded model can see: claims of the README, on seeds that training never uses."""

from __future__ import annotations

import numpy as np
import pytest

from unipixel.data.world import draw_scene
from unipixel.engine import UniPixel, find_checkpoint
from unipixel.eval.world import pointing, presence, referring, scene_media
from unipixel.eval.world_full import ROWS, measure
from unipixel.types import Point

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nano() -> UniPixel:
    return UniPixel.from_pretrained("nano")


def test_the_checkpoint_is_small_enough_to_ship(nano: UniPixel) -> None:
    assert sum(p.numel() for p in nano.network.parameters()) <= 40_000_000
    assert sum(p.stat().st_size for p in find_checkpoint("nano").iterdir()) <= 60_000_000


def test_pictures_are_segmented_by_words(nano: UniPixel) -> None:
    assert referring(nano, 48, 1, heldout=False).value >= 75


def test_clips_are_segmented_by_words(nano: UniPixel) -> None:
    assert referring(nano, 12, 8, heldout=False).value >= 70


def test_clicked_objects_are_named(nano: UniPixel) -> None:
    point, box, named = pointing(nano, 100, 1, heldout=False)
    assert point.value >= 75
    assert box.value >= 85
    assert named.value >= 90


def test_pairs_of_colour_and_shape_that_were_never_shown_are_named_too(nano: UniPixel) -> None:
    assert pointing(nano, 100, 1, heldout=True)[-1].value >= 85


def test_of_pictures_without_anything_known_it_says_so(nano: UniPixel) -> None:
    (row,) = (row for row in ROWS if row.name == "nothing known right")
    assert measure(nano, row, 40).value >= 70


def test_what_is_not_there_is_often_refused_and_what_is_there_rarely(nano: UniPixel) -> None:
    absent, refused = presence(nano, 60, heldout=False)
    assert absent.value >= 70
    assert refused.value <= 8


def test_a_clicked_object_is_remembered(nano: UniPixel) -> None:
    scene = draw_scene(np.random.default_rng(77_001), num_frames=6, num_objects=(3, 3))
    rows, columns = np.nonzero(scene.masks[0, 2])
    middle = len(rows) // 2
    click = Point((float(columns[middle]), float(rows[middle])), frame=2, object_id=1)
    first = nano.ask(scene_media(scene), "What is @1?", prompts=[click])
    again = nano.ask(scene_media(scene), "What color is @1?", memory=first.memory)
    assert scene.objects[0].color in again.text
    assert again.memory == first.memory
    assert first.memory[1].masks[2, int(click.xy[1]), int(click.xy[0])]
