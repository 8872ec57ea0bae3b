"""Between files and frames: load pictures and clips, read every frame of a clip, write clips and pictures."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
from av.video.stream import VideoStream
from PIL import Image
from PIL.GifImagePlugin import getdata, getheader
from PIL.PngImagePlugin import PngInfo

from unipixel.decode import (
    DEFAULT_FPS,
    DEFAULT_LIMITS,
    NO_FRAMES,
    NOT_A_FILE,
    Clip,
    Kind,
    Limits,
    MediaError,
    Picture,
    open_file,
    resize,
    same_size,
    sniff,
    to_rgb,
)
from unipixel.types import Masklet, Media

__all__ = [
    "DEFAULT_FPS",
    "Limits",
    "MediaError",
    "load_media",
    "playback_fps",
    "read_all_frames",
    "read_frames",
    "sample_indices",
    "write_gif",
    "write_masks_png",
    "write_palette_png",
    "write_png",
    "write_video",
    "write_webm",
]

NOTE_SAMPLED = "Too many frames: a fixed number was sampled evenly."
MAX_SAMPLED_FRAMES = 1024
SAMPLED_FPS = 4.0  # of sampled frames from clips that do not say how fast they are


def load_media(
    source: str | Path | Image.Image | np.ndarray | Sequence[Any],
    max_frames: int = 16,
    *,
    kind: Kind = "auto",
    limits: Limits = DEFAULT_LIMITS,
) -> Media:
    """Load a picture or a clip, of which `max_frames` frames are sampled evenly (first and last included).

    `source` is a file (known by its content), a folder of pictures (in natural order), a PIL picture, a uint8 array
    (H x W x 3 is a picture, T x H x W x 3 a clip), or a list of paths, pictures and H x W x 3 arrays.
    `kind="image"` takes an animation's first frame and refuses videos, `"video"` refuses still pictures.
    Raises ValueError (`MediaError`) with one sentence; what was changed silently is in `Media.notices`.
    """
    if isinstance(max_frames, bool) or not isinstance(max_frames, (int, np.integer)):
        raise MediaError(f"max_frames must be a whole number, not {type(max_frames).__name__}.")
    if not 1 <= max_frames <= MAX_SAMPLED_FRAMES:
        raise MediaError(f"max_frames must be between 1 and {MAX_SAMPLED_FRAMES}, not {max_frames}.")
    if kind not in ("auto", "image", "video"):
        raise MediaError(f"kind must be 'auto', 'image' or 'video', not {kind!r}.")
    clip = _open_source(source, kind, limits)
    indices, frames = _sample(clip, int(max_frames))
    total = clip.count
    notes = [*clip.notes, NOTE_SAMPLED] if total > len(frames) else clip.notes
    path = os.fspath(source) if isinstance(source, (str, Path)) else None
    return Media(np.stack(frames), tuple(indices), clip.fps, path, tuple(dict.fromkeys(notes)))


def sample_indices(total: int, count: int) -> list[int]:
    """`count` of `total` indices, evenly spread, first and last included; all of them if there are fewer."""
    if total <= count:
        return list(range(total))
    if count == 1:
        return [0]
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def read_all_frames(media: Media) -> Iterator[Picture]:
    """Every frame of the source, H x W x 3, upright and of `media`'s size, one at a time.

    Frame k of `media.frames` is frame `media.frame_indices[k]` of these. A picture, or media without a source on disk,
    gives its frames as they are.
    """
    if media.source is None or media.fps == 0:
        yield from media.frames
        return
    # The limits were held when the media was loaded.
    unlimited = Limits(max_seconds=float("inf"), max_frames=1 << 40)
    clip = _open_path(Path(media.source), "auto", unlimited)
    for picture in clip.read(None):
        if picture is not None:
            same = picture.shape[:2] == (media.height, media.width)
            yield picture if same else resize(picture, media.height, media.width)


def playback_fps(media: Media) -> float:
    """Frames a second at which the sampled frames last as long as the clip they come from (1 to 30)."""
    steps = media.frame_indices[-1] - media.frame_indices[0]
    if media.fps <= 0 or steps <= 0:
        return SAMPLED_FPS
    return min(max(media.fps * (len(media) - 1) / steps, 1.0), 30.0)


def read_frames(source: str | Path | Sequence[Any], indices: Sequence[int]) -> Media:
    """The frames `indices` (ascending, from 0) of a picture or clip; ValueError if it has fewer."""
    clip = _open_source(source, "auto", DEFAULT_LIMITS)
    wanted = set(indices)
    read = clip.read(wanted)
    found = {t: frame for t, frame in zip(range(max(wanted) + 1), read) if frame is not None and t in wanted}
    if missing := sorted(wanted - set(found)):
        raise MediaError(f"There is no frame {missing[0]}; the clip has {clip.count} frames.")
    path = os.fspath(source) if isinstance(source, (str, Path)) else None
    return Media(
        np.stack([found[t] for t in indices]), tuple(indices), clip.fps, path, tuple(dict.fromkeys(clip.notes))
    )


def _sample(clip: Clip, max_frames: int) -> tuple[list[int], list[Picture]]:
    """Read the sampled frames; when the file promised another number than it holds, read it once more."""
    found: dict[int, Picture] = {}
    for _ in range(2):
        wanted = sample_indices(clip.count, max_frames)
        found, total = {}, 0
        for picture in clip.read(set(wanted)):
            if picture is not None:
                found[total] = picture
            total += 1
        if total == clip.count:
            break
        clip.count = total
    if not found:
        raise MediaError(NO_FRAMES)
    return list(found), list(found.values())


# ---------------------------------------------------------------------------------------------------------- sources


def _open_source(source: Any, kind: Kind, limits: Limits) -> Clip:
    if isinstance(source, (str, Path)):
        if "\0" in str(source):
            raise MediaError("The file does not exist.")
        return _open_path(Path(source), kind, limits)
    if isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim == 3):
        return _open_list([source], True, limits)
    if isinstance(source, np.ndarray) and source.ndim != 4:
        raise MediaError(
            f"An array must be uint8 H x W x 3 (a picture) or T x H x W x 3 (a clip), not of shape {source.shape}."
        )
    if isinstance(source, (list, tuple, np.ndarray)):
        return _open_list(source, False, limits)
    raise MediaError(f"Media must be a path, a picture, an array or a list of them, not {type(source).__name__}.")


def _open_path(path: Path, kind: Kind, limits: Limits) -> Clip:
    return _open_folder(path, limits) if path.is_dir() else open_file(path, kind, limits)


def _open_list(items: Sequence[Any] | np.ndarray, is_image: bool, limits: Limits) -> Clip:
    if not len(items):
        raise MediaError("The list holds no frames.")
    return _clip_of(
        items, lambda item, notes: _to_picture(item, notes, limits), 0.0 if is_image else DEFAULT_FPS, limits
    )


def _open_folder(folder: Path, limits: Limits) -> Clip:
    """The pictures of a folder in natural order (2 before 10); other files are passed over, links that leave it too."""
    paths = sorted(folder.iterdir(), key=lambda path: _natural_key(path.name))
    inside = [path for path in paths if _is_file_inside(path, folder)]
    pictures = [path for path in inside if not path.name.startswith(".") and _is_picture(path)]
    if not pictures:
        raise MediaError("The folder holds no pictures.")
    clip = _clip_of(pictures, lambda path, notes: _to_picture(path, notes, limits), DEFAULT_FPS, limits)
    if len(inside) < len([path for path in paths if path.is_symlink() or not path.is_dir()]):
        clip.notes.append(NOT_A_FILE)
    return clip


def _clip_of(
    items: Sequence[Any] | np.ndarray, load: Callable[[Any, list[str]], Picture], fps: float, limits: Limits
) -> Clip:
    """A clip whose frames are `items`, each loaded only when it is wanted."""
    limits.check_length(len(items), 0)
    notes: list[str] = []

    def read(wanted: Container[int] | None) -> Iterator[Picture | None]:
        loading = (load(item, notes) if wanted is None or k in wanted else None for k, item in enumerate(items))
        return same_size(loading, notes)

    return Clip(len(items), fps, read, notes)


def _to_picture(item: Any, notes: list[str], limits: Limits) -> Picture:
    if isinstance(item, (str, Path)):
        clip = open_file(item, "image", limits)
        picture = next(clip.read(None))
        notes += clip.notes
        assert picture is not None  # everything was asked for
        return picture
    if isinstance(item, Image.Image):
        limits.check_size(item.height, item.width)
        try:
            return to_rgb(item, notes)
        except (OSError, SyntaxError):
            raise MediaError("The picture is damaged and could not be read.") from None
    if not isinstance(item, np.ndarray) or item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
        what = f"{item.dtype} of shape {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
        raise MediaError(f"A frame must be a uint8 array H x W x 3 (RGB), a picture or a path, not {what}.")
    limits.check_size(item.shape[0], item.shape[1])
    return item


def _natural_key(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() and part.isascii() else (-1, part.lower()) for part in parts]


def _is_file_inside(path: Path, folder: Path) -> bool:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # gone, or links in a circle
        return False
    return real.is_file() and real.is_relative_to(folder.resolve())


def _is_picture(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            found = sniff(file.read(512))
    except OSError:
        return False
    return found is not None and found[0] == "image"


# ---------------------------------------------------------------------------------------------------------- writing


@contextmanager
def _whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `path` only when all went well, so that no half file is ever found there."""
    target = Path(path)
    part = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _check_frames(frames: Iterable[Picture], channels: int = 3) -> tuple[Picture, Iterator[Picture]]:
    """The first frame, and all of them with their size checked; ValueError if there are none."""
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError("A clip needs at least one frame.")

    def check(frame: Picture) -> Picture:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != channels or frame.shape != first.shape:
            raise ValueError(
                f"Frames must be uint8 H x W x {channels} of one size, not {frame.dtype} of shape {frame.shape}."
            )
        return frame

    return check(first), map(check, itertools.chain([first], iterator))


