"""Splits: stable, whole groups, and the fractions that were asked for."""

import hashlib
import json
from collections import defaultdict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidray.errors import UserError
from vidray.sources.splits import (
    apportion,
    assign,
    balance,
    check_splits,
    count,
    derive_splits,
)
from vidray.tables import schema

NAMES = st.text("abc01 _é%", min_size=1, max_size=6)
ROWS = st.dictionaries(  # path below the root -> (label, group)
    st.tuples(NAMES, NAMES).map("/".join),
    st.tuples(st.none() | NAMES, st.none() | NAMES),
    min_size=1,
    max_size=30,
)
SHARES = st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.5, 0.0), (0.8, 0.0, 0.2), (0.0, 0.0, 1.0)])
Rows = dict[str, tuple[str | None, str | None]]


def _table(rows: Rows, root: str = "/data", split: str | None = None) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "video_id": path,
                "uri": f"{root}/{path}",
                "size_bytes": 1,
                "fingerprint": "f",
                "label": label,
                "split": split,
                "group": group,
            }
            for path, (label, group) in sorted(rows.items())
        ],
        schema.VIDEOS,
    )


def _splits(table: pa.Table, root: str = "/data") -> dict[str, str]:
    uris = table.column("uri").to_pylist()
    return {
        uri.removeprefix(f"{root}/"): split
        for uri, split in zip(uris, table.column("split").to_pylist(), strict=True)
    }


@pytest.mark.slow
@given(ROWS, ROWS, st.integers(0, 3), SHARES)
def test_by_the_bounds_of_before_added_videos_move_no_other(
    rows: Rows, added: Rows, seed: int, shares: tuple[float, float, float]
) -> None:
    bounds = balance(_table(rows), shares, seed, root="/data")
    bounds = {k: tuple(v) for k, v in json.loads(json.dumps(bounds)).items()}  # as a model has it
    before = _splits(derive_splits(_table(rows), shares, seed, root="/data"))
    # A video that gives a recording another label may take it out of test, and never into it.
    after = _splits(assign(_table(added | rows), shares, bounds, seed, root="/data"))
    of_added = {group for path, (_, group) in added.items() if path not in rows}
    for path, split in before.items():
        if rows[path][1] in of_added:
            assert schema.SPLITS.index(after[path]) <= schema.SPLITS.index(split)
        else:
            assert after[path] == split


@given(st.integers(5, 40), SHARES, st.integers(0, 3))
def test_an_added_recording_moves_few_others(
    number: int, shares: tuple[float, float, float], seed: int
) -> None:
    rows: Rows = {f"{label}/{n}": (label, None) for label in "ab" for n in range(number)}
    before = _splits(derive_splits(_table(rows), shares, seed, root="/data"))
    more = rows | {"a/new": ("a", None)}
    after = _splits(derive_splits(_table(more), shares, seed, root="/data"))
    moved = [path for path, split in before.items() if after[path] != split]
    assert len(moved) <= 3
    assert not any(path.startswith("b/") for path in moved)


