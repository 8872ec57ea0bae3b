"""The page without a browser: every handler with a fake engine, what crosses the GPU boundary, what text becomes."""

from __future__ import annotations

import html
import json
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, draw_clip, draw_scene

from unipixel.media import load_media, write_png, write_video
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Box, Masklet, Media, Point, Region, TextDelta
from unipixel.web import build_demo, chat, render
from unipixel.web.dialogue import NOT_DRAWN
from unipixel.web.examples import Example, find_examples
from unipixel.web.gpu import TurnDone, TurnRequest, answer_seconds, gpu_functions, track_functions
from unipixel.web.handlers import Workspace
from unipixel.web.marks import Picture, Stroke, check_positive, paint, read_marks
from unipixel.web.patch import BROKEN, BUSY, STOPPED, Patch
from unipixel.web.session import Session
from unipixel.web.store import NO_MEDIA, MediaStore
from unipixel.web.turns import Line, RunningTurn, run_events

ROOT = Path(__file__).resolve().parents[1]
RED = {"type": "point", "object": 1, "frame": 0, "x": 70, "y": 80, "label": 1}
BLUE_BOX = {"type": "box", "object": 2, "frame": 0, "x1": 205, "y1": 125, "x2": 275, "y2": 195}


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """An upload folder with a picture, a clip and a file that is neither."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    write_png(draw_scene(), folder / "scene.png")
    write_video(list(draw_clip()), folder / "clip.mp4", 8)
    (folder / "notes.png").write_text("not a picture")
    return folder


def make_workspace(uploads: Path, engine: Any = None) -> Workspace:
    engine = engine or FakeEngine()
    (answerer, previewer), (tracker, filler) = gpu_functions(engine), track_functions(engine)
    return Workspace(answerer, previewer, MediaStore(uploads), uploads, tracker=tracker, filler=filler)


@pytest.fixture
def work(uploads: Path) -> Workspace:
    return make_workspace(uploads)


def open_file(work: Workspace, name: str, owner: str = "ann") -> Session:
    patch = work.upload(owner, {"path": str(work.upload_folder / name)})
    assert patch.session is not None, patch.notice
    return patch.session


def canvas_value(session: Session, *marks: dict[str, Any], frame: int = 0) -> dict[str, Any]:
    return {"media_id": session.media_id, "frame": frame, "rev": 3, "marks": json.dumps(marks)}


def ask(work: Workspace, session: Session, question: str, *marks: dict[str, Any]) -> tuple[Session, list[Patch]]:
    """The session after a question, and all patches on the way."""
    patches = list(work.answer(session, "ann", question, canvas_value(session, *marks)))
    return next((p.session for p in reversed(patches) if p.session is not None), session), patches


def seen(patch: Patch) -> str:
    """The words of a patch's chat."""
    assert patch.chat is not None
    return re.sub(r"<[^>]+>", "", json.dumps(patch.chat))


def refused(patch: Patch) -> str:
    """Why a question was not answered: the last message of the chat, and nothing under the question box."""
    assert patch.chat
    assert not patch.notice
    last = patch.chat[-1]
    assert (last["role"], 'role="alert"' in last["content"]) == ("assistant", True)
    return html.unescape(re.sub(r"<[^>]+>", "", last["content"]))


# ------------------------------------------------------------------------------------------------- the page


def test_the_page_is_built_without_a_model_or_a_hub(uploads: Path) -> None:
    demo = build_demo(FakeEngine(), examples=[Example(uploads / "clip.mp4", "A clip", "What moves?")])
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility != "private"}
    assert public == {"segment", "ask", "track", "describe"}


def test_importing_the_page_writes_no_files_and_loads_no_model_code() -> None:
    script = "import sys, unipixel.web; print('transformers' in sys.modules, 'unipixel.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert list((ROOT / "unipixel").rglob("*.pyi")) == []


