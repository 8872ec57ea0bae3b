"""Operations: options, health, loading, the queue, the log, temporary files, and what crosses to the GPU's process."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import FakeEngine, draw_clip, draw_scene
from test_api import free_port
from test_app import RED, ask, canvas_value, make_workspace, open_file, refused

from unipixel.media import load_media, write_png, write_video
from unipixel.memory import ObjectMemoryBank
from unipixel.types import Box, Masklet, Media, Point
from unipixel.web import build_demo, launch
from unipixel.web.gpu import (
    FollowRequest,
    TurnDone,
    TurnRequest,
    answer_seconds,
    follow_function,
    follow_seconds,
    gpu_functions,
    preview_seconds,
)
from unipixel.web.health import health_route
from unipixel.web.loading import LOADING, LoadingEngine
from unipixel.web.log import log_previews, logger
from unipixel.web.options import OPTIONS, ZERO_GPU_MODEL, read_options
from unipixel.web.store import MediaStore
from unipixel.web.turns import FULL, Line

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    write_png(draw_scene(), folder / "scene.png")
    write_video(list(draw_clip()), folder / "clip.mp4", 8)
    return folder


# ------------------------------------------------------------------------------------------------- options


def test_options_have_defaults() -> None:
    options = read_options([], {})
    assert (options.model, options.host, options.port) == ("nano", "127.0.0.1", 7860)
    assert (options.max_frames, options.max_mb, options.queue_size) == (16, 500, 32)
    assert (options.root_path, options.auth, options.share, options.mcp) == ("", (), False, False)


def test_a_space_listens_to_everyone_and_zero_gpu_serves_the_large_model() -> None:
    options = read_options([], {"SPACE_ID": "someone/space"}, zero_gpu=True)
    assert (options.host, options.model) == ("0.0.0.0", ZERO_GPU_MODEL)
    assert read_options([], {"UNIPIXEL_MODEL": "nano"}, zero_gpu=True).model == "nano"


SAID = {
    "model": ("some/folder", "some/folder"),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("8123", 8123),
    "max_frames": ("8", 8),
    "max_mb": ("20", 20),
    "queue_size": ("3", 3),
    "root_path": ("/unipixel/", "/unipixel"),
    "auth": ("ann:a:b,bob:c", (("ann", "a:b"), ("bob", "c"))),
    "share": ("yes", True),
}


@pytest.mark.parametrize("name", SAID)
def test_every_option_is_a_flag_and_a_variable(name: str) -> None:
    text, value = SAID[name]
    (option,) = [option for option in OPTIONS if option.name == name]
    for variable in option.variables:
        assert getattr(read_options([], {variable: text}), name) == value
    if name != "share":
        options = read_options([option.flag, text], dict.fromkeys(option.variables, "1"))
        assert getattr(options, name) == value  # the command line wins
    assert getattr(read_options([], {option.variables[0]: ""}), name) == option.default


def test_variables_of_our_own_win_over_everybodys() -> None:
    assert read_options([], {"UNIPIXEL_PORT": "1", "GRADIO_SERVER_PORT": "2", "PORT": "3"}).port == 1
    assert read_options([], {"GRADIO_SERVER_PORT": "2", "PORT": "3"}).port == 2


BAD = [
    (["--port", "x"], {}),
    (["--port", "70000"], {}),
    (["--port", "-1"], {}),
    ([], {"PORT": "http"}),
    (["--max-frames", "0"], {}),
    (["--max-mb", "1e3"], {}),
    (["--queue-size", "9" * 50], {}),
    (["--auth", "ann:secret,bob"], {}),
    (["--root-path", "no slash"], {}),
    ([], {"UNIPIXEL_SHARE": "perhaps"}),
    (["--model", " "], {}),
    (["--nonsense"], {}),
    (["--port"], {}),
]


@pytest.mark.parametrize("argv, environ", BAD)
def test_bad_options_are_one_sentence(argv: list[str], environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$") as caught:
        read_options(argv, environ)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 200


def run_app(*argv: str, temp: Path, **environ: str) -> subprocess.Popen[str]:
    """`python app.py` with its temporary files under `temp`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("UNIPIXEL_", "GRADIO_"))}
    return subprocess.Popen(
        [sys.executable, "app.py", *argv],
        cwd=ROOT,
        env={**clean, "GRADIO_TEMP_DIR": str(temp), "OMP_NUM_THREADS": "2", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["option", "model", "port"])
def test_what_cannot_be_served_ends_with_one_sentence_and_2(tmp_path: Path, what: str) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = str(taken.getsockname()[1])
        argv = {
            "option": ["--max-mb", "many"],
            "model": ["--model", "nowhere", "--port", str(free_port())],
            "port": ["--port", busy],
        }[what]
        process = run_app(*argv, temp=tmp_path)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert re.fullmatch(r"[A-Z][^\n]*\.\n", err.splitlines(keepends=True)[-1])
    assert "Traceback" not in err
    assert {"option": "--max-mb", "model": "nowhere", "port": busy}[what] in err


# ------------------------------------------------------------------------------------------------- a live server


def wait_for(url: str, wanted: Any, seconds: float = 120) -> dict[str, Any]:
    """What `url` answers as soon as `wanted(answer)` holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            answer = httpx.get(url, timeout=20).json()
            if wanted(answer):
                return answer
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{url} never answered as wanted")


@pytest.mark.slow
def test_the_page_is_there_before_the_model_and_nothing_is_left_after(tmp_path: Path) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    temp, port = tmp_path / "temp", free_port()
    process = run_app("--port", str(port), temp=temp)
    url = f"http://127.0.0.1:{port}"
    try:
        first = wait_for(f"{url}/health", lambda answer: True)
        assert first == {**first, "model": "nano", "loaded": False, "weights": "", "queue": 0}
        client = Client(url, verbose=False, download_files=tmp_path)
        scene = handle_file(ROOT / "assets" / "demo" / "picture.png")
        with pytest.raises(AppError, match="still being loaded"):
            client.predict(scene, "the yellow star", api_name="/segment")
        ready = wait_for(f"{url}/health", lambda answer: answer["loaded"])
        assert re.fullmatch("[0-9a-f]{64}", ready["weights"])
        reply, _ = client.predict(scene, "the yellow star", export="all", api_name="/segment")
        assert reply["receipt"]["weights"] == ready["weights"]
        assert [path for path in temp.rglob("*") if path.is_file()]
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [path for path in temp.rglob("*") if path.is_file()] == []
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["outcome"] for line in lines] == ["refused", "done"]
    assert lines[1]["request"] == "segment"
    assert "star" not in err


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Line]]:
    engine, line = FakeEngine(), Line(3)
    demo = build_demo(engine, examples=(), line=line)
    port = free_port()
    routes = [health_route(engine, line)]
    launch(demo, host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True, routes=routes, max_mb=1)
    yield f"http://127.0.0.1:{port}", line
    demo.close()


def test_health_tells_the_queue(served: tuple[str, Line]) -> None:
    url, line = served
    answer = httpx.get(f"{url}/health")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "version": "0.1.0",
        "model": "fake",
        "weights": "0123abcd",
        "loaded": True,
        "queue": 0,
        "queue_size": 3,
    }
    with line.place(object(), lambda: False):
        assert httpx.get(f"{url}/health").json()["queue"] == 1


def test_large_uploads_are_refused(served: tuple[str, Line]) -> None:
    url, _ = served
    answer = httpx.post(f"{url}/gradio_api/upload", files={"files": ("big.mp4", b"0" * 2_000_000)})
    assert answer.status_code == 413


def test_the_web_component_comes_from_this_server(served: tuple[str, Line]) -> None:
    url, _ = served
    script = httpx.get(f"{url}/gradio.js", headers={"Origin": "https://host.example"})
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["access-control-allow-origin"]
    (module,) = re.findall(r'import\("\./(assets/[^"]+)"\)', script.text)
    assert httpx.get(f"{url}/{module}").status_code == 200


def test_a_password_guards_page_and_api_but_not_health() -> None:
    engine, line = FakeEngine(), Line()
    demo = build_demo(engine, examples=(), line=line)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "auth": [("ann", "secret")]}
    launch(demo, host="127.0.0.1", port=port, routes=[health_route(engine, line)], **options)
    try:
        assert httpx.get(f"{url}/health").json()["loaded"] is True
        assert httpx.get(f"{url}/config").status_code == 401
        assert httpx.post(f"{url}/gradio_api/call/ask", json={"data": []}).status_code == 401
        assert httpx.post(f"{url}/login", data={"username": "ann", "password": "wrong"}).status_code == 400
        assert httpx.post(f"{url}/login", data={"username": "ann", "password": "secret"}).status_code == 200
    finally:
        demo.close()


# ------------------------------------------------------------------------------------------------- loading


def test_a_loading_model_refuses_with_a_sentence_and_then_is_the_model() -> None:
    ready = threading.Event()

    def load() -> Any:
        assert ready.wait(10)
        return FakeEngine()

    engine = LoadingEngine("big/model", load)
    assert (engine.loaded, engine.weights, engine.name) == (False, "", "big/model")
    with pytest.raises(ValueError, match="still being loaded"):
        engine.stream(None, "What?")
    ready.set()
    engine.wait()
    assert (engine.loaded, engine.weights) == (True, "0123abcd")
    media = Media(draw_clip(1), (0,))
    assert list(engine.stream(media, "Segment the red circle"))[-1].answer.text == "It is @1."


def test_a_model_that_cannot_be_loaded_says_why() -> None:
    def load() -> Any:
        raise ValueError("There is no such model.")

    engine = LoadingEngine("x", load)
    with pytest.raises(ValueError, match="no such model"):
        engine.wait()
    assert not engine.loaded


def test_a_question_before_the_model_is_there_is_given_back(uploads: Path) -> None:
    ready = threading.Event()
    engine = LoadingEngine("big/model", lambda: (ready.wait(10), FakeEngine())[1])
    work = make_workspace(uploads, engine)
    session = open_file(work, "scene.png")
    after, patches = ask(work, session, "What is @1?", RED)
    assert (after.entries, after.bank, refused(patches[-1])) == ((), session.bank, LOADING)
    assert (patches[-1].question, patches[-1].busy) == ("What is @1?", False)
    preview = (work.preview(session, canvas_value(session, RED)).canvas or {})["preview"]
    assert preview["note"] == LOADING
    ready.set()
    engine.wait()
    after, _ = ask(work, session, "What is @1?", RED)
    assert after.turns[-1].answer == "@1 is a red circle."


@pytest.mark.parametrize("zero_gpu", [True, False])
def test_zero_gpu_has_its_model_on_cuda_before_the_page_is_built(
    monkeypatch: pytest.MonkeyPatch, zero_gpu: bool
) -> None:
    import app

    calls: list[tuple[str, dict[str, Any]]] = []

    def from_pretrained(name: str, **options: Any) -> FakeEngine:
        calls.append((name, options))
        return FakeEngine()

    monkeypatch.setattr(app, "SpacesConfig", SimpleNamespace(zero_gpu=zero_gpu))
    monkeypatch.setattr(app, "unipixel", SimpleNamespace(UniPixel=SimpleNamespace(from_pretrained=from_pretrained)))
    engine = app.load_engine(read_options([], {}, zero_gpu=zero_gpu))
    if zero_gpu:
        assert isinstance(engine, FakeEngine)  # loaded when the function returns, as it must be there
        assert calls == [(ZERO_GPU_MODEL, {"device": "cuda"})]
    else:
        assert isinstance(engine, LoadingEngine)
        engine.wait()
        assert calls == [("nano", {})]


# ------------------------------------------------------------------------------------------------- queue


def test_who_finds_the_queue_full_is_told_and_loses_nothing(uploads: Path) -> None:
    work = make_workspace(uploads)
    work.line = Line(1)
    session = open_file(work, "scene.png")
    with work.line.place(object(), lambda: False):  # one computes
        waiting, left = threading.Event(), threading.Event()

        def wait() -> None:
            with work.line.place(object(), lambda: waiting.set() or left.is_set()):
                pass

        other = threading.Thread(target=wait)  # one waits
        other.start()
        assert waiting.wait(5)
        after, patches = ask(work, session, "What is @1?", RED)
        assert (after.entries, after.bank, refused(patches[-1])) == ((), session.bank, FULL)
        assert (patches[-1].question, patches[-1].busy) == ("What is @1?", False)
        left.set()
        other.join(5)
    after, _ = ask(work, session, "What is @1?", RED)
    assert after.turns[-1].answer == "@1 is a red circle."


# ------------------------------------------------------------------------------------------------- log


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The log's lines so far, read when the list is looked at."""
    found: list[dict[str, Any]] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(record.getMessage()))

    reader, before = Reader(), logger.level
    logger.addHandler(reader)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(reader)
    logger.setLevel(before)


