"""The "Take away" panel: results of the session as files, and objects brought back from an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from unipixel.export import FORMATS, load_bank
from unipixel.memory import ObjectMemoryBank
from unipixel.web import render
from unipixel.web.gpu import Engine
from unipixel.web.handlers import Workspace
from unipixel.web.marks import read_marks
from unipixel.web.patch import BUSY, Patch, refuse
from unipixel.web.results import DIALOGUE, HERE, SELECTED, Wish, prepare
from unipixel.web.session import Session
from unipixel.web.store import is_inside

if TYPE_CHECKING:
    from unipixel.web.layout import Page

SAMPLED, EVERY = "sampled", "every"
RENUMBERED = "Objects whose numbers are taken on another picture or video got new ones."


def bring_back(work: Workspace, session: Session, owner: str, canvas: Any, path: Any) -> Patch:
    """The page with the objects of a saved bank in place of the present ones."""
    try:
        if work.turns.busy(owner):
            raise ValueError(BUSY)
        stored = work.store.get(session.media_id)
        if not isinstance(path, str) or not is_inside(Path(path), work.upload_folder):
            raise ValueError("The file did not arrive; please try again.")
        session = work.noted(session, canvas)
        bank, notice = _renumbered(load_bank(_read_text(Path(path)), stored.media), session)
        # Numbers that were given out in this dialogue are never given out again.
        kept = replace(bank, retired=bank.retired | (session.bank.used_ids - set(bank)))
        # Marks of the same numbers that are still on the canvas belong to the objects before: they are done with.
        marks = read_marks(canvas, stored.media_id, stored.picture)
        done = {object_id: frames for object_id, frames in marks.digests.items() if object_id in kept}
        return replace(work.changed(session.with_loaded(kept, done)), notice=render.notice(notice))
    except ValueError as error:
        return refuse(str(error))
    finally:
        if isinstance(path, str) and is_inside(Path(path), work.upload_folder):
            Path(path).unlink(missing_ok=True)


def _renumbered(bank: ObjectMemoryBank, session: Session) -> tuple[ObjectMemoryBank, str]:
    """`bank` with new numbers for objects whose own are taken on another medium of the dialogue, and a word on that."""
    taken = session.bank.used_ids | session.current.drafts | bank.used_ids
    objects = []
    for known in bank.objects:
        if known.object_id in session.elsewhere:
            known = replace(known, object_id=ObjectMemoryBank(retired=taken).next_id())
            taken |= {known.object_id}
        objects.append(known)
    objects.sort(key=lambda known: known.object_id)
    renumbered = replace(bank, objects=tuple(objects), retired=bank.retired - {known.object_id for known in objects})
    return renumbered, RENUMBERED if set(renumbered) != set(bank) else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ValueError("This is not a memory file of UniPixel.") from None


@dataclass(frozen=True)
class _Panel:
    """What the panel is made of."""

    which: gr.Radio
    kinds: gr.CheckboxGroup
    frames: gr.Radio
    load: gr.UploadButton
    make: gr.Button
    cancel: gr.Button
    save: gr.DownloadButton
    said: gr.HTML


def add_panel(work: Workspace, engine: Engine, page: Page) -> None:
    """Put the panel under the page's list of objects, and answer its events."""
    panel = _lay_out(page)
    _wire_making(panel, work, engine, page)
    _wire_loading(panel, work, page)


def _lay_out(page: Page) -> _Panel:
    card = page.objects.parent
    assert card is not None  # every component of a page stands in something
    with card, gr.Accordion("Take away", open=False, elem_id="takeaway"):
        objects = [("All shown here", HERE), ("The selected one", SELECTED), ("All of the dialogue", DIALOGUE)]
        files = [(how.title, name) for name, how in FORMATS.items()]
        times = [("The sampled ones", SAMPLED), ("Every frame of the source", EVERY)]
        which = gr.Radio(objects, value=HERE, label="Objects", elem_id="take-which")
        kinds = gr.CheckboxGroup(files, value=["overlay"], label="Files", elem_id="take-kinds")
        frames = gr.Radio(times, value=SAMPLED, label="Frames", elem_id="take-frames")
        small: dict[str, Any] = {"size": "sm", "scale": 0}
        with gr.Row(elem_classes="up-after"):
            load = gr.UploadButton("Load objects", file_types=[".json"], elem_id="take-load", **small)
            make = gr.Button("Prepare", elem_id="take-make", **small)
            cancel = gr.Button("Cancel", visible=False, elem_id="take-cancel", **small)
            save = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="take-save", **small)
        said = gr.HTML(elem_id="take-said")
    return _Panel(which, kinds, frames, load, make, cancel, save, said)


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _wire_making(panel: _Panel, work: Workspace, engine: Engine, page: Page) -> None:
    def made(
        session: Session, canvas: Any, which: str, names: list[str], on: str, request: gr.Request
    ) -> Iterator[dict[Component, Any]]:
        wish = Wish(names, which, on == EVERY)
        for now in prepare(work, engine, session, request.session_hash or "", canvas, wish):
            yield {
                panel.save: gr.DownloadButton(value=now.path, visible=now.path is not None),
                panel.said: now.said,
                panel.make: gr.Button(visible=not now.busy),
                panel.cancel: gr.Button(visible=now.busy),
            }

    def cancelled(request: gr.Request) -> None:
        work.stop(request.session_hash or "")

    panel.make.click(
        made,
        [page.session, page.prompter, panel.which, panel.kinds, panel.frames],
        [panel.save, panel.said, panel.make, panel.cancel],
        show_progress_on=[panel.make],
        trigger_mode="once",
        concurrency_limit=work.line.guests,
        api_visibility="private",
    )
    panel.cancel.click(cancelled, None, None, queue=False, **_QUIET)
    # What was prepared is gone with its media, and is not what another choice asks for.
    choices = (panel.which.change, panel.kinds.change, panel.frames.change)
    canvas = page.prompter
    media = (canvas.opened, canvas.added, canvas.switched, canvas.removed, page.gallery.picked, page.reset.click)
    for change in (*choices, *media):
        change(lambda: (gr.DownloadButton(visible=False), ""), None, [panel.save, panel.said], queue=False, **_QUIET)


def _wire_loading(panel: _Panel, work: Workspace, page: Page) -> None:
    def loaded(session: Session, canvas: Any, path: Any, request: gr.Request) -> dict[Component, Any]:
        return page.show(bring_back(work, session, request.session_hash or "", canvas, path))

    panel.load.upload(loaded, [page.session, page.prompter, panel.load], page.outputs, **_QUIET)
