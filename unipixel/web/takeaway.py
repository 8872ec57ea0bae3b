"""The "Take away" panel: results of the session as files, and objects brought back from an earlier one."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from unipixel.export import FORMATS, Take, load_bank, make_receipt, read_names, write_one
from unipixel.memory import ObjectMemoryBank
from unipixel.web import render
from unipixel.web.gpu import Engine
from unipixel.web.handlers import Workspace
from unipixel.web.marks import read_marks
from unipixel.web.patch import BROKEN, BUSY, Patch, refuse
from unipixel.web.session import Session, StoredMedia, is_inside

if TYPE_CHECKING:
    from unipixel.web.layout import Page

logger = logging.getLogger(__name__)

SELECTED = "selected"
NOTHING = "There are no objects yet: mark one, or ask for one."
NOT_FOUND = "The selected object has no masks yet: ask about it first."
NO_FORMAT = "Choose at least one kind of file."
_FOLDER = "takeaway"  # in the session's own folder, which goes with the session


def export_file(engine: Engine, stored: StoredMedia, bank: ObjectMemoryBank, names: Sequence[str]) -> Path:
    """Write the objects of `bank` in the formats `names` as one file in the session's folder."""
    take = Take(stored.media, bank, make_receipt(engine, stored.media))
    return write_one(take, names, stored.folder / _FOLDER / uuid.uuid4().hex[:12])


def prepare(
    work: Workspace, engine: Engine, session: Session, canvas: Any, which: str, names: Sequence[str]
) -> tuple[str | None, str]:
    """(file to download or None, HTML of what went wrong or ""); the file before it is deleted."""
    try:
        stored = work.store.get(session.media_id)
        bank = _chosen(session, canvas, which)
        offered = read_names("all", stored.media.is_image)
        wanted = [name for name in names if name in offered]
        if not wanted:
            needs_clip = any(name in FORMATS for name in names)
            raise ValueError("That kind of file needs a video." if needs_clip else NO_FORMAT)
        shutil.rmtree(stored.folder / _FOLDER, ignore_errors=True)
        return str(export_file(engine, stored, bank, wanted)), ""
    except ValueError as error:
        return None, render.notice(str(error), error=True)
    except Exception:
        logger.exception("An export failed")
        return None, render.notice(BROKEN, error=True)


def _chosen(session: Session, canvas: Any, which: str) -> ObjectMemoryBank:
    """The objects to take: all, or the one selected on the canvas."""
    if not session.bank:
        raise ValueError(NOTHING)
    if which != SELECTED:
        return session.bank
    active = canvas.get("active") if isinstance(canvas, Mapping) else None
    if not isinstance(active, int) or active not in session.bank:
        raise ValueError(NOT_FOUND)
    return replace(session.bank, objects=(session.bank[active],))


def bring_back(work: Workspace, session: Session, owner: str, canvas: Any, path: Any) -> Patch:
    """The page with the objects of a saved bank in place of the present ones."""
    try:
        if work.turns.busy(owner):
            raise ValueError(BUSY)
        stored = work.store.get(session.media_id)
        if not isinstance(path, str) or not is_inside(Path(path), work.upload_folder):
            raise ValueError("The file did not arrive; please try again.")
        bank = load_bank(_read_text(Path(path)), stored.media)
        # Numbers that were given out in this dialogue are never given out again.
        kept = replace(bank, retired=bank.retired | (session.bank.used_ids - set(bank)))
        # Marks of the same numbers that are still on the canvas belong to the objects before: they are done with.
        marks = read_marks(canvas, stored.media_id, stored.picture)
        done = {object_id: frames for object_id, frames in marks.digests.items() if object_id in kept}
        return work.changed(replace(session.with_bank(kept), applied=done, anchors={}))
    except ValueError as error:
        return refuse(str(error))
    finally:
        if isinstance(path, str) and is_inside(Path(path), work.upload_folder):
            Path(path).unlink(missing_ok=True)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ValueError("This is not a memory file of UniPixel.") from None


def add_panel(work: Workspace, engine: Engine, page: Page) -> None:
    """Put the panel where this is called, and answer its events."""
    # Under the list of objects, wherever that stands.
    card = page.objects.parent
    assert card is not None  # every component of a page stands in something
    with card, gr.Accordion("Take away", open=False, elem_id="takeaway"):
        which = gr.Radio(
            [("All", "all"), ("The selected one", SELECTED)], value="all", label="Objects", elem_id="take-which"
        )
        kinds = gr.CheckboxGroup(
            [(how.title, name) for name, how in FORMATS.items()], value=["overlay"], label="Files", elem_id="take-kinds"
        )
        with gr.Row(elem_classes="up-after"):
            load = gr.UploadButton("Load objects", size="sm", scale=0, file_types=[".json"], elem_id="take-load")
            make = gr.Button("Prepare", size="sm", scale=0, elem_id="take-make")
            save = gr.DownloadButton(
                "Download", size="sm", variant="primary", scale=0, visible=False, elem_id="take-save"
            )
        said = gr.HTML(elem_id="take-said")

    def made(session: Session, canvas: Any, which: str, names: list[str]) -> dict[Component, Any]:
        path, problem = prepare(work, engine, session, canvas, which, names)
        return {save: gr.DownloadButton(value=path, visible=path is not None), said: problem}

    def loaded(session: Session, canvas: Any, path: Any, request: gr.Request) -> dict[Component, Any]:
        return page.show(bring_back(work, session, request.session_hash or "", canvas, path))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    make.click(
        made,
        [page.session, page.prompter, which, kinds],
        [save, said],
        show_progress_on=[make],
        trigger_mode="once",
        api_visibility="private",
    )
    load.upload(loaded, [page.session, page.prompter, load], page.outputs, **quiet)
    # What was prepared is gone with its media, and is not what another choice asks for.
    changes = (which.change, kinds.change, page.prompter.opened, page.gallery.picked, page.reset.click)
    for change in changes:
        change(lambda: (gr.DownloadButton(visible=False), ""), None, [save, said], queue=False, **quiet)
