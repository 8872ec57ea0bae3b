"""Drawing: right pixels, right colours, inputs left alone, and fast enough for every frame of a clip."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from unipixel.types import Box, Masklet, Point, Region
from unipixel.visualize import PALETTE, color_of, draw_prompts, overlay, overlay_clip, overlay_png, thumbnail

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def frame() -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    made.flags.writeable = False
    return made


def block(rows: slice, columns: slice, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def disk(y: int, x: int, radius: int, height: int = 480, width: int = 854) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def test_overlay_tints_the_mask_and_nothing_else(frame):
    mask = block(slice(10, 30), slice(20, 50))
    out = overlay(frame, {3: mask}, alpha=0.5, outline=False)
    expected = np.rint((frame[mask].astype(float) + color_of(3)) / 2)
    assert np.abs(out[mask] - expected).max() <= 1
    np.testing.assert_array_equal(out[~mask], frame[~mask])


def test_overlay_outlines_in_the_given_colour(frame):
    out = overlay(frame, {1: block(slice(10, 30), slice(20, 50))}, {1: (1, 2, 3)})
    assert np.abs(out[10, 35].astype(int) - (1, 2, 3)).max() < 30  # the rest is anti-aliasing
    np.testing.assert_array_equal(out[9, 35], frame[9, 35])


def test_empty_masks_and_no_masks_change_nothing(frame):
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    for masks in ({}, {1: nothing}):
        np.testing.assert_array_equal(overlay(frame, masks, show_ids=True), frame)


def test_ids_are_written_on_the_object(frame):
    mask = block(slice(0, 60), slice(0, 80))
    out, plain = (overlay(frame, {12: mask}, show_ids=show) for show in (True, False))
    changed = np.argwhere((out != plain).any(2))
    assert 50 < len(changed) < 1500
    assert np.abs(changed.mean(0) - (30, 40)).max() < 12
    overlay(frame, {1: block(slice(0, 1), slice(0, 1)), 9999: block(slice(59, 60), slice(79, 80))}, show_ids=True)


def test_wrong_sizes_are_refused(frame):
    with pytest.raises(ValueError, match=r"60 x 80.*\(80, 60\)"):
        overlay(frame, {1: np.zeros((WIDTH, HEIGHT), bool)})
    with pytest.raises(ValueError, match="must be bool"):
        overlay(frame, {1: np.zeros((HEIGHT, WIDTH))})
    with pytest.raises(ValueError, match="uint8 H x W x 3"):
        overlay(frame.astype(float), {})


def test_overlay_is_fast():
    frame = np.zeros((480, 854, 3), np.uint8)
    masks = {1: disk(200, 200, 150), 2: disk(300, 500, 150), 3: disk(150, 700, 120)}
    best = min(_seconds(lambda: overlay(frame, masks)) for _ in range(15))
    assert best < 0.01


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_clips_are_drawn_frame_by_frame(frame):
    masks = np.stack([block(slice(t, t + 9), slice(5, 20)) for t in range(3)])
    drawn = list(overlay_clip(iter([frame] * 3), {2: Masklet(2, masks)}))
    for t, out in enumerate(drawn):
        np.testing.assert_array_equal(out, overlay(frame, {2: masks[t]}))
    with pytest.raises(ValueError, match="@2 has masks for 3 frames"):
        list(overlay_clip([frame] * 4, {2: Masklet(2, masks)}))


def test_marks_are_drawn_where_they_are():
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    region = block(slice(40, 50), slice(40, 60))
    marks = [Point((20, 10), object_id=1), Point((60, 10), 0), Box((5, 30, 25, 55), object_id=2), Region(region)]
    out = draw_prompts(black, marks)
    assert tuple(out[10, 20]) == tuple(out[10, 60]) == (255, 255, 255)  # the arms of + and -
    assert tuple(out[12, 20]) == (255, 255, 255)
    assert tuple(out[12, 60]) != (255, 255, 255)  # no upright arm
    assert tuple(out[40, 5]) == tuple(out[54, 20]) == color_of(2)
    assert out[45, 50].any()
    assert not out[35, 15].any()
    assert not black.any()
    draw_prompts(black, [Point((0, 0)), Point((79, 59), 0), Box((0, 0, 80, 60))])


def test_overlay_png_is_small_and_transparent():
    masks = {1: disk(200, 200, 150), 5: disk(300, 300, 150), 7: np.zeros((480, 854), bool)}
    data = overlay_png(masks, {5: (9, 8, 7)}, 480, 854, alpha=0.4)
    assert len(data) < 8_000
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P"
    pixels = np.asarray(image.convert("RGBA"))
    assert pixels.shape == (480, 854, 4)
    assert not pixels[..., 3][~(masks[1] | masks[5])][0].any()
    assert tuple(pixels[150, 150]) == (*color_of(1), 102)
    assert tuple(pixels[300, 300]) == (9, 8, 7, 102)
    assert 255 in pixels[..., 3]


def test_overlay_png_of_nothing():
    assert not np.asarray(Image.open(io.BytesIO(overlay_png({}, None, 10, 20))).convert("RGBA"))[..., 3].any()


def test_thumbnails_show_the_object():
    frame = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    mask = block(slice(20, 30), slice(0, 10))
    frame[mask] = (250, 20, 20)
    small = thumbnail(frame, mask, 64)
    assert small.shape == (64, 64, 3)
    assert tuple(small[32, 32]) == (250, 20, 20)
    assert small[32, 60].max() < 100
    assert thumbnail(frame, np.zeros_like(mask), 32).shape == (32, 32, 3)
    assert thumbnail(frame, np.ones_like(mask), 32).shape == (32, 32, 3)
    assert thumbnail(frame, block(slice(59, 60), slice(79, 80)), 32).shape == (32, 32, 3)


def test_the_palette_is_told_apart():
    colors = np.array(PALETTE, float)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2)[~np.eye(len(colors), dtype=bool)]
    assert apart.min() > 40
