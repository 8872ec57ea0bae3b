"""The endpoints for programs: called over HTTP on a live server, and as plain methods where that shows more."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEngine, draw_clip, draw_scene, like
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unipixel.export import load_bank
from unipixel.media import load_media, write_png, write_video
from unipixel.web import build_demo, launch
from unipixel.web.api import Api
from unipixel.web.callers import Callers
from unipixel.web.gpu import follow_function, gpu_functions
from unipixel.web.handlers import Workspace
from unipixel.web.patch import BROKEN
from unipixel.web.store import MediaStore, uploaded_file

ROOT = Path(__file__).resolve().parents[1]
RED, BLUE = {"type": "point", "x": 70, "y": 80}, {"type": "box", "x1": 205, "y1": 125, "x2": 275, "y2": 195}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_png(draw_scene(), folder / "scene.png")
    write_video(list(draw_clip(9)), folder / "clip.mp4", 8, crf=1)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    demo = build_demo(FakeEngine(), examples=(), max_frames=5)
    port = free_port()
    launch(demo, host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}"
    demo.close()


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[Client]:
    made = Client(url, verbose=False, download_files=tmp_path)
    yield made
    made.close()


def decoded(found: dict[str, Any]) -> np.ndarray:
    return np.stack([coco_mask.decode(code) for code in found["masks"]]).astype(bool)


def test_a_session_remembers_between_calls(client: Client, files: Path) -> None:
    first, made = client.predict(handle_file(files / "clip.mp4"), "What is @1?", [RED], api_name="/ask")
    assert first["text"] == "@1 is a red circle."
    assert made == []
    assert first["receipt"]["model"] == "fake"
    assert first["receipt"]["media"] == "clip.mp4"
    assert first["receipt"]["frames"] == [0, 2, 4, 6, 8]
    (found,) = first["objects"]
    frames = load_media(files / "clip.mp4", 5).frames
    truth = np.stack([like(frame, COLOURS["red"]) for frame in frames])
    assert (decoded(found) & truth).sum() > 0.95 * (decoded(found) | truth).sum()
    assert found["visible_spans"] == [[0, 4]]

    second, _ = client.predict(None, "the blue square", session=first["session"], api_name="/segment")
    assert (second["session"], second["text"], second["remembered"]) == (first["session"], "It is @2.", [1, 2])
    third, _ = client.predict(None, "What is @1 again?", session=first["session"], api_name="/ask")
    assert third["text"] == "@1 is a red circle."
    described, _ = client.predict(None, BLUE, session=first["session"], api_name="/describe")
    assert described["remembered"] == [1, 2, 3]


def test_files_come_with_the_answer(client: Client, files: Path) -> None:
    reply, made = client.predict(handle_file(files / "clip.mp4"), [RED, BLUE], export="coco", api_name="/track")
    assert [found["object_id"] for found in reply["objects"]] == [1]  # marks without a number mean one object
    coco = COCO(made[0])
    assert Path(made[0]).name == "coco.json"
    assert coco.dataset["info"]["receipt"] == reply["receipt"]
    marks = [{**RED, "object": 1}, {**BLUE, "object": 2}]
    reply, made = client.predict(None, marks, session=reply["session"], export="all", api_name="/track")
    assert [found["object_id"] for found in reply["objects"]] == [1, 2]
    with zipfile.ZipFile(made[0]) as archive:
        assert {"overlay.mp4", "cutout.webm", "boxes.csv", "receipt.json"} <= set(archive.namelist())
        bank = load_bank(archive.read("memory.json").decode(), load_media(files / "clip.mp4", 5))
    assert [(bank[i].masks == decoded(found)).all() for i, found in zip(bank, reply["objects"])] == [True, True]


def test_an_object_can_be_said_to_be_absent(client: Client, files: Path) -> None:
    absent = {"type": "absent", "frame": 2}
    reply, _ = client.predict(handle_file(files / "clip.mp4"), [RED, absent], api_name="/track")
    assert reply["objects"][0]["visible_spans"] == [[0, 1], [3, 4]]
    assert reply["objects"][0]["scores"][2] == 1


def test_every_frame_of_the_source_can_be_had(client: Client, files: Path) -> None:
    given = handle_file(files / "clip.mp4")
    reply, made = client.predict(given, [{**RED, "frame": 0}], every_frame=True, export="coco", api_name="/track")
    assert len(reply["objects"][0]["masks"]) == 9
    assert reply["receipt"]["frames"] == "every"
    assert reply["remembered"] == []
    assert len(COCO(made[0]).imgs) == 9


def test_more_masks_than_one_call_may_hold_are_refused(client: Client, files: Path, monkeypatch) -> None:
    given = handle_file(files / "clip.mp4")
    monkeypatch.setattr("unipixel.web.api.MOST_MASK_BYTES", 9 * 320 * 240)
    client.predict(given, [RED], every_frame=True, api_name="/track")  # one object fits
    with pytest.raises(AppError, match="2 objects on 9 frames of 320x240 are too much for one call"):
        client.predict(given, [{**RED, "object": 1}, {**BLUE, "object": 2}], every_frame=True, api_name="/track")
    reply, _ = client.predict(given, [RED], api_name="/track")  # nor does it stop the sampled frames
    assert len(reply["objects"][0]["masks"]) == 5


def test_sessions_do_not_see_each_other(client: Client, files: Path) -> None:
    ann, _ = client.predict(handle_file(files / "clip.mp4"), "What is @1?", [RED], api_name="/ask")
    bob, _ = client.predict(handle_file(files / "scene.png"), "What is @1?", [BLUE], api_name="/ask")
    assert ann["session"] != bob["session"]
    again, _ = client.predict(None, "What is @1?", session=ann["session"], api_name="/ask")
    assert again["text"] == "@1 is a red circle."
    assert len(again["objects"][0]["masks"]) == 5


@pytest.mark.parametrize(
    "call, said",
    [
        ({"media": None, "question": "What?"}, "Upload a picture or video first."),
        ({"media": None, "question": "What?", "session": "0" * 32}, "session has ended"),
        ({"media": "notes.txt", "question": "What?"}, "."),
        ({"media": "scene.png", "question": " "}, "Type a question"),
        ({"media": "scene.png", "question": "This is impossible"}, "That cannot be asked."),
        ({"media": "scene.png", "question": "This is broken"}, BROKEN),
        ({"media": "scene.png", "question": "What?", "marks": [{"type": "point", "x": 9999, "y": 1}]}, "outside"),
        ({"media": "scene.png", "question": "What?", "marks": [{"type": "star"}]}, "could not be read"),
        ({"media": "scene.png", "question": "What?", "marks": [{**RED, "label": 0}]}, "at least one place"),
        ({"media": "scene.png", "question": "What?", "export": "tiff"}, "no export 'tiff'"),
    ],
)
def test_bad_calls_get_one_sentence(client: Client, files: Path, call: dict[str, Any], said: str) -> None:
    if call["media"]:
        call = {**call, "media": handle_file(files / call["media"])}
    with pytest.raises(AppError) as caught:
        client.predict(**call, api_name="/ask")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_only_uploads_are_read(url: str) -> None:
    import httpx

    data = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "What?", None, "", ""]}
    event = httpx.post(f"{url}/gradio_api/call/ask", json=data).json()["event_id"]
    answer = httpx.get(f"{url}/gradio_api/call/ask/{event}", timeout=20).text
    assert "event: error" in answer
    assert "root" not in answer


def test_the_endpoints_say_what_they_take(client: Client) -> None:
    offered: Any = client.view_api(return_format="dict")
    endpoints = offered["named_endpoints"]
    assert set(endpoints) == {"/segment", "/ask", "/track", "/describe"}
    assert [p["parameter_name"] for p in endpoints["/ask"]["parameters"]] == [
        "media",
        "question",
        "marks",
        "session",
        "export",
    ]
    assert all(endpoint["description"] for endpoint in endpoints.values())


# ------------------------------------------------------------------------------------------------- sessions


def test_sessions_end_when_idle_or_too_many() -> None:
    dropped: list[str] = []
    callers = Callers(dropped.append, limit=2, idle=0.2)
    ids = []
    for _ in range(3):
        with callers.open("") as caller:
            ids.append(caller.session_id)
    assert dropped == ids[:1]
    with callers.open(ids[1]):  # the oldest there is, and it may stay: nobody new has come
        assert dropped == ids[:1]
    time.sleep(0.25)
    with callers.open("") as fresh:
        assert set(dropped) == set(ids)
    with pytest.raises(ValueError, match="ended"), callers.open(ids[2]):
        pass
    with callers.open(fresh.session_id) as again:
        assert again is fresh


def test_an_idle_session_ends_though_nobody_calls() -> None:
    dropped: list[str] = []
    callers = Callers(dropped.append, idle=0.2)
    ids = []
    for _ in range(2):
        with callers.open("") as caller:
            ids.append(caller.session_id)
        time.sleep(0.1)
    deadline = time.monotonic() + 20
    while len(dropped) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert dropped == ids  # one after the other


def test_a_session_answers_one_call_after_the_other() -> None:
    callers = Callers(lambda _: None)
    with callers.open("") as caller:
        session_id = caller.session_id
    log: list[str] = []

    def call(name: str) -> None:
        with callers.open(session_id):
            log.append(f"{name} in")
            time.sleep(0.05)
            log.append(f"{name} out")

    threads = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert log in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


def test_files_of_a_session_go_with_it(files: Path, tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    upload = uploads / "clip.mp4"
    upload.write_bytes((files / "clip.mp4").read_bytes())
    engine = FakeEngine()
    answerer, previewer = gpu_functions(engine)
    work = Workspace(answerer, previewer, MediaStore(uploads), uploads)
    api = Api(work, engine, answerer, follow_function(engine))
    media: Any = {"path": str(upload)}
    reply, made = api.ask(media, "What is @1?", [RED], export="csv")
    assert Path(made[0].path).is_file()
    api.callers.close(reply["session"])
    assert [path for path in uploads.rglob("*") if path.is_file()] == []
    with pytest.raises(ValueError, match="ended"):
        api.ask(None, "What is @1?", session=reply["session"])


# ------------------------------------------------------------------------------------------------- examples and MCP


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples" / "api").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_against_a_live_server(example: Path, url: str, tmp_path: Path) -> None:
    if "mcp" in example.stem and importlib.util.find_spec("mcp") is None:
        pytest.skip("needs the mcp package, which is not installed")
    done = subprocess.run(
        [sys.executable, str(example), url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="needs the mcp package, which is not installed")
def test_the_endpoints_are_tools_of_an_agent(files: Path) -> None:
    import asyncio

    import httpx
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    demo = build_demo(FakeEngine(), examples=(), max_frames=5)
    port = free_port()
    launch(demo, host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True, mcp_server=True)
    api = f"http://127.0.0.1:{port}/gradio_api"
    (path,) = httpx.post(f"{api}/upload", files={"files": ("scene.png", (files / "scene.png").read_bytes())}).json()

    async def talk() -> tuple[set[str], list[Any]]:
        async with streamablehttp_client(f"{api}/mcp/") as (read, write, _), ClientSession(read, write) as agent:
            await agent.initialize()
            names = {tool.name for tool in (await agent.list_tools()).tools}
            given = {"media": f"{api}/file={path}", "question": "What is @1?", "marks": [RED], "export": "csv"}
            first = await agent.call_tool("ask", given)
            session = literal_eval(first.content[0].text)[0]["session"]  # Gradio writes results as Python does
            second = await agent.call_tool("segment", {"media": None, "prompt": "the blue square", "session": session})
            refused = await agent.call_tool("ask", {"media": "https://example.com/a.png", "question": "What?"})
            return names, [first, second, refused]

    try:
        names, (first, second, refused) = asyncio.run(talk())
    finally:
        demo.close()
    assert names == {"segment", "ask", "track", "describe"}
    assert literal_eval(first.content[0].text)[0]["text"] == "@1 is a red circle."
    assert literal_eval(second.content[0].text)[0]["remembered"] == [1, 2]
    assert refused.isError
    assert "did not arrive" in refused.content[0].text


@pytest.mark.parametrize("place", ["{path}", "http://host.example/gradio_api/file={path}", {"path": "{path}"}])
def test_uploads_are_found_by_path_and_address(tmp_path: Path, place: Any) -> None:
    path = tmp_path / "a.png"
    path.touch()
    value = {"path": str(path)} if isinstance(place, dict) else place.format(path=path)
    assert uploaded_file(value, tmp_path) == path
    for outside in (
        "/etc/passwd",
        "http://host/gradio_api/file=/etc/passwd",
        f"{tmp_path}/../x",
        "https://host/a.png",
        3,
    ):
        with pytest.raises(ValueError, match="did not arrive"):
            uploaded_file(outside, tmp_path)
