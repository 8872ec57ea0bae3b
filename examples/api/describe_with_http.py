"""Describe a marked object with plain HTTP, from any language: upload, call, read the answer.

python app.py &
python examples/api/describe_with_http.py http://127.0.0.1:7860
"""

import json
import sys
from pathlib import Path

import httpx

PICTURE = Path(__file__).resolve().parents[2] / "assets" / "demo" / "picture.png"

api = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860").rstrip("/") + "/gradio_api"
with PICTURE.open("rb") as file:
    (path,) = httpx.post(f"{api}/upload", files={"files": (PICTURE.name, file)}).json()

media = {"path": path, "meta": {"_type": "gradio.FileData"}}
mark = {"type": "point", "x": 200, "y": 180}
# In the order of the parameters: media, mark, session, export.
call = httpx.post(f"{api}/call/describe", json={"data": [media, mark, "", ""]}).json()
with httpx.stream("GET", f"{api}/call/describe/{call['event_id']}", timeout=120) as events:
    event = ""
    for line in events.iter_lines():
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event in ("complete", "error"):
            answer = json.loads(line.removeprefix("data: "))
            if event == "error":
                sys.exit(f"Refused: {answer['error']}")
            print(answer[0]["text"])