def test_scripts_never_quote_a_prop() -> None:
    props = (
        "media",
        "objects",
        "album",
        "overlays",
        "preview",
        "palette",
        "next_id",
        "refused",
        "items",
        "film",
        "filling",
        "stamp",
        "words",
        "model",
    )
    for script in (ROOT / "unipixel" / "web").rglob("*.js"):
        assert not re.search(rf"['\"`]({'|'.join(props)})['\"`]", script.read_text()), script.name


def test_templates_hold_nothing_that_is_evaluated() -> None:
    for file in [*(ROOT / "unipixel" / "web").glob("*.html"), *(ROOT / "unipixel" / "web").glob("*.css")]:
        assert not re.search(r"\$\{|\{\{", file.read_text()), file.name


# ------------------------------------------------------------------------------------------------- media


def test_every_key_of_the_picture_is_in_the_list_of_keys() -> None:
    script, page = ((ROOT / "unipixel/web" / name).read_text() for name in ("prompter/keyboard.js", "prompter.html"))
    keys = {key.upper() for key in re.findall(r"^  '?(.+?)'?: \(\) =>", script, re.M)}
    shown = {key.upper() for key in re.findall(r"<kbd>(.+?)</kbd>", page)}
    assert len(keys) > 20
    assert keys - shown == {" ", "Y", "="}  # SPACE; and what some keyboards have for Z and +
    assert "SPACE" in shown


def test_a_picture_opens(work: Workspace) -> None:
    patch = work.upload("ann", {"path": str(work.upload_folder / "scene.png")})
    assert patch.canvas is not None
    media = patch.canvas["media"]
    assert (media["width"], media["height"], len(media["frames"])) == (320, 240, 1)
    assert patch.chat == []
    assert patch.busy is False


def test_a_clip_opens_with_its_own_pace(work: Workspace) -> None:
    patch = work.upload("ann", {"path": str(work.upload_folder / "clip.mp4")})
    assert patch.canvas is not None
    assert len(patch.canvas["media"]["frames"]) == 8
    assert patch.canvas["media"]["fps"] == pytest.approx(8)


@pytest.mark.parametrize(
    "file", [None, {}, {"path": 3}, {"path": "/etc/passwd"}, {"path": "gone.png"}, {"path": "a\0b"}]
)
def test_only_uploads_are_opened(work: Workspace, file: Any) -> None:
    patch = work.upload("ann", file)
    assert patch.session is None
    assert "upload did not arrive" in (patch.notice or "")


def test_what_is_no_picture_leaves_everything_as_it_was(work: Workspace) -> None:
    session = open_file(work, "scene.png")
    patch = work.upload("ann", {"path": str(work.upload_folder / "notes.png")})
    assert patch.session is None
    assert 'role="alert"' in (patch.notice or "")
    assert patch.canvas is not None
    assert patch.canvas["refused"]["reason"]
    assert work.store.get(session.media_id).media.width == 320


