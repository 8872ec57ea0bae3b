"""Corrections and tracking without words, and masks on every frame of the source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unipixel.marks import MarkedObject
from unipixel.memory import MemoryObject
from unipixel.types import Media, Prompt
from unipixel.web import render
from unipixel.web.desk import Desk, track_request
from unipixel.web.gpu import FillRequest, MaskletsFound, PackedMasklet, Rle, SourceFrame
from unipixel.web.marks import Digests, check_positive
from unipixel.web.patch import BROKEN, BUSY, STOPPED, Patch, refuse
from unipixel.web.session import Session
from unipixel.web.store import StoredMedia
from unipixel.web.turns import RunningTurn, Waiting, run_events

logger = logging.getLogger(__name__)

NOTHING_MARKED = "There is no new mark to follow; mark the object first."
NOTHING_SHOWN = "There is no object to show; mark one, or ask for one first."
NO_CLIP = "A picture has only one frame."
NOT_FILLING: dict[str, Any] = {"filling": None}


@dataclass(eq=False)
class Tracking(Desk):
    """The handlers that follow objects."""

    def correct(self, session: Session, owner: str, value: Any) -> Iterator[Patch]:
        """Follow new marks: a new object through the clip, a known one up to the nearest frames that are right."""

        def work(stored: StoredMedia, turn: RunningTurn) -> Iterator[Patch]:
            marks = self.read(session, stored, value)
            prompts = self.with_picks(session, stored, marks, marks.changed_since(session.applied))
            if not prompts:
                raise ValueError(NOTHING_MARKED)
            check_positive([p for p in prompts if p.object_id not in session.bank])
            yield Patch(notice=render.notice("Following the object…"), busy=True)
            after = yield from self.follow_marks(session, stored, prompts, marks.digests, turn)
            after = after if after is session else session.corrected_to(after)
            yield replace(self.changed(after), busy=False)

        yield from self._run_apart(session, owner, work)

    def revert(self, session: Session, owner: str) -> Patch:
        """Take the last correction back; its marks stay on the canvas."""
        if self.turns.busy(owner):
            return refuse(BUSY)
        try:
            return self.changed(session.reverted())
        except ValueError as error:
            return refuse(str(error))

    def follow_marks(
        self, session: Session, stored: StoredMedia, prompts: Sequence[Prompt], digests: Digests, turn: RunningTurn
    ) -> Generator[Patch, None, Session]:
        """Correct or track the objects of `prompts` one after the other; returns the session with what was found."""
        for object_id in sorted({p.object_id or 0 for p in prompts}):
            own = tuple(p for p in prompts if p.object_id == object_id)
            request = track_request(session, stored.media, own, turn.turn_id)
            for batch in run_events(lambda request=request: self.tracker(request), turn, self.line):
                if isinstance(batch, Waiting):
                    yield Patch(notice=render.notice(waiting(batch)))
                    continue
                for event in batch:
                    assert isinstance(event, MaskletsFound)
                    origin = "" if object_id in session.bank else MarkedObject(object_id, own).origin
                    bank = session.bank
                    for packed in event.masklets:
                        bank = bank.with_object(packed.unpack(), origin=origin)
                    session = session.with_bank(bank).with_marks(digests, [object_id])
        return session

    def every_frame(self, session: Session, owner: str, value: Any) -> Iterator[Patch]:
        """Masks of the objects that are shown on every frame of the source, as a film in place of the canvas."""

        def work(stored: StoredMedia, turn: RunningTurn) -> Iterator[Patch]:
            hidden = value.get("hidden", ()) if isinstance(value, Mapping) else ()
            shown = [known for i, known in session.bank.items() if not isinstance(hidden, list) or i not in hidden]
            if stored.media.is_image or not shown:
                raise ValueError(NO_CLIP if stored.media.is_image else NOTHING_SHOWN)
            codes: list[Mapping[int, Rle]] = []
            yield Patch(canvas=_filling(0, 0), notice="", busy=True)
            for batch in self.fill_frames(stored.media, shown, turn):
                if isinstance(batch, Waiting):
                    yield Patch(notice=render.notice(waiting(batch)))
                else:
                    codes += [frame.masks for frame in batch]
                    yield Patch(canvas=_filling(len(codes), batch[-1].count))
            if turn.stop.is_set():
                yield Patch(canvas=NOT_FILLING, notice=render.notice(STOPPED), busy=False)
                return
            colors = {known.object_id: known.color for known in shown}
            film = render.write_film(stored, codes, colors, f"unipixel-every-frame-{turn.turn_id[:8]}")
            canvas = {**NOT_FILLING, "film": render.file_data(film)}
            yield Patch(canvas=canvas, notice="", download=film, busy=False)

        yield from self._run_apart(session, owner, work)

    def fill_frames(
        self, media: Media, objects: Sequence[MemoryObject], turn: RunningTurn
    ) -> Iterator[list[SourceFrame] | Waiting]:
        """Masks of `objects` on every frame of the source, in order, a few frames at a time as they are found."""
        packed = tuple(PackedMasklet(o.object_id, tuple(o.rles), o.scores, o.label) for o in objects)
        request = FillRequest(media, packed, turn.turn_id)
        for batch in run_events(lambda: self.filler(request), turn, self.line):
            if isinstance(batch, Waiting):
                yield batch
            elif frames := [event for event in batch if isinstance(event, SourceFrame)]:
                yield frames

    def _run_apart(
        self, session: Session, owner: str, work: Callable[[StoredMedia, RunningTurn], Iterator[Patch]]
    ) -> Iterator[Patch]:
        """Run `work` as the session's only computation; what goes wrong becomes a sentence."""
        if self.turns.busy(owner):
            yield refuse(BUSY)
            return
        try:
            stored = self.store.get(session.media_id)
            with self.turns.open(owner) as turn:
                for patch in work(stored, turn):
                    if turn.dropped:
                        return
                    yield patch
        except ValueError as error:
            yield replace(refuse(str(error)), busy=False)
        except Exception:
            logger.exception("Following objects failed")
            yield replace(refuse(BROKEN), canvas=NOT_FILLING, busy=False)


def _filling(done: int, count: int) -> dict[str, Any]:
    """The prop that shows how far the work on every frame is."""
    return {"filling": {"done": done, "count": count}}


def waiting(ahead: int) -> str:
    """How many others come first, in words."""
    people = "one other question" if ahead == 1 else f"{ahead} other questions"
    return f"Waiting for {people}…"
