"""The page's abilities as endpoints for programs: `segment`, `ask`, `track`, `describe`.

Each takes a file or goes on with the session of an earlier call, and gives JSON and, where they are asked for, files
(see `unipixel.export`). Sessions are found by an unguessable id that the first call returns; their memory, media and
files are dropped after an hour without a call.
"""

from __future__ import annotations

import inspect
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

import gradio as gr
from gradio import FileData
from gradio.events import api as api_endpoint

from unipixel import grammar
from unipixel.export import Take, describe_object, make_receipt, read_names, write_one
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Media, Prompt
from unipixel.web.callers import Caller, Callers
from unipixel.web.dialogue import Progress
from unipixel.web.gpu import (
    Answerer,
    Engine,
    Follower,
    FollowRequest,
    TurnRequest,
    WireEvent,
    follow_function,
    gpu_functions,
)
from unipixel.web.handlers import Workspace
from unipixel.web.log import request_line
from unipixel.web.marks import check_positive, read_marks
from unipixel.web.patch import BROKEN
from unipixel.web.session import ChatEntry, Session
from unipixel.web.store import NO_MEDIA, StoredMedia, uploaded_file
from unipixel.web.turns import RunningTurn, Waiting, run_events

MAX_MARKS = 200
MOST_MASK_BYTES = 4_000_000_000  # of every frame's masks at a byte a pixel, as they are computed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """What a call found: objects with their masks, on the sampled frames or on every frame of the source."""

    stored: StoredMedia
    bank: ObjectMemoryBank
    text: str = ""
    every_frame: bool = False
    truncated: bool = False


