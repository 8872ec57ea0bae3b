"""Files for labelling tools and training: COCO, YouTube-VIS, DAVIS, and the frames they speak of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from unipixel.export.receipt import receipt_text
from unipixel.export.take import Take
from unipixel.media import write_palette_png
from unipixel.memory import MemoryObject
from unipixel.types import rle_areas, rle_boxes


def write_frames(take: Take, folder: Path) -> list[Path]:
    """`JPEGImages/clip/00000.jpg`, ...: the frames under the names that COCO, YouTube-VIS and DAVIS files use."""
    files = []
    for t, frame in enumerate(take.frames()):
        path = folder / "JPEGImages" / take.frame_name(t)
        path.parent.mkdir(parents=True, exist_ok=True)
        iio.imwrite(path, frame, plugin="pillow", quality=95, comment=receipt_text(take.receipt))
        files.append(path)
    return files


def write_coco(take: Take, folder: Path) -> list[Path]:
    """`coco.json`: one image per frame, one annotation per object and frame it is visible in, masks as run lengths.

    Categories are the objects' names; `object_id` says which annotations are the same object.
    """
    categories = _categories(take)
    annotations: list[dict[str, Any]] = []
    for object_id, known in take.bank.items():
        rles = known.rles
        for t, (box, area) in enumerate(_boxes(known)):
            if area:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": t + 1,
                        "category_id": categories[take.labels[object_id]],
                        "segmentation": rles[t],
                        "area": area,
                        "bbox": box,
                        "iscrowd": 0,
                        "object_id": object_id,
                        "score": known.scores[t],
                    }
                )
    images = [
        {"id": t + 1, "file_name": take.frame_name(t), **_size(take), "frame": index}
        for t, index in enumerate(take.frame_indices)
    ]
    return _write_json(
        folder / "coco.json",
        {"info": _info(take), "images": images, "annotations": annotations, "categories": _listed(categories)},
    )


def write_youtube_vis(take: Take, folder: Path) -> list[Path]:
    """`youtube_vis.json`: one video, one annotation per object with a mask, box and area for each frame or null."""
    categories = _categories(take)
    names = [take.frame_name(t) for t in range(take.num_frames)]
    video = {"id": 1, **_size(take), "length": take.num_frames, "file_names": names}
    annotations = []
    for object_id, known in take.bank.items():
        boxes, areas = zip(*_boxes(known))
        seen = [area > 0 for area in areas]
        annotations.append(
            {
                "id": object_id,
                "video_id": 1,
                "category_id": categories[take.labels[object_id]],
                **_size(take),
                "length": take.num_frames,
                "iscrowd": 0,
                "segmentations": [rle if shown else None for rle, shown in zip(known.rles, seen)],
                "bboxes": [box if shown else None for box, shown in zip(boxes, seen)],
                "areas": [area if shown else None for area, shown in zip(areas, seen)],
                "score": round(float(np.mean(known.scores)), 4),
            }
        )
    return _write_json(
        folder / "youtube_vis.json",
        {"info": _info(take), "videos": [video], "annotations": annotations, "categories": _listed(categories)},
    )


def write_davis(take: Take, folder: Path) -> list[Path]:
    """`Annotations/clip/00000.png`, ...: indexed pictures in which the first object is 1, the second 2, and so on.

    DAVIS has one number per pixel: where objects overlap, the one with the higher id shows.
    """
    target = folder / "Annotations" / take.name
    target.mkdir(parents=True, exist_ok=True)
    numbers = {object_id: number for number, object_id in enumerate(take.bank, 1)}
    receipt = {**take.receipt, "davis_index": {str(number): f"@{i}" for i, number in numbers.items()}}
    palette = [(0, 0, 0), *take.colors.values()]
    files = []
    for t, index in enumerate(take.frame_indices):
        picture = np.zeros((take.media.height, take.media.width), np.uint8)
        for object_id, mask in take.masks(t).items():
            picture[mask] = numbers[object_id]
        path = target / f"{index:05d}.png"
        files.append(write_palette_png(picture, palette, path, comment=receipt_text(receipt)))
    return files


def _categories(take: Take) -> dict[str, int]:
    """Category id by name, in the order of the objects."""
    return {label: number for number, label in enumerate(dict.fromkeys(take.labels.values()), 1)}


def _listed(categories: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name, "supercategory": "object"} for name, number in categories.items()]


def _boxes(known: MemoryObject) -> list[tuple[list[float], int]]:
    """Box (x, y, width, height) and area of an object on each frame."""
    boxes, areas = rle_boxes(known.rles), rle_areas(known.rles)
    return [(box.tolist(), int(area)) for box, area in zip(boxes, areas)]


def _size(take: Take) -> dict[str, int]:
    return {"height": take.media.height, "width": take.media.width}


def _info(take: Take) -> dict[str, Any]:
    return {"description": f"Masks of {take.name}, made with UniPixel", "receipt": dict(take.receipt)}


def _write_json(path: Path, value: Mapping[str, Any]) -> list[Path]:
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return [path]
