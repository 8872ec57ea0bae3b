"""Teach the whole network: head start of vision tower and language model, then UniPixel's joint loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import VisionFeatures
from unipixel.processing import normalize_for_sam, vision_inputs
from unipixel.train.dialogues import ATTRIBUTES, CHOOSING_LAYER, IGNORE, LOOKING_LAYER, OUTLINE, DialogueBatch
from unipixel.train.losses import mask_iou, mask_losses

_DECODED = 16  # seg tokens of a batch that SAM 2 draws masks of: more would take a third of a step


@dataclass(frozen=True, eq=False)
class Packed:
    """S sequences as one row a scene: what all of a scene's begin with, once, then the rest of each after the other.

    Nothing is read twice, and little is padded. `ids` is scenes x T, `positions` 3 x scenes x T (rotary), `open` scenes
    x T x T bool says which tokens each token may look at; `at` S x L is where each token of the sequences lies in its
    scene's row.
    """

    ids: Tensor
    positions: Tensor
    open: Tensor
    at: Tensor

    def unpack(self, states: Tensor, scene_of: Tensor) -> Tensor:
        """Rows scenes x T x D -> S x L x D; after a sequence's end there is nothing of interest."""
        places = scene_of[:, None] * states.shape[1] + self.at
        return states.flatten(0, 1).index_select(0, places.flatten()).unflatten(0, self.at.shape)