@dataclass(eq=False)
class Api:
    """The endpoints as plain methods: `work` holds media and the line for the model, `engine` names itself."""

    work: Workspace
    engine: Engine
    answerer: Answerer
    follower: Follower
    callers: Callers = field(init=False)

    def __post_init__(self) -> None:
        self.callers = Callers(lambda session_id: self.work.store.drop_owner(_owner(session_id)))

    def segment(
        self, media: FileData | None, prompt: str, session: str = "", export: str = ""
    ) -> tuple[dict[str, Any], list[FileData]]:
        """Find what a text describes in a picture or clip, and follow it.

        Args:
            media: The uploaded picture or clip; leave it out to go on with the session's.
            prompt: What to find, in plain words, such as "the two red balls".
            session: The id an earlier call returned, to keep its memory; empty for a new one.
            export: Files to make, such as "coco,davis" or "all"; empty for none.
        """
        with self._called("segment", media, session) as (caller, stored, line):
            question = grammar.segment_request(prompt, stored.media.is_image)
            found = self._turn(caller, stored, question, ())
            return self._reply(caller, found, export, line)

    def ask(
        self,
        media: FileData | None,
        question: str,
        marks: list[dict[str, Any]] | None = None,
        session: str = "",
        export: str = "",
    ) -> tuple[dict[str, Any], list[FileData]]:
        """Ask about a picture or clip and about marked objects, which questions call @1, @2, ...

        A mark is {"type": "point", "x": 33, "y": 128} or {"type": "box", "x1": 10, "y1": 100, "x2": 60, "y2": 160} in
        pixels of the picture. It may name its "object" (a number, else a new one), its "frame" (of the sampled frames,
        else 0) and, for a point, its "label" (1 for this, 0 for not this, else 1). {"type": "absent", "object": 1,
        "frame": 5} says that an object, marked on other frames, is not on this one.

        Args:
            media: The uploaded picture or clip; leave it out to go on with the session's.
            question: The question, such as "What is @1 doing?".
            marks: What is meant, a list of marks.
            session: The id an earlier call returned, to keep its memory; empty for a new one.
            export: Files to make, such as "coco,davis" or "all"; empty for none.
        """
        with self._called("ask", media, session) as (caller, stored, line):
            prompts = _read_prompts(marks or [], caller.session, stored)
            found = self._turn(caller, stored, question, prompts)
            return self._reply(caller, found, export, line)

    def track(
        self,
        media: FileData | None,
        marks: list[dict[str, Any]],
        every_frame: bool = False,
        session: str = "",
        export: str = "",
    ) -> tuple[dict[str, Any], list[FileData]]:
        """Follow marked objects through a clip, without the language model.

        Args:
            media: The uploaded picture or clip; leave it out to go on with the session's.
            marks: What to follow, as for `ask`. An object that is remembered is followed anew, from these marks alone.
            every_frame: Masks for every frame of the source instead of the sampled ones; these are not remembered.
            session: The id an earlier call returned, to keep its memory; empty for a new one.
            export: Files to make, such as "coco,davis" or "all"; empty for none.
        """
        with self._called("track", media, session) as (caller, stored, line):
            prompts = _read_prompts(marks, caller.session, stored)
            if not prompts:
                raise ValueError("There is nothing to follow: give at least one mark.")
            every = every_frame and not stored.media.is_image
            if every:
                _check_fits(stored.media, len({p.object_id for p in prompts}))
            with self.work.turns.open(_owner(caller.session_id)) as turn:
                request = FollowRequest(stored.media, prompts, caller.session.bank, every, turn.turn_id)
                progress = self._compute(lambda: self.follower(request), caller.session.bank, turn)
            masklets = [packed.unpack() for packed in progress.masklets.values()]
            bank = ObjectMemoryBank() if every else caller.session.bank
            for masklet in masklets:
                bank = bank.with_object(masklet, origin="point")
            if not every:
                caller.session = caller.session.with_bank(bank)
            found = Found(stored, _only(bank, {m.object_id for m in masklets}), every_frame=every)
            return self._reply(caller, found, export, line)

    def describe(
        self, media: FileData | None, mark: dict[str, Any], session: str = "", export: str = ""
    ) -> tuple[dict[str, Any], list[FileData]]:
        """Describe one marked object.

        Args:
            media: The uploaded picture or clip; leave it out to go on with the session's.
            mark: The object, as one of the marks of `ask`.
            session: The id an earlier call returned, to keep its memory; empty for a new one.
            export: Files to make, such as "coco,davis" or "all"; empty for none.
        """
        with self._called("describe", media, session) as (caller, stored, line):
            prompts = _read_prompts([mark], caller.session, stored)
            question = grammar.describe_request(prompts[0].object_id or 1)
            found = self._turn(caller, stored, question, prompts)
            return self._reply(caller, found, export, line)

    # ------------------------------------------------------------------------------------------------ inside

    @contextmanager
    def _called(self, name: str, file: Any, session_id: str) -> Iterator[tuple[Caller, StoredMedia, dict[str, Any]]]:
        """One call: its session, its media and its line in the log."""
        with request_line(name, frames=0, objects=0) as line:
            if file is None and not session_id:
                raise ValueError(NO_MEDIA)
            with self.callers.open(session_id) as caller:
                try:
                    stored = self._media(caller, file)
                except ValueError:
                    if not session_id:
                        self.callers.close(caller.session_id)
                    raise
                line["frames"] = stored.media.num_frames
                yield caller, stored, line

    def _media(self, caller: Caller, file: Any) -> StoredMedia:
        """The session's media; a file starts its dialogue anew."""
        if file is None:
            return self.work.store.get(caller.session.media_id)
        media = self.work.load(uploaded_file(file, self.work.upload_folder))
        stored = self.work.store.add(_owner(caller.session_id), media)
        caller.session = Session().adding(stored.media_id)
        return stored

    def _turn(self, caller: Caller, stored: StoredMedia, question: str, prompts: tuple[Prompt, ...]) -> Found:
        """Ask the model; the session remembers question, answer and objects."""
        session = caller.session
        text = grammar.check_text(question).text
        with self.work.turns.open(_owner(caller.session_id)) as turn:
            request = TurnRequest(stored.media, text, prompts, session.bank, session.turns, turn.turn_id)
            progress = self._compute(lambda: self.answerer(request), session.bank, turn)
        bank = progress.bank_so_far()
        caller.session = session.with_bank(bank).with_entry(ChatEntry(text, progress.text))
        meant = progress.new_ids() | set(grammar.mentioned_ids(f"{text} {progress.text}"))
        truncated = progress.done is not None and progress.done.truncated
        return Found(stored, _only(bank, meant), progress.text, truncated=truncated)

    def _compute(self, start: Callable[[], Iterator[WireEvent]], bank: ObjectMemoryBank, turn: RunningTurn) -> Progress:
        """All events of a call into the model, which waits its turn like everybody's."""
        progress = Progress(bank)
        for batch in run_events(start, turn, self.work.line):
            if not isinstance(batch, Waiting):
                progress.take(batch)
        return progress

    def _reply(
        self, caller: Caller, found: Found, export: str, line: dict[str, Any]
    ) -> tuple[dict[str, Any], list[FileData]]:
        """The answer as JSON, and the files that were asked for."""
        media = found.stored.media
        receipt = make_receipt(self.engine, media, every_frame=found.every_frame)
        take = Take(media, found.bank, receipt, found.every_frame)
        line.update(frames=take.num_frames, objects=len(found.bank))
        names = read_names(export, media.is_image, found.every_frame)
        files = []
        if names:
            path = write_one(take, names, found.stored.folder / "api" / uuid.uuid4().hex[:12])
            files = [FileData(path=str(path), orig_name=path.name)]
        reply = {
            "session": caller.session_id,
            "text": found.text,
            "truncated": found.truncated,
            "objects": [describe_object(known) for known in found.bank.objects],
            "remembered": list(caller.session.bank),
            "receipt": receipt,
        }
        return reply, files


