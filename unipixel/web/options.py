"""The options of `python app.py`: command line first, then environment variables, then defaults."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

ZERO_GPU_MODEL = "PolyU-ChenLab/UniPixel-3B"


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, its default, and the environment variables that may say it, first one first."""

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str
    also: tuple[str, ...] = ()  # beside UNIPIXEL_<NAME>

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variables(self) -> tuple[str, ...]:
        return (f"UNIPIXEL_{self.name.upper()}", *self.also)


@dataclass(frozen=True)
class Options:
    """What is served, where, and within which limits."""

    model: str
    host: str
    port: int
    max_frames: int
    max_mb: int
    queue_size: int
    root_path: str
    auth: tuple[tuple[str, str], ...]
    share: bool
    mcp: bool


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}, not {text[:40]!r}")
        return int(text)

    return read


def _path(text: str) -> str:
    if text and not re.fullmatch(r"/[\w./~-]*|https?://[\w.:~/-]+", text):
        raise ValueError(f"must start with / or be an address, not {text[:40]!r}")
    return text.rstrip("/")


def _accounts(text: str) -> tuple[tuple[str, str], ...]:
    """Read "name:password,name:password"; what is wrong is said without saying the password."""
    pairs = [part.partition(":") for part in text.split(",") if part]
    if not all(name and password for name, _, password in pairs):
        raise ValueError("must be name:password, several with commas between them")
    return tuple((name, password) for name, _, password in pairs)


def _switch(text: str) -> bool:
    if text.strip().lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError(f"must be true or false, not {text[:40]!r}")
    return text.strip().lower() in ("1", "true", "yes", "on")


OPTIONS = (
    Option("model", _text, "nano", f"nano, a folder or a hub id (on ZeroGPU {ZERO_GPU_MODEL})"),
    Option("host", _text, "127.0.0.1", "address to listen on (on a Space 0.0.0.0)", ("GRADIO_SERVER_NAME", "HOST")),
    Option("port", _number(1, 65535), 7860, "port to listen on", ("GRADIO_SERVER_PORT", "PORT")),
    Option("max_frames", _number(1, 1024), 16, "frames the model takes from a clip"),
    Option("max_mb", _number(1, 100_000), 500, "largest upload in megabytes"),
    Option("queue_size", _number(1, 1000), 32, "how many questions may wait; more are refused with a sentence"),
    Option(
        "root_path", _path, "", "path under which a proxy serves the page, such as /unipixel", ("GRADIO_ROOT_PATH",)
    ),
    Option("auth", _accounts, (), "name:password who may come in, with commas between several; better as a variable"),
    Option("share", _switch, False, "also make a public link through Gradio", ("GRADIO_SHARE",)),
    Option(
        "mcp", _switch, False, "offer the endpoints to agents as MCP tools (needs gradio[mcp])", ("GRADIO_MCP_SERVER",)
    ),
)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one ValueError instead of a usage text and an exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message[:1].upper()}{message[1:]}.")


def read_options(argv: Sequence[str], environ: Mapping[str, str] = os.environ, *, zero_gpu: bool = False) -> Options:
    """The options that `argv` and `environ` say; ValueError with one sentence for what cannot be used."""
    values = vars(_build_parser().parse_args(argv))
    standard = {option.name: option.default for option in OPTIONS}
    if zero_gpu:
        standard["model"] = ZERO_GPU_MODEL
    if "SPACE_ID" in environ:
        standard["host"] = "0.0.0.0"
    found = {}
    for option in OPTIONS:
        said = values[option.name]
        source, text = (f"Option {option.flag}", said) if said is not None else _from_environment(option, environ)
        try:
            found[option.name] = standard[option.name] if text is None else option.read(text)
        except ValueError as error:
            raise ValueError(f"{source} {error}.") from None
    if found["mcp"] and importlib.util.find_spec("mcp") is None:
        raise ValueError(
            "Option --mcp needs the package mcp, which is not installed; pip install 'gradio[mcp]' brings it."
        )
    return Options(**found)


def _from_environment(option: Option, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The first of the option's variables that says something, and what it says."""
    return next(((f"Variable {name}", environ[name]) for name in option.variables if environ.get(name)), ("", None))


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="app.py",
        description="Serve the UniPixel page.",
        epilog="An option that is not given is taken from its environment variables, the first that is set.",
    )
    for option in OPTIONS:
        shown = {"": "none", (): "none", False: "off"}.get(option.default, option.default)
        words = f"{option.help} [{shown}; {', '.join(option.variables)}]".replace("%", "%%")
        if option.read is _switch:
            parser.add_argument(option.flag, action="store_const", const="true", help=words)
        else:
            parser.add_argument(option.flag, metavar=option.name.upper(), help=words)
    return parser
