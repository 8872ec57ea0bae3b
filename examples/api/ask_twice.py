"""Ask a running UniPixel page about a marked object, then something else: the session remembers the object.

python app.py &
python examples/api/ask_twice.py http://127.0.0.1:7860
"""

import sys
from pathlib import Path

from gradio_client import Client, handle_file

CLIP = Path(__file__).resolve().parents[2] / "assets" / "demo" / "clip.mp4"

client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
mark = {"type": "point", "x": 33, "y": 128, "object": 1}

answer, _ = client.predict(handle_file(CLIP), "What is @1?", [mark], api_name="/ask")
print(answer["text"])
for found in answer["objects"]:
    print(f"@{found['object_id']} {found['label']}: visible in frames {found['visible_spans']}")

# No file this time, but the session's id: media, objects and dialogue are still there.
answer, _ = client.predict(None, "What colour is @1?", session=answer["session"], api_name="/ask")
print(answer["text"])
