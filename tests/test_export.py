"""What is taken away, read back with other people's readers, is what was there: every format is a round trip."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
from fakes import COLOURS, draw_clip, draw_scene, like
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unipixel import cli
from unipixel.export import FORMATS, Take, load_bank, make_receipt, read_names, write_archive, write_exports
from unipixel.media import load_media, playback_fps, write_png, write_video
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Answer, Masklet, Media
from unipixel.visualize import blur_background, cut_out, overlay, paint_background

CLIP_FORMATS = list(FORMATS)
PICTURE_FORMATS = [name for name, how in FORMATS.items() if not how.clips_only]


class Model:
    name = "fake"
    weights = "0123abcd" * 8


def bank_of(media: Media) -> ObjectMemoryBank:
    """The red circle @1, the blue square @3 (gone on the last frame of a clip) and the yellow star @4, nameless."""
    found = {1: "red", 3: "blue", 4: "yellow"}
    bank = ObjectMemoryBank()
    for object_id, colour in found.items():
        masks = np.stack([like(frame, COLOURS[colour]) for frame in media.frames])
        if object_id == 3 and len(masks) > 1:
            masks[-1] = False
        scores = np.linspace(0.5, 1, len(masks)).astype(np.float32)
        label = {1: "circle", 3: "square, “blue”"}.get(object_id, "")
        bank = bank.with_object(Masklet(object_id, masks, scores), label=label)
    return bank


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Five of nine frames of a clip with odd sides."""
    path = tmp_path_factory.mktemp("media") / "ball game.mp4"
    write_video(draw_clip(9)[:, :, :318], path, 8, crf=1)
    media = load_media(path, 5)
    media = Media(media.frames[:, :239, :317], media.frame_indices, media.fps, media.source)
    return Take(media, bank_of(media), make_receipt(Model(), media))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Take:
    path = tmp_path_factory.mktemp("media") / "scene.png"
    write_png(draw_scene(), path)
    media = load_media(path)
    return Take(media, bank_of(media), make_receipt(Model(), media))


