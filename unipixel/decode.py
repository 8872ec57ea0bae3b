"""Files to pictures: what a file is (by content, never by name), and its frames upright, in RGB and in order.

Decoders are the part of a program most often fed with hostile data. So containers that can name other files (playlists,
scripts) are not opened at all, FFmpeg gets an open file and never a name, headers are checked against limits before
anything is allocated, and whatever a decoder raises becomes one plain sentence.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import cv2
import numpy as np
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Picture = NDArray[np.uint8]
Kind = Literal["auto", "image", "video"]

DEFAULT_FPS = 24.0  # of clips that do not know their rate: folders, arrays, bare streams

EMPTY = "The file is empty."
TYPE = (
    "This file type is not supported. Use JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC for images; "
    "MP4, MOV, MKV or WebM for video."
)
CORRUPT = "The file is damaged and could not be read."
TRUNCATED = "The file is incomplete (cut short). Upload it again."
NO_VIDEO = "The file holds no video (only sound or data)."
NO_FRAMES = "The video holds no frames."
DEPTH = "Floating-point pictures are not supported. Save the picture with 8 or 16 bits per channel."
NOT_A_FILE = "Skipped: not a regular file inside the input folder."

NOTE_ROTATED = "Turned upright using the camera's orientation tag."
NOTE_ALPHA = "Transparency was replaced by white."
NOTE_DEPTH = "Reduced to 8 bits per channel."
NOTE_COLOUR = "Converted to sRGB/RGB."
NOTE_FIRST_FRAME = "Animated picture: the first frame was used."
NOTE_TYPE_BY_CONTENT = "The name's ending does not match the content; the content was used."
NOTE_META = "Location and other embedded information was removed."
NOTE_VFR = "Uneven frame times were kept as time stamps; frame numbers are by order."
NOTE_PARTIAL = "Only part of the video could be read; the readable frames were used."
NOTE_RESIZED = "Frames of another size were scaled to the first frame's size."
NOTE_STREAM = "Several video tracks: the first was used."
NOTE_TIMES = "Missing or impossible time stamps were replaced by an even rate."


class MediaError(ValueError):
    """A source that is refused, with a sentence for people."""


@dataclass(frozen=True)
class Limits:
    """What is refused, so that no file can use up memory or time. `max_frames` counts the frames of the source."""

    max_pixels: int = 50_000_000
    max_video_pixels: int = 4096 * 2160
    max_seconds: float = 60
    max_frames: int = 20_000
    min_side: int = 8
    max_aspect: int = 100

    def too_large(self) -> str:
        return f"The picture is too large (limit {self.max_pixels // 1_000_000} megapixels; video 4096x2160)."

    def check_size(self, height: int, width: int, *, video: bool = False) -> None:
        """Raise ValueError for a picture that is too large, too small or too thin."""
        if height * width > (self.max_video_pixels if video else self.max_pixels):
            raise MediaError(self.too_large())
        if min(height, width) < self.min_side:
            raise MediaError(f"The picture is too small (at least {self.min_side} pixels on each side).")
        if max(height, width) > self.max_aspect * min(height, width):
            raise MediaError(f"The picture is too long and thin (limit {self.max_aspect}:1).")

    def check_length(self, frames: int, seconds: float) -> None:
        """Raise ValueError for a clip that is too long in seconds or in frames."""
        if seconds > self.max_seconds:
            raise MediaError(f"The video is too long (limit {self.max_seconds:g} seconds).")
        if frames > self.max_frames:
            raise MediaError(f"The video has too many frames (limit {self.max_frames}).")


DEFAULT_LIMITS = Limits()


@dataclass
class Clip:
    """A source whose frames can be read again and again.

    `read(wanted)` yields one item per frame of the source, in order: the picture if its index is in `wanted` (all are,
    if it is None), else None. `count` is what the file promises; reading may find more or fewer. Reading adds to
    `notes` what was changed.
    """

    count: int
    fps: float
    read: Callable[[Container[int] | None], Iterator[Picture | None]]
    notes: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------ what it is

_IMAGE_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"
)
_IMAGE_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".mpo", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif"),
}
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}


def sniff(head: bytes) -> tuple[Literal["image", "video"], str] | None:
    """What a file's first 512 bytes say: kind and Pillow format or FFmpeg demuxer. None: nothing we open."""
    image = next((name for start, name in _IMAGE_STARTS.items() if head.startswith(start)), None)
    if head[:4] == b"RIFF":
        image = "WEBP" if head[8:12] == b"WEBP" else None
    is_iso = head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
    if is_iso and head[4:8] == b"ftyp":
        image = _IMAGE_BRANDS.get(head[8:12])
    if image:
        return "image", image
    demuxer = "mov" if is_iso else _sniff_stream(head)
    return ("video", demuxer) if demuxer else None