@pytest.mark.parametrize(
    ("number", "shares", "expected"),
    [
        (0, (0.7, 0.15, 0.15), (0, 0, 0)),
        (1, (0.7, 0.15, 0.15), (1, 0, 0)),  # .7 .15 .15
        (2, (0.7, 0.15, 0.15), (2, 0, 0)),  # 1.4 .3 .3
        (3, (0.7, 0.15, 0.15), (2, 0, 1)),  # 2.1 .45 .45
        (4, (0.7, 0.15, 0.15), (2, 1, 1)),  # 2.8 .6 .6: 3 0 1, but val would have none
        (5, (0.7, 0.15, 0.15), (3, 1, 1)),  # 3.5 .75 .75
        (7, (0.7, 0.15, 0.15), (5, 1, 1)),  # 4.9 1.05 1.05
        (10, (0.7, 0.15, 0.15), (7, 1, 2)),  # 7 1.5 1.5
        (20, (0.7, 0.15, 0.15), (14, 3, 3)),
        (101, (0.7, 0.15, 0.15), (71, 15, 15)),  # 70.7 15.15 15.15
        (2, (0.5, 0.25, 0.25), (1, 0, 1)),  # 1 .5 .5
        (3, (0.5, 0.25, 0.25), (1, 1, 1)),  # 1.5 .75 .75
        (10, (0.9, 0.05, 0.05), (8, 1, 1)),  # 9 .5 .5: 9 0 1, but val would have none
        (4, (0.1, 0.5, 0.4), (2, 1, 1)),  # .4 2 1.6: 0 2 2, but train would have none
        (5, (0.8, 0.0, 0.2), (4, 0, 1)),
        (9, (0.5, 0.5, 0.0), (5, 4, 0)),  # 4.5 4.5
        (6, (0.0, 0.0, 1.0), (0, 0, 6)),
        (7, (1 / 3, 1 / 3, 1 / 3), (3, 2, 2)),  # 2.33 each
    ],
)
def test_recordings_of_a_class_by_hand(
    number: int, shares: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    assert apportion(number, shares, test_first=True) == expected
    rows: Rows = {f"a/{n}": ("a", f"g{n // 2}") for n in range(2 * number)}
    counts = count(derive_splits(_table(rows), shares)).get("a", {})
    found = tuple(counts.get(split, (0, 0))[1] for split in schema.SPLITS)
    train, val, test = expected
    is_tie = round(number * shares[1] % 1, 9) == round(number * shares[2] % 1, 9)
    assert found in (expected, (train, test, val) if is_tie else expected)


@given(st.integers(0, 200), SHARES, st.booleans())
def test_every_recording_is_in_one_split_and_no_share_is_missed(
    number: int, shares: tuple[float, float, float], test_first: bool
) -> None:
    counts = apportion(number, shares, test_first=test_first)
    assert sum(counts) == number
    for found, share in zip(counts, shares, strict=True):
        assert abs(found - number * share) < 1.5
        assert found or not share or number < 4
        assert share or not found


def test_the_first_in_order_are_train_the_last_test() -> None:
    """Ten recordings of one class, their draws computed by hand."""
    rows: Rows = {f"a/{n}": ("a", f"g{n}") for n in range(10)}
    order = sorted(
        rows,
        key=lambda path: hashlib.blake2b(
            f"0 group g{path[2:]}".encode(), digest_size=8
        ).hexdigest(),
    )
    splits = _splits(derive_splits(_table(rows), (0.5, 0.2, 0.3)))
    assert [splits[path] for path in order] == ["train"] * 5 + ["val"] * 2 + ["test"] * 3


@pytest.mark.parametrize(
    ("shares", "absent"),
    [((0.9, 0.1, 0.0), "test"), ((0.7, 0.0, 0.3), "val"), ((0.0, 0.7, 0.3), "train")],
)
def test_a_split_without_a_share_is_empty(shares: tuple[float, ...], absent: str) -> None:
    """Of videos without a label too, where the draw alone decides."""
    rows: Rows = {f"{n}": (None, None) for n in range(4000)}
    found = _splits(derive_splits(_table(rows), shares)).values()
    assert set(found) == set(schema.SPLITS) - {absent}
    for split, share in zip(schema.SPLITS, shares, strict=True):
        assert list(found).count(split) / 4000 == pytest.approx(share, abs=0.03)


def test_a_recording_of_two_classes_goes_where_the_earlier_of_them_says() -> None:
    rows: Rows = {f"{label}/{n}": (label, f"both{n}") for label in "ab" for n in range(10)}
    bounds = {"a": (0.0, 0.0), "b": (1.0, 1.0)}
    assert set(_splits(assign(_table(rows), (0.5, 0.2, 0.3), bounds)).values()) == {"train"}
    bounds = {"a": (0.0, 1.0), "b": (0.0, 0.0)}
    assert set(_splits(assign(_table(rows), (0.5, 0.2, 0.3), bounds)).values()) == {"val"}


@given(ROWS, st.integers(0, 3), SHARES)
def test_a_group_is_never_split(rows: Rows, seed: int, shares: object) -> None:
    table = derive_splits(_table(rows), shares, seed)  # type: ignore[arg-type]
    check_splits(table)
    found = defaultdict(set)
    for row in table.to_pylist():
        found[row["group"]].add(row["split"])
    assert all(len(splits) == 1 for group, splits in found.items() if group)
    assert table.schema.equals(schema.VIDEOS)
    assert table.drop_columns("split").equals(_table(rows).drop_columns("split"))


@given(ROWS)
def test_folder_and_bucket_give_the_same(rows: Rows) -> None:
    folder = derive_splits(_table(rows), root="/data/")
    bucket = derive_splits(_table(rows, "s3://b/videos"), root="s3://b/videos")
    assert _splits(folder) == _splits(bucket, "s3://b/videos")


@pytest.mark.slow
@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: Rows, random: object) -> None:
    table = _table(rows)
    order = list(range(table.num_rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert _splits(derive_splits(table.take(order))) == _splits(derive_splits(table))


@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.6, 0.3, 0.1)])
@pytest.mark.parametrize("group_size", [1, 4])
def test_every_class_meets_the_fractions(
    shares: tuple[float, float, float], group_size: int
) -> None:
    classes = {"jump": 4000, "run": 1200, "sit": 600}
    rows: Rows = {
        f"{label}/{index}.avi": (
            label,
            f"{label} {index // group_size}" if group_size > 1 else None,
        )
        for label, count in classes.items()
        for index in range(count)
    }
    splits = _splits(derive_splits(_table(rows), shares))
    for label, number in classes.items():
        ours = [split for path, split in splits.items() if path.startswith(f"{label}/")]
        assert [ours.count(split) for split in schema.SPLITS] == [
            pytest.approx(number * share, abs=group_size / 2) for share in shares
        ]


