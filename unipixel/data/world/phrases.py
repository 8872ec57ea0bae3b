"""Noun phrases and what they fit: which objects have which attributes, and whether everyone would agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unipixel.data.world.asking import TRIES, Attributes, Context
from unipixel.data.world.nouns import ALSO_A, ALSO_CALLED, CATEGORIES, HELD_APART, NOUNS
from unipixel.data.world.pictures import tints
from unipixel.data.world.shapes import COLORS, HELDOUT_PAIRS, SHAPES, TEXTURES, ObjectSpec

_PLACE_MARGIN = 0.08  # share of the side by which "leftmost" or "left of" must hold
_AREA_RATIO = 1.5  # factor by which "largest" or "larger than" must hold
_SPEED_RATIO = 1.5
_LEAST_TRAVEL = 0.1  # share of the side that the fastest object moves at least
_HIDDEN = 0.95  # an object whose area falls below this share of its largest is partly hidden


def matching(objects: Sequence[ObjectSpec], attributes: Attributes) -> tuple[int, ...]:
    """Indexes of the objects with all these attributes."""
    return tuple(k for k, spec in enumerate(objects) if all(getattr(spec, a) == v for a, v in attributes.items()))


def attributes_of(spec: ObjectSpec, names: Sequence[str]) -> dict[str, str]:
    """The attributes of these names, without those that an object has not (a cat has no one colour)."""
    return {name: getattr(spec, name) for name in names if getattr(spec, name)}


def may_be_named(context: Context, attributes: Attributes) -> bool:
    """Training must not name a held-out pair: it would learn that there is never such an object."""
    if context.heldout:
        return True
    noun = attributes.get("shape")
    apart = any(frozenset((noun, spec.shape)) in HELD_APART for spec in context.objects)
    return not apart and (attributes.get("color"), noun) not in HELDOUT_PAIRS


def is_clear(context: Context, attributes: Attributes) -> bool:
    """Whether everyone would agree on which objects have these attributes."""
    motions = {spec.motion for spec in context.objects}
    if "size" in attributes and motions & {"grow", "shrink"}:
        return False
    if "color" in attributes and _between_names(context.objects, attributes):
        return False
    if context.rich and not _is_clear_among_things(context, attributes):
        return False
    motion = attributes.get("motion")
    if motion is None:
        return True
    if context.scene.num_frames < 4 or motion == "appears":
        return False
    return motion not in ("left", "right", "up", "down") or not motions & {"bounce", "appears", "leaves"}


def _between_names(objects: Sequence[ObjectSpec], attributes: Attributes) -> bool:
    """Whether all but the colour fits a shape in a colour that has no name: some may call it this one's."""
    rest = {name: value for name, value in attributes.items() if name != "color"}
    return any(objects[k].shaded for k in matching(objects, rest))


def _is_clear_among_things(context: Context, attributes: Attributes) -> bool:
    """The same, as far as emoji, photographs and a moving camera are concerned."""
    things = [spec for spec in context.objects if spec.shape in NOUNS]
    noun, color = attributes.get("shape"), attributes.get("color")
    if noun is None and context.open_world:
        return False
    if "motion" in attributes and any(context.scene.camera):
        return False
    if any(noun in ALSO_CALLED.get(spec.shape, ()) for spec in things):
        return False
    if any(spec.shape in ALSO_A.get(attributes.get("category", ""), ()) for spec in things):
        return False
    alike = [spec for spec in things if noun in (None, spec.shape)]
    if color and any(color in tints(spec.shape) and color != spec.color for spec in alike):
        return False
    return not ("texture" in attributes and alike)


VALUES: dict[str, tuple[str, ...]] = {"color": tuple(COLORS), "shape": SHAPES, "texture": TEXTURES}
RICH_VALUES = VALUES | {"shape": (*SHAPES, *NOUNS), "category": tuple(CATEGORIES)}
SINGLE_ATTRIBUTES = (
    *[("color", "shape")] * 6,
    *[("shape",)] * 2,
    *[("color",)] * 2,
    ("texture", "shape"),
    ("color", "texture", "shape"),
    ("texture",),
    ("size", "shape"),
    ("size", "color", "shape"),
    ("shape", "motion"),
    ("motion",),
)
GROUP_ATTRIBUTES = (*[("shape",)] * 3, *[("color",)] * 3, ("color", "shape"), ("texture",), ("size",), ())
QUERY_ATTRIBUTES = (*[("color", "shape")] * 4, ("shape",), ("color",), ("texture", "shape"))
# How people name something in passing ("left of the red star").
NAME_ATTRIBUTES = (("color", "shape"), ("color", "shape"), ("shape",))
_RICH_EXTRA = {
    SINGLE_ATTRIBUTES: (*[("category",)] * 2, ("size", "category"), ("category", "motion"), ("motion",)),
    GROUP_ATTRIBUTES: (*[("category",)] * 3, ("motion",), ("shape", "motion"), ("size", "shape")),
    QUERY_ATTRIBUTES: (*[("shape",)] * 2, ("category",)),
}


