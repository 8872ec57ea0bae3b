"""The package imports one way, its plain parts stay plain, and no file knows the machine it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "unipixel"

# Part -> level. A part may import parts of its own level or of a lower one, never of a higher one.
LEVELS = {
    "_torchvision": 0,
    "types": 0,
    "config": 0,
    "decode": 1,
    "checkpoints": 1,
    "media": 1,
    "memory": 1,
    "grammar": 1,
    "marks": 1,
    "visualize": 1,
    "export": 2,
    "words": 2,
    "processing": 2,
    "model": 3,
    "plan": 4,
    "decoding": 4,
    "encoding": 4,
    "segmenter": 4,
    "correction": 4,
    "full_rate": 4,
    "engine": 5,
    "data": 5,
    "train": 5,
    "bench": 6,
    "replay": 6,
    "cli": 6,
    "doctor": 6,
    "eval": 6,
    "parity": 6,
    "web": 6,
    "__main__": 7,
}
PLAIN = ("types", "decode", "media", "memory", "marks", "grammar", "visualize", "export")
HEAVY = {"torch", "torchvision", "transformers", "sam2", "peft", "gradio", "spaces"}


@cache
def imported_modules(file: Path) -> frozenset[str]:
    """Modules a file imports when it is loaded or run, "a.b" for `from a import b` too; not those for types only."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.relative_to(ROOT)}:{node.lineno} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return frozenset(found)


def part_files(part: str) -> list[Path]:
    folder, file = PACKAGE / part, PACKAGE / f"{part}.py"
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [file]


def existing_parts() -> list[str]:
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return sorted(files | {path.parent.name for path in PACKAGE.glob("*/__init__.py")})


def imported_parts(part: str) -> set[str]:
    """The other parts of the package that `part` imports."""
    names = {name for file in part_files(part) for name in imported_modules(file)}
    found = {name.split(".")[1] for name in names if name.startswith("unipixel.")}
    return (found & set(existing_parts())) - {part}


def test_every_part_has_a_level() -> None:
    assert set(existing_parts()) <= set(LEVELS)


@pytest.mark.parametrize("part", existing_parts())
def test_no_part_imports_a_higher_one(part: str) -> None:
    assert {other for other in imported_parts(part) if LEVELS[other] > LEVELS[part]} == set()


def test_no_cycles() -> None:
    TopologicalSorter({part: imported_parts(part) for part in existing_parts()}).prepare()


def test_engine_stands_beside_data_and_training() -> None:
    assert imported_parts("engine").isdisjoint({"data", "train"})
    assert imported_parts("data").isdisjoint({"engine", "train"})


@pytest.mark.parametrize("part", PLAIN)
def test_plain_parts_import_nothing_heavy(part: str) -> None:
    roots = {name.split(".")[0] for file in part_files(part) for name in imported_modules(file)}
    assert roots.isdisjoint(HEAVY)
    assert imported_parts(part) <= set(PLAIN)


def test_only_the_page_and_its_helpers_know_gradio() -> None:
    knowing = {
        part
        for part in existing_parts()
        if any(
            name.split(".")[0] in {"gradio", "spaces"} for file in part_files(part) for name in imported_modules(file)
        )
    }
    assert knowing <= {"web"}


def test_the_package_does_not_know_the_app() -> None:
    names = {name for file in PACKAGE.rglob("*.py") for name in imported_modules(file)}
    assert names.isdisjoint({"app", "examples", "tests"})


def test_wheel_lists_every_package() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("needs tomllib, which Python has from 3.11 on")
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in PACKAGE.rglob("__init__.py")}
    assert set(settings["packages"]) - set(settings["package-dir"]) == found


# Home folders and other places of one machine, package indexes, private addresses. Loopback is everybody's.
MACHINE = re.compile(
    r"(?<![\w.])/(?:work|root|home/[a-z]|Users/[A-Za-z]|opt)/"
    r"|\.pyenv|index[-_]url"
    r"|https?://[^\s\"'<>)]*(?:/simple\b|artifactory|nexus)"
    r"|https?://(?:10|169\.254|172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d+\.\d+"
)


def repository_files() -> list[Path]:
    """Files of the repository, committed or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("needs a git checkout")
    names = listing.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file() and path != Path(__file__)]


def test_no_file_knows_this_machine() -> None:
    found = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}: {m[0]}" for n, line in enumerate(lines, 1) if (m := MACHINE.search(line))
        ]
    assert found == []


@pytest.mark.parametrize("text", ["see /root/x", "--index-url x", "http://10.1.2.3/x", "https://host/simple/"])
def test_the_search_for_machine_names_finds_them(text: str) -> None:
    assert MACHINE.search(text)
