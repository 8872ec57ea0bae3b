"""Correcting a masklet: what changes, what may not, and that the marked frame is what its marks give."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from fakes import draw_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import clip, tiny_engine

from unipixel.correction import stretch
from unipixel.media import load_media, write_video
from unipixel.types import Box, Masklet, Point, Region

FRAMES = 7
MEDIA = clip(FRAMES)
SIZE = (MEDIA.height, MEDIA.width)


@pytest.fixture(scope="module")
def engine():
    return tiny_engine()


def moving_square() -> Masklet:
    masks = np.zeros((FRAMES, *SIZE), bool)
    for t in range(FRAMES):
        masks[t, 30:70, 20 + 5 * t : 60 + 5 * t] = True
    return Masklet(3, masks, np.linspace(0.3, 0.9, FRAMES, dtype=np.float32), "square")


def changed(before: Masklet, after: Masklet) -> set[int]:
    """Frames on which a mask or a score differs."""
    same = (before.masks == after.masks).all((1, 2)) & (before.scores == after.scores)
    return set(np.flatnonzero(~same).tolist())


frames = st.sets(st.integers(0, FRAMES - 1), max_size=4)


@settings(max_examples=12)
@given(marked=st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=2), anchors=frames)
def test_frames_beyond_the_nearest_anchors_stay_bit_identical(marked: set[int], anchors: set[int]) -> None:
    before = moving_square()
    after = tiny_engine().correct(MEDIA, before, [Point((40, 40), frame=t) for t in sorted(marked)], anchors=anchors)
    assert changed(before, after) <= stretch(marked, anchors, FRAMES)
    assert (after.object_id, after.label) == (3, "square")


@given(marked=st.sets(st.integers(0, 20), min_size=1), anchors=st.sets(st.integers(0, 20)))
def test_a_stretch_ends_before_the_nearest_anchors(marked: set[int], anchors: set[int]) -> None:
    reached = stretch(marked, anchors, 21)
    assert marked <= reached
    assert not (anchors - marked) & reached
    for t in reached - marked:  # nothing that is right as it is lies between it and some marked frame
        assert any(not (anchors - marked) & set(range(min(t, m), max(t, m) + 1)) for m in marked)


def test_the_marked_frame_is_what_the_marks_give(engine) -> None:
    marks = [Point((40, 40), frame=3), Point((70, 70), label=0, frame=3)]
    alone = engine.correct(MEDIA, moving_square(), marks, retrack=False)
    followed = engine.correct(MEDIA, moving_square(), marks, anchors=(0, 6))
    assert changed(moving_square(), alone) == {3}
    assert (alone.masks[3] == followed.masks[3]).all()
    assert alone.scores[3] == followed.scores[3]


def test_a_drawn_area_is_taken_as_it_is(engine) -> None:
    area = np.zeros(SIZE, bool)
    area[20:31, 41:77] = True
    after = engine.correct(MEDIA, moving_square(), [Region(area, frame=2)])
    assert (after.masks[2] == area).all()


def test_an_excluding_click_alone_refines_the_present_mask(engine) -> None:
    before = moving_square()
    after = engine.correct(MEDIA, before, [Point((25, 35), label=0, frame=0)], anchors=(2,))
    assert 0 in changed(before, after)
    assert changed(before, after) <= {0, 1}


def test_an_excluding_click_needs_a_mask_to_take_from(engine) -> None:
    gone = Masklet(1, np.zeros((FRAMES, *SIZE), bool))
    with pytest.raises(ValueError, match="at least one place to include"):
        engine.correct(MEDIA, gone, [Point((25, 35), label=0)])


def test_the_marks_of_one_frame_decide_whatever_their_order(engine) -> None:
    marks = [Point((40, 40), frame=1), Box((10, 10, 90, 90), frame=1)]
    one, other = (engine.correct(MEDIA, moving_square(), m, retrack=False) for m in (marks, marks[::-1]))
    assert (one.masks == other.masks).all()


def test_a_stopped_correction_keeps_what_it_did_not_reach(engine) -> None:
    stop = threading.Event()
    stop.set()
    before = moving_square()
    after = engine.correct(MEDIA, before, [Point((40, 40), frame=2)], stop=stop)
    assert len(changed(before, after)) <= 3  # the marked frame, and one step each way


def test_correcting_again_from_the_same_start_gives_the_same(engine) -> None:
    marks = [Point((40, 40), frame=4)]
    one, other = (engine.correct(MEDIA, moving_square(), marks, anchors=(1,)) for _ in range(2))
    assert changed(one, other) == set()


@pytest.mark.parametrize(
    "marks, reason",
    [
        ([Point((5, 5), frame=FRAMES)], "There is no frame"),
        ([Point((500, 5))], "outside the picture"),
        ([Region(np.ones((3, 3), bool))], "pixels"),
    ],
)
def test_marks_beside_the_media_are_refused(engine, marks: list, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.correct(MEDIA, moving_square(), marks)


# ------------------------------------------------------------------------------------------------- every frame


def test_between_sampled_frames_masks_are_filled_in_and_on_them_kept(engine, tmp_path: Path) -> None:
    path = write_video(draw_clip(11)[:, ::2, ::2], tmp_path / "clip.mp4", 8)
    media = load_media(path, 4)
    shape = (4, media.height, media.width)
    masks = np.zeros(shape, bool)
    masks[:3, 20:60, 30:80] = True
    square, rest = Masklet(1, masks), Masklet(2, np.arange(np.prod(shape)).reshape(shape) % 7 == 0)
    filled = list(engine.fill(media, [square, rest]))
    assert [t for t, _, _ in filled] == list(range(11))
    assert {(count, found.shape) for _, count, found in filled} == {(11, (2, *shape[1:]))}
    for i, t in enumerate(media.frame_indices):
        assert (filled[t][2] == np.stack([masks[i], rest.masks[i]])).all()


def test_filling_stops_when_told(engine, tmp_path: Path) -> None:
    media = load_media(write_video(draw_clip(9)[:, ::2, ::2], tmp_path / "clip.mp4", 8), 3)
    stop, seen = threading.Event(), 0
    for _ in engine.fill(media, [Masklet(1, np.ones((3, media.height, media.width), bool))], stop):
        seen += 1
        stop.set()
    assert seen <= 2
