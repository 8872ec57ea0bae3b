"""The three stages as values: which parts learn, at what rate, from what.

UniPixel paper (arXiv 2509.18094), section 4.1. First the prompt encoder learns to tell a frozen language model what
was marked, then the seg head to tell SAM 2 what the language model means, then everything learns together: the two
towers through LoRA (arXiv 2106.09685), SAM 2 with a small rate of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unipixel.data.samplers import BOX, CENTRE, DIRECT, FIND, MEMORY, PLAIN, POINT, PREFILL

LORA = "lora"
# Part -> what its parameters' names start with.
PARTS = {
    "prompts": "prompt_encoder.",
    "regions": "region_encoder.",
    "seg_head": "seg_head.",
    "sam2": "sam2.",
    "embeddings": "model.language_model.embed_tokens.",
    "head": "lm_head.",
    "vision": "model.visual.",
    "language": "model.language_model.",
}
# Every q, k, v and o of the vision tower (where q, k, v are one matrix) and the language model; nothing of SAM 2.
LORA_TARGETS = (
    r"model\.visual\.blocks\.\d+\.attn\.(qkv|proj)"
    r"|model\.language_model\.layers\.\d+\.self_attn\.[qkvo]_proj"
)


@dataclass(frozen=True)
class Lora:
    """LoRA's numbers; a matrix moves by `alpha / rank` times the product of its two small ones."""

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """A stage: `rates` are the learning rates of the parts that learn, all others stay as they are.

    `forms` weighs how marked objects are shown (`data.samplers`), `marks` with what they are marked.
    """

    name: str
    rates: Mapping[str, float]
    forms: Mapping[str, float]
    marks: Mapping[str, float] = field(default_factory=lambda: {POINT: 0.35, CENTRE: 0.15, BOX: 0.5})
    lora: Lora | None = None
    warmup: float = 0.03

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.rates) - {LORA, *PARTS}):
            raise ValueError(f"There is no part {unknown[0]!r}; the parts are {', '.join([LORA, *PARTS])}.")
        if (LORA in self.rates) != (self.lora is not None):
            raise ValueError("LoRA needs its numbers and a learning rate, or neither.")

    def rate(self, parameter: str) -> float:
        """The learning rate of the parameter with this name; 0 where it does not learn."""
        return self.rates.get(part_of(parameter), 0.0)


def part_of(parameter: str) -> str:
    """The part that a parameter of the network belongs to."""
    if ".lora_" in parameter:
        return LORA
    return next(part for part, prefix in PARTS.items() if parameter.startswith(prefix))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("prompts", {"prompts": 1e-3}, {DIRECT: 1.0}),
        Recipe("seg", {"seg_head": 1e-3}, {FIND: 0.7, PREFILL: 0.3}),
        Recipe(
            "joint",
            {
                LORA: 2e-5,
                "embeddings": 2e-5,
                "head": 2e-5,
                "prompts": 2e-5,
                "regions": 2e-5,
                "seg_head": 2e-5,
                "sam2": 5e-6,
            },
            {PLAIN: 0.5, PREFILL: 0.2, MEMORY: 0.3},
            lora=Lora(),
        ),
    )
}
