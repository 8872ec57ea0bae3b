"""Name an object of a picture or clip in plain words, and keep the answer and its masks.

python examples/quick_start.py [MEDIA] [PROMPT] [MODEL]
"""

import sys
from pathlib import Path

import unipixel
from unipixel.media import write_gif, write_png
from unipixel.visualize import overlay_clip

defaults = ["assets/demo/clip.mp4", "Segment the white heart.", "nano"]  # or PolyU-ChenLab/UniPixel-3B
path, prompt, model_name = sys.argv[1:4] + defaults[len(sys.argv) - 1 :]
model = unipixel.UniPixel.from_pretrained(model_name)
media = unipixel.load_media(path)
answer = model.segment(media, prompt)
print(answer.text)
frames = list(overlay_clip(media.frames, answer.masklets))
Path("outputs").mkdir(exist_ok=True)
write_png(frames[0], "outputs/masks.png") if media.is_image else write_gif(frames, "outputs/masks.gif", fps=6)
