"""Point at an object of a picture or clip, name another one, and keep the masks.

python examples/quick_start.py [MEDIA] [PROMPT] [MODEL]
"""

import sys
from pathlib import Path

import unipixel
from unipixel.media import write_gif
from unipixel.visualize import overlay_clip

defaults = ["assets/demo/clip.mp4", "Segment the white heart.", "nano"]
path, prompt, model_name = sys.argv[1:4] + defaults[len(sys.argv) - 1 :]
model = unipixel.UniPixel.from_pretrained(model_name)
media = unipixel.load_media(path)
answer = model.segment(media, prompt)
print(answer.text)
Path("outputs").mkdir(exist_ok=True)
write_gif(overlay_clip(media.frames, answer.masklets), "outputs/masks.gif", fps=6)
