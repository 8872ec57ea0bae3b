"""The page: `build_demo` puts layout, handlers and events together, `launch` serves it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from gradio.themes import Base, Soft
from gradio.utils import get_upload_folder
from starlette.routing import BaseRoute

from unipixel.media import load_media
from unipixel.web import api, embed, loading, log, takeaway
from unipixel.web.examples import Example, find_examples
from unipixel.web.gpu import Engine, gpu_functions, track_functions
from unipixel.web.handlers import Workspace
from unipixel.web.layout import Page, lay_out
from unipixel.web.session import Session
from unipixel.web.store import MediaStore
from unipixel.web.turns import Line
from unipixel.web.wiring import wire

_FOLDER = Path(__file__).parent
EXAMPLES = Path(__file__).parents[2] / "assets" / "demo"


def build_demo(
    engine: Engine, *, examples: Sequence[Example] | None = None, max_frames: int = 16, line: Line | None = None
) -> gr.Blocks:
    """The page around `engine`, which may still be loading; each visitor has an own session. `launch` serves it."""
    answerer, previewer = gpu_functions(engine)
    tracker, filler = track_functions(engine)
    folder = Path(get_upload_folder())
    work = Workspace(
        answerer,
        log.log_previews(previewer),
        MediaStore(folder),
        folder,
        find_examples(EXAMPLES) if examples is None else tuple(examples),
        lambda path: load_media(path, max_frames),
        log.log_tracks(tracker),
        log.log_fills(filler),
        Line() if line is None else line,  # an empty line is false
    )
    # Files made for a session live in the upload folder; they must not be cleaned away under a long session.
    with gr.Blocks(title="UniPixel", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True) as demo:
        session, pending = gr.State(Session()), gr.State("")
        loading.add_loading_notice(demo, engine)
        parts = lay_out(engine.name.rstrip("/").split("/")[-1], work)  # no server paths on the page
        page = Page(session=session, pending=pending, **parts)
        takeaway.add_panel(work, engine, page)
        wire(demo, work, page)
        api.add_endpoints(work, engine)
    demo.queue(default_concurrency_limit=8, max_size=32, api_open=False)
    return demo


def launch(
    demo: gr.Blocks,
    *,
    host: str,
    port: int,
    share: bool = False,
    max_mb: int = 500,
    routes: Sequence[BaseRoute] = (),
    **options: Any,
) -> Any:
    """Serve `demo` and `routes` beside it; `options` go to `gr.Blocks.launch`."""
    return demo.launch(
        server_name=host,
        server_port=port,
        share=share,
        show_error=False,
        ssr_mode=False,  # clients cannot call ZeroGPU Spaces with it
        run_history=False,
        max_file_size=f"{max_mb}mb",
        footer_links=[],
        theme=_theme(),
        css_paths=[_FOLDER / "page.css", _FOLDER / "takeaway.css"],
        head=embed.HEAD,
        app_kwargs={"routes": [embed.component_route(), *routes]},
        **options,
    )


def _theme() -> Base:
    """System fonts only: the page asks no other host for anything."""
    fonts = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return Soft(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=mono)
