"""The model call and nothing else: what runs under `spaces.GPU`, and the plain values that cross that boundary.

On ZeroGPU every call runs in a forked process: arguments and results are pickled, and what the function changes is
lost. So requests and events are CPU data with masks as run-length codes, and the bank goes in and comes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import spaces

from unipixel.memory import ObjectMemoryBank
from unipixel.types import (
    BoolArray,
    Done,
    Event,
    FilledFrame,
    Masklet,
    Masklets,
    MaskUpdate,
    Media,
    Prompt,
    TextDelta,
    Turn,
    decode_rle,
    encode_rle,
)

Rle = dict[str, Any]


class Engine(Protocol):
    """The part of `unipixel.engine.UniPixel` that the page uses."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    def stream(
        self,
        media: Media,
        question: str,
        *,
        prompts: Sequence[Prompt] = (),
        memory: ObjectMemoryBank | None = None,
        history: Sequence[Turn] = (),
        stop: threading.Event | None = None,
    ) -> Iterator[Event]: ...

    def preview(self, media: Media, prompts: Sequence[Prompt]) -> Mapping[int, Any]: ...

    def track(
        self,
        media: Media,
        prompts: Sequence[Prompt],
        *,
        every_frame: bool = False,
        memory: ObjectMemoryBank | None = None,
        stop: threading.Event | None = None,
    ) -> Mapping[int, Masklet]: ...

    def correct(
        self,
        media: Media,
        masklet: Masklet,
        prompts: Sequence[Prompt],
        *,
        anchors: Collection[int] = (),
        retrack: bool = True,
        stop: threading.Event | None = None,
    ) -> Masklet: ...

    def fill(
        self, media: Media, masklets: Sequence[Masklet], stop: threading.Event | None = None
    ) -> Iterator[FilledFrame]: ...


@dataclass(frozen=True, eq=False)
class TurnRequest:
    """One question with all it needs. `turn_id` finds the stop flag when the call stays in this process."""

    media: Media
    question: str
    prompts: tuple[Prompt, ...]
    bank: ObjectMemoryBank
    history: tuple[Turn, ...]
    turn_id: str


@dataclass(frozen=True, eq=False)
class TrackRequest:
    """Marks of one object to follow: a new one, or the correction of a known one (`known`, right on `anchors`)."""

    media: Media
    prompts: tuple[Prompt, ...]
    turn_id: str
    known: PackedMasklet | None = None
    anchors: frozenset[int] = frozenset()
    retrack: bool = True


@dataclass(frozen=True, eq=False)
class FollowRequest:
    """Any number of marked objects to follow; with `every_frame` through every frame of the source."""

    media: Media
    prompts: tuple[Prompt, ...]
    bank: ObjectMemoryBank
    every_frame: bool
    turn_id: str


@dataclass(frozen=True, eq=False)
class FillRequest:
    """Known objects whose masks are wanted on every frame of the source."""

    media: Media
    masklets: tuple[PackedMasklet, ...]
    turn_id: str


@dataclass(frozen=True)
class PackedMasklet:
    """A masklet as one run-length code a frame."""

    object_id: int
    rles: tuple[Rle, ...]
    scores: tuple[float, ...]
    label: str = ""

    @classmethod
    def pack(cls, masklet: Masklet) -> PackedMasklet:
        scores = tuple(float(s) for s in masklet.scores)
        return cls(masklet.object_id, tuple(masklet.to_rle()), scores, masklet.label)

    def unpack(self) -> Masklet:
        return Masklet(self.object_id, decode_rle(self.rles), np.array(self.scores, np.float32), self.label)


@dataclass(frozen=True)
class MasksFound:
    """Masks as they become known: object id -> frame -> run-length code."""

    masks: Mapping[int, Mapping[int, Rle]]


@dataclass(frozen=True)
class MaskletsFound:
    """Complete masklets of one step."""

    masklets: tuple[PackedMasklet, ...]


@dataclass(frozen=True, eq=False)
class TurnDone:
    """The end of a turn: the whole text, the objects it drew, and the bank afterwards."""

    text: str
    object_ids: tuple[int, ...]
    bank: ObjectMemoryBank
    cancelled: bool
    truncated: bool


@dataclass(frozen=True)
class SourceFrame:
    """Masks and scores on one frame of the source, by object id, and how many frames it has."""

    frame: int
    count: int
    masks: Mapping[int, Rle]
    scores: Mapping[int, float]


WireEvent = TextDelta | MasksFound | MaskletsFound | SourceFrame | TurnDone
Answerer = Callable[[TurnRequest], Iterator[WireEvent]]
Previewer = Callable[[Media, Sequence[Prompt]], dict[int, tuple[Rle, ...]]]
Tracker = Callable[[TrackRequest], Iterator[WireEvent]]
Filler = Callable[[FillRequest], Iterator[WireEvent]]
Follower = Callable[[FollowRequest], Iterator[WireEvent]]

_stop_flags: dict[str, threading.Event] = {}


