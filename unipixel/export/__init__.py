"""Taking results away: masks, clips, tables and the memory bank as files, each with a receipt.

take = Take(media, answer.memory, make_receipt(model, media))
write_exports(take, ["coco", "davis"], Path("out"))
write_archive(take, ["all"], Path("out/ball.zip"))
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unipixel.export.archive import write_zip
from unipixel.export.datasets import write_coco, write_davis, write_frames, write_youtube_vis
from unipixel.export.pictures import (
    write_blurred,
    write_cutout_webm,
    write_cutouts,
    write_overlay,
    write_overlay_gif,
    write_removed,
)
from unipixel.export.receipt import make_receipt
from unipixel.export.tables import describe_object, load_bank, write_bank, write_boxes
from unipixel.export.take import Take

__all__ = [
    "FORMATS",
    "Format",
    "Take",
    "describe_object",
    "load_bank",
    "make_receipt",
    "read_names",
    "write_archive",
    "write_exports",
    "write_one",
    "write_zip",
]


@dataclass(frozen=True)
class Format:
    """One kind of file: what it is, how it is written, whether only clips or only sampled frames have it."""

    title: str
    write: Callable[[Take, Path], list[Path]]
    clips_only: bool = False
    sampled_only: bool = False
    carries_receipt: bool = True  # inside its files


FORMATS: dict[str, Format] = {
    "overlay": Format("Masks over the picture (MP4, PNG)", write_overlay),
    "gif": Format("Masks over the picture as GIF", write_overlay_gif, clips_only=True),
    "cutout": Format("Objects cut out (transparent PNGs)", write_cutouts),
    "webm": Format("Objects cut out (transparent WebM)", write_cutout_webm, clips_only=True),
    "blur": Format("Background blurred (MP4, PNG)", write_blurred),
    "remove": Format("Background removed (MP4, PNG)", write_removed),
    "coco": Format("COCO (JSON)", write_coco),
    "ytvis": Format("YouTube-VIS (JSON)", write_youtube_vis),
    "davis": Format("DAVIS (indexed PNGs)", write_davis),
    "frames": Format("The frames (JPEG)", write_frames, clips_only=True),
    "csv": Format("Boxes (CSV)", write_boxes, carries_receipt=False),
    "bank": Format("Objects to go on with (JSON)", write_bank, sampled_only=True),
}


def read_names(text: str, is_image: bool, every_frame: bool = False) -> list[str]:
    """Names of formats from "coco,davis" or "all".

    Raises ValueError for what is unknown, not to be had from a picture, or not of every frame of the source.
    """
    offered = [
        name
        for name, how in FORMATS.items()
        if not (how.clips_only and is_image) and not (how.sampled_only and every_frame)
    ]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return offered
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"There is no export {name[:40]!r}; there are all, {', '.join(FORMATS)}.")
        if name not in offered and FORMATS[name].sampled_only:
            raise ValueError(f"The export {name} holds the sampled frames, it cannot be had of every frame.")
        if name not in offered:
            raise ValueError(f"The export {name} needs a clip, not a single picture.")
    return list(dict.fromkeys(names))


def write_exports(take: Take, names: Iterable[str], folder: Path) -> list[Path]:
    """Write the formats `names` and `receipt.json` into `folder`; returns the files."""
    return [file for files in _written(take, names, folder) for file in files]


def write_archive(take: Take, names: Iterable[str], path: Path) -> Path:
    """Write the formats `names` and `receipt.json` into one ZIP; on the way each format lies on disk only once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return write_zip(_written(take, names, Path(folder)), Path(folder), path)


def write_one(take: Take, names: Sequence[str], folder: Path) -> Path:
    """The formats `names` as one file in `folder`: as it is if there is one that carries its receipt, else a ZIP."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(names) == 1 and FORMATS[names[0]].carries_receipt:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            files = FORMATS[names[0]].write(take, Path(place))
            if len(files) == 1 and files[0].parent == Path(place):
                return files[0].replace(folder / files[0].name)
    return write_archive(take, names, folder / f"{take.name}-{names[0] if len(names) == 1 else 'export'}.zip")


def _written(take: Take, names: Iterable[str], folder: Path) -> Iterator[list[Path]]:
    """The files of each format, written when they are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        yield FORMATS[name].write(take, folder)
    receipt = folder / "receipt.json"
    receipt.write_text(json.dumps(dict(take.receipt), indent=2) + "\n", encoding="utf-8")
    yield [receipt]