@pytest.fixture(scope="module")
def written(clip: Take, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every format of the clip."""
    folder = tmp_path_factory.mktemp("written")
    files = write_exports(clip, CLIP_FORMATS, folder)
    assert sorted(files) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_clip(path: Path, like_take: Take) -> np.ndarray:
    """The frames of a clip without the pixel that odd sides got."""
    frames = np.asarray(iio.imread(path, plugin="pyav"))
    height, width = like_take.media.height, like_take.media.width
    assert frames.shape[1:3] == (height + height % 2, width + width % 2)
    return frames[:, :height, :width]


def read_webm(path: Path) -> np.ndarray:
    """T x H x W x 4 of a WebM with alpha, which only libvpx's own decoder shows."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as file:
        frames = [frame for packet in file.demux(video=0) for frame in decoder.decode(packet)]
    return np.stack([frame.to_ndarray(format="rgba") for frame in frames])


def close(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean difference of two pictures, of the pixels in `mask` if given."""
    difference = np.abs(a.astype(int) - b.astype(int)).mean(-1)
    return float(difference.mean() if mask is None else difference[mask].mean())


# ------------------------------------------------------------------------------------------------- data sets


def test_coco_loads_and_gives_the_masks_back(clip: Take, written: Path) -> None:
    coco = COCO(str(written / "coco.json"))
    assert [coco.imgs[i]["frame"] for i in sorted(coco.imgs)] == list(clip.frame_indices)
    assert {c["name"] for c in coco.cats.values()} == {"circle", "square, “blue”", "object"}
    for object_id, known in clip.bank.items():
        for t, mask in enumerate(known.masks):
            found = [a for a in coco.loadAnns(coco.getAnnIds(imgIds=[t + 1])) if a["object_id"] == object_id]
            assert len(found) == mask.any()
            for annotation in found:
                assert (coco.annToMask(annotation).astype(bool) == mask).all()
                assert annotation["area"] == mask.sum()
                x, y, w, h = annotation["bbox"]
                assert [x, y, x + w, y + h] == known.masklet.boxes()[t].tolist()
                assert coco.cats[annotation["category_id"]]["name"] == clip.labels[object_id]


def test_objects_of_one_name_share_a_category(picture: Take, tmp_path: Path) -> None:
    bank = picture.bank.renamed(3, "circle")
    write_exports(Take(picture.media, bank, picture.receipt), ["coco"], tmp_path)
    coco = COCO(str(tmp_path / "coco.json"))
    assert [c["name"] for c in coco.cats.values()] == ["circle", "object"]
    assert [a["category_id"] for a in coco.anns.values()] == [1, 1, 2]
    assert coco.imgs[1]["file_name"] == "scene.png"


def test_youtube_vis_gives_the_masks_back(clip: Take, written: Path) -> None:
    found = read_json(written / "youtube_vis.json")
    (video,) = found["videos"]
    assert (video["length"], video["width"], video["height"]) == (5, 317, 239)
    for annotation in found["annotations"]:
        known = clip.bank[annotation["id"]]
        for t, code in enumerate(annotation["segmentations"]):
            assert (code is None) == (not known.masks[t].any()) == (annotation["areas"][t] is None)
            if code is not None:
                assert (coco_mask.decode(code).astype(bool) == known.masks[t]).all()
    assert [a["id"] for a in found["annotations"]] == list(clip.bank)


def test_davis_pictures_hold_the_objects_by_number(clip: Take, written: Path) -> None:
    paths = sorted((written / "Annotations" / "ball game").glob("*.png"))
    assert [int(path.stem) for path in paths] == list(clip.frame_indices)
    for t, path in enumerate(paths):
        with Image.open(path) as image:
            assert image.mode == "P"
            indices, palette = np.asarray(image), image.getpalette() or []
            numbers = json.loads(image.text["Comment"])["davis_index"]
        for number, (object_id, mask) in enumerate(clip.masks(t).items(), 1):
            assert ((indices == number) == mask).all()
            assert tuple(palette[3 * number : 3 * number + 3]) == clip.colors[object_id]
            assert numbers[str(number)] == f"@{object_id}"


def test_where_objects_overlap_davis_shows_the_later_one(tmp_path: Path) -> None:
    media = Media(np.zeros((1, 8, 8, 3), np.uint8), (0,))
    masks = np.ones((1, 8, 8), bool)
    half = masks.copy()
    half[:, :4] = False
    bank = ObjectMemoryBank().with_object(Masklet(1, masks)).with_object(Masklet(2, half))
    write_exports(Take(media, bank, {}), ["davis"], tmp_path)
    indices = np.asarray(Image.open(tmp_path / "Annotations" / "media" / "00000.png"))
    assert (indices == np.where(half[0], 2, 1)).all()


def test_the_lists_name_the_frames_that_are_written(clip: Take, written: Path) -> None:
    names = [image["file_name"] for image in read_json(written / "coco.json")["images"]]
    assert names == read_json(written / "youtube_vis.json")["videos"][0]["file_names"]
    for name, frame in zip(names, clip.frames(), strict=True):
        assert close(iio.imread(written / "JPEGImages" / name), frame) < 3
        assert (written / "Annotations" / name).with_suffix(".png").is_file()


# ------------------------------------------------------------------------------------------------- text


def test_boxes_csv_has_a_row_per_visible_object_and_frame(clip: Take, written: Path) -> None:
    with (written / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = []
    for object_id, known in clip.bank.items():
        for t, box in enumerate(known.masklet.boxes()):
            if known.visible[t]:
                index = clip.frame_indices[t]
                expected.append((object_id, known.label, index, index / 8, *box, known.masks[t].sum(), known.scores[t]))
    got = [(int(r["object_id"]), r["label"], *(float(v) for v in list(r.values())[2:])) for r in rows]
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    assert [row[2:] for row in got] == [pytest.approx(row[2:]) for row in expected]


def test_the_bank_comes_back_and_belongs_to_its_media(clip: Take, picture: Take, written: Path) -> None:
    text = (written / "memory.json").read_text(encoding="utf-8")
    assert load_bank(text, clip.media) == clip.bank
    with pytest.raises(ValueError, match="marked on 317 x 239 pixels"):
        load_bank(text, picture.media)
    shorter = Media(clip.media.frames[:3], clip.media.frame_indices[:3], 8.0)
    with pytest.raises(ValueError, match="over 5 frames, this media has 3"):
        load_bank(text, shorter)
    with pytest.raises(ValueError, match="not JSON"):
        load_bank(text[:-9], clip.media)


# ------------------------------------------------------------------------------------------------- pictures


def test_cutouts_are_the_objects_and_nothing_else(clip: Take, written: Path) -> None:
    frames = list(clip.frames())
    for object_id, known in clip.bank.items():
        folder = written / "cutout" / f"object_{object_id}"
        shown = [t for t in range(5) if known.visible[t]]
        assert sorted(int(p.stem) for p in folder.iterdir()) == [clip.frame_indices[t] for t in shown]
        for t in shown:
            image = iio.imread(folder / f"{clip.frame_indices[t]:05d}.png")
            assert ((image[..., 3] == 255) == known.masks[t]).all()
            assert ((image[..., 3] == 0) == ~known.masks[t]).all()
            assert (image[known.masks[t], :3] == frames[t][known.masks[t]]).all()
            assert (image[~known.masks[t]] == 0).all()  # the background is gone, not only hidden


def test_the_webm_is_transparent_around_the_objects(clip: Take, written: Path) -> None:
    frames = read_webm(written / "cutout.webm")
    assert frames.shape == (5, 240, 318, 4)
    for t, frame in enumerate(clip.frames()):
        mask = clip.together(t)
        alpha = frames[t, :239, :317, 3]
        assert ((alpha > 127) != mask).mean() < 0.0005
        assert close(frames[t, :239, :317, :3], frame, mask) < 8
        assert alpha[~mask].mean() < 2


def test_backgrounds_change_and_objects_do_not(clip: Take, written: Path) -> None:
    blurred = read_clip(written / "background_blurred.mp4", clip)
    removed = read_clip(written / "background_removed.mp4", clip)
    for t, frame in enumerate(clip.frames()):
        mask = clip.together(t)
        assert close(blurred[t], frame, mask) < 6
        assert close(removed[t], frame, mask) < 6
        assert close(removed[t], np.full_like(frame, 255), ~mask) < 3


def test_a_blur_leaves_the_object_and_mixes_only_background() -> None:
    frame = draw_scene()
    frame[::2, ::2] //= 2  # texture, so that a blur shows
    mask = like(draw_scene(), COLOURS["red"])
    made = blur_background(frame, mask)
    assert (made[mask] == frame[mask]).all()
    texture = (slice(0, 40), slice(150, 320))
    assert made[texture].std((0, 1)).max() < 0.1 * frame[texture].std((0, 1)).min()
    assert (blur_background(frame, np.ones_like(mask)) == frame).all()
    # Right beside the red circle the background is still grey: no red ran into it.
    assert int(made[80, 70 + 38, 0]) - int(made[80, 70 + 38, 2]) < 8
    assert (paint_background(frame, mask, (1, 2, 3))[~mask] == (1, 2, 3)).all()
    assert (paint_background(frame, mask, (1, 2, 3))[mask] == frame[mask]).all()
    assert (cut_out(frame, mask)[mask, :3] == frame[mask]).all()


def test_overlay_and_gif_show_the_masks_where_they_are(clip: Take, written: Path) -> None:
    shown = [overlay(f, clip.masks(t), clip.colors, show_ids=True) for t, f in enumerate(clip.frames())]
    for name in ("overlay.mp4", "overlay.gif"):
        frames = read_clip(written / name, clip) if name.endswith("mp4") else iio.imread(written / name)
        assert len(frames) == 5
        assert max(close(a[..., :3], b) for a, b in zip(frames, shown, strict=True)) < 8
    video = iio.immeta(written / "overlay.mp4", plugin="pyav")
    assert video["duration"] == pytest.approx(5 / playback_fps(clip.media), rel=0.05)
    assert 5 / playback_fps(clip.media) == pytest.approx(5 / 4, rel=0.3)  # nine frames at eight a second


def test_a_picture_gives_pictures(picture: Take, tmp_path: Path) -> None:
    files = write_exports(picture, PICTURE_FORMATS, tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    assert {"overlay.png", "background_blurred.png", "background_removed.png", "cutout/object_3/00000.png"} <= names
    frame, mask = picture.media.frames[0], picture.together(0)
    blurred = iio.imread(tmp_path / "background_blurred.png")
    assert (blurred == blur_background(frame, mask)).all()
    assert (blurred[mask] == frame[mask]).all()
    assert (iio.imread(tmp_path / "background_removed.png")[~mask] == 255).all()
    assert (iio.imread(tmp_path / "overlay.png")[200:, 200:] == frame[200:, 200:]).all()  # no object there


# ------------------------------------------------------------------------------------------------- all of them


def embedded_receipt(path: Path) -> dict:
    """The receipt in a file's metadata."""
    if path.suffix == ".json":
        found = read_json(path)
        return found["receipt"] if "receipt" in found else found["info"]["receipt"]
    if path.suffix in (".mp4", ".webm"):
        with av.open(str(path)) as file:
            return json.loads({k.lower(): v for k, v in file.metadata.items()}["comment"])
    with Image.open(path) as image:
        text = image.info.get("Comment") or image.info["comment"]
        return json.loads(text)


def test_every_file_carries_the_receipt(clip: Take, picture: Take, written: Path, tmp_path: Path) -> None:
    assert read_json(written / "receipt.json") == dict(clip.receipt)
    assert clip.receipt["model"] == "fake"
    assert clip.receipt["weights"] == Model.weights
    assert clip.receipt["frames"] == list(clip.frame_indices)
    assert clip.receipt["thresholds"]["mask_logit"] == 0
    assert clip.receipt["versions"]["numpy"] == np.__version__
    for take, folder in ((clip, written), (picture, tmp_path)):
        if take is picture:
            write_exports(picture, PICTURE_FORMATS, tmp_path)
        for path in folder.rglob("*.*"):
            if path.is_file() and path.name not in ("boxes.csv", "receipt.json"):
                found = embedded_receipt(path)
                found.pop("davis_index", None)
                assert found == dict(take.receipt), path.name
    without = [name for name, how in FORMATS.items() if not how.carries_receipt]
    assert without == ["csv"]


def test_no_file_tells_where_it_was_made(written: Path, clip: Take) -> None:
    folder = str(Path(clip.media.source or "").parent).encode()
    assert folder
    assert not [path.name for path in written.rglob("*") if path.is_file() and folder in path.read_bytes()]


def test_an_archive_holds_the_same_files(clip: Take, written: Path, tmp_path: Path) -> None:
    path = write_archive(clip, CLIP_FORMATS, tmp_path / "all.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        packed = {name: archive.read(name) for name in archive.namelist()}
    files = {p.relative_to(written).as_posix(): p for p in written.rglob("*") if p.is_file()}
    assert set(packed) == set(files)
    for name in (
        "coco.json",
        "memory.json",
        "boxes.csv",
        "cutout/object_1/00000.png",
        "Annotations/ball game/00000.png",
    ):
        assert packed[name] == files[name].read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_export_leaves_no_half_archive(clip: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "davis", FORMATS["davis"].__class__("DAVIS", lambda take, folder: 1 / 0))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        write_archive(clip, ["csv", "davis"], tmp_path / "all.zip")
    assert list(tmp_path.iterdir()) == []


def test_no_objects_are_a_valid_result(clip: Take, tmp_path: Path) -> None:
    write_exports(Take(clip.media, ObjectMemoryBank(), clip.receipt), CLIP_FORMATS, tmp_path)
    coco = COCO(str(tmp_path / "coco.json"))
    assert (len(coco.imgs), len(coco.anns)) == (5, 0)
    assert not iio.imread(tmp_path / "Annotations" / "ball game" / "00000.png").any()
    assert read_webm(tmp_path / "cutout.webm")[..., 3].max() < 8


def test_masks_on_every_frame_are_taken_with_every_frame(clip: Take, tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(draw_clip(9), path, 8, crf=1)
    media = load_media(path, 3)
    bank = bank_of(Media(draw_clip(9), tuple(range(9)), 8.0))
    with pytest.raises(ValueError, match="over 9 frames, this media has 3"):
        Take(media, bank, {})
    take = Take(media, bank, make_receipt(Model(), media, every_frame=True), every_frame=True)
    write_exports(take, ["coco", "overlay", "frames"], tmp_path / "out")
    assert len(COCO(str(tmp_path / "out" / "coco.json")).imgs) == 9
    assert len(iio.imread(tmp_path / "out" / "overlay.mp4", plugin="pyav")) == 9
    assert len(list((tmp_path / "out" / "JPEGImages" / "long").iterdir())) == 9
    assert take.receipt["frames"] == "every"


@pytest.mark.parametrize("text, is_image, said", [("coco,tiff", False, "no export 'tiff'"), ("gif", True, "a clip")])
def test_unknown_names_are_refused(text: str, is_image: bool, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_names(text, is_image)


def test_names_are_read_once_each() -> None:
    assert read_names(" coco, csv,coco ", True) == ["coco", "csv"]
    assert read_names("all", False) == CLIP_FORMATS
    assert read_names("all", True) == PICTURE_FORMATS
    assert set(CLIP_FORMATS) - set(read_names("all", False, every_frame=True)) == {"bank"}
    with pytest.raises(ValueError, match="sampled frames"):
        read_names("coco,bank", False, every_frame=True)


# ------------------------------------------------------------------------------------------------- command line


class Finder:
    """Finds the red circle and calls it so."""

    name = "fake"
    weights = "0123abcd"

    def segment(self, media: Media, prompt: str, *, memory: ObjectMemoryBank) -> Answer:
        masks = np.stack([like(frame, COLOURS["red"]) for frame in media.frames])
        bank = memory.with_object(Masklet(memory.next_id(), masks), label="red circle")
        newest = max(bank)
        return Answer("", (), {newest: bank[newest].masklet}, bank)


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_engine", lambda name, device, dtype: Finder())


@pytest.mark.usefixtures("finder")
def test_the_command_line_exports(clip: Take, tmp_path: Path) -> None:
    command = ["segment", clip.media.source or "", "the red circle", "--max_frames", "5", "--output_dir", str(tmp_path)]
    assert cli.main([*command, "--export", "coco,cutout,csv"]) == 0
    report = read_json(tmp_path / "answer.json")
    assert {"coco.json", "cutout", "boxes.csv", "receipt.json", "overlay.mp4", "memory.json"} <= set(report["files"])
    assert all((tmp_path / name).exists() for name in report["files"])
    coco = COCO(str(tmp_path / "coco.json"))
    assert [c["name"] for c in coco.cats.values()] == ["red circle"]
    assert coco.dataset["info"]["receipt"] == report["receipt"] == read_json(tmp_path / "receipt.json")

    # What was remembered goes on: the same circle found once more is a second object.
    again = [*command, "--memory", str(tmp_path / "memory.json"), "--export", "all", "--zip"]
    assert cli.main(again) == 0
    assert list(load_bank((tmp_path / "memory.json").read_text("utf-8"), load_media(command[1], 5))) == [1, 2]
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        assert {"coco.json", "cutout.webm", "receipt.json", "youtube_vis.json"} <= set(archive.namelist())


@pytest.mark.usefixtures("finder")
@pytest.mark.parametrize("more", [["--export", "tiff"], ["--export", "gif"], ["--memory", "{memory}"]])
def test_what_cannot_be_exported_or_gone_on_from_is_refused_early(
    more: list[str], written: Path, picture: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part.format(memory=written / "memory.json") for part in more]
    assert cli.main(["segment", picture.media.source or "", "it", "--output_dir", str(tmp_path / "out"), *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    script = """
import resource, sys, tempfile
from pathlib import Path
import numpy as np
from unipixel.export import Take, write_archive
from unipixel.media import load_media, write_video
from unipixel.memory import MemoryObject, ObjectMemoryBank
from unipixel.types import encode_rle
count, folder = int(sys.argv[1]), Path(sys.argv[2])
frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
write_video((np.roll(frame, t, 1) for t in range(count)), folder / f"{count}.mp4", 30)
mask = np.zeros((1, 480, 640), bool); mask[:, 100:300, 100:300] = True
code = encode_rle(mask)[0]["counts"]
known = MemoryObject(1, (480, 640), (code,) * count, (1.0,) * count, "", (1, 2, 3), "")
take = Take(load_media(folder / f"{count}.mp4", 2), ObjectMemoryBank((known,)), {}, every_frame=True)
write_archive(take, ["davis", "frames", "coco", "gif", "overlay", "cutout"], folder / f"{count}.zip")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    root = Path(__file__).resolve().parents[1]
    peaks = []
    for count in (20, 260):
        done = subprocess.run(
            [sys.executable, "-c", script, str(count), str(tmp_path)],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 60  # MB; 240 more frames are 210 MB as pixels and 70 MB as masks
