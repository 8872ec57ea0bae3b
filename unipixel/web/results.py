"""Results of a session as one file to download: of the sampled frames at once, of every frame with progress."""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from unipixel.export import FORMATS, Take, make_receipt, read_names, write_exports, write_one, write_zip
from unipixel.memory import MemoryObject, ObjectMemoryBank
from unipixel.types import BoolArray
from unipixel.visualize import Picture
from unipixel.web import render
from unipixel.web.gpu import Engine, SourceFrame
from unipixel.web.handlers import Workspace
from unipixel.web.patch import BROKEN, BUSY, STOPPED
from unipixel.web.session import Session
from unipixel.web.store import StoredMedia
from unipixel.web.tracking import waiting
from unipixel.web.turns import RunningTurn, Waiting

logger = logging.getLogger(__name__)

NOTHING = "There are no objects yet: mark one, or ask for one."
NOT_FOUND = "The selected object has no masks yet: ask about it first."
NO_FORMAT = "Choose at least one kind of file."
NEEDS_CLIP = "That kind of file needs a video."
NEEDS_SAMPLED = "Objects to go on with are those of the sampled frames."
_FOLDER = "takeaway"  # in the session's own folder, which goes with the session
_TICK = 0.25  # seconds between two looks at how far the writing is


HERE, SELECTED, DIALOGUE = "all", "selected", "dialogue"


@dataclass(frozen=True)
class Wish:
    """What somebody wants to take away: kinds of files, on which frames, and `of` which objects.

    `HERE` are all of the open picture or video, `DIALOGUE` those of the others too, `SELECTED` is one.
    """

    names: Sequence[str]
    of: str = HERE
    every_frame: bool = False


@dataclass(frozen=True)
class Prepared:
    """What the panel shows: a sentence or a bar (HTML), the file once it is written; `busy` until then."""

    said: str = ""
    path: str | None = None
    busy: bool = False


@dataclass(eq=False)
class _Progress:
    """How many frames of the file being written are done; `stop` ends the writing at the next one."""

    stop: threading.Event
    done: int = 0

    def reach(self, t: int) -> None:
        if self.stop.is_set():
            raise CancelledError
        self.done = t + 1


@dataclass(frozen=True, eq=False)
class _WatchedTake(Take):
    """A take that tells how far its reader is, and can be stopped."""

    progress: _Progress = field(kw_only=True)

    def frames(self) -> Iterator[Picture]:
        for t, frame in enumerate(super().frames()):
            self.progress.reach(t)
            yield frame

    def masks(self, t: int) -> dict[int, BoolArray]:
        self.progress.reach(t)
        return super().masks(t)


@dataclass(frozen=True, eq=False)
class _Part:
    """The objects of one picture or clip, and the kinds of files that are made of them."""

    name: str  # of its folder, where there are several
    stored: StoredMedia
    bank: ObjectMemoryBank
    names: Sequence[str]
    every_frame: bool


# Writes one part: says how far it is, and ends with the files, or None if it was stopped.
_Steps = Generator[Prepared, None, list[Path] | None]
_Writer = Callable[[Take], list[Path]]


def prepare(
    work: Workspace, engine: Engine, session: Session, owner: str, canvas: Any, wish: Wish
) -> Iterator[Prepared]:
    """Write the file that is wished for and delete the one before it; the last value has it, or says what is wrong."""
    try:
        parts = _parts(work, session, canvas, wish)
        following = any(part.every_frame for part in parts)
        if following and work.turns.busy(owner):
            raise ValueError(BUSY)
        for part in parts:
            shutil.rmtree(part.stored.folder / _FOLDER, ignore_errors=True)
        folder = parts[0].stored.folder / _FOLDER / uuid.uuid4().hex[:12]
        with work.turns.open(owner) if following else nullcontext() as turn:
            yield from _prepare(work, engine, parts, folder, turn)
    except ValueError as error:
        yield Prepared(render.notice(str(error), error=True))
    except Exception:
        logger.exception("An export failed")
        yield Prepared(render.notice(BROKEN, error=True))


def _prepare(
    work: Workspace, engine: Engine, parts: Sequence[_Part], folder: Path, turn: RunningTurn | None
) -> Iterator[Prepared]:
    """All parts as one file in `folder`; with more than one, each has a folder of its own in an archive."""
    files = list[Path]()
    for part in parts:
        alone = len(parts) == 1
        write = partial(_write, part.names, folder if alone else folder / part.name, alone)
        if turn is not None and part.every_frame:
            made = yield from _follow_and_write(work, engine, part, write, turn)
        else:
            made = write(Take(part.stored.media, part.bank, make_receipt(engine, part.stored.media)))
        if made is None:
            shutil.rmtree(folder, ignore_errors=True)
            yield Prepared(render.notice(STOPPED))
            return
        files += made
    path = files[0] if len(parts) == 1 else write_zip([files], folder, folder / "unipixel-export.zip")
    yield Prepared(path=str(path))


