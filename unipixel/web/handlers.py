"""What happens when someone does something on the page, as plain methods: values in, a `Patch` of the page out.

No widget appears here, so every handler can be called in a test. Bad input never raises: it becomes one sentence in
`Patch.notice` (about a question, in the chat), and the session stays as it was. Media are in `album`, questions in
`dialogue`, corrections in `tracking`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.config import Config as SpacesConfig

from unipixel.memory import ObjectMemoryBank
from unipixel.types import Point
from unipixel.web import render
from unipixel.web.album import Album
from unipixel.web.desk import rev_and_frame
from unipixel.web.marks import BAD_OBJECT, REMOVED, check_frame, check_positive
from unipixel.web.patch import BROKEN, BUSY, NO_PREVIEW, PREVIEW_LATER, Patch, refuse
from unipixel.web.session import Session

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Workspace(Album):
    """All handlers: previews and objects here, the rest in the classes below."""

    # --------------------------------------------------------------------------------------------- marks

    def preview(self, session: Session, value: Any) -> Patch:
        """The masks of the marks on the frame in view, at once and without the language model."""
        rev, frame = rev_and_frame(value)
        result = {**NO_PREVIEW, "frame": frame, "rev": rev}
        try:
            session = session.viewing(value.get("media_id") if isinstance(value, Mapping) else None)
            stored = self.store.get(session.media_id)
            marks = self.read(session, stored, value)
            prompts = [p for p in marks.changed_since(session.applied) if p.frame == frame]
            prompts = self.with_picks(session, stored, marks, _previewable(prompts, session))
            codes = self.at_once(lambda: self.preview_masks(session, stored, prompts)) if prompts else {}
            if codes is None:
                result["note"] = PREVIEW_LATER
            else:
                result |= _preview_layers(codes, frame, session)
        except ValueError as error:
            result["note"] = str(error)
        except Exception:
            logger.exception("A preview failed")
            result["note"] = BROKEN
        return Patch(canvas={"preview": result})

    def look(self, session: Session, value: Any) -> None:
        """Encode the frame in view, so that the first click on it is answered at once.

        On ZeroGPU nothing that one call encodes is there for the next, and calls cost the visitor's quota.
        """
        if SpacesConfig.zero_gpu:
            return
        try:
            stored = self.store.get(session.media_id)
            frame = check_frame(rev_and_frame(value)[1], stored.media.num_frames)
            middle = Point((stored.media.width / 2, stored.media.height / 2), frame=frame, object_id=1)
            self.at_once(lambda: self.previewer(stored.media, (middle,)))
        except ValueError:
            return  # nobody asked: there is nothing to say
        except Exception:
            logger.exception("Encoding a frame ahead failed")

    # --------------------------------------------------------------------------------------------- objects

    def rename(self, session: Session, owner: str, object_id: Any, label: Any) -> Patch:
        """Give an object a name; an empty one takes the name away."""
        refused = self._refuse_object(session, owner, object_id)
        if refused is not None:
            return refused
        try:
            return self.changed(_with_bank_of(session, object_id, lambda bank: bank.renamed(object_id, label)))
        except ValueError as error:
            return refuse(str(error))

    def delete(self, session: Session, owner: str, object_id: Any) -> Patch:
        """Forget one object; its id is never used again."""
        refused = self._refuse_object(session, owner, object_id)
        return refused or self.changed(_with_bank_of(session, object_id, lambda bank: bank.without(object_id)))

    def clear_objects(self, session: Session, owner: str) -> Patch:
        """Forget all objects, keep media and chat."""
        if self.turns.busy(owner):
            return refuse(BUSY)
        for object_id in session.objects:
            session = _with_bank_of(session, object_id, lambda bank, gone=object_id: bank.without(gone))
        return self.changed(session)

    def _refuse_object(self, session: Session, owner: str, object_id: Any) -> Patch | None:
        if self.turns.busy(owner):
            return refuse(BUSY)
        if isinstance(object_id, bool) or not isinstance(object_id, int):
            return refuse(BAD_OBJECT)
        return None if object_id in session.objects else refuse(REMOVED)


def _with_bank_of(session: Session, object_id: int, change: Callable[[ObjectMemoryBank], ObjectMemoryBank]) -> Session:
    """The session after a change of the bank that holds an object, whichever medium is open."""
    home = next(medium.number for medium in session.media if object_id in medium.bank)
    there = session.opening(home)
    return there.with_bank(change(there.bank)).opening(session.opened)


def _preview_layers(codes: Mapping[int, Sequence[Any]], frame: int, session: Session) -> dict[str, Any]:
    """The preview's masks and their other readings as pictures: `{id: URI}` and `{id: [URI, ...]}`.

    A known object whose marks leave nothing of it has "": there is no mask now, in place of the one it had.
    """

    def layers(rank: int) -> dict[str, str]:
        chosen = {i: {frame: found[rank]} for i, found in codes.items() if len(found) > rank}
        return render.mask_layers(chosen, session.bank).get(str(frame), {})

    most = max(map(len, codes.values()), default=1)
    others: dict[str, list[str]] = {}
    for rank in range(1, most):
        for object_id, uri in layers(rank).items():
            others.setdefault(object_id, []).append(uri)
    empty = {str(object_id): "" for object_id in codes if object_id in session.bank}
    return {"masks": empty | layers(0), "others": others}


def _previewable(prompts: Sequence[Any], session: Session) -> tuple[Any, ...]:
    """Prompts of the objects that have a "this" mark on the frame or a mask already; others have nothing to show."""
    kept = []
    for object_id in dict.fromkeys(p.object_id for p in prompts):
        own = [p for p in prompts if p.object_id == object_id]
        try:
            if object_id not in session.bank:
                check_positive(own)
        except ValueError:
            continue
        kept += own
    return tuple(kept)
