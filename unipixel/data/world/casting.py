"""Who is in a scene: which objects, how each looks, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unipixel.data.world.contents import Contents
from unipixel.data.world.motion import Stage, Track, possible_motions, sample_track
from unipixel.data.world.nouns import ALSO_CALLED, HELD_APART, NOUNS
from unipixel.data.world.pictures import Picture, draw_picture, noun_picture
from unipixel.data.world.shapes import (
    COLORS,
    HELDOUT_PAIRS,
    NAMELESS,
    SHAPES,
    TEXTURES,
    Color,
    Look,
    ObjectSpec,
    Pose,
    Sprite,
    draw_sprite,
    sample_look,
)
from unipixel.data.world.surfaces import cut_out

_DIAMETERS = {"small": (0.14, 0.22), "large": (0.26, 0.38)}  # shares of the shorter side
_TEXTURE_ODDS = (0.52, 0.16, 0.16, 0.16)
_HELDOUT_ODDS = 0.3
_NAMELESS_SHARES = (0.4, 1.0)  # of the objects in a scene with nameless things
_TWIN_ODDS, _KIN_ODDS = 0.15, 0.4  # how often a noun comes twice, or of a category that is there already
_NOUN_TRIES = 12
_PLACE_TRIES = 30
_UPRIGHT = math.radians(18)


@dataclass(frozen=True, eq=False)
class Actor:
    """An object with all that is needed to draw it."""

    spec: ObjectSpec
    look: Look | Picture
    track: Track

    @property
    def large_colors(self) -> tuple[Color, ...]:
        """The colours that cover a good part of it."""
        return self.look.large_colors

    def draw(self, pose: Pose) -> Sprite:
        """The object as it looks in `pose`."""
        return draw_sprite(self.look, pose) if isinstance(self.look, Look) else draw_picture(self.look, pose)


def cast(rng: np.random.Generator, stage: Stage, count: int, heldout: bool, contents: Contents) -> list[Actor]:
    """Choose `count` objects, and a look and a track for each."""
    actors: list[Actor] = []
    names = _sample_pairs(rng, count, heldout)
    if contents.rich:
        names = _mix_names(rng, names, heldout, contents)
    if contents.shades:
        names = [("" if s in SHAPES and rng.random() < contents.shades else c, s) for c, s in names]
    for color, shape in names:
        size = "small" if rng.random() < 0.5 else "large"
        diameter = float(rng.uniform(*_DIAMETERS[size]))
        texture = str(rng.choice(TEXTURES, p=_TEXTURE_ODDS)) if shape in SHAPES else ""
        motion = str(rng.choice(possible_motions(shape, diameter, stage.num_frames)))
        spec = ObjectSpec(shape, color, texture, size, motion)
        actors.append(Actor(spec, _look(rng, spec, heldout), _place(rng, spec, diameter, stage, actors)))
    return actors


def _look(rng: np.random.Generator, spec: ObjectSpec, heldout: bool) -> Look | Picture:
    if spec.shape in SHAPES:
        return sample_look(rng, spec)
    return cut_out(rng, heldout) if spec.shape == NAMELESS else noun_picture(spec.shape)


def _mix_names(
    rng: np.random.Generator, pairs: Sequence[tuple[str, str]], heldout: bool, contents: Contents
) -> list[tuple[str, str]]:
    """Exchange some of the (colour, shape) pairs for nouns, and in some scenes some or all for nameless things."""
    nameless = rng.random() < contents.nameless
    share = float(rng.choice(_NAMELESS_SHARES)) if nameless else 0.0
    names: list[tuple[str, str]] = []
    for pair in pairs:
        others = [name for _, name in names]
        if rng.random() < share:
            names.append(("", NAMELESS))
        elif rng.random() < contents.nouns and (noun := _sample_noun(rng, others, heldout)):
            names.append((NOUNS[noun].color, noun))
        else:
            while not _goes_with(pair[1], others, heldout):
                pair = _sample_pairs(rng, 1, heldout)[0]
            names.append(pair)
    return names


def _sample_noun(rng: np.random.Generator, others: Sequence[str], heldout: bool) -> str:
    """A noun that may stand beside `others`: sometimes one of them again, or one of its kind; "" if none was found."""
    everything, known = list(NOUNS), [name for name in others if name in NOUNS]
    for _ in range(_NOUN_TRIES):
        pool = everything
        if known and (draw := rng.random()) < _KIN_ODDS:
            one = known[int(rng.integers(len(known)))]
            pool = [name for name in everything if NOUNS[name].category == NOUNS[one].category]
            if draw < _TWIN_ODDS:
                pool = [one]
            elif heldout and rng.random() < _HELDOUT_ODDS:
                pool = [name for name in everything if frozenset((name, one)) in HELD_APART]
        noun = pool[int(rng.integers(len(pool)))]
        if _goes_with(noun, others, heldout):
            return noun
    return ""


def _goes_with(name: str, others: Sequence[str], heldout: bool) -> bool:
    """Whether `name` may be in a scene with `others`: nothing there can be taken for another, or is held apart."""
    return all(
        name not in ALSO_CALLED.get(other, ())
        and other not in ALSO_CALLED.get(name, ())
        and (heldout or frozenset((name, other)) not in HELD_APART)
        for other in others
    )


def _sample_pairs(rng: np.random.Generator, count: int, heldout: bool) -> list[tuple[str, str]]:
    """Choose (colour, shape) pairs: mostly all different, some sharing a word, now and then one twice."""
    reserved = sorted(HELDOUT_PAIRS)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        if heldout and rng.random() < _HELDOUT_ODDS:
            color, shape = reserved[int(rng.integers(len(reserved)))]
        else:
            color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
            if pairs and rng.random() < 0.4:
                other_color, other_shape = pairs[int(rng.integers(len(pairs)))]
                color, shape = (other_color, shape) if rng.random() < 0.5 else (color, other_shape)
        known = (color, shape) in pairs
        if (heldout or (color, shape) not in HELDOUT_PAIRS) and (not known or rng.random() < 0.3):
            pairs.append((color, shape))
    return pairs


def _place(rng: np.random.Generator, spec: ObjectSpec, diameter: float, stage: Stage, others: Sequence[Actor]) -> Track:
    """Choose a track that starts clear of the others (with some overlap allowed now and then)."""
    spread = math.pi if spec.shape in ("triangle", "crescent", "star") and rng.random() < 0.3 else _UPRIGHT
    if spec.shape == NAMELESS:
        spread = math.pi
    angle = float(rng.uniform(-spread, spread))
    radius = diameter * stage.side / 2
    gap = 0.8 if rng.random() < 0.35 else 1.08
    best, best_room = None, -math.inf
    for _ in range(_PLACE_TRIES):
        track = sample_track(rng, spec.motion, radius, angle, stage)
        room = min((_clearance(track, spec, other) for other in others), default=math.inf)
        if best is None or room > best_room:
            best, best_room = track, room
        if best_room >= gap:
            break
    assert best is not None
    return best


def _clearance(track: Track, spec: ObjectSpec, other: Actor) -> float:
    """Distance of two objects on frame 0 in units of their summed radii; objects of one colour need more of it."""
    a, b = track[0], other.track[0]
    distance = math.hypot(a.x - b.x, a.y - b.y) / (a.radius + b.radius)
    return distance * (0.7 if spec.color and spec.color == other.spec.color else 1.0)