def _check_fps(fps: float) -> float:
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps:g}.")
    return float(fps)


@dataclass(frozen=True)
class _Encoding:
    """How frames of `pixels` (PyAV's name of their layout) become a file."""

    container: str
    codec: str
    pixels: str
    stored: str
    options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)


def _encode(frames: Iterable[Picture], path: str | Path, fps: float, how: _Encoding, comment: str) -> Path:
    """Write a clip; odd sides get one more pixel, because colour is stored for two by two pixels."""
    rate = Fraction(_check_fps(fps)).limit_denominator(1001)
    first, checked = _check_frames(frames, 4 if how.pixels == "rgba" else 3)
    height, width = first.shape[:2]
    with (
        _whole_file(path) as part,
        av.open(str(part), "w", format=how.container, options=how.container_options) as out,
    ):
        if comment:
            out.metadata["comment"] = comment
        stream = out.add_stream(how.codec, rate=rate, options=how.options)
        assert isinstance(stream, VideoStream)  # that is what these codecs make
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, how.stored
        for frame in checked:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format=how.pixels)))
        out.mux(stream.encode())
    return Path(path)


def write_video(
    frames: Iterable[Picture], path: str | Path, fps: float = DEFAULT_FPS, *, crf: int = 23, comment: str = ""
) -> Path:
    """Write frames (H x W x 3, RGB) as an H.264 MP4 that browsers play; odd sides get one more pixel.

    `comment` goes into the file's metadata, as in all writers of this module that take one.
    """
    how = _Encoding(
        "mp4", "libx264", "rgb24", "yuv420p", {"crf": str(crf), "preset": "veryfast"}, {"movflags": "faststart"}
    )
    return _encode(frames, path, fps, how, comment)


