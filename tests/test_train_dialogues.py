"""Training speaks to the network as the engine does, and helpers are asked only what has an answer."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from unipixel import ObjectMemoryBank, Turn, UniPixel
from unipixel.data.world import COLORS, FULL, NAMELESS, NOUNS, SHAPES, draw_scene, found_ids, sample_task
from unipixel.engine import NANO, find_checkpoint
from unipixel.eval.world_measure import scene_media
from unipixel.grammar import mentioned_ids, parse_answer
from unipixel.train.dialogues import (
    ATTRIBUTES,
    CHOOSING_LAYER,
    IGNORE,
    LOOKING_LAYER,
    DialogueMaker,
    SceneMaker,
    as_read,
    write_dialogue,
)
from unipixel.train.nano import RICH_QUESTIONS, grown
from unipixel.train.scenes import Draw
from unipixel.train.stages import DialogueTrainer, found_share
from unipixel.types import Masklet


@pytest.fixture(scope="module")
def nano() -> UniPixel:
    return UniPixel.from_pretrained(NANO)


@pytest.mark.parametrize("seed", range(6))
def test_training_and_engine_word_a_conversation_alike(nano: UniPixel, monkeypatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, num_frames=(1, 4)[seed % 2], num_objects=(3, 5))
    before = sample_task(rng, scene, kinds=["refer", "refer_two", "what"])
    known = {**before.ids, **found_ids(before)}
    task = sample_task(rng, scene, kinds=["what", "color", "is_it", "refer"], known=known)
    named = mentioned_ids(task.question)
    task = replace(task, ids={i: {**known, **task.ids}[i] for i in named})
    bank = ObjectMemoryBank()
    for object_id, k in {**known, **task.ids}.items():
        masks = scene.masks[k]
        bank = bank.with_object(Masklet(object_id, masks, np.ones(len(masks), np.float32), ""))
    read: list[str] = []
    suffix_ids = nano._suffix_ids
    monkeypatch.setattr(nano, "_suffix_ids", lambda text: read.append(text) or suffix_ids(text))
    said = parse_answer(as_read(before.answer), before.ids).text
    nano.ask(scene_media(scene), task.question, memory=bank, history=[Turn(before.question, said)], max_new_tokens=1)
    assert read == [write_dialogue(scene, task, before).text]


def test_reading_a_medium_once_for_all_its_questions_changes_nothing(nano: UniPixel) -> None:
    tokenizer = Tokenizer.from_file(str(find_checkpoint(NANO) / "tokenizer.json"))
    kinds = {"prefill": 1.0, "what": 1.0, "refer": 1.0, "is_it": 1.0}
    batch = DialogueMaker(tokenizer, [(1.0, Draw(2, 3))], 4, kinds)(np.random.default_rng(0))
    for kind in (batch.refs, batch.regions, batch.segs):
        assert kind
    network = nano.network
    trainer = DialogueTrainer(network).requires_grad_(True)

    def gradients(last: Tensor) -> dict[str, Tensor]:
        loss, _ = trainer.language_loss(batch, last)
        network.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    vision = trainer.see(batch)
    coords, labels, moments = zip(*batch.refs)
    refs = network.encode_prompts(coords, labels, torch.tensor(moments))
    mems = torch.cat([network.encode_regions(vision[b], regions) for b, regions in batch.regions])
    embeds = network.embed(batch.input_ids, torch.cat([vision[b].tokens for b in batch.scene_of]), refs, mems)
    grids = batch.grid_thw[batch.scene_of]
    positions, _ = network.positions(batch.input_ids, grids, attention_mask=batch.attention_mask)
    apart = network.read(embeds, positions, attention_mask=batch.attention_mask)
    together = trainer.listen(batch, trainer.see(batch)).last
    said = batch.attention_mask > 0
    assert torch.allclose(together[said], apart[said], atol=1e-3)
    expected, found = gradients(apart), gradients(together)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= 1e-3 * float(gradient.norm()) + 1e-6, name
    network.requires_grad_(False)


def test_helpers_are_asked_only_what_has_an_answer() -> None:
    batch = SceneMaker([(1.0, Draw(6, 1, (4, 8), replace(FULL, nameless=0.5)))])(np.random.default_rng(0))
    shapes, colors = batch.attributes["shape"], batch.attributes["color"]
    unnamed = shapes > len(SHAPES)
    assert unnamed.any()
    assert (colors[(shapes > 0) & ~unnamed] > 0).all()
    assert (colors[shapes == 0] == 0).all()
    colorless = {1 + ATTRIBUTES["shape"].index(n) for n in (*NOUNS, NAMELESS) if n == NAMELESS or not NOUNS[n].color}
    for number in colorless:
        assert (colors[shapes == number] == IGNORE).all()
    assert (batch.attributes["texture"][unnamed] == IGNORE).all()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(find_checkpoint(NANO) / "tokenizer.json"))


def test_only_colors_of_answers_slip_and_what_is_learnt_stays_right(tokenizer: Tokenizer) -> None:
    batch = DialogueMaker(tokenizer, [(1.0, Draw(8))], 6, {"what": 1.0, "refer": 1.0})(np.random.default_rng(0))
    slipped = (batch.labels != IGNORE) & (batch.labels != batch.input_ids)
    named = {tokenizer.token_to_id(f"\u0120{color}") for color in COLORS}
    answers = [tokenizer.decode(row[row != IGNORE].tolist()) for row in batch.labels]
    assert 3 <= slipped.sum() <= len(answers)
    assert set(batch.labels[slipped].tolist()) | set(batch.input_ids[slipped].tolist()) <= named
    for answer, asked in zip(answers, batch.input_ids):
        if answer.startswith("The "):  # a request: the right answer repeats it
            assert set(answer.split()) & set(COLORS) <= set(tokenizer.decode(asked.tolist()).split())


def test_counting_looks_at_one_token_of_each_object_and_at_the_first_of_all(tokenizer: Tokenizer) -> None:
    kinds = {"count": 1.0, "absent": 1.0}
    batch = DialogueMaker(tokenizer, [(1.0, Draw(8, 1, (2, 5)))], 4, kinds, extras=0)(np.random.default_rng(0))
    numbers = set()
    for look in (look for look in batch.looks if look.each):
        learnt = batch.labels[look.sequence]
        answer = tokenizer.decode(learnt[learnt != IGNORE].tolist())
        number = int((re.findall(r"\d", answer) or "0")[0])
        numbers.add(number)
        first = int((batch.input_ids[look.sequence] == tokenizer.token_to_id("<|video_pad|>")).nonzero()[0])
        sink, *anchors = look.shown.tolist()
        cells = batch.cells[batch.scene_of[look.sequence]].flatten(1)
        owners = [cells[:, anchor - first].nonzero()[:, 0].tolist() for anchor in anchors]
        assert sink == 0
        assert len(anchors) == number
        assert all(owners)
        assert learnt[look.position + 1] != IGNORE
    assert {0, 1, 2} <= numbers


def test_in_a_list_all_that_fit_are_looked_up_before_one_is_chosen(tokenizer: Tokenizer) -> None:
    """Of "the star and the ring" the words say which one comes next; of "the rings" they do not."""
    kinds = {"refer_all": 1.0, "refer_two": 1.0}
    batch = DialogueMaker(tokenizer, [(1.0, Draw(8, 1, (3, 5)))], 4, kinds, extras=0)(np.random.default_rng(0))
    listed = 0
    for number in range(len(batch.scene_of)):
        segs = [seg for seg in batch.segs if seg.sequence == number]
        learnt = batch.labels[number]
        answer = tokenizer.decode(learnt[learnt != IGNORE].tolist())
        looks = {
            (look.layer, look.position): set(look.shown.tolist()) for look in batch.looks if look.sequence == number
        }
        own = [looks[CHOOSING_LAYER, seg.position - 1] for seg in segs]
        fits = [looks[LOOKING_LAYER, seg.position - 1] for seg in segs]
        if len(segs) > 1 and answer.startswith("Here are"):
            listed += 1
            assert all(found == set().union(*own) for found in fits)
        else:
            assert fits == own
    assert listed > 3


def test_a_list_goes_on_with_what_is_still_to_come(tokenizer: Tokenizer) -> None:
    """After each thing of a list, one token of every later one counts; after the last, none but the very first."""
    batch = DialogueMaker(tokenizer, [(1.0, Draw(8, 1, (1, 5)))], 4, {"refer_all": 1.0})(np.random.default_rng(1))
    first = int((batch.input_ids[0] == tokenizer.token_to_id("<|video_pad|>")).nonzero()[0])
    ends = goes_on = 0
    for number, scene in enumerate(batch.scene_of):
        segs = [seg for seg in batch.segs if seg.sequence == number]
        after = {look.position: look.shown.tolist() for look in batch.looks if look.sequence == number and look.each}
        for n, seg in enumerate(segs, 1):
            nothing, *anchors = after[seg.position]
            cells = batch.cells[scene].flatten(1)
            assert nothing == 0
            assert len(anchors) == len(segs) - n
            assert all(cells[later.object_index, i - first] for later, i in zip(segs[n:], anchors))
            ends, goes_on = ends + (not anchors), goes_on + bool(anchors)
    assert min(ends, goes_on) > 3


def test_likeness_is_looked_up_at_the_mark_and_then_among_the_others(tokenizer: Tokenizer) -> None:
    """ "@1 is red. Here are the other red objects: ...": the mark tells what is looked for."""
    batch = DialogueMaker(tokenizer, [(1.0, Draw(8, 1, (2, 5)))], 4, {"similar": 1.0}, extras=0)(
        np.random.default_rng(0)
    )
    stop, mem = tokenizer.token_to_id("."), tokenizer.token_to_id("<|mem|>")
    seen = 0
    for number, row in enumerate(batch.input_ids):
        answered = (batch.labels[number] != IGNORE).nonzero()[:, 0]
        if not tokenizer.decode(row[answered].tolist()).startswith("["):
            continue  # another question, where nothing could be marked
        end = int(answered[(row[answered] == stop).nonzero()[0, 0]])
        for look in (look for look in batch.looks if look.sequence == number):
            at_mark = bool((row[look.shown] == mem).all())
            if look.position != end:  # there, it is at the mark still and among the others already
                assert at_mark == (look.position < end)
            seen += at_mark
    assert seen > 20


def test_an_equal_share_for_each_costs_nothing() -> None:
    heads = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]])
    equal, uneven = found_share(heads, each=True).tolist()
    assert equal == pytest.approx(0)
    assert uneven < equal
    assert found_share(heads, each=False).tolist() == pytest.approx([0, 0])


def test_heads_that_learn_new_words_keep_the_old_ones() -> None:
    old, fresh = torch.nn.Linear(3, 4), torch.nn.Linear(3, 6)
    first = {f"head.{k}": v.clone() for k, v in old.state_dict().items()}
    start = {f"head.{k}": v.clone() for k, v in fresh.state_dict().items()}
    for name, value in grown(first, start).items():
        assert torch.equal(value[:4], first[name])
        assert torch.equal(value[4:], start[name][4:])


def test_rich_scenes_are_asked_rich_questions_and_plain_ones_are_not() -> None:
    tokenizer = Tokenizer.from_file(str(find_checkpoint(NANO) / "tokenizer.json"))
    only = {name: 1.0 for name in RICH_QUESTIONS if name in ("refer_function", "what")}

    def asked(draw: Draw) -> str:
        maker = DialogueMaker(tokenizer, [(1.0, draw)], 4, only)
        return "".join(tokenizer.decode(row.tolist()) for row in maker(np.random.default_rng(1)).input_ids)

    uses = ("eat", "ride", "drive", "animal", "fly", "wear", "play", "food", "grow", "vehicle", "plant", "something")
    assert any(word in asked(Draw(8, contents=FULL)) for word in uses)
    assert not any(word in asked(Draw(8)) for word in uses)
