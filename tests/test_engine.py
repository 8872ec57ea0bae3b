"""One conversation turn, end to end, on a tiny random network (see `tiny.py`)."""

from __future__ import annotations

import json
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import clip, make_media, picture, saying, tiny_engine

from unipixel.engine import UniPixel, names_in, pick_device, pick_dtype
from unipixel.grammar import MAX_OBJECTS, MEM_TOKEN, SEG_TOKEN, mentioned_ids
from unipixel.marks import is_scribble, sort_marks
from unipixel.media import load_media, write_video
from unipixel.memory import ObjectMemoryBank
from unipixel.segmenter import marks_prompt
from unipixel.types import (
    Answer,
    Box,
    Done,
    Event,
    Masklet,
    Masklets,
    MaskUpdate,
    Media,
    Point,
    Prompt,
    Region,
    Span,
    TextDelta,
    Turn,
)

MEDIA = clip()
POINT = Point((35, 40), frame=2, object_id=1)
BOX = Box((100, 50, 140, 100), frame=1, object_id=2)
CORRECTED = (Point((45, 90), frame=0, object_id=3), Point((60, 90), label=0, frame=4, object_id=3))


@pytest.fixture
def engine() -> UniPixel:
    """An engine that has seen nothing yet."""
    return tiny_engine()


