"""The web page: canvas, dialogue and object list around an engine. `build_demo` makes it, `launch` serves it."""

from __future__ import annotations

from unipixel.web.page import build_demo, launch

__all__ = ["build_demo", "launch"]