def pack(batch: DialogueBatch, positions: Tensor, video_id: int) -> Packed:
    """Lay the sequences of each scene side by side; `positions` are their own, 3 x S x L."""
    ids, real = batch.input_ids, batch.attention_mask > 0
    device, each = ids.device, len(batch.scene_of) // len(batch.grid_thw)
    shared = int((ids[0] == video_id).nonzero()[-1]) + 1
    rest = (real.sum(1) - shared).unflatten(0, (-1, each))  # scenes x sequences of each
    begins = (rest.cumsum(1) - rest).flatten()  # behind the shared part
    where = torch.arange(ids.shape[1], device=device)
    at = torch.where(where < shared, where, where + begins[:, None]).where(real, 0)
    scenes = torch.tensor(batch.scene_of, device=device)[:, None].expand_as(at)
    size = (len(batch.grid_thw), shared + int(rest.sum(1).max()))
    packed = ids.new_zeros(size)
    packed[scenes[real], at[real]] = ids[real]
    places = positions.new_zeros((3, *size))
    places[:, scenes[real], at[real]] = positions[:, real]
    owner = ids.new_full(size, -1)  # the sequence of each token; what is shared or padded is nobody's
    own = real & (where >= shared)
    owner[scenes[own], at[own]] = torch.arange(len(ids), device=device)[:, None].expand_as(at)[own]
    before = torch.ones(size[1], size[1], dtype=torch.bool, device=device).tril()
    common = torch.arange(size[1], device=device) < shared
    return Packed(packed, places, before & (common | (owner[:, :, None] == owner[:, None])), at)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the language model makes of a batch of S sequences of length L about its scenes."""

    last: Tensor  # S x L x D: states before the final norm
    seen: Tensor  # scenes x V x D: the vision tokens' states that the looking layer reads
    packed: Packed
    asking: dict[int, Tensor]  # layer -> scenes x T x D: all that it reads, as packed
    keys: dict[int, Tensor]  # layer -> scenes x H x T x d: its keys


class DialogueTrainer(nn.Module):
    """UniPixel with helpers that name what each vision token shows, before and after the language model.

    The helpers are dropped after training. `masks` adds SAM 2's mask loss to the pull of seg tokens towards the prompt
    embedding of their object, `dense` weighs the helpers, `echo` is the share of the language model's gradient that
    reaches the vision tower: early on it is large and noisy, and would drown what the tower learns from its helpers.
    """

    def __init__(
        self, network: UniPixelForConditionalGeneration, masks: bool = False, dense: float = 1.0, echo: float = 1.0
    ) -> None:
        super().__init__()
        self.network, self.masks, self.dense, self.echo = network, masks, dense, echo
        width = network.config.text.hidden_size
        self.vision_heads = nn.ModuleDict({k: nn.Linear(width, len(v) + 1) for k, v in ATTRIBUTES.items()})
        self.region_heads = nn.ModuleDict({k: nn.Linear(width, len(v) + 1) for k, v in ATTRIBUTES.items()})
        self.outline_head = nn.Linear(width, OUTLINE**2)
        self.vision_place_head = nn.Linear(width, 4)
        self.place_head = nn.Linear(width, 4)
        self.early_place_head = nn.Linear(width, 4)
        self.language_heads = nn.ModuleDict({k: nn.Linear(width, len(v) + 1) for k, v in ATTRIBUTES.items()})

    def forward(self, batch: DialogueBatch) -> tuple[Tensor, dict[str, float]]:
        vision = self.see(batch)
        heard = self.listen(batch, vision)
        language, right = self.language_loss(batch, heard.last)
        pull, where = self.pull_loss(batch, heard.last)
        # Words have the smallest gradient by far: without this weight the places' noise drowns them.
        total = 8 * language + 4 * pull
        figures = {"lm": float(language.detach()), "pull": float(pull.detach())}
        if self.dense:
            seen = self.sight_loss(batch, vision, figures)
            # What the looks find must be there already: the object's box, for the prompt tokens.
            place = self.box_loss(self.early_place_head, batch, heard.seen)
            figures["place"] = float(place.detach())
            kept = self.attribute_loss(self.language_heads, F.rms_norm(heard.seen, heard.seen.shape[-1:]), batch)
            total = total + self.dense * (
                seen + 0.2 * kept + 0.5 * place + 2 * self.region_loss(batch, vision, figures)
            )
        if batch.looks:
            looking = self.look_loss(batch, heard)
            total = total + 2 * looking
            figures["look"] = float(looking.detach())
        if self.masks and batch.segs:
            loss, figures["iou"] = self.mask_loss(batch, where)
            total = total + 0.3 * loss
        figures["acc"] = right
        return total, figures

    def see(self, batch: DialogueBatch) -> list[VisionFeatures]:
        clips = batch.frames.unflatten(0, (len(batch.grid_thw), -1))
        pixels = torch.cat([vision_inputs(clip, self.network.config)[0] for clip in clips])
        return self.network.encode_vision(pixels, batch.grid_thw)

    def listen(self, batch: DialogueBatch, vision: list[VisionFeatures]) -> Heard:
        """Run the language model over all sequences; what they share is read once a scene, as at inference."""
        network, ids = self.network, batch.input_ids
        refs = mems = None
        if batch.refs:
            coords, labels, moments = zip(*batch.refs)
            refs = network.encode_prompts(coords, labels, torch.tensor(moments, device=ids.device))
        if batch.regions:
            mems = torch.cat([network.encode_regions(vision[b], masks) for b, masks in batch.regions])
        positions, _ = network.positions(ids, batch.grid_thw[batch.scene_of], attention_mask=batch.attention_mask)
        packed = pack(batch, positions, network.config.video_token_id)
        embeds = network.embed(packed.ids, torch.cat([soften(v.tokens, self.echo) for v in vision]), refs, mems)
        cache, last, looking = DynamicCache(), network.config.text.num_hidden_layers, (LOOKING_LAYER, CHOOSING_LAYER)
        closed = torch.zeros_like(packed.open, dtype=embeds.dtype).masked_fill(~packed.open, -torch.inf)[:, None]
        # With masks as large as these, flash attention is the faster one on CPUs too.
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            output = network.model.language_model(
                inputs_embeds=embeds,
                position_ids=packed.positions,
                attention_mask=closed,
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=[*looking, last],
            )
        states: Any = output.hidden_states
        shown = packed.ids == network.config.video_token_id
        return Heard(
            last=packed.unpack(states[last], torch.tensor(batch.scene_of, device=ids.device)),
            seen=states[LOOKING_LAYER][shown].unflatten(0, (len(vision), -1)),
            packed=packed,
            asking={layer: states[layer] for layer in looking},
            keys={layer: cast("Any", cache.layers[layer]).keys for layer in looking},
        )

    def look_loss(self, batch: DialogueBatch, heard: Heard) -> Tensor:
        """Let half the heads of two layers look at the object, from where something is said of it.

        A small language model takes thousands of steps to find out by itself that "the red circle" can be looked up
        among the vision tokens, and `[1]` at its `<|mem|>`. Weighted mean over all looks.
        """
        total = sum(look.weight for look in batch.looks)
        layers = {look.layer for look in batch.looks}
        return sum(self._look(batch, heard, layer) for layer in sorted(layers)) / torch.tensor(total)

    def _look(self, batch: DialogueBatch, heard: Heard, number: int) -> Tensor:
        """The weighted sum of the looks of one layer."""
        model, packed, keys = self.network.model.language_model, heard.packed, heard.keys[number]
        looks = [look for look in batch.looks if look.layer == number]
        layer: Any = model.layers[number]
        attention, device = layer.self_attn, keys.device
        at = packed.at[[look.sequence for look in looks], [look.position for look in looks]]
        scenes = torch.tensor([batch.scene_of[look.sequence] for look in looks], device=device)
        x = layer.input_layernorm(heard.asking[number][scenes, at])[:, None]
        q = attention.q_proj(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        q, _ = apply_rotary_pos_emb(q, q, *model.rotary_emb(x, packed.positions[:, scenes, at, None]))
        heads = q.shape[1] // 2
        scores = q.new_zeros(len(at), heads, keys.shape[2], dtype=torch.float32)
        for scene in scenes.unique().tolist():
            own = scenes == scene
            found = torch.einsum("nhd,hld->nhl", q[own, :heads, 0], keys[scene, :heads]).float()
            scores = scores.masked_scatter(own[:, None, None], found * attention.scaling)
        chances = scores.masked_fill(~packed.open[scenes, at][:, None], -torch.inf).softmax(-1)
        shares = [
            found_share(chances[n, :, packed.at[look.sequence, look.shown]], look.each) for n, look in enumerate(looks)
        ]
        weight = torch.tensor([look.weight for look in looks], device=device)[:, None]
        return -(torch.stack(shares) * weight).sum() / heads

    def region_loss(self, batch: DialogueBatch, vision: list[VisionFeatures], figures: dict[str, float]) -> Tensor:
        """What the `<|mem|>` embedding of every object must know: its colour, shape and texture, where it has one."""
        embeds = torch.cat([self.network.encode_regions(v, cells) for v, cells in zip(vision, batch.cells)])
        total = torch.zeros((), device=embeds.device)
        for name, head in self.region_heads.items():
            logits, labels = head(embeds).float(), torch.cat([names[name] for names in batch.region_names])
            known = labels != IGNORE
            if known.any():
                total = total + F.cross_entropy(logits[known], labels[known])
                figures[f"mem_{name}"] = float((logits.argmax(-1) == labels)[known].float().mean())
        return total

    def language_loss(self, batch: DialogueBatch, hidden: Tensor) -> tuple[Tensor, float]:
        """Mean cross-entropy of the answers' tokens, and the share of answers predicted right from start to end."""
        learnt = batch.labels[:, 1:] != IGNORE
        logits, labels = self.network.predict(hidden[:, :-1][learnt]), batch.labels[:, 1:][learnt]
        wrong = torch.zeros_like(learnt).masked_scatter(learnt, logits.argmax(-1) != labels).any(1)
        return F.cross_entropy(logits.float(), labels), 1 - float(wrong.float().mean())

    def pull_loss(self, batch: DialogueBatch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance of the seg tokens to SAM's embedding of their object's place; the tokens beside it."""
        if not batch.segs:
            return hidden.sum() * 0, hidden[:0, 0]
        rows = torch.tensor([s.sequence for s in batch.segs], device=hidden.device)
        before = torch.tensor([s.position - 1 for s in batch.segs], device=hidden.device)
        states = hidden[rows, before]
        tokens = self.network.point_out(states)
        coords = torch.stack([s.place.coords for s in batch.segs])
        labels = torch.stack([s.place.labels for s in batch.segs])
        pull = F.mse_loss(tokens.float(), self.sam_places(coords, labels))
        return pull + self.plain_place_loss(self.place_head, states, coords, labels), tokens

    def plain_place_loss(self, head: nn.Linear, states: Tensor, coords: Tensor, labels: Tensor) -> Tensor:
        """Distance of a linear reading of the states to the plain coordinates (0..1) of their places.

        Fourier features of a place give next to no gradient until the place is nearly right; this does.
        """
        found = head(F.rms_norm(states, states.shape[-1:])).float().unflatten(-1, (2, 2))
        there = (labels >= 0)[..., None].expand_as(found)
        return F.l1_loss(found[there], (coords / self.network.config.sam2_image_size)[there])

    @torch.no_grad()
    def sam_places(self, coords: Tensor, labels: Tensor) -> Tensor:
        """SAM's own embeddings N x 2 x C of N places."""
        return self.network.sam2.embed_points(coords, labels)[:, :2].float()

    def sight_loss(self, batch: DialogueBatch, vision: list[VisionFeatures], figures: dict[str, float]) -> Tensor:
        """What every vision token must know before the language model.

        Its object's attributes and box, and the outline in its square. Nothing in the tower says where a token is but
        the borders of the picture: the box takes long to learn, and everything that points waits for it.
        """
        tokens = torch.stack([v.tokens for v in vision])
        outline = self.outline_head(tokens).float()
        edges = F.binary_cross_entropy_with_logits(outline, batch.outlines.flatten(1, 3).float())
        box = self.box_loss(self.vision_place_head, batch, tokens)
        figures |= {"outline": float(edges.detach()), "box": float(box.detach())}
        return self.attribute_loss(self.vision_heads, tokens, batch, figures) + 2 * edges + 4 * box

    def attribute_loss(
        self, heads: nn.ModuleDict, states: Tensor, batch: DialogueBatch, figures: dict[str, float] | None = None
    ) -> Tensor:
        """Cross-entropy of colour, shape and texture at every vision token: `states` B x (T' h w) x D."""
        total = torch.zeros((), device=states.device)
        for name, head in heads.items():
            logits, labels = head(states).flatten(0, 1).float(), batch.attributes[name].flatten()
            weight = logits.new_ones(logits.shape[-1])
            weight[0] = 0.1
            total = total + F.cross_entropy(logits, labels, weight)
            objects = labels > 0
            if figures is not None and objects.any():
                figures[name] = float((logits.argmax(-1) == labels)[objects].float().mean())
        return total

    def box_loss(self, head: nn.Linear, batch: DialogueBatch, states: Tensor) -> Tensor:
        """How far a linear reading of vision tokens (B x L x D) on the first frames is from their object's box."""
        h, w = batch.placed.shape[1:]
        placed = states[:, : h * w].unflatten(1, (h, w))[batch.placed]
        coords = batch.places[batch.placed]
        labels = torch.full(coords.shape[:2], 2, device=coords.device)
        return self.plain_place_loss(head, placed, coords, labels)

    def mask_loss(self, batch: DialogueBatch, tokens: Tensor) -> tuple[Tensor, float]:
        """SAM 2's loss of the masks that some seg tokens give on their first frame, and their mean IoU."""
        sam2, frames = self.network.sam2, len(batch.frames) // len(batch.grid_thw)
        segs, tokens = batch.segs[:_DECODED], tokens[:_DECODED]
        shown = torch.tensor([s.scene * frames + s.frame for s in segs], device=tokens.device)
        needed, rows = shown.unique(return_inverse=True)
        features = sam2.encode_frames(normalize_for_sam(batch.frames[needed])).at(rows)
        sparse = torch.cat([sam2.no_points(len(tokens)), tokens.float()], 1)
        prediction = sam2.decode(sam2.condition_fresh(features), features, sparse, hide_absent=False)
        targets = torch.stack([batch.masks[s.scene][s.object_index, s.frame] for s in segs])
        # As coarse as SAM 2 decides: at full size this alone would take a third of a step.
        coarse = F.interpolate(targets[:, None].float(), prediction.logits.shape[-2:], mode="area")[:, 0] >= 0.5
        losses = mask_losses(prediction.all_logits, prediction.ious, prediction.object_logits, coarse)
        iou = mask_iou(prediction.logits[:, 0], coarse)
        return losses.total, float(iou.mean())


def found_share(chances: Tensor, each: bool) -> Tensor:
    """How well heads look at K tokens: log of what they give to all (H x K -> H), or to each against an equal share."""
    if each:
        return (chances * chances.shape[-1]).clamp(min=1e-6).log().mean(-1)
    return chances.sum(-1).clamp(min=1e-6).log()


def soften(values: Tensor, share: float) -> Tensor:
    """The same values, through which only a share of the gradient flows."""
    return values if share == 1 else values.detach() * (1 - share) + values * share


class VisionTrainer(DialogueTrainer):
    """The vision tower alone: naming what each token shows needs no language model, and a step costs a third."""

    def forward(self, batch: DialogueBatch) -> tuple[Tensor, dict[str, float]]:
        figures: dict[str, float] = {}
        return self.sight_loss(batch, self.see(batch), figures), figures
