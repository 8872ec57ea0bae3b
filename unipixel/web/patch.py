"""A `Patch` says what changes on the page; here are those that say no, and the sentences they say it with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from unipixel.media import playback_fps
from unipixel.web import render
from unipixel.web.session import Session
from unipixel.web.store import StoredMedia

BUSY = "Wait until what is running is done, or stop it first."
BROKEN = "Something went wrong on the server; please try again."
STOPPED = "Stopped."
TRUNCATED = "The answer reached the length limit."
PREVIEW_LATER = "The preview comes back when the running answer is done."

NO_PREVIEW: dict[str, Any] = {"frame": 0, "masks": {}, "others": {}, "note": "", "rev": 0}


@dataclass
class Patch:
    """What changes on the page; None means "as it is"."""

    session: Session | None = None
    canvas: dict[str, Any] | None = None  # props of the prompter
    objects: list[dict[str, Any]] | None = None  # rows of the object list
    chat: list[dict[str, Any]] | None = None
    notice: str | None = None  # HTML; "" clears it
    download: str | None = None  # file to save; "" takes the button away
    question: str | None = None  # text of the question box
    pending: str | None = None  # question on its way; "" for none
    busy: bool | None = None  # Send or Stop


def refuse(reason: str) -> Patch:
    """One sentence under the question box, everything else as it is."""
    return Patch(notice=render.notice(reason, error=True))


def refuse_media(reason: str) -> Patch:
    """Say it where the eyes are, beside the canvas too; the time makes equal refusals differ, so that both arrive."""
    return replace(refuse(reason), canvas={"refused": {"reason": reason, "time": time.time()}})


def canvas_media(stored: StoredMedia, marks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The media as the canvas takes it; `marks` are drawn from the start."""
    return {
        "id": stored.media_id,
        "width": stored.media.width,
        "height": stored.media.height,
        "fps": playback_fps(stored.media),
        "frames": [render.file_data(path) for path in stored.frame_files],
        "marks": list(marks),
    }
