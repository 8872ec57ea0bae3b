"""The page's own widgets: `gr.HTML` with a template, a style and a script each.

Server to browser are props (`media`, `objects`, ...), browser to server are `value` and events, which are named in the
scripts: `prompter().opened(...)` listens to what `prompter.js` calls "opened". Gradio takes every quoted word of a
script for an event, so the scripts never quote the name of a prop.

These are functions, not subclasses: Gradio writes a stub file beside every component class it meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

_FOLDER = Path(__file__).parent


# The prompter's script in reading order; the parts share one scope.
_PROMPTER = ("state", "marks", "view", "draw", "pointer", "keyboard", "frames", "buttons", "album", "upload", "sync")


def _widget(stem: str, parts: Sequence[str] = (), **props: Any) -> gr.HTML:
    """A `gr.HTML` made of the files `stem.html`, `stem.css` and `stem.js` (or, joined, the `parts` of its folder)."""
    template, style = ((_FOLDER / f"{stem}.{kind}").read_text("utf-8") for kind in ("html", "css"))
    scripts = [_FOLDER / stem / f"{part}.js" for part in parts] or [_FOLDER / f"{stem}.js"]
    script = "\n".join(path.read_text("utf-8") for path in scripts)
    return gr.HTML(
        html_template=template,
        css_template=style,
        js_on_load=script,
        apply_default_css=False,
        elem_id=stem,
        **props,
    )


def prompter(palette: list[str]) -> gr.HTML:
    """The canvas: shows frames and masks, and collects points, boxes and strokes for objects on any frame.

    Props: `album` (all media of the dialogue), `media` (the open one, see `patch`), `objects` of its bank, `overlays`
    and `preview` (mask pictures), `stamp` of the bank's last change, `next_id` for a new object, `palette` for its
    colour, `refused` (why a file was not opened), `filling` (how far masks on every frame are), `film` (the clip with
    them), `revertible` (whether a correction can be undone).
    Its value is `{"media_id", "frame", "active", "rev", "hidden", "marks", "elsewhere"}`, the marks as a JSON string
    (see `marks`), `elsewhere` those left on the other media by their ids.
    Events: "opened" (a file was uploaded for a new dialogue), "added" (files for this one), "switched" and "removed"
    (of a medium), "marked" (marks changed), "viewed" (a frame has been in view for a moment), "followed" (new marks
    shall be tracked), "reverted" (the last correction is to be undone), "filled" (masks on every frame are wanted),
    "halted" (stop that).
    """
    empty: dict[str, Any] = {"album": [], "media": None, "objects": [], "overlays": {}, "preview": None}
    late: dict[str, Any] = {"refused": None, "film": None, "filling": None, "stamp": 0, "revertible": False}
    return _widget("prompter", _PROMPTER, palette=palette, next_id=1, **empty, **late)


def header(model: str, words: Mapping[str, str]) -> gr.HTML:
    """The top of the page, with the name of the model and the switches; `words` are texts in the other language."""
    return _widget("header", ("words", "chat"), model=model, words=dict(words))


def object_list() -> gr.HTML:
    """The remembered objects (prop `items`, see `render.object_items`). Events: "renamed", "deleted", "cleared"."""
    return _widget("objects", ("list", "mention"), items=[])


def example_strip(items: list[dict[str, str]]) -> gr.HTML:
    """Thumbnails of the examples: `{"title", "thumb"}` each. Event: "picked"."""
    return _widget("gallery", items=items)
