"""Corrections, masks on every frame and asking again, without a browser: the handlers with a fake engine."""

from __future__ import annotations

import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fakes import FakeEngine
from test_app import BLUE_BOX, RED, ask, canvas_value, make_workspace, open_file, refused, seen, uploads, work

from unipixel.memory import ObjectMemoryBank
from unipixel.types import Masklet
from unipixel.web import chat, render
from unipixel.web.handlers import Workspace
from unipixel.web.marks import NO_POSITIVE
from unipixel.web.patch import BUSY, Patch
from unipixel.web.session import NOTHING_ASKED, Session
from unipixel.web.tracking import NO_CLIP, NOTHING_MARKED, NOTHING_SHOWN
from unipixel.web.words import CHINESE

__all__ = ["uploads", "work"]  # fixtures

WEB = Path(__file__).resolve().parents[1] / "unipixel" / "web"


def correct(work: Workspace, session: Session, *marks: dict[str, Any]) -> tuple[Session, list[Patch]]:
    """The session after following marks, and all patches on the way."""
    patches = list(work.correct(session, "ann", canvas_value(session, *marks)))
    return next((p.session for p in reversed(patches) if p.session is not None), session), patches


def masks(session: Session, object_id: int) -> np.ndarray:
    return session.bank[object_id].masks


# ------------------------------------------------------------------------------------------------- following marks


def test_marks_are_followed_without_a_question(work: Workspace) -> None:
    session, patches = correct(work, open_file(work, "clip.mp4"), RED, BLUE_BOX)
    assert [(i, o.origin) for i, o in session.bank.items()] == [(1, "point"), (2, "box")]
    assert session.entries == ()
    assert [p.busy for p in patches if p.busy is not None] == [True, False]
    after, patches = correct(work, session, RED, BLUE_BOX)  # nothing is new
    assert after is session
    assert NOTHING_MARKED.split(";")[0] in (patches[-1].notice or "")


def test_a_correction_changes_one_object_up_to_its_nearest_anchors(work: Workspace) -> None:
    session, _ = correct(work, open_file(work, "clip.mp4"), RED, BLUE_BOX, {**RED, "frame": 3, "x": 88})
    assert session.anchors == {1: {0, 3}, 2: {0}}
    off = {**RED, "frame": 6, "x": 106, "label": 0}
    after, _ = correct(work, session, RED, BLUE_BOX, {**RED, "frame": 3, "x": 88}, off)
    assert after.bank[2] == session.bank[2]
    same = (masks(after, 1) == masks(session, 1)).all((1, 2))
    assert same.tolist() == [True] * 4 + [False] * 4
    assert after.anchors == {1: {0, 3, 6}, 2: {0}}


def test_corrections_can_be_taken_back_until_something_else_is_done(work: Workspace) -> None:
    start = open_file(work, "clip.mp4")
    first, _ = correct(work, start, RED)
    second, _ = correct(work, first, RED, {**RED, "frame": 4, "x": 94, "label": 0})
    assert second.bank != first.bank
    back = work.revert(second, "ann")
    assert back.session is not None
    assert (back.session.bank, back.session.anchors) == (first.bank, first.anchors)
    asked, _ = ask(work, back.session, "What is @1?", RED, {**RED, "frame": 4, "x": 94, "label": 0})
    assert asked.bank == first.bank  # the marks that are still there are not used again
    again = work.revert(back.session, "ann")
    assert again.session == start
    assert "no correction" in (work.revert(start, "ann").notice or "")
    named = work.rename(second, "ann", 1, "ball").session
    assert named is not None
    assert work.revert(named, "ann").session is None  # it would lose the name


def test_an_object_found_by_words_takes_a_lone_excluding_click(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "Segment the blue square")
    off = {"type": "point", "object": 1, "frame": 2, "x": 240, "y": 150, "label": 0}
    preview = (work.preview(session, canvas_value(session, off, frame=2)).canvas or {})["preview"]
    assert (preview["masks"], preview["note"]) == ({"1": ""}, "")  # nothing is left of it, and that is shown
    after, _ = ask(work, session, "What moves?", off)  # a question corrects first
    assert not masks(after, 1).any()
    assert after.refused == ""