def _parts(work: Workspace, session: Session, canvas: Any, wish: Wish) -> list[_Part]:
    """What is to be written; ValueError if that is nothing."""
    everywhere = wish.of == DIALOGUE
    banks = {m.number: m.bank for m in session.media if m.bank} if everywhere else {}
    if not everywhere:
        work.store.get(session.media_id)  # a session without media has nothing else to say
        banks = {session.opened: _chosen(session, canvas, wish.of == SELECTED)}
    parts, wrong = list[_Part](), [ValueError(NOTHING)]
    for medium in session.media:
        if medium.number in banks:
            stored = work.store.get(medium.media_id)
            every_frame = wish.every_frame and not stored.media.is_image
            try:
                names = _offered(wish.names, stored.media.is_image, every_frame)
            except ValueError as error:  # a picture has no GIF; the clips have
                wrong.append(error)
            else:
                parts.append(
                    _Part(medium.title.lower().replace(" ", "-"), stored, banks[medium.number], names, every_frame)
                )
    if not parts:
        raise wrong[-1]
    return parts


def _chosen(session: Session, canvas: Any, selected: bool) -> ObjectMemoryBank:
    """The objects to take: all, or the one selected on the canvas."""
    if not session.bank:
        raise ValueError(NOTHING)
    if not selected:
        return session.bank
    active = canvas.get("active") if isinstance(canvas, Mapping) else None
    if not isinstance(active, int) or active not in session.bank:
        raise ValueError(NOT_FOUND)
    return replace(session.bank, objects=(session.bank[active],))


def _offered(names: Sequence[str], is_image: bool, every_frame: bool) -> list[str]:
    """Those of `names` that these frames can be written as; ValueError if none is left."""
    offered = read_names("all", is_image, every_frame)
    wanted = [name for name in names if name in offered]
    if not wanted:
        known = any(name in FORMATS for name in names)
        raise ValueError(NO_FORMAT if not known else NEEDS_SAMPLED if every_frame else NEEDS_CLIP)
    return wanted


def _write(names: Sequence[str], folder: Path, alone: bool, take: Take) -> list[Path]:
    return [write_one(take, names, folder)] if alone else write_exports(take, names, folder)


def _follow_and_write(work: Workspace, engine: Engine, part: _Part, write: _Writer, turn: RunningTurn) -> _Steps:
    """Follow the objects through the source, then write; both can be stopped like an answer."""
    found: list[SourceFrame] = []
    media, bank = part.stored.media, part.bank
    yield Prepared(_bar("Following the objects…", 0, 0), busy=True)
    for batch in work.fill_frames(media, bank.objects, turn):
        if isinstance(batch, Waiting):
            yield Prepared(render.notice(waiting(batch)), busy=True)
        else:
            found += batch
            yield Prepared(_bar("Following the objects…", len(found), found[-1].count), busy=True)
    if turn.stop.is_set():
        return None
    objects = tuple(_on_every_frame(known, found) for known in bank.objects)
    receipt = make_receipt(engine, media, every_frame=True)
    progress = _Progress(turn.stop)
    take = _WatchedTake(media, replace(bank, objects=objects), receipt, True, progress=progress)
    return (yield from _write_watched(take, write, turn))


def _on_every_frame(known: MemoryObject, found: Sequence[SourceFrame]) -> MemoryObject:
    """A remembered object with the masks of every frame of the source."""
    counts = tuple(frame.masks[known.object_id]["counts"] for frame in found)
    return replace(known, counts=counts, scores=tuple(round(frame.scores[known.object_id], 4) for frame in found))


def _write_watched(take: _WatchedTake, write: _Writer, turn: RunningTurn) -> _Steps:
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(write, take)
        done = False
        try:
            while wait([job], _TICK).not_done:
                yield Prepared(_bar("Writing the files…", take.progress.done, take.num_frames), busy=True)
            done = not turn.stop.is_set()
        finally:
            if not done:
                turn.stop.set()  # when the visitor leaves meanwhile, the writing ends too
        # Whatever a stopped writer met, such as a folder that went with its session, is no news.
        return job.result() if done else None


def _bar(what: str, done: int, count: int) -> str:
    """How far the work is, as HTML."""
    bar = f'<progress value="{done}" max="{max(count, 1)}" aria-label="Frames done"></progress>'
    number = f"<span>{done} / {count}</span>" if count else ""
    return f'<p class="up-taking"><span>{what}</span>{bar}{number}</p>'
