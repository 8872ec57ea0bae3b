"""Draw the pictures and clips of the page's examples: `python examples/make_demo_media.py [FOLDER]`.

Each is a scene of the drawn world from a seed of its own; the marks of an example come from the exact masks. The seeds
are such that each example shows with nano what its title says
(tests/test_demo_media.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unipixel.data.world import Contents, Scene, draw_scene
from unipixel.media import write_png, write_video

FPS = 12
THINGS = Contents(nouns=1.0, nameless=0.0, surfaces=1.0, camera=0.0)  # emoji on photographs and patterns
MISSING = "purple crescent"  # from the picture of a few
SLIPS = 1  # the object of the last clip whose mask slips off
NAMELESS = 0  # the thing that is clicked, of those that nano has no word for


def click_on(scene: Scene, index: int, frame: int = 0) -> dict[str, Any]:
    """A click inside object `index`: the pixel of its mask nearest to the mask's centre."""
    rows, columns = np.nonzero(scene.masks[index, frame])
    x, y = columns.mean(), rows.mean()
    i = int(np.argmin((columns - x) ** 2 + (rows - y) ** 2))
    return {"type": "point", "object": 1, "frame": frame, "x": int(columns[i]), "y": int(rows[i]), "label": 1}


def find_scene(first_seed: int, good: Any, **draw: Any) -> Scene:
    """The first scene from `first_seed` on for which `good(scene)` holds."""
    for seed in range(first_seed, first_seed + 1000):
        scene = draw_scene(np.random.default_rng(seed), **draw)
        if good(scene):
            return scene
    raise SystemExit("No scene fits; try another seed.")


def distinct(scene: Scene) -> bool:
    """Whether all shapes and all colours of a scene differ, so that one word names each object."""
    names = [(o.shape, o.color) for o in scene.objects]
    return all(len(set(column)) == len(names) for column in zip(*names))


def crossing(scene: Scene) -> bool:
    """A clip with distinct objects that move and are seen throughout."""
    moving = [o.motion in ("left", "right", "up", "down", "bounce") for o in scene.objects]
    return distinct(scene) and sum(moving) >= 2 and bool((scene.areas > 200).all())


def draw_media() -> dict[str, Scene]:
    """The drawn scenes by the names of their files; nano was tried on all of them."""
    small, large = (240, 320), (320, 400)
    return {
        "picture.png": find_scene(10, distinct, size=large, num_objects=(4, 4)),
        "clip.mp4": find_scene(400, crossing, size=small, num_frames=24, num_objects=(3, 3)),
        "crowd.png": draw_scene(np.random.default_rng(182), size=large, num_objects=(5, 6)),
        "few.png": draw_scene(np.random.default_rng(41), size=large, num_objects=(2, 4)),
        "slip.mp4": draw_scene(np.random.default_rng(5074), size=small, num_frames=16, num_objects=(5, 6)),
        "things.png": draw_scene(np.random.default_rng(508), size=large, num_objects=(4, 5), contents=THINGS),
    }


def make_examples(scenes: dict[str, Scene]) -> list[dict[str, Any]]:
    """What `examples.json` says: one entry an example, in the order of the page."""
    picture, clip, crowd, _, slip, things = scenes.values()
    shapes = [o.shape for o in crowd.objects]
    several = max(dict.fromkeys(shapes), key=shapes.count)
    return [
        {
            "file": "clip.mp4",
            "title": "Click a moving object, ask what it is",
            "question": "What is @1?",
            "marks": [click_on(clip, 0)],
        },
        {
            "file": "clip.mp4",
            "title": "Follow an object by name",
            "question": f"Segment the {clip.objects[1].color} {clip.objects[1].shape}.",
        },
        {"file": "picture.png", "title": "Find one object", "question": f"Segment the {picture.objects[3].name}."},
        {
            "file": "picture.png",
            "title": "Click an object, ask what it is",
            "question": "What is @1?",
            "marks": [click_on(picture, 1)],
        },
        {"file": "crowd.png", "title": "Find several objects at once", "question": f"Segment all {several}s."},
        {"file": "few.png", "title": "Ask for what is not there", "question": f"Is there a {MISSING}?"},
        {
            "file": "slip.mp4",
            "title": "Correct a mask: ask, go to where its strip is hatched, click the object there, press Correct",
            "question": "What is @1?",
            "marks": [click_on(slip, SLIPS)],
        },
        {
            "file": "things.png",
            "title": "Point at what it has no word for: previews need none",
            "question": "",
            "marks": [click_on(things, NAMELESS)],
        },
    ]


def main(folder: Path) -> None:
    """Write media and `examples.json` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = draw_media()
    for name, scene in scenes.items():
        if name.endswith(".png"):
            write_png(scene.frames[0], folder / name)
        else:
            write_video(scene.frames, folder / name, FPS)
    (folder / "examples.json").write_text(json.dumps(make_examples(scenes), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "assets" / "demo")
