"""Samples as token sequences with targets, through the same grammar and processing as inference, and as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unipixel import grammar
from unipixel.config import UniPixelConfig
from unipixel.data.samplers import DIRECT, MEMORY, PREFILL, SPOKEN, Exchange, sample_mark
from unipixel.processing import (
    mark_coordinates,
    normalize_for_sam,
    pool_to_token_grid,
    resize_for_sam,
    to_tensor,
    vision_inputs,
)
from unipixel.types import BoolArray, Box, Media, Point

IGNORE = -100  # the label of tokens that nothing is learnt from


@dataclass(frozen=True, eq=False)
class Written:
    """An exchange as the model reads it: prompt and answer, with what their control tokens stand for.

    `marks` are the points and boxes of the `<|ref|>`, `shown` the objects of the `<|mem|>`, `found` those of the
    answer's `<|seg|>` with the frame on which each is drawn first.
    """

    prompt: str
    answer: str
    marks: tuple[Point | Box, ...] = ()
    shown: tuple[int, ...] = ()
    found: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class SequenceItem:
    """One exchange as tensors; L tokens, R marks, N remembered objects, K objects found.

    `refs` are R pairs of coordinates and labels in SAM's input, `moments` R in 0..1, `regions` N x T' x h x w bool,
    `targets` K x T x S x S bool, `frames` K the frame each is drawn first on.
    """

    input_ids: Tensor
    labels: Tensor
    refs: tuple[tuple[Tensor, Tensor], ...]
    moments: Tensor
    regions: Tensor
    targets: Tensor
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MediaItem:
    """One media with its exchanges. `clip` T x 3 x S x S is SAM's view, empty (T = 0) where nothing is drawn."""

    pixels: Tensor
    grid_thw: Tensor
    clip: Tensor
    sequences: tuple[SequenceItem, ...]


@dataclass(eq=False)
class Batch:
    """B media with S sequences, padded to length L; O objects to draw in all.

    `media_of` names the media of each sequence. `refs` holds coordinates and labels of each `<|ref|>` in reading order,
    `moments` when they were made. `regions` are (media, N x T' x h x w) in reading order. Object n is found by the
    `<|seg|>` at `seg_places[n]` (sequence, position), is drawn first on frame `seg_frames[n]`, and has masks
    `targets[n]` (T x S x S bool); `clips` holds SAM's view of each media that has any.
    """

    pixels: Tensor
    grid_thw: Tensor
    clips: list[Tensor]
    media_of: list[int]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    refs: list[tuple[Tensor, Tensor]]
    moments: Tensor
    regions: list[tuple[int, Tensor]]
    seg_places: list[tuple[int, int]]
    seg_frames: list[int]
    targets: list[Tensor]

    def to(self, device: torch.device | str, **how: Any) -> Batch:
        """The same batch on a device."""
        return Batch(**{field.name: _to(getattr(self, field.name), device, how) for field in fields(self)})


def _to(value: Any, device: torch.device | str, how: Mapping[str, Any]) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, **how)
    if isinstance(value, list | tuple):
        return type(value)(_to(part, device, how) for part in value)
    return value


# ----------------------------------------------------------------------------------------------------- exchange -> text


def renumbered(exchange: Exchange) -> tuple[Exchange, dict[int, int]]:
    """The exchange with its objects numbered by first mention, and the new number of each object.

    A model numbers what it finds so; ids of a data set may start anywhere.
    """
    texts = [text for turn in exchange.history for text in (turn.question, turn.answer)]
    order = grammar.mentioned_ids(" ".join([*texts, exchange.question, exchange.answer]))
    numbers = {object_id: n for n, object_id in enumerate(order, 1)}
    history = tuple(
        type(turn)(grammar.rename_ids(turn.question, numbers), grammar.rename_ids(turn.answer, numbers))
        for turn in exchange.history
    )
    question, answer = (grammar.rename_ids(text, numbers) for text in (exchange.question, exchange.answer))
    return Exchange(question, answer, exchange.form, history), numbers


def write_exchange(
    rng: np.random.Generator,
    exchange: Exchange,
    masks: Mapping[int, BoolArray],
    config: UniPixelConfig,
    kinds: Mapping[str, float],
) -> Written:
    """Render an exchange in its form; `masks` are the objects' T x H x W, `kinds` weighs the kinds of marks.

    Objects that no frame shows cannot be marked: of these the question is left as it is.
    """
    spoken = {kind: weight for kind, weight in kinds.items() if kind in SPOKEN}
    numbered, numbers = renumbered(exchange)
    masks = {numbers[i]: mask for i, mask in masks.items()}
    history = [(grammar.render_question(t.question), grammar.render_question(t.answer)) for t in numbered.history]
    found = tuple((i, 0) for i in numbered.found)
    answer = grammar.render_answer(numbered.answer, numbered.found)
    if exchange.form == MEMORY:
        prefix = render_regions({i: masks[i] for i in numbered.shown}, config)
        prompt = grammar.render_conversation(prefix + grammar.render_question(numbered.question), history)
        return Written(prompt, answer, (), numbered.shown, found)
    if exchange.form not in (DIRECT, PREFILL):
        prompt = grammar.render_conversation(grammar.render_question(numbered.question), history)
        return Written(prompt, answer, found=found)
    marks = {i: mark for i in numbered.shown if isinstance(mark := sample_mark(rng, masks[i], i, spoken), Point | Box)}
    request = grammar.render_prefill_question(numbered.question, marks)
    ordered = tuple(marks[i] for i in request.ref_ids)
    if exchange.form == DIRECT:
        question = request.text.removesuffix(grammar.LOCALIZE).rstrip()
        return Written(grammar.render_conversation(question, history), answer, ordered, (), found)
    first = config.prefill_frame == "first"
    targets = tuple((i, 0 if first else marks[i].frame) for i in request.ref_ids)
    # The engine's pre-fill pass reads the question alone, without the turns before it.
    return Written(
        grammar.render_conversation(request.text), grammar.render_prefill_answer(request.ref_ids), ordered, (), targets
    )