def _sniff_stream(head: bytes) -> str | None:
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:1] == head[188:189] == b"G" or head[4:5] == head[196:197] == b"G":
        return "mpegts"
    start = head[:4].find(b"\0\0\1")
    if start < 0 or start > 1 or head[:start].strip(b"\0"):
        return None
    unit = head[start + 3] if len(head) > start + 3 else 0
    if unit & 0x9F == 7 or unit in (6, 9):  # sequence parameters, or what may stand before them
        return "h264"
    return "hevc" if unit >> 1 in (32, 33, 35, 39) else None


def open_file(path: str | Path, kind: Kind = "auto", limits: Limits = DEFAULT_LIMITS) -> Clip:
    """Open a picture, an animation or a video; `kind` says what is wanted. ValueError says why not."""
    file_path = Path(path)
    head = _read_head(file_path)
    found = sniff(head)
    if found is None or (kind == "image" and found[0] == "video"):
        raise MediaError(TYPE)

    def open_again() -> BinaryIO:
        return _open(file_path)

    if found[0] == "video":
        return _open_video(open_again, found[1], limits)
    clip = _open_image(open_again, found[1], kind, limits)
    if file_path.suffix.lower() not in _ENDINGS.get(found[1], (f".{found[1].lower()}",)):
        clip.notes.append(NOTE_TYPE_BY_CONTENT)
    return clip


