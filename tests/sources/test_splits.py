"""Splits: stable, whole groups, and the fractions that were asked for."""

import math
from collections import defaultdict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidray.errors import UserError
from vidray.sources.splits import check_splits, derive_splits
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


@given(ROWS, ROWS, st.integers(0, 3), SHARES)
def test_added_videos_move_no_other(rows: Rows, added: Rows, seed: int, shares: object) -> None:
    before = _splits(derive_splits(_table(rows), shares, seed, root="/data"))  # type: ignore[arg-type]
    after = _splits(derive_splits(_table(added | rows), shares, seed, root="/data"))  # type: ignore[arg-type]
    assert {path: after[path] for path in before} == before


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
    table = derive_splits(_table(rows), shares)
    splits = _splits(table)
    for label, count in classes.items():
        ours = [split for path, split in splits.items() if path.startswith(f"{label}/")]
        for name, share in zip(schema.SPLITS, shares, strict=True):
            deviation = math.sqrt(share * (1 - share) * group_size / count)
            assert abs(ours.count(name) / count - share) < 4 * deviation


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
