"""Drawn scenes and tasks as batches of token sequences, through the same grammar and processing as inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from unipixel import grammar
from unipixel.data.world import (
    COLORS,
    KINDS,
    NAMELESS,
    NOUNS,
    RICH_KINDS,
    SHAPES,
    TEXTURES,
    ObjectSpec,
    Scene,
)
from unipixel.data.world.dialogue import as_read, found_ids
from unipixel.data.world.language import Mark, Task, sample_task
from unipixel.processing import pool_to_token_grid, to_tensor
from unipixel.train.presets import NANO_SIDE
from unipixel.train.sam import IGNORE, click, mask_box
from unipixel.train.scenes import Draw, draw_scenes

OUTLINE = 7
# Layers of the language model in which it is taught to look things up: first whatever fits, then the one that is meant.
LOOKING_LAYER, CHOOSING_LAYER = 3, 5
_LISTED = f": {grammar.SEG_TOKEN}"  # no words say which one is next
_OPENING = 4  # tokens of an answer within which it says whether something is there, or how many
_SLIP_ODDS = 0.3
# What helpers name; their heads keep this order, so new words go to the end.
ATTRIBUTES = {"color": tuple(COLORS), "shape": (*SHAPES, *NOUNS, NAMELESS), "texture": TEXTURES}


@dataclass(frozen=True, eq=False)
class Place:
    """Where an object is, in SAM's terms: `coords` 2 x 2, `labels` 2 (a box, or a click and padding)."""

    coords: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class SegTarget:
    """A `<|seg|>` at `position` of sequence `sequence`, meant for object `object_index` of scene `scene` on `frame`."""

    sequence: int
    position: int
    scene: int
    object_index: int
    frame: int
    place: Place


@dataclass(frozen=True, eq=False)
class Look:
    """At `position` of sequence `sequence` something is said of an object that the positions `shown` show.

    With `each`, of several things: one of the positions shows each of them. `layer` is where it is looked up.
    """

    sequence: int
    position: int
    shown: Tensor
    weight: float = 1.0
    each: bool = False
    layer: int = LOOKING_LAYER


@dataclass(eq=False)
class DialogueBatch:
    """B scenes with K sequences each, S = B * K in all, padded to length L."""

    frames: Tensor  # (B * T) x 3 x S x S uint8
    masks: list[Tensor]  # a scene: N x T x S x S bool
    grid_thw: Tensor  # B x 3
    scene_of: list[int]  # S: the scene each sequence is about
    input_ids: Tensor  # S x L
    attention_mask: Tensor  # S x L
    labels: Tensor  # S x L, IGNORE where nothing is learnt
    attributes: dict[str, Tensor]  # color, shape, texture: B x T' x h x w, 0 = background
    outlines: Tensor  # B x T' x h x w x 49: which of 7 x 7 spots of each token's square lie on an object
    places: Tensor  # B x h x w x 2 x 2: the box on frame 0 of the object under each token of the first patch
    placed: Tensor  # B x h x w bool: where `places` holds one
    cells: list[Tensor]  # a scene: N x T' x h x w bool, each object's vision tokens
    region_names: list[dict[str, Tensor]]  # a scene: color, shape, texture of each visible (object, patch)
    refs: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)  # coords, labels, moment
    regions: list[tuple[int, Tensor]] = field(default_factory=list)  # (scene, N x T' x h x w bool) a sequence
    segs: list[SegTarget] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def box_place(mask: np.ndarray) -> Place:
    """The box of a mask as SAM's two corner tokens."""
    x1, y1, x2, y2 = mask_box(mask)
    return Place(torch.tensor([[x1, y1], [x2, y2]]), torch.tensor([2, 3], dtype=torch.int32))


@dataclass(frozen=True, eq=False)
class _Sequence:
    text: str
    answer: str
    task: Task
    places: Sequence[tuple[int, int, Place]]  # (object, frame, place) of each <|seg|>
    refs: Sequence[tuple[Tensor, Tensor, float]] = ()
    regions: Tensor | None = None


