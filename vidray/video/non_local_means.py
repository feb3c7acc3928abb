"""Non-local means as vector code: OpenCV's integers, bit for bit, in half its time on one thread.

Imported only where numba is installed. The machine code is kept on disk: compiling takes 5 to 10 s.
"""

from typing import Any

import numba
import numpy as np

# fastNlMeansDenoisingColored(frame, None, 5, 5, 7, 21): patches of 7, a search window of 21 pixels.
PATCH = 7 // 2
SEARCH = 21 // 2
BORDER = PATCH + SEARCH

_jit = numba.njit(nogil=True, error_model="numpy", cache=True)


# Each pass is one short loop over a row, of a kind that compilers turn into vector code.
@_jit
def _differences(here: Any, there: Any, oldest: Any, columns: Any) -> None:
    """Squared differences of a row of pixels; those of seven rows above leave the sums."""
    if here.shape[0] == 1:
        for x in range(columns.size):
            lightness = np.int32(here[0, x]) - np.int32(there[0, x])
            square = np.int32(lightness * lightness)
            columns[x] += square - oldest[x]
            oldest[x] = square
    else:
        for x in range(columns.size):
            red_green = np.int32(here[0, x]) - np.int32(there[0, x])
            blue_yellow = np.int32(here[1, x]) - np.int32(there[1, x])
            square = np.int32(red_green * red_green + blue_yellow * blue_yellow)
            columns[x] += square - oldest[x]
            oldest[x] = square


@_jit
def _patch_sums(c: Any, entry: Any, last: int) -> None:
    """Sums of seven columns, over 64, as places in the table."""
    for x in range(entry.size):
        total = c[x] + c[x + 1] + c[x + 2] + c[x + 3] + c[x + 4] + c[x + 5] + c[x + 6]
        entry[x] = min(np.int32(total) >> np.int32(6), np.int32(last))


@_jit
def _look_up(entry: Any, table: Any, weight: Any) -> None:
    for x in range(entry.size):
        weight[x] = table[np.uint32(entry[x])]


@_jit
def _add(total: Any, weight: Any) -> None:
    for x in range(total.size):
        total[x] += weight[x]


@_jit
def _add_weighted(total: Any, weight: Any, value: Any) -> None:
    for x in range(total.size):
        total[x] += np.int32(weight[x] * np.int32(value[x]))


@_jit
def _spread(
    sums: Any,
    weights: Any,
    row: int,
    left: int,
    wide: Any,
    source: int,
    shift: int,
    weight: Any,
) -> None:
    """Add to one row of pixels, from ``left`` on, what the row ``source`` gives them."""
    stop = left + weight.size
    _add(weights[row, left:stop], weight)
    for channel in range(wide.shape[0]):
        values = wide[channel, source, left + shift : stop + shift]
        _add_weighted(sums[channel, row, left:stop], weight, values)


@_jit
def accumulate(wide: Any, table: Any, weights: Any, sums: Any) -> None:
    """Add up weights and weighted values over the search window of each pixel.

    The patches at p and p + offset are as far from each other as those at p + offset and p,
    so half of the offsets are enough, each used in both directions.
    """
    height, width = weights.shape[0], wide.shape[2]
    ring = np.zeros((2 * PATCH + 1, width), np.int32)  # squared differences, a row each
    columns = np.zeros(width, np.int32)  # and their sums over the ring
    entry = np.zeros(width, np.int32)
    weight = np.zeros(width, np.int32)
    for offset in range(1, (SEARCH + 1) * (2 * SEARCH + 1) - SEARCH):
        down, right = divmod(offset + SEARCH, 2 * SEARCH + 1)
        right -= SEARCH
        begin, end = max(0, -right), width - max(0, right)
        length = end - begin
        patches = length - 2 * PATCH
        first = begin + PATCH  # the column of the first PATCH's centre
        left, stop = max(BORDER, first), min(width - BORDER, first + patches)
        ring[:] = 0
        columns[:] = 0
        for lower in range(BORDER - down - PATCH, BORDER + height + PATCH):
            _differences(
                wide[:, lower, begin:end],
                wide[:, lower + down, begin + right : end + right],
                ring[lower % (2 * PATCH + 1), :length],
                columns[:length],
            )
            row = lower - BORDER - PATCH
            if row < -down:
                continue
            _patch_sums(columns[:length], entry[:patches], table.size - 1)
            _look_up(entry[:patches], table, weight[:patches])
            if row >= 0:
                part = weight[left - first : stop - first]
                _spread(sums, weights, row, left, wide, row + down + BORDER, right, part)
            if row + down < height:
                begins = BORDER - right - first
                part = weight[begins : begins + width - 2 * BORDER]
                _spread(sums, weights, row + down, BORDER, wide, row + BORDER, -right, part)
