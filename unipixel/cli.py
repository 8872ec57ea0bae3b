"""The command line: `python -m unipixel segment clip.mp4 "the left dancer" --output_dir out`.

Each command reads the media, checks the marks, calls the engine once and writes what came back. Bad input ends with one
sentence on stderr and exit code 2, Ctrl-C with 130. The engine, and torch with it, is imported only by a command that
has already found its input good.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from unipixel.marks import sort_marks
from unipixel.media import (
    MAX_SAMPLED_FRAMES,
    load_media,
    read_all_frames,
    write_gif,
    write_masks_png,
    write_png,
    write_video,
)
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Answer, Box, Masklet, Media, Point, Prompt, Region
from unipixel.visualize import overlay_clip

if TYPE_CHECKING:
    from unipixel.engine import UniPixel

MARK_FORMS = """\
Marks, each optionally ending in @ID to say which object it belongs to (all marks without one mean one new object):
  --point x,y[,frame]            a click on the object
  --exclude x,y[,frame]          a click on what does not belong to it
  --box x1,y1,x2,y2[,frame]      a box around it
  --mask FILE[,frame]            a picture of the media's size, anything but black (or transparent) is the object
Coordinates are pixels of the original picture, frames count the sampled frames from 0.
In a question objects are called @1, @2, ...; --memory brings those of an earlier answer back."""

DEFAULT_FPS = 4.0  # for clips that do not say how fast they are

# Programs with arguments of their own: name -> (module with `main(argv) -> int`, what it does).
PROGRAMS = {
    "doctor": ("unipixel.doctor", "show devices, versions and which models fit"),
    "eval": ("unipixel.eval.world", "measure a model on the drawn world"),
    "parity": ("unipixel.parity", "compare with recorded runs of the original"),
    "train": ("unipixel.train.nano", "train the embedded model from nothing"),
}


@dataclass(frozen=True, eq=False)
class Result:
    """What one command found: `masklets` cover `media.frames`, or every frame of the source if `every_frame`."""

    task: str
    prompt: str
    media: Media
    masklets: Mapping[int, Masklet]
    answer: Answer | None = None
    every_frame: bool = False


def load_engine(name: str | None, device: str | None, dtype: str) -> UniPixel:
    """Load the model `name` ("nano", a folder or a hub id; None is the default one). Imports torch."""
    from unipixel.engine import UniPixel, default_model

    return UniPixel.from_pretrained(name or default_model(), device=device, dtype=dtype)


# Arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one ValueError instead of a usage text and an exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _split_object_id(text: str) -> tuple[str, int | None]:
    """Split "10,20@3" into ("10,20", 3); without "@" the id is None."""
    body, at, number = text.rpartition("@")
    if not at:
        return text, None
    if not re.fullmatch(r"[0-9]{1,9}", number) or int(number) == 0:
        raise ValueError(f"After the @ an object's number is wanted, 1 or more, not {_shown(number)}.")
    return body, int(number)


def _numbers(text: str, count: int, form: str) -> tuple[list[float], int]:
    """Read `count` coordinates and an optional frame from "x,y,...[,frame]"."""
    parts = text.split(",")
    try:
        if len(parts) not in (count, count + 1):
            raise ValueError
        return [float(part) for part in parts[:count]], int(parts[count]) if len(parts) > count else 0
    except ValueError:
        raise ValueError(f"It is written {form} in numbers, not {_shown(text)}.") from None


def parse_point(text: str, label: int = 1) -> Point:
    """Read "x,y[,frame][@id]"; ValueError if it is written otherwise or means no point."""
    body, object_id = _split_object_id(text)
    xy, frame = _numbers(body, 2, "x,y or x,y,frame")
    return Point((xy[0], xy[1]), label=label, frame=frame, object_id=object_id)


def parse_exclusion(text: str) -> Point:
    """Read a point like `parse_point`, as a place that does not belong to the object."""
    return parse_point(text, label=0)


def parse_box(text: str) -> Box:
    """Read "x1,y1,x2,y2[,frame][@id]"; ValueError if it is written otherwise or means no box."""
    body, object_id = _split_object_id(text)
    xyxy, frame = _numbers(body, 4, "x1,y1,x2,y2 or x1,y1,x2,y2,frame")
    return Box((xyxy[0], xyxy[1], xyxy[2], xyxy[3]), frame=frame, object_id=object_id)


def parse_mask(text: str) -> Region:
    """Read "FILE[,frame][@id]" and the picture FILE; a FILE of exactly that name wins over the suffixes."""
    if Path(text).is_file():
        return Region(_read_mask(text))
    body, object_id = _split_object_id(text)
    match = re.fullmatch(r"(.+?)(?:,(-?[0-9]{1,9}))?", body, re.DOTALL)
    if match is None:
        raise ValueError("A mask needs a file.")
    return Region(_read_mask(match[1]), frame=int(match[2] or 0), object_id=object_id)


def _read_mask(path: str) -> np.ndarray:
    """H x W bool from a picture: its alpha channel where it has one, else every pixel that is not 0."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.getchannel("A") if "A" in image.getbands() else image)
    except FileNotFoundError:
        raise ValueError(f"There is no mask file {_shown(path)}.") from None
    except (OSError, ValueError, Image.DecompressionBombError):
        raise ValueError(f"The mask {_shown(path)} is not a readable picture.") from None
    marked = np.asarray(pixels > 0)
    return marked if marked.ndim == 2 else np.logical_or.reduce(marked, axis=-1)