GONE = {"type": "absent", "object": 1, "frame": 4}


def test_not_here_is_a_correction_like_others(work: Workspace) -> None:
    session, _ = correct(work, open_file(work, "clip.mp4"), RED, BLUE_BOX)
    preview = (work.preview(session, canvas_value(session, RED, BLUE_BOX, GONE, frame=4)).canvas or {})["preview"]
    assert (preview["masks"], preview["note"]) == ({"1": ""}, "")
    after, patches = correct(work, session, RED, BLUE_BOX, GONE)
    assert [bool(mask.any()) for mask in masks(after, 1)] == [True] * 4 + [False] + [True] * 3
    assert after.bank[1].scores[4] == 1
    assert after.bank[2] == session.bank[2]
    assert after.anchors == {1: {0, 4}, 2: {0}}
    assert patches[-1].canvas is not None
    row = patches[-1].canvas["objects"][0]
    assert (row["strip"], row["anchors"]) == ("11110111", [0, 4])
    back = work.revert(after, "ann").session
    assert back is not None
    assert (back.bank, back.anchors) == (session.bank, session.anchors)
    there = {**RED, "frame": 4, "x": 94}  # it was there after all
    again, _ = correct(work, after, RED, BLUE_BOX, there)
    assert masks(again, 1)[4].any()


def test_a_new_object_can_be_absent_where_it_was_not_clicked(work: Workspace) -> None:
    start = open_file(work, "clip.mp4")
    preview = (work.preview(start, canvas_value(start, RED, GONE, frame=4)).canvas or {})["preview"]
    assert (preview["masks"], preview["note"]) == ({}, "")  # it is marked elsewhere: here is nothing to show
    for marks in ((RED, GONE), (GONE, RED)):
        session, _ = correct(work, start, *marks)
        assert [bool(mask.any()) for mask in masks(session, 1)] == [True] * 4 + [False] + [True] * 3
        assert session.bank[1].origin == "point"
        assert session.anchors == {1: {0, 4}}


def test_not_here_alone_says_nothing_of_a_new_object(work: Workspace) -> None:
    session, patches = correct(work, open_file(work, "clip.mp4"), GONE)
    assert not session.bank
    assert NO_POSITIVE.rstrip(".") in (patches[-1].notice or "")


def test_the_frame_in_view_is_encoded_before_it_is_clicked(uploads: Path) -> None:
    looked: list[int] = []

    class Watched(FakeEngine):
        def preview(self, media: Any, prompts: Any) -> Any:
            looked.append(prompts[0].frame)
            return super().preview(media, prompts)

    work = make_workspace(uploads, Watched())
    session = open_file(work, "clip.mp4")
    for frame in (5, 99, -1, "x", None, True):
        work.look(session, {"frame": frame})
    work.look(Session(), {"frame": 0})
    assert looked == [5]


def test_brush_and_eraser_change_the_mask_that_is_there(uploads: Path) -> None:
    engine = FakeEngine()
    work = make_workspace(uploads, engine)
    session, _ = ask(work, open_file(work, "clip.mp4"), "Segment the blue square")
    stroke = {"type": "stroke", "object": 1, "frame": 0, "points": [[120, 20], [150, 20]], "radius": 5, "erase": False}
    wiped = {**stroke, "points": [[240, 160]], "radius": 8, "erase": True}
    correct(work, session, stroke, wiped)
    ((region,), _) = engine.corrections[-1]
    drawn = region.mask  # type: ignore[union-attr]
    assert (drawn[20, 130], drawn[160, 240], drawn[135, 215]) == (True, False, True)


def test_the_reading_of_a_click_that_was_chosen_is_the_one_that_is_followed(uploads: Path) -> None:
    engine = FakeEngine()
    work = make_workspace(uploads, engine)
    session = open_file(work, "clip.mp4")
    preview = (work.preview(session, canvas_value(session, RED)).canvas or {})["preview"]
    assert len(preview["others"]["1"]) == 1
    chosen, _ = correct(work, session, {**RED, "pick": 1})
    assert chosen.bank[1].origin == "region"
    assert not masks(chosen, 1)[0, 80, 70]


