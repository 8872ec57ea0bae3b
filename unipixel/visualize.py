"""Draw masks and marks: pure functions from pictures (uint8 H x W x 3, RGB) to new pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unipixel.memory import PALETTE, Color, color_of
from unipixel.types import BoolArray, Box, Masklet, Point, Prompt, Region

__all__ = [
    "PALETTE",
    "Color",
    "blur_background",
    "color_of",
    "cut_out",
    "draw_prompts",
    "overlay",
    "overlay_clip",
    "overlay_png",
    "paint_background",
    "thumbnail",
]

Picture = NDArray[np.uint8]
Colors = Mapping[int, Color]

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_OUTSIDE_BRIGHTNESS = 0.35  # of a thumbnail's pixels that are not the object


def _check_picture(frame: Picture) -> Picture:
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"A picture must be uint8 H x W x 3, not {frame.dtype} of shape {frame.shape}.")
    return frame


def _as_bytes(mask: BoolArray, height: int, width: int) -> NDArray[np.uint8]:
    """`mask` as the 0/1 bytes OpenCV wants; ValueError unless it is bool and of the picture's size."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != (height, width):
        raise ValueError(
            f"A mask must be bool of the picture's size ({height} x {width}), not {mask.dtype} of shape {mask.shape}."
        )
    return np.ascontiguousarray(mask).view(np.uint8)


def _pick(colors: Colors | None, object_id: int) -> Color:
    return (colors or {}).get(object_id, color_of(object_id))


def _line_width(height: int, width: int) -> int:
    return max(1, round(min(height, width) / 300))


def _contours(mask: NDArray[np.uint8]) -> Sequence[NDArray[np.int32]]:
    return cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]  # pyright: ignore[reportReturnType]


def _paint(out: Picture, mask: NDArray[np.uint8], color: Color, alpha: float, line_width: int) -> None:
    """Tint `mask`'s pixels of `out` in place and draw its outline; only the mask's rectangle is touched."""
    x, y, w, h = cv2.boundingRect(mask)
    if not w:
        return
    part, part_mask = out[y : y + h, x : x + w], mask[y : y + h, x : x + w]
    tint = cv2.addWeighted(part, 1 - alpha, np.full_like(part, color), alpha, 0)
    cv2.copyTo(tint, part_mask, part)
    if line_width:
        cv2.drawContours(part, _contours(part_mask), -1, color, line_width, cv2.LINE_AA)


def overlay(
    frame: Picture,
    masks: Mapping[int, BoolArray],
    colors: Colors | None = None,
    alpha: float = 0.5,
    *,
    outline: bool = True,
    show_ids: bool = False,
) -> Picture:
    """A copy of `frame` with each object's mask (H x W bool, by id) tinted, outlined, and named `@id` if wanted."""
    out = _check_picture(frame).copy()
    height, width = out.shape[:2]
    line_width = _line_width(height, width) if outline else 0
    parts = {object_id: _as_bytes(mask, height, width) for object_id, mask in masks.items()}
    for object_id, mask in parts.items():
        _paint(out, mask, _pick(colors, object_id), alpha, line_width)
    if show_ids:
        for object_id, mask in parts.items():
            _write_id(out, mask, object_id, _pick(colors, object_id))
    return out


def _write_id(out: Picture, mask: NDArray[np.uint8], object_id: int, color: Color) -> None:
    """Write `@id` on the object's innermost place, black or white on its colour."""
    x, y, w, h = cv2.boundingRect(mask)
    if not w:
        return
    inside = cv2.distanceTransform(cv2.copyMakeBorder(mask[y : y + h, x : x + w], 1, 1, 1, 1, 0), cv2.DIST_L1, 3)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    scale = max(0.4, min(out.shape[:2]) / 900)
    thickness = max(1, round(scale * 1.5))
    text = f"@{object_id}"
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = 3
    left = int(np.clip(x + column - text_width // 2, pad, max(pad, out.shape[1] - text_width - pad)))
    bottom = int(np.clip(y + row + text_height // 2, text_height + pad, max(text_height + pad, out.shape[0] - pad)))
    cv2.rectangle(out, (left - pad, bottom - text_height - pad), (left + text_width + pad, bottom + pad), color, -1)
    ink = _BLACK if np.dot(color, (0.299, 0.587, 0.114)) > 140 else _WHITE
    cv2.putText(out, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA)


def overlay_clip(
    frames: Iterable[Picture],
    masklets: Mapping[int, Masklet],
    colors: Colors | None = None,
    alpha: float = 0.5,
    *,
    show_ids: bool = False,
) -> Iterator[Picture]:
    """Each frame with its masks; ValueError if there are more frames than a masklet has masks."""
    for t, frame in enumerate(frames):
        short = next((m for m in masklets.values() if t >= len(m.masks)), None)
        if short is not None:
            raise ValueError(f"Object @{short.object_id} has masks for {len(short.masks)} frames only.")
        masks = {object_id: masklet.masks[t] for object_id, masklet in masklets.items()}
        yield overlay(frame, masks, colors, alpha, show_ids=show_ids)


def draw_prompts(frame: Picture, prompts: Iterable[Prompt], colors: Colors | None = None) -> Picture:
    """A copy of `frame` with the marks on it: clicks as discs with + or -, boxes, regions as tinted areas.

    The caller picks the marks of this frame; marks without an object have the first object's colour.
    """
    out = _check_picture(frame).copy()
    height, width = out.shape[:2]
    line_width = _line_width(height, width)
    for prompt in prompts:
        color = _pick(colors, 1 if prompt.object_id is None else prompt.object_id)
        if isinstance(prompt, Point):
            _draw_point(out, prompt, color)
        elif isinstance(prompt, Box):
            # The box's far edges are one past its last pixel.
            x1, y1, x2, y2 = (round(v) for v in prompt.xyxy)
            cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), _WHITE, line_width + 2)
            cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), color, line_width)
        elif isinstance(prompt, Region):
            _paint(out, _as_bytes(prompt.mask, height, width), color, 0.5, line_width)
    return out


