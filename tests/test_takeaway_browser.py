"""Downloads of the real page against what was drawn, loading a bank again, and the page inside other pages."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, draw_clip, like
from pycocotools.coco import COCO

from unipixel.export import FORMATS
from unipixel.media import load_media, write_video

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import expect
from test_browser import BLUE, RED, SIZES, Visit, browser, files, url, visit

__all__ = ["browser", "files", "url", "visit"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.browser]

Visitor = Callable[..., Visit]


def choose(ann: Visit, kinds: list[str], which: str = "All shown here") -> None:
    """Open the panel and choose `kinds` by their titles."""
    panel = ann.page.locator("#takeaway")
    if not ann.page.locator("#take-make").is_visible():
        panel.get_by_role("button", name="Take away").click()
    panel.get_by_label(which, exact=True).check()
    for name, how in FORMATS.items():
        panel.get_by_label(how.title, exact=True).set_checked(name in kinds)


def prepared(ann: Visit, kinds: list[str], which: str = "All shown here") -> Path:
    """Choose `kinds`, prepare, and download."""
    choose(ann, kinds, which)
    ann.page.locator("#take-make").click()
    save = ann.page.locator("#take-save")
    expect(save).to_be_visible()
    with ann.page.expect_download() as download:
        save.click()
    return Path(download.value.path())


@pytest.fixture
def marked(visit: Visitor, files: Path, width: int) -> Visit:
    """A page with the red circle as @1 and the blue square as @2, of a clip."""
    ann = visit(width)
    return with_two_objects(ann, files)


def with_two_objects(ann: Visit, folder: Path) -> Visit:
    ann.open(folder / "clip.mp4", 8)
    ann.click(*RED)
    ann.page.locator("#prompter [data-act=new]").click()
    ann.click(*BLUE)
    ann.ask("What are they?")
    expect(ann.page.locator("#objects .up-item")).to_have_count(2)
    return ann


@SIZES
def test_downloads_hold_what_was_drawn(marked: Visit, files: Path, width: int) -> None:
    frames = load_media(files / "clip.mp4").frames
    coco = COCO(str(prepared(marked, ["coco"])))
    for object_id, colour in ((1, "red"), (2, "blue")):
        for t, frame in enumerate(frames):
            (found,) = [a for a in coco.loadAnns(coco.getAnnIds([t + 1])) if a["object_id"] == object_id]
            truth = like(frame, COLOURS[colour])
            mask = coco.annToMask(found) > 0
            assert (mask & truth).sum() > 0.97 * (mask | truth).sum()
    marked.picture(f"takeaway-{width}")
    archive = prepared(marked, list(FORMATS))
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        names = set(file.namelist())
        receipt = json.loads(file.read("receipt.json"))
    assert {"overlay.mp4", "cutout.webm", "youtube_vis.json", "memory.json"} <= names
    assert receipt["frames"] == list(range(8))


@SIZES
def test_the_selected_object_is_what_is_selected(marked: Visit, width: int) -> None:
    marked.page.locator("#objects .up-item").nth(1).locator(".up-id").click()
    coco = COCO(str(prepared(marked, ["coco"], "The selected one")))
    assert {a["object_id"] for a in coco.anns.values()} == {2}


@SIZES
def test_every_frame_of_the_source_is_taken_away(visit: Visitor, tmp_path: Path, width: int) -> None:
    frames = draw_clip(60)  # three seconds of work, to cancel in
    write_video(list(frames), tmp_path / "clip.mp4", 12, crf=4)
    ann = visit(width)
    ann.open(tmp_path / "clip.mp4", 16)
    ann.click(*RED)
    ann.ask("What is @1?")
    choose(ann, ["coco"])
    choice = ann.page.locator("#take-frames")
    choice.get_by_label("Every frame of the source", exact=True).check()
    make, cancel = ann.page.locator("#take-make"), ann.page.locator("#take-cancel")
    make.click()
    expect(cancel).to_be_visible()
    expect(make).to_be_hidden()
    expect(ann.page.locator("#take-said progress")).to_be_visible()
    cancel.click()
    expect(ann.page.locator("#take-said")).to_contain_text("Stopped.")
    expect(cancel).to_be_hidden()
    coco = COCO(str(prepared(ann, ["coco"])))
    assert [image["frame"] for image in coco.dataset["images"]] == list(range(60))
    for t, frame in enumerate(frames[:20]):  # later it goes behind the square and out of the picture
        (found,) = coco.loadAnns(coco.getAnnIds([t + 1]))
        true, mask = like(frame, COLOURS["red"]), coco.annToMask(found) > 0
        assert (mask & true).sum() > 0.9 * (mask | true).sum()
    assert coco.dataset["info"]["receipt"]["frames"] == "every"
    choice.get_by_label("The sampled ones", exact=True).check()
    expect(ann.page.locator("#take-save")).to_be_hidden()  # it is not what is chosen now
    assert len(COCO(str(prepared(ann, ["coco"]))).imgs) == 16


@SIZES
def test_a_dialogue_over_two_media_is_taken_away_whole(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width, 900)
    with_two_objects(ann, files)
    ann.page.locator("#prompter .up-add input").set_input_files(files / "scene.png")
    expect(ann.page.locator("#prompter .up-open")).to_have_count(2)
    ann.settle()
    ann.click(*RED)
    ann.ask("What is @3?")
    assert ann.answer() == "@3 is a red circle."
    shown = COCO(str(prepared(ann, ["coco"])))
    assert {a["object_id"] for a in shown.anns.values()} == {3}
    with zipfile.ZipFile(prepared(ann, ["coco", "gif"], "All of the dialogue")) as archive:
        folders: dict[str, list[str]] = {}
        for name in archive.namelist():
            folder, _, file = name.partition("/")
            folders.setdefault(folder, []).append(file)
        assert len(folders) == 2
        for ids, files_in, folder in zip(({1, 2}, {3}), folders.values(), folders):
            (data,) = [f for f in files_in if f.endswith(".json") and "receipt" not in f]
            read = COCO()
            read.dataset = json.loads(archive.read(f"{folder}/{data}"))
            read.createIndex()
            assert {a["object_id"] for a in read.anns.values()} == ids
    ann.page.locator("#takeaway").scroll_into_view_if_needed()
    ann.picture(f"takeaway-dialogue-{width}")
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= width


def test_objects_come_back_on_a_phone_after_a_reload(visit: Visitor, files: Path, tmp_path: Path) -> None:
    ann = with_two_objects(visit(375, 800, touch=True), files)
    bank = tmp_path / "memory.json"
    bank.write_bytes(prepared(ann, ["bank"]).read_bytes())
    ann.picture("takeaway-375")
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= 375

    bob = visit(375, 800, touch=True)
    bob.open(files / "clip.mp4", 8)
    bob.page.locator("#takeaway").get_by_role("button", name="Take away").click()
    bob.page.locator("#takeaway input[type=file]").set_input_files(bank)
    expect(bob.page.locator("#objects .up-item")).to_have_count(2)
    bob.settle()
    assert np.abs(bob.pixel(50, 60) - ann.pixel(50, 60)).sum() < 12  # the same mask on the same frame
    bob.ask("What is @2?")
    assert bob.answer() == "@2 is a blue square."


@SIZES
def test_nothing_to_take_is_said_in_the_panel(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.page.locator("#takeaway").get_by_role("button", name="Take away").click()
    ann.page.locator("#take-make").click()
    expect(ann.page.locator("#take-said")).to_contain_text("Upload a picture or video first.")
    ann.open(files / "scene.png", 1)
    ann.page.locator("#take-make").click()
    expect(ann.page.locator("#take-said")).to_contain_text("There are no objects yet")
    expect(ann.page.locator("#take-save")).to_be_hidden()
    expect(ann.page.locator("#take-frames")).to_be_hidden()  # a picture has one frame
    ann.open(files / "clip.mp4", 8)
    expect(ann.page.locator("#take-frames")).to_be_visible()


HOST = """<!doctype html><title>Host</title>
<script type="module" src="{url}gradio.js"></script>
<style>gradio-app .up-title {{ display: none !important; }}</style>
<gradio-app src="{url}" theme_mode="dark"></gradio-app>"""
FRAME = '<!doctype html><title>Host</title><iframe src="{url}?embed&__theme=dark" width="100%" height="900"></iframe>'


@pytest.fixture
def host_page(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A page of another origin that holds ours."""
    (tmp_path / "page.html").write_text(request.param.format(url=url))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()


@pytest.mark.parametrize("host_page", [HOST, FRAME], ids=["component", "iframe"], indirect=True)
def test_the_page_works_inside_another_page(browser: Any, url: str, host_page: str, files: Path) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    hosts: set[str] = set()
    page.on("request", lambda r: hosts.add(r.url.split("/")[2]) if r.url.startswith("http") else None)
    page.goto(host_page, wait_until="domcontentloaded")
    framed = page.locator("iframe").count() > 0
    inside = page.frame_locator("iframe") if framed else page
    expect(inside.locator("#prompter canvas")).to_be_visible(timeout=20_000)
    expect(inside.locator(".up-title")).to_be_hidden()
    expect(inside.locator("#gallery")).to_be_visible(visible=not framed)
    expect(inside.locator(".dark #question").first).to_be_attached()
    inside.locator("#prompter input[type=file]").first.set_input_files(files / "scene.png")
    expect(inside.locator("#prompter .up-count")).to_have_text("1 / 1")
    inside.locator("#question textarea").fill("Segment the blue square")
    inside.locator("#send").click()
    expect(inside.locator("#chat .bot .up-said").last).to_have_text("It is @1.", timeout=15_000)
    context.close()
    assert hosts == {url.split("/")[2], host_page.split("/")[2]}
