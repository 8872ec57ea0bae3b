"""The bench command: everything is measured, printed as one table, and bad input is one sentence."""

from __future__ import annotations

import pytest
from tiny import clip, saying, tiny_engine

from unipixel import bench, cli


def test_every_wait_is_measured_and_shown() -> None:
    engine = tiny_engine()
    with saying(engine, "It is there.", "so " * 50):
        found = bench.measure(engine, clip(3), repeats=1)
    assert all(value > 0 for value in found.values())
    table = bench.render(found, "tiny")
    assert len(table.splitlines()) == len(found) + 2
    assert all(name in table for name in found)


def test_a_clip_is_new_to_every_cache_each_time() -> None:
    keys = {media.content_key for media in bench._unseen(clip(2), 3)}
    assert len(keys) == 3


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["no-such-file.mp4"]])
def test_what_cannot_be_measured_is_said_in_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
