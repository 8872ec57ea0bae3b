"""16 bit as a way to store weights: half the memory, and the arithmetic of float32.

A CPU gains nothing in digits from 16-bit arithmetic, and masks lose by it: those of close decisions change. Checkpoints
are stored in bfloat16 anyway, so with this the answers are those of float32, bit for bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Numbers that are widened at once: enough for the matrix product, few enough to stay near the processor.
_CHUNK = 1 << 22


class StoredLinear(nn.Linear):
    """A linear layer whose weight is widened to the input's format while it is used, some rows at a time."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        parts = self.weight.split(max(1, _CHUNK // self.in_features))
        output = torch.cat([F.linear(input, part.to(input.dtype)) for part in parts], -1)
        return output if bias is None else output + bias


class StoredEmbedding(nn.Embedding):
    """An embedding whose rows are looked up as they are stored, and widened to float32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


def compute_in_float32(model: nn.Module) -> None:
    """Keep the matrices of `model` as they are stored and compute in float32, in place; what is small is widened."""
    for module in model.modules():
        stored = {nn.Linear: StoredLinear, nn.Embedding: StoredEmbedding}.get(type(module))
        for parameter in module.parameters(recurse=False):
            if parameter.dtype != torch.float32 and stored is not None:
                module.__class__ = stored
            else:
                parameter.data = parameter.data.float()