def render_regions(masks: Mapping[int, BoolArray], config: UniPixelConfig) -> str:
    """The memory prefix of objects with masks T x H x W."""
    temporal = config.patching.temporal
    patches = {
        i: [(p.first, p.last) for p in grammar.visible_patches(np.asarray(mask.any((1, 2))), temporal)]
        for i, mask in masks.items()
    }
    frames = len(next(iter(masks.values()))) if masks else 0
    return grammar.render_memory(frames, frames == 1, patches)


# -------------------------------------------------------------------------------------------------- exchange -> tensors


class ItemMaker:
    """Turns media, masks and exchanges into tensors for one network."""

    def __init__(self, tokenizer: Any, config: UniPixelConfig, kinds: Mapping[str, float]) -> None:
        self.tokenizer, self.config, self.kinds = tokenizer, config, kinds

    def __call__(
        self,
        rng: np.random.Generator,
        media: Media,
        masks: Mapping[int, BoolArray],
        exchanges: Sequence[Exchange],
    ) -> MediaItem:
        """`masks` holds T x H x W of every object that the exchanges name."""
        frames = to_tensor(media.frames)
        pixels, grid = vision_inputs(frames, self.config)
        sequences = tuple(self._sequence(rng, media, grid, masks, exchange) for exchange in exchanges)
        side = self.config.sam2_image_size
        drawn = any(len(sequence.targets) for sequence in sequences)
        clip = normalize_for_sam(resize_for_sam(frames, side)) if drawn else torch.zeros(0, 3, side, side)
        return MediaItem(pixels, grid, clip, sequences)

    def _sequence(
        self,
        rng: np.random.Generator,
        media: Media,
        grid: Tensor,
        masks: Mapping[int, BoolArray],
        exchange: Exchange,
    ) -> SequenceItem:
        _, numbers = renumbered(exchange)
        own = {numbers[i]: mask for i, mask in masks.items() if i in numbers}
        written = write_exchange(rng, exchange, {i: masks[i] for i in numbers}, self.config, self.kinds)
        input_ids, labels = self._encode(written, grid)
        side, patching = self.config.sam2_image_size, self.config.patching
        padded = media.num_frames + media.num_frames % patching.temporal
        visible = [i for i in written.shown if own[i].any()]
        regions = torch.zeros(0, 1, 1, 1, dtype=torch.bool)
        if visible:
            regions = pool_to_token_grid(np.stack([own[i] for i in visible]), grid, patching.merge, patching.temporal)
        return SequenceItem(
            input_ids=input_ids,
            labels=labels,
            refs=tuple(mark_coordinates(mark, media, side) for mark in written.marks),
            moments=torch.tensor([mark.frame / max(padded - 1, 1) for mark in written.marks]),
            regions=regions,
            targets=resize_masks([own[i] for i, _ in written.found], media.num_frames, side),
            frames=tuple(frame for _, frame in written.found),
        )

    def _encode(self, written: Written, grid: Tensor) -> tuple[Tensor, Tensor]:
        tokens = int(grid.prod()) // self.config.patching.merge**2
        prompt = written.prompt.replace(grammar.VIDEO_PAD, grammar.VIDEO_PAD * tokens)
        before = self.tokenizer.encode(prompt, add_special_tokens=False)
        after = self.tokenizer.encode(written.answer + grammar.TURN_END, add_special_tokens=False)
        return torch.tensor(before + after), torch.tensor([IGNORE] * len(before) + after)


def resize_masks(masks: Sequence[BoolArray], frames: int, side: int) -> Tensor:
    """K masks T x H x W -> K x T x S x S bool: pixels of which at least half is covered."""
    if not masks:
        return torch.zeros(0, frames, side, side, dtype=torch.bool)
    covered = torch.from_numpy(np.stack(masks)).float()
    return F.interpolate(covered, (side, side), mode="area") >= 0.5


# ---------------------------------------------------------------------------------------------------- items -> batch


def collate(items: Sequence[MediaItem], pad_id: int, seg_id: int) -> Batch:
    """Join items to a batch; `pad_id` fills up short sequences, `seg_id` is the token of a mask."""
    sequences = [(b, sequence) for b, item in enumerate(items) for sequence in item.sequences]
    lengths = [len(sequence.input_ids) for _, sequence in sequences]
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    input_ids = torch.full(real.shape, pad_id)
    labels = torch.full(real.shape, IGNORE)
    input_ids[real] = torch.cat([sequence.input_ids for _, sequence in sequences])
    labels[real] = torch.cat([sequence.labels for _, sequence in sequences])
    return Batch(
        pixels=torch.cat([item.pixels for item in items]),
        grid_thw=torch.cat([item.grid_thw for item in items]),
        clips=[item.clip for item in items],
        media_of=[b for b, _ in sequences],
        input_ids=input_ids,
        attention_mask=real.long(),
        labels=labels,
        refs=[ref for _, sequence in sequences for ref in sequence.refs],
        moments=torch.cat([sequence.moments for _, sequence in sequences]),
        regions=[(b, sequence.regions) for b, sequence in sequences if len(sequence.regions)],
        seg_places=[(int(s), int(p)) for s, p in (labels == seg_id).nonzero().tolist()],
        seg_frames=[frame for _, sequence in sequences for frame in sequence.frames],
        targets=[target for _, sequence in sequences for target in sequence.targets],
    )
