"""The dialogue as HTML: questions and answers, names of objects as chips, frames as links, and what was refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unipixel.memory import MemoryObject
from unipixel.web.render import css_color, literal
from unipixel.web.session import ChatEntry, Session

_FRAMES = re.compile(r"\bframes? (\d{1,4})(?:( ?(?:-|–|to|and|through) ?)(?:frame )?(\d{1,4}))?\b", re.IGNORECASE)
_MENTION = re.compile(r"(?<![A-Za-z0-9_@])@(0|[1-9][0-9]{0,3})(?![A-Za-z0-9_@])")


def chip(known: MemoryObject) -> str:
    """The coloured `@id` of a remembered object; its class tells the page which object to select on a click."""
    number, style = known.object_id, f"background:{css_color(known.color)};color:{_ink(known.color)}"
    return f'<span class="up-ref up-ref-{number}" title="{literal(known.label)}" style="{style}">@{number}</span>'


def _ink(color: Sequence[int]) -> str:
    """Black or white, whichever reads better on `color` (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return "#000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 else "#fff"


def said(text: str, objects: Mapping[int, MemoryObject], num_frames: int = 0, medium: int = 0) -> str:
    """`text` as HTML: names of `objects` as chips, "frame 3" as a link to that frame of the `medium`'s `num_frames`."""
    spans = [(m.start(), m.end(), chip(objects[int(m[1])])) for m in _MENTION.finditer(text) if int(m[1]) in objects]
    for match in _FRAMES.finditer(text):
        spans += [
            (match.start(group), match.end(group), frame_link(int(match[group]), medium))
            for group in (1, 3)
            if match[group] and 1 <= int(match[group]) <= num_frames
        ]
    parts, end = [], 0
    for start, stop, html in sorted(spans):
        parts += [literal(text[end:start]), html]
        end = stop
    parts.append(literal(text[end:]))
    # One HTML block on one line: Markdown passes it through untouched.
    return f'<div class="up-said">{"".join(parts)}</div>'


def frame_link(number: int, medium: int) -> str:
    """A frame's number (from 1); its classes tell the page which frame of which medium to show on a click."""
    return f'<span class="up-at up-at-{number - 1} up-of-{medium}">{number}</span>'


def chat_messages(
    session: Session, *, question: str | None = None, answer: str = "", status: str = ""
) -> list[dict[str, Any]]:
    """Messages for `gr.Chatbot`; `question` with its `answer` so far is the turn in progress."""
    messages: list[dict[str, Any]] = []
    for entry in session.entries:
        messages += _entry_messages(entry, session)
    if question is not None:
        now = session.current
        waiting = f'<div class="up-wait">{literal(status)}</div>' if status else ""
        content = (said(answer, session.objects, now.num_frames, now.number) if answer else "") + waiting
        content = content or '<div class="up-wait up-dots"><i></i><i></i><i></i></div>'
        asked = _about(now.number, now.title, session) + said(question, session.objects)
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": content}]
    if session.refused:
        messages.append({"role": "assistant", "content": refusal(session.refused)})
    return messages


def _entry_messages(entry: ChatEntry, session: Session) -> list[dict[str, Any]]:
    medium = session.medium(entry.medium)
    frames = medium.num_frames if medium else 0
    notes = "".join(f'<div class="up-note">{literal(note)}</div>' for note in entry.notes)
    answer = said(entry.answer, session.objects, frames, entry.medium) if entry.answer else ""
    content: list[Any] = [answer + notes]
    if entry.result and Path(entry.result).exists():
        content.append({"path": entry.result, "alt_text": "The answer's masks drawn over the media"})
    asked = _about(entry.medium, entry.title, session) + said(entry.question, session.objects)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": content}]


def _about(number: int, title: str, session: Session) -> str:
    """Which medium a question was about, where that is not plain; a click opens it."""
    if session.given < 2:
        return ""
    if session.medium(number) is None:
        return f'<div class="up-about">{literal(title)} (removed)</div>'
    return f'<div class="up-about"><span class="up-go up-of-{number}">{literal(title)}</span></div>'


def refusal(reason: str) -> str:
    """Why a question was not answered, where the answer would stand; it is no part of the dialogue."""
    return f'<div class="up-refused" role="alert">{literal(reason)}</div>'
