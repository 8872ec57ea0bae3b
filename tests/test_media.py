"""Media: what people send is read right or refused with a sentence, and what is written reads back."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unipixel import decode
from unipixel.decode import Limits, MediaError
from unipixel.media import (
    load_media,
    read_all_frames,
    sample_indices,
    write_gif,
    write_masks_png,
    write_png,
    write_video,
)
from unipixel.types import Masklet

BAD_MEDIA = Path(__file__).parents[2] / "shared" / "bad_inputs" / "make_bad_media.py"
HEIGHT, WIDTH = 48, 64

# Where the loader rightly differs from the manifest, which also speaks of uploads and folder walks.
NO_NOTICE = {"W_NAME"}  # nothing is stored under a name here
OTHER_SENTENCE = {"fs-symlink-out", "fs-symlink-loop", "fs-dir"}  # met in a folder walk they are passed over
NOTHING_CHANGED = {
    "img-tiff-cycle",  # a page that follows itself is no second page
    "vid-odd",  # odd sides matter when writing only
}


def picture(shade: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Four quadrants, red, green, blue and white, so that every turn and swap shows; `shade` tells frames apart."""
    made = np.full((height, width, 3), 245, np.uint8)
    made[: height // 2, : width // 2] = (220, 30, 30)
    made[: height // 2, width // 2 :] = (30, 180, 30)
    made[height // 2 :, : width // 2] = (30, 60, 220)
    made[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = shade
    return made


def clip_of(count: int, **size: int) -> np.ndarray:
    return np.stack([picture(10 * t, **size) for t in range(count)])


def shade_of(frame: np.ndarray) -> int:
    height, width = frame.shape[:2]
    return round(frame[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4].mean() / 10)


def assert_close(frame: np.ndarray, expected: np.ndarray, tolerance: float = 12) -> None:
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < tolerance


# ------------------------------------------------------------------------------------------------- the nasty corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The folder of nasty files with its manifest, made once."""
    if not BAD_MEDIA.is_file():
        pytest.skip("shared/bad_inputs is not here")
    spec = importlib.util.spec_from_file_location("make_bad_media", BAD_MEDIA)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_bad_media"] = module
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("corpus")
    assert module.main(["--out", str(folder)]) == 0
    return folder, json.loads((folder / "manifest.json").read_text()), module.corners


def check_refused(entry: dict, path: str, kind, codes: dict) -> str | None:
    try:
        media = load_media(path, 256, kind=kind)
    except MediaError as error:
        sentences = [codes[code] for code in entry["codes"]]
        if str(error) in sentences or entry["id"] in OTHER_SENTENCE:
            return None
        return f"refused with {str(error)!r}"
    return f"taken: {media.frames.shape}"


def check_taken(entry: dict, path: str, kind, codes: dict, corners) -> str | None:
    media = load_media(path, 256, kind=kind)
    expect, first = entry["expect"], media.frames[0]
    low, high = expect.get("frames_between", (0, 256))
    dark, bright = expect.get("mean_between", (0, 255))
    needed = {codes[c] for c in set(entry["codes"]) - NO_NOTICE} if entry["id"] not in NOTHING_CHANGED else set()
    checks = {
        "size": [media.width, media.height] == expect.get("size", [media.width, media.height]),
        "frames": media.num_frames == expect.get("frames", media.num_frames) and low <= media.num_frames <= high,
        "corners": "corners" not in expect or corners(first) == expect["corners"],
        "mean": dark <= first.mean() <= bright,
        "white": "left_half" not in expect or first[:, : media.width // 2].min() > 250,
        "notices": needed <= set(media.notices),
        "no notices": entry["outcome"] != "accept" or not media.notices,
    }
    wrong = [name for name, ok in checks.items() if not ok]
    return f"wrong {wrong}: {media.frames.shape} {media.notices}" if wrong else None


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_file_of_the_corpus_ends_as_its_manifest_says(corpus, monkeypatch):
    folder, manifest, corners = corpus
    monkeypatch.setattr(socket.socket, "connect", None)  # nothing may reach out
    wrong = {}
    for entry in manifest["files"]:
        if "skipped" in entry:
            continue
        path = os.fsdecode(os.path.join(os.fsencode(folder), bytes.fromhex(entry["file_hex"])))
        kind = "auto" if entry["door"] == "bulk" else entry["door"]
        if entry["outcome"] == "reject":
            problem = check_refused(entry, path, kind, manifest["codes"])
        else:
            problem = check_taken(entry, path, kind, manifest["codes"], corners)
        if problem:
            wrong[entry["id"]] = problem
    assert wrong == {}
    assert len(manifest["files"]) > 100


def test_a_folder_walk_passes_over_links_pipes_and_folders(corpus):
    media = load_media(corpus[0] / "bulk")
    assert media.num_frames == 1
    assert decode.NOT_A_FILE in media.notices


# -------------------------------------------------------------------------------------------------------- pictures


def test_pictures_in_every_form(tmp_path):
    expected = picture()
    write_png(expected, tmp_path / "a.png")
    for source in (expected, Image.fromarray(expected), tmp_path / "a.png", str(tmp_path / "a.png")):
        media = load_media(source)
        assert (media.is_image, media.fps, media.frame_indices, media.notices) == (True, 0.0, (0,), ())
        np.testing.assert_array_equal(media.frames[0], expected)
        np.testing.assert_array_equal(next(read_all_frames(media)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that undoes the tag's turn
    stored = Image.fromarray(picture())
    stored = stored.transpose(Image.Transpose(turn[orientation])) if orientation in turn else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    media = load_media(tmp_path / "a.png")
    np.testing.assert_array_equal(media.frames[0], picture())
    assert (decode.NOTE_ROTATED in media.notices) == (orientation > 1)


def test_hidden_colours_behind_alpha_do_not_show():
    rgba = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    media = load_media(Image.fromarray(rgba))
    assert media.frames.min() == 255
    assert media.notices == (decode.NOTE_ALPHA,)


def test_sixteen_bits_are_scaled():
    grey = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    media = load_media(Image.fromarray(grey))
    assert (media.frames.min(), media.frames.max()) == (0, 255)
    assert 120 < media.frames.mean() < 135


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("no/such/file.png", "does not exist"),
        ("a\0b", "does not exist"),
        ("http://example.invalid/a.mp4", "does not exist"),
        (os.devnull, "not a regular file"),
        (np.zeros((48, 64, 3)), "float64 of shape"),
        (np.zeros((48, 64), np.uint8), "not of shape"),
        (np.zeros((48, 64, 4), np.uint8), "uint8 array H x W x 3"),
        (np.zeros((0, 48, 64, 3), np.uint8), "holds no frames"),
        (np.zeros((7, 64, 3), np.uint8), "too small"),
        (np.zeros((8, 801, 3), np.uint8), "long and thin"),
        ([], "holds no frames"),
        ([picture(), None], "not NoneType"),
        (None, "not NoneType"),
        (b"abc", "not bytes"),
        ({"path": "x"}, "not dict"),
        (Image.new("F", (64, 48)), "Floating-point"),
    ],
)
def test_other_sources_are_refused(source, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_media(source)


@pytest.mark.parametrize("max_frames", [0, -1, 1025, 2.0, "3", None, True])
def test_max_frames_is_checked(max_frames):
    with pytest.raises(ValueError, match="max_frames must be"):
        load_media(picture(), max_frames)


def test_limits_can_be_changed(tmp_path):
    write_video(clip_of(8), tmp_path / "a.mp4", fps=4)
    with pytest.raises(MediaError, match="limit 1 seconds"):
        load_media(tmp_path / "a.mp4", limits=Limits(max_seconds=1))
    with pytest.raises(MediaError, match="limit 7"):
        load_media(tmp_path / "a.mp4", limits=Limits(max_frames=7))
    assert load_media(np.zeros((4, 4, 3), np.uint8), limits=Limits(min_side=4)).width == 4


# ----------------------------------------------------------------------------------------------------------- clips


@given(st.integers(1, 500), st.integers(1, 64))
def test_samples_are_even_with_both_ends(total, count):
    indices = sample_indices(total, count)
    assert len(indices) == len(set(indices)) == min(total, count)
    assert indices[0] == 0
    assert count == 1 or indices[-1] == total - 1
    gaps = np.diff(indices)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("fps", [5, 30, 29.97])
def test_videos_are_sampled_and_read_in_full(tmp_path, fps):
    frames = clip_of(20)
    media = load_media(write_video(frames, tmp_path / "a.mp4", fps), 6)
    assert media.frame_indices == (0, 4, 8, 11, 15, 19)
    assert media.fps == pytest.approx(fps, rel=1e-3)
    assert [shade_of(frame) for frame in media.frames] == list(media.frame_indices)
    every = list(read_all_frames(media))
    assert [shade_of(frame) for frame in every] == list(range(20))
    for index, frame in zip(media.frame_indices, media.frames):
        np.testing.assert_array_equal(every[index], frame)


def test_fewer_frames_than_promised_are_sampled_evenly(tmp_path, monkeypatch):
    """Packets can promise frames that cannot be decoded: the second reading knows better."""
    path = write_video(clip_of(12), tmp_path / "a.mp4")
    whole = decode.open_file

    def promise_more(*arguments):
        clip = whole(*arguments)
        clip.count = 30
        return clip

    monkeypatch.setattr("unipixel.media.open_file", promise_more)
    media = load_media(path, 4)
    assert media.frame_indices == (0, 4, 7, 11)
    assert [shade_of(frame) for frame in media.frames] == [0, 4, 7, 11]


def test_clips_in_every_form(tmp_path):
    frames = clip_of(12)
    for t, frame in enumerate(frames):
        write_png(frame, tmp_path / f"f{t}.png")  # f2 comes before f10
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = [Image.fromarray(frame) for frame in frames]
    for source in (
        frames,
        list(frames),
        pictures,
        tmp_path,
        str(tmp_path),
        [tmp_path / f"f{t}.png" for t in range(12)],
    ):
        media = load_media(source, 12)
        np.testing.assert_array_equal(media.frames, frames)
        assert media.fps == decode.DEFAULT_FPS
    media = load_media(tmp_path, 4)
    assert media.frame_indices == (0, 4, 7, 11)
    np.testing.assert_array_equal(np.stack(list(read_all_frames(media))), frames)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        load_media(tmp_path / "empty")


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_are_clips(tmp_path, name):
    images = [Image.fromarray(frame) for frame in clip_of(6)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=200, loop=0, lossless=True)
    media = load_media(tmp_path / name)
    assert (media.num_frames, media.fps) == (6, 5.0)
    assert [shade_of(frame) for frame in read_all_frames(media)] == list(range(6))
    still = load_media(tmp_path / name, kind="image")
    assert still.notices[0] == decode.NOTE_FIRST_FRAME
    np.testing.assert_array_equal(still.frames, media.frames[:1])
    assert sum(1 for _ in read_all_frames(still)) == 1


def test_frames_of_other_sizes_are_scaled_with_a_notice():
    media = load_media([picture(), picture(height=96, width=128)])
    assert media.notices == (decode.NOTE_RESIZED,)
    assert_close(media.frames[1], picture())


def test_playlists_are_never_followed(tmp_path):
    write_video(clip_of(3), tmp_path / "secret.mp4")
    for text in (
        "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
        "v=0\no=- 0 0 IN IP4 1\n",
    ):
        (tmp_path / "playlist.mp4").write_text(text)
        with pytest.raises(MediaError, match="not supported"):
            load_media(tmp_path / "playlist.mp4")


def test_sentences_hold_no_path(tmp_path):
    for content in (
        b"",
        b"x" * 99,
        b"\x89PNG\r\n\x1a\nxxxxxxxxxx",
        b"\0\0\0\x18ftypisom" + bytes(99),
        b"\x1aE\xdf\xa3" + bytes(99),
    ):
        (tmp_path / "a.bin").write_bytes(content)
        with pytest.raises(MediaError) as caught:
            load_media(tmp_path / "a.bin")
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files_never_do_more_than_refuse(seed, samples, tmp_path):
    random = np.random.default_rng(seed)
    data = bytearray(samples[seed % len(samples)])
    for _ in range(random.integers(1, 12)):
        data[random.integers(0, len(data))] = random.integers(0, 256)
    (tmp_path / "a").write_bytes(data[: random.integers(len(data) // 2, len(data) + 1)])
    with contextlib.suppress(MediaError):
        assert load_media(tmp_path / "a").num_frames >= 1


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("samples")
    write_video(clip_of(6), folder / "a.mp4")
    write_gif(clip_of(4), folder / "a.gif")
    write_png(picture(), folder / "a.png")
    for name in ("a.jpg", "a.webp", "a.tif", "a.bmp"):
        Image.fromarray(picture()).save(folder / name)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


# --------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("height, width", [(48, 64), (49, 65), (17, 33)])
def test_written_videos_play_everywhere_and_read_back(tmp_path, height, width):
    frames = clip_of(5, height=height, width=width)
    path = write_video(iter(frames), tmp_path / "out.mp4", 12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
    media = load_media(path)
    assert media.num_frames == 5
    assert_close(media.frames[3, :height, :width], frames[3])


def test_written_gifs_read_back(tmp_path):
    frames = clip_of(5)
    media = load_media(write_gif(iter(frames), tmp_path / "out.gif", 8))
    assert media.num_frames == 5
    assert media.fps == pytest.approx(8, rel=0.1)
    assert_close(media.frames[3], frames[3], 4)


def test_gifs_store_what_changes_and_for_how_long(tmp_path):
    still, rng = picture(), np.random.default_rng(0)
    moved = still.copy()
    moved[10:20, 30:45] = rng.integers(0, 4, (10, 15, 3)) * 60
    path = write_gif([still, still, still, moved, still], tmp_path / "out.gif", 10, comment="why")
    with Image.open(path) as file:
        assert (file.info["comment"], file.info["loop"], getattr(file, "n_frames", 1)) == (b"why", 0, 3)
        shown = []
        for n in range(3):
            file.seek(n)
            shown.append((file.info["duration"], np.asarray(file.convert("RGB"))))
    assert [duration for duration, _ in shown] == [300, 100, 100]
    for (_, found), true in zip(shown, (still, moved, still)):
        assert_close(found, true, 4)
    outside = np.ones(still.shape[:2], bool)
    outside[10:20, 30:45] = False
    assert (shown[1][1] == shown[0][1])[outside].all()  # no flicker where nothing moves


def test_written_pictures_read_back(tmp_path):
    mask = picture()[..., 0] > 100
    np.testing.assert_array_equal(load_media(write_png(mask, tmp_path / "m.png")).frames[0, ..., 0] > 0, mask)
    paths = write_masks_png(Masklet(1, np.stack([mask, ~mask])), tmp_path / "masks")
    assert [path.name for path in paths] == ["00000.png", "00001.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])) > 0, ~mask)


@pytest.mark.parametrize("write", [write_video, write_gif])
def test_a_failed_writing_leaves_nothing(tmp_path, write):
    bad = [picture(), picture(height=50)]
    for frames, fps in ((bad, 5), ([], 5), ([picture()], 0), ([picture()], float("nan"))):
        with pytest.raises(ValueError, match=r"of one size|at least one|fps must be"):
            write(frames, tmp_path / "out", fps)
    assert list(tmp_path.iterdir()) == []


def test_writing_needs_no_list_of_frames(tmp_path):
    alive = []

    def make():
        for t in range(40):
            frame = picture(t)
            alive.append(frame)
            yield alive.pop()

    write_video(make(), tmp_path / "a.mp4")
    assert load_media(tmp_path / "a.mp4", 40).num_frames == 40


def test_sniffing_looks_at_content_only():
    heads = {"hevc": b"\0\0\0\1\x40\1" + bytes(99), "mpegts": b"G" + bytes(187) + b"G", "avi": b"RIFF....AVI "}
    for demuxer, head in heads.items():
        assert decode.sniff(head) == ("video", demuxer)
    for other in (b"MZ" + bytes(300), b"", b"\0\0\0\1", b"G", b"RIFF....WAVE", b"#EXTM3U", b"<?xml"):
        assert decode.sniff(other) is None
