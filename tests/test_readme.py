"""What the README says can be copied: its code runs, its commands work, its map names what is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder in which the README's paths are good and what is written does no harm."""
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    return tmp_path


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_its_python_runs_from_top_to_bottom(folder: Path) -> None:
    code = "\n".join(["import sys", f"sys.path.insert(0, {str(ROOT)!r})", *blocks("python")])
    said = run([sys.executable, "-c", code], folder)
    assert "@1 is" in said
    assert (folder / "mask.png").stat().st_size > 0


@pytest.mark.slow
def test_its_commands_work(folder: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("python -m unipixel")]
    own = [line for line in lines if "my_folder" in line or "my_test_folder" in line]  # theirs is a test of its own
    tried = [shlex.split(line, comments=True)[1:] for line in lines if line not in own]
    assert len(tried) >= 4
    for arguments in tried:
        code = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = {['unipixel', *arguments[2:]]!r}"
        assert run([sys.executable, "-c", f"{code}; runpy.run_module('unipixel', run_name='__main__')"], folder)


def test_its_map_names_what_is_there() -> None:
    tree = TEXT.split("## Where things are")[1].split("```")[1]
    top, inside = tree.split("unipixel/\n")
    for part, base in ((top, ROOT), (inside, ROOT / "unipixel")):
        for line in part.splitlines():
            for name in re.findall(r"[\w/]+\.py|[\w/]+/(?=[,\s]|$)|assets/\w+", line.strip().split("   ")[0]):
                assert (base / name).exists(), name
    modules = {path.name for path in (ROOT / "unipixel").glob("[!_]*.py")}
    assert not {name for name in modules if name not in inside}
