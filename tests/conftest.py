"""What all tests share: where outside data lies, and which tests this machine cannot run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# Tests speak of the embedded model and reach no hub, whatever the shell that started them says.
os.environ.pop("UNIPIXEL_MODEL", None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

# The same examples on every run; first calls compile and load, so a time limit per example would only flicker.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def find_chromium() -> str | None:
    """Path of the system's Chromium or Chrome, None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip browser tests, and say why, where there is no browser or nothing to drive it."""
    if find_chromium() is None:
        reason = "needs Chromium, which is not installed"
    elif importlib.util.find_spec("playwright") is None:
        reason = "needs playwright, which is not installed"
    else:
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium."""
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium, which is not installed")
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED.name} beside the repository")
    return SHARED
