"""Draw the README's pictures of the page: nano serves it, the system's Chromium shows it (needs playwright).

PYTHONPATH=. python examples/make_screenshots.py [FOLDER]
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def open_page(browser: Browser, url: str, width: int, height: int, theme: str = "light") -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#gallery button").first.wait_for()
    return page


def take_example(page: Page, number: int) -> None:
    page.locator("#gallery button").nth(number).click()
    expect(page.locator("#prompter .up-empty")).to_be_hidden()
    expect(page.locator("#prompter .up-waiting")).to_have_count(0)


def click_picture(page: Page, across: float, down: float) -> None:
    """Click a place of the picture, given as parts of its width and height (4:3, letterboxed in the canvas)."""
    box = page.locator("#prompter canvas").bounding_box()
    assert box is not None
    width = min(box["width"], box["height"] * 4 / 3)
    left, top = box["x"] + (box["width"] - width) / 2, box["y"] + (box["height"] - width * 3 / 4) / 2
    page.mouse.click(left + across * width, top + down * width * 3 / 4)
    page.locator("#prompter [data-act=follow]").wait_for()


def ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#send").click()
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#chat video").last).to_be_visible()


def draw(url: str, folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = open_page(browser, url, 1440, 960)
        take_example(page, 0)
        ask(page, "What is @1?")
        page.locator("#prompter [data-act=new]").click()
        click_picture(page, 0.848, 0.55)
        page.locator("#prompter [data-act=follow]").click()
        expect(page.locator("#objects .up-item")).to_have_count(2)
        expect(page.locator("#send")).to_be_visible()
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / "page.png")
        page.locator("#prompter .up-strip").first.locator("i").nth(9).click(force=True)
        page.wait_for_timeout(500)
        page.locator("#prompter").screenshot(path=folder / "timeline.png")
        for name, theme in (("phone.png", "light"), ("phone-dark.png", "dark")):
            phone = open_page(browser, url, 375, 800, theme)
            take_example(phone, 0)
            phone.wait_for_timeout(1500)
            ask(phone, "What is @1?")
            phone.screenshot(path=folder / name, full_page=True)
        browser.close()


if CHROMIUM is None:
    sys.exit("There is no Chromium or Chrome on this machine.")
target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "assets")
target.mkdir(parents=True, exist_ok=True)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
options = ["--host", "127.0.0.1", "--port", str(port)]
server = subprocess.Popen([sys.executable, "app.py", *options], cwd=ROOT)
try:
    address = f"http://127.0.0.1:{port}/"
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{address}health", timeout=2) as answer:
                if json.load(answer)["loaded"]:
                    break
        except OSError:
            pass
        time.sleep(0.5)
    draw(address, target)
finally:
    server.terminate()
