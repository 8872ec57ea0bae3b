"""Values into what the page shows: text that stays text, mask layers, the object list, result files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from unipixel import media as media_files
from unipixel import visualize
from unipixel.memory import Color, MemoryObject, ObjectMemoryBank
from unipixel.types import BoolArray, Masklet, Media, decode_rle
from unipixel.web.gpu import Rle
from unipixel.web.store import StoredMedia, shown_size

THUMBNAIL = 72  # pixels of a thumbnail's sides

UNCERTAIN = 0.5  # a mask whose score is below may be wrong
ORIGINS = {"point": "clicked", "box": "boxed", "region": "drawn", "text": "found by words"}

_PLAIN = re.compile(r"[^A-Za-z0-9 \u00a0-\U0010ffff]")


def css_color(color: Sequence[int]) -> str:
    red, green, blue = (int(v) for v in color)
    return f"#{red:02x}{green:02x}{blue:02x}"


def palette() -> list[str]:
    """Colours of the objects 1, 2, ... before they repeat, for objects the browser makes up itself."""
    return [css_color(visualize.color_of(i)) for i in range(1, len(visualize.PALETTE) + 1)]


# ------------------------------------------------------------------------------------------------- text


def literal(text: str) -> str:
    """HTML that shows `text` exactly; every ASCII sign is a character reference, so Markdown finds nothing to do."""
    escaped = _PLAIN.sub(lambda match: f"&#{ord(match[0])};", text)
    return escaped.replace("&#13;&#10;", "<br>").replace("&#10;", "<br>").replace("&#13;", "<br>")


def notice(text: str, *, error: bool = False) -> str:
    """The line under the question box; an error is announced by screen readers at once."""
    if not text:
        return ""
    role, kind = ("alert", "up-error") if error else ("status", "up-info")
    return f'<p class="up-notice {kind}" role="{role}">{literal(text)}</p>'


# ------------------------------------------------------------------------------------------------- masks and objects


def mask_layers(codes: Mapping[int, Mapping[int, Rle]], bank: ObjectMemoryBank) -> dict[str, dict[str, str]]:
    """Pictures of masks by frame and object id, as the canvas takes them: `{frame: {id: data URI}}`."""
    layers: dict[str, dict[str, str]] = {}
    for object_id, frames in codes.items():
        color = bank[object_id].color if object_id in bank else visualize.color_of(object_id)
        for frame, rle in frames.items():
            uri = _layer(tuple(rle["size"]), rle["counts"], tuple(color))
            if uri:
                layers.setdefault(str(frame), {})[str(object_id)] = uri
    return layers


def bank_codes(bank: ObjectMemoryBank) -> dict[int, dict[int, Rle]]:
    """Run-length codes of a bank: object id -> frame -> code."""
    return {object_id: dict(enumerate(item.rles)) for object_id, item in bank.items()}


@lru_cache(maxsize=2048)  # unchanged objects are not drawn again at every update
def _layer(size: tuple[int, int], counts: str, color: tuple[int, int, int]) -> str:
    """One mask as a PNG data URI with a transparent background; "" for an empty mask."""
    mask = decode_rle([{"size": list(size), "counts": counts}])[0]
    if not mask.any():
        return ""
    mask = _resize_mask(mask, *shown_size(*mask.shape))
    return _data_uri(visualize.overlay_png({1: mask}, {1: color}, *mask.shape), "image/png")


def _resize_mask(mask: BoolArray, height: int, width: int) -> BoolArray:
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def object_items(
    bank: ObjectMemoryBank, stored: StoredMedia | None, anchors: Mapping[int, Collection[int]] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """The object list: id, colour, name, thumbnail, origin, where it is visible, and the first frame that shows it.

    `strip` has one sign a frame: "0" not visible, "1" visible, "2" uncertain; `anchors` are its marked frames.
    """
    if stored is None:
        return []
    return [_object_item(i, item, stored.media, sorted(anchors.get(i, ()))) for i, item in bank.items()]


def strip(item: MemoryObject, anchors: Collection[int] = ()) -> str:
    """One sign a frame: "0" not visible, "1" visible, "2" visible with a score below `UNCERTAIN` and not an anchor."""
    unsure = [score < UNCERTAIN and t not in anchors for t, score in enumerate(item.scores)]
    return "".join("0" if not seen else "12"[doubt] for seen, doubt in zip(item.visible, unsure))


def _object_item(object_id: int, item: MemoryObject, media: Media, anchors: list[int]) -> dict[str, Any]:
    spans = item.visible_spans()
    first = spans[0][0] if spans else None
    return {
        "id": object_id,
        "color": css_color(item.color),
        "label": item.label,
        "thumb": "" if first is None else _thumbnail(media.frames[first], item.rles[first]),
        "seen": describe_spans(spans, media.num_frames),
        "first": first,
        "origin": ORIGINS.get(item.origin, ""),
        "strip": strip(item, anchors),
        "anchors": anchors,
    }


def describe_spans(spans: Sequence[tuple[int, int]], num_frames: int) -> str:
    """Where an object is visible, in words; frames are counted from 1 as under the scrubber."""
    if not spans:
        return "not visible"
    if num_frames == 1:
        return ""
    if spans == [(0, num_frames - 1)]:
        return "all frames"
    parts = [f"{a + 1}" if a == b else f"{a + 1}–{b + 1}" for a, b in spans]
    return ("frame " if len(parts) == 1 and spans[0][0] == spans[0][1] else "frames ") + ", ".join(parts)


def _thumbnail(frame: np.ndarray, rle: Rle) -> str:
    return picture_uri(visualize.thumbnail(frame, decode_rle([rle])[0], THUMBNAIL), THUMBNAIL)


def picture_uri(frame: np.ndarray, side: int) -> str:
    """A small JPEG of `frame` (H x W x 3 uint8) as a data URI, at most `side` pixels long."""
    image = Image.fromarray(frame)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _data_uri(buffer.getvalue(), "image/jpeg")


# ------------------------------------------------------------------------------------------------- result files


def write_result(stored: StoredMedia, bank: ObjectMemoryBank, ids: Collection[int], name: str) -> tuple[str, str]:
    """Draw the objects `ids` over the media; returns (file for the chat, file to save).

    A clip gives an MP4 and a GIF, a picture one PNG for both.
    """
    items = {object_id: bank[object_id] for object_id in sorted(ids) if object_id in bank}
    colors = {object_id: item.color for object_id, item in items.items()}
    frames = _shown_frames(stored.media)
    masklets = {object_id: _shown_masklet(item.masklet, stored.media) for object_id, item in items.items()}
    if stored.media.is_image:
        path = stored.folder / f"{name}.png"
        masks = {object_id: masklet.masks[0] for object_id, masklet in masklets.items()}
        media_files.write_png(visualize.overlay(next(frames), masks, colors), path)
        return str(path), str(path)
    drawn = list(visualize.overlay_clip(frames, masklets, colors))
    video, gif = stored.folder / f"{name}.mp4", stored.folder / f"{name}.gif"
    fps = media_files.playback_fps(stored.media)
    media_files.write_video(drawn, video, fps)
    media_files.write_gif(drawn, gif, fps)
    return str(video), str(gif)


def write_film(stored: StoredMedia, codes: Sequence[Mapping[int, Rle]], colors: Mapping[int, Color], name: str) -> str:
    """Draw masks of every frame of the source over it, at its own rate; returns the path of the MP4."""
    path = stored.folder / f"{name}.mp4"
    size = shown_size(stored.media.height, stored.media.width)

    def drawn() -> Iterator[np.ndarray]:
        for frame, rles in zip(media_files.read_all_frames(stored.media), codes):
            masks = {i: _resize_mask(decode_rle([rle])[0], *size) for i, rle in rles.items()}
            yield visualize.overlay(_resize_frame(frame, *size), masks, colors)

    media_files.write_video(drawn(), path, stored.media.fps or media_files.playback_fps(stored.media))
    return str(path)


def file_data(path: str) -> dict[str, Any]:
    """A file as a widget's prop: Gradio gives it a URL."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _shown_frames(media: Media) -> Iterator[np.ndarray]:
    height, width = shown_size(media.height, media.width)
    for frame in media.frames:
        yield _resize_frame(frame, height, width)


def _resize_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    same = frame.shape[:2] == (height, width)
    return frame if same else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def _shown_masklet(masklet: Masklet, media: Media) -> Masklet:
    size = shown_size(media.height, media.width)
    masks = np.stack([_resize_mask(mask, *size) for mask in masklet.masks])
    return Masklet(masklet.object_id, masks, masklet.scores, masklet.label)
