"""The page: layout, and which handler answers which event. What the handlers do is in `handlers`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from gradio.components import Component
from gradio.themes import Base, Soft
from gradio.utils import get_upload_folder
from starlette.routing import BaseRoute

from unipixel.media import load_media
from unipixel.web import api, embed, loading, log, render, takeaway
from unipixel.web.components import example_strip, object_list, prompter
from unipixel.web.examples import Example, find_examples
from unipixel.web.gpu import Engine, gpu_functions
from unipixel.web.handlers import Patch, Workspace
from unipixel.web.session import MediaStore, Session
from unipixel.web.turns import Line

_FOLDER = Path(__file__).parent

_ICON = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9"/>'
    '<path d="M8 8h7v7H8zM17 17h7v7h-7z"/><path class="up-soft" d="M17 8h7v7h-7zM8 17h7v7H8z"/></svg>'
)
_CHAT_START = (
    "**Point at something, then ask about it.**\n\n"
    "Marked objects are called @1, @2, … in questions and answers. "
    "Or name what you look for: *Segment the blue star.*"
)
EXAMPLES = Path(__file__).parents[2] / "assets" / "demo"


def build_demo(
    engine: Engine, *, examples: Sequence[Example] | None = None, max_frames: int = 16, line: Line | None = None
) -> gr.Blocks:
    """The page around `engine`, which may still be loading; each visitor has an own session. `launch` serves it."""
    answerer, previewer = log.log_calls(*gpu_functions(engine))
    folder = Path(get_upload_folder())
    work = Workspace(
        answerer,
        previewer,
        MediaStore(folder),
        folder,
        find_examples(EXAMPLES) if examples is None else tuple(examples),
        lambda path: load_media(path, max_frames),
        line or Line(),
    )
    # Files made for a session live in the upload folder; they must not be cleaned away under a long session.
    with gr.Blocks(title="UniPixel", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True) as demo:
        session, pending = gr.State(Session()), gr.State("")
        loading.add_loading_notice(demo, engine)
        parts = _layout(engine.name.rstrip("/").split("/")[-1], work)  # no server paths on the page
        page = Page(session=session, pending=pending, **parts)
        takeaway.add_panel(work, engine, page)
        _wire(demo, work, page)
        api.add_endpoints(work, engine)
    demo.queue(default_concurrency_limit=8, max_size=32, api_open=False)
    return demo


@dataclass(frozen=True, eq=False)
class Page:
    """The components that events read and change."""

    session: gr.State
    pending: gr.State
    prompter: gr.HTML
    objects: gr.HTML
    gallery: gr.HTML
    chat: gr.Chatbot
    notice: gr.HTML
    question: gr.Textbox
    send: gr.Button
    stop: gr.Button
    reset: gr.Button
    download: gr.DownloadButton

    @property
    def outputs(self) -> list[Component]:
        """Everything a `Patch` can change."""
        return [
            self.session,
            self.pending,
            self.prompter,
            self.objects,
            self.chat,
            self.notice,
            self.question,
            self.send,
            self.stop,
            self.download,
        ]

    def show(self, patch: Patch) -> dict[Component, Any]:
        """`patch` as updates of components; what it does not name stays as it is."""
        updates: dict[Component, Any] = {}
        plain = [
            (self.session, patch.session),
            (self.pending, patch.pending),
            (self.chat, patch.chat),
            (self.notice, patch.notice),
            (self.question, patch.question),
        ]
        updates.update((component, value) for component, value in plain if value is not None)
        if patch.canvas is not None:
            updates[self.prompter] = gr.HTML(**patch.canvas)
        if patch.objects is not None:
            updates[self.objects] = gr.HTML(items=patch.objects)
        if patch.download is not None:
            updates[self.download] = gr.DownloadButton(value=patch.download or None, visible=bool(patch.download))
        if patch.busy is not None:
            updates[self.send] = gr.Button(visible=not patch.busy)
            updates[self.stop] = gr.Button(visible=patch.busy)
        return updates


def _layout(model: str, work: Workspace) -> dict[str, Any]:
    gr.HTML(
        f'<header class="up-title">{_ICON}<h1>UniPixel</h1><p>Point at anything. Ask about it.</p>'
        f'<span class="up-model" title="The model that answers">{render.literal(model)}</span></header>'
    )
    with gr.Row(elem_classes="up-columns"):
        with gr.Column(scale=7, min_width=320, elem_classes="up-left"):
            with gr.Column(elem_classes="up-card"):
                canvas = prompter(render.palette())
            with gr.Column(elem_classes="up-card"):
                objects = object_list()
        with (
            gr.Column(scale=5, min_width=320, elem_classes="up-right"),
            gr.Column(elem_classes="up-card up-talk"),
        ):
            chat = _chatbot()
            notice = gr.HTML(elem_id="notice")
            with gr.Row(elem_classes="up-ask"):
                question = gr.Textbox(
                    placeholder="Ask about @1, or name what to find",
                    label="Question",
                    show_label=False,
                    container=False,
                    lines=1,
                    max_lines=5,
                    scale=6,
                    min_width=120,
                    elem_id="question",
                )
                send = gr.Button("Send", variant="primary", scale=0, min_width=84, elem_id="send")
                stop = gr.Button("Stop", variant="stop", scale=0, min_width=84, visible=False, elem_id="stop")
            with gr.Row(elem_classes="up-after"):
                download = gr.DownloadButton(
                    "Save masks", size="sm", visible=False, scale=0, min_width=110, elem_id="download"
                )
                reset = gr.Button("Reset", size="sm", scale=0, min_width=80, elem_id="reset")
    gallery = example_strip(_gallery_items(work))
    return {
        "prompter": canvas,
        "objects": objects,
        "gallery": gallery,
        "chat": chat,
        "notice": notice,
        "question": question,
        "send": send,
        "stop": stop,
        "reset": reset,
        "download": download,
    }


def _chatbot() -> gr.Chatbot:
    return gr.Chatbot(
        elem_id="chat",
        label="Dialogue",
        show_label=False,
        height="100%",
        layout="bubble",
        container=False,
        buttons=[],
        feedback_options=None,
        latex_delimiters=[],  # what people type is text, not formulas
        placeholder=_CHAT_START,
    )


def _gallery_items(work: Workspace) -> list[dict[str, str]]:
    items = []
    for example in work.examples:
        media = load_media(example.path, 1)
        items.append({"title": example.title, "thumb": render.picture_uri(media.frames[0], 320)})
    return items


def _owner(request: gr.Request) -> str:
    return request.session_hash or ""


def _wire(demo: gr.Blocks, work: Workspace, page: Page) -> None:
    _wire_media(demo, work, page)
    _wire_objects(work, page)
    _wire_dialogue(work, page)


# Events of the page are no API; its parts show what is going on themselves, so Gradio's own overlays stay away.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _wire_media(demo: gr.Blocks, work: Workspace, page: Page) -> None:
    def opened(event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.upload(_owner(request), event._data))

    def picked(event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.open_example(_owner(request), event._data.get("index")))

    def marked(session: Session, value: dict[str, Any]) -> dict[Component, Any]:
        return page.show(work.preview(session, value))

    def reset(request: gr.Request) -> dict[Component, Any]:
        return page.show(work.reset(_owner(request)))

    def unload(request: gr.Request) -> None:
        work.unload(_owner(request))

    page.prompter.opened(opened, None, page.outputs, **_QUIET)
    page.gallery.picked(picked, None, page.outputs, **_QUIET)
    # Only the newest marks count: while one preview is computed, the others wait as one.
    page.prompter.marked(
        marked, [page.session, page.prompter], page.prompter, trigger_mode="always_last", concurrency_limit=4, **_QUIET
    )
    page.reset.click(reset, None, page.outputs, queue=False, **_QUIET)
    demo.unload(unload)


def _wire_objects(work: Workspace, page: Page) -> None:
    def renamed(session: Session, event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        data = event._data
        return page.show(work.rename(session, _owner(request), data.get("id"), data.get("label")))

    def deleted(session: Session, event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.delete(session, _owner(request), event._data.get("id")))

    def cleared(session: Session, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.clear_objects(session, _owner(request)))

    page.objects.renamed(renamed, page.session, page.outputs, **_QUIET)
    page.objects.deleted(deleted, page.session, page.outputs, **_QUIET)
    page.objects.cleared(cleared, page.session, page.outputs, **_QUIET)


def _wire_dialogue(work: Workspace, page: Page) -> None:
    def begin(session: Session, question: str, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.begin(session, _owner(request), question))

    def answer(
        session: Session, pending: str, value: dict[str, Any], request: gr.Request
    ) -> Iterator[dict[Component, Any]]:
        for patch in work.answer(session, _owner(request), pending, value):
            yield page.show(patch)

    def failed(session: Session, pending: str) -> dict[Component, Any]:
        return page.show(work.give_back(session, pending))

    def stop(request: gr.Request) -> None:
        work.stop(_owner(request))

    # Taking the question is not queued: the page answers at once even when the model has a queue.
    asked = gr.on(
        [page.question.submit, page.send.click],
        begin,
        [page.session, page.question],
        page.outputs,
        queue=False,
        trigger_mode="once",
        **_QUIET,
    )
    turn = asked.success(
        answer,
        [page.session, page.pending, page.prompter],
        page.outputs,
        concurrency_limit=work.line.limit + 1,
        **_QUIET,
    )
    turn.failure(failed, [page.session, page.pending], page.outputs, queue=False, **_QUIET)
    # Not Gradio's `cancels`: it would leave the model computing and lose what was said.
    page.stop.click(stop, None, None, queue=False, **_QUIET)


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