def _draw_point(out: Picture, point: Point, color: Color) -> None:
    radius = max(4, round(min(out.shape[:2]) / 60))
    x, y = (int(v) for v in point.xy)
    arm = radius // 2
    cv2.circle(out, (x, y), radius + 1, _WHITE, -1, cv2.LINE_AA)
    cv2.circle(out, (x, y), radius, color if point.label else (200, 30, 30), -1, cv2.LINE_AA)
    cv2.line(out, (x - arm, y), (x + arm, y), _WHITE, 2)
    if point.label:
        cv2.line(out, (x, y - arm), (x, y + arm), _WHITE, 2)


def overlay_png(
    masks: Mapping[int, BoolArray],
    colors: Colors | None,
    height: int,
    width: int,
    alpha: float = 0.5,
) -> bytes:
    """The masks alone as a PNG with transparent background, to be laid over a picture: PNG bytes, a few KB.

    Palette entry 2k-1 is the k-th object's area with opacity `alpha`, 2k its outline; later objects cover earlier ones.
    """
    if len(masks) > 127:
        raise ValueError(f"A picture of masks holds at most 127 objects, not {len(masks)}.")
    indices = np.zeros((height, width), np.uint8)
    palette, opacity = [*_BLACK], [0]
    line_width = _line_width(height, width) + 1
    for k, (object_id, mask) in enumerate(masks.items(), 1):
        part = _as_bytes(mask, height, width)
        cv2.copyTo(np.full_like(indices, 2 * k - 1), part, indices)
        cv2.drawContours(indices, _contours(part), -1, 2 * k, line_width, cv2.LINE_8)
        palette += [*_pick(colors, object_id)] * 2
        opacity += [round(255 * alpha), 255]
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette)
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=bytes(opacity), compress_level=6)
    return stream.getvalue()


def thumbnail(frame: Picture, mask: BoolArray, size: int = 96, margin: float = 0.2) -> Picture:
    """The object cut out with some surroundings, dimmed: `size` x `size` x 3 (the middle of the frame if unseen)."""
    frame = _check_picture(frame)
    height, width = frame.shape[:2]
    part_mask = _as_bytes(mask, height, width)
    x, y, w, h = cv2.boundingRect(part_mask)
    seen = w > 0
    if not seen:
        x, y, w, h = 0, 0, width, height
    side = max(2, round(max(w, h) * (1 + 2 * margin)) if seen else min(w, h))
    left, top = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    # Where the square reaches outside the frame it stays black.
    square = np.zeros((side, side, 3), np.uint8)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    part = frame[y1:y2, x1:x2]
    if seen:
        dimmed = cv2.convertScaleAbs(part, alpha=_OUTSIDE_BRIGHTNESS)
        part = cv2.copyTo(np.ascontiguousarray(part), np.ascontiguousarray(part_mask[y1:y2, x1:x2]), dimmed)
    square[y1 - top : y2 - top, x1 - left : x2 - left] = part
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=how), np.uint8)


def blur_background(frame: Picture, mask: BoolArray, strength: float = 1 / 30) -> Picture:
    """A copy of `frame` (H x W x 3) with all pixels outside `mask` (H x W bool) out of focus.

    The blur's sigma is `strength` times the shorter side. Background is mixed with background only, so that no colour
    of the objects runs into it.
    """
    frame = _check_picture(frame)
    height, width = frame.shape[:2]
    inside = _as_bytes(mask, height, width)
    outside = (1 - inside).astype(np.float32)
    sigma = max(1.0, strength * min(height, width))
    spread = cv2.GaussianBlur(frame.astype(np.float32) * outside[..., None], (0, 0), sigma)
    weight = cv2.GaussianBlur(outside, (0, 0), sigma)
    blurred = np.clip(spread / np.maximum(weight, 1e-6)[..., None] + 0.5, 0, 255).astype(np.uint8)
    return np.where(np.asarray(mask)[..., None], frame, blurred)


def paint_background(frame: Picture, mask: BoolArray, color: Color) -> Picture:
    """A copy of `frame` (H x W x 3) in which everything outside `mask` (H x W bool) has one colour."""
    frame = _check_picture(frame)
    _as_bytes(mask, *frame.shape[:2])
    return np.where(np.asarray(mask)[..., None], frame, np.array(color, np.uint8))


def cut_out(frame: Picture, mask: BoolArray) -> Picture:
    """`frame` (H x W x 3) as H x W x 4: opaque inside `mask`, transparent outside, where the colours are gone too."""
    frame = _check_picture(frame)
    inside = _as_bytes(mask, *frame.shape[:2])
    return np.dstack([frame * inside[..., None], inside * np.uint8(255)])
