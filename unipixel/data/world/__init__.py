"""The drawn world: procedural scenes with exact masks, and what can be asked about them."""

from unipixel.data.world.contents import FULL, SHADED_SHAPES, SHAPES_ONLY, STRANGE, Contents
from unipixel.data.world.dialogue import Dialogue, found_ids, sample_dialogue
from unipixel.data.world.language import (
    KINDS,
    PIXEL_QA_KINDS,
    REFER_KINDS,
    REGION_KINDS,
    RICH_KINDS,
    RICH_REFER_KINDS,
    RICH_REGION_KINDS,
    RICH_SCENE_KINDS,
    SCENE_KINDS,
    Mark,
    Task,
    all_texts,
    sample_task,
)
from unipixel.data.world.nouns import CATEGORIES, HELD_APART, NOUNS
from unipixel.data.world.prompts import draw_prompt, draw_prompts
from unipixel.data.world.scene import Scene, draw_scene
from unipixel.data.world.shapes import COLORS, HELDOUT_PAIRS, MOTIONS, NAMELESS, SHAPES, SIZES, TEXTURES, ObjectSpec

__all__ = [
    "CATEGORIES",
    "COLORS",
    "FULL",
    "HELDOUT_PAIRS",
    "HELD_APART",
    "KINDS",
    "MOTIONS",
    "NAMELESS",
    "NOUNS",
    "PIXEL_QA_KINDS",
    "REFER_KINDS",
    "REGION_KINDS",
    "RICH_KINDS",
    "RICH_REFER_KINDS",
    "RICH_REGION_KINDS",
    "RICH_SCENE_KINDS",
    "SCENE_KINDS",
    "SHADED_SHAPES",
    "SHAPES",
    "SHAPES_ONLY",
    "SIZES",
    "STRANGE",
    "TEXTURES",
    "Contents",
    "Dialogue",
    "Mark",
    "ObjectSpec",
    "Scene",
    "Task",
    "all_texts",
    "draw_prompt",
    "draw_prompts",
    "draw_scene",
    "found_ids",
    "sample_dialogue",
    "sample_task",
]
