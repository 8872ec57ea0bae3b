"""Which sample is learnt when: an endless, repeatable sequence of draws, and batches of one kind."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset, Sampler

from unipixel.data.sample import Mixture, Sample, Task
from unipixel.data.samplers import Exchange, possible_forms, sample_exchanges, sample_frames
from unipixel.train.items import ItemMaker, MediaItem


def fitting(task: Task, forms: Mapping[str, float]) -> Task:
    """The samples of a task from which something can be learnt in these forms."""
    wanted = {form for form, weight in forms.items() if weight > 0}
    return Task(task.name, [sample for sample in task.samples if possible_forms(sample) & wanted])


@dataclass(frozen=True, eq=False)
class Plan:
    """Draw number `n` before anything is read: the sample, what is asked, and the generator for the rest."""

    sample: Sample
    exchanges: list[Exchange]
    rng: np.random.Generator


class Draws(Dataset[MediaItem]):
    """Draw n of a mixture as tensors; it depends on `seed` and n alone, whoever makes it and when."""

    def __init__(
        self,
        mixture: Mixture,
        make: ItemMaker,
        forms: Mapping[str, float],
        *,
        length: int,
        max_frames: int = 8,
        exchanges: int = 1,
        seed: int = 0,
    ) -> None:
        self.mixture, self.make, self.forms, self.length = mixture, make, forms, length
        self.max_frames, self.exchanges, self.seed = max_frames, exchanges, seed

    def __len__(self) -> int:
        return self.length

    def plan(self, n: int) -> Plan:
        """What draw `n` will be."""
        rng, sample = np.random.default_rng([self.seed, n]), self.mixture[n]
        return Plan(sample, sample_exchanges(rng, sample, self.forms, self.exchanges), rng)

    def kind(self, n: int) -> Hashable:
        """Draws of one kind use the same parts of the network and are about equally long."""
        plan = self.plan(n)
        (form,) = {exchange.form for exchange in plan.exchanges}
        words = sum(len(e.question) + len(e.answer) for e in plan.exchanges)
        draws = any(exchange.found for exchange in plan.exchanges)
        return plan.sample.is_clip, form, draws, words.bit_length()

    def __getitem__(self, n: int) -> MediaItem:
        plan = self.plan(n)
        sample = plan.sample
        if sample.is_clip and sample.annotated:
            media = sample.read_frames(sample_frames(plan.rng, sample.annotated, self.max_frames))
        else:
            media = sample.read_evenly(self.max_frames)
        named = sorted({i for e in plan.exchanges for i in (*e.shown, *e.found, *_earlier(e))})
        masks = dict(zip(named, sample.read_masks(named, media)))
        return self.make(plan.rng, media, masks, plan.exchanges)


def _earlier(exchange: Exchange) -> tuple[int, ...]:
    """The objects that only the turns before an exchange name."""
    return tuple(
        i for turn in exchange.history for e in (Exchange(turn.question, turn.answer),) for i in (*e.shown, *e.found)
    )


class KindSampler(Sampler[int]):
    """Draws 0, 1, ... sorted into buckets by kind; whenever a bucket holds `group` draws, they come out together.

    With `group` = all sequences of one step, every process trains the same parts in a step, and little is padded.
    """

    def __init__(self, kind: Callable[[int], Hashable], steps: int, group: int) -> None:
        self.kind, self.steps, self.group = kind, steps, group

    def __len__(self) -> int:
        return self.steps * self.group

    def __iter__(self) -> Iterator[int]:
        buckets: dict[Hashable, list[int]] = {}
        full = n = 0
        while full < self.steps:
            bucket = buckets.setdefault(self.kind(n), [])
            bucket.append(n)
            n += 1
            if len(bucket) == self.group:
                yield from bucket
                bucket.clear()
                full += 1
