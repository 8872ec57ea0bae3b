"""Run by two processes: a network spread over both (FSDP) gives the loss and gradients of a whole one.

torchrun --nproc_per_node 2 tests/spread.py
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from test_trainer import REMEMBERED, SEGMENT, batch_of, clip, fresh_network, item
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from unipixel.data.samplers import DIRECT, Exchange
from unipixel.train.adapt import prepare
from unipixel.train.joint import JointModel
from unipixel.train.recipes import RECIPES, Lora


def whole_model() -> JointModel:
    """A joint stage's model, the same in every process; without dropout, whose draws would differ."""
    network = fresh_network()
    torch.manual_seed(0)  # adapters start at random
    prepare(network, replace(RECIPES["joint"], lora=Lora(4, 8, 0.0)))
    model = JointModel(network).train()
    network.sam2.eval()
    return model


def spread_model() -> JointModel:
    """The same, with the layers named in examples/train/fsdp.yaml as units of their own."""
    model, mesh = whole_model(), init_device_mesh("cpu", (2,))
    for layer in [*model.network.model.language_model.layers, *model.network.model.visual.blocks]:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def main() -> None:
    dist.init_process_group("gloo")
    marked = Exchange("What is @1?", "@1 is red.", DIRECT)
    batch = batch_of(item(clip(3), SEGMENT), item(clip(3), marked), item(clip(3), REMEMBERED))
    whole, spread = whole_model(), spread_model()
    losses = [model(batch)["loss"] for model in (whole, spread)]
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    wanted = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    found = {name: p.grad.full_tensor() for name, p in spread.named_parameters() if p.grad is not None}
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3, msg=name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
