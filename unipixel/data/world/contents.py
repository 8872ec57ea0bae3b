"""What the drawn world holds: today's shapes, or everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """How rich scenes are; any share above zero also makes their questions richer.

    Beside shapes on plain grounds: `nouns` is the share of objects that are emoji, `nameless` the share of scenes with
    things that the world has no word for, `surfaces` the share of scenes on a photograph or a pattern, and `camera` the
    share of clips on structured grounds whose camera moves.
    """

    nouns: float = 0.0
    nameless: float = 0.0
    surfaces: float = 0.0
    camera: float = 0.0

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {share}.")


SHAPES_ONLY = Contents()
FULL = Contents(nouns=0.55, nameless=0.2, surfaces=0.4, camera=0.2)
