"""What all handlers of the page share: the model calls, the media, the line for the model, the page after a change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unipixel.media import load_media
from unipixel.types import Media, Point, Prompt, Region, decode_rle
from unipixel.web import render
from unipixel.web.chat import chat_messages
from unipixel.web.examples import Example
from unipixel.web.gpu import Answerer, Filler, MaskletsFound, PackedMasklet, Previewer, Rle, Tracker, TrackRequest
from unipixel.web.marks import Marks, marked_ids, read_marks
from unipixel.web.patch import NO_PREVIEW, Patch, canvas_media, refuse
from unipixel.web.session import Session
from unipixel.web.store import GONE, MediaStore, StoredMedia
from unipixel.web.turns import Line, RunningTurns

PREVIEW_PATIENCE = 1.5  # seconds a preview waits for the model


def _no_calls(request: Any) -> Iterator[Any]:
    raise ValueError("This page cannot follow objects without a question.")


@dataclass(eq=False)
class Desk:
    """The base of the handlers; it holds nothing of any single session."""

    answerer: Answerer
    previewer: Previewer
    store: MediaStore
    upload_folder: Path
    examples: Sequence[Example] = ()
    load: Callable[[Path], Media] = load_media
    tracker: Tracker = _no_calls
    filler: Filler = _no_calls
    line: Line = field(default_factory=Line)
    turns: RunningTurns = field(default_factory=RunningTurns)

    def changed(self, session: Session) -> Patch:
        """The page after objects changed."""
        if session.media_id is not None and self.store.find(session.media_id) is None:
            return refuse(GONE)
        items = self.items(session)
        return Patch(session, self._canvas(session, items), items, chat_messages(session), "")

    def opened(self, session: Session, marks: Sequence[dict[str, Any]] = ()) -> Patch:
        """The page after another medium was opened; `marks` are drawn on it from the start."""
        stored = self.store.find(session.media_id)
        if stored is None:
            return refuse(GONE)
        patch = self.changed(session)
        return replace(
            patch, canvas={**(patch.canvas or {}), "media": canvas_media(stored, marks), "preview": NO_PREVIEW}
        )

    def items(self, session: Session) -> list[dict[str, Any]]:
        """The rows of the object list: the objects of all media."""
        rows = []
        for medium in session.media:
            stored = self.store.find(medium.media_id)
            title = medium.title if len(session.media) > 1 else ""
            place = {"medium": medium.number, "title": title, "here": medium.number == session.opened}
            rows += [{**row, **place} for row in render.object_items(medium.bank, stored, medium.anchors)]
        return rows

    def _canvas(self, session: Session, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The props of the prompter that show all media, and the objects of the open one."""
        keys = ("id", "color", "label", "first", "strip", "anchors")
        return {
            "album": [
                {"id": m.media_id, "number": m.number, "title": m.title, "thumb": m.thumb, "ids": list(m.bank)}
                for m in session.media
            ],
            "objects": [{key: item[key] for key in keys} for item in items if item["medium"] == session.opened],
            "overlays": render.mask_layers(render.bank_codes(session.bank), session.bank),
            "next_id": session.bank.next_id(),
            "film": None,
            "revertible": bool(session.before),
            "stamp": time.time(),
        }

    def read(self, session: Session, stored: StoredMedia, value: Any) -> Marks:
        """The marks on the canvas; strokes on a remembered object change the mask it has."""

        def present(object_id: int, frame: int) -> Any:
            known = session.bank.get(object_id)
            return None if known is None else decode_rle([known.rles[frame]])[0]

        return read_marks(value, stored.media_id, stored.picture, removed=session.removed, present=present)

    def noted(self, session: Session, value: Any) -> Session:
        """The session that knows which objects have marks on the canvas `value`; ValueError if it cannot be read."""
        return session.with_drafts({m.number: marked_ids(value, m.media_id) for m in session.media})

    def at_once(self, compute: Callable[[], Any]) -> Any:
        """What `compute` gives if the model is free soon, else None."""
        until = time.monotonic() + PREVIEW_PATIENCE
        with self.line.place(object(), lambda: time.monotonic() > until) as admitted:
            return compute() if admitted else None

    def preview_masks(
        self, session: Session, stored: StoredMedia, prompts: Sequence[Prompt]
    ) -> dict[int, tuple[Rle, ...]]:
        """Masks of marks on one frame by object id, best first: of a new object, or a known one corrected."""
        new = tuple(p for p in prompts if p.object_id not in session.bank)
        found = dict(self.previewer(stored.media, new)) if new else {}
        for object_id in sorted({p.object_id or 0 for p in prompts if p.object_id in session.bank}):
            own = tuple(p for p in prompts if p.object_id == object_id)
            for event in self.tracker(track_request(session, stored.media, own, "", retrack=False)):
                assert isinstance(event, MaskletsFound)
                found[object_id] = (event.masklets[0].rles[own[0].frame],)
        return found

    def with_picks(
        self, session: Session, stored: StoredMedia, marks: Marks, prompts: Sequence[Prompt]
    ) -> tuple[Prompt, ...]:
        """`prompts` with clicks whose other readings were chosen replaced by the chosen masks."""
        out: list[Prompt] = []
        for prompt in prompts:
            pick = marks.picks.get((prompt.object_id or 0, prompt.frame), 0)
            if pick and isinstance(prompt, Point) and prompt.object_id not in session.bank:
                readings = self.previewer(stored.media, (prompt,))[prompt.object_id or 0]
                mask = decode_rle([readings[min(pick, len(readings) - 1)]])[0]
                prompt = Region(mask, prompt.frame, prompt.object_id) if mask.any() else prompt
            out.append(prompt)
        return tuple(out)


def track_request(
    session: Session, media: Media, prompts: tuple[Prompt, ...], turn_id: str, *, retrack: bool = True
) -> TrackRequest:
    """What the tracker needs for the marks of one object, known or new."""
    object_id = prompts[0].object_id or 0
    known = session.bank.get(object_id)
    packed = None if known is None else PackedMasklet(object_id, tuple(known.rles), known.scores, known.label)
    anchors = session.anchors.get(object_id, frozenset())
    return TrackRequest(media, prompts, turn_id, packed, anchors, retrack)


def rev_and_frame(value: Any) -> tuple[Any, Any]:
    """The canvas value's counter and the frame in view, as the browser sent them."""
    known = value if isinstance(value, Mapping) else {}
    return known.get("rev", 0), known.get("frame", 0)
