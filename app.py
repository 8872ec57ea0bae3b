"""The demo: `python app.py` serves the page with the embedded model on http://127.0.0.1:7860.

A Gradio Space runs this file as it is. On ZeroGPU the model is put on the GPU before the page is served, as it must be
there; everywhere else the page is served at once and says so while the model is being loaded.
"""

from __future__ import annotations

import signal
import sys
from typing import cast

from gradio import Blocks
from spaces.config import Config as SpacesConfig  # first: ZeroGPU is set up before anything touches CUDA
from starlette.routing import Route

import unipixel
from unipixel.web import build_demo, launch
from unipixel.web.gpu import Engine
from unipixel.web.health import health_route
from unipixel.web.loading import LoadingEngine
from unipixel.web.log import log_to_stderr
from unipixel.web.options import Options, read_options
from unipixel.web.turns import Line


def load_engine(options: Options) -> Engine:
    """The model; on ZeroGPU on `cuda` already, elsewhere still on its way."""
    if SpacesConfig.zero_gpu:
        return unipixel.UniPixel.from_pretrained(options.model, device="cuda")
    loading = LoadingEngine(options.model, lambda: unipixel.UniPixel.from_pretrained(options.model))
    return cast("Engine", loading)  # it passes on whatever the engine can do


def serve(options: Options) -> None:
    """Serve the page until Ctrl-C or a termination signal; ValueError if the model cannot be loaded."""
    log_to_stderr()
    engine, line = load_engine(options), Line(options.queue_size)
    demo = build_demo(engine, max_frames=options.max_frames, line=line)
    try:
        _start(demo, options, health_route(engine, line))
        if isinstance(engine, LoadingEngine):
            engine.wait()
        demo.block_thread()
    finally:
        demo.close()


def _start(demo: Blocks, options: Options, health: Route) -> None:
    try:
        launch(
            demo,
            host=options.host,
            port=options.port,
            share=options.share,
            max_mb=options.max_mb,
            routes=[health],
            auth=list(options.auth) or None,
            root_path=options.root_path or None,
            mcp_server=options.mcp,
            prevent_thread_lock=True,
        )
    except OSError:
        taken = f"Port {options.port} of {options.host} cannot be used; choose another with --port."
        raise ValueError(taken) from None


def main(argv: list[str]) -> int:
    """Exit codes: 0 ended, 2 an option, the port or the model cannot be used (one sentence says what)."""
    try:
        options = read_options(argv, zero_gpu=SpacesConfig.zero_gpu)
        # As Ctrl-C, so that files are removed; Python would end at once without a word.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