def write_webm(
    frames: Iterable[Picture], path: str | Path, fps: float = DEFAULT_FPS, *, crf: int = 24, comment: str = ""
) -> Path:
    """Write frames (H x W x 4, RGBA) as a VP9 WebM that keeps its transparency; odd sides get one more pixel."""
    # imageio can write this too, but takes no quality: libvpx then holds 256 kbit/s at any size.
    options = {"crf": str(crf), "b": "0", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"}
    return _encode(frames, path, fps, _Encoding("webm", "libvpx-vp9", "rgba", "yuva420p", options), comment)


def write_gif(frames: Iterable[Picture], path: str | Path, fps: float = 10.0, *, comment: str = "") -> Path:
    """Write frames as an endless GIF (equal neighbours become one longer frame); for anything long take a video."""
    delay = max(20, round(100 / _check_fps(fps)) * 10)  # GIF counts hundredths, and viewers slow down 0.01
    before, checked = _check_frames(frames)
    with _whole_file(path) as part, part.open("wb") as file:
        # Pillow's own way to save a GIF keeps all frames until the end, so its parts are written one by one.
        for n, (_, same) in enumerate(itertools.groupby(checked, key=lambda frame: frame.tobytes())):
            frame = next(same)
            count = 1 + sum(1 for _ in same)
            top, bottom, left, right = _changed_part(before, frame)
            image = _with_palette(frame[top:bottom, left:right])
            if n == 0:
                file.writelines(getheader(image, info={"loop": 0, "comment": comment})[0])
            file.writelines(getdata(image, (left, top), duration=delay * count, include_color_table=n > 0))
            before = frame
        file.write(b";")
    return Path(path)


def _with_palette(picture: Picture) -> Image.Image:
    # Pillow's octree palette takes 0.2 s for 16 frames of 854 x 480, imageio's default 9 s.
    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _changed_part(before: Picture, after: Picture) -> tuple[int, int, int, int]:
    """The rectangle (top, bottom, left, right) in which two pictures differ; all of it if they do not."""
    differs = (before != after).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return 0, after.shape[0], 0, after.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def write_png(image: np.ndarray, path: str | Path, *, comment: str = "") -> Path:
    """Write H x W x 3 or H x W x 4 uint8, H x W uint8, or a bool mask (as 0 and 255) as PNG, without other metadata."""
    array = np.asarray(image)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"A picture must be uint8 H x W, H x W x 3 or H x W x 4, not {array.dtype} of {array.shape}.")
    with _whole_file(path) as part:
        iio.imwrite(part, array, plugin="pillow", extension=".png", pnginfo=_png_text(comment))
    return Path(path)


def write_palette_png(
    indices: np.ndarray, palette: Sequence[tuple[int, int, int]], path: str | Path, *, comment: str = ""
) -> Path:
    """Write H x W uint8 `indices` into `palette` (colour 0 first) as an indexed PNG."""
    # Pillow itself: imageio cannot hand over a palette.
    image = Image.fromarray(indices).convert("P")
    image.putpalette([value for color in palette for value in color])
    with _whole_file(path) as part:
        image.save(part, "PNG", pnginfo=_png_text(comment))
    return Path(path)


def _png_text(comment: str) -> PngInfo:
    text = PngInfo()
    if comment:
        text.add_text("Comment", comment)
    return text


def write_masks_png(masklet: Masklet, folder: str | Path) -> list[Path]:
    """Write one black and white PNG per frame, `00000.png` on, into `folder`, which is made if needed."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [write_png(mask, Path(folder) / f"{t:05d}.png") for t, mask in enumerate(masklet.masks)]
