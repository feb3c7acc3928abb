"""Texts beside the points of a chart."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from vidray.report.label_places import PLACES, _box, _meet, _pixels, places

AREA = (250.0, 200.0)
NUMBERS = st.floats(-1e6, 1e6)


@settings(max_examples=25)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.floats(10, 140)), min_size=1, max_size=12))
def test_no_text_lies_on_another_nor_on_a_point(points: list[tuple[float, float, float]]) -> None:
    x, y, widths = zip(*points, strict=True)
    found = places(x, y, widths, area=AREA)
    across, down = _pixels(x, AREA[0]), AREA[1] - _pixels(y, AREA[1])
    boxes = {
        number: _box(across[number], down[number], widths[number], PLACES[place])
        for number, place in enumerate(found)
        if place >= 0
    }
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not _meet(one, other)
    for number, box in boxes.items():
        for k, (at, up) in enumerate(zip(across, down, strict=True)):
            assert k == number or not (box[0] < at < box[2] and box[1] < up < box[3])


def test_points_far_apart_have_their_texts_at_their_side() -> None:
    assert places([0, 1], [0, 1], [60, 60], area=AREA) == [0, 1]  # Within the area, each.


def test_of_points_on_one_spot_not_all_have_a_text() -> None:
    found = places([1] * 9, [2] * 9, [50] * 9, area=AREA)
    assert len(found) == 9
    assert -1 in found


def test_a_missing_value_takes_no_place() -> None:
    assert places([0, float("nan"), 1], [0, 1, 1], [60, 60, 60], area=AREA)[0] == 0