def _open(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or device would wait for ever."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MediaError(NOT_A_FILE)
        return open(path, "rb")
    except FileNotFoundError:
        raise MediaError("The file does not exist.") from None
    except OSError:
        raise MediaError("The file cannot be opened.") from None


def _read_head(path: Path) -> bytes:
    with _open(path) as file:
        head = file.read(512)
    if not head:
        raise MediaError(EMPTY)
    return head


# --------------------------------------------------------------------------------------------------------- pictures


def _open_image(open_again: Callable[[], BinaryIO], name: str, kind: Kind, limits: Limits) -> Clip:
    notes: list[str] = []
    with open_again() as file, _pillow(file, name, limits) as image:
        count = _count_pictures(image)
        animated = name in _ANIMATED_FORMATS and count > 1
        if animated:
            image.load()  # WebP tells a frame's duration only then
        seconds_each = (image.info.get("duration") or 100) / 1000
        _note_meta(image, file, notes)
        if image.format == "PNG" and image.mode in ("RGB", "RGBA") and _starts_deep(file):
            notes.append(NOTE_DEPTH)
    if animated and kind != "image":
        limits.check_length(count, count * seconds_each)

        def read_all(wanted: Container[int] | None) -> Iterator[Picture | None]:
            return _read_animation(open_again, name, limits, notes, wanted)

        return Clip(count, 1 / seconds_each, read_all, notes)
    if kind == "video":
        raise MediaError(NO_VIDEO)
    if count > 1:
        notes.append(NOTE_FIRST_FRAME)

    def read_one(wanted: Container[int] | None) -> Iterator[Picture | None]:
        with open_again() as file, _pillow(file, name, limits) as image:
            yield to_rgb(image, notes)

    return Clip(1, 0.0, read_one, notes)


@contextmanager
def _pillow(file: BinaryIO, name: str, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture of the named format, its size checked; whatever goes wrong inside becomes a sentence."""
    image = _open_pillow(file, name, limits)
    try:
        limits.check_size(image.height, image.width)
        if image.mode == "F":
            raise MediaError(DEPTH)
        yield image
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, RuntimeError ...
        raise MediaError(TRUNCATED if "truncated" in str(error) else CORRUPT) from None
    finally:
        image.close()


def _open_pillow(file: BinaryIO, name: str, limits: Limits) -> Image.Image:
    if name == "HEIF" and not _has_heif():
        raise MediaError(TYPE)
    try:
        return Image.open(file, formats=(name,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MediaError(limits.too_large()) from None
    except UnidentifiedImageError:
        raise MediaError(CORRUPT) from None
    except OSError:
        raise MediaError(TRUNCATED) from None
    except Exception:  # as above
        raise MediaError(CORRUPT) from None


def _has_heif() -> bool:
    """HEIC pictures need the optional package pillow-heif."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def _count_pictures(image: Image.Image) -> int:
    """How many pictures a file holds; TIFF pages are only looked at as far as the second (they can form a circle)."""
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    try:
        image.seek(1)
    except EOFError:
        return 1
    finally:
        image.seek(0)
    return 2


def _starts_deep(file: BinaryIO) -> bool:
    """Whether a PNG has 16 bits per channel: Pillow reduces colour PNGs by itself and does not say so."""
    file.seek(24)
    return file.read(1) == b"\x10"


def _note_meta(image: Image.Image, file: BinaryIO, notes: list[str]) -> None:
    """Note place, texts and data hidden behind the end; nothing of it is kept."""
    try:
        exif = image.getexif()
        has_meta = 0x010E in exif or bool(exif.get_ifd(0x8825))
    except Exception:  # a broken block is not worth a refusal
        has_meta = False
    has_meta = has_meta or any(key in image.info for key in ("Comment", "Title", "xmp"))
    if image.format == "JPEG" and not has_meta:
        file.seek(-min(65536, file.seek(0, os.SEEK_END)), os.SEEK_END)
        tail = file.read()
        has_meta = 0 <= tail.rfind(b"\xff\xd9") < len(tail) - 2
    if has_meta:
        notes.append(NOTE_META)


def _read_animation(
    open_again: Callable[[], BinaryIO], name: str, limits: Limits, notes: list[str], wanted: Container[int] | None
) -> Iterator[Picture | None]:
    with open_again() as file, _pillow(file, name, limits) as image:
        for index in range(_count_pictures(image)):
            try:
                image.seek(index)
                is_wanted = wanted is None or index in wanted
                picture = _on_white(image.convert("RGBA")) if is_wanted else None
            except Exception:  # damaged from here on: see `_pillow`
                if index == 0:
                    raise
                notes.append(NOTE_PARTIAL)
                return
            yield picture


def to_rgb(image: Image.Image, notes: list[str]) -> Picture:
    """A Pillow picture as uint8 H x W x 3: upright, alpha on white, 16 bits scaled instead of clipped."""
    image.load()
    image = _upright(image, notes)
    if image.mode == "F":
        raise MediaError(DEPTH)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        notes += [NOTE_DEPTH, NOTE_COLOUR]
        grey = (values * (255.0 / top) + 0.5).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if image.mode != "RGBA" or np.asarray(rgba)[..., 3].min() < 255:
            notes.append(NOTE_ALPHA)
        return _on_white(rgba)
    if image.mode != "RGB":
        notes.append(NOTE_COLOUR)
        image = image.convert("RGB")
    return np.array(image)


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image) if image.getexif().get(0x0112) in range(2, 9) else image
    except Exception:  # broken EXIF: keep the picture as it is stored
        return image
    if turned is not image:
        notes.append(NOTE_ROTATED)
    return turned


def _on_white(image: Image.Image) -> Picture:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return np.array(white.convert("RGB"))


# ----------------------------------------------------------------------------------------------------------- videos


def _open_video(open_again: Callable[[], BinaryIO], demuxer: str, limits: Limits) -> Clip:
    notes: list[str] = []
    with _container(open_again, demuxer, limits) as container:
        stream = _video_stream(container, limits, notes)
        _note_format(container, stream, notes)
        count, fps, expected = _probe(container, stream, limits, notes)
    if not count:
        raise MediaError(NO_FRAMES)

    def read(wanted: Container[int] | None) -> Iterator[Picture | None]:
        reading = _read_video(open_again, demuxer, limits, notes, wanted, expected)
        return same_size(reading, notes)

    return Clip(count, fps, read, notes)


@contextmanager
def _container(open_again: Callable[[], BinaryIO], demuxer: str, limits: Limits) -> Iterator[Any]:
    # The demuxer is ours to choose and no protocol is allowed: nothing in the file can make FFmpeg open another one.
    options = {"protocol_whitelist": "none", "max_pixels": str(limits.max_video_pixels)}
    with open_again() as file:
        try:
            container = av.open(file, format=demuxer, options=options, buffer_size=1 << 20)
        except (FFmpegError, OSError, ValueError):
            raise MediaError(TRUNCATED if demuxer == "mov" else CORRUPT) from None
        with container:
            yield container


def _video_stream(container: Any, limits: Limits, notes: list[str]) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaError(NO_VIDEO)
    if len(streams) > 1:
        notes.append(NOTE_STREAM)
    stream = streams[0]
    if stream.codec_context is None:  # a codec nobody knows
        raise MediaError(TYPE)
    if stream.width and stream.height:
        limits.check_size(stream.height, stream.width, video=True)
    return stream


def _note_format(container: Any, stream: VideoStream, notes: list[str]) -> None:
    parts = stream.codec_context.format.components if stream.codec_context.format else ()
    if any(part.bits > 8 for part in parts):
        notes.append(NOTE_DEPTH)
    if len(parts) == 1:
        notes.append(NOTE_COLOUR)
    if any(part.is_alpha for part in parts) or _has_alpha_track(stream):
        notes.append(NOTE_ALPHA)
    if any(container.metadata.get(key) for key in ("title", "comment", "artist", "location")):
        notes.append(NOTE_META)


def _has_alpha_track(stream: VideoStream) -> bool:
    """WebM keeps the alpha of VP8 and VP9 beside the picture, where FFmpeg's own decoder does not look."""
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())


