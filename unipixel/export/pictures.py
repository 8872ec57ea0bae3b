"""Pictures and clips to look at or to edit: overlay, GIF, cut-outs, blurred and removed backgrounds.

Each function writes into a folder and returns the files; the receipt lies in the metadata of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from unipixel.export.receipt import receipt_text
from unipixel.export.take import Take
from unipixel.media import write_gif, write_png, write_video, write_webm
from unipixel.types import BoolArray
from unipixel.visualize import Picture, blur_background, cut_out, overlay, paint_background

WHITE = (255, 255, 255)


def write_overlay(take: Take, folder: Path) -> list[Path]:
    """`overlay.mp4` (a picture: `.png`): the masks in their colours over the frames, named `@id`."""
    return _write_shown(take, folder / "overlay", _overlaid(take))


def write_overlay_gif(take: Take, folder: Path) -> list[Path]:
    """`overlay.gif`: the same as an endless GIF."""
    return [write_gif(_overlaid(take), folder / "overlay.gif", take.fps, comment=receipt_text(take.receipt))]


def write_blurred(take: Take, folder: Path) -> list[Path]:
    """`background_blurred.mp4` (`.png`): everything but the objects out of focus."""
    return _write_shown(take, folder / "background_blurred", _with_background(take, blur_background))


def write_removed(take: Take, folder: Path) -> list[Path]:
    """`background_removed.mp4` (`.png`): everything but the objects white."""
    frames = _with_background(take, lambda frame, mask: paint_background(frame, mask, WHITE))
    return _write_shown(take, folder / "background_removed", frames)


def write_cutouts(take: Take, folder: Path) -> list[Path]:
    """`cutout/object_1/00000.png`, ...: each object alone on a transparent picture of the media's size.

    The files are numbered by the frames of the source; frames in which the object is not visible are left out.
    """
    comment, files = receipt_text(take.receipt), []
    for object_id in take.bank:
        (folder / "cutout" / f"object_{object_id}").mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(take.frames()):
        for object_id, mask in take.masks(t).items():
            if mask.any():
                path = folder / "cutout" / f"object_{object_id}" / f"{take.frame_indices[t]:05d}.png"
                files.append(write_png(cut_out(frame, mask), path, comment=comment))
    return files


def write_cutout_webm(take: Take, folder: Path) -> list[Path]:
    """`cutout.webm`: all objects together on a transparent background (VP9 with alpha)."""
    frames = _with_background(take, cut_out)
    return [write_webm(frames, folder / "cutout.webm", take.fps, comment=receipt_text(take.receipt))]


def _overlaid(take: Take) -> Iterator[Picture]:
    for t, frame in enumerate(take.frames()):
        yield overlay(frame, take.masks(t), take.colors, show_ids=True)


def _with_background(take: Take, change: Callable[[Picture, BoolArray], Picture]) -> Iterator[Picture]:
    for t, frame in enumerate(take.frames()):
        yield change(frame, take.together(t))


def _write_shown(take: Take, stem: Path, frames: Iterator[Picture]) -> list[Path]:
    comment = receipt_text(take.receipt)
    if take.media.is_image:
        return [write_png(next(frames), stem.with_suffix(".png"), comment=comment)]
    return [write_video(frames, stem.with_suffix(".mp4"), take.fps, comment=comment)]
