"""The page's own widgets: `gr.HTML` with a template, a style and a script each.

Server to browser are props (`media`, `objects`, ...), browser to server are `value` and events, which are named in the
scripts: `prompter().opened(...)` listens to what `prompter.js` calls "opened". Gradio takes every quoted word of a
script for an event, so the scripts never quote the name of a prop.

These are functions, not subclasses: Gradio writes a stub file beside every component class it meets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_FOLDER = Path(__file__).parent


def _widget(stem: str, **props: Any) -> gr.HTML:
    """A `gr.HTML` made of the files `stem.html`, `stem.css` and `stem.js`."""
    template, style, script = ((_FOLDER / f"{stem}.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
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

    Props: `media` (see `handlers`), `objects` of the bank, `overlays` and `preview` (mask pictures), `next_id` for a
    new object, `palette` for its colour, `refused` (why a file was not opened).
    Its value is `{"media_id", "frame", "active", "rev", "marks"}` with the marks as a JSON string (see `marks`).
    Events: "opened" (a file was uploaded), "marked" (marks changed).
    """
    empty: dict[str, Any] = {"media": None, "objects": [], "overlays": {}, "preview": None, "refused": None}
    return _widget("prompter", palette=palette, next_id=1, **empty)


def object_list() -> gr.HTML:
    """The remembered objects (prop `items`, see `render.object_items`). Events: "renamed", "deleted", "cleared"."""
    return _widget("objects", items=[])


def example_strip(items: list[dict[str, str]]) -> gr.HTML:
    """Thumbnails of the examples: `{"title", "thumb"}` each. Event: "picked"."""
    return _widget("gallery", items=items)
