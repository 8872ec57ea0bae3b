"""The full world: emoji, cut-outs, photographs and a moving camera are drawn exactly and named rightly."""

from __future__ import annotations

import time
from collections import Counter

import cv2
import numpy as np
import pytest

from unipixel.data.world import (
    CATEGORIES,
    COLORS,
    FULL,
    HELD_APART,
    NAMELESS,
    NOUNS,
    Contents,
    Mark,
    Scene,
    draw_prompt,
    draw_scene,
)
from unipixel.data.world.casting import cast
from unipixel.data.world.motion import Stage
from unipixel.data.world.nouns import ALSO_A, ALSO_CALLED, FUNCTIONS
from unipixel.data.world.pictures import noun_picture, tints
from unipixel.data.world.scene import stamp
from unipixel.data.world.surfaces import HELDOUT_PHOTOS, cut_out, photo_names
from unipixel.types import Box, Point


def scenes(count: int, seed: int = 0, contents: Contents = FULL, **options) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [draw_scene(rng, contents=contents, **options) for _ in range(count)]


def test_the_same_seed_draws_the_same():
    for one, two in zip(*(scenes(6, seed=5, num_frames=4, size=96) for _ in range(2))):
        assert np.array_equal(one.frames, two.frames)
        assert np.array_equal(one.masks, two.masks)
        assert (one.objects, one.background, one.camera) == (two.objects, two.background, two.camera)


def test_there_are_enough_nouns_of_enough_categories():
    sizes = Counter(noun.category for noun in NOUNS.values())
    assert len(NOUNS) >= 60
    assert len(sizes) >= 6
    assert min(sizes.values()) >= 5
    assert set(sizes) | {"shape"} == set(CATEGORIES)
    assert set(ALSO_A) <= set(sizes)


def test_tables_speak_of_known_nouns():
    named = [*ALSO_CALLED, *(name for names in ALSO_A.values() for name in names)]
    named += [name for fitting, arguable in FUNCTIONS.values() for name in (*fitting, *arguable)]
    assert set(named) <= set(NOUNS)
    assert not any(fitting & arguable for fitting, arguable in FUNCTIONS.values())


def test_every_noun_has_a_picture_that_fills_its_cell():
    for noun in NOUNS:
        alpha = noun_picture(noun).rgba[..., 3]
        rows, columns = np.nonzero(alpha > 0.5)
        assert 84 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 93, noun
        assert (alpha > 0.5).mean() > 0.1, noun


