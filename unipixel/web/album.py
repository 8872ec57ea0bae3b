"""The media of a dialogue: open the first, add others beside it, switch between them, take one out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unipixel.types import Media
from unipixel.web import render
from unipixel.web.dialogue import Dialogue
from unipixel.web.patch import BROKEN, BUSY, NO_PREVIEW, Patch, refuse, refuse_media
from unipixel.web.session import FULL_ALBUM, MAX_MEDIA, Session
from unipixel.web.store import uploaded_file

logger = logging.getLogger(__name__)

THUMBNAIL = 160  # pixels of a thumbnail's longer side; it is shown about half as long


@dataclass(eq=False)
class Album(Dialogue):
    """The handlers of media."""

    def upload(self, owner: str, file: Any) -> Patch:
        """Read an uploaded file (`{"path": ...}`) and start a new dialogue about it."""
        try:
            return self._start(owner, self._read(uploaded_file(file, self.upload_folder)))
        except ValueError as error:
            return refuse_media(str(error))

    def open_example(self, owner: str, index: Any) -> Patch:
        """Start a new dialogue about an example, with its marks, and put its question into the box."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.examples):
            return refuse_media("That example does not exist.")
        example = self.examples[index]
        try:
            return replace(self._start(owner, self._read(example.path), example.marks), question=example.question)
        except ValueError as error:
            return refuse_media(str(error))

    def add(self, session: Session, owner: str, files: Any, value: Any) -> Patch:
        """Read uploaded files (a list of `{"path": ...}`) and add them to the dialogue; the last one is opened.

        Those that can be read are added, and what is wrong with the others is said.
        """
        if self.turns.busy(owner):
            return refuse_media(BUSY)
        after, notes, wrong = session, list[str](), list[str]()
        with self.turns.open(owner) as turn:  # nothing else may change the session meanwhile
            for file in files[: MAX_MEDIA + 1] if isinstance(files, list) else [files]:
                try:
                    if len(after.media) >= MAX_MEDIA:
                        raise ValueError(FULL_ALBUM)
                    media = self._read(uploaded_file(file, self.upload_folder))
                    if turn.dropped:  # reset, or gone
                        return replace(refuse_media(""), notice=None)
                    after = self._keep(self.noted(after, value), owner, media, beside=True)
                    notes += media.notices
                except ValueError as error:
                    wrong.append(str(error))
        if after is session:
            return refuse_media(" ".join(dict.fromkeys(wrong)))
        said = " ".join(dict.fromkeys([*wrong, *notes]))
        return replace(self.opened(after), notice=render.notice(said, error=bool(wrong)))

    def switch(self, session: Session, owner: str, number: Any, value: Any) -> Patch:
        """Open another medium of the dialogue."""
        if self.turns.busy(owner):
            return refuse(BUSY)
        try:
            return self.opened(self.noted(session, value).opening(number))
        except ValueError as error:
            return refuse(str(error))

    def remove(self, session: Session, owner: str, number: Any, value: Any) -> Patch:
        """Take a medium out of the dialogue with its objects and its files; what was said about it stays."""
        if self.turns.busy(owner):
            return refuse(BUSY)
        try:
            after = self.noted(session, value).removing(number)
            self.store.get(after.media_id)
        except ValueError as error:
            return refuse(str(error))
        kept = {medium.media_id for medium in after.media}
        for medium in session.media:
            if medium.media_id not in kept:
                self.store.drop(medium.media_id)
        return replace(self.opened(after), download="")

    def reset(self, owner: str) -> Patch:
        """Everything back to the start."""
        self.unload(owner)
        blank = self.changed(Session())
        canvas = {**(blank.canvas or {}), "media": None, "preview": NO_PREVIEW}
        return replace(blank, canvas=canvas, download="", question="", pending="", busy=False)

    def unload(self, owner: str) -> None:
        """The visitor has left: stop the turn and forget the media."""
        self.turns.drop(owner)
        self.store.drop_owner(owner)

    def _start(self, owner: str, media: Media, marks: Sequence[dict[str, Any]] = ()) -> Patch:
        self.turns.drop(owner)
        session = self._keep(Session(), owner, media)
        notes = render.notice(" ".join(media.notices))
        return replace(self.opened(session, marks), notice=notes, download="", pending="", busy=False)

    def _keep(self, session: Session, owner: str, media: Media, *, beside: bool = False) -> Session:
        """The session with one more medium, whose pixels are in the store."""
        stored = self.store.add(owner, media, beside=beside)
        num_frames = 0 if media.is_image else media.num_frames
        return session.adding(stored.media_id, num_frames, render.picture_uri(media.frames[0], THUMBNAIL))

    def _read(self, path: Path) -> Media:
        try:
            return self.load(path)
        except ValueError:
            raise
        except Exception:
            logger.exception("Reading an upload failed")
            raise ValueError(BROKEN) from None