def test_new_media_start_a_new_dialogue(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    assert session.bank
    fresh = open_file(work, "clip.mp4")
    assert not fresh.bank
    assert fresh.turns == ()
    with pytest.raises(ValueError, match="no longer kept"):
        work.store.get(session.media_id)


def test_leaving_forgets_the_media_and_its_files(work: Workspace) -> None:
    session = open_file(work, "clip.mp4")
    folder = work.store.get(session.media_id).folder
    work.unload("ann")
    assert len(work.store) == 0
    assert not folder.exists()
    _, patches = ask(work, session, "What is @1?", RED)
    assert "no longer kept" in refused(patches[-1])


def test_the_store_drops_what_was_used_longest_ago(uploads: Path) -> None:
    media = load_media(uploads / "scene.png")
    store = MediaStore(uploads, max_bytes=2 * media.frames.nbytes)
    first, second = store.add("ann", media), store.add("bob", media)
    store.get(first.media_id)
    third = store.add("cleo", media)
    assert store.get(first.media_id) is first
    assert store.get(third.media_id) is third
    with pytest.raises(ValueError, match="no longer kept"):
        store.get(second.media_id)


def test_examples_come_with_question_and_marks(work: Workspace) -> None:
    work.examples = (Example(work.upload_folder / "scene.png", "A scene", "What is @1?", (RED,)),)
    patch = work.open_example("ann", 0)
    assert patch.question == "What is @1?"
    assert patch.canvas is not None
    assert patch.canvas["media"]["marks"] == [RED]
    assert work.open_example("ann", 1).session is None
    assert work.open_example("ann", True).session is None


def test_the_example_list_is_read_and_missing_files_left_out(uploads: Path) -> None:
    listing = [{"file": "clip.mp4", "question": "What moves?", "marks": [RED]}, {"file": "no.png", "question": "?"}]
    (uploads / "examples.json").write_text(json.dumps(listing))
    (found,) = find_examples(uploads)
    assert (found.path.name, found.question, found.title) == ("clip.mp4", "What moves?", "What moves?")
    assert find_examples(uploads / "nowhere") == ()


# ------------------------------------------------------------------------------------------------- questions


def test_a_clicked_object_is_named_remembered_and_drawn(work: Workspace) -> None:
    session, patches = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    assert session.turns[-1].answer == "@1 is a red circle."
    assert list(session.bank) == [1]
    texts = [seen(p) for p in patches if p.chat is not None]
    assert "is a red circle" in texts[-1]
    overlays = next(p.canvas["overlays"] for p in reversed(patches) if p.canvas is not None)
    assert set(overlays) == {str(t) for t in range(8)}
    assert overlays["0"]["1"].startswith("data:image/png;base64,")
    entry = session.entries[-1]
    assert Path(entry.result or "").suffix == ".mp4"
    assert Path(entry.download or "").suffix == ".gif"
    assert Path(entry.download or "").stat().st_size > 0


def test_text_streams_before_it_is_complete(uploads: Path) -> None:
    work = make_workspace(uploads, FakeEngine(word_seconds=0.15))
    _, patches = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    lengths = [len(seen(p)) for p in patches if p.chat is not None and "result" not in seen(p)]
    assert len(set(lengths)) > 3


def test_unchanged_marks_are_not_computed_again(uploads: Path) -> None:
    engine = FakeEngine()
    work = make_workspace(uploads, engine)
    session, _ = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    session, _ = ask(work, session, "And what is @1 again?", RED)
    assert engine.calls[1]["prompts"] == ()
    assert list(engine.calls[1]["memory"]) == [1]  # type: ignore[call-overload]
    assert [t.question for t in engine.calls[1]["history"]] == ["What is @1?"]  # type: ignore[attr-defined]
    session, _ = ask(work, session, "What are they?", RED, BLUE_BOX)
    assert {p.object_id for p in engine.calls[2]["prompts"]} == {2}  # type: ignore[attr-defined]
    ask(work, session, "Better now?", RED, {**RED, "x": 80}, BLUE_BOX)
    assert engine.calls[3]["prompts"] == ()  # a known object is corrected before the question
    (marks, anchors), *_ = engine.corrections
    assert [p.object_id for p in marks] == [1, 1]
    assert anchors == {0}


def test_an_object_found_by_words_joins_the_others(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    session, patches = ask(work, session, "Segment the blue square", RED)
    assert list(session.bank) == [1, 2]
    assert session.bank[2].masks[0, 160, 240]
    objects = next(p.objects for p in reversed(patches) if p.objects is not None)
    assert [(o["id"], o["seen"], o["first"]) for o in objects] == [(1, "all frames", 0), (2, "all frames", 0)]
    assert all(o["thumb"].startswith("data:image/jpeg") for o in objects)


@pytest.mark.parametrize(
    "question, reason", [("", "Type a question"), (" \n", "Type a question"), ("x" * 4001, "too long")]
)
def test_bad_questions_stay_in_the_box(work: Workspace, question: str, reason: str) -> None:
    patch = work.begin(open_file(work, "scene.png"), "ann", question)
    assert reason in refused(patch)
    assert patch.pending == ""
    assert patch.question is None


def test_a_question_needs_media(work: Workspace) -> None:
    assert refused(work.begin(Session(), "ann", "What is it?")) == NO_MEDIA


def test_a_good_question_empties_the_box_and_shows_stop(work: Workspace) -> None:
    patch = work.begin(open_file(work, "scene.png"), "ann", "What\0 is it?")
    assert (patch.question, patch.pending, patch.busy) == ("", "What is it?", True)


@pytest.mark.parametrize(
    "question, marks, reason",
    [
        ("What is @7?", (), "There is no object @7 yet"),
        ("This is impossible", (), "That cannot be asked"),
        ("This is broken", (), "went wrong"),
        ("What is @1?", ({**RED, "label": 0},), "at least one place to include"),
        ("What is @1?", ({**RED, "x": 5000},), "outside the picture"),
        ("What is @1?", ({**RED, "frame": 8},), "frame does not exist"),
    ],
)
def test_failures_are_one_sentence_and_change_nothing(
    work: Workspace, question: str, marks: tuple[dict[str, Any], ...], reason: str
) -> None:
    session = open_file(work, "clip.mp4")
    after, patches = ask(work, session, question, *marks)
    assert reason in refused(patches[-1])
    assert "secret" not in seen(patches[-1])
    assert replace(after, refused="") == session  # it is no turn
    assert (patches[-1].question, patches[-1].busy, patches[-1].pending) == (question, False, "")
    answered, patches = ask(work, after, "What is @1?", RED)
    assert [turn.answer for turn in answered.turns] == ["@1 is a red circle."]
    assert "up-refused" not in json.dumps(patches[-1].chat)  # it went with the next question


def test_two_visitors_do_not_see_each_other(work: Workspace) -> None:
    ann, bob = open_file(work, "clip.mp4", "ann"), open_file(work, "scene.png", "bob")
    ann, _ = ask(work, ann, "What is @1?", RED)
    assert not bob.bank
    (patch,) = list(work.answer(bob, "bob", "What is @1?", canvas_value(ann, RED)))  # marks of other media
    assert "no object" in refused(patch)


# ------------------------------------------------------------------------------------------------- stop and busy


class StubbornEngine(FakeEngine):
    """Computes for long without looking at the stop flag."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield TextDelta("Well, ")
        self.release.wait(10)
        yield from super().stream(*args, **kwargs)


def collect(work: Workspace, session: Session, question: str) -> tuple[threading.Thread, list[Patch]]:
    """Answer in a thread, as the server does."""
    patches: list[Patch] = []

    def run() -> None:
        patches.extend(work.answer(session, "ann", question, canvas_value(session)))

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.35)
    return thread, patches


@pytest.mark.parametrize("engine", [FakeEngine(word_seconds=0.03), StubbornEngine()])
def test_stop_ends_within_a_second_and_keeps_what_was_said(uploads: Path, engine: FakeEngine) -> None:
    work = make_workspace(uploads, engine)
    thread, patches = collect(work, open_file(work, "scene.png"), "Talk for long")
    start = time.monotonic()
    work.stop("ann")
    thread.join(5)
    assert time.monotonic() - start < 1
    entry = next(p.session for p in reversed(patches) if p.session is not None).entries[-1]
    assert entry.notes == (STOPPED,)
    assert 0 < len(entry.answer) < 500
    assert patches[-1].busy is False
    if isinstance(engine, StubbornEngine):
        engine.release.set()


def test_a_turn_lasts_until_its_file_is_drawn(work: Workspace) -> None:
    busy = [patch.busy for patch in ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)[1]]
    assert [b for b in busy if b is not None] == busy[-1:] == [False]


def test_an_answer_stays_when_its_file_cannot_be_drawn(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(render, "write_result", fail)
    session, patches = ask(work, open_file(work, "clip.mp4"), "What is @1?", RED)
    assert NOT_DRAWN in html.unescape(patches[-1].notice or "")
    assert patches[-1].busy is False
    assert session.entries[-1].answer
    assert 1 in session.bank


def test_objects_cannot_change_under_a_running_answer(uploads: Path) -> None:
    work = make_workspace(uploads, FakeEngine(word_seconds=0.03))
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    thread, _ = collect(work, session, "Talk for long")
    for patch in (
        work.delete(session, "ann", 1),
        work.clear_objects(session, "ann"),
        work.begin(session, "ann", "Hm?"),
    ):
        assert BUSY.split(",")[0] in (patch.notice or "")
        assert patch.session is None
    work.stop("ann")
    thread.join(5)
    assert work.delete(session, "ann", 1).session is not None


def test_an_upload_or_reset_throws_the_running_answer_away(uploads: Path) -> None:
    work = make_workspace(uploads, FakeEngine(word_seconds=0.03))
    thread, patches = collect(work, open_file(work, "scene.png"), "Talk for long")
    patch = work.reset("ann")
    thread.join(5)
    assert all(p.session is None for p in patches)
    assert patch.session == Session()
    assert patch.busy is False
    assert patch.canvas is not None
    assert patch.canvas["media"] is None


def test_only_one_answer_computes_at_a_time_in_order_of_arrival() -> None:
    line, running, log = Line(), threading.Semaphore(1), []

    def compute(name: str) -> Iterator[TextDelta]:
        assert running.acquire(blocking=False), "two at once"
        time.sleep(0.05)
        log.append(name)
        running.release()
        yield TextDelta(name)

    threads = []
    for name in "abc":
        threads.append(
            threading.Thread(target=lambda n=name: list(run_events(lambda: compute(n), RunningTurn(), line)))
        )
        threads[-1].start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(5)
    assert log == ["a", "b", "c"]
    assert len(line) == 0


def test_a_waiting_question_can_be_stopped(uploads: Path) -> None:
    engine = StubbornEngine()
    work = make_workspace(uploads, engine)
    first, _ = collect(work, open_file(work, "scene.png", "bob"), "Talk")
    session = open_file(work, "scene.png", "ann")
    patches: list[Patch] = []
    thread = threading.Thread(
        target=lambda: patches.extend(work.answer(session, "zoe", "What is it?", canvas_value(session)))
    )
    thread.start()
    time.sleep(0.4)
    work.stop("zoe")
    thread.join(2)
    assert not thread.is_alive()
    assert any("Waiting for one other question" in seen(p) for p in patches if p.chat is not None)
    engine.release.set()
    first.join(5)


# ------------------------------------------------------------------------------------------------- objects


def test_a_name_is_text_and_travels_to_chat_and_list(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    patch = work.rename(session, "ann", 1, "  the <b>ball</b>\n")
    assert patch.session is not None
    assert patch.session.bank[1].label == "the <b>ball</b>"
    assert patch.objects is not None
    assert patch.objects[0]["label"] == "the <b>ball</b>"
    assert "<b>" not in json.dumps(patch.chat)


@pytest.mark.parametrize("object_id", [0, 2, "1", None, True, 2**40])
def test_what_is_no_object_cannot_be_renamed_or_deleted(work: Workspace, object_id: Any) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    for patch in (work.rename(session, "ann", object_id, "x"), work.delete(session, "ann", object_id)):
        assert patch.session is None
        assert "That object" in (patch.notice or "")


def test_a_deleted_object_never_comes_back(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    patch = work.delete(session, "ann", 1)
    assert patch.session is not None
    assert patch.canvas is not None
    assert (list(patch.session.bank), patch.canvas["next_id"], patch.canvas["overlays"]) == ([], 2, {})
    assert "up-ref" not in json.dumps(patch.chat)  # its name in old answers is plain text now
    for question, marks in (("What is @1?", ()), ("What is it?", (RED,))):
        after, patches = ask(work, patch.session, question, *marks)
        assert after.bank == patch.session.bank
        assert "removed" in refused(patches[-1])
    after, _ = ask(work, patch.session, "Segment the blue square")
    assert list(after.bank) == [2]


def test_clearing_forgets_all_objects_but_not_the_chat(work: Workspace) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What are they?", RED, BLUE_BOX)
    patch = work.clear_objects(session, "ann")
    assert patch.session is not None
    assert (list(patch.session.bank), len(patch.session.entries)) == ([], 1)


# ------------------------------------------------------------------------------------------------- preview


def test_a_preview_shows_the_masks_of_the_frame_in_view(work: Workspace) -> None:
    session = open_file(work, "clip.mp4")
    value = canvas_value(session, RED, {**BLUE_BOX, "frame": 3}, frame=0)
    preview = (work.preview(session, value).canvas or {})["preview"]
    assert set(preview["masks"]) == {"1"}
    assert (preview["frame"], preview["rev"], preview["note"]) == (0, 3, "")


@pytest.mark.parametrize("value", [None, {}, {"media_id": "x"}, {"rev": "y", "frame": None}, []])
def test_a_preview_of_nothing_is_empty(work: Workspace, value: Any) -> None:
    session = open_file(work, "clip.mp4")
    assert (work.preview(session, value).canvas or {})["preview"]["masks"] == {}


def test_a_preview_does_not_wait_for_a_running_answer(uploads: Path) -> None:
    engine = StubbornEngine()
    work = make_workspace(uploads, engine)
    session = open_file(work, "scene.png")
    thread, _ = collect(work, session, "Talk")
    preview = (work.preview(session, canvas_value(session, RED)).canvas or {})["preview"]
    assert preview["note"]
    assert preview["masks"] == {}
    engine.release.set()
    thread.join(5)


# ------------------------------------------------------------------------------------------------- marks

PICTURE = Picture(height=96, width=160, num_frames=4)


def read(*marks: Any, removed: tuple[int, ...] = ()) -> Any:
    value = {"media_id": "m", "marks": json.dumps(marks)}
    marks_read = read_marks(value, "m", PICTURE, removed=removed)
    check_positive(marks_read.prompts)
    return marks_read


def test_marks_become_prompts_in_picture_pixels() -> None:
    stroke = {"type": "stroke", "object": 3, "frame": 2, "points": [[20, 20], [60, 20]], "radius": 5, "erase": False}
    box = {"type": "box", "object": 2, "frame": 1, "x1": 90, "y1": 80, "x2": 20, "y2": 10}
    point, rectangle, region = read({**RED, "x": 80.5, "y": 48}, box, stroke).prompts
    assert point == Point((80.5, 48.0), 1, 0, 1)
    assert rectangle == Box((20, 10, 90, 80), 1, 2)
    assert isinstance(region, Region)
    assert (region.frame, region.object_id) == (2, 3)
    assert region.mask[20, 40]
    assert 350 < region.mask.sum() < 600  # 40 x 10 and two round ends


def test_not_here_is_a_region_without_a_pixel() -> None:
    gone = {"type": "absent", "object": 1, "frame": 2}
    _, absence = read(RED, gone, gone).prompts  # saying it twice says no more
    assert isinstance(absence, Region)
    assert (absence.frame, absence.object_id, absence.mask.shape) == (2, 1, (96, 160))
    assert absence.is_empty
    with pytest.raises(ValueError, match="at least one place"):
        read(gone)
    with pytest.raises(ValueError, match="not both"):
        read(RED, {**gone, "frame": 0})
    value = {"media_id": "m", "marks": json.dumps([{**gone, "frame": 0}])}
    with pytest.raises(ValueError, match="Only on a frame of a video"):
        read_marks(value, "m", Picture(96, 160, 1))


def test_the_eraser_takes_away_what_was_painted() -> None:
    line = Stroke(((20.0, 20.0), (60.0, 20.0)), 5, False)
    painted = paint([line], 96, 160)
    part = paint([line, Stroke(((60.0, 20.0),), 8, True)], 96, 160)
    assert 0 < part.sum() < painted.sum()
    assert not paint([line, Stroke(line.points, 9, True)], 96, 160).any()
    assert paint([Stroke(((30.0, 30.0),), 4, False)], 96, 160).sum() > 30  # a tap is a dot


@pytest.mark.parametrize(
    "marks",
    [
        "",
        "{",
        "{}",
        "[3]",
        "[" * 100_000,
        '[{"type":"point"}]',
        '[{"object":1,"frame":0}]',
        "9" * 5000,
        7,
        None,
        "x" * 3_000_000,
    ],
)
def test_damaged_marks_are_refused_with_a_sentence(marks: Any) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        read_marks({"media_id": "m", "marks": marks}, "m", PICTURE)


MEANING = {
    "E_NOT_A_NUMBER": "not a number",
    "E_OUTSIDE": "outside",
    "E_LABEL": "include",
    "E_NO_POSITIVE": "at least one place",
    "E_BOX_EMPTY": "no area",
    "E_FRAME": "frame does not exist",
    "E_OBJECT_ID": "object number",
    "E_TOO_MANY": "Too many",
}


def nasty_marks(step: dict[str, Any]) -> list[dict[str, Any]]:
    """A step of the shared table as the canvas would send it."""

    def plain(value: Any) -> Any:
        return float(value["$float"]) if isinstance(value, dict) and "$float" in value else value

    place = {"object": step["object"], "frame": plain(step["frame"])}
    if step["op"] == "box":
        return [{"type": "box", **place, **dict(zip(("x1", "y1", "x2", "y2"), map(plain, step["box"]), strict=True))}]
    labels = [*step["labels"], *[None] * (len(step["points"]) - len(step["labels"]))]
    return [
        {"type": "point", **place, "x": plain(x), "y": plain(y), "label": label}
        for (x, y), label in zip(step["points"], labels, strict=True)
    ]


def test_nasty_clicks_are_taken_or_refused_as_the_table_says(shared: Path) -> None:
    cases = json.loads((shared / "bad_inputs" / "clicks_nasty.json").read_text())["cases"]
    checked = 0
    for case in cases:
        step, code = case["steps"][0], case["want"][-1]
        one_call = len(case["steps"]) == 1 and step["op"] in ("points", "box") and step.get("points", True)
        if not one_call or code == "E_NO_MEDIA":
            continue
        value = {"media_id": "m", "marks": json.dumps(nasty_marks(step))}
        width, height = case["size"]
        try:
            marks = read_marks(value, "m", Picture(height, width, case["frames"]))
            check_positive(marks.prompts)
            for prompt in marks.prompts:
                prompt.check_inside(height, width)
            outcome = "ok"
        except ValueError as error:
            outcome = str(error)
        expected = MEANING.get(code, "ok")
        assert expected in outcome, case["id"]
        checked += 1
    assert checked > 25


def test_ids_of_removed_objects_and_too_many_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="removed"):
        read({**RED, "y": 5}, removed=(1,))
    read(*({**RED, "y": 5, "object": i} for i in range(1, 33)))
    with pytest.raises(ValueError, match="Too many"):
        read(*({**RED, "y": 5, "object": i} for i in range(1, 34)))


# ------------------------------------------------------------------------------------------------- text


def expand(text: Any) -> str:
    """The shared table's way to write long or odd texts."""
    if isinstance(text, str):
        return text
    if "repeat" in text:
        return text["repeat"] * text["times"]
    return "".join(map(chr, text["utf16"]))


def test_nothing_people_type_becomes_markup(shared: Path) -> None:
    for case in json.loads((shared / "bad_inputs" / "prompts_nasty.json").read_text())["prompts"]:
        text = "".join(map(expand, case["text"]))[:5000]
        made = chat.said(text, ObjectMemoryBank())
        inner = made.removeprefix('<div class="up-said">').removesuffix("</div>").replace("<br>", "")
        assert not set("<>\"'`*_$[]()!\\\n\r") & set(inner), case["id"]


def test_names_of_known_objects_become_chips() -> None:
    masks = np.ones((1, 4, 4), bool)
    bank = ObjectMemoryBank().with_object(Masklet(2, masks), label="<cup>")
    made = chat.said("@2 and @3, not a@2 or @20: <b>@2</b>", bank)
    assert made.count("up-ref-2") == 2
    assert "up-ref-3" not in made
    assert "<b>" not in made
    assert "&#60;cup&#62;" in made


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (230, 159, 0), (0, 114, 178)])
def test_chips_can_be_read(color: tuple[int, int, int]) -> None:
    made = chat.chip(ObjectMemoryBank().with_object(Masklet(1, np.ones((1, 2, 2), bool)), color=color)[1])
    ink = 0.0 if "color:#000" in made else 1.0
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    ground = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5


