"""What there is to learn from, as plain values: a `Sample`, a `Task` (a list of samples), a `Mixture` of tasks.

Nothing here reads a file before it is asked to, and nothing is random: `samplers.py` chooses.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from unipixel.data.masks import MaskSource
from unipixel.grammar import MAX_OBJECTS, mentioned_ids
from unipixel.media import load_media, read_frames, sample_indices
from unipixel.types import BoolArray, Media, Turn

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture or clip, its objects' masks, and what is said about them.

    `media` is a file, a folder or list of frames, or frames in memory. `masks` maps object ids to masks by frame of the
    source (a picture has only frame 0); on a frame that has a mask of any object, an object without one is not visible.
    Turns name objects `@1`: one in a question was marked by the person who asks, one that first comes up in an answer
    is found by the model. Without turns, `labels` name the objects ("the red ball", "whoever is running").
    """

    media: Path | tuple[Path, ...] | Media
    masks: Mapping[int, Mapping[int, MaskSource]] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        spoken = [{*mentioned_ids(turn.question), *mentioned_ids(turn.answer)} for turn in self.turns]
        missing = sorted(set(self.labels).union(*spoken) - set(self.masks))
        problem = ""
        if missing:
            problem = f"@{missing[0]} is spoken of but has no mask"
        elif not self.turns and not self.labels:
            problem = "it has neither turns nor labels, so there is nothing to learn from it"
        elif any(len(ids) > MAX_OBJECTS for ids in spoken):
            problem = f"a turn names more than {MAX_OBJECTS} objects"
        if problem:
            raise ValueError(f"{self.name or 'A sample'}: {problem}.")

    @property
    def is_clip(self) -> bool:
        """Whether it has several frames, as far as can be told without reading it."""
        if isinstance(self.media, Media):
            return not self.media.is_image
        if isinstance(self.media, tuple):
            return len(self.media) > 1
        return self.media.suffix.lower() not in PICTURES

    @property
    def annotated(self) -> tuple[int, ...]:
        """The frames of the source that have masks, ascending."""
        return tuple(sorted({t for masks in self.masks.values() for t in masks}))

    def read_frames(self, frames: Sequence[int]) -> Media:
        """The given frames of the source (ascending); ValueError if it has fewer."""
        if not isinstance(self.media, Media):
            return read_frames(self.media, frames)
        kept = [self.media.frame_indices.index(t) for t in frames]
        return Media(self.media.frames[kept], tuple(frames), self.media.fps)

    def read_evenly(self, count: int) -> Media:
        """At most `count` frames, evenly spread over the annotated ones (over all, without masks)."""
        if known := self.annotated:
            return self.read_frames([known[i] for i in sample_indices(len(known), count)])
        if isinstance(self.media, Media):
            return self.read_frames([self.media.frame_indices[i] for i in sample_indices(len(self.media), count)])
        return load_media(self.media, count)

    def read_masks(self, object_ids: Sequence[int], media: Media) -> BoolArray:
        """N x T x H x W bool: the masks of N objects on the frames of `media`; ValueError if one does not fit."""
        masks = np.zeros((len(object_ids), *media.frames.shape[:3]), bool)
        for n, object_id in enumerate(object_ids):
            for t, frame in enumerate(media.frame_indices):
                if (source := self.masks[object_id].get(frame)) is not None:
                    try:
                        masks[n, t] = source.read(media.height, media.width)
                    except ValueError as error:
                        raise ValueError(f"{self.name or 'A sample'}, @{object_id}, frame {frame}: {error}") from error
        return masks


@dataclass(frozen=True, eq=False)
class Task:
    """Samples of one origin under one name; where they come from is the reader's business."""

    name: str
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Several tasks as one endless sequence: every round holds each sample once, in an order of its own.

    A task listed twice comes up twice as often. Number `n` of the sequence depends on `seed` and `n` alone, so a run
    that was stopped goes on with what it has not seen.
    """

    tasks: tuple[Task, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError("There is no sample to learn from.")

    def __len__(self) -> int:
        """How many samples a round has."""
        return sum(map(len, self.tasks))

    def __getitem__(self, n: int) -> Sample:
        """Number `n` (0, 1, ... without end) of the sequence."""
        cycle, place = divmod(n, len(self))
        if cycle not in self._orders:
            # Draws of one step can lie on both sides of a round's end.
            self._orders.pop(cycle - 2, None)
            self._orders[cycle] = np.random.default_rng([self.seed, cycle]).permutation(len(self))
        k = int(self._orders[cycle][place])
        ends = list(itertools.accumulate(map(len, self.tasks)))
        task = bisect.bisect_right(ends, k)
        return self.tasks[task].samples[k - ends[task] + len(self.tasks[task])]

    @cached_property
    def _orders(self) -> dict[int, np.ndarray]:
        return {}
