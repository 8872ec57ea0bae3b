"""How a mask is stored: run lengths, polygons, pictures, arrays. Each is a value that reads as H x W bool.

`parse_mask` makes one from what annotation files hold; `edges` and `encode_rle` go the other way. COCO's conventions
(run lengths in column order, polygon corners on pixel edges) are those of pycocotools, which does the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from unipixel.types import BoolArray

_COCO: Any = coco_mask  # its annotations know one of the forms that its functions take
Ring = tuple[float, ...]  # x1, y1, x2, y2, ... in pixels

FORMS = (
    "COCO run lengths {size, counts}, polygons [[x, y, x, y, ...], ...], {polygons, holes}, a PNG's name, "
    "{file, index} for one object of an indexed PNG, or null"
)


@dataclass(frozen=True)
class RunLengths:
    """COCO run lengths of an H x W mask, `counts` compressed (text) or plain (numbers, background first)."""

    size: tuple[int, int]
    counts: str | tuple[int, ...]

    def read(self, height: int, width: int) -> BoolArray:
        """The mask, H x W bool; ValueError if it is damaged or of another size."""
        _check_size("The run lengths hold", self.size, height, width)
        if not isinstance(self.counts, str) and (sum(self.counts) != height * width or min(self.counts) < 0):
            raise ValueError(f"The run lengths of a mask add up to {sum(self.counts)}, not {height} x {width} pixels.")
        try:
            code = {"size": list(self.size), "counts": self.counts}
            if not isinstance(self.counts, str):
                code = _COCO.frPyObjects({**code, "counts": list(self.counts)}, height, width)
            decoded = _COCO.decode([code])[..., 0]
        except Exception as error:
            raise ValueError("The run-length encoding of a mask is damaged.") from error
        return np.ascontiguousarray(decoded).astype(bool)


@dataclass(frozen=True)
class Polygons:
    """The area inside any of `rings` and outside all `holes`."""

    rings: tuple[Ring, ...]
    holes: tuple[Ring, ...] = ()

    def read(self, height: int, width: int) -> BoolArray:
        """The mask, H x W bool, drawn as COCO draws polygons."""
        inside = _fill(self.rings, height, width)
        return inside & ~_fill(self.holes, height, width) if self.holes else inside


@dataclass(frozen=True)
class MaskFile:
    """A picture of the media's size: without `index` all that is not black (or transparent), else the pixels of one
    palette entry or grey level, as DAVIS and YouTube-VOS store several objects in one PNG.
    """

    path: Path
    index: int | None = None

    def read(self, height: int, width: int) -> BoolArray:
        """The mask, H x W bool; ValueError if the file is missing, no picture, or of another size."""
        try:
            with Image.open(self.path) as picture:
                mask = _marked(picture) if self.index is None else _levels(picture) == self.index
        except FileNotFoundError:
            raise ValueError(f"There is no mask file {self.path.name}.") from None
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"The mask file {self.path.name} is no picture that can be read.") from error
        _check_size(f"The mask file {self.path.name} holds", mask.shape, height, width)
        return mask


@dataclass(frozen=True, eq=False)
class MaskArray:
    """A mask in memory, H x W bool."""

    mask: BoolArray

    def read(self, height: int, width: int) -> BoolArray:
        """The mask itself."""
        _check_size("The mask holds", self.mask.shape, height, width)
        return self.mask


MaskSource = RunLengths | Polygons | MaskFile | MaskArray


def parse_mask(value: Any, folder: Path) -> MaskSource:
    """A mask as annotation files write it; files are looked for in `folder`. ValueError says which forms there are."""
    if isinstance(value, str):
        return MaskFile(folder / value)
    if isinstance(value, Mapping):
        if isinstance(value.get("file"), str):
            return MaskFile(folder / value["file"], _whole(value.get("index")))
        if "counts" in value and "size" in value:
            height, width = (_whole(side) or 0 for side in value["size"])
            counts = value["counts"]
            return RunLengths((height, width), counts if isinstance(counts, str) else tuple(map(int, counts)))
        if "polygons" in value:
            return Polygons(_rings(value["polygons"]), _rings(value.get("holes", ())))
    elif isinstance(value, Sequence) and len(value):
        return Polygons(_rings([value] if isinstance(value[0], int | float) else value))
    raise ValueError(f"A mask must be {FORMS}, not {type(value).__name__}.")


def edges(mask: BoolArray) -> Polygons:
    """The outline of an H x W mask along pixel edges: reading it gives exactly `mask` back.

    Every horizontal run of pixels is one rectangle; runs of equal extent on neighbouring rows are joined.
    """
    padded = np.pad(mask, ((0, 1), (1, 1))).astype(np.int8)
    rings: list[Ring] = []
    open_runs: dict[tuple[int, int], int] = {}  # (first column, end column) -> first row
    for y, row in enumerate(padded):
        steps = np.diff(row)
        runs = set(zip(np.flatnonzero(steps > 0).tolist(), np.flatnonzero(steps < 0).tolist()))
        for run in set(open_runs) - runs:
            (x1, x2), y1 = run, open_runs.pop(run)
            rings.append(tuple(map(float, (x1, y1, x2, y1, x2, y, x1, y))))
        open_runs |= dict.fromkeys(runs - set(open_runs), y)
    return Polygons(tuple(rings))


def _fill(rings: Sequence[Ring], height: int, width: int) -> BoolArray:
    if not rings:
        return np.zeros((height, width), bool)
    codes = _COCO.frPyObjects([list(ring) for ring in rings], height, width)
    return _COCO.decode([_COCO.merge(codes)])[..., 0].astype(bool)


def _rings(values: Any) -> tuple[Ring, ...]:
    """Rings written flat (x, y, x, y) or as pairs ([x, y], [x, y])."""
    rings = []
    for value in values:
        try:
            ring = tuple(np.asarray(value, np.float64).reshape(-1).tolist())
        except (TypeError, ValueError):
            ring = ()
        if len(ring) < 6 or len(ring) % 2 or not np.isfinite(ring).all():
            raise ValueError("A polygon needs at least three corners: [x, y, x, y, x, y, ...].")
        rings.append(ring)
    return tuple(rings)


def _whole(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"A mask's size and index must be whole numbers, not {value!r}.")


def _levels(picture: Image.Image) -> np.ndarray:
    """Palette entries, or grey levels of a picture without a palette."""
    return np.asarray(picture if picture.mode in ("P", "L", "I;16", "I") else picture.convert("L"))


def _marked(picture: Image.Image) -> BoolArray:
    """H x W bool: what is neither black nor transparent (entry 0 of a palette is background)."""
    if picture.mode in ("P", "L", "1", "I;16", "I"):
        return np.asarray(picture) > 0
    values = np.asarray(picture.convert("RGBA"))
    return (values[..., :3].max(-1) > 0) & (values[..., 3] > 0)


def _check_size(what: str, size: Sequence[int], height: int, width: int) -> None:
    if tuple(size) != (height, width):
        raise ValueError(f"{what} {size[1]} x {size[0]} pixels, the picture has {width} x {height}.")
