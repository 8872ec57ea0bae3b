"""One JSON line per request: how long, how much, how it ended. Never what was asked, said or shown."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from unipixel.types import Media, Prompt
from unipixel.web.gpu import Filler, FillRequest, Previewer, Rle, Tracker, TrackRequest, WireEvent

logger = logging.getLogger("unipixel.requests")

DONE, STOPPED, REFUSED, LEFT, FAILED = "done", "stopped", "refused", "left", "failed"


@contextmanager
def request_line(request: str, **counts: int) -> Iterator[dict[str, Any]]:
    """Log the block as one request; the block may add to the line and change its `outcome`.

    A ValueError counts as "refused" (bad input), a closed generator as "left", any other error as "failed".
    """
    line: dict[str, Any] = {"request": request, **counts, "outcome": DONE}
    started = time.monotonic()
    try:
        yield line
    except GeneratorExit:
        line["outcome"] = LEFT
        raise
    except ValueError:
        line["outcome"] = REFUSED
        raise
    except Exception:
        line["outcome"] = FAILED
        raise
    finally:
        _write(line, time.monotonic() - started)


def log_refusal(request: str) -> None:
    """Log a request that was refused before anything was done for it."""
    _write({"request": request, "frames": 0, "objects": 0, "outcome": REFUSED}, 0.0)


def _write(line: dict[str, Any], seconds: float) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    logger.info(json.dumps({"time": now, **line, "seconds": round(seconds, 3)}))


def log_previews(preview: Previewer) -> Previewer:
    """`preview`, leaving a line for every look at a frame."""

    def logged(media: Media, prompts: Sequence[Prompt]) -> dict[int, tuple[Rle, ...]]:
        with request_line("preview", frames=1, objects=len({p.object_id for p in prompts})):
            return preview(media, prompts)

    return logged


def log_tracks(track: Tracker) -> Tracker:
    """`track`, leaving a line for every object that is followed or corrected."""

    def logged(request: TrackRequest) -> Iterator[WireEvent]:
        frames = request.media.num_frames if request.retrack else 1
        with request_line("track", frames=frames, objects=len({p.object_id for p in request.prompts})):
            yield from track(request)

    return logged


def log_fills(fill: Filler) -> Filler:
    """`fill`, leaving a line for every clip that gets masks on all its frames."""

    def logged(request: FillRequest) -> Iterator[WireEvent]:
        with request_line("fill", frames=0, objects=len(request.masklets)) as line:
            for event in fill(request):
                line["frames"] += 1
                yield event

    return logged


def log_to_stderr() -> None:
    """Let the lines appear on stderr, as they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
