"""The page inside other pages: `?embed` for frames, `/gradio.js` for the `<gradio-app>` element."""

from __future__ import annotations

from pathlib import Path

import gradio
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

# In a frame the host page has a heading and examples of its own. Not in a style file: Gradio binds the rules of those
# to its own container, and the class stands on the document.
HEAD = """\
<script>
if (new URLSearchParams(location.search).has("embed")) document.documentElement.classList.add("up-embedded");
</script>
<style>
.up-embedded .up-title, .up-embedded #gallery { display: none !important; }
.up-embedded .gradio-container > .main { padding-top: 12px !important; }
</style>"""

_SCRIPT = Path(gradio.__file__).parent / "templates" / "frontend" / "gradio.js"


def component_route() -> Route:
    """`/gradio.js`: the script behind `<gradio-app>`, from this server instead of a distant one."""

    async def script(request: Request) -> FileResponse:
        return FileResponse(_SCRIPT, media_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"})

    return Route("/gradio.js", script)
