"""The demo: `python app.py` serves the page with the embedded model on http://127.0.0.1:7860.

A Gradio Space runs this file as it is; there the page is called `demo`, and the model sits on the GPU from the start.
"""

from __future__ import annotations

import argparse
import os
import sys

from spaces.config import Config as SpacesConfig  # first: ZeroGPU is set up before anything touches CUDA

import unipixel
from unipixel.web import build_demo, launch


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Options of the command line; each has an environment variable as its default."""
    on_space = "SPACE_ID" in os.environ
    model = os.environ.get("UNIPIXEL_MODEL") or ("PolyU-ChenLab/UniPixel-3B" if SpacesConfig.zero_gpu else "nano")
    host = os.environ.get("HOST") or ("0.0.0.0" if on_space else "127.0.0.1")
    parser = argparse.ArgumentParser("app.py", description="Serve the UniPixel page.")
    parser.add_argument("--model", default=model, help="nano, a folder or a hub id (UNIPIXEL_MODEL)")
    parser.add_argument("--host", default=host, help="address to listen on (HOST)")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", "7860"), help="port to listen on (PORT)")
    parser.add_argument("--max-frames", type=int, default=16, help="frames taken from a clip")
    parser.add_argument("--share", action="store_true", help="also make a public link through Gradio")
    return parser.parse_args(argv)


if __name__ == "__main__":
    # `python -m unipixel demo --port 8000` runs this file with its own command line.
    arguments = read_arguments(sys.argv[2:] if sys.argv[1:2] == ["demo"] else sys.argv[1:])
    engine = unipixel.UniPixel.from_pretrained(arguments.model)
    demo = build_demo(engine, max_frames=arguments.max_frames)
    launch(demo, host=arguments.host, port=arguments.port, share=arguments.share)
