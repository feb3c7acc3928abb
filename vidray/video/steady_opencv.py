"""OpenCV beside other processes: no threads of its own, and the same bytes wherever it runs."""

from __future__ import annotations

import cv2


def steady_opencv() -> None:
    """Set OpenCV up for a process or thread beside others; call it in each thread that computes.

    The number of OpenCV's threads is the whole process's; the rest is this thread's.
    """
    cv2.setNumThreads(1)
    # IPP rounds by where an array lies in memory: the same frame would give other last digits.
    cv2.ipp.setUseIPP(False)