def register_stop(turn_id: str, flag: threading.Event) -> None:
    """Let the turn `turn_id` see `flag`. An event cannot be pickled, so the request carries only the id."""
    _stop_flags[turn_id] = flag


def forget_stop(turn_id: str) -> None:
    _stop_flags.pop(turn_id, None)


def pack_event(event: Event) -> WireEvent:
    """The picklable form of an engine event."""
    match event:
        case TextDelta():
            return event
        case MaskUpdate(object_id, frame, mask):
            return MasksFound({object_id: {frame: encode_mask(mask)}})
        case Masklets(masklets):
            return MaskletsFound(tuple(PackedMasklet.pack(m) for m in masklets.values()))
        case Done(answer):
            ids = tuple(answer.masklets)
            return TurnDone(answer.text, ids, answer.memory, answer.cancelled, answer.truncated)


def encode_mask(mask: BoolArray) -> Rle:
    """The run-length code of one H x W mask."""
    return encode_rle(np.asarray(mask, bool)[None])[0]


def answer_seconds(request: TurnRequest) -> int:
    """GPU seconds to ask for: encoding grows with the frames, tracking with frames times objects."""
    objects = len({p.object_id for p in request.prompts}) + len(request.bank) + 1
    return min(120, round(15 + 0.5 * request.media.num_frames + 0.1 * request.media.num_frames * objects))


def preview_seconds(media: Media, prompts: Sequence[Prompt]) -> int:
    """GPU seconds to ask for a preview: one frame, a few prompts."""
    return 10


def gpu_functions(engine: Engine) -> tuple[Answerer, Previewer]:
    """The two calls into the model, each under `spaces.GPU` (which does nothing outside ZeroGPU)."""

    @spaces.GPU(duration=answer_seconds)
    def answer(request: TurnRequest) -> Iterator[WireEvent]:
        stop = _stop_flags.get(request.turn_id)
        events = engine.stream(
            request.media,
            request.question,
            prompts=request.prompts,
            memory=request.bank,
            history=request.history,
            stop=stop,
        )
        for event in events:
            yield pack_event(event)

    @spaces.GPU(duration=preview_seconds)
    def preview(media: Media, prompts: Sequence[Prompt]) -> dict[int, tuple[Rle, ...]]:
        """Each object's mask, followed by other readings of its marks."""
        found = engine.preview(media, prompts)
        return {i: tuple(map(encode_mask, (p.mask, *(mask for mask, _ in p.alternatives)))) for i, p in found.items()}

    return answer, preview


def track_seconds(request: TrackRequest) -> int:
    """GPU seconds to ask for: one object through all frames at most."""
    return min(120, round(10 + 0.5 * request.media.num_frames))


def fill_seconds(request: FillRequest) -> int:
    """GPU seconds to ask for: the frames of the source, most of which lie between the sampled ones."""
    return min(120, round(20 + 0.1 * (request.media.frame_indices[-1] + 1)))


def track_functions(engine: Engine) -> tuple[Tracker, Filler]:
    """The calls that follow objects without words, each under `spaces.GPU`."""

    @spaces.GPU(duration=track_seconds)
    def track(request: TrackRequest) -> Iterator[WireEvent]:
        media, prompts, stop = request.media, request.prompts, _stop_flags.get(request.turn_id)
        if request.known is None:
            found = tuple(engine.track(media, prompts, stop=stop).values())
        else:
            known = request.known.unpack()
            found = (
                engine.correct(media, known, prompts, anchors=request.anchors, retrack=request.retrack, stop=stop),
            )
        yield MaskletsFound(tuple(map(PackedMasklet.pack, found)))

    @spaces.GPU(duration=fill_seconds)
    def fill(request: FillRequest) -> Iterator[WireEvent]:
        masklets = [packed.unpack() for packed in request.masklets]
        ids = [packed.object_id for packed in request.masklets]
        for found in engine.fill(request.media, masklets, _stop_flags.get(request.turn_id)):
            codes = dict(zip(ids, map(encode_mask, found.masks)))
            yield SourceFrame(found.frame, found.count, codes, dict(zip(ids, found.scores.tolist())))

    return track, fill


def follow_seconds(request: FollowRequest) -> int:
    """GPU seconds to ask for: every frame of the source is read where that is wanted."""
    frames = request.media.frame_indices[-1] + 1 if request.every_frame else request.media.num_frames
    objects = len({p.object_id for p in request.prompts})
    return min(120, round(10 + 0.1 * frames + 0.05 * frames * objects))


def follow_function(engine: Engine) -> Follower:
    """The call that follows several objects at once, under `spaces.GPU`."""

    @spaces.GPU(duration=follow_seconds)
    def follow(request: FollowRequest) -> Iterator[WireEvent]:
        stop = _stop_flags.get(request.turn_id)
        found = engine.track(
            request.media, request.prompts, every_frame=request.every_frame, memory=request.bank, stop=stop
        )
        yield MaskletsFound(tuple(map(PackedMasklet.pack, found.values())))

    return follow