def test_every_request_leaves_one_line_without_what_was_said(lines: list[dict[str, Any]], uploads: Path) -> None:
    work = make_workspace(uploads)
    session = open_file(work, "clip.mp4")
    ask(work, session, "What is @1, my secret?", RED)
    for question in ("This is impossible, my secret", "This is broken", "What is @7?"):
        ask(work, session, question)
    answers = work.answer(session, "ann", "Talk for long", canvas_value(session))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    work.begin(session, "ann", "")
    with work.turns.open("ann"):
        work.begin(session, "ann", "What is @1, my secret?")
    log_previews(work.previewer)(load_media(uploads / "scene.png"), [Point((70, 80), object_id=1)])
    assert [(line["request"], line["outcome"]) for line in lines] == [
        ("answer", "done"),
        ("answer", "refused"),
        ("answer", "failed"),
        ("answer", "refused"),
        ("answer", "left"),
        ("answer", "refused"),
        ("answer", "refused"),
        ("preview", "done"),
    ]
    assert all(set(line) == {"time", "request", "frames", "objects", "outcome", "seconds"} for line in lines)
    assert (lines[0]["frames"], lines[0]["objects"]) == (8, 1)
    assert 0 <= lines[0]["seconds"] < 60
    assert "secret" not in json.dumps(lines)