def _as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse pass on the parser's own sentence instead of "invalid value"."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _whole_number(highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= highest:
            raise ValueError(f"It must be a whole number from 1 to {highest}, not {_shown(text)}.")
        return int(text)

    return parse


MARKS: Mapping[str, tuple[Callable[[str], Prompt], str]] = {
    "--point": (parse_point, "X,Y[,FRAME][@ID]"),
    "--exclude": (parse_exclusion, "X,Y[,FRAME][@ID]"),
    "--box": (parse_box, "X1,Y1,X2,Y2[,FRAME][@ID]"),
    "--mask": (parse_mask, "FILE[,FRAME][@ID]"),
}


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", "--model_path", help="nano, a folder or a hub id (what UNIPIXEL_MODEL says, else nano)"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("media", metavar="MEDIA", help="image, video, animation or folder of frames")
    _add_model(parser)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs"), help="where the files go (outputs)")
    parser.add_argument(
        "--max_frames",
        "--sample_frames",
        type=_as_argument(_whole_number(MAX_SAMPLED_FRAMES)),
        default=16,
        help="how many frames of a video the model looks at (16)",
    )
    parser.add_argument("--memory", type=Path, metavar="FILE", help="memory.json of an earlier answer on this media")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the best there is)")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16", "int8", "int4"])
    parser.add_argument("--json", action="store_true", help="print answer.json instead of text")


