"""Follow a box through every frame of a clip, and take COCO and DAVIS files away.

python app.py &
python examples/api/track_to_coco.py http://127.0.0.1:7860
"""

import sys
import zipfile
from pathlib import Path

from gradio_client import Client, handle_file

CLIP = Path(__file__).resolve().parents[2] / "assets" / "demo" / "clip.mp4"

client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
box = {"type": "box", "x1": 10, "y1": 100, "x2": 60, "y2": 160}
answer, (archive,) = client.predict(
    handle_file(CLIP), [box], every_frame=True, export="coco,davis,frames", api_name="/track"
)
for found in answer["objects"]:
    print(f"@{found['object_id']}: {len(found['masks'])} masks, visible in frames {found['visible_spans']}")
with zipfile.ZipFile(archive) as file:
    file.extractall("taken")
print(f"{len(list(Path('taken').rglob('*.png')))} DAVIS pictures and {Path('taken/coco.json')} written")
