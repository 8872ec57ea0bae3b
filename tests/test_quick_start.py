"""The first program of the README: short, and it runs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_engine

from unipixel.engine import UniPixel

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "quick_start.py"


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 25


@pytest.mark.parametrize("media, output", [("picture.png", "masks.png"), ("clip.mp4", "masks.gif")])
def test_it_runs_with_the_embedded_model(
    media: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path, str(ROOT / "assets" / "demo" / media), "the orange circle")
    assert capsys.readouterr().out.strip()
    with Image.open(tmp_path / "outputs" / output) as picture:
        assert (getattr(picture, "n_frames", 1) > 1) == output.endswith("gif")


def test_it_takes_another_model_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> UniPixel:
        asked.append(name)
        return tiny_engine()

    monkeypatch.setattr(UniPixel, "from_pretrained", load)
    run(monkeypatch, tmp_path, str(ROOT / "assets/demo/picture.png"), "the star", "PolyU-ChenLab/UniPixel-3B")
    assert asked == ["PolyU-ChenLab/UniPixel-3B"]
