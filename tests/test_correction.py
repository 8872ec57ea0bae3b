"""Correcting a masklet: what changes, what may not, and that the marked frame is what its marks give."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import draw_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import clip, picture, saying, tiny_engine

from unipixel.correction import _gaps, _plan, adopt, stretch
from unipixel.marks import sort_marks
from unipixel.media import load_media, write_video
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Box, Masklet, MaskUpdate, Point, Region

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


frames = st.sets(st.integers(-2, FRAMES + 2), max_size=4)  # some that are not there


def not_here(frame: int, object_id: int | None = None) -> Region:
    return Region(np.zeros(SIZE, bool), frame, object_id)


@settings(max_examples=16)
@given(
    marked=st.dictionaries(st.integers(0, FRAMES - 1), st.booleans(), min_size=1, max_size=3),
    anchors=frames,
    gone=st.sets(st.integers(0, FRAMES - 1), max_size=3),
)
def test_frames_beyond_the_nearest_anchors_stay_bit_identical(
    marked: dict[int, bool], anchors: set[int], gone: set[int]
) -> None:
    """Whether marks say where the object is or that it is not there, and whatever was known before."""
    before = moving_square()
    masks = before.masks.copy()
    masks[list(gone)] = False
    before = Masklet(3, masks, before.scores, "square")
    marks = [Point((40, 40), frame=t) if here else not_here(t) for t, here in marked.items()]
    after = tiny_engine().correct(MEDIA, before, marks, anchors=anchors)
    assert changed(before, after) <= stretch(marked, anchors, FRAMES)
    assert (after.object_id, after.label) == (3, "square")
    for t in (t for t, here in marked.items() if not here):
        assert not after.masks[t].any()
        assert after.scores[t] == 1


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


# ------------------------------------------------------------------------------------------------- not here

ALL_SEEN = np.ones(20, bool)
SCORES = np.linspace(0.9, 0.5, 20, dtype=np.float32)


def without(*frames: int) -> np.ndarray:
    """Which of 20 frames show the object: all but `frames`."""
    seen = ALL_SEEN.copy()
    seen[list(frames)] = False
    return seen


def order(ways: list[range]) -> list[list[int]]:
    return [list(way) for way in ways if way]


def test_both_sides_of_a_frame_without_the_object_are_followed_towards_it() -> None:
    ways, sources = _plan([5], range(3, 9), [2, 5, 9], without(5), SCORES)
    assert order(ways) == [[3, 4], [8, 7, 6]]
    assert sources == [2, 9]


def test_a_side_that_knows_nothing_is_reached_through_the_frame_without_the_object() -> None:
    ways, sources = _plan([5], range(3, 20), [2, 5], without(5), SCORES)  # nothing right behind it
    assert (order(ways), sources) == ([list(range(3, 20))], [2])
    ways, sources = _plan([5], range(0, 9), [5, 9], without(5), SCORES)  # nothing right before it
    assert (order(ways), sources) == ([list(range(8, -1, -1))], [9])
    ways, sources = _plan([5], range(3, 9), [1, 2, 5, 9], without(2, 5, 9), SCORES)  # absent from the nearest, too
    assert (order(ways), sources) == ([list(range(3, 9))], [1])


def test_without_any_right_frame_the_most_certain_mask_is_followed() -> None:
    ways, sources = _plan([0], range(0, 6), [0], without(0, 1), SCORES)
    assert (order(ways), sources) == ([[3, 4, 5], [1, 0]], [2])
    assert _plan([0], range(0, 20), [0], ~ALL_SEEN, SCORES) == ([], [])  # never seen: nothing to follow


def test_a_frame_that_shows_the_object_is_followed_up_to_one_that_does_not() -> None:
    ways, sources = _plan([4, 6], range(3, 9), [2, 4, 6, 9], without(6), SCORES)
    assert (order(ways), sources) == ([[5], [3], [8, 7]], [2, 9])
    ways, _ = _plan([4, 6], range(3, 9), [2, 4, 6, 9], without(4), SCORES)
    assert order(ways) == [[7, 8], [5], [3]]


@given(
    fresh=st.sets(st.integers(0, 19), min_size=1, max_size=4),
    anchors=st.sets(st.integers(0, 19), max_size=5),
    gone=st.sets(st.integers(0, 19)),
)
def test_every_frame_of_a_stretch_is_followed_once(fresh: set[int], anchors: set[int], gone: set[int]) -> None:
    seen, right = without(*gone), sorted(fresh | anchors)
    for own, gap in _gaps(fresh, anchors, 20):
        ways, sources = _plan(own, gap, right, seen, SCORES)
        reached = [t for way in ways for t in way if t not in {*own, *sources}]
        known = any(seen[t] for t in (*right, *gap))
        assert sorted(reached) == [t for t in gap if t not in {*own, *sources} and known]
        assert all(seen[t] for t in sources)


def test_a_frame_without_the_object_is_remembered_as_sam2_remembers_one(engine) -> None:
    segmenter = engine._segmenter(MEDIA)
    sam2, features = segmenter.sam2, segmenter.frame(2)
    gone = adopt(segmenter, np.zeros(SIZE, bool), 2)
    assert (gone.object_logits < 0).all()
    assert torch.equal(gone.pointer, sam2.no_obj_ptr.expand_as(gone.pointer))
    there = replace(gone, object_logits=-gone.object_logits)
    marked = sam2.remember(features, gone)["maskmem_features"] - sam2.remember(features, there)["maskmem_features"]
    assert torch.allclose(marked, sam2.no_obj_embed_spatial[..., None, None].expand_as(marked), atol=1e-5)


def test_an_object_is_tracked_beside_frames_without_it(engine) -> None:
    """Together or alone, and whichever frame was marked first."""
    click, gone = Point((40, 40), frame=4, object_id=1), not_here(0, 1)
    other = [Point((60, 60), frame=4, object_id=2), Region(np.ones(SIZE, bool), 0, 2)]
    found = engine.track(MEDIA, [gone, click])[1]
    assert not found.masks[0].any()
    assert found.scores[0] == 1
    for marks in ([click, gone], [click, *other, gone]):
        assert changed(found, engine.track(MEDIA, marks)[1]) == set()
    # The frame says nothing of where the object is: following starts where it is.
    reached = [
        e.frame
        for e in engine._segmenter(MEDIA).masklets(
            [engine._marks_prompt(m, MEDIA) for m in sort_marks([gone, click], MEDIA, ObjectMemoryBank())]
        )
        if isinstance(e, MaskUpdate)
    ]
    assert reached == [0, 4, 5, 6, 3, 2, 1]


def test_not_here_goes_into_memory_and_through_json(engine) -> None:
    with saying(engine, "It is gone."):
        answer = engine.ask(MEDIA, "What is @1?", prompts=[not_here(3, 1), Point((40, 40), object_id=1)])
    known = answer.memory[1]
    assert (known.origin, known.visible[3], known.scores[3]) == ("point", False, 1.0)
    again = ObjectMemoryBank.from_json(answer.memory.to_json())
    assert again == answer.memory
    corrected = engine.correct(MEDIA, again[1].masklet, [not_here(5)], anchors=(0, 3))
    assert changed(again[1].masklet, corrected) <= {4, 5, 6}
    back = engine.correct(MEDIA, corrected, [Point((40, 40), frame=5)], anchors=(0, 3))
    assert changed(again[1].masklet, back) <= {4, 5, 6}


@pytest.mark.parametrize(
    "marks, reason",
    [
        ([not_here(2, 1)], "needs at least one mark that lies on it"),
        ([not_here(2, 1), Point((9, 9), label=0, object_id=1)], "needs at least one mark that lies on it"),
        ([not_here(2, 1), Point((9, 9), frame=2, object_id=1)], "marked on frame 2 and as absent from it"),
        ([not_here(2, 1), Region(np.ones(SIZE, bool), 2, 1)], "marked on frame 2 and as absent from it"),
        ([Region(np.zeros((9, 9), bool), 2, 1), Point((9, 9), object_id=1)], "pixels"),
    ],
)
def test_not_here_that_makes_no_sense_is_refused(engine, marks: list, reason: str) -> None:
    for call in (engine.track, engine.preview, lambda media, m: engine.ask(media, "What is @1?", prompts=m)):
        with pytest.raises(ValueError, match=reason):
            call(MEDIA, marks)


def test_an_object_cannot_be_absent_from_a_picture(engine) -> None:
    alone = Masklet(1, np.ones((1, *SIZE), bool))
    with pytest.raises(ValueError, match="absent from a picture"):
        engine.track(picture(), [not_here(0, 1)])
    with pytest.raises(ValueError, match="absent from a picture"):
        engine.correct(picture(), alone, [not_here(0)])


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
    assert [found.frame for found in filled] == list(range(11))
    assert {(found.count, found.masks.shape, found.scores.shape) for found in filled} == {(11, (2, *shape[1:]), (2,))}
    for i, t in enumerate(media.frame_indices):
        assert (filled[t].masks == np.stack([masks[i], rest.masks[i]])).all()
        assert filled[t].scores.tolist() == [square.scores[i], rest.scores[i]]
    between = np.stack([found.scores for found in filled if found.frame not in media.frame_indices])
    assert ((between >= 0) & (between < 1)).all()  # what the tracker thinks of its own masks


def test_filling_stops_when_told(engine, tmp_path: Path) -> None:
    media = load_media(write_video(draw_clip(9)[:, ::2, ::2], tmp_path / "clip.mp4", 8), 3)
    stop, seen = threading.Event(), 0
    for _ in engine.fill(media, [Masklet(1, np.ones((3, media.height, media.width), bool))], stop):
        seen += 1
        stop.set()
    assert seen <= 2