@pytest.mark.parametrize(
    "spans, frames, words",
    [
        ([], 8, "not visible"),
        ([(0, 0)], 1, ""),
        ([(0, 7)], 8, "all frames"),
        ([(2, 2)], 8, "frame 3"),
        ([(0, 3), (6, 7)], 8, "frames 1–4, 7–8"),
    ],
)
def test_visible_frames_in_words(spans: list[tuple[int, int]], frames: int, words: str) -> None:
    assert render.describe_spans(spans, frames) == words


def test_large_masks_are_shown_smaller_and_empty_ones_not_at_all() -> None:
    masks = np.zeros((2, 20, 2600), bool)
    masks[0, 5:15, 100:2000] = True
    bank = ObjectMemoryBank().with_object(Masklet(1, masks))
    assert list(render.mask_layers(render.bank_codes(bank), bank)) == ["0"]


# ------------------------------------------------------------------------------------------------- GPU boundary


@pytest.fixture
def request_value() -> TurnRequest:
    media = Media(draw_clip(4), (0, 1, 2, 3), 8.0)
    region = Region(np.ones((240, 320), bool), 0, 2)
    prompts = (Point((70, 80), object_id=1), Box((205, 125, 275, 195), 0, 3), region)
    return TurnRequest(media, "What is @1?", prompts, ObjectMemoryBank(), (), "turn")


