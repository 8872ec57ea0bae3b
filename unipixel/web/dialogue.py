"""Questions and answers: take a question, stream the answer, keep what was said, ask again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from unipixel.grammar import MAX_OBJECTS, check_text, mentioned_ids
from unipixel.memory import ObjectMemoryBank
from unipixel.types import TextDelta
from unipixel.web import render
from unipixel.web.desk import chat
from unipixel.web.gpu import MaskletsFound, MasksFound, PackedMasklet, Rle, TurnDone, TurnRequest, WireEvent
from unipixel.web.marks import REMOVED, TOO_MANY, Marks, check_positive
from unipixel.web.patch import BROKEN, BUSY, FULL, STOPPED, TRUNCATED, Patch, refuse
from unipixel.web.session import ChatEntry, Session, StoredMedia
from unipixel.web.tracking import Tracking, waiting
from unipixel.web.turns import RunningTurn, Waiting, run_events

logger = logging.getLogger(__name__)

NOTHING_ASKED = "There is no question to ask again."
REPLACES = "Sending replaces the last question and its answer."


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
            elif isinstance(event, TurnDone):
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
class Dialogue(Tracking):
    """The handlers of the conversation."""

    def begin(self, session: Session, owner: str, question: Any) -> Patch:
        """Take a question: show it and lock the box, or say what is wrong with it."""
        if self.turns.busy(owner):
            return replace(refuse(BUSY), pending="")
        try:
            stored = self.store.get(session.media_id)
            checked = check_text(question)
        except ValueError as error:
            return replace(refuse(str(error)), pending="")
        patch = Patch()
        if session.editing:
            session = session.rewound()
            patch = Patch(session, self.canvas(session, stored), render.object_items(session.bank, stored))
        shown = chat(session, question=checked.text)
        return replace(patch, chat=shown, notice="", question="", pending=checked.text, busy=True)

    def retry(self, session: Session, owner: str) -> Patch:
        """Ask the last question again, as if it had not been asked."""
        if not session.entries:
            return replace(refuse(NOTHING_ASKED), pending="")
        return self.begin(replace(session, editing=True), owner, session.entries[-1].question)

    def edit(self, session: Session, owner: str) -> Patch:
        """Put the last question into its box; sending it replaces the old one. Asked a second time: leave it."""
        if self.turns.busy(owner) or not session.entries:
            return refuse(BUSY if session.entries else NOTHING_ASKED)
        if session.editing:
            return Patch(replace(session, editing=False), notice="", question="")
        notice = render.notice(REPLACES)
        return Patch(replace(session, editing=True), notice=notice, question=session.entries[-1].question)

    def answer(self, session: Session, owner: str, question: str, value: Any) -> Iterator[Patch]:
        """Answer `question`, patch by patch; the last one holds the new session.

        New marks on objects that are known already are corrections, and made first.
        """
        if not question:
            yield Patch()  # an event that yields nothing makes Gradio empty what it could have changed
            return
        try:
            stored = self.store.get(session.media_id)
            marks = self.read(session, stored, value)
            changed = self.with_picks(session, stored, marks, marks.changed_since(session.applied))
            corrections = [p for p in changed if p.object_id in session.bank]
            new = tuple(p for p in changed if p.object_id not in session.bank)
            check_positive(new)
            _check_ids(question, session, marks.object_ids())
            with self.turns.open(owner) as turn:
                session = yield from self.follow_marks(session, stored, corrections, marks.digests, turn)
                request = TurnRequest(stored.media, question, new, session.bank, session.turns, turn.turn_id)
                yield from self._run(_Asked(request, session, stored, marks, turn))
        except ValueError as error:
            yield self.give_back(session, question, str(error))
        except Exception:
            logger.exception("A turn failed")
            yield self.give_back(session, question, BROKEN)

    def _run(self, asked: _Asked) -> Iterator[Patch]:
        progress = Progress(asked.session.bank)
        show = partial(chat, question=asked.request.question)
        for batch in run_events(lambda: self.answerer(asked.request), asked.turn, self.line):
            if asked.turn.dropped:
                return
            if isinstance(batch, Waiting):
                yield Patch(chat=show(asked.session, status=waiting(batch)))
                continue
            masks_changed = progress.take(batch)
            canvas = _live_canvas(progress) if masks_changed and not progress.done else None
            yield Patch(canvas=canvas, chat=show(asked.session.with_bank(progress.bank_so_far()), answer=progress.text))
        if not asked.turn.dropped:
            yield from self._finish(asked, progress)

    def _finish(self, asked: _Asked, progress: Progress) -> Iterator[Patch]:
        """Two patches: text and masks at once, the drawn file when it is written."""
        request, session, turn = asked.request, asked.session, asked.turn
        bank = progress.bank_so_far()
        stopped = turn.stop.is_set() or progress.done is None or progress.done.cancelled
        notes = (STOPPED,) if stopped else (TRUNCATED,) if progress.done and progress.done.truncated else ()
        entry = ChatEntry(
            request.question, progress.text, notes, made=frozenset(progress.new_ids() - set(session.bank))
        )
        # A turn cut short may not have reached every marked object: only those it did are up to date.
        settled = progress.new_ids() if stopped else set(bank)
        after = replace(session.with_bank(bank), entries=(*session.entries, entry))
        after = after.with_marks(asked.marks.digests, settled)
        yield replace(self.changed(after), pending="", busy=False)
        shown = (progress.new_ids() | set(mentioned_ids(f"{request.question} {progress.text}"))) & set(bank)
        if not shown or turn.dropped:
            return
        result, download = render.write_result(asked.stored, bank, shown, f"unipixel-masks-{turn.turn_id[:8]}")
        entry = replace(entry, result=result, download=download)
        after = replace(after, entries=(*session.entries, entry))
        if not turn.dropped:
            yield Patch(after, chat=chat(after), download=download)

    def stop(self, owner: str) -> None:
        """End the running turn; what it said and found is kept."""
        self.turns.stop(owner)

    def give_back(self, session: Session, question: str, reason: str = FULL) -> Patch:
        """A turn that did not happen: the question returns to its box, the chat to what it was."""
        canvas = None
        if session.media_id is not None:
            codes = render.bank_codes(session.bank)
            canvas = {"overlays": render.mask_layers(codes, session.bank)}
        return replace(
            refuse(reason), chat=chat(session), canvas=canvas, question=question or None, pending="", busy=False
        )


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
