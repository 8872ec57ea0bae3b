"""However the tokens of an answer are chosen, they are the library's choice, and masks follow the tokens emitted."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import MEDIA, POINT, done, said, same_answer
from tiny import random_network, tiny_config, tiny_engine
from torch import Tensor
from transformers.cache_utils import DynamicCache

from unipixel.decoding import GREEDY, Decoding, Start, Step, decode
from unipixel.engine import UniPixel
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.segmenter import ObjectPrompt, Segmenter
from unipixel.types import Masklet

LIMIT = 12
SAMPLED = Decoding(temperature=1.0, top_p=0.9, top_k=50, seed=3)
WAYS = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "penalty": Decoding(repetition_penalty=1.5),
    "beams": Decoding(num_beams=4),
    "beams and penalty": Decoding(num_beams=3, repetition_penalty=1.3),
}


@pytest.fixture(scope="module")
def network() -> UniPixelForConditionalGeneration:
    """A network of few words, so that answers end now and then."""
    return random_network(tiny_config(48), seed=5)


@pytest.fixture(scope="module")
def prompts() -> Tensor:
    return torch.randint(20, 48, (6, 9), generator=torch.Generator().manual_seed(1))


def start(network: UniPixelForConditionalGeneration, ids: Tensor) -> Start:
    """Read a prompt of words alone."""
    cache, positions = DynamicCache(), network.positions(ids, None)[0]
    hidden = network.read(network.embed(ids), positions, cache)
    return Start(ids, hidden[:, -1], ids.shape[1], cache)


def steps(network: UniPixelForConditionalGeneration, ids: Tensor, decoding: Decoding, ends: set[int]) -> list[Step]:
    with torch.inference_mode():
        return list(decode(network, start(network, ids), decoding, LIMIT, ends, threading.Event()))


@pytest.mark.parametrize("ends", [{47}, {30, 31, 32, 33}], ids=["one end", "many ends"])
@pytest.mark.parametrize("way", [name for name in WAYS if name != "sampled"])
def test_tokens_are_those_of_the_library(
    network: UniPixelForConditionalGeneration, prompts: Tensor, way: str, ends: set[int]
) -> None:
    settings: Any = {"num_beams": WAYS[way].num_beams, "repetition_penalty": WAYS[way].repetition_penalty}
    for ids in prompts.split(1):
        ours = [step.token for step in steps(network, ids, WAYS[way], ends)]
        theirs = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=LIMIT,
            eos_token_id=sorted(ends),
            pad_token_id=0,
            **settings,
        )
        assert ours == theirs[0, ids.shape[1] :].tolist()[: len(ours)]
        assert len(ours) == LIMIT or ours[-1] in ends


@pytest.mark.parametrize("way", WAYS)
def test_each_token_comes_with_the_state_that_predicted_it(
    network: UniPixelForConditionalGeneration, prompts: Tensor, way: str
) -> None:
    """The whole answer is read again in one pass: the states at its places are those that were handed out."""
    for ids in prompts.split(1):
        answer = steps(network, ids, WAYS[way], {47})
        whole = torch.cat([ids, torch.tensor([[step.token for step in answer]])], 1)
        with torch.inference_mode():
            hidden = network.read(network.embed_words(whole), torch.arange(whole.shape[1]).expand(3, 1, -1))
        wanted = hidden[0, ids.shape[1] - 1 : -1]
        assert torch.allclose(torch.cat([step.state for step in answer]), wanted, atol=1e-4)


def test_chances_are_those_of_the_model(network: UniPixelForConditionalGeneration, prompts: Tensor) -> None:
    begin, count = start(network, prompts[:1]), 400
    chances = network.predict(begin.state)[0].softmax(-1)
    first: Counter[int] = Counter()
    for seed in range(count):
        way = Decoding(temperature=1.0, seed=seed)
        first.update([next(decode(network, begin, way, 1, set(), threading.Event())).token])
    shares = torch.tensor([first[i] / count for i in range(len(chances))])
    assert (shares - chances).abs().max() < 0.1
    few = {
        next(decode(network, begin, Decoding(1.0, top_k=2, seed=s), 1, set(), threading.Event())).token
        for s in range(40)
    }
    assert few == set(chances.topk(2).indices.tolist())


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_repeatable_and_streamed_as_asked(way: str) -> None:
    first, again = (
        tiny_engine().ask(MEDIA, "What is @1?", prompts=[POINT], max_new_tokens=LIMIT, decoding=WAYS[way]) for _ in "ab"
    )
    assert same_answer(first, again)
    events = list(tiny_engine().stream(MEDIA, "What is @1?", prompts=[POINT], max_new_tokens=LIMIT, decoding=WAYS[way]))
    assert same_answer(done(events), first)
    assert said(events) == first.text


def favour(engine: UniPixel, monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Make `<|seg|>` likelier, so that answers of a random network draw."""
    predict, seg = engine.network.predict, engine.network.config.seg_token_id

    def louder(hidden: Tensor) -> Tensor:
        logits = predict(hidden)
        logits[:, seg] += by
        return logits

    monkeypatch.setattr(engine.network, "predict", louder)


@pytest.mark.parametrize("way", WAYS)
def test_masks_are_drawn_from_the_emitted_tokens(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many masks as emitted `<|seg|>`, each from the state that predicted it in the answer as it was emitted."""
    engine = tiny_engine()
    favour(engine, monkeypatch, 8.0)
    taken: list[Step] = []

    def listening(*args: Any) -> Any:
        for step in decode(*args):
            taken.append(step)
            yield step

    monkeypatch.setattr("unipixel.engine.decode", listening)
    answer = engine.ask(MEDIA, "What is there?", max_new_tokens=LIMIT, decoding=WAYS[way])
    drawn = [step.state for step in taken if step.token == engine.network.config.seg_token_id]
    assert len(answer.masklets) == len(drawn) > 0
    tokens = [engine.network.point_out(state)[0] for state in drawn]
    prompts = [ObjectPrompt(i, tokens={0: row}) for i, row in enumerate(tokens, 1)]
    segmenter = Segmenter(engine.network.sam2, lambda t: engine.encoder.frame(MEDIA, t), MEDIA)
    found = {m.object_id: m for m in segmenter.masklets(prompts) if isinstance(m, Masklet)}
    assert all(np.array_equal(found[i].masks, masklet.masks) for i, masklet in answer.masklets.items())


def test_a_penalty_that_silences_seg_leaves_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest token may be `<|seg|>` and still not be said: then nothing is drawn."""
    engine = tiny_engine()
    favour(engine, monkeypatch, 8.0)
    loud = engine.ask(MEDIA, "What is there?", max_new_tokens=LIMIT)
    quiet = engine.ask(MEDIA, "What is there?", max_new_tokens=LIMIT, decoding=Decoding(repetition_penalty=10.0))
    assert len(quiet.masklets) < len(loud.masklets)
    assert len(quiet.masklets) == len(quiet.spans)


def test_beams_can_be_stopped_and_cut() -> None:
    stop = threading.Event()
    stop.set()
    engine = tiny_engine()
    events = list(engine.stream(MEDIA, "What?", decoding=Decoding(num_beams=3), stop=stop))
    assert done(events).cancelled
    assert engine.ask(MEDIA, "What?", max_new_tokens=2, decoding=Decoding(num_beams=3)).truncated


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"num_beams": 0},
        {"num_beams": 1000},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"num_beams": 2, "temperature": 1.0},
    ],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        Decoding(**wrong)
