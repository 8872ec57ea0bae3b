"""Own data: a folder with `data.jsonl` (or `data.json`), media and masks. docs/own_data.md is its guide.

A line is `{"media": ..., "masks": {...}, "turns": [...], "labels": {...}}`; the form `{"image": ..., "mask": [...],
"text": [...]}`, one mask and one text an object, is read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nncore

from unipixel.data.masks import MaskArray, MaskSource, parse_mask
from unipixel.data.sample import Sample, Task
from unipixel.media import write_png
from unipixel.types import MAX_OBJECT_ID, Media, Turn, encode_rle

FILES = ("data.jsonl", "data.json")


def find_list(folder: Path) -> Path:
    """The file that lists a folder's samples; ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder.name}.")
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder.name} holds no {' or '.join(FILES)}, so it is no data folder.")
    return found


def read_folder(folder: Path) -> Task:
    """The samples of a data folder; ValueError names the line that is wrong, and why."""
    path = find_list(folder)
    try:
        # One reader for both; its error for a damaged line holds the line's number.
        lines = nncore.load(str(path))
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(lines, list) or not lines:
        raise ValueError(f"{path.name} lists no samples.")
    samples = []
    for number, line in enumerate(lines, 1):
        try:
            samples.append(_read_line(line, folder, f"{path.name}, entry {number}"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}, entry {number} is not written as it should be ({error}).") from error
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(path.name) else f"{path.name}, entry {number}: {text}") from error
    return Task(folder.name, samples)


def write_folder(samples: Sequence[Sample], folder: Path) -> None:
    """Write samples with media in memory as a data folder: frames as PNG, masks as run lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    nncore.dump([_write_line(sample, folder, n) for n, sample in enumerate(samples)], str(folder / FILES[0]))


def _read_line(line: Any, folder: Path, name: str) -> Sample:
    if not isinstance(line, Mapping):
        raise ValueError(f"an entry must be an object with keys, not {type(line).__name__}.")
    if "image" in line:
        return _read_pairs(line, folder, name)
    if unknown := sorted(set(line) - {"media", "masks", "turns", "labels"}):
        raise ValueError(f"there is no key {unknown[0]!r}; the keys are media, masks, turns and labels.")
    masks = {_object_id(i): dict(_frames(value, folder)) for i, value in line.get("masks", {}).items()}
    turns = tuple(Turn(_text(turn["question"]), _text(turn["answer"])) for turn in line.get("turns", ()))
    labels = {_object_id(i): _text(label) for i, label in line.get("labels", {}).items()}
    return Sample(_media(line["media"], folder), masks, turns, labels, name)


def _read_pairs(line: Mapping[str, Any], folder: Path, name: str) -> Sample:
    """`{image, mask: [...], text: [...]}`: mask n is what text n names."""
    masks, texts = line["mask"], line["text"]
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(masks, list) or len(masks) != len(texts):
        raise ValueError(f"it has {len(masks)} masks for {len(texts)} texts.")
    found = {n: {0: parse_mask(mask, folder)} for n, mask in enumerate(masks, 1)}
    return Sample(_media(line["image"], folder), found, (), {n: _text(t) for n, t in enumerate(texts, 1)}, name)


def _frames(value: Any, folder: Path) -> Iterator[tuple[int, MaskSource]]:
    """Masks by frame: `{"0": mask, "4": mask}`, a list with one mask (or null) a frame, or one mask of a picture."""
    if isinstance(value, Mapping) and value and all(str(key).isdigit() for key in value):
        items = [(int(key), mask) for key, mask in value.items()]
    elif isinstance(value, list) and value and all(v is None or isinstance(v, str | Mapping) for v in value):
        items = list(enumerate(value))
    else:
        items = [(0, value)]
    return ((t, parse_mask(mask, folder)) for t, mask in items if mask is not None)


def _media(value: Any, folder: Path) -> Path | tuple[Path, ...]:
    if isinstance(value, list):
        if not value:
            raise ValueError("its media is an empty list.")
        return tuple(_existing(folder, item) for item in value)
    return _existing(folder, value)


def _existing(folder: Path, name: Any) -> Path:
    path = folder / _text(name)
    if not path.exists():
        raise ValueError(f"there is no media {name}.")
    return path


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"a text or name is wanted, not {value!r}.")
    return value


def _object_id(key: str) -> int:
    number = str(key).removeprefix("@")
    if not number.isdigit() or not 1 <= int(number) <= MAX_OBJECT_ID:
        raise ValueError(f"an object's id must be a number from 1 to {MAX_OBJECT_ID}, not {key!r}.")
    return int(number)


def _write_line(sample: Sample, folder: Path, n: int) -> dict[str, Any]:
    media = sample.media
    if not isinstance(media, Media):
        raise ValueError("Only samples with media in memory are written.")
    names = []
    for t, frame in zip(media.frame_indices, media.frames):
        name = f"{n:05}.png" if media.is_image else f"{n:05}/{t:05}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        write_png(frame, folder / name)
        names.append(name)
    number = {t: k for k, t in enumerate(media.frame_indices)}
    masks = {
        str(i): {str(number[t]): _run_lengths(mask, media) for t, mask in frames.items()}
        for i, frames in sample.masks.items()
    }
    turns = [{"question": turn.question, "answer": turn.answer} for turn in sample.turns]
    labels = {str(i): label for i, label in sample.labels.items()}
    line = {"media": names[0] if media.is_image else names, "masks": masks, "turns": turns, "labels": labels}
    return {key: value for key, value in line.items() if value}


def _run_lengths(source: MaskSource, media: Media) -> dict[str, Any]:
    mask = source.mask if isinstance(source, MaskArray) else source.read(media.height, media.width)
    return encode_rle(mask[None])[0]
