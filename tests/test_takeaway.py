"""The "Take away" panel: what is prepared is what the session knows, and a saved bank goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine, draw_clip, draw_scene
from pycocotools.coco import COCO
from test_app import BLUE_BOX, RED, ask, canvas_value, make_workspace, open_file

from unipixel.export import FORMATS, load_bank
from unipixel.media import write_png, write_video
from unipixel.web.handlers import Workspace
from unipixel.web.session import NO_MEDIA, Session
from unipixel.web.takeaway import NO_FORMAT, NOT_FOUND, NOTHING, SELECTED, bring_back, prepare


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    write_png(draw_scene(), folder / "scene.png")
    write_video(list(draw_clip()), folder / "clip.mp4", 8)
    return folder


@pytest.fixture
def work(uploads: Path) -> Workspace:
    return make_workspace(uploads)


def two_objects(work: Workspace, name: str = "clip.mp4") -> Session:
    """A session in which @1 is the red circle and @2 the blue square."""
    session, _ = ask(work, open_file(work, name), "What are they?", RED, BLUE_BOX)
    assert list(session.bank) == [1, 2]
    return session


def take(work: Workspace, session: Session, names: list[str], which: str = "all", active: Any = None) -> Path:
    path, problem = prepare(work, FakeEngine(), session, {"active": active}, which, names)
    assert problem == ""
    assert path is not None
    return Path(path)


def refusal(work: Workspace, session: Session, names: list[str], which: str = "all", active: Any = None) -> str:
    path, problem = prepare(work, FakeEngine(), session, {"active": active}, which, names)
    assert path is None
    assert 'role="alert"' in problem
    return problem


def test_everything_is_one_archive(work: Workspace) -> None:
    session = two_objects(work)
    path = take(work, session, list(FORMATS))
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        bank = load_bank(archive.read("memory.json").decode(), work.store.get(session.media_id).media)
    assert {"overlay.mp4", "overlay.gif", "cutout.webm", "coco.json", "boxes.csv", "receipt.json"} <= names
    assert bank == session.bank


def test_one_file_comes_as_it_is(work: Workspace) -> None:
    session = two_objects(work)
    assert take(work, session, ["overlay"]).name == "overlay.mp4"
    assert take(work, session, ["csv"]).name == "clip-csv.zip"  # a table has no room for a receipt
    assert take(work, session, ["cutout"]).name == "clip-cutout.zip"
    path = take(work, session, ["coco"])
    masks = [COCO(str(path)).annToMask(a) for a in COCO(str(path)).loadAnns([1])]
    assert (masks[0] > 0).sum() == session.bank[1].masks[0].sum()


def test_the_selected_object_alone(work: Workspace) -> None:
    session = two_objects(work)
    coco = COCO(str(take(work, session, ["coco"], SELECTED, active=2)))
    assert {a["object_id"] for a in coco.anns.values()} == {2}
    for active in (None, 7, "2", True):
        if active is not True:  # JSON's true is Python's 1
            assert NOT_FOUND.split(":")[0] in refusal(work, session, ["coco"], SELECTED, active)


def test_a_picture_has_no_clips(work: Workspace) -> None:
    session = two_objects(work, "scene.png")
    assert take(work, session, ["overlay", "gif"]).name == "overlay.png"  # what a picture cannot be is left out
    assert "needs a video" in refusal(work, session, ["gif"])


def test_what_cannot_be_taken_is_said(work: Workspace) -> None:
    assert NO_MEDIA.rstrip(".") in refusal(work, Session(), ["coco"])
    assert NOTHING.split(":")[0] in refusal(work, open_file(work, "clip.mp4"), ["coco"])
    assert NO_FORMAT.rstrip(".") in refusal(work, two_objects(work), [])
    assert NO_FORMAT.rstrip(".") in refusal(work, two_objects(work), ["tiff"])


def test_files_go_with_the_next_and_with_the_session(work: Workspace) -> None:
    session = two_objects(work)
    first = take(work, session, ["coco"])
    second = take(work, session, ["bank"])
    assert not first.exists()
    assert second.exists()
    work.unload("ann")
    assert not second.exists()


def uploaded_bank(work: Workspace, session: Session, name: str = "memory.json") -> str:
    path = work.upload_folder / name
    path.write_text(take(work, session, ["bank"]).read_text("utf-8"), "utf-8")
    return str(path)


def test_a_saved_bank_goes_on(work: Workspace) -> None:
    session = two_objects(work)
    named = work.rename(session, "ann", 2, "my square").session
    assert named is not None
    path = uploaded_bank(work, named)
    fresh = open_file(work, "clip.mp4")
    patch = bring_back(work, fresh, "ann", canvas_value(fresh), path)
    assert patch.session is not None
    assert patch.session.bank == named.bank
    assert patch.objects is not None
    assert [(row["id"], row["label"]) for row in patch.objects] == [(1, ""), (2, "my square")]
    assert patch.canvas is not None
    assert set(patch.canvas["overlays"]["0"]) == {"1", "2"}
    assert not Path(path).exists()  # read, so gone
    after, _ = ask(work, patch.session, "What is @2?")
    assert after.turns[-1].answer == "@2 is a blue square."


def test_marks_on_the_canvas_do_not_replace_what_was_loaded(work: Workspace) -> None:
    path = uploaded_bank(work, two_objects(work))
    fresh = open_file(work, "clip.mp4")
    blue_is_one = {**BLUE_BOX, "object": 1}
    patch = bring_back(work, fresh, "ann", canvas_value(fresh, blue_is_one), path)
    assert patch.session is not None
    after, _ = ask(work, patch.session, "What is @1?", blue_is_one)
    assert after.turns[-1].answer == "@1 is a red circle."


def test_numbers_of_this_dialogue_are_not_used_again(work: Workspace) -> None:
    session = two_objects(work)
    path = uploaded_bank(work, session)
    more, _ = ask(work, session, "Segment the yellow star", RED, BLUE_BOX)
    assert list(more.bank) == [1, 2, 3]
    patch = bring_back(work, more, "ann", canvas_value(more), path)
    assert patch.session is not None
    assert (list(patch.session.bank), patch.session.bank.next_id()) == ([1, 2], 4)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": "unipixel-memory"}', "\ud83d", b"\xff\xfe\x00"])
def test_a_damaged_bank_changes_nothing(work: Workspace, text: str | bytes) -> None:
    session = two_objects(work)
    path = work.upload_folder / "memory.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    patch = bring_back(work, session, "ann", canvas_value(session), str(path))
    assert patch.session is None
    assert 'role="alert"' in (patch.notice or "")


def test_a_bank_of_other_media_is_refused(work: Workspace) -> None:
    path = uploaded_bank(work, two_objects(work))
    picture = open_file(work, "scene.png")
    patch = bring_back(work, picture, "ann", canvas_value(picture), path)
    assert patch.session is None
    assert "8 frames" in (patch.notice or "")


@pytest.mark.parametrize("path", [None, 3, "/etc/passwd", "gone.json", "a\0b"])
def test_only_uploaded_files_are_read(work: Workspace, path: Any) -> None:
    session = two_objects(work)
    patch = bring_back(work, session, "ann", canvas_value(session), path)
    assert patch.session is None
    assert "did not arrive" in (patch.notice or "")
    assert Path("/etc/passwd").exists()
