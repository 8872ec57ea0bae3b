"""The page's tools in a real browser: timeline, correction, zoom, other masks, ledger, asking again, languages."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import Locator, expect
from test_browser import BLUE, RED, SIZES, Visit, Visitor, browser, files, url, visit

from unipixel.web.turns import FULL

__all__ = ["browser", "files", "url", "visit"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def act(page: Visit, name: str) -> Locator:
    return page.page.locator(f"#prompter [data-act={name}]")


def follow(page: Visit) -> None:
    """Press Track or Correct and wait until it is done."""
    act(page, "follow").click()
    expect(act(page, "follow")).to_be_hidden()
    expect(page.page.locator("#send")).to_be_visible()


def show_frame(page: Visit, number: int) -> None:
    """Click frame `number` (from 1) in the first object's strip."""
    page.page.locator("#prompter .up-strip").first.locator("i").nth(number - 1).click(force=True)
    expect(page.page.locator("#prompter .up-count")).to_have_text(f"{number} / 8")
    page.settle()


def painted(page: Visit, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a place that is `color` in the picture shows another colour, that of a mask over it."""
    return np.abs(page.pixel(x, y) - np.array(color)).sum() > 40


RED_COLOR, BLUE_COLOR, GREY = (220, 40, 40), (40, 80, 220), (120, 125, 135)


@SIZES
def test_a_dip_is_found_on_the_timeline_and_corrected_there(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.ask("Segment the blue square")
    strip = ann.page.locator("#prompter .up-strip")
    expect(strip.locator("i")).to_have_count(8)
    expect(strip.locator(".up-unsure")).to_have_count(1)
    ann.page.locator("#prompter .up-dip").click()
    expect(ann.page.locator("#prompter .up-count")).to_have_text("6 / 8")
    # On the third frame the circle is taken in, on all frames as nothing is held yet.
    show_frame(ann, 3)
    ann.click(RED[0] + 12, RED[1])
    follow(ann)
    expect(strip.locator(".up-anchor")).to_have_count(1)
    show_frame(ann, 8)
    assert painted(ann, RED[0] + 42, RED[1], RED_COLOR)
    # On the sixth it is taken out again: from there to the end, and back to the third, which stays.
    show_frame(ann, 6)
    assert painted(ann, RED[0] + 30, RED[1], RED_COLOR)
    ann.click(RED[0] + 30, RED[1], button="right")  # a lone excluding click
    expect(act(ann, "follow")).to_have_text("Correct")
    follow(ann)
    expect(strip.locator(".up-anchor")).to_have_count(2)
    for number, wanted in ((1, True), (3, True), (4, False), (6, False), (8, False)):
        show_frame(ann, number)
        assert painted(ann, RED[0] + 6 * (number - 1), RED[1] - 20, RED_COLOR) == wanted, number  # beside the marks
        assert painted(ann, BLUE[0], BLUE[1] - 3 * (number - 1), BLUE_COLOR), number
    ann.picture(f"timeline-{width}")
    act(ann, "revert").click()
    expect(strip.locator(".up-anchor")).to_have_count(1)
    ann.settle()
    assert painted(ann, RED[0] + 42, RED[1] - 20, RED_COLOR)


@SIZES
def test_an_object_is_marked_as_not_here(visit: Visitor, files: Path, width: int) -> None:
    touch = width < 500
    ann = visit(width, touch=touch)
    ann.open(files / "clip.mp4", 8)
    not_here, badge = act(ann, "absent"), ann.page.locator("#prompter .up-badge")
    expect(not_here).to_be_hidden()
    ann.click(*RED)
    expect(not_here).to_be_hidden()  # it is marked here, and nowhere else yet
    follow(ann)
    cells = ann.page.locator("#prompter .up-strip i")
    side = {number: (RED[0] + 6 * (number - 1), RED[1] - 20) for number in range(1, 9)}  # in the circle, off the mark

    def shows(number: int) -> bool:
        return painted(ann, *side[number], RED_COLOR)

    show_frame(ann, 4)
    assert shows(4)
    not_here.tap() if touch else not_here.click()
    expect(badge).to_have_text("@1 not here")
    expect(not_here).to_have_attribute("aria-pressed", "true")
    ann.settle()
    assert not shows(4)
    ann.picture(f"not-here-{width}")
    canvas = ann.page.locator("#prompter canvas")
    for key, badges in (("z", 0), ("Shift+Z", 1), ("h", 0), ("h", 1)):  # undone, redone, taken back, said again
        canvas.press(key)
        expect(badge).to_have_count(badges)
        ann.settle()
        assert shows(4) != bool(badges), key
    show_frame(ann, 5)
    expect(badge).to_have_count(0)
    assert shows(5)
    show_frame(ann, 4)
    expect(act(ann, "follow")).to_have_text("Correct")
    follow(ann)
    expect(cells.nth(3)).to_have_class("up-absent up-anchor")
    for number in (3, 4, 5):
        show_frame(ann, number)
        assert shows(number) == (number != 4)
    expect(ann.page.locator("#objects .up-seen").first).to_contain_text("frames 1–3, 5–8")
    ann.page.locator(".up-language").click()
    show_frame(ann, 4)
    expect(badge).to_have_text("@1 不在此帧")
    expect(not_here).to_have_text("不在此帧")
    ann.picture(f"not-here-done-{width}")
    act(ann, "revert").click()
    expect(cells.nth(3)).to_have_class("up-visible")
    ann.settle()
    assert shows(4)


@SIZES
def test_objects_are_tracked_without_a_question(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    for name, frames, label in (("scene.png", 1, "Keep mask"), ("clip.mp4", 8, "Track")):
        ann.page.locator("#prompter input[type=file]").first.set_input_files(files / name)
        expect(ann.page.locator("#objects .up-item")).to_have_count(0)
        expect(ann.page.locator("#prompter .up-count")).to_have_text(f"1 / {frames}")
        ann.settle()
        expect(act(ann, "follow")).to_be_hidden()
        ann.click(*RED)
        expect(act(ann, "follow")).to_have_text(label)
        follow(ann)
        expect(ann.page.locator("#objects .up-item")).to_have_count(1)
    expect(ann.page.locator("#objects .up-seen")).to_contain_text("clicked")


@SIZES
def test_zoom_keeps_what_is_under_the_pointer(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    fit = act(ann, "fit")
    expect(fit).to_have_text("100 %")
    ann.page.mouse.move(*ann.at(*RED))
    ann.page.keyboard.down("Control")
    ann.page.mouse.wheel(0, -120)
    ann.page.keyboard.up("Control")
    expect(fit).not_to_have_text("100 %")
    place = ann.at(*RED)  # of the picture at rest
    ann.page.mouse.click(*place)
    ann.settle()
    ann.ask("What is @1?")
    assert ann.answer() == "@1 is a red circle."
    canvas = ann.page.locator("#prompter canvas")
    canvas.press("0")
    expect(fit).to_have_text("100 %")
    canvas.press("+")
    expect(fit).to_have_text("125 %")
    canvas.press("-")
    expect(fit).to_have_text("100 %")
    act(ann, "zoomIn").click()
    expect(fit).to_have_text("140 %")
    ann.page.locator("#prompter [data-tool=select]").click()
    edge = (160 + 107 * 1.4, 160 * 1.4 - 48)  # where the blue square's right side, at (267, 160), shows now
    assert not painted(ann, *edge, BLUE_COLOR)
    (x, y), (beside, _) = ann.at(160, 120), ann.at(161, 120)
    ann.page.mouse.move(x, y)
    ann.page.mouse.down()
    ann.page.mouse.move(x - 60, y - 40, steps=4)
    ann.page.mouse.up()
    ann.settle()
    scale = beside - x
    assert painted(ann, *edge, BLUE_COLOR)  # it was dragged along
    assert not painted(ann, edge[0] - 60 / scale, edge[1] - 40 / scale, BLUE_COLOR)
    expect(ann.page.locator("#prompter .up-chip")).to_have_count(1)  # dragging selected and marked nothing


def test_two_fingers_zoom_and_make_no_mark(visit: Visitor, files: Path) -> None:
    ann = visit(375, 800, touch=True)
    ann.open(files / "clip.mp4", 8)
    x, y = ann.at(160, 120)
    session = ann.page.context.new_cdp_session(ann.page)

    def touch(kind: str, spread: float) -> None:
        points = [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}] if spread else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for spread in (30, 45, 60):
        touch("touchMove", spread)
    touch("touchEnd", 0)
    expect(act(ann, "fit")).to_have_text(re.compile("^(2|3)[0-9][0-9] %$"))
    expect(ann.page.locator("#prompter .up-chip")).to_have_count(0)


@SIZES
def test_another_mask_of_an_ambiguous_click_can_be_taken(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    expect(act(ann, "other")).to_have_text("Other mask 1/2")
    assert not painted(ann, 20, 20, GREY)
    act(ann, "other").click()
    expect(act(ann, "other")).to_have_text("Other mask 2/2")
    ann.settle()
    assert painted(ann, 20, 20, GREY)
    follow(ann)
    ann.settle()
    assert painted(ann, 20, 20, GREY)  # the engine got the chosen mask, which is mostly grey
    assert not painted(ann, *RED, RED_COLOR) or ann.pixel(*RED)[0] > 150


@SIZES
def test_objects_are_hidden_shown_alone_and_selected_in_the_picture(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    ann.ask("Segment the blue square")
    rows = ann.page.locator("#objects .up-item")
    expect(rows).to_have_count(2)
    rows.nth(0).locator(".up-hide").click()
    ann.settle()
    assert not painted(ann, 50, 60, RED_COLOR)
    assert painted(ann, *BLUE, BLUE_COLOR)
    expect(ann.page.locator("#prompter .up-track")).to_have_count(1)
    rows.nth(0).locator(".up-hide").click()
    rows.nth(0).locator(".up-solo").click()
    ann.settle()
    assert painted(ann, 50, 60, RED_COLOR)
    assert not painted(ann, *BLUE, BLUE_COLOR)
    rows.nth(0).locator(".up-solo").click()
    ann.page.locator("#prompter [data-tool=select]").click()
    for place, row in ((BLUE, 1), ((50, 60), 0)):
        ann.page.mouse.click(*ann.at(*place))
        expect(rows.nth(row)).to_have_attribute("aria-current", "true")
    ann.page.locator("#chat .up-ref-2").first.press("Enter")  # by keyboard too
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    expect(ann.page.locator("#prompter .up-chip")).to_have_count(2)  # nothing was marked
    ann.picture(f"ledger-{width}")


@SIZES
def test_at_completes_the_names_of_objects(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "scene.png", 1)
    ann.click(*RED)
    ann.ask("What is @1?")
    ann.ask("Segment the blue square")
    name = ann.page.locator("#objects .up-name").nth(1)
    name.fill("the square")
    name.press("Enter")
    expect(ann.page.locator("#prompter .up-chip").nth(1)).to_have_text("@2 the square")
    box, options = ann.page.locator("#question textarea"), ann.page.locator("[role=listbox] [role=option]")
    box.press_sequentially("What is @")
    expect(options).to_have_count(2)
    box.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(options.nth(1)).to_be_in_viewport()
    box.press("Enter")
    expect(box).to_have_value("What is @2 ")
    expect(options.first).to_be_hidden()
    box.press_sequentially("or @squ")
    expect(options).to_have_count(1)
    box.press("Tab")
    expect(box).to_have_value("What is @2 or @2 ")
    box.press_sequentially("mail a@b")
    expect(options.first).to_be_hidden()
    assert ann.page.locator("#chat .user .up-said").count() == 2  # Enter in the list sent nothing


@SIZES
def test_a_question_is_asked_again_and_edited(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    asked = ann.page.locator("#chat .user .up-said")
    expect(ann.page.locator("#retry")).to_be_hidden()
    ann.ask("Segment the blue square")
    drawn = ann.page.locator("#chat .bot").locator("img, video").last  # a turn ends with its file
    expect(drawn).to_be_visible()
    first = drawn.get_attribute("src") or ""
    ann.page.locator("#retry").click()
    expect(drawn).not_to_have_attribute("src", first)
    expect(ann.page.locator("#chat .bot .up-said")).to_have_text("It is @1.")  # the same id, not the next
    expect(asked).to_have_count(1)
    ann.page.locator("#edit").click()
    box = ann.page.locator("#question textarea")
    expect(box).to_have_value("Segment the blue square")
    expect(ann.page.locator("#notice")).to_contain_text("replaces")
    box.fill("Segment the red circle")
    ann.page.locator("#send").click()
    expect(asked).to_have_text(["Segment the red circle"])
    expect(ann.page.locator("#send")).to_be_visible()
    expect(ann.page.locator("#objects .up-item")).to_have_count(1)
    ann.settle()
    assert painted(ann, *RED, RED_COLOR)
    assert not painted(ann, *BLUE, BLUE_COLOR)


@SIZES
def test_asking_again_keeps_what_was_marked(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    ann.page.locator("#retry").click()
    expect(ann.page.locator("#stop")).to_be_visible()
    expect(ann.page.locator("#send")).to_be_visible()
    expect(ann.page.locator("#chat .bot .up-said")).to_have_text("@1 is a red circle.")
    expect(ann.page.locator("#objects .up-item")).to_have_count(1)


@SIZES
def test_frames_in_an_answer_lead_to_the_frame(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.ask("When is it seen?")
    links = ann.page.locator("#chat .bot .up-at")
    expect(links).to_have_text(["3", "6"])
    links.nth(1).click()
    expect(ann.page.locator("#prompter .up-count")).to_have_text("6 / 8")
    links.nth(0).press("Enter")
    expect(ann.page.locator("#prompter .up-count")).to_have_text("3 / 8")


@SIZES
def test_every_frame_plays_in_the_page_and_can_be_cancelled(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    expect(act(ann, "every")).to_be_hidden()
    ann.click(*RED)
    follow(ann)
    act(ann, "every").click()
    film = ann.page.locator("#prompter .up-film")
    expect(film).to_be_visible()
    ann.page.wait_for_function("document.querySelector('#prompter .up-film').currentTime > 0.2")
    length, across = film.evaluate("video => [video.duration, video.videoWidth]")
    assert (round(length, 1), across) == (1.0, 320)  # the clip's own eight frames in a second
    ann.picture(f"film-{width}")
    act(ann, "back").click()
    expect(film).to_be_hidden()
    act(ann, "every").click()
    act(ann, "halt").click()
    expect(ann.page.locator("#notice")).to_contain_text("Stopped.")
    expect(film).to_be_hidden()


def test_two_at_once_stay_apart_and_a_closed_tab_frees_the_model(visit: Visitor, files: Path) -> None:
    ann, bob = visit(), visit(375)
    ann.open(files / "clip.mp4", 8)
    bob.open(files / "scene.png", 1)
    ann.click(*RED)
    bob.click(*BLUE)
    act(ann, "follow").click()
    act(bob, "follow").click()
    for page in (ann, bob):
        expect(page.page.locator("#objects .up-item")).to_have_count(1)
        page.settle()
    assert painted(ann, 50, 60, RED_COLOR)
    assert not painted(bob, 50, 60, RED_COLOR)
    assert painted(bob, BLUE[0] + 15, BLUE[1] + 15, BLUE_COLOR)
    ann.ask("Talk for long", wait=False)
    expect(ann.page.locator("#chat .bot")).to_contain_text("word word")
    bob.ask("What is @1?", wait=False)
    expect(bob.page.locator("#chat .bot")).to_contain_text("Waiting for one other question")
    ann.page.close()
    expect(bob.page.locator("#chat .bot .up-said")).to_have_text("@1 is a blue square.")


@SIZES
def test_who_finds_the_queue_full_is_told_and_may_try_again(visit: Visitor, files: Path, width: int) -> None:
    ann, bob, cleo = visit(), visit(), visit(width)
    for page in (ann, bob, cleo):
        page.open(files / "scene.png", 1)
    cleo.click(*BLUE)
    ann.ask("Talk for long", wait=False)
    expect(ann.page.locator("#chat .bot")).to_contain_text("word word")
    bob.ask("Segment the blue square", wait=False)
    expect(bob.page.locator("#chat .bot")).to_contain_text("Waiting for one other question")
    cleo.ask("What is @1?", wait=False)
    expect(cleo.page.locator("#chat .bot [role=alert]")).to_have_text(FULL)
    expect(cleo.page.locator("#question textarea")).to_have_value("What is @1?")
    expect(cleo.page.locator("#prompter .up-chip")).to_have_text(["@1"])  # what was marked is there too
    cleo.picture(f"full-{width}")
    ann.page.locator("#stop").click()
    expect(bob.page.locator("#chat .bot .up-said")).to_have_text("It is @1.")
    expect(bob.page.locator("#send")).to_be_visible()
    cleo.page.locator("#send").click()
    expect(cleo.page.locator("#chat .bot .up-said")).to_have_text("@1 is a blue square.")


LEFT_IN_ENGLISH = "|".join(
    [
        "UniPixel",
        "English",
        "Shift",
        "fake",
        "Segment the blue star",
        "Follow the blue square",
        "What is the marked object",
        "%",
        "@",
    ]
)
# Words in Latin letters that somebody sees. Gradio keeps its own "processing" in the page, fully transparent, and its
# player says "NaN" until it knows how long a clip is: so the test waits for none instead of looking once.
FOREIGN = """(left) => {
    const walker = document.createTreeWalker(document.querySelector('.gradio-container'), NodeFilter.SHOW_TEXT);
    const seen = {opacityProperty: true, visibilityProperty: true};
    const found = [];
    while (walker.nextNode()) {
        const [text, parent] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
        if (!parent.checkVisibility(seen) || parent.closest('.up-said, style, script, [translate=no]')) continue;
        if (/[A-Za-z]{2}/.test(text) && !new RegExp(left).test(text)) found.push(text);
    }
    return found;
}"""


@SIZES
def test_the_keys_can_be_looked_up(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width, 667)
    ann.open(files / "scene.png", 1)
    canvas, keys = ann.page.locator("#prompter canvas"), ann.page.locator("#prompter .up-keys")
    expect(keys).to_be_hidden()
    canvas.press("?")
    expect(keys).to_be_visible()
    box = keys.bounding_box()
    assert box is not None
    assert min(box["x"], box["y"]) >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= 667
    ann.picture(f"keys-{width}")
    ann.page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    ann.page.locator("#prompter [popovertarget]").click()
    expect(keys).to_be_visible()


def untranslated(ann: Visit) -> list[str]:
    """What the page shows in English although its visitor reads Chinese, once it has come to rest."""
    found: list[str] = []
    for _ in range(20):
        found = ann.page.evaluate(FOREIGN, LEFT_IN_ENGLISH)
        if not found:
            break
        ann.page.wait_for_timeout(500)
    return found


@SIZES
def test_the_page_speaks_chinese_where_the_browser_does(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width, locale="zh-CN")
    expect(ann.page.locator("#send")).to_have_text("发送")
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    follow(ann)
    ann.ask("Segment the blue square")
    ann.ask("", wait=False)
    expect(ann.page.locator("#chat [role=alert]")).to_contain_text("请输入问题")
    assert untranslated(ann) == []
    ann.page.locator("#prompter canvas").press("?")
    expect(ann.page.locator("#prompter .up-keys h3")).to_have_text("画面上的按键")
    assert untranslated(ann) == []
    ann.page.keyboard.press("Escape")
    assert ann.page.evaluate("document.documentElement.lang") == "zh-CN"
    ann.page.locator("[data-act=language]").click()
    expect(ann.page.locator("#send")).to_have_text("Send")
    expect(ann.page.locator("#objects h2")).to_have_text("Objects")


@SIZES
def test_what_a_screen_reader_says_is_words(visit: Visitor, files: Path, width: int) -> None:
    ann = visit(width)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    labels = ann.page.eval_on_selector_all("[aria-label]", "nodes => nodes.map((node) => node.ariaLabel)")
    assert not [label for label in labels if "<" in label or "&#" in label]
    assert any("What is @1?" in label for label in labels)
    unnamed = """nodes => nodes.filter((node) => node.checkVisibility() && !node.textContent.trim() && !node.ariaLabel
        && !node.title && !(node.labels || []).length && !node.placeholder).map((node) => node.outerHTML)"""
    assert ann.page.eval_on_selector_all(".up-card button, .up-card input, .up-card textarea", unnamed) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1920])
def test_texts_can_be_read_and_fit(visit: Visitor, files: Path, theme: str, width: int) -> None:
    ann = visit(width, theme=theme)
    ann.open(files / "clip.mp4", 8)
    ann.click(*RED)
    ann.ask("What is @1?")
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= width
    assert ann.page.evaluate(CONTRAST) == []
    ann.picture(f"{theme}-{width}")
    ann.page.locator("#prompter canvas").press("?")
    assert ann.page.evaluate(CONTRAST) == []


# Texts whose contrast to what lies behind them is below WCAG AA (4.5; 3 for large text).
CONTRAST = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
    const behind = (node) => {
        const layers = [];
        for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const light = (color) => {
        const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = color.map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(document.querySelector('.gradio-container'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        if (!text || !node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        if (node.closest('style, script, :disabled, .sr-only')) continue;
        const style = getComputedStyle(node);
        const ground = behind(node);
        const [a, b] = [light(over(rgba(style.color), ground)), light(ground)].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < (large ? 3 : 4.5)) found.push(`${text}: ${ratio.toFixed(2)}`);
    }
    return found;
}"""
