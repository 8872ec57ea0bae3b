"""Draw the pictures and clips of the page's examples: `python examples/make_demo_media.py [FOLDER]`.

Each is a scene of the drawn world from a seed of its own; the marks of an example come from the exact masks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unipixel.data.world import Scene, draw_scene
from unipixel.media import write_png, write_video

FPS = 12


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


def main(folder: Path) -> None:
    """Write media and `examples.json` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    size = (320, 400)
    picture = find_scene(10, distinct, size=size, num_objects=(4, 4))
    clip = find_scene(400, crossing, size=(240, 320), num_frames=24, num_objects=(3, 3))
    write_png(picture.frames[0], folder / "picture.png")
    write_video(clip.frames, folder / "clip.mp4", FPS)
    moving = clip.objects[1]
    wanted = picture.objects[0]
    examples = [
        {
            "file": "clip.mp4",
            "title": "Click a moving object, ask what it is",
            "question": "What is @1?",
            "marks": [click_on(clip, 0)],
        },
        {
            "file": "clip.mp4",
            "title": "Follow an object by name",
            "question": f"Segment the {moving.color} {moving.shape}.",
        },
        {"file": "picture.png", "title": "Find one object", "question": f"Segment the {wanted.name}."},
        {
            "file": "picture.png",
            "title": "Click an object, ask what it is",
            "question": "What is @1?",
            "marks": [click_on(picture, 1)],
        },
    ]
    (folder / "examples.json").write_text(json.dumps(examples, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "assets" / "demo")