@pytest.fixture
def read(engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the language model is given to read, piece by piece (single generated tokens left out)."""
    pieces: list[str] = []
    embed = engine.network.embed

    def listening(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if input_ids.shape[1] > 1:
            pieces.append(engine.tokenizer.decode(input_ids[0]))
        return embed(input_ids, *args, **kwargs)

    monkeypatch.setattr(engine.network, "embed", listening)
    return pieces


def area(height: int, width: int, frame: int = 0, object_id: int | None = None) -> Region:
    """A drawn rectangle in the middle of the picture."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    return Region(mask, frame, object_id)


def scribble(frame: int = 0, object_id: int | None = None) -> Region:
    """A thin line over the picture."""
    mask = np.zeros((MEDIA.height, MEDIA.width), bool)
    mask[40:42, 20:70] = True
    return Region(mask, frame, object_id)


def said(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def done(events: Sequence[Event]) -> Answer:
    """The answer of a whole stream."""
    last = events[-1]
    assert isinstance(last, Done)
    assert sum(isinstance(event, Done) for event in events) == 1
    return last.answer


def same_masklet(a: Masklet, b: Masklet) -> bool:
    return np.array_equal(a.masks, b.masks) and np.array_equal(a.scores, b.scores) and a.object_id == b.object_id


def same_answer(a: Answer, b: Answer) -> bool:
    """Whether two answers are equal in every bit."""
    return (
        (a.text, a.spans, a.memory, a.cancelled, a.truncated) == (b.text, b.spans, b.memory, b.cancelled, b.truncated)
        and list(a.masklets) == list(b.masklets)
        and all(same_masklet(a.masklets[i], b.masklets[i]) for i in a.masklets)
    )


def one_mask(size: tuple[int, int, int] = (5, 120, 160), object_id: int = 1) -> Masklet:
    """A square that stays where it is."""
    masks = np.zeros(size, bool)
    masks[:, 10:40, 10:40] = True
    return Masklet(object_id, masks)


# ------------------------------------------------------------------------------------------------------ the stream


def test_text_deltas_join_to_the_answer(engine: UniPixel) -> None:
    with saying(engine, f"The red ball is {SEG_TOKEN} and the crème brûlée 🎈 is [7] {SEG_TOKEN}, not [x]."):
        events = list(engine.stream(MEDIA, "What is there?"))
    answer = done(events)
    assert said(events) == answer.text == "The red ball is @1 and the crème brûlée 🎈 is @7, not [x]."
    assert [answer.text[s.start : s.end] for s in answer.spans] == ["@1", "@7"]


def test_random_words_join_to_the_answer(engine: UniPixel) -> None:
    events = list(engine.stream(MEDIA, "What is there?", max_new_tokens=40))
    assert said(events) == done(events).text


def test_ask_is_the_end_of_the_stream(engine: UniPixel) -> None:
    events = list(engine.stream(MEDIA, "What is @1?", prompts=[POINT], max_new_tokens=8))
    assert same_answer(done(events), engine.ask(MEDIA, "What is @1?", prompts=[POINT], max_new_tokens=8))


def test_marked_objects_come_before_the_words(engine: UniPixel) -> None:
    with saying(engine, "Two things."):
        kinds = [type(event) for event in engine.stream(MEDIA, "What are @1 and @2?", prompts=[POINT, BOX])]
    first_word = kinds.index(TextDelta)
    assert set(kinds[:first_word]) == {MaskUpdate, Masklets}
    assert set(kinds[first_word:-1]) == {TextDelta}


def test_every_mask_is_told_once_and_as_it_ends_up(engine: UniPixel) -> None:
    events = list(engine.stream(MEDIA, "What is @1?", prompts=[POINT, BOX, *CORRECTED], max_new_tokens=2))
    updates = [event for event in events if isinstance(event, MaskUpdate)]
    assert Counter((u.object_id, u.frame) for u in updates) == {(i, t): 1 for i in (1, 2, 3) for t in range(5)}
    answer = done(events)
    assert all(np.array_equal(u.mask, answer.masklets[u.object_id].masks[u.frame]) for u in updates)


# --------------------------------------------------------------------------------------------------------- memory


def test_the_bank_that_goes_in_stays_as_it_is(engine: UniPixel) -> None:
    bank = ObjectMemoryBank().with_object(one_mask(object_id=9), label="square")
    before = bank.to_json()
    with saying(engine, f"It is {SEG_TOKEN}."):
        answer = engine.ask(MEDIA, "What is @9?", prompts=[POINT], memory=bank)
    assert bank.to_json() == before
    assert list(answer.memory) == [1, 9, 10]
    assert answer.memory[9] == bank[9]


def test_marked_and_found_objects_enter_the_bank(engine: UniPixel) -> None:
    with saying(engine, f"The red ball is {SEG_TOKEN}."):
        answer = engine.ask(MEDIA, "What moves?", prompts=[POINT, BOX, area(120, 160, object_id=3)])
    assert {i: known.origin for i, known in answer.memory.items()} == {1: "point", 2: "box", 3: "region", 4: "text"}
    assert all(np.array_equal(answer.memory[i].masks, m.masks) for i, m in answer.masklets.items())
    assert answer.memory[4].label == "red ball"


def test_no_objects_is_an_answer(engine: UniPixel) -> None:
    with saying(engine, "There is no dog in the video."):
        answer = engine.segment(MEDIA, "the dog")
    assert (answer.masklets, answer.spans, len(answer.memory)) == ({}, (), 0)


def test_remembered_objects_are_shown_with_the_question(engine: UniPixel, read: list[str]) -> None:
    masks = np.zeros((5, 120, 160), bool)
    masks[[0, 4], 20:60, 20:60] = True
    bank = ObjectMemoryBank().with_object(Masklet(1, masks)).with_object(one_mask(object_id=2))
    engine.ask(MEDIA, "Where is @1?", memory=bank, max_new_tokens=1)
    assert f"[1]: <1>-<2> {MEM_TOKEN} <5>-<6> {MEM_TOKEN}\nWhere is [1]?" in read[-1]
    assert "[2]" not in read[-1], "only objects that the question names are shown"


def test_pictures_carry_no_frame_range(engine: UniPixel, read: list[str]) -> None:
    engine.ask(picture(), "What is @1?", prompts=[Point((35, 40), object_id=1)], max_new_tokens=1)
    assert "Here is an image with the following highlighted regions:\n[1]: <|mem|>\nWhat is [1]?" in read[-1]


def test_an_object_that_is_never_visible_can_be_asked_about(engine: UniPixel, read: list[str]) -> None:
    bank = ObjectMemoryBank().with_object(Masklet(1, np.zeros((5, 120, 160), bool)))
    engine.ask(MEDIA, "Where is @1?", memory=bank, max_new_tokens=2)
    assert MEM_TOKEN not in read[-1]


def test_earlier_turns_are_read_again_as_the_model_wrote_them(engine: UniPixel, read: list[str]) -> None:
    bank = ObjectMemoryBank().with_object(one_mask())
    history = [Turn("Where is @1?", "@1 is left of <|seg|>."), Turn("Why?", "So.")]
    engine.ask(MEDIA, "And now?", memory=bank, history=history, max_new_tokens=1)
    assert "Where is [1]?<|im_end|>\n<|im_start|>assistant\n[1] is left of" in read[-1]
    assert read[-1].index("Why?") < read[-1].index("And now?")
    assert "[1] is left of <\u2060|seg|>." in read[-1]


def test_a_memory_of_another_clip_is_refused(engine: UniPixel) -> None:
    bank = ObjectMemoryBank().with_object(one_mask())
    with pytest.raises(ValueError, match="belongs to one picture or clip"):
        engine.ask(picture(), "What is @1?", memory=bank)


def test_answers_and_banks_travel_between_processes(engine: UniPixel) -> None:
    with saying(engine, f"The ball is {SEG_TOKEN}."):
        answer = engine.ask(MEDIA, "What is @1?", prompts=[POINT])
    assert same_answer(answer, pickle.loads(pickle.dumps(answer)))
    assert ObjectMemoryBank.from_json(answer.memory.to_json()) == answer.memory


# ------------------------------------------------------------------------------------------- `<|seg|>` in answers


def test_seg_tokens_become_objects_in_their_order(engine: UniPixel) -> None:
    words = f"A cat is {SEG_TOKEN}, [5] {SEG_TOKEN} is a dog, and so is {SEG_TOKEN}."
    with saying(engine, words):
        events = list(engine.stream(MEDIA, "What is there?"))
    answer = done(events)
    assert answer.text == "A cat is @1, @5 is a dog, and so is @6."
    assert list(answer.masklets) == list(answer.memory) == [1, 5, 6]
    assert {i: known.label for i, known in answer.memory.items()} == {1: "cat", 5: "dog", 6: ""}
    assert isinstance(events[-2], Masklets)


def test_different_words_draw_different_masks(engine: UniPixel) -> None:
    with saying(engine, f"The cat is {SEG_TOKEN}, the {SEG_TOKEN}."):
        first, second = engine.ask(MEDIA, "What is there?").masklets.values()
    assert not np.array_equal(first.masks, second.masks)


def test_naming_a_known_object_keeps_its_mask(engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = ObjectMemoryBank().with_object(one_mask())
    monkeypatch.setattr(engine.network.sam2, "decode", None)
    with saying(engine, f"It is [1] {SEG_TOKEN}."):
        answer = engine.ask(MEDIA, "Which one?", memory=bank)
    assert np.array_equal(answer.masklets[1].masks, bank[1].masks)
    assert answer.memory == bank


def test_removed_objects_do_not_come_back(engine: UniPixel) -> None:
    bank = ObjectMemoryBank().with_object(one_mask()).without(1)
    with saying(engine, f"[1] {SEG_TOKEN} and {SEG_TOKEN}."):
        answer = engine.ask(MEDIA, "What is there?", memory=bank)
    assert 1 not in answer.masklets
    assert 1 not in {span.object_id for span in answer.spans}
    with pytest.raises(ValueError, match="removed"):
        engine.ask(MEDIA, "What?", prompts=[POINT], memory=bank)


def test_an_answer_cannot_flood_the_memory(engine: UniPixel) -> None:
    with saying(engine, SEG_TOKEN * (MAX_OBJECTS + 5)):
        answer = engine.ask(picture(), "Everything!")
    assert len(answer.memory) == MAX_OBJECTS


@pytest.mark.parametrize(
    "text, names",
    [
        ("The red ball is @2.", {2: "red ball"}),
        ("@1 is a cat.", {1: "cat"}),
        ("@1 is the big dog, and the small one is @3.", {1: "big dog", 3: "small one"}),
        ("The ball is @1 and @2.", {1: "ball"}),
        ("@1 and @2.", {}),
        ("", {}),
    ],
)
def test_names_come_from_the_sentence(text: str, names: dict[int, str]) -> None:
    spans = [Span(i, i + 2, int(text[i + 1])) for i, c in enumerate(text) if c == "@"]
    assert names_in(text, spans) == names


# ----------------------------------------------------------------------------------------------------------- marks


def test_several_marks_make_one_object(engine: UniPixel) -> None:
    marks = [Point((35, 40)), Point((40, 45), frame=3), Box((20, 20, 60, 60), frame=1), Point((5, 5), label=0)]
    tracked = engine.track(MEDIA, marks)
    assert list(tracked) == [1]
    answer = engine.ask(MEDIA, "What is @1?", prompts=marks, max_new_tokens=1)
    assert np.array_equal(answer.masklets[1].masks, tracked[1].masks)


def test_marks_without_an_id_take_the_next_free_one(engine: UniPixel) -> None:
    bank = ObjectMemoryBank().with_object(one_mask()).with_object(one_mask(object_id=2)).without(2)
    assert list(engine.track(MEDIA, [Point((35, 40))], memory=bank)) == [3]
    assert list(engine.track(MEDIA, [Point((35, 40)), Point((35, 40), object_id=7)])) == [8, 7]


def test_an_object_of_negative_clicks_alone_is_refused(engine: UniPixel) -> None:
    with pytest.raises(ValueError, match="at least one mark"):
        engine.track(MEDIA, [Point((35, 40), label=0)])


@pytest.mark.parametrize("frame", range(5))
def test_every_frame_can_be_marked(engine: UniPixel, frame: int) -> None:
    mark = Point((35, 40), frame=frame)
    (masklet,) = engine.track(MEDIA, [mark]).values()
    assert masklet.masks.shape == (5, 120, 160)
    assert (masklet.scores > 0).all()
    (preview,) = engine.preview(MEDIA, [mark]).values()
    assert np.array_equal(masklet.masks[frame], preview.mask)


def test_a_drawn_area_is_the_mask_of_its_frame(engine: UniPixel) -> None:
    drawn = area(120, 160, frame=3)
    (masklet,) = engine.track(MEDIA, [drawn]).values()
    overlap = (masklet.masks[3] & drawn.mask).sum() / (masklet.masks[3] | drawn.mask).sum()
    assert overlap > 0.85  # the mask passes through SAM 2's small picture


def test_a_scribble_becomes_clicks_on_it() -> None:
    drawn = scribble(frame=2)
    assert is_scribble(drawn.mask)
    assert not is_scribble(area(120, 160).mask)
    (marked,) = sort_marks([drawn], MEDIA, ObjectMemoryBank())
    prompt = marks_prompt(marked, MEDIA, 64)
    assert not prompt.masks
    coords, labels = prompt.points[2]
    assert labels.eq(1).all()
    x, y = (coords * torch.tensor([160 / 64, 120 / 64])).round().long().unbind(1)
    assert drawn.mask[y.numpy(), x.numpy()].all()


def test_scribbles_and_clicks_go_together(engine: UniPixel) -> None:
    marks = [scribble(1, 1), Point((5, 5), label=0, frame=1, object_id=1), area(120, 160, 4, 1)]
    answer = engine.ask(MEDIA, "What is @1?", prompts=marks, max_new_tokens=1)
    assert answer.memory[1].origin == "region"


def test_objects_do_not_disturb_each_other(engine: UniPixel) -> None:
    prompts: list[Prompt] = [POINT, BOX, *CORRECTED, Point((80, 60), frame=2, object_id=4)]
    together = engine.track(MEDIA, prompts)
    for i, masklet in together.items():
        (alone,) = engine.track(MEDIA, [p for p in prompts if p.object_id == i]).values()
        assert (alone.masks == masklet.masks).mean() > 0.999


def test_preview_gives_other_readings_of_one_click(engine: UniPixel) -> None:
    (preview,) = engine.preview(MEDIA, [POINT]).values()
    scores = [preview.score, *(score for _, score in preview.alternatives)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= s <= 1 for s in scores)
    (boxed,) = engine.preview(MEDIA, [BOX]).values()
    assert boxed.alternatives == ()


def test_previews_and_tracks_need_no_language_model(engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.network, "read", None)
    monkeypatch.setattr(engine.network, "encode_vision", None)
    engine.preview(MEDIA, [POINT, BOX])
    engine.track(MEDIA, [POINT, BOX])


@pytest.mark.parametrize("when, frames", [("prompt", [2, 1]), ("first", [0, 0])])
def test_marked_objects_are_decoded_where_the_checkpoint_says(
    engine: UniPixel, monkeypatch: pytest.MonkeyPatch, when: str, frames: list[int]
) -> None:
    monkeypatch.setattr(engine.network.config, "prefill_frame", when)
    prompts = engine.prefill(MEDIA, "What are @1 and @2?", {1: POINT, 2: BOX})
    assert [list(p.tokens) for p in prompts] == [[frame] for frame in frames]


def test_describe_is_a_caption_of_the_mark(engine: UniPixel, read: list[str]) -> None:
    with saying(engine, "A red ball."):
        answer = engine.describe(MEDIA, Box((20, 20, 60, 60), frame=1))
    assert answer.text == "A red ball."
    assert list(answer.memory) == [1]
    assert "Describe [1]." in read[-1]


def test_segment_writes_the_request(engine: UniPixel, read: list[str]) -> None:
    with saying(engine, f"It is {SEG_TOKEN}."):
        assert list(engine.segment(MEDIA, "the red ball").masklets) == [1]
    assert "Please segment the red ball in this video." in read[-1]


# ------------------------------------------------------------------------------------------------ what is refused

BAD_PROMPTS: dict[str, list[Any]] = {
    "point outside": [Point((160, 10))],
    "point above": [Point((10, -1))],
    "box outside": [Box((10, 10, 161, 20))],
    "no such frame": [Point((10, 10), frame=5)],
    "region of another size": [Region(np.ones((10, 10), bool))],
    "not a mark": ["here"],
    "too many marks": [Point((10, 10))] * 600,
    "too many objects": [Point((10, 10), object_id=i) for i in range(40)],
}


@pytest.mark.parametrize("prompts", BAD_PROMPTS.values(), ids=BAD_PROMPTS)
def test_bad_marks_are_refused_before_anything_happens(engine: UniPixel, prompts: list[Prompt]) -> None:
    bank = ObjectMemoryBank().with_object(one_mask(object_id=50))
    before = bank.to_json()
    for call in (engine.ask, engine.stream):
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
            call(MEDIA, "What is it?", prompts=prompts, memory=bank)
    for call in (engine.preview, engine.track):
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
            call(MEDIA, prompts)
    assert bank.to_json() == before


def test_a_question_about_an_unknown_object_is_refused(engine: UniPixel) -> None:
    with pytest.raises(ValueError, match="no object @4"):
        engine.stream(MEDIA, "Where are @1 and @4?", prompts=[POINT])


@pytest.mark.parametrize("question", ["", "  ", "x" * 5000, None], ids=["empty", "blank", "long", "none"])
def test_a_question_must_say_something(engine: UniPixel, question: Any) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        engine.stream(MEDIA, question)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_numbers_are_an_error(engine: UniPixel, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(engine.network, "predict", lambda hidden: torch.full((1, 1024), value), raising=False)
    with pytest.raises(ValueError, match="no usable answer"):
        engine.ask(MEDIA, "What is there?")


def test_unknown_devices_formats_and_models_are_named() -> None:
    with pytest.raises(ValueError, match="'abacus'"):
        pick_device("abacus")
    with pytest.raises(ValueError, match="'int3'"):
        pick_dtype("int3", torch.device("cpu"))
    with pytest.raises(ValueError, match="no model"):
        UniPixel.from_pretrained("no such thing")


# ------------------------------------------------------------------------------------------- text is never control


def nasty_texts(folder: Path) -> Iterator[str]:
    """Texts with control tokens that may be asked."""
    data = json.loads((folder / "bad_inputs" / "prompts_nasty.json").read_text(encoding="utf-8"))
    for prompt in data["prompts"]:
        if prompt["outcome"] == "accept" and "no_control_ids" in prompt["checks"]:
            yield "".join(p if isinstance(p, str) else p["repeat"] * p["times"] for p in prompt["text"])


def test_typed_control_tokens_stay_text(engine: UniPixel, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    controls = set(engine.tokenizer.all_special_ids)
    counts: Counter[int] = Counter()
    embed = engine.network.embed

    def counting(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        counts.update(i for i in input_ids.flatten().tolist() if i in controls)
        return embed(input_ids, *args, **kwargs)

    monkeypatch.setattr(engine.network, "embed", counting)

    def ask(text: str) -> Counter[int]:
        counts.clear()
        with saying(engine, "No."):
            answer = engine.ask(MEDIA, text, history=[Turn(text[:500], text[:500])])
        assert answer.masklets == {}
        assert not answer.spans
        return Counter(counts)

    ask("The media is encoded now.")
    harmless = ask("What is there?")
    texts = [text for text in nasty_texts(shared) if not mentioned_ids(text)]
    assert len(texts) > 10
    for text in texts:
        assert ask(text) == harmless, text[:80]


def test_control_strings_that_the_model_spells_out_stay_text(engine: UniPixel) -> None:
    pieces = ("<", "|", "seg", "|", ">")
    spelled = [i for piece in pieces for i in engine.tokenizer.encode(piece, add_special_tokens=False)]
    with saying(engine, "") as script:
        script.tokens = iter([*spelled, *script.tokens])
        answer = engine.ask(MEDIA, "What is there?")
    assert (answer.text, answer.masklets) == ("<|seg|>", {})


# ------------------------------------------------------------------------------------------------ encode once


class Counts:
    """How often, and for how many frames, the expensive parts ran."""

    def __init__(self, engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vision = self.frames = 0
        encode_vision, encode_frames = engine.network.encode_vision, engine.network.sam2.encode_frames

        def vision(pixels: torch.Tensor, grid: torch.Tensor) -> Any:
            self.vision += 1
            return encode_vision(pixels, grid)

        def frames(pixels: torch.Tensor) -> Any:
            self.frames += len(pixels)
            return encode_frames(pixels)

        monkeypatch.setattr(engine.network, "encode_vision", vision)
        monkeypatch.setattr(engine.network.sam2, "encode_frames", frames)


def test_media_are_encoded_once(engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(engine, monkeypatch)
    memory = ObjectMemoryBank()
    with saying(engine, f"{SEG_TOKEN} and {SEG_TOKEN}.", "Yes.", "No."):
        for prompts in ([POINT, BOX, *CORRECTED], [], [Point((5, 5), object_id=6)]):
            memory = engine.ask(
                make_media(MEDIA.frames.copy()), "What is there?", prompts=prompts, memory=memory
            ).memory
    engine.preview(MEDIA, [POINT])
    engine.track(MEDIA, [BOX])
    assert (counts.vision, counts.frames) == (1, 5)


def test_few_media_are_kept(engine: UniPixel, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(engine, monkeypatch)
    other = [make_media(MEDIA.frames[:1] // (i + 2)) for i in range(engine.encoder.capacity)]
    for media in (MEDIA, *other, MEDIA):
        engine.track(media, [Point((35, 40))])
    assert counts.frames == 5 + len(other) + 5


TURNS: tuple[tuple[str, tuple[Prompt, ...]], ...] = (
    ("What is @1?", (POINT, BOX)),
    ("Where is @1, and @2?", ()),
    ("And @3?", CORRECTED),
)


def conversation(engine: Callable[[], UniPixel], media: Media, between: Iterable[Media] = ()) -> list[Answer]:
    """Some turns about one media, `engine()` answering each, with questions about others between them."""
    answers: list[Answer] = []
    memory, history = ObjectMemoryBank(), []
    for question, prompts in TURNS:
        answer = engine().ask(media, question, prompts=prompts, memory=memory, history=history, max_new_tokens=10)
        memory, history = answer.memory, [*history, Turn(question, answer.text)]
        answers.append(answer)
        for other in between:
            engine().ask(other, "What is there?", max_new_tokens=3)
    return answers


def test_cached_and_uncached_answers_are_equal(engine: UniPixel) -> None:
    others = [clip(3), picture()]
    conversation(lambda: engine, MEDIA, others)
    cached = conversation(lambda: engine, MEDIA, others)
    fresh = conversation(tiny_engine, MEDIA)
    assert all(same_answer(a, b) for a, b in zip(cached, fresh, strict=True))


def test_conversations_do_not_see_each_other(engine: UniPixel) -> None:
    other = make_media(255 - MEDIA.frames)
    alone = [conversation(tiny_engine, media) for media in (MEDIA, other)]
    results: dict[int, list[Answer]] = {}

    def talk(i: int, media: Media) -> None:
        results[i] = conversation(lambda: engine, media)

    threads = [threading.Thread(target=talk, args=pair) for pair in enumerate((MEDIA, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_answer(a, b) for i in (0, 1) for a, b in zip(alone[i], results[i], strict=True))
    assert not same_answer(alone[0][0], alone[1][0])


def test_one_media_two_conversations(engine: UniPixel) -> None:
    plain = engine.ask(MEDIA, "What is there?", max_new_tokens=10)
    engine.ask(MEDIA, "Where is @1?", prompts=[POINT], history=[Turn("a", "b")], max_new_tokens=10)
    assert same_answer(plain, engine.ask(MEDIA, "What is there?", max_new_tokens=10))


# ------------------------------------------------------------------------------------------------------ stopping


def test_stopping_while_words_come_keeps_them(engine: UniPixel) -> None:
    stop, events = threading.Event(), []
    with saying(engine, f"The red ball is {SEG_TOKEN} and so on and on and on."):
        for event in engine.stream(MEDIA, "What is there?", prompts=[POINT], stop=stop):
            events.append(event)
            if "@2" in said(events):
                stop.set()
    answer = done(events)
    assert answer.cancelled
    assert said(events) == answer.text == "The red ball is @2"
    assert list(answer.memory) == [1, 2]
    assert answer.memory[1].visible.all()


def test_stopping_while_masks_come_keeps_them(engine: UniPixel) -> None:
    stop, events = threading.Event(), []
    for event in engine.stream(MEDIA, "What is @1?", prompts=[POINT], stop=stop):
        events.append(event)
        stop.set()
    answer = done(events)
    assert (answer.cancelled, answer.text) == (True, "")
    assert np.flatnonzero(answer.memory[1].visible).tolist() == [POINT.frame]
    assert np.flatnonzero(answer.masklets[1].scores).tolist() == [POINT.frame]


def test_a_stopped_turn_can_be_followed_by_another(engine: UniPixel) -> None:
    stop = threading.Event()
    stop.set()
    answer = engine.track(MEDIA, [POINT], stop=stop)
    assert len(answer[1].masks) == len(MEDIA)
    assert same_masklet(engine.track(MEDIA, [POINT])[1], tiny_engine().track(MEDIA, [POINT])[1])


def test_long_answers_are_cut_and_say_so(engine: UniPixel) -> None:
    with saying(engine, "one two three four five six seven eight"):
        cut = engine.ask(MEDIA, "Count.", max_new_tokens=3)
    assert cut.truncated
    assert not cut.cancelled
    with saying(engine, "one."):
        assert not engine.ask(MEDIA, "Count.", max_new_tokens=30).truncated


# --------------------------------------------------------------------------------------------- every source frame


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A clip of nine frames in a file."""
    return write_video(clip(9).frames, tmp_path / "film.mp4", 8)


def test_every_frame_of_the_source_gets_a_mask(engine: UniPixel, film: Path) -> None:
    media = load_media(film, max_frames=3)
    assert media.num_frames == 3
    tracked = engine.track(media, [Point((35, 40), frame=1, object_id=1), BOX], every_frame=True)
    assert {i: m.masks.shape for i, m in tracked.items()} == {1: (9, 120, 160), 2: (9, 120, 160)}
    (preview,) = engine.preview(media, [Point((35, 40), frame=1, object_id=1)]).values()
    assert (tracked[1].masks[media.frame_indices[1]] == preview.mask).mean() > 0.999


def test_sampling_every_frame_is_the_same_as_every_frame(engine: UniPixel, film: Path) -> None:
    media = load_media(film, max_frames=9)
    sampled, every = (engine.track(media, [POINT], every_frame=flag)[1] for flag in (False, True))
    assert (sampled.masks == every.masks).mean() > 0.999


def test_following_every_frame_can_be_stopped(engine: UniPixel, film: Path) -> None:
    stop = threading.Event()
    stop.set()
    (masklet,) = engine.track(load_media(film, max_frames=3), [Point((35, 40))], every_frame=True, stop=stop).values()
    assert masklet.masks.shape[0] == 9
    assert np.flatnonzero(masklet.scores).tolist() == [0]


@pytest.mark.parametrize("token", ["<|ref|>", "<|mem|>", "<|video_pad|>", "<|image_pad|>"])
def test_placeholders_that_the_model_says_stand_for_nothing(engine: UniPixel, token: str) -> None:
    with saying(engine, f"It is {token} a ball."):
        answer = engine.ask(MEDIA, "What is there?")
    assert answer.text.split() == ["It", "is", "a", "ball."]
    assert answer.masklets == {}
