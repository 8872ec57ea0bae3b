"""A model that is still being loaded while the page is already served, and what the page says meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from unipixel.web.gpu import Engine
from unipixel.web.render import notice

LOADING = "The model is still being loaded; please try again in a moment."
PATIENCE = 2.0  # seconds between two looks of the page


class LoadingEngine:
    """Stands for the engine that `load()` returns, which is called in a thread at once.

    Until it is there, everything but the fields below raises ValueError with one sentence.
    """

    def __init__(self, name: str, load: Callable[[], Engine]) -> None:
        self.name = name
        self._load = load
        self._engine: Engine | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="load-model")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._engine = self._load()
        except Exception as error:  # raised again by `wait`
            self._error = error

    @property
    def loaded(self) -> bool:
        return self._engine is not None

    @property
    def weights(self) -> str:
        """SHA-256 of the weights, "" until they are loaded."""
        return "" if self._engine is None else self._engine.weights

    def wait(self) -> Engine:
        """The engine, as soon as it is there; what went wrong with loading is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._engine is not None  # there is no third way to end
        return self._engine

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python itself asks for such names, to copy or to print
            raise AttributeError(name)
        if self._engine is None:
            raise ValueError(LOADING)
        return getattr(self._engine, name)


def add_loading_notice(demo: gr.Blocks, engine: object) -> None:
    """Say on the page `demo` that the model is being loaded, for as long as that is so."""
    if not isinstance(engine, LoadingEngine):
        return
    model = engine.name.rstrip("/").split("/")[-1]

    def text() -> str:
        if engine.loaded:
            return ""
        return notice(f"Loading {model}. You can look around and mark objects; answers come when it is ready.")

    def look() -> tuple[str, gr.Timer]:
        return text(), gr.Timer(active=not engine.loaded)

    shown = gr.HTML(text(), elem_id="loading")
    timer = gr.Timer(PATIENCE)
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    gr.on([demo.load, timer.tick], look, None, [shown, timer], **quiet)
