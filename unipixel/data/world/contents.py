"""What the drawn world holds: shapes alone, or everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """How rich scenes are, each number a share from 0 to 1.

    Beside shapes on plain grounds: `nouns` is the share of objects that are emoji, `nameless` the share of scenes with
    things that the world has no word for, `surfaces` the share of scenes on a photograph or a pattern, `camera` the
    share of clips on structured grounds whose camera moves, `shades` the share of shapes in colours without a name.
    """

    nouns: float = 0.0
    nameless: float = 0.0
    surfaces: float = 0.0
    camera: float = 0.0
    shades: float = 0.0

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {share}.")

    @property
    def rich(self) -> bool:
        """Whether there is more than shapes on plain grounds, and so more to ask."""
        return max(self.nouns, self.nameless, self.surfaces, self.camera) > 0


SHAPES_ONLY = Contents()
SHADED_SHAPES = Contents(shades=0.5)
STRANGE = Contents(nameless=0.9, surfaces=0.5)  # shapes among what has no name, or only that
FULL = Contents(nouns=0.55, nameless=0.2, surfaces=0.4, camera=0.2)