@pytest.mark.parametrize("pick", [0, -1, 99, True, "x", None])
def test_a_choice_that_does_not_exist_is_the_best_one(work: Workspace, pick: Any) -> None:
    session, _ = correct(work, open_file(work, "clip.mp4"), {**RED, "pick": pick})
    assert masks(session, 1)[0, 80, 70]


def test_a_broken_tracker_changes_nothing(uploads: Path) -> None:
    class Broken(FakeEngine):
        def track(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("secret detail")

    work = make_workspace(uploads, Broken())
    session = open_file(work, "clip.mp4")
    after, patches = correct(work, session, RED)
    assert after is session
    assert "went wrong" in (patches[-1].notice or "")
    assert patches[-1].busy is False


# ------------------------------------------------------------------------------------------------- every frame


def fill(work: Workspace, session: Session, **value: Any) -> list[Patch]:
    return list(work.every_frame(session, "ann", {"media_id": session.media_id, **value}))


def test_every_frame_is_drawn_into_a_film_of_the_clips_own_length(work: Workspace) -> None:
    session, _ = correct(work, open_file(work, "clip.mp4"), RED, BLUE_BOX)
    patches = fill(work, session, hidden=[2])
    counts = [p.canvas["filling"]["count"] for p in patches if p.canvas and p.canvas.get("filling")]
    assert counts[-1] == 8
    film = (patches[-1].canvas or {})["film"]["path"]
    with av.open(film) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert len(frames) == 8
    assert np.abs(frames[7][80, 70 + 42].astype(int) - (220, 40, 40)).sum() > 40  # the circle is under its mask
    assert np.abs(frames[0][160, 240].astype(int) - (40, 80, 220)).sum() < 40  # the square is hidden


def test_a_film_outlives_the_upload_it_came_from(work: Workspace) -> None:
    session, _ = correct(work, open_file(work, "clip.mp4"), RED)
    (work.upload_folder / "clip.mp4").unlink()  # the same file, opened and left by somebody else
    assert (fill(work, session)[-1].canvas or {})["film"]


@pytest.mark.parametrize("hidden, name, reason", [([1], "clip.mp4", NOTHING_SHOWN), ([], "scene.png", NO_CLIP)])
def test_a_film_needs_a_clip_and_an_object(work: Workspace, hidden: list[int], name: str, reason: str) -> None:
    session, _ = correct(work, open_file(work, name), RED)
    (patch,) = fill(work, session, hidden=hidden)
    assert reason.split(";")[0].rstrip(".") in (patch.notice or "")


def test_leaving_or_stopping_ends_the_work_on_every_frame(uploads: Path) -> None:
    for act in ("stop", "unload"):
        work = make_workspace(uploads, FakeEngine(word_seconds=0.2))
        session, _ = correct(work, open_file(work, "clip.mp4"), RED)
        patches: list[Patch] = []
        thread = threading.Thread(target=lambda w=work, s=session, p=patches: p.extend(fill(w, s)))
        thread.start()
        thread.join(0.4)
        assert BUSY.split(",")[0] in (work.begin(session, "ann", "Hm?").notice or "")
        getattr(work, act)("ann")
        thread.join(3)
        assert not thread.is_alive()
        assert not any("film" in (p.canvas or {}) for p in patches)
        assert len(work.line) == 0


# ------------------------------------------------------------------------------------------------- asking again


def test_asking_again_starts_from_where_the_question_was_asked(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    session, _ = ask(work, session, "Segment the blue square", RED)
    patch = work.retry(session, "ann")
    assert patch.session is not None
    assert (patch.pending, patch.busy) == ("Segment the blue square", True)
    assert [row["id"] for row in patch.objects or []] == [1]
    again, _ = ask(work, patch.session, patch.pending or "", RED)
    assert (list(again.bank), len(again.entries)) == ([1, 2], 2)
    assert refused(work.retry(Session(), "ann")) == NOTHING_ASKED


def test_asking_again_keeps_what_was_marked(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    patch = work.retry(session, "ann")
    assert patch.session is not None
    again, _ = ask(work, patch.session, patch.pending or "")  # the mark itself may be gone
    assert ([entry.answer for entry in again.entries], list(again.bank)) == (["@1 is a red circle."], [1])


@pytest.mark.parametrize("question", ["This is impossible", "This is broken", "What is @9?"])
def test_what_was_said_stays_when_asking_again_fails(work: Workspace, question: str) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "Segment the blue square")
    editing = work.edit(session, "ann").session
    assert editing is not None
    sent = work.begin(editing, "ann", question)
    assert sent.session is not None
    after, patches = ask(work, sent.session, question)
    assert (after.entries, after.bank, after.editing) == (session.entries, session.bank, True)
    assert [row["id"] for row in patches[-1].objects or []] == [1]
    assert patches[-1].question == question


def test_editing_replaces_the_last_question_only_once_it_is_sent(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "Segment the blue square")
    editing = work.edit(session, "ann")
    assert editing.session is not None
    assert (editing.question, editing.session.entries) == ("Segment the blue square", session.entries)
    left = work.edit(editing.session, "ann")
    assert left.session == session
    refusal = work.begin(editing.session, "ann", "")
    assert refusal.session is not None
    assert (refusal.session.entries, refusal.session.editing) == (session.entries, True)  # nothing is lost
    sent = work.begin(editing.session, "ann", "Segment the red circle")
    assert sent.session is not None
    assert (sent.objects, "It is" in seen(sent)) == ([], False)
    after, _ = ask(work, sent.session, "Segment the red circle")
    assert ([entry.question for entry in after.entries], list(after.bank)) == (["Segment the red circle"], [1])
    assert after.editing is False


def test_asking_again_keeps_what_was_removed_removed(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    session, _ = ask(work, session, "Segment the blue square", RED)
    removed = work.delete(session, "ann", 1).session
    assert removed is not None
    patch = work.retry(removed, "ann")
    assert patch.session is not None
    assert patch.canvas is not None
    assert (patch.session.removed, patch.canvas["next_id"]) == ({1}, 2)


# ------------------------------------------------------------------------------------------------- words and frames


@pytest.mark.parametrize(
    "text, frames",
    [
        ("It leaves in frame 3.", [2]),
        ("From frame 3 to 6.", [2, 5]),
        ("frames 1-4 and frame 8", [0, 3, 7]),
        ("Frames 2 through 5", [1, 4]),
        ("frame 0, frame 9, keyframe 2, @3", []),
    ],
)
def test_frames_that_exist_are_links(text: str, frames: list[int]) -> None:
    made = chat.said(text, ObjectMemoryBank(), 8)
    assert [int(t) for t in re.findall(r"up-at-(\d+)", made)] == frames


def test_uncertain_frames_are_those_with_a_mask_and_a_low_score() -> None:
    shown = np.array([True, False, True, True])
    masklet = Masklet(1, shown[:, None, None], np.array([0.9, 0.1, 0.2, 0.3], np.float32))
    known = ObjectMemoryBank().with_object(masklet)[1]
    assert render.strip(known) == "1022"
    assert render.strip(known, [3]) == "1021"  # somebody has looked at it


class _Texts(HTMLParser):
    """What a template shows or says, in one language; keys are called what is printed on them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.tag = ""

    def handle_data(self, data: str) -> None:
        if self.tag != "kbd":
            self.found.add(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.found |= {value or "" for name, value in attrs if name in ("title", "aria-label", "placeholder")}


def test_everything_that_the_templates_say_has_a_translation() -> None:
    for template in WEB.glob("*.html"):
        texts = _Texts()
        texts.feed(template.read_text("utf-8"))
        words = {text for text in texts.found if re.search("[A-Za-z]{2}", text)} - {"UniPixel"}
        assert words <= set(CHINESE), template.name


def test_translations_keep_their_gaps() -> None:
    assert {english for english, other in CHINESE.items() if english.count("{}") != other.count("{}")} == set()