def choose_names(context: Context, attribute_sets: Sequence[Sequence[str]]) -> Sequence[str]:
    """One of the attribute sets; a rich scene has some more to choose from."""
    extra = _RICH_EXTRA.get(tuple(attribute_sets), ()) if context.rich else ()
    return context.pick((*attribute_sets, *extra))


def unique(
    context: Context, attribute_sets: Sequence[Sequence[str]], avoid: int | None = None
) -> tuple[int, dict[str, str]]:
    """An object that can be seen at first and attributes that fit only it; (-1, {}) if none was found."""
    for _ in range(TRIES if context.named else 0):
        k = context.pick(context.named)
        attributes = attributes_of(context.objects[k], choose_names(context, attribute_sets))
        alone = matching(context.objects, attributes) == (k,)
        if attributes and k != avoid and alone and context.seen(k) and is_clear(context, attributes):
            return k, attributes
    return -1, {}


def missing(context: Context, attribute_sets: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """Attributes that fit no object, mostly a near miss: those of an object with one word exchanged."""
    values = RICH_VALUES if context.rich else VALUES
    for _ in range(TRIES):
        names = choose_names(context, attribute_sets)
        if context.named and context.coin(0.75):
            attributes = attributes_of(context.objects[context.pick(context.named)], names)
            changed = context.pick(names)
            attributes[changed] = context.pick(values[changed])
        else:
            attributes = {name: context.pick(values[name]) for name in names}
        if matching(context.objects, attributes) or not may_be_named(context, attributes):
            continue
        if is_clear(context, attributes) and not _odd(attributes):
            return attributes
    return None


def _odd(attributes: Attributes) -> bool:
    """Whether nobody would ask for that: emoji have no textures."""
    return "texture" in attributes and attributes.get("shape") in NOUNS


def left_to_right(context: Context, indexes: Sequence[int]) -> tuple[int, ...]:
    """The objects in reading order of their places on frame 0."""
    return tuple(sorted(indexes, key=lambda k: context.scene.centroids[k, 0, 0]))


# --------------------------------------------------------------------------------------------- places, sizes, speeds


def first_by(context: Context, indexes: Sequence[int], axis: int, sign: int) -> int | None:
    """Which object has the smallest `sign` * coordinate: clearly on frame 0, and on all others. None if not clear."""
    places = sign * context.scene.centroids[list(indexes), :, axis]
    order = np.sort(places[:, 0])
    if order[1] - order[0] < _PLACE_MARGIN * context.scene.side:
        return None
    first = np.nanargmin(places, 0) if not np.isnan(places).all(0).any() else np.full(1, -1)
    return indexes[int(first[0])] if (first == first[0]).all() and first[0] >= 0 else None


def largest(context: Context, indexes: Sequence[int], sign: int) -> int | None:
    """Which object is clearly the largest (`sign` 1) or smallest (-1) to the eye; None if not clear."""
    if any(context.objects[k].motion in ("grow", "shrink") for k in indexes):
        return None
    areas = context.scene.areas[list(indexes), 0]
    order = np.argsort(-sign * areas)
    first, second = sorted(areas[order[:2]])
    return indexes[int(order[0])] if second >= _AREA_RATIO * max(first, 1) else None


def fastest(context: Context, indexes: Sequence[int]) -> int | None:
    """Which object clearly moves the most from frame to frame, all being seen whole all the time; None if not clear."""
    scene = context.scene
    areas = scene.areas[list(indexes)]
    if scene.num_frames < 4 or any(scene.camera) or (areas.min(1) < _HIDDEN * areas.max(1)).any():
        return None
    travels = np.linalg.norm(np.diff(scene.centroids[list(indexes)], axis=1), axis=-1).sum(1) / scene.side
    order = np.argsort(-travels)
    first, second = travels[order[:2]]
    return indexes[int(order[0])] if first >= max(_SPEED_RATIO * second, _LEAST_TRAVEL) else None


RANKS: dict[str, Callable[[Context, Sequence[int]], int | None]] = {
    "leftmost": lambda context, group: first_by(context, group, 0, 1),
    "rightmost": lambda context, group: first_by(context, group, 0, -1),
    "topmost": lambda context, group: first_by(context, group, 1, 1),
    "bottommost": lambda context, group: first_by(context, group, 1, -1),
    "largest": lambda context, group: largest(context, group, 1),
    "smallest": lambda context, group: largest(context, group, -1),
}
RICH_RANKS = RANKS | {"fastest": fastest}

# Relation -> the rank that decides it between two, and its opposite.
PLACES = {"left of": ("leftmost", "right of"), "right of": ("rightmost", "left of"), "above": ("topmost", "below")}
PLACES |= {"below": ("bottommost", "above")}
MEASURES = {"larger": ("largest", "smaller"), "smaller": ("smallest", "larger")}
RICH_MEASURES = MEASURES | {"faster": ("fastest", "slower")}


def stands(context: Context, k: int, relation: str, anchor: int) -> bool | None:
    """Whether object k is `relation` (one of `PLACES`) object `anchor` in the whole clip; None if not clear."""
    first = RANKS[PLACES[relation][0]](context, (k, anchor)) if context.seen(k, anchor) else None
    return None if first is None else first == k
