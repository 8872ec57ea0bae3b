"""What is on the page and where, and how a `Patch` becomes updates of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from unipixel.media import load_media
from unipixel.web import render
from unipixel.web.components import example_strip, header, object_list, prompter
from unipixel.web.handlers import Workspace
from unipixel.web.patch import Patch
from unipixel.web.words import CHINESE

_CHAT_START = (
    "**Point at something, then ask about it.**\n\n"
    "Marked objects are called @1, @2, … in questions and answers. "
    "Or name what you look for: *Segment the blue star.*"
)


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
    retry: gr.Button
    edit: gr.Button
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
            self.retry,
            self.edit,
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
        if patch.session is not None:
            asked = bool(patch.session.entries)
            updates |= {button: gr.Button(visible=asked) for button in (self.retry, self.edit)}
        if patch.busy is not None:
            updates[self.send] = gr.Button(visible=not patch.busy)
            updates[self.stop] = gr.Button(visible=patch.busy)
        return updates or {self.notice: gr.skip()}  # Gradio takes an empty dict for missing values


def lay_out(model: str, work: Workspace) -> dict[str, Any]:
    """Put everything on the page; returns its components by their names in `Page`."""
    header(model, CHINESE)
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
                stop = gr.Button(
                    "Stop", variant="stop", scale=0, min_width=84, elem_id="stop", elem_classes=["up-gone"]
                )
            with gr.Row(elem_classes="up-after"):
                retry = gr.Button("Ask again", size="sm", visible=False, scale=0, min_width=80, elem_id="retry")
                edit = gr.Button("Edit question", size="sm", visible=False, scale=0, min_width=80, elem_id="edit")
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
        "retry": retry,
        "edit": edit,
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
        group_consecutive_messages=False,  # why a question was refused is no part of the answer before it
        latex_delimiters=[],  # what people type is text, not formulas
        placeholder=_CHAT_START,
    )


def _gallery_items(work: Workspace) -> list[dict[str, str]]:
    items = []
    for example in work.examples:
        media = load_media(example.path, 1)
        items.append({"title": example.title, "thumb": render.picture_uri(media.frames[0], 320)})
    return items