def _check_fits(media: Media, objects: int) -> None:
    """Raise ValueError for more masks than one call may hold; the page, which writes them one by one, has no limit."""
    frames = media.frame_indices[-1] + 1
    if objects * frames * media.height * media.width > MOST_MASK_BYTES:
        about = f"{objects} object{'s' * (objects > 1)} on {frames} frames of {media.width}x{media.height}"
        raise ValueError(
            f"Masks of {about} are too much for one call; give fewer objects, or a shorter or smaller clip."
        )


def add_endpoints(work: Workspace, engine: Engine) -> None:
    """Make the endpoints part of the page that is being built."""
    api = Api(work, engine, gpu_functions(engine)[0], follow_function(engine))
    for method in (api.segment, api.ask, api.track, api.describe):
        api_endpoint(_as_endpoint(method), api_name=method.__name__, concurrency_limit=work.line.guests)


def _as_endpoint(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` with errors as clients get them: the sentence of a ValueError, nothing of any other."""

    def endpoint(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:
            logger.exception("A call failed")
            raise gr.Error(BROKEN, print_exception=False) from None

    # Gradio reads names, types and words from the function, and wants the types themselves, not their names.
    endpoint.__name__, endpoint.__doc__ = method.__name__, method.__doc__
    endpoint.__annotations__ = get_type_hints(method)
    endpoint.__signature__ = inspect.signature(method, eval_str=True)
    return endpoint


def _owner(session_id: str) -> str:
    return f"api-{session_id}"


def _only(bank: ObjectMemoryBank, ids: set[int]) -> ObjectMemoryBank:
    return replace(bank, objects=tuple(known for known in bank.objects if known.object_id in ids))


def _read_prompts(marks: Any, session: Session, stored: StoredMedia) -> tuple[Prompt, ...]:
    """Marks as the canvas writes them; an object, a frame and a point's label may be left out."""
    if not isinstance(marks, Sequence) or len(marks) > MAX_MARKS or not all(isinstance(m, dict) for m in marks):
        raise ValueError(f"Marks are a list of at most {MAX_MARKS} objects, each with a type.")
    usual = {"object": session.bank.next_id(), "frame": 0, "label": 1}
    value = {"media_id": stored.media_id, "marks": json.dumps([{**usual, **mark} for mark in marks])}
    prompts = read_marks(value, stored.media_id, stored.picture, removed=session.removed).prompts
    check_positive(prompts)
    return prompts
