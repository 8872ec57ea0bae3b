"""One conversation turn, end to end: marks and words in, text and masks out.

A turn has two passes (UniPixel paper, arXiv 2509.18094, section 3.3). The first finds the marked objects and puts
their masklets into the memory bank; the second shows the bank's objects to the language model with the question and
streams the answer, whose `<|seg|>` tokens become masklets. The bank is a value: it goes in and a new one comes out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from unipixel import grammar
from unipixel.checkpoints import NANO, find_checkpoint, weights_hash
from unipixel.correction import correct
from unipixel.decoding import GREEDY, Decoding, Start, decode
from unipixel.encoding import Encoder
from unipixel.marks import MarkedObject, sort_marks
from unipixel.memory import ObjectMemoryBank
from unipixel.model.placement import Device, pick_device, pick_dtype, spread
from unipixel.model.quantize import BITS, quantize
from unipixel.model.storage import compute_in_float32
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import load_model
from unipixel.processing import mark_coordinates, pool_to_token_grid
from unipixel.segmenter import MaskPreview, ObjectPrompt, Segmenter, marks_prompt
from unipixel.types import (
    Answer,
    Box,
    Done,
    Event,
    FilledFrame,
    Masklet,
    Masklets,
    MaskUpdate,
    Media,
    Point,
    Prompt,
    Span,
    TextDelta,
    Turn,
)
from unipixel.words import Words, names_in

MAX_NEW_TOKENS = 256


@dataclass(eq=False)
class _Turn:
    """What one turn is asked, and what it has found so far."""

    media: Media
    question: str
    bank: ObjectMemoryBank
    decoding: Decoding
    limit: int
    masklets: dict[int, Masklet] = field(default_factory=dict)
    text: str = ""
    spans: tuple[Span, ...] = ()
    truncated: bool = False

    def remember(self, masklet: Masklet, origin: str) -> None:
        self.bank = self.bank.with_object(masklet, origin=origin)
        self.masklets[masklet.object_id] = masklet

    def answer(self, cancelled: bool) -> Answer:
        return Answer(self.text, self.spans, self.masklets, self.bank, cancelled, self.truncated)


class UniPixel:
    """A UniPixel model with its tokenizer, ready to be asked."""

    def __init__(
        self, network: UniPixelForConditionalGeneration, tokenizer, name: str = NANO, weights: str = ""
    ) -> None:
        self.network, self.tokenizer, self.name, self.weights = network, tokenizer, name, weights
        self.encoder = Encoder(network, tokenizer)
        ends = (grammar.TURN_END, "<|endoftext|>")
        self._end_ids = {int(tokenizer.convert_tokens_to_ids(token)) for token in ends}

    @classmethod
    def from_pretrained(
        cls,
        name: str = NANO,
        *,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str = "sdpa",
        device_map: str | Mapping[str, Device] | None = None,
    ) -> UniPixel:
        """Load "nano" (in this repository), a checkpoint folder or a hub id; ValueError if that is not possible.

        `dtype` is auto, float32, bfloat16 or float16 (on a CPU they store weights, see `model.storage`), or int8 or
        int4 for the language model's matrices (see `model.quantize`). `device_map` spreads that model's layers over
        several devices (see `model.placement`), `attn_implementation` is sdpa, eager or flash_attention_2.
        """
        place = pick_device(device)
        folder = find_checkpoint(name)
        network = load_model(folder, pick_dtype(dtype, place), attn_implementation=attn_implementation)
        if place.type == "cpu":
            compute_in_float32(network)
        if dtype in BITS:
            quantize(network, BITS[dtype], place)
        if device_map is None:
            cast("nn.Module", network).to(place)  # in place
        else:
            spread(network, device_map, place)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(network, tokenizer, name, weights_hash(folder))

    # ------------------------------------------------------------------------------------------------ without words

    def preview(self, media: Media, prompts: Sequence[Prompt]) -> Mapping[int, MaskPreview]:
        """The mask of each marked object on the frame of its last mark, at once and without the language model."""
        segmenter = self._segmenter(media)
        marked = sort_marks(prompts, media, ObjectMemoryBank())
        return {m.object_id: segmenter.preview(self._marks_prompt(m, media)) for m in marked}

    def track(
        self,
        media: Media,
        prompts: Sequence[Prompt],
        *,
        every_frame: bool = False,
        memory: ObjectMemoryBank | None = None,
        stop: threading.Event | None = None,
    ) -> Mapping[int, Masklet]:
        """Follow marked objects through the clip, in both directions, without the language model.

        With `every_frame` the masklets cover every frame of the source instead of the sampled ones.
        """
        marked = sort_marks(prompts, media, ObjectMemoryBank() if memory is None else memory)
        wanted = [self._marks_prompt(m, media) for m in marked]
        if every_frame:
            from unipixel.full_rate import track_every_frame

            return track_every_frame(self.network, media, wanted, stop)
        found = self._segmenter(media).masklets(wanted, stop)
        return {m.object_id: m for m in found if isinstance(m, Masklet)}

    def correct(
        self,
        media: Media,
        masklet: Masklet,
        prompts: Sequence[Prompt],
        *,
        anchors: Collection[int] = (),
        retrack: bool = True,
        stop: threading.Event | None = None,
    ) -> Masklet:
        """`masklet` corrected by marks, tracked anew only up to the nearest `anchors`; see `correction.correct`."""
        named = [replace(prompt, object_id=masklet.object_id) for prompt in prompts]
        bank = ObjectMemoryBank().with_object(masklet)
        for marked in sort_marks(named, media, bank, refine=True):
            masklet = correct(self._segmenter(media), masklet, marked, anchors, retrack=retrack, stop=stop)
        return masklet

    def fill(
        self, media: Media, masklets: Sequence[Masklet], stop: threading.Event | None = None
    ) -> Iterator[FilledFrame]:
        """Masks of known objects on every frame of the source, one frame after the other; see `full_rate.fill`."""
        from unipixel.full_rate import fill

        return fill(self.network, media, masklets, stop)

    # --------------------------------------------------------------------------------------------------- with words

    def segment(
        self, media: Media, prompt: str, *, memory: ObjectMemoryBank | None = None, decoding: Decoding = GREEDY
    ) -> Answer:
        """Masks of what `prompt` names ("the two red balls"), or an answer without masks if it is not there."""
        return self.ask(media, grammar.segment_request(prompt, media.is_image), memory=memory, decoding=decoding)

    def describe(self, media: Media, prompt: Prompt) -> Answer:
        """A caption of the marked region."""
        (marked,) = sort_marks([prompt], media, ObjectMemoryBank())
        return self.ask(media, grammar.describe_request(marked.object_id), prompts=[prompt])

    def ask(
        self,
        media: Media,
        question: str,
        *,
        prompts: Sequence[Prompt] = (),
        memory: ObjectMemoryBank | None = None,
        history: Sequence[Turn] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
        decoding: Decoding = GREEDY,
    ) -> Answer:
        """Answer `question` about `media`; the last event of `stream`."""
        events = self.stream(
            media,
            question,
            prompts=prompts,
            memory=memory,
            history=history,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
        )
        return next(event.answer for event in events if isinstance(event, Done))

    def stream(
        self,
        media: Media,
        question: str,
        *,
        prompts: Sequence[Prompt] = (),
        memory: ObjectMemoryBank | None = None,
        history: Sequence[Turn] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
        decoding: Decoding = GREEDY,
        stop: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer `question`, event by event.

        First the masks of newly marked objects, then the text as it is written, then the masks it draws, then `Done`.
        Objects are named `@1` in `question`; marked objects that it does not name are meant too. After `stop` is
        set the turn ends within one token or frame, with what was found.
        """
        question = grammar.check_text(question).text
        bank = memory if memory is not None else ObjectMemoryBank()
        marked = sort_marks(prompts, media, bank)
        known = {*bank, *(m.object_id for m in marked)}
        for object_id in grammar.mentioned_ids(question):
            if object_id not in known:
                raise ValueError(f"There is no object @{object_id}; mark it first.")
        turn = _Turn(media, question, bank, decoding, max_new_tokens)
        return self._run(turn, marked, history, stop or threading.Event())

    def _run(
        self, turn: _Turn, marked: Sequence[MarkedObject], history: Sequence[Turn], stop: threading.Event
    ) -> Iterator[Event]:
        yield from self._find_marked(turn, marked, stop)
        if not stop.is_set():
            seg_tokens = yield from self._write(turn, [m.object_id for m in marked], history, stop)
            yield from self._draw(turn, seg_tokens, stop)
        yield Done(turn.answer(stop.is_set()))

    # ---------------------------------------------------------------------------------------- pass 1: marked objects

    def _segmenter(self, media: Media) -> Segmenter:
        return Segmenter(self.network.sam2, partial(self.encoder.frame, media), media)

    def _marks_prompt(self, marked: MarkedObject, media: Media) -> ObjectPrompt:
        return marks_prompt(marked, media, self.network.config.sam2_image_size)

    def _find_marked(self, turn: _Turn, marked: Sequence[MarkedObject], stop: threading.Event) -> Iterator[Event]:
        if not marked:
            return
        spoken = {m.object_id: m.single for m in marked if m.single is not None}
        prompts = [self._marks_prompt(m, turn.media) for m in marked if m.object_id not in spoken]
        if spoken:
            prompts += self.prefill(turn.media, turn.question, spoken)
        origins = {m.object_id: m.origin for m in marked}
        yield from self._follow(turn, prompts, origins, stop)

    def _follow(
        self, turn: _Turn, prompts: Sequence[ObjectPrompt], origins: Mapping[int, str], stop: threading.Event
    ) -> Iterator[Event]:
        """Track prompted objects; masks as they are found, then all masklets. They enter the bank."""
        found: dict[int, Masklet] = {}
        for item in self._segmenter(turn.media).masklets(prompts, stop):
            if isinstance(item, MaskUpdate):
                yield item
            else:
                found[item.object_id] = item
        for object_id in sorted(found):
            turn.remember(found[object_id], origins[object_id])
        if found:
            yield Masklets(found)

    @torch.inference_mode()
    def prefill(self, media: Media, question: str, marks: Mapping[int, Point | Box]) -> list[ObjectPrompt]:
        """The pre-fill pass: the language model turns each object's only mark into prompt tokens for SAM 2."""
        request = grammar.render_prefill_question(question, marks)
        answer = grammar.render_prefill_answer(request.ref_ids)
        refs = self._embed_marks(media, [marks[i] for i in request.ref_ids])
        prefix = self.encoder.prefix(media)
        ids = self._suffix_ids(grammar.render_conversation(request.text) + answer)
        hidden = self._read_suffix(media, ids, refs=refs, cache=prefix.cache())[0]
        (places,) = torch.where(ids[0] == self.network.config.seg_token_id)
        tokens = self.network.point_out(hidden[0, places - 1])
        on_first = self.network.config.prefill_frame == "first"
        return [
            ObjectPrompt(i, tokens={0 if on_first else marks[i].frame: row}) for i, row in zip(request.ref_ids, tokens)
        ]

    def _embed_marks(self, media: Media, marks: Sequence[Point | Box]) -> Tensor:
        """`<|ref|>` embeddings of marks, N x D."""
        device = self.network.device
        pairs = [mark_coordinates(mark, media, self.network.config.sam2_image_size) for mark in marks]
        padded = media.num_frames + media.num_frames % 2
        moments = torch.tensor([mark.frame / max(padded - 1, 1) for mark in marks])
        return self.network.encode_prompts(
            [c.to(device) for c, _ in pairs], [labels.to(device) for _, labels in pairs], moments.to(device)
        )

    # ------------------------------------------------------------------------------------------ pass 2: the answer

    def _suffix_ids(self, conversation: str) -> Tensor:
        """Token ids 1 x L of a conversation after the part that is cached with the media."""
        suffix = conversation.removeprefix(grammar.render_prefix())
        ids = self.tokenizer.encode(suffix, add_special_tokens=False)
        return torch.tensor([ids], device=self.network.device)

    def _read_suffix(self, media: Media, ids: Tensor, cache, refs: Tensor | None = None, mems: Tensor | None = None):
        """Read the tokens after the cached prefix: hidden states 1 x L x D, and the next position."""
        prefix = self.encoder.prefix(media)
        _, grid = self.encoder.vision(media)
        positions, _ = self.network.positions(torch.cat([prefix.input_ids, ids], 1), grid)
        positions = positions[..., prefix.input_ids.shape[1] :]
        hidden = self.network.read(self.network.embed(ids, None, refs, mems), positions, cache)
        return hidden, int(positions.max()) + 1

    def _inject(self, turn: _Turn, object_ids: Sequence[int]) -> tuple[str, Tensor | None]:
        """The memory prefix of the turn, and the `<|mem|>` embeddings of its regions."""
        objects = [turn.bank[i] for i in object_ids if turn.bank[i].visible.any()]
        if not objects:
            return "", None
        vision, grid = self.encoder.vision(turn.media)
        patching = self.network.config.patching
        masks = np.stack([o.masks for o in objects])
        regions = pool_to_token_grid(masks, grid, patching.merge, patching.temporal)
        patches = {
            o.object_id: [(p.first, p.last) for p in grammar.visible_patches(o.visible, patching.temporal)]
            for o in objects
        }
        text = grammar.render_memory(turn.media.num_frames, turn.media.is_image, patches)
        return text, self.network.encode_regions(vision, regions.to(self.network.device))

    @torch.inference_mode()
    def _write(
        self, turn: _Turn, marked_ids: Sequence[int], history: Sequence[Turn], stop: threading.Event
    ) -> Iterator[Event]:
        """Stream the answer's text; returns the prompt tokens K x C of each new object by id."""
        named = grammar.mentioned_ids(turn.question)
        shown = [*named, *(i for i in marked_ids if i not in named)]
        memory, mems = self._inject(turn, shown)
        question = " ".join([turn.question, *(f"@{i}" for i in marked_ids if i not in named)])
        earlier = [(grammar.render_question(t.question), grammar.render_question(t.answer)) for t in history]
        ids = self._suffix_ids(grammar.render_conversation(memory + grammar.render_question(question), earlier))
        parser = grammar.AnswerParser(turn.bank, retired_ids=turn.bank.retired, max_new=turn.bank.room)
        words = Words(self.tokenizer, parser, self.network.config.seg_token_id)
        states: list[Tensor] = []
        start = self._start(turn.media, ids, mems)
        for token, state in decode(self.network, start, turn.decoding, turn.limit, self._end_ids, stop):
            if token in self._end_ids:
                break
            if token == self.network.config.seg_token_id:
                states.append(state)
            if delta := words.take(token):
                yield TextDelta(delta)
        else:
            turn.truncated = not stop.is_set()
        if delta := words.finish():
            yield TextDelta(delta)
        turn.text, turn.spans = parser.text, tuple(parser.spans)
        pairs = zip(parser.seg_ids, states)
        return {i: self.network.point_out(state)[0] for i, state in pairs if i is not None}

    def _start(self, media: Media, ids: Tensor, mems: Tensor | None) -> Start:
        """Read the question's tokens (1 x L) after what is known of the media."""
        prefix = self.encoder.prefix(media)
        cache = prefix.cache()
        hidden, position = self._read_suffix(media, ids, cache, mems=mems)
        return Start(torch.cat([prefix.input_ids, ids], 1), hidden[:, -1], position, cache)

    def _draw(self, turn: _Turn, seg_tokens: Mapping[int, Tensor], stop: threading.Event) -> Iterator[Event]:
        """Track what the answer's `<|seg|>` tokens point at; objects that are remembered already keep their masks."""
        known = {i: turn.bank[i] for i in seg_tokens if i in turn.bank}
        turn.masklets.update({i: remembered.masklet for i, remembered in known.items()})
        prompts = [ObjectPrompt(i, tokens={0: row}) for i, row in seg_tokens.items() if i not in known]
        if prompts:
            yield from self._follow(turn, prompts, dict.fromkeys(seg_tokens, "text"), stop)
        for object_id, label in names_in(turn.text, turn.spans).items():
            if object_id in turn.bank and not turn.bank[object_id].label:
                turn.bank = turn.bank.renamed(object_id, label)


def default_model() -> str:
    """What `UNIPIXEL_MODEL` names, else "nano"."""
    return os.environ.get("UNIPIXEL_MODEL") or NANO
