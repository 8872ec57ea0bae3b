"""Make the pictures that the drawn world pastes: emoji of its nouns, and small copies of free photographs.

    PYTHONPATH=. python examples/make_world_pictures.py NotoColorEmoji.ttf skimage/data

The font is Noto Color Emoji (Debian: fonts-noto-color-emoji), the folder `skimage/data` of the scikit-image wheel.
NOTICE says under which terms both are used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unipixel.data.world.nouns import NOUNS
from unipixel.data.world.pictures import CELL, COLUMNS, FILL, PHOTO_FOLDER, SPRITES

_STRIKE = 109  # the only size the font's bitmaps have
_LONG_SIDE = 360
# The part of each photograph that shows nothing the drawn world has a word for (x1, y1, x2, y2).
_PHOTOS = {
    "astronaut.png": (215, 0, 512, 512),
    "brick.png": (0, 0, 512, 512),
    "camera.png": (0, 0, 512, 512),
    "coffee.png": (0, 0, 330, 400),
    "grass.png": (0, 0, 512, 512),
    "gravel.png": (0, 0, 512, 512),
    "retina.jpg": (350, 350, 1060, 1060),
    "rocket.jpg": (0, 0, 640, 427),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the drawn world's emoji and photographs.")
    parser.add_argument("font", type=Path)
    parser.add_argument("photos", type=Path)
    options = parser.parse_args()
    atlas = draw_atlas(options.font)
    atlas.save(SPRITES, optimize=True)
    PHOTO_FOLDER.mkdir(exist_ok=True)
    for name, corners in _PHOTOS.items():
        photo = Image.open(options.photos / name).crop(corners)
        photo.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.LANCZOS)
        photo.save((PHOTO_FOLDER / name).with_suffix(".jpg"), quality=85, optimize=True)


def draw_atlas(font_file: Path) -> Image.Image:
    """The nouns' emoji in rows of `COLUMNS` square cells, each centred and as large as `FILL` pixels allow."""
    font = ImageFont.truetype(str(font_file), _STRIKE)
    atlas = Image.new("RGBA", (COLUMNS * CELL, -(-len(NOUNS) // COLUMNS) * CELL))
    for n, noun in enumerate(NOUNS.values()):
        picture = Image.new("RGBA", (2 * _STRIKE, 2 * _STRIKE))
        ImageDraw.Draw(picture).text((20, 20), noun.character, font=font, embedded_color=True)
        picture = picture.crop(picture.getbbox())
        scale = FILL / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        corner = (n % COLUMNS * CELL + (CELL - width) // 2, n // COLUMNS * CELL + (CELL - height) // 2)
        atlas.paste(picture, corner)
    return atlas


if __name__ == "__main__":
    main()