def _add_marks(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(prompts=[])
    for flag, (parse, form) in MARKS.items():
        # One list for all kinds, in the order given. A copy per parse is argparse's own doing ("append").
        parser.add_argument(flag, dest="prompts", action="append", type=_as_argument(parse), metavar=form)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; `parse_args` on it raises ValueError for bad input."""
    parser = _Parser(prog="unipixel", description="Point at anything in an image or a video, and talk about it.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=what, epilog=MARK_FORMS, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        added.set_defaults(run=run)
        return added

    segment = command("segment", run_segment, "find what a text describes")
    _add_common(segment)
    segment.add_argument("prompt", metavar="PROMPT", help="what to segment, in plain words")
    ask = command("ask", run_ask, "ask a question, about marked objects or without")
    _add_common(ask)
    ask.add_argument("question", metavar="QUESTION")
    _add_marks(ask)
    track = command("track", run_track, "follow marked objects through the clip")
    _add_common(track)
    _add_marks(track)
    track.add_argument("--every_frame", action="store_true", help="masks for every frame of the source")
    describe = command("describe", run_describe, "describe one marked object")
    _add_common(describe)
    _add_marks(describe)
    demo = commands.add_parser("demo", help="serve the web page")
    demo.set_defaults(run=run_demo)
    _add_model(demo)
    demo.add_argument("--port", type=_as_argument(_whole_number(65535)), help="PORT, or 7860")
    for name, (_, what) in PROGRAMS.items():
        commands.add_parser(name, help=what, add_help=False)
    return parser


def normalise(argv: Sequence[str]) -> list[str]:
    """Spell options with underscores, and tie a mark that starts with a minus to its flag (`--point=-3,5`).

    argparse takes "-3,5" for an option; tied to its flag it reaches our parser and gets a proper answer.
    """
    normal: list[str] = []
    for position, token in enumerate(argv):
        if token == "--":
            return normal + list(argv[position:])
        if token.startswith("--"):
            name, equals, value = token.partition("=")
            normal.append(f"--{name[2:].replace('-', '_')}{equals}{value}")
        elif normal and normal[-1] in MARKS and re.match(r"-[0-9.in]", token):
            normal[-1] += f"={token}"
        else:
            normal.append(token)
    return normal


# Commands


def run_segment(args: argparse.Namespace) -> int:
    media, memory = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    answer = model.segment(media, args.prompt, memory=memory)
    return _finish(args, model, Result("segment", args.prompt, media, answer.masklets, answer))


def run_ask(args: argparse.Namespace) -> int:
    media, memory = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    answer = model.ask(media, args.question, prompts=args.prompts, memory=memory)
    return _finish(args, model, Result("ask", args.question, media, answer.masklets, answer))


def run_describe(args: argparse.Namespace) -> int:
    if len(args.prompts) != 1:
        raise ValueError(f"describe needs exactly one mark (--point, --box or --mask), not {len(args.prompts)}.")
    media, _ = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    answer = model.describe(media, args.prompts[0])
    return _finish(args, model, Result("describe", "", media, answer.masklets, answer))


def run_track(args: argparse.Namespace) -> int:
    if not args.prompts:
        raise ValueError("track needs at least one mark (--point, --box or --mask).")
    media, memory = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    masklets = model.track(media, args.prompts, every_frame=args.every_frame, memory=memory)
    return _finish(args, model, Result("track", "", media, masklets, every_frame=args.every_frame))


def run_demo(args: argparse.Namespace) -> int:
    app = Path(__file__).parents[1] / "app.py"
    if not app.is_file():
        raise ValueError("The demo needs app.py, which comes with a checkout of the repository.")
    if args.model is not None:
        os.environ["UNIPIXEL_MODEL"] = args.model
    if args.port is not None:
        os.environ["PORT"] = str(args.port)
    runpy.run_path(str(app), run_name="__main__")
    return 0


def _read_input(args: argparse.Namespace) -> tuple[Media, ObjectMemoryBank]:
    """The media and the memory, with all marks checked against them: everything that can be refused early."""
    media = load_media(args.media, max_frames=args.max_frames)
    memory = ObjectMemoryBank()
    if args.memory is not None:
        memory = ObjectMemoryBank.from_json(args.memory.read_text(encoding="utf-8"))
    sort_marks(getattr(args, "prompts", ()), media, memory)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for notice in media.notices:
        print(f"Note: {notice}", file=sys.stderr)
    return media, memory


# Output


def _finish(args: argparse.Namespace, model: UniPixel, result: Result) -> int:
    """Write all files and say what was found."""
    files = write_pictures(result, args.output_dir)
    report = {**describe_result(result), "receipt": receipt(model, result)}
    if result.answer is not None:
        files += _write_text(args.output_dir / "answer.txt", f"{result.answer.text}\n")
        files += _write_text(args.output_dir / "memory.json", result.answer.memory.to_json())
    report["files"] = sorted([*files, "answer.json"])
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    _write_text(args.output_dir / "answer.json", f"{text}\n")
    print(text if args.json else _summary(report, args.output_dir))
    return 0


def _write_text(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    return [path.name]


def _summary(report: Mapping[str, Any], folder: Path) -> str:
    lines = [report["text"]] if report["text"] else []
    for found in report["objects"]:
        spans = ", ".join(f"{first}-{last}" if first != last else f"{first}" for first, last in found["visible_spans"])
        name = " ".join(part for part in (f"@{found['object_id']}", found["label"]) if part)
        lines.append(f"{name}: visible in frames {spans}" if spans else f"{name}: not visible")
    return "\n".join([*lines, f"Written to {folder}: {', '.join(report['files'])}"])


def describe_result(result: Result) -> dict[str, Any]:
    """The result as JSON values: text, spans, and per object RLE masks, boxes and the frames it is visible in."""
    answer = result.answer
    return {
        "task": result.task,
        "prompt": result.prompt,
        "text": answer.text if answer else "",
        "spans": [vars(span) for span in answer.spans] if answer else [],
        "truncated": bool(answer and answer.truncated),
        "objects": [describe_object(result.masklets[object_id]) for object_id in sorted(result.masklets)],
    }


def describe_object(masklet: Masklet) -> dict[str, Any]:
    """One object as JSON values; boxes are xyxy in pixels, null where it is not visible."""
    return {
        "object_id": masklet.object_id,
        "label": masklet.label,
        "scores": [round(float(score), 4) for score in masklet.scores],
        "visible_spans": masklet.visible_spans(),
        "boxes": [box.tolist() if seen else None for box, seen in zip(masklet.boxes(), masklet.visible)],
        "masks": masklet.to_rle(),
    }


def receipt(model: UniPixel, result: Result) -> dict[str, Any]:
    """What is needed to know where a result comes from, or to get it again."""
    from unipixel import __version__

    media = result.media
    return {
        "unipixel": __version__,
        # A folder's place on this machine is nobody's business, its name may be.
        "model": Path(model.name).name if Path(model.name).is_dir() else model.name,
        "weights": model.weights,
        "media": Path(media.source).name if media.source else None,
        "size": [media.height, media.width],
        "fps": media.fps,
        "frames": "every" if result.every_frame else list(media.frame_indices),
    }


def write_pictures(result: Result, folder: Path) -> list[str]:
    """Write the overlay and one folder of masks per object; returns the names.

    The overlay is a PNG for an image, MP4 and GIF for a clip, MP4 alone for every frame of the source (a GIF of a
    long video is larger than the video).
    """
    media, masklets = result.media, result.masklets

    def drawn() -> Iterator[np.ndarray]:
        frames = read_all_frames(media) if result.every_frame else media.frames
        return overlay_clip(frames, masklets, show_ids=True)

    if result.every_frame:
        write_video(drawn(), folder / "overlay.mp4", media.fps or DEFAULT_FPS)
        names = ["overlay.mp4"]
    elif media.is_image:
        write_png(next(drawn()), folder / "overlay.png")
        names = ["overlay.png"]
    else:
        write_video(drawn(), folder / "overlay.mp4", sampled_fps(media))
        write_gif(drawn(), folder / "overlay.gif", sampled_fps(media))
        names = ["overlay.mp4", "overlay.gif"]
    for object_id, masklet in sorted(masklets.items()):
        write_masks_png(masklet, folder / "masks" / f"object_{object_id}")
        names.append(f"masks/object_{object_id}")
    return names


def sampled_fps(media: Media) -> float:
    """The rate at which the sampled frames last as long as the clip they come from (1 to 30 a second)."""
    steps = media.frame_indices[-1] - media.frame_indices[0]
    if media.fps <= 0 or steps <= 0:
        return DEFAULT_FPS
    return min(max(media.fps * (len(media) - 1) / steps, 1.0), 30.0)


# Entry


def _sentence(error: Exception) -> str:
    """One line that starts with a capital and ends with a full stop."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = " ".join(str(error).split()) or "The input could not be used"
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input, 130 stopped by Ctrl-C."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given and given[0] in PROGRAMS:
            return importlib.import_module(PROGRAMS[given[0]][0]).main(given[1:])
        args = build_parser().parse_args(normalise(given))
        return args.run(args)
    except (ValueError, OSError) as error:
        print(_sentence(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
