"""The whole way through with the embedded model: a clip it has never seen, in the browser, as a visitor uses it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unipixel.data.world import Scene, draw_scene
from unipixel.eval.metrics import iou
from unipixel.media import write_video

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import expect
from test_browser import Visit, Visitor, browser, visit

__all__ = ["browser", "visit"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.browser]

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT, FRAMES = 320, 240, 8


def unseen_clip() -> Scene:
    """A clip from a seed of this test alone: three objects that all differ in colour and shape and stay in view."""
    for seed in range(910_250, 911_000):
        scene = draw_scene(np.random.default_rng(seed), num_frames=FRAMES, size=(HEIGHT, WIDTH), num_objects=(3, 3))
        words = [{getattr(o, name) for o in scene.objects} for name in ("color", "shape")]
        if all(len(w) == 3 for w in words) and (scene.areas > 1200).all():
            return scene
    raise AssertionError("no such clip")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """`python app.py` as the README starts it, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1"}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}/"
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}health", timeout=2) as answer:
                if json.load(answer)["loaded"]:  # the page is there before the model is
                    break
        except OSError:
            assert server.poll() is None, "the server ended"
        time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(20)


def canvas(page: Visit) -> np.ndarray:
    """What the canvas shows of the picture, HEIGHT x WIDTH x 3."""
    script = """([width, height]) => {
        const canvas = document.querySelector('#prompter canvas');
        const ratio = canvas.width / canvas.clientWidth;
        const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
        const left = (canvas.clientWidth - width * scale) / 2, top = (canvas.clientHeight - height * scale) / 2;
        const small = new OffscreenCanvas(width, height).getContext('2d');
        small.drawImage(canvas, left * ratio, top * ratio, width * scale * ratio, height * scale * ratio,
                        0, 0, width, height);
        return [...small.getImageData(0, 0, width, height).data];
    }"""
    pixels = page.page.evaluate(script, [WIDTH, HEIGHT])
    return np.array(pixels, np.int16).reshape(HEIGHT, WIDTH, 4)[..., :3]


def test_an_unseen_clip_is_pointed_at_named_and_segmented(visit: Visitor, tmp_path: Path) -> None:
    scene = unseen_clip()
    file = write_video(scene.frames, tmp_path / "unseen.mp4", 8)
    page = visit()
    page.page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.open(file, FRAMES)
    rows, columns = np.nonzero(scene.masks[0, 0])
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    before = canvas(page)
    page.click(float(columns[nearest]), float(rows[nearest]))
    assert np.abs(canvas(page) - before).sum(-1)[scene.masks[0, 0]].mean() > 20  # the preview shows on the object

    page.ask("What is @1?")
    assert scene.objects[0].color in page.answer()
    assert scene.objects[0].shape in page.answer()

    page.page.locator("#objects .up-hide").click()  # what is found next is seen alone
    page.settle()
    before = canvas(page)
    page.ask(f"Segment the {scene.objects[1].color} {scene.objects[1].shape}.")
    expect(page.page.locator("#objects .up-item")).to_have_count(2)
    page.page.locator("#prompter .up-frame").fill("0")
    page.settle()
    found = np.abs(canvas(page) - before).sum(-1) > 24
    assert iou(found, scene.masks[1, 0]) >= 0.6

    page.ask("What color is @1?")
    assert scene.objects[0].color in page.answer()
    page.ask("What is @7?", wait=False)  # refused: the question comes back, and the next one works
    expect(page.page.locator("#chat [role=alert]")).to_contain_text("no object @7")
    expect(page.page.locator("#question textarea")).to_have_value("What is @7?")
    page.ask("What shape is @2?")
    assert scene.objects[1].shape in page.answer()
    page.page.evaluate("window.scrollTo(0, 0)")
    page.picture("page")  # the README's picture
