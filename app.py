"""The demo: `python app.py` serves the page with the embedded model on http://127.0.0.1:7860.

A Gradio Space runs this file as it is. On ZeroGPU the model is put on the GPU before the page is served, as it must be
there; everywhere else the page is served at once and says so while the model is being loaded.
"""

from __future__ import annotations

import signal
import sys
from typing import cast

from spaces.config import Config as SpacesConfig  # first: ZeroGPU is set up before anything touches CUDA

import unipixel
from unipixel.web.gpu import Engine
from unipixel.web.loading import LoadingEngine
from unipixel.web.options import Options, read_options
from unipixel.web.server import serve


def load_engine(options: Options) -> Engine:
    """The model; on ZeroGPU on `cuda` already, elsewhere still on its way."""
    if SpacesConfig.zero_gpu:
        return unipixel.UniPixel.from_pretrained(options.model, device="cuda")
    loading = LoadingEngine(options.model, lambda: unipixel.UniPixel.from_pretrained(options.model))
    return cast("Engine", loading)  # it passes on whatever the engine can do


def main(argv: list[str]) -> int:
    """Exit codes: 0 ended, 2 an option, the port or the model cannot be used (one sentence says what)."""
    try:
        options = read_options(argv, zero_gpu=SpacesConfig.zero_gpu)
        # As Ctrl-C, so that files are removed; Python would end at once without a word.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve(load_engine(options), options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
