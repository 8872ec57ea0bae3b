"""Data: what is written reads back the same, and what is sampled keeps its promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from unipixel.data import MaskArray, Mixture, Polygons, RunLengths, Sample, Task, parse_mask, read_folder, write_folder
from unipixel.data.drawn import DrawnScenes
from unipixel.data.masks import edges
from unipixel.data.samplers import (
    BOX,
    CENTRE,
    DIRECT,
    FIND,
    FORMS,
    MASK,
    MEMORY,
    PLAIN,
    POINT,
    SCRIBBLE,
    all_exchanges,
    centre,
    possible_forms,
    sample_exchanges,
    sample_frames,
    sample_mark,
    sample_objects,
)
from unipixel.media import read_frames, write_png, write_video
from unipixel.types import Box, Media, Point, Region, Turn, encode_rle

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
shown_masks = masks.filter(lambda mask: bool(mask.any()))


def blob(seed: int = 0, side: int = 40) -> np.ndarray:
    """A shape with a hole, and a part of its own."""
    y, x = np.mgrid[:side, :side]
    ring = (np.hypot(x - 15, y - 15) < 12) & (np.hypot(x - 15, y - 15) > 5)
    return ring | ((x > 30) & (y > 25 + seed))


# -------------------------------------------------------------------------------------------------------------- masks


@given(masks)
def test_run_lengths_compressed_and_plain_give_the_mask_back(mask: np.ndarray) -> None:
    code = encode_rle(mask[None])[0]
    assert (parse_mask(code, Path()).read(*mask.shape) == mask).all()
    column_order = mask.T.ravel().astype(int)
    edges_at = np.flatnonzero(np.diff(np.concatenate([[0], column_order, [1 - column_order[-1]]])))
    counts = np.diff(np.concatenate([[0], edges_at])).tolist()
    plain = parse_mask({"size": list(mask.shape), "counts": counts}, Path())
    assert (plain.read(*mask.shape) == mask).all()


@given(masks)
def test_the_outline_of_a_mask_reads_as_the_mask(mask: np.ndarray) -> None:
    assert (edges(mask).read(*mask.shape) == mask).all()


def test_polygons_with_holes_however_their_corners_are_written() -> None:
    ring, hole = [2, 2, 30, 2, 30, 30, 2, 30], [[10, 10], [20, 10], [20, 20], [10, 20]]
    true = np.zeros((40, 40), bool)
    true[2:30, 2:30] = True
    true[10:20, 10:20] = False
    assert (parse_mask({"polygons": [ring], "holes": [hole]}, Path()).read(40, 40) == true).all()
    true[10:20, 10:20] = True
    for flat in (ring, [ring], [[[2, 2], [30, 2], [30, 30], [2, 30]]]):
        assert (parse_mask(flat, Path()).read(40, 40) == true).all()


def test_polygons_are_drawn_as_coco_draws_them() -> None:
    ring = [3.3, 4.1, 25.7, 8.2, 18.4, 33.9, 6.0, 28.5]
    codes: Any = coco_mask.frPyObjects([ring], 40, 40)
    assert (Polygons((tuple(ring),)).read(40, 40) == coco_mask.decode(coco_mask.merge(codes)).astype(bool)).all()


def test_pictures_of_masks_give_them_back(tmp_path: Path) -> None:
    first, second = blob(), np.zeros((40, 40), bool)
    second[:4, 20:] = True
    write_png(first, tmp_path / "binary.png")
    indexed = Image.fromarray(first * np.uint8(1) + second * np.uint8(7), "P")
    indexed.putpalette([0, 0, 0] + [200, 30, 30] * 255)
    indexed.save(tmp_path / "indexed.png")
    assert (parse_mask("binary.png", tmp_path).read(40, 40) == first).all()
    assert (parse_mask({"file": "indexed.png", "index": 1}, tmp_path).read(40, 40) == first).all()
    assert (parse_mask({"file": "indexed.png", "index": 7}, tmp_path).read(40, 40) == second).all()
    assert (parse_mask("indexed.png", tmp_path).read(40, 40) == first | second).all()


def test_a_mask_in_memory_is_the_mask() -> None:
    assert (MaskArray(blob()).read(40, 40) == blob()).all()


@pytest.mark.parametrize(
    "value, words",
    [
        (3, "A mask must be"),
        ({"polygons": [[1, 2, 3]]}, "three corners"),
        ({"polygons": [["a"] * 6]}, "three corners"),
        ({"size": [40, 41], "counts": "abc"}, "41 x 40"),
        ({"size": [40, 40], "counts": [1, 2]}, "add up"),
        ("nothing.png", "no mask file"),
        ({"file": "text.png"}, "no picture"),
    ],
)
def test_bad_masks_are_refused_in_words(tmp_path: Path, value: Any, words: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=words):
        parse_mask(value, tmp_path).read(40, 40)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="40 x 40 pixels, the picture has 20 x 30"):
        MaskArray(blob()).read(30, 20)


# -------------------------------------------------------------------------------------------------------------- folder


def picture(side: int = 40) -> Media:
    frame = np.random.default_rng(0).integers(0, 255, (1, side, side, 3), dtype=np.uint8)
    return Media(frame, (0,))


def test_a_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    written = [
        Sample(picture(), {1: {0: MaskArray(blob())}}, (Turn("Segment the ring.", "It is @1."),)),
        Sample(Media(frames, (0, 1, 2), 8.0), {4: {0: MaskArray(blob()), 2: MaskArray(blob(3))}}, (), {4: "ring"}),
    ]
    write_folder(written, tmp_path)
    task = read_folder(tmp_path)
    assert len(task) == 2
    for before, after in zip(written, task.samples):
        assert (after.turns, dict(after.labels), after.annotated) == (
            before.turns,
            dict(before.labels),
            before.annotated,
        )
        media = after.read_evenly(8)
        assert (media.frames == before.read_evenly(8).frames).all()
        ids = sorted(before.masks)
        assert (after.read_masks(ids, media) == before.read_masks(ids, before.read_evenly(8))).all()


def test_pairs_of_masks_and_texts_are_read(tmp_path: Path) -> None:
    write_png(picture().frames[0], tmp_path / "a.png")
    ring = [2, 2, 30, 2, 30, 30, 2, 30]
    entry = {"image": "a.png", "mask": [[ring], encode_rle(blob()[None])[0]], "text": ["a square", "the ring"]}
    (tmp_path / "data.json").write_text(json.dumps([entry]))
    (sample,) = read_folder(tmp_path).samples
    assert dict(sample.labels) == {1: "a square", 2: "the ring"}
    found = sample.read_masks([1, 2], sample.read_evenly(1))
    assert found[0, 0, 2:30, 2:30].all()
    assert (found[1, 0] == blob()).all()


@pytest.mark.parametrize(
    "line, words",
    [
        ({"media": "none.png", "turns": []}, "no media none.png"),
        ({"media": "a.png"}, "nothing to learn"),
        ({"media": "a.png", "turns": [{"question": "Where is @2?", "answer": "There."}]}, "@2 is spoken of"),
        ({"media": "a.png", "tuns": []}, "no key 'tuns'"),
        ({"media": "a.png", "turns": [{"question": "Hm?"}]}, "answer"),
        ({"media": "a.png", "labels": {"x": "cat"}}, "an object's id"),
        ({"image": "a.png", "mask": [], "text": ["cat"]}, "0 masks for 1"),
        ([], "an entry must be an object"),
    ],
)
def test_bad_entries_are_named_with_their_place(tmp_path: Path, line: Any, words: str) -> None:
    write_png(picture().frames[0], tmp_path / "a.png")
    good = {"media": "a.png", "turns": [{"question": "Hm?", "answer": "Yes."}]}
    (tmp_path / "data.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(line)}\n")
    with pytest.raises(ValueError, match=f"entry 2.*{words}"):
        read_folder(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"media": "a.png"}\n{"media": \n')
    with pytest.raises(ValueError, match="line 2"):
        read_folder(tmp_path)


def test_chosen_frames_of_a_video_are_the_ones_that_were_meant(tmp_path: Path) -> None:
    frames = np.zeros((9, 48, 48, 3), np.uint8) + (np.arange(9, dtype=np.uint8) * 25)[:, None, None, None]
    write_video(iter(frames), tmp_path / "clip.mp4", 8.0)
    media = read_frames(tmp_path / "clip.mp4", [2, 3, 7])
    assert media.frame_indices == (2, 3, 7)
    assert np.abs(media.frames.mean((1, 2, 3)) - np.array([50, 75, 175])).max() < 6
    with pytest.raises(ValueError, match="no frame 9"):
        read_frames(tmp_path / "clip.mp4", [3, 9])


# ------------------------------------------------------------------------------------------------------------- mixture


def named(name: str, count: int) -> Task:
    turn = (Turn("Hm?", "Yes."),)
    return Task(name, [Sample(picture(8), turns=turn, name=f"{name}{n}") for n in range(count)])


def test_every_round_of_a_mixture_holds_each_sample_as_often_as_it_is_listed() -> None:
    often, once = named("a", 3), named("b", 4)
    mixture = Mixture((often, once, often), seed=3)
    rounds = [[mixture[n].name for n in range(start, start + 10)] for start in (0, 10, 20)]
    wanted = sorted(2 * ["a0", "a1", "a2"] + ["b0", "b1", "b2", "b3"])
    assert all(sorted(names) == wanted for names in rounds)
    assert rounds[0] != rounds[1]


def test_a_mixture_depends_on_seed_and_number_alone() -> None:
    first, second = Mixture((named("a", 9),), 1), Mixture((named("a", 9),), 1)
    assert [first[n].name for n in (20, 3, 11)] == [second[n].name for n in (20, 3, 11)]
    with pytest.raises(ValueError, match="no sample"):
        Mixture((Task("empty", []),))


def test_drawn_scenes_are_samples_whose_answers_have_masks() -> None:
    scenes = DrawnScenes(12, seed=4)
    for sample in scenes:
        (exchange,) = all_exchanges(sample)
        found = sample.read_masks(exchange.found, sample.read_evenly(1))
        assert found.any((1, 2, 3)).all()
        assert "<|seg|>" not in exchange.answer
    assert scenes[3].turns == DrawnScenes(12, seed=4)[3].turns


# ------------------------------------------------------------------------------------------------------------ samplers


@given(shown_masks, st.sampled_from([POINT, CENTRE, BOX, SCRIBBLE, MASK]), st.integers(0, 99))
def test_marks_lie_on_their_object_on_a_frame_that_shows_it(mask: np.ndarray, kind: str, seed: int) -> None:
    clip = np.stack([np.zeros_like(mask), mask])
    mark = sample_mark(np.random.default_rng(seed), clip, 5, {kind: 1.0})
    assert mark is not None
    assert (mark.frame, mark.object_id) == (1, 5)
    mark.check_inside(*mask.shape)
    if isinstance(mark, Point):
        assert mask[int(mark.xy[1]), int(mark.xy[0])]
    elif isinstance(mark, Box):
        columns = np.flatnonzero(mask.any(0))
        assert abs(mark.xyxy[0] - columns[0]) <= 0.08 * (columns[-1] + 1 - columns[0]) + 1e-6
    else:
        assert isinstance(mark, Region)
        assert not (mark.mask & ~mask).any()
        assert kind == SCRIBBLE or (mark.mask == mask).all()


def test_an_object_that_is_never_visible_cannot_be_marked() -> None:
    assert sample_mark(np.random.default_rng(0), np.zeros((2, 4, 4), bool), 1, {POINT: 1.0}) is None


def test_the_centre_of_a_ring_lies_on_it() -> None:
    x, y = centre(blob())
    assert blob()[int(y), int(x)]


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 50))
def test_sampled_frames_are_some_of_the_given_ones_in_order(total: int, count: int, seed: int) -> None:
    frames = list(range(0, 3 * total, 3))
    chosen = sample_frames(np.random.default_rng(seed), frames, count)
    assert len(chosen) == min(total, count)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(frames)


def test_sampled_objects_are_different_ones() -> None:
    chosen = sample_objects(np.random.default_rng(0), list(range(10)), 4)
    assert len(set(chosen)) == 4


def test_exchanges_have_the_wanted_form_and_only_possible_ones() -> None:
    turns = (Turn("Segment the ring.", "It is @1."), Turn("What colour is @1?", "Red."), Turn("Hm?", "Yes."))
    sample = Sample(picture(), {1: {0: MaskArray(blob())}}, turns)
    rng = np.random.default_rng(0)
    for form in FORMS:
        for exchange in sample_exchanges(rng, sample, {form: 1.0}, 5):
            assert exchange.form == form
            assert bool(exchange.shown) == (form not in (PLAIN, FIND))
            assert exchange.found or form != FIND
            assert exchange.history == turns[: [t.question for t in turns].index(exchange.question)]
    assert possible_forms(Sample(picture(), turns=(Turn("Hm?", "Yes."),))) == {PLAIN}
    with pytest.raises(ValueError, match="no exchange"):
        sample_exchanges(rng, Sample(picture(), turns=(Turn("Hm?", "Yes."),)), {DIRECT: 1.0}, 1)


def test_labels_become_requests_and_questions() -> None:
    sample = Sample(
        picture(), {i: {0: MaskArray(blob())} for i in (1, 2)}, (), {1: "Red ring", 2: "Where is the ring?"}
    )
    rng = np.random.default_rng(0)
    plain = {e.found[0]: e for e in sample_exchanges(rng, sample, {PLAIN: 1.0}, 5)}
    assert plain[1].question == "Please segment the red ring in this image."
    assert plain[1].answer == "The red ring is @1."
    assert (plain[2].question, plain[2].answer) == ("Where is the ring?", "It is @2.")
    (named_one,) = sample_exchanges(rng, Sample(sample.media, sample.masks, (), {1: "a ring"}), {MEMORY: 1.0}, 1)
    assert (named_one.question, named_one.answer) == ("What is @1?", "@1 is a ring.")


def test_run_lengths_are_values() -> None:
    assert RunLengths((2, 2), (1, 3)) == RunLengths((2, 2), (1, 3))