def test_the_color_of_a_noun_is_in_its_picture():
    hues = {name: cv2.cvtColor(np.array([[rgb]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0, 0] for name, rgb in COLORS.items()}
    for noun, entry in NOUNS.items():
        rgba = noun_picture(noun).rgba
        shown = rgba[rgba[..., 3] > 0.99][None, :, :3].astype(np.uint8)
        hue, saturation, value = cv2.cvtColor(shown, cv2.COLOR_RGB2HSV)[0].astype(int).T
        if entry.color == "black":
            assert (value < 90).mean() > 0.4
        elif entry.color:
            away = abs((hue - int(hues[entry.color]) + 90) % 180 - 90)  # OpenCV's hues go to 180
            assert ((away < 36) & (saturation > 70)).mean() > 0.35, noun
        assert entry.color in {*tints(noun), ""}


@pytest.mark.parametrize("num_frames", [1, 6])
def test_masks_are_exact(num_frames: int):
    """On black and on white paper the same object leaves the same colour where it covers more than half."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        for actor in cast(rng, Stage(128, 160, num_frames), 4, False, FULL):
            for pose in actor.track:
                papers = [np.full((128, 160, 3), level, np.uint8) for level in (0, 255)]
                label = np.zeros((128, 160), np.uint8)
                for paper in papers:
                    stamp(paper, label, actor.draw(pose), 1, np.zeros(2, np.int64))
                shines_through = (papers[1].astype(int) - papers[0]).mean(-1)
                assert (shines_through[label > 0] <= 129).all()
                assert (shines_through[label == 0] >= 126).all()


def test_masks_never_overlap_and_what_lies_in_front_hides():
    hidden = 0
    for scene in scenes(40, num_frames=6, size=128, num_objects=(3, 5)):
        assert scene.masks.sum(0).max() <= 1
        still = [k for k, o in enumerate(scene.objects) if o.motion == "still" and not any(scene.camera)]
        hidden += sum(scene.areas[k].min() < 0.8 * scene.areas[k].max() for k in still)
    assert hidden


def test_as_many_objects_as_asked_for_where_they_must_be():
    for scene in scenes(60, num_frames=6, size=128, num_objects=(4, 4)):
        assert len(scene.objects) == 4
        for spec, areas in zip(scene.objects, scene.areas):
            assert areas[-1 if spec.motion == "appears" else 0] >= 150 * (128 / 256) ** 2


def test_the_ground_moves_against_the_camera():
    contents = Contents(surfaces=0.5, camera=1.0)
    moved = [scene for scene in scenes(40, contents=contents, num_frames=8, size=96) if any(scene.camera)]
    assert len(moved) > 10
    for scene in moved:
        dx, dy = scene.camera
        assert 0 < max(abs(dx), abs(dy)) <= 0.15 * 96 + 1
        first = scene.frames[0][max(dy, 0) : 96 + min(dy, 0), max(dx, 0) : 96 + min(dx, 0)]
        last = scene.frames[-1][max(-dy, 0) : 96 + min(-dy, 0), max(-dx, 0) : 96 + min(-dx, 0)]
        same = (first == last).all(-1)
        assert same.mean() > 0.6  # all but what the objects cover on either frame


def test_a_still_object_goes_with_the_ground():
    checked = 0
    for scene in scenes(60, contents=Contents(nouns=0.5, camera=1.0), num_frames=8, size=128, num_objects=(1, 2)):
        for spec, areas, centers in zip(scene.objects, scene.areas, scene.centroids):
            if spec.motion == "still" and any(scene.camera) and areas.min() == areas.max():
                assert np.allclose(centers[0] - centers[-1], scene.camera, atol=0.1)
                checked += 1
    assert checked > 3


def test_all_contents_occur():
    drawn = scenes(150, num_frames=2, size=96)
    assert {scene.background for scene in drawn} == {"flat", "gradient", "noise", "clutter", "photo", "pattern"}
    nameless = [np.mean([o.shape == NAMELESS for o in scene.objects]) for scene in drawn]
    assert 0.03 < np.mean([share == 1 for share in nameless]) < 0.3
    assert any(0 < share < 1 for share in nameless)
    nouns = Counter(o.shape for scene in drawn for o in scene.objects if o.shape in NOUNS)
    assert len(nouns) > 0.8 * len(NOUNS)


def test_things_that_could_be_confused_are_never_together():
    for scene in scenes(150, size=96, num_objects=(4, 6), heldout=True):
        names = {spec.shape for spec in scene.objects}
        assert not any(other in names for name in names for other in ALSO_CALLED.get(name, ()))


def test_nouns_held_apart_never_meet_in_training():
    def meetings(heldout: bool) -> int:
        drawn = scenes(150, size=96, num_objects=(3, 6), heldout=heldout)
        names = [{spec.shape for spec in scene.objects} for scene in drawn]
        return sum(any(pair <= those for pair in HELD_APART) for those in names)

    assert meetings(heldout=False) == 0
    assert meetings(heldout=True) > 15


def test_photographs_for_measuring_stay_out_of_training(monkeypatch: pytest.MonkeyPatch):
    from unipixel.data.world import surfaces

    assert set(photo_names()) > HELDOUT_PHOTOS
    taken: set[str] = set()
    real = surfaces._photo
    monkeypatch.setattr(surfaces, "_photo", lambda name: (taken.add(name), real(name))[1])
    scenes(80, size=96, contents=Contents(surfaces=1.0, nameless=0.5))
    assert taken == set(photo_names()) - HELDOUT_PHOTOS
    scenes(80, size=96, contents=Contents(surfaces=1.0, nameless=0.5), heldout=True)
    assert taken == set(photo_names())


def test_no_two_cut_outs_are_alike():
    rng = np.random.default_rng(0)
    outlines = [cut_out(rng).rgba[..., 3] > 0.5 for _ in range(12)]
    overlaps = [(a & b).sum() / (a | b).sum() for n, a in enumerate(outlines) for b in outlines[:n]]
    assert max(overlaps) < 0.95
    assert all(0.05 < outline.mean() < 0.95 for outline in outlines)


def test_is_fast_enough_for_training():
    def rate(num_frames: int) -> float:
        rng = np.random.default_rng(0)
        start = time.process_time()
        count = sum(draw_scene(rng, num_frames=num_frames, contents=FULL).num_frames for _ in range(80 // num_frames))
        return count / (time.process_time() - start)

    rate(1)  # reads the pictures
    assert max(rate(1) for _ in range(3)) >= 100
    assert max(rate(8) for _ in range(3)) >= 200


def test_prompts_lie_on_their_objects():
    rng = np.random.default_rng(0)
    for scene in scenes(10, num_frames=3, size=96):
        for k in range(len(scene.objects)):
            frame = int(scene.areas[k].argmax())
            mask = scene.masks[k, frame]
            for kind in ("point", "box", "mask", "scribble"):
                prompt = draw_prompt(rng, scene, Mark(k, kind, frame), 3)
                prompt.check_inside(96, 96)
                assert (prompt.frame, prompt.object_id) == (frame, 3)
                if isinstance(prompt, Point):
                    assert mask[int(prompt.xy[1]), int(prompt.xy[0])]
                elif isinstance(prompt, Box):
                    x1, y1, x2, y2 = map(int, prompt.xyxy)
                    assert mask[y1:y2, x1:x2].sum() == mask.sum()
                else:
                    assert not (prompt.mask & ~mask).any()
                    assert (prompt.mask.sum() < mask.sum()) == (kind == "scribble")


def test_what_cannot_be_seen_cannot_be_marked():
    scene = next(s for s in scenes(40, num_frames=6, size=96) if (s.areas == 0).any())
    k, frame = (int(i) for i in np.argwhere(scene.areas == 0)[0])
    with pytest.raises(ValueError, match="cannot be seen on frame"):
        draw_prompt(np.random.default_rng(0), scene, Mark(k, "point", frame))


def test_shares_are_checked():
    with pytest.raises(ValueError, match="nouns is a share between 0 and 1, not 3"):
        Contents(nouns=3)
