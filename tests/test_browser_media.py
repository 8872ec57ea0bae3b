"""Several pictures and clips in one dialogue, in a real browser: add, switch, ask, go back by a name in the chat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import expect
from test_browser import BLUE, RED, SIZES, Visit, browser, files, url, visit

__all__ = ["browser", "files", "url", "visit"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.browser]
RED_COLOR, BLUE_COLOR = (220, 40, 40), (40, 80, 220)


def add(ann: Visit, *files: Path, thumbs: int) -> None:
    ann.page.locator("#prompter .up-add input").set_input_files(list(files))
    expect(ann.page.locator("#prompter .up-open")).to_have_count(thumbs)
    ann.settle()


def covered(ann: Visit, at: tuple[int, int], color: tuple[int, int, int]) -> bool:
    """Whether a mask lies over the place `at`, which has this colour itself."""
    return bool(abs(ann.pixel(*at) - color).sum() > 40)


@SIZES
def test_two_media_in_one_dialogue(visit: Callable[..., Visit], files: Path, width: int) -> None:
    ann = visit(width, 900, touch=width < 400)
    thumbs, about = ann.page.locator("#prompter .up-open"), ann.page.locator("#chat .up-about")
    ann.open(files / "scene.png", 1)
    ann.click(*RED)
    ann.ask("What is @1?")
    assert ann.answer() == "@1 is a red circle."
    expect(about).to_have_count(0)  # there is only one

    add(ann, files / "clip.mp4", thumbs=2)
    expect(thumbs.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(ann.page.locator("#prompter .up-count")).to_have_text("1 / 8")
    assert not covered(ann, RED, RED_COLOR)
    ann.click(*BLUE)
    expect(ann.page.locator("#prompter .up-chip")).to_have_text(["@2"])
    ann.ask("What is @2?")
    assert ann.answer() == "@2 is a blue square."
    expect(about).to_have_text(["Picture 1", "Video 2"])
    ann.picture(f"media-two-{width}")

    # The first one's name, clicked while the second is open, opens the first and selects the object.
    ann.page.locator("#chat .up-ref-1").first.click()
    expect(thumbs.nth(0)).to_have_attribute("aria-pressed", "true")
    expect(ann.page.locator("#prompter .up-chip")).to_have_text(["@1"])
    expect(ann.page.locator("#prompter .up-chip")).to_have_attribute("aria-pressed", "true")
    expect(ann.page.locator("#prompter .up-scrub")).to_be_hidden()
    ann.settle()
    assert covered(ann, RED, RED_COLOR)
    assert not covered(ann, BLUE, BLUE_COLOR)
    rows = ann.page.locator("#objects .up-item")
    expect(rows).to_have_count(2)
    expect(ann.page.locator("#objects .up-of")).to_have_text(["Picture 1", "Video 2"])
    ann.picture(f"media-back-{width}")

    # Asking about the second's object opens the second.
    ann.ask("And what is @2 again?")
    assert ann.answer() == "@2 is a blue square."
    expect(thumbs.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(ann.page.locator("#prompter .up-count")).to_have_text("1 / 8")
    ann.ask("Compare @1 with @2", wait=False)
    expect(ann.page.locator("#chat .bot [role=alert]")).to_contain_text("@1 is on Picture 1 and @2 on Video 2")
    expect(ann.page.locator("#question textarea")).to_have_value("Compare @1 with @2")
    ann.picture(f"media-refused-{width}")
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= width

    # Taken out, it takes its objects with it; what was said stays.
    ann.page.locator("#prompter .up-leave").nth(0).click()
    expect(thumbs).to_have_count(1)
    expect(rows).to_have_count(1)
    expect(ann.page.locator("#chat .up-ref-1")).to_have_count(0)
    expect(about.first).to_have_text("Picture 1 (removed)")
    expect(ann.page.locator("#prompter .up-leave")).to_be_hidden()


@SIZES
def test_what_was_begun_on_one_medium_waits_there(visit: Callable[..., Visit], files: Path, width: int) -> None:
    ann = visit(width, locale="zh-CN")
    thumbs, chips = ann.page.locator("#prompter .up-open"), ann.page.locator("#prompter .up-chip")
    ann.open(files / "clip.mp4", 8)
    ann.page.locator("#prompter .up-frame").fill("5")
    ann.click(RED[0] + 30, RED[1])
    assert covered(ann, (RED[0] + 30, RED[1]), RED_COLOR)
    add(ann, files / "scene.png", files / "clip.mp4", thumbs=3)
    expect(thumbs.nth(1)).to_have_attribute("aria-label", "打开图片 2")
    expect(chips).to_have_count(0)
    ann.click(*BLUE)
    expect(chips).to_have_text(["@2"])  # @1 waits on the first

    thumbs.nth(0).press("Enter")
    expect(thumbs.nth(0)).to_have_attribute("aria-pressed", "true")
    expect(thumbs.nth(0)).to_be_focused()
    expect(chips).to_have_text(["@1"])
    expect(ann.page.locator("#prompter .up-count")).to_have_text("6 / 8")
    ann.settle()
    assert covered(ann, (RED[0] + 30, RED[1]), RED_COLOR)
    ann.page.locator("#prompter [data-act=undo]").click()
    expect(ann.page.locator("#prompter [data-act=follow]")).to_be_hidden()
    ann.page.locator("#prompter [data-act=redo]").click()
    expect(ann.page.locator("#prompter [data-act=follow]")).to_be_visible()

    # A question about what is marked elsewhere takes its marks along.
    ann.ask("What is @2?")
    assert ann.answer() == "@2 is a blue square."
    expect(thumbs.nth(2)).to_have_attribute("aria-pressed", "true")
    ann.picture("media-three-1440")