# ------------------------------------------------------------------------------------------------- temporary files


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_an_upload_goes_with_the_last_session_that_has_it_open(uploads: Path) -> None:
    store = MediaStore(uploads)
    media = load_media(uploads / "scene.png")
    store.add("ann", media)
    store.add("bob", media)
    store.drop_owner("ann")
    assert "scene.png" in files_in(uploads)
    store.add("bob", media)  # once more the same
    assert "scene.png" in files_in(uploads)
    store.drop_owner("bob")
    assert files_in(uploads) == {"clip.mp4"}


def test_what_is_not_an_upload_stays(uploads: Path, tmp_path: Path) -> None:
    example = tmp_path / "example.png"
    write_png(draw_scene(), example)
    store = MediaStore(uploads)
    store.add("ann", load_media(example))
    store.drop_owner("ann")
    assert example.is_file()


def test_a_store_takes_its_files_with_it(uploads: Path) -> None:
    before = files_in(uploads)
    store = MediaStore(uploads)
    store.add("ann", load_media(uploads / "clip.mp4"))
    assert files_in(uploads) > before
    del store
    assert files_in(uploads) == before


# ------------------------------------------------------------------------------------------------- GPU boundary


@pytest.fixture
def asked() -> TurnRequest:
    media = Media(draw_clip(4), (0, 1, 2, 3), 8.0)
    prompts = (Point((70, 80), object_id=1), Box((205, 125, 275, 195), 0, 2))
    return TurnRequest(media, "What is @1?", prompts, ObjectMemoryBank(), (), "turn")


