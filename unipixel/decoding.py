"""From the language model's next-token logits to the tokens of an answer, each with the state that predicted it.

A mask is drawn from the hidden state that predicted its `<|seg|>`, so whatever chooses the tokens (sampling, a penalty,
beams) hands out both together: here they never part. Penalty and warpers are transformers' own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from unipixel.model.unipixel import UniPixelForConditionalGeneration

MAX_BEAMS = 16
NO_ANSWER = "The model gave no usable answer. Try another question or picture."


@dataclass(frozen=True)
class Decoding:
    """How the tokens of an answer are chosen; the default takes the likeliest one each time.

    With a `temperature` above 0 tokens are drawn by chance (the same for the same `seed`), from the `top_k` likeliest
    (0: all) and the likeliest that together have a chance of `top_p`. `num_beams` above 1 follows that many answers and
    gives the likeliest, at once instead of word by word. A `repetition_penalty` above 1 makes tokens that have been
    read or said less likely. ValueError for values that mean nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"temperature": (0, 10), "top_k": (0, 1_000_000), "num_beams": (1, MAX_BEAMS)}
        for name, (low, high) in {**limits, "seed": (0, 2**63 - 1)}.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be between {low} and {high}, not {getattr(self, name)}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if not 0 < self.repetition_penalty <= 10:
            raise ValueError(f"repetition_penalty must be above 0 and at most 10, not {self.repetition_penalty}.")
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("Beams follow the likeliest answers: they go with a temperature of 0 only.")

    def processors(self) -> Callable[[Tensor, Tensor], Tensor]:
        """What changes the scores (B x V) of the next tokens before one is chosen, given the ids so far (B x L)."""
        found = LogitsProcessorList()
        if self.repetition_penalty != 1:
            found.append(RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty)))
        if self.temperature > 0:
            found.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_k:
                found.append(TopKLogitsWarper(self.top_k))
            if self.top_p < 1:
                found.append(TopPLogitsWarper(float(self.top_p)))
        call: Any = found  # its annotations ask for subclasses of Tensor that torch does not make
        return call


GREEDY = Decoding()


@dataclass(frozen=True, eq=False)
class Start:
    """Where an answer begins: all token ids read so far (1 x L), the last hidden state (1 x D), the rotary position of
    the next token, and the cache, which decoding uses up."""

    ids: Tensor
    state: Tensor
    position: int
    cache: DynamicCache


class Step(NamedTuple):
    """One token of an answer, and the hidden state (1 x D, before the final norm) that predicted it."""

    token: int
    state: Tensor


def decode(
    network: UniPixelForConditionalGeneration,
    start: Start,
    decoding: Decoding,
    limit: int,
    end_ids: Collection[int],
    stop: threading.Event,
) -> Iterator[Step]:
    """The tokens of one answer, at most `limit`; one of `end_ids` is the last unless the limit or `stop` comes first.

    ValueError if the network's logits are not numbers.
    """
    if decoding.num_beams > 1:
        yield from _search(network, start, decoding, limit, end_ids, stop)
        return
    processors = decoding.processors()
    chance = torch.Generator(start.ids.device).manual_seed(decoding.seed)
    ids, state = start.ids, start.state
    for position in range(start.position, start.position + limit):
        scores = processors(ids, _logits(network, state))
        if decoding.temperature > 0:
            token = torch.multinomial(scores.softmax(-1), 1, generator=chance)
        else:
            token = scores.argmax(-1, keepdim=True)
        if stop.is_set():
            return
        yield Step(int(token), state)
        if int(token) in end_ids:
            return
        ids = torch.cat([ids, token], 1)
        state = _advance(network, token, position, start.cache)


def _logits(network: UniPixelForConditionalGeneration, states: Tensor) -> Tensor:
    """Next-token logits B x V in float32 from hidden states B x D."""
    logits = network.predict(states).float()
    if not bool(logits.isfinite().all()):
        raise ValueError(NO_ANSWER)
    return logits


def _advance(network: UniPixelForConditionalGeneration, tokens: Tensor, position: int, cache: DynamicCache) -> Tensor:
    """Read one more token a row (B x 1): hidden states B x D."""
    positions = torch.full((3, *tokens.shape), position, device=tokens.device)
    return network.read(network.embed_words(tokens), positions, cache)[:, -1]


class _Beam(NamedTuple):
    """An answer in the making: the sum of its tokens' log-probabilities, its steps."""

    score: float
    steps: tuple[Step, ...] = ()

    @property
    def mean(self) -> float:
        return self.score / len(self.steps)


def _search(
    network: UniPixelForConditionalGeneration,
    start: Start,
    decoding: Decoding,
    limit: int,
    end_ids: Collection[int],
    stop: threading.Event,
) -> Iterator[Step]:
    """Beam search: the answer with the best mean log-probability of its tokens."""
    processors, width = decoding.processors(), decoding.num_beams
    ids, states, running, finished = start.ids, start.state, [_Beam(0.0)], list[_Beam]()
    for count in range(1, limit + 1):
        scores = processors(ids, _logits(network, states).log_softmax(-1))
        scores = scores + scores.new_tensor([beam.score for beam in running])[:, None]
        best, places = scores.flatten().topk(min((1 + len(end_ids)) * width, scores.numel()))
        parents, tokens = places // scores.shape[1], places % scores.shape[1]
        rows: list[int] = []
        following: list[_Beam] = []
        for rank, (score, parent, token) in enumerate(zip(best.tolist(), parents.tolist(), tokens.tolist())):
            beam = _Beam(score, (*running[parent].steps, Step(token, states[parent : parent + 1])))
            if token in end_ids or count == limit:
                # An end that others outdo already is not worth keeping.
                finished += [beam] if rank < width else []
            elif len(following) < width:
                rows.append(rank)
                following.append(beam)
        finished = sorted(finished, key=lambda beam: -beam.mean)[:width]
        if following:
            running = following
        done = len(finished) == width and (not following or following[0].mean <= finished[-1].mean)
        if done or not following or stop.is_set():
            break
        parents, tokens = parents[rows], tokens[rows, None]
        ids = torch.cat([ids[parents], tokens], 1)
        start.cache.batch_select_indices(parents)
        states = _advance(network, tokens, start.position + count - 1, start.cache)
    yield from (finished or running)[0].steps
