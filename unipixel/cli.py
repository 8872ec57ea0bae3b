"""The command line: `python -m unipixel segment clip.mp4 "the left dancer" --output_dir out`.

Each command reads the media, checks the marks, calls the engine once and writes what came back. Bad input ends with one
sentence on stderr and exit code 2, Ctrl-C with 130. The engine, and torch with it, is imported only by a command that
has already found its input good.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from unipixel.export import (
    FORMATS,
    Take,
    describe_object,
    load_bank,
    make_receipt,
    read_names,
    write_archive,
    write_exports,
)
from unipixel.marks import sort_marks
from unipixel.media import MAX_SAMPLED_FRAMES, load_media, write_masks_png
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Answer, Box, Masklet, Media, Point, Prompt, Region

if TYPE_CHECKING:
    from unipixel.engine import UniPixel

MARK_FORMS = """\
Marks, each optionally ending in @ID to say which object it belongs to (all marks without one mean one new object):
  --point x,y[,frame]            a click on the object
  --exclude x,y[,frame]          a click on what does not belong to it
  --box x1,y1,x2,y2[,frame]      a box around it
  --mask FILE[,frame]            a picture of the media's size, anything but black (or transparent) is the object
  --absent frame                 the object, marked on other frames, is not on this one
Coordinates are pixels of the original picture, frames count the sampled frames from 0.
In a question objects are called @1, @2, ...; --memory brings those of an earlier answer back."""

ALWAYS = ("overlay", "bank")  # written whether or not --export asks for them (for every frame: no bank)
EXPORTS = f"""\
What --export can write beside that, as names with commas between them, or all:
  {", ".join(FORMATS)}"""

# Programs with arguments of their own: name -> (module with `main(argv) -> int`, what it does).
PROGRAMS = {
    "bench": ("unipixel.bench", "measure how long people wait"),
    "doctor": ("unipixel.doctor", "show devices, versions and which models fit"),
    "eval": ("unipixel.eval.cli", "measure a model on own data or the drawn world"),
    "parity": ("unipixel.parity", "compare with recorded runs of the original"),
    "train": ("unipixel.train.cli", "train a stage on own data, or the embedded model from nothing"),
}


@dataclass(frozen=True)
class Absence:
    """That an object is not on a frame: an empty region, once the size of the media is known."""

    frame: int
    object_id: int | None

    def region(self, media: Media) -> Region:
        return Region(np.zeros((media.height, media.width), bool), self.frame, self.object_id)


@dataclass(frozen=True, eq=False)
class Result:
    """What one command found: `masklets` cover `media.frames`, or every frame of the source if `every_frame`.

    `memory` is the bank afterwards, with names and colours.
    """

    task: str
    prompt: str
    media: Media
    masklets: Mapping[int, Masklet]
    memory: ObjectMemoryBank
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


def parse_absence(text: str) -> Absence:
    """Read "frame[@id]"; ValueError if it is written otherwise."""
    body, object_id = _split_object_id(text)
    if not re.fullmatch(r"[0-9]{1,9}", body):
        raise ValueError(f"It is written frame or frame@id in numbers, not {_shown(text)}.")
    return Absence(int(body), object_id)


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


MARKS: Mapping[str, tuple[Callable[[str], Prompt | Absence], str]] = {
    "--point": (parse_point, "X,Y[,FRAME][@ID]"),
    "--exclude": (parse_exclusion, "X,Y[,FRAME][@ID]"),
    "--box": (parse_box, "X1,Y1,X2,Y2[,FRAME][@ID]"),
    "--mask": (parse_mask, "FILE[,FRAME][@ID]"),
    "--absent": (parse_absence, "FRAME[@ID]"),
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
    parser.add_argument("--export", default="", metavar="NAMES", help="more files, such as coco,davis,csv, or all")
    parser.add_argument("--zip", action="store_true", help="put what --export writes into export.zip")
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
            name, help=what, epilog=f"{MARK_FORMS}\n\n{EXPORTS}", formatter_class=argparse.RawDescriptionHelpFormatter
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
    commands.add_parser("demo", help="serve the web page (options: demo --help)", add_help=False)
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
    return _finish(args, model, Result("segment", args.prompt, media, answer.masklets, answer.memory, answer))


def run_ask(args: argparse.Namespace) -> int:
    media, memory = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    answer = model.ask(media, args.question, prompts=args.prompts, memory=memory)
    return _finish(args, model, Result("ask", args.question, media, answer.masklets, answer.memory, answer))


def run_describe(args: argparse.Namespace) -> int:
    if len(args.prompts) != 1:
        raise ValueError(f"describe needs exactly one mark (--point, --box or --mask), not {len(args.prompts)}.")
    media, _ = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    answer = model.describe(media, args.prompts[0])
    return _finish(args, model, Result("describe", "", media, answer.masklets, answer.memory, answer))


def run_track(args: argparse.Namespace) -> int:
    if not args.prompts:
        raise ValueError("track needs at least one mark (--point, --box or --mask).")
    media, memory = _read_input(args)
    model = load_engine(args.model, args.device, args.dtype)
    masklets = model.track(media, args.prompts, every_frame=args.every_frame, memory=memory)
    if not args.every_frame:
        for masklet in masklets.values():
            memory = memory.with_object(masklet, origin="point")
    return _finish(args, model, Result("track", "", media, masklets, memory, every_frame=args.every_frame))


def run_demo(argv: Sequence[str]) -> int:
    """Serve the page, with the options of app.py."""
    app = Path(__file__).parents[1] / "app.py"
    if not app.is_file():
        raise ValueError("The demo needs app.py, which comes with a checkout of the repository.")
    return runpy.run_path(str(app))["main"](list(argv))


def _read_input(args: argparse.Namespace) -> tuple[Media, ObjectMemoryBank]:
    """The media and the memory, with all marks checked against them: everything that can be refused early."""
    media = load_media(args.media, max_frames=args.max_frames)
    read_names(args.export, media.is_image, getattr(args, "every_frame", False))
    memory = ObjectMemoryBank()
    if args.memory is not None:
        memory = load_bank(args.memory.read_text(encoding="utf-8"), media)
    args.prompts = [p.region(media) if isinstance(p, Absence) else p for p in getattr(args, "prompts", ())]
    sort_marks(args.prompts, media, memory)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for notice in media.notices:
        print(f"Note: {notice}", file=sys.stderr)
    return media, memory


# Output


def _finish(args: argparse.Namespace, model: UniPixel, result: Result) -> int:
    """Write all files and say what was found."""
    folder = args.output_dir
    take = result_take(model, result)
    report = {**describe_result(result, take.bank), "receipt": take.receipt}
    files = write_pictures(take, result.masklets, folder)
    if result.answer is not None:
        files += _write_text(folder / "answer.txt", f"{result.answer.text}\n")
    if not result.every_frame:
        files += _names(FORMATS["bank"].write(dataclasses.replace(take, bank=result.memory), folder), folder)
    wanted = [name for name in read_names(args.export, result.media.is_image, result.every_frame) if name not in ALWAYS]
    if wanted and args.zip:
        files.append(write_archive(take, wanted, folder / "export.zip").name)
    elif wanted:
        files += _names(write_exports(take, wanted, folder), folder)
    report["files"] = sorted({*files, "answer.json"})
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    _write_text(folder / "answer.json", f"{text}\n")
    print(text if args.json else _summary(report, folder))
    return 0


def result_take(model: UniPixel, result: Result) -> Take:
    """The found masklets with the names and colours they have in memory, for the writers of files."""
    bank = ObjectMemoryBank()
    for object_id, masklet in sorted(result.masklets.items()):
        known = result.memory.get(object_id)
        label, color = (known.label, known.color) if known else ("", None)
        bank = bank.with_object(masklet, label=label, color=color)
    receipt = make_receipt(model, result.media, every_frame=result.every_frame)
    return Take(result.media, bank, receipt, result.every_frame)


def _names(paths: Sequence[Path], folder: Path) -> list[str]:
    """What was written, as files and first folders of `folder`."""
    return list(dict.fromkeys(path.relative_to(folder).parts[0] for path in paths))


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


def describe_result(result: Result, found: ObjectMemoryBank) -> dict[str, Any]:
    """The result as JSON values: text, spans, and per object RLE masks, boxes and the frames it is visible in."""
    answer = result.answer
    return {
        "task": result.task,
        "prompt": result.prompt,
        "text": answer.text if answer else "",
        "spans": [vars(span) for span in answer.spans] if answer else [],
        "truncated": bool(answer and answer.truncated),
        "objects": [describe_object(known) for known in found.objects],
    }


def write_pictures(take: Take, masklets: Mapping[int, Masklet], folder: Path) -> list[str]:
    """Write the overlay and one folder of masks per object; returns the names.

    The overlay is a PNG for an image, MP4 and GIF for a clip, MP4 alone for every frame of the source (a GIF of a
    long video is larger than the video).
    """
    wanted = ["overlay"] if take.media.is_image or take.every_frame else ["overlay", "gif"]
    names = [path.name for name in wanted for path in FORMATS[name].write(take, folder)]
    for object_id, masklet in sorted(masklets.items()):
        write_masks_png(masklet, folder / "masks" / f"object_{object_id}")
        names.append(f"masks/object_{object_id}")
    return names


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
        if given and given[0] == "demo":
            return run_demo(given[1:])
        args = build_parser().parse_args(normalise(given))
        return args.run(args)
    except (ValueError, OSError) as error:
        print(_sentence(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
