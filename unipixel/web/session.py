"""What one visitor's session holds: the media of a dialogue with their objects, and what was said about them.

A `Session` is small and immutable and travels through `gr.State`; the pixels stay in a `MediaStore` on the server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from unipixel.memory import MemoryObject, ObjectMemoryBank
from unipixel.types import Turn
from unipixel.web.marks import Digests

MAX_MEDIA = 8  # pictures and clips of one dialogue
MAX_BEFORE = 20  # corrections that can be taken back

NO_MEDIUM = "That picture or video is not part of this dialogue."
LAST_MEDIUM = "This is the dialogue's only picture or video; Reset starts anew."
FULL_ALBUM = f"A dialogue holds at most {MAX_MEDIA} pictures and videos; remove one first."
NOTHING_ASKED = "There is no question to ask again."
QUESTION_GONE = "The picture or video of the last question was removed; ask a new one."


@dataclass(frozen=True)
class ChatEntry:
    """One question with its answer: `result` is the file shown under it, `download` the one offered for saving.

    `made` are the objects that the answer found by itself. `medium` is the number of the picture or clip it was about,
    `title` what that is called, which the dialogue still says when it was removed.
    """

    question: str
    answer: str
    notes: tuple[str, ...] = ()
    result: str | None = None
    download: str | None = None
    made: frozenset[int] = frozenset()
    medium: int = 0
    title: str = ""


@dataclass(frozen=True)
class Medium:
    """One picture or clip of a dialogue and what is known about it; `num_frames` is that of a clip, 0 for a picture.

    `number` is never given to another one of the dialogue. `applied` notes which marks each remembered object was made
    from, so that unchanged marks are not computed again, `anchors` the frames that somebody marked or corrected: later
    corrections end there. `drafts` are the numbers of marks that no object was made from yet, as last seen. `before`
    holds the medium before each of the last corrections, to go back to.
    """

    number: int = 0
    media_id: str | None = None
    num_frames: int = 0
    thumb: str = field(default="", repr=False)  # data URI
    bank: ObjectMemoryBank = field(default_factory=ObjectMemoryBank)
    applied: Digests = field(default_factory=dict)
    anchors: Mapping[int, frozenset[int]] = field(default_factory=dict)
    drafts: frozenset[int] = frozenset()
    before: tuple[Medium, ...] = ()

    @property
    def title(self) -> str:
        return f"{'Video' if self.num_frames else 'Picture'} {self.number}"

    @property
    def numbers(self) -> frozenset[int]:
        """Object numbers that belong here, or did."""
        return self.bank.used_ids | self.drafts


_NONE_OPEN = Medium()


@dataclass(frozen=True)
class Session:
    """One visitor's dialogue about up to `MAX_MEDIA` pictures and clips, of which `opened` (a number) is in view.

    What concerns one medium (`bank`, `applied`, ...) is that of the open one. An object's number is never given twice
    in a dialogue, whatever the medium: `retired` are those of removed media, `given` counts the media so far.
    `editing` says that the next question replaces the last one, `refused` why the last one was not answered.
    """

    media: tuple[Medium, ...] = ()
    opened: int = 0
    entries: tuple[ChatEntry, ...] = ()
    editing: bool = False
    refused: str = ""
    retired: frozenset[int] = frozenset()
    given: int = 0

    # ----------------------------------------------------------------------------------------- the open medium

    @property
    def current(self) -> Medium:
        """The open medium; one without an id if there is none."""
        return self.medium(self.opened) or _NONE_OPEN

    @property
    def media_id(self) -> str | None:
        return self.current.media_id

    @property
    def applied(self) -> Digests:
        return self.current.applied

    @property
    def anchors(self) -> Mapping[int, frozenset[int]]:
        return self.current.anchors

    @property
    def before(self) -> tuple[Medium, ...]:
        return self.current.before

    @property
    def bank(self) -> ObjectMemoryBank:
        """The objects of the open medium, in a bank that gives out no number that another medium has or had."""
        bank = self.current.bank
        return replace(bank, retired=bank.retired | self.elsewhere)

    @property
    def elsewhere(self) -> frozenset[int]:
        """Object numbers of the other media, removed ones too."""
        return self.retired.union(*(medium.numbers for medium in self.media if medium.number != self.opened))

    @property
    def removed(self) -> frozenset[int]:
        """Ids that no mark here may have: a deleted object never comes back, or "@1" in an old answer would change."""
        return self.bank.retired

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said about the open medium, as the model gets it."""
        return tuple(Turn(entry.question, entry.answer) for entry in self.entries if entry.medium == self.opened)

    def with_bank(self, bank: ObjectMemoryBank) -> Session:
        """The session with another bank of the open medium; what was noted of objects that are gone is dropped."""
        own = replace(bank, retired=bank.retired - self.elsewhere)
        applied = {i: digests for i, digests in self.applied.items() if i in bank}
        anchors = {i: frames for i, frames in self.anchors.items() if i in bank}
        return self._with_current(replace(self.current, bank=own, applied=applied, anchors=anchors, before=()))

    def with_marks(self, digests: Digests, object_ids: Collection[int]) -> Session:
        """The session after the marks of `object_ids` were applied; their frames are anchors from now on."""
        fresh = {i: dict(frames) for i, frames in digests.items() if i in object_ids and i in self.bank}
        anchors = {i: self.anchors.get(i, frozenset()) | frozenset(frames) for i, frames in fresh.items()}
        applied = {**self.applied, **fresh}
        return self._with_current(replace(self.current, applied=applied, anchors={**self.anchors, **anchors}))

    def with_loaded(self, bank: ObjectMemoryBank, applied: Digests) -> Session:
        """The session with a bank from a file for the open medium; the marks `applied` are not to change it."""
        there = self.with_bank(bank)
        return there._with_current(replace(there.current, applied=applied, anchors={}))

    def corrected_to(self, after: Session) -> Session:
        """`after` a correction of the open medium, which can be taken back."""
        before = (*self.before, replace(self.current, before=()))[-MAX_BEFORE:]
        return after._with_current(replace(after.current, before=before))

    def reverted(self) -> Session:
        """The session before the open medium's last correction; ValueError if something else was done to it since.

        The marks of the correction count as used: a later question must not make it again.
        """
        if not self.before:
            raise ValueError("There is no correction to undo.")
        past = self.before[-1]
        used = {i: digests for i, digests in self.applied.items() if i in past.bank}
        return self._with_current(replace(past, before=self.before[:-1], applied={**past.applied, **used}))

    def with_entry(self, entry: ChatEntry) -> Session:
        """The session after a question about the open medium was answered."""
        entry = replace(entry, medium=self.opened, title=self.current.title)
        return replace(self, entries=(*self.entries, entry), refused="")

    def _with_current(self, medium: Medium) -> Session:
        return replace(self, media=tuple(medium if m.number == self.opened else m for m in self.media))

    # ----------------------------------------------------------------------------------------- all media

    def medium(self, number: int) -> Medium | None:
        return next((medium for medium in self.media if medium.number == number), None)

    @property
    def objects(self) -> dict[int, MemoryObject]:
        """The remembered objects of all media by their numbers."""
        return {known.object_id: known for medium in self.media for known in medium.bank.objects}

    def home(self, object_id: int) -> Medium | None:
        """The medium on which an object is remembered, or only marked."""
        return next((m for m in self.media if object_id in m.bank or object_id in m.drafts), None)

    def adding(self, media_id: str, num_frames: int = 0, thumb: str = "") -> Session:
        """The session with one more medium, which is open; ValueError if there is no room for it."""
        if len(self.media) >= MAX_MEDIA:
            raise ValueError(FULL_ALBUM)
        number = self.given + 1
        return replace(
            self, media=(*self.media, Medium(number, media_id, num_frames, thumb)), opened=number, given=number
        )

    def opening(self, number: int) -> Session:
        """The session with another medium open; ValueError if there is no such medium."""
        if self.medium(number) is None:
            raise ValueError(NO_MEDIUM)
        return replace(self, opened=number)

    def viewing(self, media_id: object) -> Session:
        """The session with the medium open that the canvas shows: another one may be on its way there."""
        shown = next((medium.number for medium in self.media if medium.media_id == media_id), self.opened)
        return replace(self, opened=shown)

    def removing(self, number: int) -> Session:
        """The session without a medium, whose objects are forgotten while their numbers stay taken.

        If it was open, the one before it is; ValueError if there is no such medium or no other one.
        """
        gone = self.medium(number)
        if gone is None or len(self.media) < 2:
            raise ValueError(NO_MEDIUM if gone is None else LAST_MEDIUM)
        place = self.media.index(gone)
        kept = (*self.media[:place], *self.media[place + 1 :])
        opened = kept[max(0, place - 1)].number if number == self.opened else self.opened
        editing = self.editing and self.entries[-1].medium != number
        return replace(self, media=kept, opened=opened, editing=editing, retired=self.retired | gone.bank.used_ids)

    def with_drafts(self, marked: Mapping[int, frozenset[int]]) -> Session:
        """The session that knows which object numbers have `marked` places on each medium, by its number."""
        media = (replace(m, drafts=marked.get(m.number, m.drafts) - m.bank.used_ids) for m in self.media)
        return replace(self, media=tuple(media))

    @property
    def last_entry(self) -> ChatEntry:
        """The last question; ValueError if there is none, or its medium was removed."""
        if not self.entries:
            raise ValueError(NOTHING_ASKED)
        if self.medium(self.entries[-1].medium) is None:
            raise ValueError(QUESTION_GONE)
        return self.entries[-1]

    def rewound(self) -> Session:
        """The session before its last question, its medium open: objects that the answer found are forgotten.

        Objects that were marked stay. ValueError as for `last_entry`.
        """
        last = self.last_entry
        there = replace(self, opened=last.medium, entries=self.entries[:-1], editing=False)
        kept = tuple(known for known in there.bank.objects if known.object_id not in last.made)
        return there.with_bank(replace(there.bank, objects=kept))
