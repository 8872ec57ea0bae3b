"""How well masks fit: IoU, cIoU, and DAVIS's J, F and J&F."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.types import BoolArray

# DAVIS 2016: boundaries match within this share of the picture's diagonal.
_BOUNDARY_TOLERANCE = 0.008


def iou(found: BoolArray, true: BoolArray) -> float:
    """Intersection over union of two masks (region similarity J); 1 if both are empty."""
    union = np.count_nonzero(found | true)
    return np.count_nonzero(found & true) / union if union else 1.0


def cumulative_iou(pairs: Iterable[tuple[BoolArray, BoolArray]]) -> float:
    """cIoU of (found, true) pairs: the sum of intersections over the sum of unions (RefCOCO's measure)."""
    intersection = union = 0
    for found, true in pairs:
        intersection += np.count_nonzero(found & true)
        union += np.count_nonzero(found | true)
    return intersection / union if union else 1.0


def mean_iou(pairs: Iterable[tuple[BoolArray, BoolArray]]) -> float:
    """gIoU of (found, true) pairs: the mean of their IoUs, 1 where both are empty (gRefCOCO's measure)."""
    return float(np.mean([iou(found, true) for found, true in pairs]))


def _boundary(mask: BoolArray) -> NDArray[np.uint8]:
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return np.asarray(padded - inner, np.uint8)[1:-1, 1:-1]


def boundary_f(found: BoolArray, true: BoolArray) -> float:
    """Boundary accuracy F of two masks (DAVIS, CVPR 2016, section 5); 1 if both are empty."""
    edges = _boundary(found), _boundary(true)
    counts = [int(edge.sum()) for edge in edges]
    if 0 in counts:
        return float(counts[0] == counts[1])
    radius = max(1, round(_BOUNDARY_TOLERANCE * float(np.hypot(*true.shape))))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    near = [np.asarray(cv2.dilate(edge, disk), np.uint8) for edge in edges]
    precision = float((edges[0] & near[1]).sum()) / counts[0]
    recall = float((edges[1] & near[0]).sum()) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def region_j(found: BoolArray, true: BoolArray) -> float:
    """J of a masklet: the mean IoU over its T frames (T x H x W each)."""
    return float(np.mean([iou(a, b) for a, b in zip(found, true)]))


def contour_f(found: BoolArray, true: BoolArray) -> float:
    """F of a masklet: the mean boundary accuracy over its T frames (T x H x W each)."""
    return float(np.mean([boundary_f(a, b) for a, b in zip(found, true)]))


def j_and_f(found: BoolArray, true: BoolArray) -> float:
    """J&F of a masklet: the mean of J and F over its T frames (T x H x W each)."""
    return (region_j(found, true) + contour_f(found, true)) / 2
