"""The "Take away" panel: what is prepared is what the session knows, and a saved bank goes on."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fakes import COLOURS, FakeEngine, draw_clip, draw_scene, like
from PIL import Image
from pycocotools.coco import COCO
from test_app import BLUE_BOX, RED, ask, canvas_value, make_workspace, open_file

from unipixel.data.world import draw_scene as draw_scene_of_world
from unipixel.engine import UniPixel
from unipixel.export import FORMATS, load_bank
from unipixel.media import load_media, write_png, write_video
from unipixel.types import Masklet, decode_rle
from unipixel.web.handlers import Workspace
from unipixel.web.patch import BUSY, STOPPED
from unipixel.web.results import (
    NEEDS_SAMPLED,
    NO_FORMAT,
    NOT_FOUND,
    NOTHING,
    SELECTED,
    Prepared,
    Wish,
    prepare,
)
from unipixel.web.session import Session
from unipixel.web.store import NO_MEDIA
from unipixel.web.takeaway import bring_back


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


def steps(work: Workspace, session: Session, names: list[str], active: Any = None, **wish: Any) -> Iterator[Prepared]:
    return prepare(work, FakeEngine(), session, "ann", {"active": active}, Wish(names, **wish))


def take(work: Workspace, session: Session, names: list[str], active: Any = None, **wish: Any) -> Path:
    *_, last = steps(work, session, names, active, **wish)
    assert (last.said, last.busy) == ("", False)
    assert last.path is not None
    return Path(last.path)


def refusal(work: Workspace, session: Session, names: list[str], active: Any = None, **wish: Any) -> str:
    (only,) = steps(work, session, names, active, **wish)
    assert (only.path, only.busy) == (None, False)
    assert 'role="alert"' in only.said
    return only.said


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
    coco = COCO(str(take(work, session, ["coco"], active=2, of=SELECTED)))
    assert {a["object_id"] for a in coco.anns.values()} == {2}
    for active in (None, 7, "2", True):
        if active is not True:  # JSON's true is Python's 1
            assert NOT_FOUND.split(":")[0] in refusal(work, session, ["coco"], active, of=SELECTED)


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


# ------------------------------------------------------------------------------------------------- every frame

LONG = 24  # frames, of which 16 are sampled


@pytest.fixture
def long_clip(uploads: Path) -> np.ndarray:
    """The true frames of `long.mp4`, in which things move and stay in the picture."""
    frames = draw_clip(LONG)
    write_video(list(frames), uploads / "long.mp4", 12, crf=4)
    return frames


def truth(frames: np.ndarray, colour: str) -> np.ndarray:
    return np.stack([like(frame, COLOURS[colour]) for frame in frames])


def fits(found: np.ndarray, true: np.ndarray) -> bool:
    """More alike than neighbouring frames are; the codec blurs edges."""
    return bool((found & true).sum() > 0.93 * (found | true).sum())


@pytest.fixture
def everything(work: Workspace, long_clip: np.ndarray, tmp_path: Path) -> Path:
    """A folder with all that every frame of the long clip can be written as."""
    session = two_objects(work, "long.mp4")
    assert session.bank[1].masks.shape[0] == 16
    with zipfile.ZipFile(take(work, session, list(FORMATS), every_frame=True)) as archive:
        archive.extractall(tmp_path / "everything")
    return tmp_path / "everything"


def test_every_frame_of_the_source_is_written_in_every_format(everything: Path, long_clip: np.ndarray) -> None:
    size = long_clip.shape[1:3]
    red, blue = truth(long_clip, "red"), truth(long_clip, "blue")
    coco = COCO(str(everything / "coco.json"))
    assert [coco.imgs[i]["frame"] for i in sorted(coco.imgs)] == list(range(LONG))
    for object_id, true in ((1, red), (2, blue)):
        own = sorted((a for a in coco.anns.values() if a["object_id"] == object_id), key=lambda a: a["image_id"])
        assert len(own) == LONG
        assert all(fits(coco.annToMask(a) > 0, mask) for a, mask in zip(own, true))
    (video,) = (made := json.loads((everything / "youtube_vis.json").read_text()))["videos"]
    assert (video["length"], [len(a["segmentations"]) for a in made["annotations"]]) == (LONG, [LONG, LONG])
    assert all(fits(decode_rle(a["segmentations"]), true) for a, true in zip(made["annotations"], (red, blue)))
    for t in (0, 5, LONG - 1):
        indexed = np.asarray(Image.open(everything / "Annotations" / "long" / f"{t:05d}.png"))
        assert fits(indexed == 1, red[t])
        assert fits(indexed == 2, blue[t])
        cut = np.asarray(Image.open(everything / "cutout" / "object_1" / f"{t:05d}.png"))
        assert fits(cut[..., 3] > 0, red[t])
    rows = list(csv.DictReader((everything / "boxes.csv").open()))
    assert [int(row["frame"]) for row in rows if row["object_id"] == "1"] == list(range(LONG))
    assert float(rows[5]["seconds"]) == pytest.approx(5 / 12, abs=0.001)
    assert len(list((everything / "JPEGImages" / "long").iterdir())) == LONG
    for name in ("overlay.mp4", "background_blurred.mp4", "background_removed.mp4", "cutout.webm"):
        with av.open(str(everything / name)) as clip:
            shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
            assert (len(shown), shown[0].shape[:2], clip.streams.video[0].average_rate) == (LONG, size, 12), name
        if name == "background_removed.mp4":
            assert (shown[7][~(red | blue)[7]] > 240).mean() > 0.98
    with Image.open(everything / "overlay.gif") as gif:
        assert (getattr(gif, "n_frames", 1), gif.size) == (LONG, size[::-1])
    assert not (everything / "memory.json").exists()  # it holds the sampled frames
    assert json.loads((everything / "receipt.json").read_text())["frames"] == "every"


def test_progress_is_shown_while_every_frame_is_written(work: Workspace, long_clip: np.ndarray) -> None:
    session = two_objects(work, "long.mp4")
    said = [now.said for now in steps(work, session, ["overlay", "cutout"], every_frame=True) if now.busy]
    assert any(f"{LONG} / {LONG}" in text and "Following" in text for text in said)
    assert not work.turns.busy("ann")
    picture = two_objects(work, "scene.png")
    assert take(work, picture, ["overlay"], every_frame=True).name == "overlay.png"  # all the frames that there are


@pytest.mark.parametrize("moment", ["Following", "Writing"])
@pytest.mark.parametrize("act", ["stop", "unload"])
def test_taking_every_frame_away_can_be_cancelled(uploads: Path, long_clip: np.ndarray, moment: str, act: str) -> None:
    work = make_workspace(uploads, FakeEngine(word_seconds=0.02))
    session = two_objects(work, "long.mp4")
    folder = work.store.get(session.media_id).folder
    seen = []
    for now in steps(work, session, ["overlay", "cutout", "webm", "davis"], every_frame=True):
        seen.append(now)
        if moment in now.said:
            getattr(work, act)("ann")
    assert moment in seen[-2].said
    assert (seen[-1].path, seen[-1].busy) == (None, False)
    assert STOPPED.rstrip(".") in seen[-1].said
    assert [path for path in (folder / "takeaway").rglob("*") if path.is_file()] == []
    assert not work.turns.busy("ann")
    assert len(work.line) == 0


def test_every_frame_waits_for_the_answer(work: Workspace, long_clip: np.ndarray) -> None:
    session = two_objects(work, "long.mp4")
    kept = take(work, session, ["coco"])
    with work.turns.open("ann"):
        assert BUSY.split(",")[0] in refusal(work, session, ["coco"], every_frame=True)
    assert kept.exists()  # nothing was done, so nothing is lost
    assert NEEDS_SAMPLED.rstrip(".") in refusal(work, session, ["bank"], every_frame=True)


@pytest.mark.slow
def test_masks_of_every_frame_lie_on_what_was_drawn(uploads: Path, tmp_path: Path) -> None:
    """The embedded model, on a clip of which it saw every third frame."""
    scene = draw_scene_of_world(np.random.default_rng(5), num_frames=24, num_objects=(2, 2))
    write_video(scene.frames, uploads / "world.mp4", 12, crf=4)
    model = UniPixel.from_pretrained("nano")
    work = make_workspace(uploads, model)
    media = load_media(uploads / "world.mp4", 8)
    work.load = lambda path: media
    start = open_file(work, "world.mp4")
    bank = start.bank
    for k, masks in enumerate(scene.masks, 1):
        bank = bank.with_object(Masklet(k, masks[list(media.frame_indices)]))
    session = start.with_bank(bank)
    *_, last = prepare(work, model, session, "ann", {}, Wish(["coco"], every_frame=True))
    coco = COCO(str(last.path))
    assert len(coco.imgs) == 24
    scores = {t: [] for t in range(24)}
    for found in coco.anns.values():
        true = scene.masks[found["object_id"] - 1, found["image_id"] - 1]
        mask = coco.annToMask(found) > 0
        scores[found["image_id"] - 1].append((mask & true).sum() / (mask | true).sum())
    assert all(np.mean(scores[t]) > 0.98 for t in media.frame_indices)  # they were given
    assert np.mean([np.mean(scores[t]) for t in set(range(24)) - set(media.frame_indices)]) > 0.75


# ------------------------------------------------------------------------------------------------- loading


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
