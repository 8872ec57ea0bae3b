"""The drawn world: procedural scenes with exact masks, and what can be asked about them."""

from unipixel.data.world.language import (
    KINDS,
    REFER_KINDS,
    REGION_KINDS,
    SCENE_KINDS,
    Mark,
    Task,
    all_texts,
    sample_task,
)
from unipixel.data.world.scene import Scene, draw_scene
from unipixel.data.world.shapes import COLORS, HELDOUT_PAIRS, MOTIONS, SHAPES, SIZES, TEXTURES, ObjectSpec

__all__ = [
    "COLORS",
    "HELDOUT_PAIRS",
    "KINDS",
    "MOTIONS",
    "REFER_KINDS",
    "REGION_KINDS",
    "SCENE_KINDS",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "Mark",
    "ObjectSpec",
    "Scene",
    "Task",
    "all_texts",
    "draw_scene",
    "sample_task",
]
