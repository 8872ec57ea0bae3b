"""The page in a real browser (headless Chromium) with a fake engine: pointing, asking, masks, Stop, no foreign host."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fakes import FakeEngine, draw_clip, draw_scene

from unipixel.media import write_png, write_video
from unipixel.web import build_demo, launch
from unipixel.web.examples import Example
from unipixel.web.turns import Line

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Where to put pictures of the page to look at; none are taken unless it is set.
PICTURES = os.environ.get("UNIPIXEL_SCREENSHOTS")

PATIENCE = 30_000  # milliseconds; the machine may be busy with other things
expect.set_options(timeout=PATIENCE)

RED, BLUE, STAR = (70, 80), (240, 160), (90, 185)  # places in `draw_scene`


@dataclass
class Visit:
    """One visitor's page with what went wrong in it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda r: None if self._is_local(r.url) else self.foreign.append(r.url))

    def _is_local(self, url: str) -> bool:
        return url.startswith((self.url, "data:", "blob:"))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where on the screen the place (x, y) of a 320 x 240 picture is."""
        canvas = self.page.locator("#prompter canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        scale = min(box["width"] / 320, box["height"] / 240)
        left, top = (box["width"] - 320 * scale) / 2, (box["height"] - 240 * scale) / 2
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def click(self, x: float, y: float, button: str = "left") -> None:
        """Click a place of the picture and wait for the preview of it."""
        self.page.mouse.click(*self.at(x, y), button=button)  # type: ignore[arg-type]
        self.settle()

    def settle(self) -> None:
        expect(self.page.locator("#prompter .up-waiting")).to_have_count(0)
        self.page.wait_for_timeout(150)  # the repaint

    def pixel(self, x: float, y: float) -> np.ndarray:
        """The colour (r, g, b) that the canvas shows at a place of the picture."""
        script = """([x, y]) => {
            const canvas = document.querySelector('#prompter canvas');
            const ratio = canvas.width / canvas.clientWidth;
            const scale = Math.min(canvas.clientWidth / 320, canvas.clientHeight / 240);
            const left = (canvas.clientWidth - 320 * scale) / 2, top = (canvas.clientHeight - 240 * scale) / 2;
            const at = [(left + x * scale) * ratio, (top + y * scale) * ratio].map(Math.round);
            return [...canvas.getContext('2d').getImageData(...at, 1, 1).data].slice(0, 3);
        }"""
        return np.array(self.page.evaluate(script, [x, y]))

    def open(self, file: Path, frames: int) -> None:
        self.page.locator("#prompter input[type=file]").first.set_input_files(file)
        expect(self.page.locator("#prompter .up-empty")).to_be_hidden()
        expect(self.page.locator("#prompter .up-count")).to_have_text(f"1 / {frames}")
        self.settle()

    def ask(self, question: str, wait: bool = True) -> None:
        """Send a question; `wait` for the whole answer, which a refused question does not get."""
        asked = self.page.locator("#chat .user .up-said")
        count = asked.count()
        self.page.locator("#question textarea").fill(question)
        self.page.locator("#send").click()
        if wait:
            expect(asked).to_have_count(count + 1)
            expect(self.page.locator("#send")).to_be_visible()

    def answer(self) -> str:
        return self.page.locator("#chat .bot .up-said").last.inner_text()

    def picture(self, name: str) -> None:
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_png(draw_scene(), folder / "scene.png")
    write_video(list(draw_clip()), folder / "clip.mp4", 8)
    (folder / "broken.mp4").write_bytes(b"not a clip at all")
    return folder


@pytest.fixture(scope="module")
def url(files: Path) -> Iterator[str]:
    """A server with the page, at which one visitor may wait while another is served."""
    mark = {"type": "point", "object": 1, "frame": 0, "x": RED[0], "y": RED[1], "label": 1}
    examples = [
        Example(files / "scene.png", "What is the marked object?", "What is @1?", (mark,)),
        Example(files / "clip.mp4", "Follow the blue square", "Segment the blue square"),
    ]
    demo: gr.Blocks = build_demo(FakeEngine(word_seconds=0.05), examples=examples, line=Line(1))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch(demo, host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Callable[..., Visit]]:
    """Opens pages; at the end no page may have had an error or have asked another host for anything."""
    visits: list[Visit] = []

    def start(
        width: int = 1440, height: int = 900, *, theme: str = "light", touch: bool = False, locale: str = "en-US"
    ) -> Visit:
        size = {"width": width, "height": height}
        page = browser.new_context(viewport=size, has_touch=touch, locale=locale).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE)
        visits.append(Visit(page, url))
        visits[-1].watch()
        page.goto(f"{url}?__theme={theme}", wait_until="domcontentloaded")
        page.wait_for_selector("#prompter canvas")
        expect(page.locator("#prompter .up-empty")).to_be_visible()
        return visits[-1]

    yield start
    for made in visits:
        made.page.context.close()
        assert made.problems == []
        assert made.foreign == []


Visitor = Callable[..., Visit]
SIZES = pytest.mark.parametrize("width", [1440, 375])


@SIZES
def test_point_ask_and_ask_again_about_a_clip(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.picture(f"empty-{width}")
    ann.open(files / "clip.mp4", 8)
    before = ann.pixel(50, 60)
    ann.click(*RED)
    preview = ann.pixel(50, 60)
    assert np.abs(preview - before).sum() > 40  # the mask shows before anything is asked
    ann.ask("What is @1?")
    assert ann.answer() == "@1 is a red circle."
    assert ann.page.locator("#chat .bot .up-ref-1").count() == 1
    expect(ann.page.locator("#chat video")).to_have_count(1)
    expect(ann.page.locator("#objects .up-item")).to_have_count(1)
    expect(ann.page.locator("#download")).to_be_visible()

    # The mask follows the object: on the last frame the circle has moved 42 pixels to the right.
    ann.page.locator("#prompter .up-frame").fill("7")
    ann.settle()
    assert np.abs(ann.pixel(RED[0] + 42, 80) - np.array([220, 40, 40])).sum() > 40
    assert np.abs(ann.pixel(45, 60) - np.array([120, 125, 135])).sum() < 30

    ann.ask("Segment the blue square")
    assert ann.answer() == "It is @2."
    expect(ann.page.locator("#objects .up-item")).to_have_count(2)
    ann.ask("What is @1 again?")
    assert ann.answer() == "@1 is a red circle."
    ann.picture(f"clip-{width}")


@SIZES
def test_the_gif_can_be_saved(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    expect(ann.page.locator("#download")).to_be_visible()
    with ann.page.expect_download() as download:
        ann.page.locator("#download").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"GIF8"


@SIZES
def test_several_objects_boxes_strokes_and_undo(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    assert not ann.page.locator("#prompter .up-scrub").is_visible()
    mouse = ann.page.mouse
    ann.click(*RED)
    ann.click(RED[0], RED[1] + 25, button="right")
    ann.page.locator("#prompter [data-act=new]").click()
    mouse.move(*ann.at(45, 140))
    mouse.down()
    mouse.move(*ann.at(100, 190), steps=4)
    mouse.move(*ann.at(135, 230), steps=4)
    mouse.up()
    ann.settle()
    ann.page.locator("#prompter [data-act=new]").click()
    ann.page.locator("#prompter [data-tool=brush]").click()
    mouse.move(*ann.at(225, 150))
    mouse.down()
    mouse.move(*ann.at(255, 170), steps=6)
    mouse.up()
    ann.settle()
    chips = ann.page.locator("#prompter .up-chip")
    expect(chips).to_have_count(3)
    ann.picture(f"marks-{width}")
    covered = ann.pixel(215, 185)
    ann.page.keyboard.press("z")
    ann.settle()
    assert np.abs(ann.pixel(215, 185) - covered).sum() > 20
    ann.page.keyboard.press("Shift+Z")
    ann.settle()
    assert np.abs(ann.pixel(215, 185) - covered).sum() < 6
    ann.ask("What are they?")
    expect(ann.page.locator("#objects .up-item")).to_have_count(3)


class Keys:
    """The keyboard on the picture: the crosshair starts in its middle, places are whole steps from there."""

    STEP = 3.2  # 1 % of the longer side

    def __init__(self, ann: Visit) -> None:
        self.ann, self.canvas = ann, ann.page.locator("#prompter canvas")
        self.x, self.y = 160.0, 120.0
        self.canvas.focus()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.canvas.press(key)
        self.ann.settle()

    def go(self, x: float, y: float) -> None:
        """Move the crosshair to the step next to (x, y), by five steps at a time while that is far."""
        across, down = round((x - self.x) / self.STEP), round((y - self.y) / self.STEP)
        for steps, back, on in ((across, "ArrowLeft", "ArrowRight"), (down, "ArrowUp", "ArrowDown")):
            far, near = divmod(abs(steps), 5)
            key = on if steps > 0 else back
            self.press(*[f"Shift+{key}"] * far, *[key] * near)
        self.x, self.y = self.x + across * self.STEP, self.y + down * self.STEP


@pytest.mark.parametrize("width", [1440, 1280, 375])
def test_the_picture_stays_where_it_is_while_tools_change(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    canvas = ann.page.locator("#prompter canvas")
    before = canvas.bounding_box()
    for tool in ("brush", "eraser", "negative", "select", "point"):
        ann.page.locator(f"#prompter [data-tool={tool}]").click()
        assert canvas.bounding_box() == before


@SIZES
def test_everything_can_be_marked_from_the_keyboard(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    status, chips = ann.page.locator("#prompter .up-status"), ann.page.locator("#prompter .up-chip")
    keys = Keys(ann)
    keys.go(*RED)
    keys.press("Enter")
    expect(chips).to_have_count(1)
    keys.go(150, 80)
    beside = (keys.x - 1, keys.y - 2)
    grey = ann.pixel(*beside)
    keys.press("n")
    assert np.abs(ann.pixel(*beside) - grey).sum() > 100  # the dot of what is excluded

    keys.press("o")
    keys.go(200, 120)
    keys.press("r")
    expect(status).to_have_text("Arrows draw, Enter sets it, Escape drops it.")
    keys.go(280, 200)
    keys.press("Escape")  # no box after all
    expect(status).to_have_text("")
    keys.press("r")
    keys.go(200, 120)
    ann.picture(f"keys-box-{width}")
    keys.press("Enter")
    expect(chips).to_have_count(2)

    keys.press("o", "b")
    keys.go(90, 185)
    keys.press("Enter")
    keys.go(90, 225)
    keys.go(170, 225)  # most of the stroke is on the ground beside the star
    keys.press("Enter", "e")
    keys.go(90, 218)
    keys.press("Enter")
    keys.go(170, 218)
    keys.go(90, 228)
    keys.go(170, 228)
    ann.picture(f"keys-stroke-{width}")
    keys.press("]")  # another key sets what is drawn where it was drawn
    expect(ann.page.locator("#prompter .up-count")).to_have_text("2 / 8")
    expect(chips).to_have_count(3)
    for name, question in (("red circle", "@1"), ("blue square", "@2"), ("yellow star", "@3")):
        ann.ask(f"What is {question}?")
        assert ann.answer() == f"{question} is a {name}."


@SIZES
def test_stop_keeps_what_was_said(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    ann.ask("Talk for long", wait=False)
    expect(ann.page.locator("#chat .bot")).to_contain_text("word word word")
    ann.page.locator("#stop").click()
    expect(ann.page.locator("#send")).to_be_visible(timeout=1000)
    expect(ann.page.locator("#chat .bot")).to_contain_text("Stopped.")
    assert 10 < len(ann.answer()) < 900
    ann.ask("Segment the blue square")
    assert ann.answer() == "It is @1."


@SIZES
def test_failures_are_said_in_the_page_and_give_the_question_back(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    box, notice = ann.page.locator("#question textarea"), ann.page.locator("#notice")
    refused = ann.page.locator("#chat .bot [role=alert]")
    ann.ask("What is this?", wait=False)
    expect(refused).to_have_text("Upload a picture or video first.")
    ann.page.wait_for_timeout(1500)  # nothing comes after it
    expect(refused).to_have_text("Upload a picture or video first.")
    expect(box).to_have_value("What is this?")
    ann.page.locator("#prompter input[type=file]").first.set_input_files(files / "broken.mp4")
    expect(notice.locator("[role=alert]")).to_be_visible()
    ann.settle()
    ann.open(files / "scene.png", 1)
    for question, reason in (("What is @7?", "no object @7"), ("This is broken", "went wrong")):
        ann.ask(question, wait=False)
        expect(refused).to_contain_text(reason)
        expect(box).to_have_value(question)
        expect(ann.page.locator("#chat .user")).to_have_count(0)  # nothing was asked
    ann.picture(f"refused-{width}")
    ann.click(*RED)
    ann.ask("What is @1?")
    assert ann.answer() == "@1 is a red circle."
    expect(refused).to_have_count(0)
    expect(notice).to_be_hidden()


@SIZES
def test_what_people_type_stays_text(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    nasty = "<img src=x onerror=\"document.title='XSS'\"> **b** # h $x^2$ [a](https://example.invalid) ![i](https://example.invalid/i)"
    ann.click(*RED)
    ann.ask(f"{nasty} @1")
    said = ann.page.locator("#chat .user .up-said").last
    assert said.inner_text() == f"{nasty} @1"
    assert said.locator("img, a, b, strong, h1, .katex").count() == 0
    name = ann.page.locator("#objects .up-name")
    name.fill("<b>ball</b>")
    name.press("Enter")
    expect(ann.page.locator("#prompter .up-chip")).to_have_text("@1 <b>ball</b>")
    assert ann.page.title() == "UniPixel"


@SIZES
def test_objects_are_selected_deleted_and_reset_everywhere(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    ann.ask("Segment the blue square")
    rows, chips = ann.page.locator("#objects .up-item"), ann.page.locator("#prompter .up-chip")
    expect(rows).to_have_count(2)
    ann.page.locator("#chat .up-ref-2").first.click()
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    rows.nth(0).locator(".up-id").click()
    expect(chips.nth(0)).to_have_attribute("aria-pressed", "true")
    rows.nth(0).locator(".up-delete").click()
    expect(rows).to_have_count(1)
    expect(chips).to_have_text(["@2"])
    expect(ann.page.locator("#chat .up-ref-1")).to_have_count(0)
    ann.page.locator("#reset").click()
    expect(ann.page.locator("#prompter .up-empty")).to_be_visible()
    expect(rows).to_have_count(0)
    expect(ann.page.locator("#chat .bot")).to_have_count(0)


@SIZES
def test_an_example_brings_its_marks_and_its_question(visit: Visitor, width: int) -> None:
    ann = visit(width, 800)
    card = ann.page.locator("#gallery button").first
    card.scroll_into_view_if_needed()
    card.click()
    expect(ann.page.locator("#prompter .up-chip")).to_have_count(1)
    expect(ann.page.locator("#prompter canvas").first).to_be_in_viewport(ratio=0.9)
    expect(ann.page.locator("#question textarea")).to_have_value("What is @1?")
    ann.page.locator("#send").click()
    expect(ann.page.locator("#chat .bot .up-said").last).to_have_text("@1 is a red circle.")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_can_do_it_all(visit: Visitor, files: Path, theme: str) -> None:
    ann = visit(375, 800, theme=theme, touch=True)
    ann.open(files / "clip.mp4", 8)
    ann.page.touchscreen.tap(*ann.at(*RED))
    ann.settle()
    ann.ask("What is @1?")
    assert ann.answer() == "@1 is a red circle."
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= 375
    ann.picture(f"phone-{theme}")


@SIZES
def test_two_visitors_stay_apart(visit: Visitor, files: Path, width: int) -> None:
    ann, bob = visit(width), visit(width)
    ann.open(files / "clip.mp4", 8)
    bob.open(files / "scene.png", 1)
    ann.click(*RED)
    bob.click(*BLUE)
    ann.ask("What is @1?", wait=False)
    bob.ask("What is @1?")
    expect(ann.page.locator("#chat video")).to_be_visible()
    assert ann.answer() == "@1 is a red circle."
    assert bob.answer() == "@1 is a blue square."
    try:
        ann.page.reload(wait_until="domcontentloaded")
    except Error:  # a reload while the server still streams may be reported as aborted
        ann.page.goto(ann.url)
    expect(ann.page.locator("#prompter .up-empty")).to_be_visible()  # a new session