def test_same_names_in_two_classes_are_drawn_apart() -> None:
    rows: Rows = {f"{c}/{n}.avi": (c, None) for c in ("a", "b") for n in range(200)}
    splits = _splits(derive_splits(_table(rows), root="/data"))
    assert any(splits[f"a/{n}.avi"] != splits[f"b/{n}.avi"] for n in range(200))


def test_another_seed_is_another_split() -> None:
    rows: Rows = {f"a/{n}.avi": ("a", None) for n in range(100)}
    first, second = (_splits(derive_splits(_table(rows), seed=seed)) for seed in (0, 1))
    assert first != second


def test_given_splits_are_replaced_and_none_is_left_out() -> None:
    table = derive_splits(_table({"a/1.avi": ("a", None)}, split="test"), (1.0, 0.0, 0.0))
    assert table.column("split").to_pylist() == ["train"]
    assert derive_splits(schema.VIDEOS.empty_table()).num_rows == 0


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (float("nan"), 0.5, 0.5)]
)
def test_fractions_must_be_shares_of_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="sum to 1"):
        derive_splits(_table({"a": (None, None)}), shares)


def test_a_class_missing_from_a_split_is_said(caplog: pytest.LogCaptureFixture) -> None:
    derive_splits(_table({"a/1.avi": ("jump", None)}))
    assert caplog.text.count("has no video of 1 of") == 2


def test_a_leak_names_groups_and_splits() -> None:
    rows: Rows = {f"a/{n}.avi": ("a", f"rec{n % 5}") for n in range(10)}
    halves = [("train", range(5)), ("test", range(5, 10))]
    table = _table(rows)
    splits = [next(s for s, part in halves if int(r["uri"][-5]) in part) for r in table.to_pylist()]
    leaking = table.set_column(5, schema.VIDEOS.field("split"), pa.array(splits))
    with pytest.raises(
        UserError, match=r"5 of 5 groups .*'rec0' in train and test; 'rec1'"
    ) as error:
        check_splits(leaking)
    assert "rec3" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_video_outside_the_root_is_hashed_by_its_whole_uri() -> None:
    table = _table({f"{n}.avi": (None, None) for n in range(50)}, "/elsewhere/deep")
    inside = _splits(derive_splits(table, root="/elsewhere/deep"), "/elsewhere/deep")
    outside = _splits(derive_splits(table, root="/data/of/another"), "/elsewhere/deep")
    assert inside != outside
    assert set(outside.values()) == set(schema.SPLITS)


def test_no_group_no_leak() -> None:
    rows: Rows = {"a/1.avi": ("a", None), "a/2.avi": ("a", None)}
    table = _table(rows)
    check_splits(table.set_column(5, schema.VIDEOS.field("split"), pa.array(["train", "test"])))
    check_splits(_table({"a/1.avi": ("a", "g"), "a/2.avi": ("a", "g")}))