def test_everything_that_crosses_the_gpu_boundary_can_be_pickled(request_value: TurnRequest) -> None:
    answerer, previewer = gpu_functions(FakeEngine())
    there = pickle.loads(pickle.dumps(request_value))
    assert (there.media.frames == request_value.media.frames).all()
    assert there.prompts[:2] == request_value.prompts[:2]
    events = [pickle.loads(pickle.dumps(event)) for event in answerer(there)]
    done = events[-1]
    assert isinstance(done, TurnDone)
    assert done.text == "".join(e.text for e in events if isinstance(e, TextDelta)) == "@1 is a red circle."
    assert done.bank[1].masks[0, 80, 70]
    preview = pickle.loads(pickle.dumps(previewer(there.media, there.prompts[:2])))
    assert set(preview) == {1, 3}


def test_answers_are_small_on_the_wire(request_value: TurnRequest) -> None:
    answerer, _ = gpu_functions(FakeEngine())
    masks = [len(pickle.dumps(event)) for event in answerer(request_value) if not isinstance(event, TextDelta)]
    assert max(masks) < 20_000  # three objects, four frames; as bool arrays 900,000


def test_longer_clips_and_more_objects_ask_for_more_time(request_value: TurnRequest) -> None:
    longer = TurnRequest(
        Media(draw_clip(8), tuple(range(8)), 8.0), "?", request_value.prompts, ObjectMemoryBank(), (), "t"
    )
    fewer = TurnRequest(request_value.media, "?", (), ObjectMemoryBank(), (), "t")
    assert answer_seconds(fewer) <= answer_seconds(request_value) < answer_seconds(longer) <= 120


def test_broken_engines_do_not_leak_details() -> None:
    assert "secret" not in BROKEN
