"""Find what a text names in a picture, and save its masks as PNGs: COCO run lengths are what the API gives.

python app.py &
python examples/api/masks_of_a_picture.py http://127.0.0.1:7860
"""

import sys
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image
from pycocotools import mask as coco_mask

PICTURE = Path(__file__).resolve().parents[2] / "assets" / "demo" / "picture.png"

client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
answer, _ = client.predict(handle_file(PICTURE), "the orange circle", api_name="/segment")
print(answer["text"])
for found in answer["objects"]:
    mask = coco_mask.decode(found["masks"][0])  # H x W, 0 and 1
    name = f"object_{found['object_id']}.png"
    Image.fromarray(mask * 255).save(name)
    print(f"{name}: {mask.sum()} pixels, box {found['boxes'][0]}")
