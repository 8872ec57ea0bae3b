"""What is taken away: frames with the masks of some objects on them, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unipixel.media import playback_fps, read_all_frames
from unipixel.memory import ObjectMemoryBank
from unipixel.types import BoolArray, Media, decode_rle
from unipixel.visualize import Color, Picture


@dataclass(frozen=True, eq=False)
class Take:
    """The objects of `bank` on the frames of `media`, with the receipt that says where they come from.

    With `every_frame` the masks lie on every frame of the source instead of the sampled ones. Masks stay run lengths
    and frames stay on disk: only what one frame needs is in memory. Raises ValueError if bank and media do not fit.
    """

    media: Media
    bank: ObjectMemoryBank
    receipt: Mapping[str, Any]
    every_frame: bool = False

    def __post_init__(self) -> None:
        check_fits(self.bank, self.media, self.every_frame)

    @cached_property
    def num_frames(self) -> int:
        for known in self.bank.objects:
            return len(known.counts)
        return sum(1 for _ in read_all_frames(self.media)) if self.every_frame else self.media.num_frames

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Which frame of the source each frame is."""
        return tuple(range(self.num_frames)) if self.every_frame else self.media.frame_indices

    @property
    def fps(self) -> float:
        """Frames a second at which a clip of these frames runs as fast as the source."""
        return self.media.fps if self.every_frame and self.media.fps > 0 else playback_fps(self.media)

    @property
    def colors(self) -> dict[int, Color]:
        return {object_id: known.color for object_id, known in self.bank.items()}

    @property
    def labels(self) -> dict[int, str]:
        """Names of the objects; "object" for those that have none."""
        return {object_id: known.label or "object" for object_id, known in self.bank.items()}

    def frames(self) -> Iterator[Picture]:
        """The frames, H x W x 3, in order."""
        yield from read_all_frames(self.media) if self.every_frame else self.media.frames

    def masks(self, t: int) -> dict[int, BoolArray]:
        """The masks on frame `t`, H x W bool by object id."""
        codes = {i: {"size": list(known.size), "counts": known.counts[t]} for i, known in self.bank.items()}
        return {object_id: decode_rle([code])[0] for object_id, code in codes.items()}

    def together(self, t: int) -> BoolArray:
        """All objects on frame `t` as one mask."""
        nothing = np.zeros((self.media.height, self.media.width), bool)
        return np.logical_or.reduce([nothing, *self.masks(t).values()])

    @property
    def name(self) -> str:
        """The media's name without its ending, for folders and lists."""
        return (Path(self.media.source).resolve().stem if self.media.source else "") or "media"

    def frame_name(self, t: int) -> str:
        """What lists call frame `t`: a picture's own name, `clip/00012.jpg` for the 13th frame of a clip's source."""
        if self.media.is_image and self.media.source:
            return Path(self.media.source).resolve().name
        return f"{self.name}/{self.frame_indices[t]:05d}.jpg"


def check_fits(bank: ObjectMemoryBank, media: Media, every_frame: bool = False) -> None:
    """Raise ValueError if the masks of `bank` do not lie on the (sampled) frames of `media`."""
    for known in bank.objects:
        if known.size != (media.height, media.width):
            raise ValueError(
                f"The objects were marked on {known.size[1]} x {known.size[0]} pixels, "
                f"this media has {media.width} x {media.height}."
            )
        if len(known.counts) != media.num_frames and not every_frame:
            raise ValueError(
                f"The objects were followed over {len(known.counts)} frames, this media has {media.num_frames}."
            )
