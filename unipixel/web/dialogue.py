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
from unipixel.web import log, render
from unipixel.web.chat import chat_messages
from unipixel.web.gpu import MaskletsFound, MasksFound, PackedMasklet, Rle, TurnDone, TurnRequest, WireEvent
from unipixel.web.marks import REMOVED, TOO_MANY, Marks, canvas_of, check_positive
from unipixel.web.patch import BROKEN, BUSY, STOPPED, TRUNCATED, Patch, refuse
from unipixel.web.session import ChatEntry, Session
from unipixel.web.store import StoredMedia
from unipixel.web.tracking import Tracking, waiting
from unipixel.web.turns import FULL, RunningTurn, Waiting, run_events

logger = logging.getLogger(__name__)

NOT_DRAWN = "The masks are here, but their file could not be written."
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

    def begin(self, session: Session, owner: str, question: Any, value: Any = None) -> Patch:
        """Take a question: open the medium it is about, show it and lock the box, or say what is wrong with it."""
        if self.turns.busy(owner):
            log.log_refusal("answer")
            return replace(refuse(BUSY), pending="")
        try:
            session = self.noted(session, value)
            checked = check_text(question)
            asking = _asking(session, checked.text)
            self.store.get(asking.media_id)
        except ValueError as error:
            return self._refuse(session, str(error))
        patch = Patch()
        if asking.opened != session.opened:
            patch = self.opened(asking)
        elif session.editing:
            patch = self.changed(asking)
        # What is edited stays in the session until there is an answer to put in its place.
        session = replace(session, opened=asking.opened, refused="")
        shown = chat_messages(replace(asking, refused=""), question=checked.text)
        return replace(patch, session=session, chat=shown, notice="", question="", pending=checked.text, busy=True)

    def retry(self, session: Session, owner: str, value: Any = None) -> Patch:
        """Ask the last question again, as if it had not been asked."""
        try:
            return self.begin(replace(session, editing=True), owner, session.last_entry.question, value)
        except ValueError as error:
            return self._refuse(session, str(error))

    def edit(self, session: Session, owner: str) -> Patch:
        """Put the last question into its box; sending it replaces the old one. Asked a second time: leave it."""
        if self.turns.busy(owner):
            return refuse(BUSY)
        if session.editing:
            return Patch(replace(session, editing=False), notice="", question="")
        try:
            question = session.last_entry.question
        except ValueError as error:
            return refuse(str(error))
        return Patch(replace(session, editing=True), notice=render.notice(REPLACES), question=question)

    def answer(self, session: Session, owner: str, question: str, value: Any) -> Iterator[Patch]:
        """Answer `question`, patch by patch; the last one holds the new session.

        New marks on objects that are known already are corrections, and made first.
        """
        if not question:
            yield Patch()  # an event that yields nothing makes Gradio empty what it could have changed
            return
        try:
            with log.request_line("answer", frames=0, objects=0) as line:
                asking = _asking(self.noted(session, value), question)
                stored = self.store.get(asking.media_id)
                line.update(frames=stored.media.num_frames, objects=len(asking.bank))
                marks = self.read(asking, stored, canvas_of(value, stored.media_id))
                changed = self.with_picks(asking, stored, marks, marks.changed_since(asking.applied))
                corrections = [p for p in changed if p.object_id in asking.bank]
                new = tuple(p for p in changed if p.object_id not in asking.bank)
                check_positive(new)
                _check_ids(question, asking, marks.object_ids())
                with self.turns.open(owner) as turn:
                    asking = yield from self.follow_marks(asking, stored, corrections, marks.digests, turn)
                    session = session if session.editing else asking
                    request = TurnRequest(stored.media, question, new, asking.bank, asking.turns, turn.turn_id)
                    yield from self._run(_Asked(request, asking, stored, marks, turn, line))
        except ValueError as error:
            yield self.give_back(session, question, str(error))
        except Exception:
            logger.exception("A turn failed")
            yield self.give_back(session, question, BROKEN)

    def _run(self, asked: _Asked) -> Iterator[Patch]:
        progress = Progress(asked.session.bank)
        show = partial(chat_messages, question=asked.request.question)
        for batch in run_events(lambda: self.answerer(asked.request), asked.turn, self.line):
            if asked.turn.dropped:
                break
            if isinstance(batch, Waiting):
                yield Patch(chat=show(asked.session, status=waiting(batch)))
                continue
            masks_changed = progress.take(batch)
            canvas = _live_canvas(progress) if masks_changed and not progress.done else None
            yield Patch(canvas=canvas, chat=show(asked.session.with_bank(progress.bank_so_far()), answer=progress.text))
        if asked.turn.dropped:
            asked.line["outcome"] = log.LEFT
            return
        yield from self._finish(asked, progress)

    def _finish(self, asked: _Asked, progress: Progress) -> Iterator[Patch]:
        """Two patches: text and masks at once, the drawn file when it is written. Until then the turn is not over."""
        request, session, turn = asked.request, asked.session, asked.turn
        bank = progress.bank_so_far()
        stopped = turn.stop.is_set() or progress.done is None or progress.done.cancelled
        asked.line.update(objects=len(bank), outcome=log.STOPPED if stopped else log.DONE)
        notes = (STOPPED,) if stopped else (TRUNCATED,) if progress.done and progress.done.truncated else ()
        made = progress.new_ids() - set(session.bank) - {p.object_id for p in request.prompts}
        entry = ChatEntry(request.question, progress.text, notes, made=frozenset(made))
        # A turn cut short may not have reached every marked object: only those it did are up to date.
        settled = progress.new_ids() if stopped else set(bank)
        after = session.with_bank(bank).with_entry(entry).with_marks(asked.marks.digests, settled)
        yield replace(self.changed(after), pending="")
        shown = (progress.new_ids() | set(mentioned_ids(f"{request.question} {progress.text}"))) & set(bank)
        if turn.dropped:
            return
        yield self._with_file(asked, after, shown) if shown else Patch(busy=False)

    def _with_file(self, asked: _Asked, after: Session, shown: set[int]) -> Patch:
        """The end of a turn with the drawn masks of the objects `shown`; what was answered stays without them too."""
        name = f"unipixel-masks-{asked.turn.turn_id[:8]}"
        try:
            result, download = render.write_result(asked.stored, after.bank, shown, name)
        except Exception:
            logger.exception("Drawing a result failed")
            return Patch(notice=render.notice(NOT_DRAWN, error=True), busy=False)
        entry = replace(after.entries[-1], result=result, download=download)
        after = replace(after, entries=(*after.entries[:-1], entry))
        return Patch(after, chat=chat_messages(after), download=download, busy=False)

    def stop(self, owner: str) -> None:
        """End the running turn; what it said and found is kept."""
        self.turns.stop(owner)

    def give_back(self, session: Session, question: str, reason: str = FULL) -> Patch:
        """A turn that did not happen: the question returns to its box, the page to what it was, the chat says why."""
        session = replace(session, refused=reason)
        patch = self.changed(session)
        if patch.session is None:  # its media are gone
            patch = Patch(session, chat=chat_messages(session))
        return replace(patch, notice="", question=question or None, pending="", busy=False)

    def _refuse(self, session: Session, reason: str) -> Patch:
        """A question that was not taken: it stays in its box, the chat says why."""
        log.log_refusal("answer")
        session = replace(session, refused=reason)
        return Patch(session, chat=chat_messages(session), notice="", pending="")


@dataclass(frozen=True, eq=False)
class _Asked:
    """A turn on its way: what the model gets, and what it belongs to."""

    request: TurnRequest
    session: Session
    stored: StoredMedia
    marks: Marks
    turn: RunningTurn
    line: dict[str, Any]  # of the log


def _live_canvas(progress: Progress) -> dict[str, Any]:
    codes = {**render.bank_codes(progress.bank), **progress.found}
    return {"overlays": render.mask_layers(codes, progress.bank)}


def _asking(session: Session, question: str) -> Session:
    """The session as `question` finds it: without the last turn if it replaces that, open what its `@id`s are on.

    Raises ValueError if those are on several media: the model sees one at a time.
    """
    if session.editing:
        session = session.rewound()
    homes = {i: home for i in mentioned_ids(question) if (home := session.home(i))}
    first = next(iter(homes.values()), session.current)
    for i, home in homes.items():
        if home.number != first.number:
            where = f"@{next(iter(homes))} is on {first.title} and @{i} on {home.title}"
            raise ValueError(f"{where}; ask about one of them at a time.")
    return replace(session, opened=first.number)


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