class SceneMaker:
    """Makes batches of scenes without words, for the vision tower alone."""

    def __init__(self, draws: Sequence[tuple[float, Draw]]) -> None:
        self.draws = draws

    def __call__(self, rng: np.random.Generator) -> DialogueBatch:
        return _scene_batch(draw_scenes(rng, self.draws))


class DialogueMaker:
    """Makes batches: `maker(rng)` draws scenes and writes dialogues about them."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        draws: Sequence[tuple[float, Draw]],
        dialogues: int = 2,
        kinds: Mapping[str, float] | None = None,
        extras: float = 1.0,
        earlier: float = 0.0,
    ) -> None:
        self.tokenizer, self.draws, self.dialogues, self.kinds = tokenizer, draws, dialogues, kinds
        self.extras = extras  # how often objects stay marked that the question does not mention
        self.earlier = earlier  # how often another question was asked before

    def __call__(self, rng: np.random.Generator) -> DialogueBatch:
        scenes = draw_scenes(rng, self.draws)
        batch = _scene_batch(scenes)
        sequences = [(b, self._sequence(rng, scene)) for b, scene in enumerate(scenes) for _ in range(self.dialogues)]
        self._add_text(rng, batch, sequences)
        return batch

    def _sequence(self, rng: np.random.Generator, scene: Scene) -> _Sequence:
        kinds = None
        if self.kinds:
            askable = (*(RICH_KINDS if scene.contents.rich else KINDS), "prefill")
            names = [name for name in self.kinds if name in askable]
            odds = np.array([self.kinds[name] for name in names])
            kinds = [names[rng.choice(len(names), p=odds / odds.sum())]]
            if kinds == ["prefill"]:
                return _prefill(rng, scene)
        before = sample_task(rng, scene) if rng.random() < self.earlier else None
        known = {} if before is None else {**before.ids, **found_ids(before)}
        try:
            task = sample_task(rng, scene, kinds=kinds, known=known)
        except ValueError:  # this scene allows no such question
            task = sample_task(rng, scene, known=known)
        named = grammar.mentioned_ids(f"{task.question} {task.answer}")
        unnamed = [i for i in task.ids if i not in named]
        if rng.random() >= self.extras:
            task = replace(task, ids={i: k for i, k in task.ids.items() if i in named})
        elif unnamed:  # as the engine asks: new marks that the question does not mention are named after it
            task = replace(task, question=" ".join([task.question, *(f"@{i}" for i in unnamed)]))
        return write_dialogue(scene, task, before)

    def _add_text(
        self, rng: np.random.Generator, batch: DialogueBatch, sequences: Sequence[tuple[int, _Sequence]]
    ) -> None:
        tokens = int(batch.grid_thw[0].prod()) // 4
        seg_id, pad_id = (self.tokenizer.token_to_id(t) for t in (grammar.SEG_TOKEN, "<|endoftext|>"))
        rows, starts = [], []
        for b, sequence in sequences:
            text = sequence.text.replace(grammar.VIDEO_PAD, grammar.VIDEO_PAD * tokens)
            prompt = self.tokenizer.encode(text).ids
            answer = self.tokenizer.encode(sequence.answer + grammar.TURN_END).ids
            rows.append(prompt + answer)
            starts.append(len(prompt))
            batch.scene_of.append(b)
            batch.refs += sequence.refs
            if sequence.regions is not None:
                batch.regions.append((b, sequence.regions))
            spots = [i for i, token in enumerate(rows[-1]) if token == seg_id and i >= len(prompt)]
            batch.segs += [
                SegTarget(len(rows) - 1, i, b, k, frame, place) for i, (k, frame, place) in zip(spots, sequence.places)
            ]
            said, decided = self._parts(len(prompt), rows[-1])
            batch.looks += self._seg_looks(len(rows) - 1, rows[-1], [decided, *spots], batch.cells[b], sequence)
            batch.looks += self._region_looks(len(rows) - 1, rows[-1], said, sequence)
            batch.looks += self._counting_looks(len(rows) - 1, rows[-1], decided, batch.cells[b], sequence.task)
        length = max(map(len, rows))
        batch.input_ids = torch.tensor([row + [pad_id] * (length - len(row)) for row in rows])
        batch.attention_mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        batch.labels = torch.where(batch.attention_mask > 0, batch.input_ids, IGNORE)
        for row, start in enumerate(starts):
            batch.labels[row, :start] = IGNORE
        self._slip(rng, batch)

    def _slip(self, rng: np.random.Generator, batch: DialogueBatch) -> None:
        """Let some answers go on after a colour that was not the right one: `input_ids` changes, `labels` do not.

        So a shape is read off its object. After the true colour, it could be guessed: some shapes never have it.
        """
        # \u0120 is the space before a word; a small vocabulary may have some colours only in pieces.
        ids = [self.tokenizer.token_to_id(f"\u0120{color}") for color in COLORS]
        colors = torch.tensor([i for i in ids if i is not None])
        named = torch.isin(batch.labels, colors)
        slips = named & torch.from_numpy(rng.random(named.shape) < _SLIP_ODDS)
        others = torch.from_numpy(rng.integers(len(colors), size=int(slips.sum())))
        batch.input_ids[slips] = colors[others]

    def _places_of(self, token: str, row: Sequence[int]) -> list[int]:
        wanted = self.tokenizer.token_to_id(token)
        return [i for i, token_id in enumerate(row) if token_id == wanted]

    def _parts(self, start: int, row: Sequence[int]) -> tuple[range, int]:
        """The first sentence of an answer that begins at `start`, and where its last one begins."""
        stop = self.tokenizer.token_to_id(".")
        ends = [i for i in range(start, len(row)) if row[i] == stop] or [len(row) - 2]
        return range(start, ends[0] + 1), ends[-2] + 1 if len(ends) > 1 else start

    def _seg_looks(
        self, number: int, row: Sequence[int], spots: Sequence[int], cells: Tensor, sequence: _Sequence
    ) -> list[Look]:
        """Where a `<|seg|>` is predicted, its object's `<|ref|>` counts, else its vision tokens in the first patch.

        Where it is decided whether anything fits (the first of `spots`) all of them count. In a list all count
        everywhere; which of them comes next is chosen later, when it is known which have been. After each of a list
        those count that are still to come, or the very first token if none are: the list goes on or ends there.
        """
        decided, *chosen = spots
        if sequence.refs:
            shown = [torch.tensor([i]) for i in self._places_of(grammar.REF_TOKEN, row)]
            return [Look(number, i - 1, where) for i, where in zip(chosen, shown)]
        first = self._places_of(grammar.VIDEO_PAD, row)[0]
        owners = [k for k, _, _ in sequence.places]
        shown = [first + cells[k, 0].flatten().nonzero()[:, 0] for k in owners]
        if not shown:
            return []
        together, listed = torch.cat(shown).unique(), _LISTED in sequence.answer
        early = [together] * len(shown) if listed else shown
        looks = [Look(number, i - 1, where) for i, where in zip([decided, *chosen], [together, *early])]
        looks += [Look(number, i - 1, where, layer=CHOOSING_LAYER) for i, where in zip(chosen, shown)]
        for n, i in enumerate(chosen if listed else (), 1):
            left = torch.tensor([0, *(first + _anchor(cells[k]) for k in owners[n:] if cells[k].any())])
            looks.append(Look(number, i, left, each=True, layer=CHOOSING_LAYER))
        return [look for look in looks if len(look.shown)]

    def _counting_looks(self, number: int, row: Sequence[int], start: int, cells: Tensor, task: Task) -> list[Look]:
        """Where it is said whether something is there, or how many: one token of each counts, and the very first token.

        It stands for nothing: attention is shared out among all that fit, and all of it is left there if nothing does.
        The share that it gets tells how many they are.
        """
        if task.about is None:
            return []
        first = self._places_of(grammar.VIDEO_PAD, row)[0]
        shown = torch.tensor([0, *(first + _anchor(cells[k]) for k in task.about if cells[k].any())])
        spots = range(start, min(start + _OPENING, len(row) - 1))
        return [Look(number, i - 1, shown, 1 / len(spots), each=True) for i in spots]

    def _region_looks(self, number: int, row: Sequence[int], said: range, sequence: _Sequence) -> list[Look]:
        """All along a sentence about one remembered object, its `<|mem|>` tokens count."""
        named = grammar.mentioned_ids(sequence.task.answer)
        ids = list(sequence.task.ids)
        if sequence.regions is None or len(named) != 1 or named[0] not in ids:
            return []
        patches = sequence.regions.flatten(2).any(-1).sum(1).tolist()
        index = ids.index(named[0])
        shown = torch.tensor(self._places_of(grammar.MEM_TOKEN, row)[sum(patches[:index]) : sum(patches[: index + 1])])
        spots = said[2:]
        return [Look(number, i, shown, 1 / len(spots)) for i in spots] if len(shown) else []


def _scene_batch(scenes: Sequence[Scene]) -> DialogueBatch:
    t, side = scenes[0].num_frames, NANO_SIDE // 14
    grid = torch.tensor([[(t + 1) // 2, side, side]] * len(scenes))
    attributes, outlines, places, placed, all_cells = [], [], [], [], []
    for scene in scenes:
        cells = pool_to_token_grid(scene.masks, grid[:1])
        attributes.append({name: _cell_labels(scene, cells, name) for name in ATTRIBUTES})
        all_cells.append(cells)
        outlines.append(_outline(scene, cells.shape[-2:]))
        boxes = torch.stack([box_place(mask[0]).coords for mask in scene.masks])
        owner = cells[:, 0].float().argmax(0)
        places.append(boxes[owner])
        placed.append(cells[:, 0].any(0))
    empty = torch.zeros(0, dtype=torch.long)
    return DialogueBatch(
        frames=torch.cat([to_tensor(scene.frames) for scene in scenes]),
        masks=[torch.from_numpy(scene.masks) for scene in scenes],
        grid_thw=grid,
        scene_of=[],
        input_ids=empty,
        attention_mask=empty,
        labels=empty,
        attributes={name: torch.stack([a[name] for a in attributes]) for name in ATTRIBUTES},
        outlines=torch.stack(outlines),
        places=torch.stack(places),
        placed=torch.stack(placed),
        cells=all_cells,
        region_names=[_region_names(scene, cells) for scene, cells in zip(scenes, all_cells)],
    )


def _anchor(cells: Tensor) -> int:
    """The one token that stands for an object (T' x h x w bool): in its middle, where it is first seen."""
    patch = int(cells.flatten(1).any(1).int().argmax())
    own = cells[patch].nonzero()
    middle = own[(own - own.float().mean(0)).square().sum(1).argmin()]
    height, width = cells.shape[1:]
    return int((patch * height + middle[0]) * width + middle[1])


def _region_names(scene: Scene, cells: Tensor) -> dict[str, Tensor]:
    """The attributes' numbers for each row that pooling `cells` gives (objects first, then patches)."""
    rows = cells.flatten(2).any(-1).nonzero()[:, 0].tolist()
    return {name: torch.tensor([_number(scene.objects[k], name) for k in rows]) for name in ATTRIBUTES}


def _number(spec: ObjectSpec, name: str) -> int:
    """The number of an attribute's value from 1; `IGNORE` where there is no word for it."""
    value = getattr(spec, name)
    return ATTRIBUTES[name].index(value) + 1 if value else IGNORE


def _cell_labels(scene: Scene, cells: Tensor, name: str) -> Tensor:
    labels = torch.zeros(cells.shape[1:], dtype=torch.long)
    for spec, mask in zip(scene.objects, cells):
        labels[mask] = _number(spec, name)
    return labels


def _outline(scene: Scene, grid: tuple[int, ...]) -> Tensor:
    """T' x h x w x 49: the objects' outline inside each token's square, on the first frame of its patch."""
    h, w = grid
    shown = torch.from_numpy(np.logical_or.reduce(scene.masks)[::2]).float()
    spots = F.adaptive_avg_pool2d(shown[:, None], (h * OUTLINE, w * OUTLINE))[:, 0] >= 0.5
    return spots.unflatten(1, (h, OUTLINE)).unflatten(3, (w, OUTLINE)).transpose(2, 3).flatten(3)


def _prefill(rng: np.random.Generator, scene: Scene) -> _Sequence:
    """The first pass over marked objects: the answer repeats each mark as a prompt for SAM."""
    task = sample_task(rng, scene, kinds=["what", "shape", "color", *["what_two"] * (len(scene.objects) > 1)])
    marks = {i: next(m for m in task.marks if m.object_index == k) for i, k in task.ids.items()}
    question = grammar.render_prefill_question(task.question, marks)
    padded = scene.num_frames + scene.num_frames % 2
    refs, places = [], []
    for object_id in question.ref_ids:
        mark = marks[object_id]
        mask = scene.masks[mark.object_index, mark.frame]
        if mark.kind == "box":
            place = box_place(mask)
            refs.append((place.coords, place.labels, mark.frame / (padded - 1)))
        else:
            coords = torch.tensor([click(rng, mask)])
            refs.append((coords, torch.ones(1, dtype=torch.int32), mark.frame / (padded - 1)))
            place = Place(torch.cat([coords, torch.zeros(1, 2)]), torch.tensor([1, -1], dtype=torch.int32))
        places.append((mark.object_index, mark.frame, place))
    return _Sequence(
        grammar.render_conversation(question.text),
        grammar.render_prefill_answer(question.ref_ids),
        task,
        places,
        refs,
        None,
    )


def write_dialogue(scene: Scene, task: Task, before: Task | None = None) -> _Sequence:
    """A question with the marked objects injected from memory, and its answer; maybe after an earlier exchange."""
    prefix, regions = "", None
    if task.ids:
        prefix, regions = inject(scene, task)
    question = prefix + grammar.render_question(task.question)
    places = [(k, 0, box_place(scene.masks[k, 0])) for k in task.targets]
    answer = as_read(task.answer)
    history = []
    if before is not None:  # as the engine tells it: found objects by their numbers
        said = grammar.parse_answer(as_read(before.answer), before.ids).text
        history.append((grammar.render_question(before.question), grammar.render_question(said)))
    return _Sequence(grammar.render_conversation(question, history), answer, task, places, (), regions)


def inject(scene: Scene, task: Task) -> tuple[str, Tensor]:
    """The memory prefix of a task's objects, and their regions N x T' x h x w on the token grid."""
    side = NANO_SIDE // 14
    grid = torch.tensor([[(scene.num_frames + 1) // 2, side, side]])
    masks = scene.masks[list(task.ids.values())]
    cells = pool_to_token_grid(masks, grid)
    patches = {
        object_id: [(p.first, p.last) for p in grammar.visible_patches(mask.any((1, 2)))]
        for object_id, mask in zip(task.ids, masks)
    }
    return grammar.render_memory(scene.num_frames, scene.num_frames == 1, patches), cells


__all__ = ["ATTRIBUTES", "IGNORE", "DialogueBatch", "DialogueMaker", "Mark", "Place", "SegTarget"]