def _probe(container: Any, stream: VideoStream, limits: Limits, notes: list[str]) -> tuple[int, float, int]:
    """Count frames by their packets, without decoding: (frames, frames per second, frames the header promises)."""
    times: list[float | None] = []
    skipped = 0
    try:
        for packet in container.demux(stream):
            if packet.is_discard:  # before the start of an edit: decoded, never shown
                skipped += 1
            elif packet.size:
                times.append(None if packet.pts is None else float(packet.pts * packet.time_base))
                limits.check_length(len(times), 0)
    except (FFmpegError, OSError):
        notes.append(NOTE_PARTIAL)
    known = sorted(t for t in times if t is not None)
    seconds = known[-1] - known[0] if known else 0.0
    limits.check_length(len(times), seconds)
    fps = float(stream.average_rate or DEFAULT_FPS)
    if len(known) < len(times) or (known and known[0] > 3600) or (len(known) > 1 and seconds < 0.0005 * len(known)):
        notes.append(NOTE_TIMES)
    elif len(known) > 1:
        gaps = np.diff(known)
        if gaps.max() > 3 * max(gaps.min(), 1e-6):
            notes.append(NOTE_VFR)
        fps = (len(known) - 1) / seconds
    return len(times), fps, stream.frames - skipped


def _read_video(
    open_again: Callable[[], BinaryIO],
    demuxer: str,
    limits: Limits,
    notes: list[str],
    wanted: Container[int] | None,
    expected: int,
) -> Iterator[Picture | None]:
    with _container(open_again, demuxer, limits) as container:
        stream = _video_stream(container, limits, [])
        index = 0
        for frame in _decode(container, stream, notes):
            limits.check_size(frame.height, frame.width, video=True)
            if frame.is_corrupt:
                notes.append(NOTE_PARTIAL)
            yield _frame_to_rgb(frame, notes) if wanted is None or index in wanted else None
            index += 1
    if not index:
        raise MediaError(NO_FRAMES)
    if index < expected:
        notes.append(NOTE_PARTIAL)


def _decode(container: Any, stream: VideoStream, notes: list[str]) -> Iterator[VideoFrame]:
    """All frames that can be decoded, in the order they are shown; notes if some cannot."""
    stream.thread_type = "AUTO"
    decoder: Any = stream.codec_context
    sees_alpha = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(decoder.name, "")
    if _has_alpha_track(stream) and sees_alpha in av.codecs_available:
        decoder = av.CodecContext.create(sees_alpha, "r")
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            # An empty packet ends the stream: the decoder gives out what it still holds.
            frames = decoder.decode(packet if packet.size else None)
        except (FFmpegError, OSError, ValueError) as error:
            notes.append(NOTE_PARTIAL)
            if isinstance(error, EndOfFile):
                return
            continue
        yield from frames


def _frame_to_rgb(frame: VideoFrame, notes: list[str]) -> Picture:
    """One frame as uint8 H x W x 3, upright, alpha on white."""
    if any(part.is_alpha for part in frame.format.components):
        rgba = frame.to_ndarray(format="rgba")
        alpha = rgba[..., 3:].astype(np.uint16)
        picture = np.asarray((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, np.uint8)
    else:
        picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    quarters = (round(frame.rotation or 0) // 90) % 4
    if quarters:
        notes.append(NOTE_ROTATED)
        picture = np.rot90(picture, quarters)
    return np.ascontiguousarray(picture)


def same_size(pictures: Iterator[Picture | None], notes: list[str]) -> Iterator[Picture | None]:
    """The pictures, all scaled to the first one's size."""
    size: tuple[int, int] | None = None
    for picture in pictures:
        if picture is not None:
            size = size or (picture.shape[0], picture.shape[1])
            if picture.shape[:2] != size:
                notes.append(NOTE_RESIZED)
                picture = resize(picture, *size)
        yield picture


def resize(picture: Picture, height: int, width: int) -> Picture:
    """`picture` scaled to `height` x `width` pixels."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
