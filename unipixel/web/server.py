"""Serving the page with all its options, until someone ends it."""

from __future__ import annotations

from unipixel.web.gpu import Engine
from unipixel.web.health import health_route
from unipixel.web.loading import LoadingEngine
from unipixel.web.log import log_to_stderr
from unipixel.web.options import Options
from unipixel.web.page import build_demo, launch
from unipixel.web.turns import Line


def serve(engine: Engine, options: Options) -> None:
    """Serve the page until Ctrl-C; ValueError if the port cannot be used or the model cannot be loaded."""
    log_to_stderr()
    line = Line(options.queue_size)
    demo = build_demo(engine, max_frames=options.max_frames, line=line)
    try:
        launch(
            demo,
            host=options.host,
            port=options.port,
            share=options.share,
            max_mb=options.max_mb,
            routes=[health_route(engine, line)],
            auth=list(options.auth) or None,
            root_path=options.root_path or None,
            mcp_server=options.mcp,
            max_threads=40 + line.limit,  # who waits keeps a thread; Gradio's own 40 stay for everything else
            prevent_thread_lock=True,
        )
        if isinstance(engine, LoadingEngine):
            engine.wait()
        demo.block_thread()
    except OSError as error:
        if "port" not in str(error):
            raise
        taken = f"Port {options.port} of {options.host} cannot be used; choose another with --port."
        raise ValueError(taken) from None
    finally:
        demo.close()
