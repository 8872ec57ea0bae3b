"""An engine without a model: it sees flat colours, for tests of everything around the model."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from unipixel.correction import stretch
from unipixel.marks import excludes, says_absent
from unipixel.media import read_all_frames
from unipixel.memory import ObjectMemoryBank
from unipixel.types import (
    Answer,
    BoolArray,
    Box,
    Done,
    Event,
    FilledFrame,
    Masklet,
    Masklets,
    Media,
    Point,
    Prompt,
    Region,
    TextDelta,
    Turn,
)

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "white": (255, 255, 255),
    "grey": (120, 125, 135),
    "black": (0, 0, 0),
}
TOLERANCE = 60  # sum of channel differences within which a pixel has a colour


@dataclass(frozen=True, eq=False)
class FakePreview:
    mask: BoolArray
    score: float = 0.9
    alternatives: tuple[tuple[BoolArray, float], ...] = ()


def like(frame: np.ndarray, colour: Sequence[int] | np.ndarray) -> BoolArray:
    """H x W bool: the pixels of about this colour."""
    return np.abs(frame.astype(int) - np.array(colour)).sum(-1) < TOLERANCE


def colour_name(colour: Sequence[int] | np.ndarray) -> str:
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], colour, strict=True)))


def shape_name(mask: BoolArray) -> str:
    """By how much of its rectangle a shape fills: a square all, a disc pi / 4, a star less."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return "thing"
    filled = mask.sum() / ((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    return "square" if filled > 0.92 else "circle" if filled > 0.65 else "star"


class FakeEngine:
    """Same interface as `unipixel.engine.UniPixel`; an object is all pixels of the marked colour.

    "What is @1?" names colour and shape; "Segment the blue star" adds an object; "Talk for long" talks until stopped.
    """

    def __init__(self, word_seconds: float = 0.0) -> None:
        self.name, self.weights = "fake", "0123abcd"
        self.word_seconds = word_seconds
        self.calls: list[dict[str, object]] = []
        self.corrections: list[tuple[tuple[Prompt, ...], frozenset[int]]] = []

    def preview(self, media: Media, prompts: Sequence[Prompt]) -> Mapping[int, FakePreview]:
        frame = media.frames[prompts[0].frame]
        ids = dict.fromkeys(p.object_id or 1 for p in prompts)
        own = {i: [p for p in prompts if p.object_id == i] for i in ids}
        masks = {i: like(frame, _marked_colour(media, marks)) for i, marks in own.items()}
        return {i: FakePreview(mask, alternatives=((~mask, 0.4),)) for i, mask in masks.items()}

    def track(
        self,
        media: Media,
        prompts: Sequence[Prompt],
        *,
        every_frame: bool = False,
        memory: ObjectMemoryBank | None = None,
        stop: threading.Event | None = None,
    ) -> Mapping[int, Masklet]:
        if every_frame:
            frames = np.stack(list(read_all_frames(media)))
            prompts = [replace(p, frame=media.frame_indices[p.frame]) for p in prompts]
            media = Media(frames, tuple(range(len(frames))), media.fps)
        return {i: _track(media, i, prompts) for i in dict.fromkeys(p.object_id for p in prompts if p.object_id)}

    def correct(
        self,
        media: Media,
        masklet: Masklet,
        prompts: Sequence[Prompt],
        *,
        anchors: Collection[int] = (),
        retrack: bool = True,
        stop: threading.Event | None = None,
    ) -> Masklet:
        """A click takes in, or out, all pixels of its colour, on the frames up to the nearest anchors."""
        self.corrections.append((tuple(prompts), frozenset(anchors)))
        masks, scores = masklet.masks.copy(), masklet.scores.copy()
        marked = {p.frame for p in prompts}
        for t in stretch(marked, anchors, len(masks)) if retrack else marked:
            for p in prompts:
                if isinstance(p, Point):
                    here = like(media.frames[t], media.frames[p.frame][int(p.xy[1]), int(p.xy[0])])
                    masks[t] = masks[t] | here if p.label else masks[t] & ~here
                elif isinstance(p, Region) and t == p.frame:
                    masks[t], scores[t] = p.mask, 1
        return Masklet(masklet.object_id, masks, scores, masklet.label)

    def fill(
        self, media: Media, masklets: Sequence[Masklet], stop: threading.Event | None = None
    ) -> Iterator[FilledFrame]:
        frames = list(read_all_frames(media))
        seen = [np.median(media.frames[0][m.masks[0]], axis=0) for m in masklets]
        for t, frame in enumerate(frames):
            if stop is not None and stop.is_set():
                return
            time.sleep(self.word_seconds)
            masks = np.stack([like(frame, colour) for colour in seen])
            yield FilledFrame(t, len(frames), masks, np.full(len(masklets), 0.9, np.float32))

    def stream(
        self,
        media: Media,
        question: str,
        *,
        prompts: Sequence[Prompt] = (),
        memory: ObjectMemoryBank | None = None,
        history: Sequence[Turn] = (),
        max_new_tokens: int = 256,
        stop: threading.Event | None = None,
    ) -> Iterator[Event]:
        self.calls.append({"question": question, "prompts": prompts, "memory": memory, "history": history})
        if "broken" in question:
            raise RuntimeError("secret detail")
        if "impossible" in question:
            raise ValueError("That cannot be asked.")
        bank = ObjectMemoryBank() if memory is None else memory  # an empty bank still knows removed ids
        found = {i: _track(media, i, prompts) for i in dict.fromkeys(p.object_id for p in prompts if p.object_id)}
        for masklet in found.values():
            bank = bank.with_object(masklet, origin="point")
        if found:
            yield Masklets(found)
        text, wanted = self._reply(media, question, bank)
        if wanted is not None:
            found[wanted.object_id] = wanted
        said = ""
        for word in re.findall(r"\S+\s*", text)[:max_new_tokens]:
            if stop is not None and stop.is_set():
                break
            said += word
            yield TextDelta(word)
            time.sleep(self.word_seconds)
        cancelled = stop is not None and stop.is_set()
        if wanted is not None and not cancelled:
            bank = bank.with_object(wanted, origin="text")
            yield Masklets({wanted.object_id: wanted})
        yield Done(Answer(said, (), found, bank, cancelled=cancelled))

    def _reply(self, media: Media, question: str, bank: ObjectMemoryBank) -> tuple[str, Masklet | None]:
        if "for long" in question:
            return "word " * 200, None
        wanted = re.search(r"[Ss]egment the (\w+)", question)
        if wanted and wanted[1] in COLOURS:
            object_id = bank.next_id()
            masks = np.stack([like(frame, COLOURS[wanted[1]]) for frame in media.frames])
            scores = np.where(np.arange(len(masks)) == 5, 0.3, 0.9)  # unsure on the sixth frame
            return f"It is @{object_id}.", Masklet(object_id, masks, scores)
        if question.startswith("When"):
            return "From frame 3 to 6.", None
        if not bank:
            return "There is nothing marked.", None
        asked = re.search(r"@(\d+)", question)
        object_id = int(asked[1]) if asked else max(bank)
        masks = bank[object_id].masks
        frame = int(masks.sum((1, 2)).argmax())
        colour = np.median(media.frames[frame][masks[frame]], axis=0)
        return f"@{object_id} is a {colour_name(colour)} {shape_name(masks[frame])}.", None


def _marked_colour(media: Media, prompts: Sequence[Prompt]) -> np.ndarray:
    """The colour under the first mark that includes something."""
    mark = next(p for p in prompts if not excludes(p))
    frame = media.frames[mark.frame]
    if isinstance(mark, Region):
        return np.median(frame[mark.mask], axis=0)
    if isinstance(mark, Box):
        x1, y1, x2, y2 = mark.xyxy
        return frame[int((y1 + y2) / 2), int((x1 + x2) / 2)]
    return frame[int(mark.xy[1]), int(mark.xy[0])]


def _track(media: Media, object_id: int, prompts: Sequence[Prompt]) -> Masklet:
    own = [p for p in prompts if p.object_id == object_id]
    colour = _marked_colour(media, own)
    masks = np.stack([like(frame, colour) for frame in media.frames])
    masks[[p.frame for p in own if says_absent(p)]] = False
    return Masklet(object_id, masks)


def draw_scene(height: int = 240, width: int = 320, shift: int = 0) -> np.ndarray:
    """A red circle, a blue square and a yellow star on grey; `shift` moves the circle right and the square up."""
    frame = np.full((height, width, 3), COLOURS["grey"], np.uint8)
    cv2.circle(frame, (70 + shift, 80), 36, COLOURS["red"], -1)
    cv2.rectangle(frame, (210, 130 - shift // 2), (270, 190 - shift // 2), COLOURS["blue"], -1)
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 14, 36)
    star = np.stack([90 + radii * np.cos(angles), 185 + radii * np.sin(angles)], 1)
    cv2.fillPoly(frame, [star.round().astype(np.int32)], COLOURS["yellow"])
    return frame


def draw_clip(num_frames: int = 8) -> np.ndarray:
    """T x H x W x 3: the scene with things moving."""
    return np.stack([draw_scene(shift=6 * t) for t in range(num_frames)])
