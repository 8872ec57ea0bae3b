"""Several pictures and clips in one dialogue, without a browser: the handlers with a fake engine."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, draw_scene
from test_app import BLUE_BOX, RED, ask, canvas_value, make_workspace, open_file, refused, seen, uploads, work
from test_takeaway import long_clip, refusal, steps, take, two_objects, uploaded_bank

from unipixel.media import load_media, write_png
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Masklet
from unipixel.web.handlers import Workspace
from unipixel.web.patch import BUSY, STOPPED, Patch
from unipixel.web.results import DIALOGUE, NOTHING, Wish, prepare
from unipixel.web.session import FULL_ALBUM, LAST_MEDIUM, MAX_MEDIA, NO_MEDIUM, QUESTION_GONE, ChatEntry, Session
from unipixel.web.store import GONE, TOO_LARGE, MediaStore
from unipixel.web.takeaway import RENUMBERED, bring_back

__all__ = ["long_clip", "uploads", "work"]  # fixtures

RED_2 = {**RED, "object": 2}


def add_files(work: Workspace, session: Session, *names: str, value: Any = None) -> Patch:
    return work.add(session, "ann", [{"path": str(work.upload_folder / name)} for name in names], value)


def add_file(work: Workspace, session: Session, name: str = "clip.mp4", value: Any = None) -> Session:
    patch = add_files(work, session, name, value=value)
    assert patch.session is not None, patch.notice
    return patch.session


def switch(work: Workspace, session: Session, number: int, value: Any = None) -> Session:
    patch = work.switch(session, "ann", number, value)
    assert patch.session is not None, patch.notice
    return patch.session


def begin(work: Workspace, session: Session, question: str, value: Any = None) -> Patch:
    return work.begin(session, "ann", question, value)


def answered(work: Workspace, session: Session, question: str, value: Any) -> Session:
    """The session after a question as the page asks it, with what the canvas holds."""
    begun = begin(work, session, question, value).session
    assert begun is not None
    return [p.session for p in work.answer(begun, "ann", question, value) if p.session][-1]


def left_behind(work: Workspace) -> tuple[Session, dict[str, Any]]:
    """A dialogue in which @1 is only marked, on picture 1, while clip 2 is open; and what its canvas holds."""
    first = open_file(work, "scene.png")
    left = canvas_value(first, RED)
    session = add_file(work, first, value=left)
    return session, {**canvas_value(session), "elsewhere": {first.media_id: left["marks"]}}


@pytest.fixture
def two(work: Workspace) -> Session:
    """A dialogue with @1, the red circle, on picture 1 and @2, the blue square, on clip 2, which is open."""
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    session = add_file(work, session)
    session, _ = ask(work, session, "Segment the blue square")
    assert {i: session.home(i).number for i in session.objects} == {1: 1, 2: 2}  # type: ignore[union-attr]
    return session


# ------------------------------------------------------------------------------------------------- add and switch


def test_what_is_added_is_opened_and_the_rest_stays(work: Workspace) -> None:
    first, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    patch = add_files(work, first, "clip.mp4")
    assert patch.session is not None
    assert patch.canvas is not None
    assert (patch.canvas["media"]["id"], patch.canvas["objects"]) == (patch.session.media_id, [])
    assert [(item["title"], item["ids"]) for item in patch.canvas["album"]] == [("Picture 1", [1]), ("Video 2", [])]
    assert all(item["thumb"].startswith("data:image/jpeg") for item in patch.canvas["album"])
    assert patch.canvas["next_id"] == 2
    assert (patch.session.entries, patch.session.turns) == (first.entries, ())  # one dialogue, but nothing about this
    assert [(row["id"], row["title"], row["here"]) for row in patch.objects or []] == [(1, "Picture 1", False)]


def test_a_medium_comes_back_as_it_was_left(work: Workspace, two: Session) -> None:
    patch = work.switch(two, "ann", 1, None)
    assert patch.session is not None
    assert patch.canvas is not None
    assert (list(patch.session.bank), patch.session.anchors, len(patch.session.turns)) == ([1], {1: {0}}, 1)
    assert [item["id"] for item in patch.canvas["objects"]] == [1]
    assert set(patch.canvas["overlays"]["0"]) == {"1"}
    assert len(patch.canvas["media"]["frames"]) == 1
    assert switch(work, patch.session, 2) == two


def test_several_files_are_added_at_once_and_what_is_wrong_with_one_is_said(work: Workspace) -> None:
    patch = add_files(work, Session(), "scene.png", "notes.png", "clip.mp4")
    assert patch.session is not None
    assert [medium.title for medium in patch.session.media] == ["Picture 1", "Video 2"]
    assert 'role="alert"' in (patch.notice or "")
    nothing = add_files(work, patch.session, "notes.png", "gone.png")
    assert nothing.session is None
    assert (nothing.canvas or {})["refused"]["reason"]


@pytest.mark.parametrize("files", [None, {}, "x", [None], [{"path": "/etc/passwd"}], [[]]])
def test_only_uploads_are_added(work: Workspace, files: Any) -> None:
    session = open_file(work, "scene.png")
    patch = work.add(session, "ann", files, None)
    assert patch.session is None
    assert "did not arrive" in (patch.notice or "")


def test_a_dialogue_has_room_for_so_many_media(work: Workspace) -> None:
    patch = add_files(work, Session(), *["scene.png"] * (MAX_MEDIA + 1))
    assert patch.session is not None
    assert len(patch.session.media) == len(work.store) == MAX_MEDIA
    assert FULL_ALBUM.split(";")[0] in (patch.notice or "")


@pytest.mark.parametrize("number", [0, 3, -1, None, "1", [], 1.5])
def test_what_is_not_there_cannot_be_opened_or_removed(work: Workspace, two: Session, number: Any) -> None:
    for patch in (work.switch(two, "ann", number, None), work.remove(two, "ann", number, None)):
        assert patch.session is None
        assert NO_MEDIUM.rstrip(".") in (patch.notice or "")
    assert len(work.store) == 2


def test_media_cannot_change_under_a_running_answer(work: Workspace, two: Session) -> None:
    with work.turns.open("ann"):
        patches = (
            add_files(work, two, "scene.png"),
            work.switch(two, "ann", 1, None),
            work.remove(two, "ann", 1, None),
        )
    for patch in patches:
        assert patch.session is None
        assert BUSY.split(",")[0] in (patch.notice or "")


def test_a_reset_while_a_file_is_read_leaves_nothing_behind(work: Workspace) -> None:
    def load(path: Path) -> Any:
        work.reset("ann")
        return load_media(path)

    session = open_file(work, "scene.png")
    work.load = load
    patch = add_files(work, session, "clip.mp4")
    assert patch.session is None
    assert len(work.store) == 0


def test_a_click_is_previewed_on_the_medium_it_was_made_on(work: Workspace, two: Session) -> None:
    value = canvas_value(switch(work, two, 1), {**BLUE_BOX, "object": 3})  # while the canvas goes on to the clip
    preview = (work.preview(two, value).canvas or {})["preview"]
    assert set(preview["masks"]) == {"3"}
    (patch,) = work.correct(two, "ann", value)
    assert patch.session is None  # what is not open is not tracked


# ------------------------------------------------------------------------------------------------- object numbers


def test_a_number_is_never_given_on_two_media(work: Workspace, two: Session) -> None:
    session, _ = ask(work, switch(work, two, 1), "Segment the yellow star")
    assert (list(session.bank), list(session.objects)) == ([1, 3], [1, 3, 2])
    deleted = work.delete(session, "ann", 3).session
    assert deleted is not None
    session, _ = ask(work, switch(work, deleted, 2), "Segment the red circle")
    assert list(session.bank) == [2, 4]
    _, patches = ask(work, session, "And now?", {**RED, "object": 1})  # @1 is on the picture
    assert "removed" in refused(patches[-1])


def test_numbers_of_marks_that_wait_on_another_medium_are_kept_free(work: Workspace) -> None:
    session, value = left_behind(work)
    session = answered(work, session, "Segment the blue square", value)
    assert list(session.objects) == [2]
    back, _ = ask(work, switch(work, session, 1, value), "What is @1?", RED)
    assert list(back.bank) == [1]


def test_banks_know_only_their_own_numbers(two: Session) -> None:
    assert [medium.bank.used_ids for medium in two.media] == [{1}, {2}]
    assert two.bank.retired == {1}
    assert two.with_bank(two.bank).media == two.media


def test_objects_are_named_and_deleted_wherever_they_are(work: Workspace, two: Session) -> None:
    named = work.rename(two, "ann", 1, "ball").session
    assert named is not None
    assert (named.objects[1].label, named.opened) == ("ball", 2)
    patch = work.delete(named, "ann", 1)
    assert patch.session is not None
    assert ([row["id"] for row in patch.objects or []], patch.session.opened) == ([2], 2)
    cleared = work.clear_objects(named, "ann").session
    assert cleared is not None
    assert (cleared.objects, cleared.bank.next_id()) == ({}, 3)


def test_a_correction_is_taken_back_on_its_own_medium(work: Workspace, two: Session) -> None:
    first = switch(work, two, 1)
    value = canvas_value(first, RED, {**BLUE_BOX, "object": 3})
    tracked = [p.session for p in work.correct(first, "ann", value) if p.session][-1]
    asked, _ = ask(work, switch(work, tracked, 2), "What is @2?")
    assert work.revert(asked, "ann").session is None
    reverted = work.revert(switch(work, asked, 1), "ann").session
    assert reverted is not None
    assert (list(reverted.bank), reverted.entries) == ([1], asked.entries)
    assert reverted.medium(2) == asked.medium(2)


# ------------------------------------------------------------------------------------------------- questions


def test_the_model_gets_one_medium_with_what_was_said_about_it(uploads: Path) -> None:
    engine = FakeEngine()
    work = make_workspace(uploads, engine)
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    session, _ = ask(work, add_file(work, session), "What is @2?", RED_2)
    session, _ = ask(work, session, "And what is @2 again?", RED_2)
    ask(work, switch(work, session, 1), "What was it?", RED)
    histories = [[turn.question for turn in call["history"]] for call in engine.calls]  # type: ignore[attr-defined]
    assert histories == [[], [], ["What is @2?"], ["What is @1?"]]
    assert [list(call["memory"]) for call in engine.calls] == [[], [], [2], [1]]  # type: ignore[call-overload]


def test_a_question_says_what_it_was_about_once_there_are_two(work: Workspace, two: Session) -> None:
    one, _ = ask(work, open_file(work, "scene.png", "bob"), "What is @1?", RED)
    assert "up-about" not in json.dumps(work.changed(one).chat)
    assert re.findall(r"(Picture|Video) (\d)", seen(work.changed(two))) == [("Picture", "1"), ("Video", "2")]
    running = begin(work, switch(work, two, 1), "What is it?")
    assert re.findall(r"(?:Picture|Video) \d", seen(running))[-1] == "Picture 1"


def test_frames_and_names_in_the_chat_lead_to_their_medium(work: Workspace, two: Session) -> None:
    session, _ = ask(work, two, "When is it seen?")
    patch = work.switch(session, "ann", 1, None)
    assert re.findall(r"up-at-(\d) up-of-(\d)", json.dumps(patch.chat)) == [("2", "2"), ("5", "2")]
    assert {"1", "2"} == set(re.findall(r"up-ref-(\d)", json.dumps(patch.chat)))


def test_a_question_opens_the_medium_of_its_objects(work: Workspace, two: Session) -> None:
    patch = begin(work, two, "What is @1?")
    assert patch.session is not None
    assert patch.canvas is not None
    assert (patch.session.opened, patch.canvas["media"]["id"], patch.busy) == (1, two.media[0].media_id, True)
    # The canvas may still show the other one when its marks are read.
    session = answered(work, two, "What is @1?", canvas_value(two))
    assert (session.entries[-1].answer, session.entries[-1].medium) == ("@1 is a red circle.", 1)


def test_marks_that_were_left_on_a_medium_count_when_a_question_opens_it(work: Workspace) -> None:
    session, value = left_behind(work)
    session = answered(work, session, "What is @1?", value)
    assert (session.opened, session.entries[-1].answer) == (1, "@1 is a red circle.")


def test_a_question_about_two_media_is_refused(work: Workspace, two: Session) -> None:
    for patch in (begin(work, two, "Is @2 like @1?"), ask(work, two, "Is @2 like @1?")[1][-1]):
        assert refused(patch) == "@2 is on Video 2 and @1 on Picture 1; ask about one of them at a time."
        assert patch.session is not None
        assert (patch.session.opened, patch.session.entries) == (2, two.entries)


def test_asking_again_goes_back_to_the_medium_of_the_question(work: Workspace, two: Session) -> None:
    away = switch(work, two, 1)
    for start in (work.retry(away, "ann"), begin(work, editing(work, away), "Segment the red circle")):
        assert start.session is not None
        assert (start.canvas or {})["media"]["id"] == two.media_id
        after, _ = ask(work, start.session, start.pending or "")
        assert [(entry.medium, entry.title) for entry in after.entries] == [(1, "Picture 1"), (2, "Video 2")]
        assert list(after.objects) == [1, 2]


def editing(work: Workspace, session: Session) -> Session:
    patch = work.edit(session, "ann")
    assert patch.session is not None
    return patch.session


def test_an_edited_question_may_turn_to_another_medium(work: Workspace, two: Session) -> None:
    begun = begin(work, editing(work, two), "What is @1?").session
    assert begun is not None
    after, _ = ask(work, begun, "What is @1?")
    assert [(entry.question, entry.medium) for entry in after.entries] == [("What is @1?", 1)] * 2
    assert (list(after.objects), after.opened) == ([1], 1)  # the square was found by the answer that is gone


# ------------------------------------------------------------------------------------------------- taking one out


def test_a_removed_medium_takes_files_and_objects_with_it(work: Workspace, two: Session) -> None:
    folder, upload = work.store.get(two.media_id).folder, work.upload_folder / "clip.mp4"
    assert folder.exists()
    patch = work.remove(two, "ann", 2, None)
    assert patch.session is not None
    assert (folder.exists(), upload.exists(), len(work.store)) == (False, False, 1)
    assert (patch.session.opened, list(patch.session.objects), patch.download) == (1, [1], "")
    assert [row["id"] for row in patch.objects or []] == [1]
    shown = json.dumps(patch.chat)
    assert "up-ref-2" not in shown
    assert "Video 2 (removed)" in seen(patch)
    assert ".mp4" not in shown  # its file went
    after, _ = ask(work, patch.session, "Segment the yellow star")
    assert list(after.bank) == [1, 3]  # numbers stay taken
    assert add_file(work, after, "scene.png").current.title == "Picture 3"
    _, patches = ask(work, patch.session, "What is @2?")
    assert "removed" in refused(patches[-1])


def test_another_one_is_removed_from_where_one_is(work: Workspace, two: Session) -> None:
    patch = work.remove(two, "ann", 1, None)
    assert patch.session is not None
    assert (patch.session.opened, patch.session.bank.next_id()) == (2, 3)


def test_the_only_medium_stays(work: Workspace) -> None:
    session = open_file(work, "scene.png")
    patch = work.remove(session, "ann", 1, None)
    assert patch.session is None
    assert LAST_MEDIUM.split("&")[0].split("'")[0] in (patch.notice or "")
    assert len(work.store) == 1


def test_a_question_about_a_removed_medium_is_not_asked_again(work: Workspace, two: Session) -> None:
    session = work.remove(editing(work, two), "ann", 2, None).session
    assert session is not None
    assert session.editing is False  # its question cannot be replaced any more
    assert refused(work.retry(session, "ann")) == QUESTION_GONE
    assert work.edit(session, "ann").session is None
    after, _ = ask(work, session, "What is @1?")
    assert len(after.entries) == 3


# ------------------------------------------------------------------------------------------------- the store


def test_leaving_forgets_all_media(work: Workspace, two: Session) -> None:
    folders = [work.store.get(medium.media_id).folder for medium in two.media]
    work.unload("ann")
    assert (len(work.store), [folder.exists() for folder in folders]) == (0, [False, False])
    assert not list(work.upload_folder.glob("*.mp4"))


def test_starting_anew_forgets_all_media(work: Workspace, two: Session) -> None:
    write_png(draw_scene(shift=8), work.upload_folder / "other.png")
    fresh = open_file(work, "other.png")
    assert (len(work.store), len(fresh.media), fresh.bank.next_id()) == (1, 1, 1)


def test_the_same_file_twice_stays_until_both_are_gone(work: Workspace) -> None:
    session = add_file(work, open_file(work, "scene.png"), "scene.png")
    removed = work.remove(session, "ann", 2, None).session
    assert removed is not None
    assert (work.upload_folder / "scene.png").exists()
    work.unload("ann")
    assert not (work.upload_folder / "scene.png").exists()


def test_the_media_of_a_session_are_used_together(uploads: Path) -> None:
    media = load_media(uploads / "scene.png")
    store = MediaStore(uploads, max_bytes=4 * media.frames.nbytes)
    first, second = store.add("ann", media), store.add("ann", media, beside=True)
    others = [store.add("bob", media), store.add("cleo", media)]
    store.get(first.media_id)
    store.add("dora", media)
    assert (store.find(first.media_id), store.find(second.media_id)) == (first, second)
    assert [store.find(other.media_id) for other in others] == [None, others[1]]


def test_one_session_cannot_push_all_others_out(uploads: Path) -> None:
    media = load_media(uploads / "scene.png")
    store = MediaStore(uploads, max_bytes=4 * media.frames.nbytes)
    bob = store.add("bob", media)
    store.add("ann", media)
    store.add("ann", media, beside=True)
    with pytest.raises(ValueError, match=TOO_LARGE):
        store.add("ann", media, beside=True)
    assert store.find(bob.media_id) is bob


def test_a_medium_that_was_dropped_is_one_sentence_and_the_rest_goes_on(work: Workspace, two: Session) -> None:
    work.store.drop(two.media[0].media_id)
    patch = work.switch(two, "ann", 1, None)
    assert patch.session is None
    assert GONE.split(";")[0] in (patch.notice or "")
    assert refused(begin(work, two, "What is @1?")) == GONE
    after, _ = ask(work, two, "What is @2?")
    assert after.entries[-1].answer == "@2 is a blue square."
    removed = work.remove(after, "ann", 1, None).session
    assert removed is not None
    assert list(removed.objects) == [2]


# ------------------------------------------------------------------------------------------------- taking away


def test_files_are_made_of_the_open_medium(work: Workspace, two: Session) -> None:
    *_, last = prepare(work, FakeEngine(), two, "ann", {}, Wish(["bank"]))
    assert (last.path is not None, last.said) == (True, "")
    assert list(ObjectMemoryBank.from_json(Path(last.path or "").read_text("utf-8"))) == [2]


def test_a_saved_bank_gets_numbers_that_are_free(work: Workspace, two: Session) -> None:
    path = uploaded_bank(work, two)
    third = add_file(work, two)  # the same clip once more
    patch = bring_back(work, third, "ann", canvas_value(third), path)
    assert patch.session is not None
    assert RENUMBERED.rstrip(".") in (patch.notice or "")
    assert (list(patch.session.bank), list(patch.session.objects)) == ([3], [1, 2, 3])
    assert (patch.session.bank[3].masks == two.bank[2].masks).all()
    assert patch.session.medium(2) == third.medium(2)


# ------------------------------------------------------------------------------------------------- the value itself


def test_sessions_of_one_medium_behave_as_before() -> None:
    session = Session().adding("m")
    masks = Masklet(1, draw_scene()[None, ..., 0] > 200)
    session = session.with_bank(ObjectMemoryBank().with_object(masks)).with_entry(ChatEntry("?", "@1."))
    assert [turn.answer for turn in session.turns] == ["@1."]
    assert (session.entries[0].medium, session.entries[0].title) == (1, "Picture 1")
    with pytest.raises(ValueError, match="not part"):
        session.opening(2)


# ------------------------------------------------------------------------------------------------- take away


@pytest.mark.parametrize("every_frame", [False, True])
def test_a_whole_dialogue_is_one_archive_with_a_folder_for_each_medium(work: Workspace, every_frame: bool) -> None:
    session, _ = ask(work, open_file(work, "scene.png"), "What is @1?", RED)
    session = add_file(work, session)
    assert NOTHING.split(":")[0] in refusal(work, session, ["coco"])  # of the clip, which is open
    session, _ = ask(work, session, "Segment the blue square")
    path = take(work, session, ["coco", "gif"], of=DIALOGUE, every_frame=every_frame)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = {"picture-1/coco.json", "picture-1/receipt.json"}
        assert set(archive.namelist()) == names | {f"video-2/{n}" for n in ("coco.json", "overlay.gif", "receipt.json")}
        for folder, object_id in (("picture-1", 1), ("video-2", 2)):
            found = json.loads(archive.read(f"{folder}/coco.json"))
            assert {a["object_id"] for a in found["annotations"]} == {object_id}
    assert take(work, session, ["gif"], of=DIALOGUE).name == "overlay.gif"  # only the clip has one
    picture = session.opening(1)
    assert "needs a video" in refusal(work, picture, ["gif"])
    assert not work.turns.busy("ann")


def test_taking_a_whole_dialogue_away_can_be_cancelled(work: Workspace, long_clip: np.ndarray) -> None:
    session = two_objects(work, "scene.png")
    session, _ = ask(work, add_file(work, session, "long.mp4"), "Segment the blue square")
    seen = []
    for now in steps(work, session, ["overlay"], of=DIALOGUE, every_frame=True):
        seen.append(now)
        work.stop("ann")
    assert seen[-1].path is None
    assert STOPPED.rstrip(".") in seen[-1].said
    folder = work.store.get(session.media[0].media_id).folder
    assert [path for path in (folder / "takeaway").rglob("*") if path.is_file()] == []
