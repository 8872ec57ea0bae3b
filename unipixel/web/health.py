"""`/health`: whether the model is there and how long the queue is, answered without touching the model."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from unipixel.export.receipt import our_version, public_name
from unipixel.web.gpu import Engine
from unipixel.web.turns import Line


def health_route(engine: Engine, line: Line) -> Route:
    """The route for `launch(routes=...)`."""

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "version": our_version(),
                "model": public_name(engine),
                "weights": engine.weights,
                "loaded": getattr(engine, "loaded", True),  # only an engine that loads in the background knows
                "queue": len(line),
                "queue_size": line.limit,
            },
            headers={"Cache-Control": "no-store"},
        )

    return Route("/health", health)
