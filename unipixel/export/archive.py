"""Many files as one: a ZIP that is written file by file, so that memory stays small however much goes in."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

# These are compressed already; doing it again only takes time.
_COMPRESSED = {".png", ".jpg", ".jpeg", ".gif", ".mp4", ".webm"}


def write_zip(groups: Iterable[Iterable[Path]], root: Path, path: Path) -> Path:
    """Write the files of `groups` into the archive `path` under their names relative to `root`.

    The groups may be generated while this runs: each is packed, and its files are deleted, before the next is asked
    for.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for files in groups:
                for file in files:
                    how = zipfile.ZIP_STORED if file.suffix.lower() in _COMPRESSED else zipfile.ZIP_DEFLATED
                    archive.write(file, file.relative_to(root).as_posix(), how)
                    file.unlink()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