def _work_elsewhere(inbox: Any, outbox: Any) -> None:
    """The other process: reads pickled calls, answers with pickled events, as ZeroGPU's worker does."""
    engine = FakeEngine()
    answer, preview = gpu_functions(engine)
    calls = {"answer": answer, "track": follow_function(engine), "preview": lambda r: [preview(*r)]}
    while (call := inbox.get()) is not None:
        name, request = pickle.loads(call)
        for event in calls[name](request):
            outbox.put(pickle.dumps(event))
        outbox.put(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_a_forked_process_gives_the_same_answers(asked: TurnRequest) -> None:
    fork = multiprocessing.get_context("fork")
    inbox, outbox = fork.Queue(), fork.Queue()
    worker = fork.Process(target=_work_elsewhere, args=(inbox, outbox), daemon=True)
    worker.start()

    def elsewhere(name: str, request: Any) -> tuple[list[Any], int]:
        inbox.put(pickle.dumps((name, request)))
        parts = list(iter(lambda: outbox.get(timeout=30), None))
        return [pickle.loads(part) for part in parts], max(map(len, parts))

    try:
        events, _ = elsewhere("answer", asked)
        done = events[-1]
        assert isinstance(done, TurnDone)
        here = list(gpu_functions(FakeEngine())[0](asked))[-1]
        assert isinstance(here, TurnDone)
        assert (done.text, done.bank) == (here.text, here.bank)

        # The worker's memory of the first call is nothing the second needs: the bank comes along.
        second = TurnRequest(asked.media, "And @2?", (), done.bank, (), "next")
        events, _ = elsewhere("answer", second)
        assert events[-1].text == "@2 is a blue square."

        request = FollowRequest(asked.media, asked.prompts, done.bank, False, "track")
        (found,), size = elsewhere("track", request)
        assert [packed.object_id for packed in found.masklets] == [1, 2]
        assert (found.masklets[0].unpack().masks == done.bank[1].masks).all()
        assert size < 20_000  # packed; as bool arrays 600,000
        (preview,), size = elsewhere("preview", (asked.media, asked.prompts))
        assert set(preview) == {1, 2}
        assert size < 5_000
    finally:
        inbox.put(None)
        worker.join(10)
        worker.kill()


def bank_with(count: int, frames: int) -> ObjectMemoryBank:
    bank = ObjectMemoryBank()
    for object_id in range(1, count + 1):
        bank = bank.with_object(Masklet(object_id, np.ones((frames, 8, 8), bool)))
    return bank


def test_gpu_seconds_grow_with_frames_and_objects() -> None:
    def seconds(frames: int, objects: int, marks: int = 0) -> int:
        media = Media(np.zeros((frames, 8, 8, 3), np.uint8), tuple(range(frames)), 8.0)
        prompts = tuple(Point((1, 1), object_id=100 + i) for i in range(marks))
        return answer_seconds(TurnRequest(media, "?", prompts, bank_with(objects, frames), (), "t"))

    assert seconds(1, 0) < seconds(16, 0) < seconds(16, 4) < seconds(16, 16) <= 120
    assert seconds(16, 0) < seconds(16, 0, marks=4) == seconds(16, 4)
    assert seconds(200, 32) == 120  # what a Space gives at most without asking
    assert seconds(1, 0) <= 20  # a picture does not wait for the place of a long clip


def test_gpu_seconds_of_tracking_count_the_frames_that_are_read() -> None:
    media = Media(np.zeros((4, 8, 8, 3), np.uint8), (0, 100, 200, 299), 8.0)

    def seconds(every_frame: bool, objects: int) -> int:
        prompts = tuple(Point((1, 1), object_id=i) for i in range(1, objects + 1))
        return follow_seconds(FollowRequest(media, prompts, ObjectMemoryBank(), every_frame, "t"))

    assert seconds(False, 1) < seconds(True, 1) < seconds(True, 3) <= 120
    assert preview_seconds(media, ()) <= 10
