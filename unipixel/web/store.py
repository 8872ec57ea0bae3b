"""Where the pixels of uploaded media are kept, found only by an unguessable id, and what is made from them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unipixel.types import Media
from unipixel.web.marks import Picture

NO_MEDIA = "Upload a picture or video first."
GONE = "This picture or video is no longer kept on the server; upload it again to go on."
TOO_LARGE = "The pictures and videos of this dialogue are too large together; remove one first."
MAX_SHOWN_SIDE = 1280  # pixels of the frames and masks sent to the browser


@dataclass(frozen=True, eq=False)
class StoredMedia:
    """Media of one session with the folder for everything made from it; `upload` is the file it came from."""

    media_id: str
    media: Media
    folder: Path
    frame_files: tuple[str, ...]
    upload: str | None = None

    @property
    def picture(self) -> Picture:
        return Picture(self.media.height, self.media.width, self.media.num_frames)


def shown_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of what the browser gets: the same shape, at most `MAX_SHOWN_SIDE` long."""
    scale = min(1.0, MAX_SHOWN_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class MediaStore:
    """Frames by media id: bounded in bytes, oldest use dropped first. Every method may be called from any thread.

    The media of one session (`owner`) count as used together, and may fill half of the store. `root` is where uploads
    arrive. With a media its upload goes too, and with the store everything it wrote (at the latest when Python ends).
    """

    def __init__(self, root: Path, max_bytes: int = 2 << 30) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._home = tempfile.TemporaryDirectory(prefix="unipixel-", dir=root)
        self._max_bytes = max_bytes
        self._items: OrderedDict[str, StoredMedia] = OrderedDict()
        self._owners: dict[str, str] = {}  # media id -> owner
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, owner: str, media: Media, *, beside: bool = False) -> StoredMedia:
        """Keep `media` for `owner`, in place of its others or `beside` them, and write its frames for the browser.

        Raises ValueError if it would be too much beside the others.
        """
        if beside:
            self._check_share(owner, media)
        media_id = uuid.uuid4().hex
        folder = Path(self._home.name) / media_id
        folder.mkdir()
        frame_files = _write_frames(media, folder)
        stored = StoredMedia(media_id, _with_own_source(media, folder), folder, frame_files, media.source)
        with self._lock:
            self._items[media_id] = stored  # first: what goes may have been made of the same upload
            for earlier in [] if beside else self._of(owner):
                self._drop(earlier)
            self._owners[media_id] = owner
            self._use(media_id)
            self._evict()
        return stored

    def find(self, media_id: str | None) -> StoredMedia | None:
        """The media of `media_id`, None if it was dropped."""
        with self._lock:
            if media_id in self._items:
                self._use(media_id)
            return self._items.get(media_id or "")

    def get(self, media_id: str | None) -> StoredMedia:
        """The media of `media_id`; ValueError if there is none or it was dropped."""
        if media_id is None:
            raise ValueError(NO_MEDIA)
        found = self.find(media_id)
        if found is None:
            raise ValueError(GONE)
        return found

    def drop(self, media_id: str | None) -> None:
        """Forget one media, if it is still there, and delete the files made from it."""
        with self._lock:
            if media_id in self._items:
                self._drop(media_id)

    def drop_owner(self, owner: str) -> None:
        """Forget all media of a session and delete the files made from them."""
        with self._lock:
            for media_id in self._of(owner):
                self._drop(media_id)

    def _of(self, owner: str) -> list[str]:
        return [media_id for media_id, other in self._owners.items() if other == owner]

    def _use(self, media_id: str) -> None:
        """Note that a media is used, and with it the others of its session."""
        for beside in self._of(self._owners[media_id]):
            self._items.move_to_end(beside)
        self._items.move_to_end(media_id)

    def _check_share(self, owner: str, media: Media) -> None:
        with self._lock:
            others = sum(self._items[m].media.frames.nbytes for m in self._of(owner))
        if others and others + media.frames.nbytes > self._max_bytes // 2:
            raise ValueError(TOO_LARGE)

    def _evict(self) -> None:
        while len(self._items) > 1 and sum(s.media.frames.nbytes for s in self._items.values()) > self._max_bytes:
            self._drop(next(iter(self._items)))

    def _drop(self, media_id: str) -> None:
        stored = self._items.pop(media_id)
        del self._owners[media_id]
        shutil.rmtree(stored.folder, ignore_errors=True)
        # Equal uploads are one file: it stays while another session has it open.
        if stored.upload is not None and all(other.upload != stored.upload for other in self._items.values()):
            path = Path(stored.upload)
            if is_inside(path, self._root):
                path.unlink(missing_ok=True)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is there and really lies in `folder`, links followed."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return False


def uploaded_file(value: Any, folder: Path) -> Path:
    """The path of an uploaded file; ValueError unless it lies in the upload folder.

    `value` is `{"path": ...}` as browsers and clients send it, or text, as agents do: the path that the upload
    returned or its address on this server. Addresses of other servers are not read.
    """
    path = value.get("path") if isinstance(value, Mapping) else value
    if isinstance(path, str):
        path = path.rpartition("/gradio_api/file=")[2]
    if not isinstance(path, str) or not is_inside(Path(path), folder):
        raise ValueError("The upload did not arrive; please try again.")
    return Path(path)


def _with_own_source(media: Media, folder: Path) -> Media:
    """`media` with the clip it is read from in `folder`: uploads of equal files share one path, which may go."""
    if media.is_image or media.source is None or not Path(media.source).is_file():
        return media
    own = folder / "source" / Path(media.source).name
    own.parent.mkdir()
    try:
        os.link(media.source, own)
    except OSError:  # another file system, or one without links
        shutil.copyfile(media.source, own)
    return replace(media, source=str(own))


def _write_frames(media: Media, folder: Path) -> tuple[str, ...]:
    height, width = shown_size(media.height, media.width)
    names = []
    for t, frame in enumerate(media.frames):
        path = folder / f"frame-{t:04d}.jpg"
        _shrink(frame, height, width).save(path, quality=90)
        names.append(str(path))
    return tuple(names)


def _shrink(frame: np.ndarray, height: int, width: int) -> Image.Image:
    image = Image.fromarray(frame)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
