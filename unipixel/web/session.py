"""What one visitor's session holds, and where the pixels of its media are kept.

A `Session` is small and immutable and travels through `gr.State`; frames stay in a `MediaStore` on the server,
found only by an unguessable id.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unipixel.memory import ObjectMemoryBank
from unipixel.types import Media, Turn
from unipixel.web.marks import Digests, Picture

ENDED = "This session has ended; upload again to go on."
NO_MEDIA = "Upload a picture or video first."
MAX_BEFORE = 20  # corrections that can be taken back
MAX_SHOWN_SIDE = 1280  # pixels of the frames and masks sent to the browser


@dataclass(frozen=True)
class ChatEntry:
    """One question with its answer: `result` is the file shown under it, `download` the one offered for saving.

    `made` are the objects that this turn marked or found.
    """

    question: str
    answer: str
    notes: tuple[str, ...] = ()
    result: str | None = None
    download: str | None = None
    made: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Session:
    """One visitor's dialogue about one picture or clip.

    `applied` notes which marks each remembered object was made from, so that unchanged marks are not computed again,
    `anchors` the frames that somebody marked or corrected: later corrections end there. `editing` says that the next
    question replaces the last one; `num_frames` is that of a clip, 0 for a picture. `before` holds the session before
    each of the last corrections, to go back to.
    """

    media_id: str | None = None
    bank: ObjectMemoryBank = field(default_factory=ObjectMemoryBank)
    entries: tuple[ChatEntry, ...] = ()
    applied: Digests = field(default_factory=dict)
    anchors: Mapping[int, frozenset[int]] = field(default_factory=dict)
    editing: bool = False
    num_frames: int = 0
    before: tuple[Session, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The dialogue so far, as the model gets it."""
        return tuple(Turn(entry.question, entry.answer) for entry in self.entries)

    def with_bank(self, bank: ObjectMemoryBank) -> Session:
        """The session with another bank; what was noted of objects that are gone is dropped."""
        applied = {i: digests for i, digests in self.applied.items() if i in bank}
        anchors = {i: frames for i, frames in self.anchors.items() if i in bank}
        return replace(self, bank=bank, applied=applied, anchors=anchors, before=())

    def with_marks(self, digests: Digests, object_ids: Collection[int]) -> Session:
        """The session after the marks of `object_ids` were applied; their frames are anchors from now on."""
        fresh = {i: dict(frames) for i, frames in digests.items() if i in object_ids and i in self.bank}
        anchors = {i: self.anchors.get(i, frozenset()) | frozenset(frames) for i, frames in fresh.items()}
        return replace(self, applied={**self.applied, **fresh}, anchors={**self.anchors, **anchors})

    def corrected_to(self, after: Session) -> Session:
        """`after` a correction of this session, which can be taken back."""
        return replace(after, before=(*self.before, replace(self, before=()))[-MAX_BEFORE:])

    def reverted(self) -> Session:
        """The session before its last correction; ValueError if something else was done since.

        The marks of the correction count as used: a later question must not make it again.
        """
        if not self.before:
            raise ValueError("There is no correction to undo.")
        past = self.before[-1]
        used = {i: digests for i, digests in self.applied.items() if i in past.bank}
        return replace(past, before=self.before[:-1], applied={**past.applied, **used})

    def rewound(self) -> Session:
        """The session before its last question: the objects that this made are forgotten, their ids free again."""
        if not self.entries:
            return replace(self, editing=False)
        made = self.entries[-1].made
        kept = tuple(known for known in self.bank.objects if known.object_id not in made)
        before = self.with_bank(replace(self.bank, objects=kept))
        return replace(before, entries=self.entries[:-1], editing=False)

    @property
    def removed(self) -> frozenset[int]:
        """Ids of deleted objects: they never come back, or "@1" in an old answer would mean a new thing."""
        return self.bank.retired


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

    `root` is where uploads arrive. With a media its upload goes too, and with the store everything it wrote (at the
    latest when Python ends).
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

    def add(self, owner: str, media: Media) -> StoredMedia:
        """Keep `media` for `owner` (a session has one at a time) and write its frames as JPEG for the browser."""
        media_id = uuid.uuid4().hex
        folder = Path(self._home.name) / media_id
        folder.mkdir()
        frame_files = _write_frames(media, folder)
        stored = StoredMedia(media_id, _with_own_source(media, folder), folder, frame_files, media.source)
        with self._lock:
            self._items[media_id] = stored  # first: what goes may have been made of the same upload
            for earlier in [m for m, o in self._owners.items() if o == owner]:
                self._drop(earlier)
            self._owners[media_id] = owner
            self._evict()
        return stored

    def get(self, media_id: str | None) -> StoredMedia:
        """The media of `media_id`; ValueError if there is none or it was dropped."""
        if media_id is None:
            raise ValueError(NO_MEDIA)
        with self._lock:
            if media_id not in self._items:
                raise ValueError(ENDED)
            self._items.move_to_end(media_id)
            return self._items[media_id]

    def drop_owner(self, owner: str) -> None:
        """Forget all media of a session and delete the files made from them."""
        with self._lock:
            for media_id in [m for m, o in self._owners.items() if o == owner]:
                self._drop(media_id)

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
