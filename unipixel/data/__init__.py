"""What to learn from: samples, tasks and mixtures, own data on disk, and the drawn world."""

from unipixel.data.masks import MaskArray, MaskFile, MaskSource, Polygons, RunLengths, parse_mask
from unipixel.data.own import read_folder, write_folder
from unipixel.data.sample import Mixture, Sample, Task

__all__ = [
    "MaskArray",
    "MaskFile",
    "MaskSource",
    "Mixture",
    "Polygons",
    "RunLengths",
    "Sample",
    "Task",
    "parse_mask",
    "read_folder",
    "write_folder",
]
