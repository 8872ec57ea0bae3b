"""What happens when someone does something on the page, as plain methods: values in, a `Patch` of the page out.

No widget appears here, so every handler can be called in a test. Bad input never raises: it becomes one sentence in
`Patch.notice`, and the session stays as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from unipixel.grammar import MAX_OBJECTS, check_text, mentioned_ids
from unipixel.media import load_media
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Media, TextDelta
from unipixel.web import render
from unipixel.web.examples import Example
from unipixel.web.gpu import (
    Answerer,
    MaskletsFound,
    MasksFound,
    PackedMasklet,
    Previewer,
    Rle,
    TurnDone,
    TurnRequest,
    WireEvent,
)
from unipixel.web.marks import BAD_OBJECT, REMOVED, TOO_MANY, Marks, check_positive, read_marks
from unipixel.web.session import ChatEntry, MediaStore, Session, StoredMedia
from unipixel.web.turns import FULL, Line, RunningTurn, RunningTurns, Waiting, run_events

logger = logging.getLogger(__name__)

BUSY = "Wait for the answer, or press Stop first."
BROKEN = "Something went wrong on the server; please try again."
STOPPED = "Stopped."
TRUNCATED = "The answer reached the length limit."
PREVIEW_LATER = "The preview comes back when the running answer is done."
PREVIEW_PATIENCE = 1.5  # seconds a preview waits for the model

NO_PREVIEW: dict[str, Any] = {"frame": 0, "masks": {}, "note": "", "rev": 0}


@dataclass
class Patch:
    """What changes on the page; None means "as it is"."""

    session: Session | None = None
    canvas: dict[str, Any] | None = None  # props of the prompter
    objects: list[dict[str, Any]] | None = None  # rows of the object list
    chat: list[dict[str, Any]] | None = None
    notice: str | None = None  # HTML; "" clears it
    download: str | None = None  # file to save; "" takes the button away
    question: str | None = None  # text of the question box
    pending: str | None = None  # question on its way; "" for none
    busy: bool | None = None  # Send or Stop


@dataclass
class Progress:
    """What a running turn has said and found so far."""

    bank: ObjectMemoryBank
    text: str = ""
    found: dict[int, dict[int, Rle]] = field(default_factory=dict)
    masklets: dict[int, PackedMasklet] = field(default_factory=dict)
    done: TurnDone | None = None

    def take(self, events: Sequence[WireEvent]) -> bool:
        """Add events; True if masks changed."""
        changed = False
        for event in events:
            if isinstance(event, TextDelta):
                self.text += event.text
            elif isinstance(event, MasksFound):
                changed = True
                for object_id, frames in event.masks.items():
                    self.found.setdefault(object_id, {}).update(frames)
            elif isinstance(event, MaskletsFound):
                changed = True
                for packed in event.masklets:
                    self.masklets[packed.object_id] = packed
                    self.found[packed.object_id] = dict(enumerate(packed.rles))
            else:
                self.done = event
                self.text = event.text
        return changed

    def bank_so_far(self) -> ObjectMemoryBank:
        """The bank after the turn; of a turn cut short, the bank before it with the complete masklets."""
        if self.done is not None:
            return self.done.bank
        bank = self.bank
        for packed in self.masklets.values():
            bank = bank.with_object(packed.unpack())
        return bank

    def new_ids(self) -> set[int]:
        """Objects this turn marked or found."""
        return set(self.masklets) | (set(self.done.object_ids) if self.done else set())


@dataclass(eq=False)
class Workspace:
    """The handlers with what they share between sessions: the model calls, the media, the line for the model."""

    answerer: Answerer
    previewer: Previewer
    store: MediaStore
    upload_folder: Path
    examples: Sequence[Example] = ()
    load: Callable[[Path], Media] = load_media
    line: Line = field(default_factory=Line)
    turns: RunningTurns = field(default_factory=RunningTurns)

    # --------------------------------------------------------------------------------------------- media

    def upload(self, owner: str, file: Any) -> Patch:
        """Read an uploaded file (`{"path": ...}`) and start a new dialogue about it."""
        path = file.get("path") if isinstance(file, Mapping) else None
        if not isinstance(path, str) or not self._is_upload(path):
            return _refuse_media("The upload did not arrive; please try again.")
        return self._open(owner, Path(path))

    def open_example(self, owner: str, index: Any) -> Patch:
        """Load an example with its marks and put its question into the box."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.examples):
            return _refuse_media("That example does not exist.")
        example = self.examples[index]
        patch = self._open(owner, example.path, example.marks)
        return patch if patch.session is None else replace(patch, question=example.question)

    def reset(self, owner: str) -> Patch:
        """Everything back to the start."""
        self.unload(owner)
        canvas = {"media": None, "objects": [], "overlays": {}, "preview": NO_PREVIEW, "next_id": 1}
        return Patch(Session(), canvas, [], [], "", "", "", "", False)

    def unload(self, owner: str) -> None:
        """The visitor has left: stop the turn and forget the media."""
        self.turns.drop(owner)
        self.store.drop_owner(owner)

    def _is_upload(self, path: str) -> bool:
        try:
            return Path(path).resolve(strict=True).is_relative_to(self.upload_folder.resolve())
        except (OSError, ValueError):
            return False

    def _open(self, owner: str, path: Path, marks: Sequence[dict[str, Any]] = ()) -> Patch:
        try:
            media = self.load(path)
        except ValueError as error:
            return _refuse_media(str(error))
        except Exception:
            logger.exception("Reading an upload failed")
            return _refuse_media(BROKEN)
        self.turns.drop(owner)
        stored = self.store.add(owner, media)
        session = Session(stored.media_id)
        canvas = self._canvas(session, stored)
        canvas |= {"media": _canvas_media(stored, marks), "preview": NO_PREVIEW}
        notes = " ".join(media.notices)
        return Patch(session, canvas, [], [], render.notice(notes), "", None, "", False)

    # --------------------------------------------------------------------------------------------- marks

    def preview(self, session: Session, value: Any) -> Patch:
        """The masks of the marks on the frame in view, at once and without the language model."""
        rev = value.get("rev", 0) if isinstance(value, Mapping) else 0
        frame = value.get("frame", 0) if isinstance(value, Mapping) else 0
        result = {"frame": frame, "masks": {}, "note": "", "rev": rev}
        try:
            stored = self.store.get(session.media_id)
            marks = read_marks(value, stored.media_id, stored.picture, removed=session.removed)
            prompts = _previewable(marks.on_frame(frame))
            if prompts:
                codes = self._compute_preview(stored, prompts)
                if codes is None:
                    result["note"] = PREVIEW_LATER
                else:
                    found = {object_id: {frame: rle} for object_id, rle in codes.items()}
                    result["masks"] = render.mask_layers(found, session.bank).get(str(frame), {})
        except ValueError as error:
            result["note"] = str(error)
        except Exception:
            logger.exception("A preview failed")
            result["note"] = BROKEN
        return Patch(canvas={"preview": result})

    def _compute_preview(self, stored: StoredMedia, prompts: Sequence[Any]) -> dict[int, Rle] | None:
        """Masks by object id, or None when the model stayed busy."""
        until = time.monotonic() + PREVIEW_PATIENCE
        with self.line.place(object(), lambda: time.monotonic() > until) as admitted:
            return self.previewer(stored.media, prompts) if admitted else None

    # --------------------------------------------------------------------------------------------- objects

    def rename(self, session: Session, owner: str, object_id: Any, label: Any) -> Patch:
        """Give an object a name; an empty one takes the name away."""
        refused = self._refuse_object(session, owner, object_id)
        if refused is not None:
            return refused
        try:
            return self._changed(_with_bank(session, session.bank.renamed(object_id, label)))
        except ValueError as error:
            return _refuse(str(error))

    def delete(self, session: Session, owner: str, object_id: Any) -> Patch:
        """Forget one object; its id is never used again."""
        refused = self._refuse_object(session, owner, object_id)
        return refused or self._changed(_with_bank(session, session.bank.without(object_id)))

    def clear_objects(self, session: Session, owner: str) -> Patch:
        """Forget all objects, keep media and chat."""
        if self.turns.busy(owner):
            return _refuse(BUSY)
        return self._changed(_with_bank(session, session.bank.cleared()))

    def _refuse_object(self, session: Session, owner: str, object_id: Any) -> Patch | None:
        if self.turns.busy(owner):
            return _refuse(BUSY)
        if isinstance(object_id, bool) or not isinstance(object_id, int):
            return _refuse(BAD_OBJECT)
        return None if object_id in session.bank else _refuse(REMOVED)

    def _changed(self, session: Session) -> Patch:
        """The page after the bank changed."""
        try:
            stored = self.store.get(session.media_id)
        except ValueError as error:
            return _refuse(str(error))
        chat = render.chat_messages(session.entries, session.bank)
        items = render.object_items(session.bank, stored)
        return Patch(session, self._canvas(session, stored), items, chat, "")

    def show_bank(self, session: Session) -> Patch:
        """The page with the session's bank, which came from elsewhere."""
        return self._changed(session)

    def _canvas(self, session: Session, stored: StoredMedia) -> dict[str, Any]:
        items = render.object_items(session.bank, stored)
        keys = ("id", "color", "label", "first")
        return {
            "objects": [{key: item[key] for key in keys} for item in items],
            "overlays": render.mask_layers(render.bank_codes(session.bank), session.bank),
            "next_id": session.bank.next_id(),
        }

    # --------------------------------------------------------------------------------------------- questions

    def begin(self, session: Session, owner: str, question: Any) -> Patch:
        """Take a question: show it and lock the box, or say what is wrong with it."""
        if self.turns.busy(owner):
            return replace(_refuse(BUSY), pending="")
        try:
            self.store.get(session.media_id)
            checked = check_text(question)
        except ValueError as error:
            return replace(_refuse(str(error)), pending="")
        chat = render.chat_messages(session.entries, session.bank, question=checked.text)
        return Patch(chat=chat, notice="", question="", pending=checked.text, busy=True)

    def answer(self, session: Session, owner: str, question: str, value: Any) -> Iterator[Patch]:
        """Answer `question`, patch by patch; the last one holds the new session."""
        if not question:
            return
        try:
            stored = self.store.get(session.media_id)
            marks = read_marks(value, stored.media_id, stored.picture, removed=session.removed)
            prompts = marks.changed_since(session.applied)
            check_positive(prompts)
            _check_ids(question, session, marks.object_ids())
            with self.turns.open(owner) as turn:
                request = TurnRequest(stored.media, question, prompts, session.bank, session.turns, turn.turn_id)
                yield from self._run(_Asked(request, session, stored, marks, turn))
        except ValueError as error:
            yield self.give_back(session, question, str(error))
        except Exception:
            logger.exception("A turn failed")
            yield self.give_back(session, question, BROKEN)

    def _run(self, asked: _Asked) -> Iterator[Patch]:
        progress = Progress(asked.session.bank)
        show = partial(render.chat_messages, asked.session.entries, question=asked.request.question)
        for batch in run_events(lambda: self.answerer(asked.request), asked.turn, self.line):
            if asked.turn.dropped:
                return
            if isinstance(batch, Waiting):
                people = "one other question" if batch == 1 else f"{int(batch)} other questions"
                yield Patch(chat=show(asked.session.bank, status=f"Waiting for {people}…"))
                continue
            masks_changed = progress.take(batch)
            canvas = _live_canvas(progress) if masks_changed and not progress.done else None
            yield Patch(canvas=canvas, chat=show(progress.bank_so_far(), answer=progress.text))
        if not asked.turn.dropped:
            yield from self._finish(asked, progress)

    def _finish(self, asked: _Asked, progress: Progress) -> Iterator[Patch]:
        """Two patches: text and masks at once, the drawn file when it is written."""
        request, session, turn = asked.request, asked.session, asked.turn
        bank = progress.bank_so_far()
        stopped = turn.stop.is_set() or progress.done is None or progress.done.cancelled
        notes = (STOPPED,) if stopped else (TRUNCATED,) if progress.done and progress.done.truncated else ()
        entry = ChatEntry(request.question, progress.text, notes)
        # A turn cut short may not have reached every marked object: only those it did are up to date.
        settled = progress.new_ids() if stopped else set(bank)
        fresh = {k: v for k, v in (asked.marks.digests or {}).items() if k in settled}
        applied = {**session.applied, **fresh}
        after = replace(session, bank=bank, applied=applied, entries=(*session.entries, entry))
        yield replace(self._changed(after), pending="", busy=False)
        shown = (progress.new_ids() | set(mentioned_ids(f"{request.question} {progress.text}"))) & set(bank)
        if not shown or turn.dropped:
            return
        result, download = render.write_result(asked.stored, bank, shown, f"unipixel-masks-{len(after.entries)}")
        entry = replace(entry, result=result, download=download)
        after = replace(after, entries=(*session.entries, entry))
        if not turn.dropped:
            yield Patch(after, chat=render.chat_messages(after.entries, bank), download=download)

    def stop(self, owner: str) -> None:
        """End the running turn; what it said and found is kept."""
        self.turns.stop(owner)

    def give_back(self, session: Session, question: str, reason: str = FULL) -> Patch:
        """A turn that did not happen: the question returns to its box, the chat to what it was."""
        chat = render.chat_messages(session.entries, session.bank)
        canvas = None
        if session.media_id is not None:
            codes = render.bank_codes(session.bank)
            canvas = {"overlays": render.mask_layers(codes, session.bank)}
        return replace(_refuse(reason), chat=chat, canvas=canvas, question=question or None, pending="", busy=False)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A turn on its way: what the model gets, and what it belongs to."""

    request: TurnRequest
    session: Session
    stored: StoredMedia
    marks: Marks
    turn: RunningTurn


def _live_canvas(progress: Progress) -> dict[str, Any]:
    codes = {**render.bank_codes(progress.bank), **progress.found}
    return {"overlays": render.mask_layers(codes, progress.bank)}


def _with_bank(session: Session, bank: ObjectMemoryBank) -> Session:
    applied = {object_id: digest for object_id, digest in session.applied.items() if object_id in bank}
    return replace(session, bank=bank, applied=applied)


def _refuse(reason: str) -> Patch:
    return Patch(notice=render.notice(reason, error=True))


def _refuse_media(reason: str) -> Patch:
    """Say it where the eyes are, beside the canvas too; the time makes equal refusals differ, so that both arrive."""
    return replace(_refuse(reason), canvas={"refused": {"reason": reason, "time": time.time()}})


def _previewable(prompts: Sequence[Any]) -> tuple[Any, ...]:
    """Prompts of the objects that have at least one "this" mark on the frame; others have nothing to show there."""
    kept = []
    for object_id in dict.fromkeys(p.object_id for p in prompts):
        own = [p for p in prompts if p.object_id == object_id]
        try:
            check_positive(own)
        except ValueError:
            continue
        kept += own
    return tuple(kept)


def _check_ids(question: str, session: Session, marked: Sequence[int]) -> None:
    """Every `@id` of the question must be remembered or marked, and all together not too many."""
    known = set(session.bank) | set(marked)
    if len(known) > MAX_OBJECTS:
        raise ValueError(TOO_MANY)
    for object_id in mentioned_ids(question):
        if object_id in session.removed:
            raise ValueError(REMOVED)
        if object_id not in known:
            raise ValueError(f"There is no object @{object_id} yet; mark it in the picture first.")


def _canvas_media(stored: StoredMedia, marks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The media as the canvas takes it; `marks` are drawn from the start."""
    return {
        "id": stored.media_id,
        "width": stored.media.width,
        "height": stored.media.height,
        "fps": render.playback_fps(stored.media),
        "frames": [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in stored.frame_files],
        "marks": list(marks),
    }
