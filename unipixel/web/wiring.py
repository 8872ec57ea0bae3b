"""Which handler answers which event of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from unipixel.web.handlers import Workspace
from unipixel.web.layout import Page
from unipixel.web.session import Session


def _owner(request: gr.Request) -> str:
    return request.session_hash or ""


def wire(demo: gr.Blocks, work: Workspace, page: Page) -> None:
    """Every event of the page and the handler that answers it."""
    _wire_media(demo, work, page)
    _wire_objects(work, page)
    _wire_tracking(work, page)
    _wire_dialogue(work, page)


# Events of the page are no API; its parts show what is going on themselves, so Gradio's own overlays stay away.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _wire_media(demo: gr.Blocks, work: Workspace, page: Page) -> None:
    def opened(event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.upload(_owner(request), event._data))

    def added(
        session: Session, value: dict[str, Any], event: gr.EventData, request: gr.Request
    ) -> dict[Component, Any]:
        return page.show(work.add(session, _owner(request), event._data.get("files"), value))

    def switched(
        session: Session, value: dict[str, Any], event: gr.EventData, request: gr.Request
    ) -> dict[Component, Any]:
        return page.show(work.switch(session, _owner(request), event._data.get("number"), value))

    def removed(
        session: Session, value: dict[str, Any], event: gr.EventData, request: gr.Request
    ) -> dict[Component, Any]:
        return page.show(work.remove(session, _owner(request), event._data.get("number"), value))

    def picked(event: gr.EventData, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.open_example(_owner(request), event._data.get("index")))

    def marked(session: Session, value: dict[str, Any]) -> dict[Component, Any]:
        return page.show(work.preview(session, value))

    def looked(session: Session, value: dict[str, Any]) -> None:
        work.look(session, value)

    def reset(request: gr.Request) -> dict[Component, Any]:
        return page.show(work.reset(_owner(request)))

    def unload(request: gr.Request) -> None:
        work.unload(_owner(request))

    inputs = [page.session, page.prompter]
    page.prompter.opened(opened, None, page.outputs, **_QUIET)
    page.prompter.added(added, inputs, page.outputs, trigger_mode="multiple", **_QUIET)
    page.prompter.switched(switched, inputs, page.outputs, trigger_mode="always_last", **_QUIET)
    page.prompter.removed(removed, inputs, page.outputs, **_QUIET)
    page.gallery.picked(picked, None, page.outputs, **_QUIET)
    # Only the newest marks count: while one preview is computed, the others wait as one.
    page.prompter.marked(marked, inputs, page.prompter, trigger_mode="always_last", concurrency_limit=4, **_QUIET)
    page.prompter.viewed(looked, inputs, None, trigger_mode="always_last", concurrency_limit=2, **_QUIET)
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


def _wire_tracking(work: Workspace, page: Page) -> None:
    def followed(session: Session, value: dict[str, Any], request: gr.Request) -> Iterator[dict[Component, Any]]:
        for patch in work.correct(session, _owner(request), value):
            yield page.show(patch)

    def filled(session: Session, value: dict[str, Any], request: gr.Request) -> Iterator[dict[Component, Any]]:
        for patch in work.every_frame(session, _owner(request), value):
            yield page.show(patch)

    def reverted(session: Session, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.revert(session, _owner(request)))

    inputs, everyone = [page.session, page.prompter], work.line.guests
    page.prompter.reverted(reverted, page.session, page.outputs, **_QUIET)
    page.prompter.followed(followed, inputs, page.outputs, concurrency_limit=everyone, trigger_mode="once", **_QUIET)
    page.prompter.filled(filled, inputs, page.outputs, concurrency_limit=everyone, trigger_mode="once", **_QUIET)


def _wire_dialogue(work: Workspace, page: Page) -> None:
    def begin(session: Session, question: str, value: dict[str, Any], request: gr.Request) -> dict[Component, Any]:
        return page.show(work.begin(session, _owner(request), question, value))

    def answer(
        session: Session, pending: str, value: dict[str, Any], request: gr.Request
    ) -> Iterator[dict[Component, Any]]:
        for patch in work.answer(session, _owner(request), pending, value):
            yield page.show(patch)

    def failed(session: Session, pending: str) -> dict[Component, Any]:
        return page.show(work.give_back(session, pending))

    def stop(request: gr.Request) -> None:
        work.stop(_owner(request))

    def retry(session: Session, value: dict[str, Any], request: gr.Request) -> dict[Component, Any]:
        return page.show(work.retry(session, _owner(request), value))

    def edit(session: Session, request: gr.Request) -> dict[Component, Any]:
        return page.show(work.edit(session, _owner(request)))

    # Taking the question is not queued: the page answers at once even when the model has a queue.
    at_once: dict[str, Any] = {"queue": False, "trigger_mode": "once", **_QUIET}
    sent = [page.question.submit, page.send.click]
    asked = gr.on(sent, begin, [page.session, page.question, page.prompter], page.outputs, **at_once)
    again = page.retry.click(retry, [page.session, page.prompter], page.outputs, **at_once)
    for begun in (asked, again):
        turn = begun.success(
            answer,
            [page.session, page.pending, page.prompter],
            page.outputs,
            concurrency_limit=work.line.guests,
            **_QUIET,
        )
        turn.failure(failed, [page.session, page.pending], page.outputs, queue=False, **_QUIET)
    page.edit.click(edit, page.session, page.outputs, **at_once)
    # Not Gradio's `cancels`: it would leave the model computing and lose what was said.
    page.stop.click(stop, None, None, queue=False, **_QUIET)
    page.prompter.halted(stop, None, None, queue=False, **_QUIET)
