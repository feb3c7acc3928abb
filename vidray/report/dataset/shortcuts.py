"""The shortcut check: how well properties of the files alone, no pixel seen, tell the class.

Where they do, a model may have learned how the videos were collected, not what they show. Each
property alone, and all together, predict every video by trees that saw no video of its recording.
The figure is balanced accuracy: the mean over classes of the share of their videos found right, so
that guessing gives 1 / classes however many videos each has. The interval is the bootstrap's over
recordings, and the test is its t-test against guessing, with Holm's correction over the properties.
Both are widened as Nadeau and Bengio (2003) do, since the trees of all folds share most of what
they are taught with: without, 9 to 13 of 100 properties that say nothing were called shortcuts at
5 %, in simulations of 14 to 100 recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vidray.errors import UserError
from vidray.evaluation.intervals import interval, resampled
from vidray.evaluation.pairs import SIGNIFICANT, holm
from vidray.models.folds import group_folds

# What a file says of itself.
FILE_COLUMNS = {
    "frames_per_second": "frame rate",
    "width_px": "width",
    "height_px": "height",
    "aspect": "aspect ratio",
    "duration_seconds": "duration",
    "codec": "codec",
    "container": "container",
    "bytes_per_second": "bytes a second",
    "has_sound": "whether it has sound",
}
# What its pictures are like, whatever they show.
PICTURE_COLUMNS = {
    "brightness": "brightness",
    "contrast": "contrast",
    "sharpness": "sharpness",
    "noise": "noise",
    "blockiness": "blockiness",
    "black_share": "share of black frames",
}
TITLES = FILE_COLUMNS | PICTURE_COLUMNS
ALL_FILE, ALL = "all of the file", "file and picture"
# A class of fewer recordings is left out: each fold needs one of each.
FOLDS, _FEWEST_FOLDS = 5, 3
# Trees over more videos say the same, later.
_MOST_VIDEOS, _MOST_OF_A_RECORDING = 4000, 200
_FEW_VIDEOS, _REPEATS = 1000, 3
_RESAMPLES = 1000
_TREES = 100  # of a forest
_MOST_VALUES = 20


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """How well properties tell the class.

    Attributes:
        frame: a row a property, the best first: column, title, balanced_accuracy, low, high, p
            (Holm's), is_shortcut, differs (how the classes differ in it).
        together: the same of all file properties, and of those and the pictures', p as it is.
        class_names: that were told apart.
        left_out: classes of too few recordings.
        videos, recordings: that were used.
        of_videos: from so many.
    """

    frame: pd.DataFrame
    together: pd.DataFrame
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]
    videos: int
    recordings: int
    of_videos: int

    @property
    def guessing(self) -> float:
        """Balanced accuracy of who knows nothing."""
        return 1 / len(self.class_names)


def measure(frame: pd.DataFrame, *, seed: int) -> Shortcuts | str:
    """The check over labelled videos, or why it cannot be made.

    Args:
        frame: of a ``VideoSet``, rows with a label that could be read.
    """
    few = _few(frame, seed)
    per_class = few.groupby("label")["recording"].nunique()
    folds = FOLDS if (per_class >= FOLDS).sum() > 1 else _FEWEST_FOLDS
    names = tuple(sorted(per_class.index[per_class >= folds]))
    if len(names) < 2:
        return (
            f"not made: fewer than two classes have {folds} recordings, and trees must be judged "
            "on recordings that they have not seen"
        )
    used = few[few["label"].isin(names)].reset_index(drop=True)
    y = pd.Categorical(used["label"], categories=list(names)).codes.astype(np.int64)
    groups = list(used["recording"])
    repeats = _REPEATS if len(used) <= _FEW_VIDEOS else 1
    try:
        splits = [
            group_folds(y, groups, folds=folds, seed=seed + r, class_names=names)
            for r in range(repeats)
        ]
    except UserError as error:
        return f"not made: {error}"
    codes = pd.factorize(used["recording"])[0].astype(np.int64)
    judge = _Judge(y=y, codes=codes, splits=splits, classes=len(names), seed=seed)
    rows = [
        {"column": column, "title": title, "differs": _differs(used, column, names)}
        | judge.figures(encode(used, [column]), is_alone=True)
        for column, title in TITLES.items()
        if used[column].nunique(dropna=False) > 1
    ]
    alone = pd.DataFrame(rows, columns=[*_COLUMNS])
    alone["p"] = holm(alone["p"].tolist())
    known = [column for column in FILE_COLUMNS if column in set(alone["column"])]
    sets = {ALL_FILE: known, ALL: list(alone["column"])}
    several = [
        {"column": "", "title": title, "differs": ""}
        | judge.figures(encode(used, columns), is_alone=False)
        for title, columns in sets.items()
        if len(columns) > 1
    ]
    return Shortcuts(
        frame=_judged(alone, 1 / len(names)),
        together=_judged(pd.DataFrame(several, columns=[*_COLUMNS]), 1 / len(names)),
        class_names=names,
        left_out=tuple(sorted(set(per_class.index) - set(names))),
        videos=len(used),
        recordings=int(codes.max()) + 1,
        of_videos=len(frame),
    )


_COLUMNS = ("column", "title", "balanced_accuracy", "low", "high", "p", "differs")


def _judged(rows: pd.DataFrame, guessing: float) -> pd.DataFrame:
    """Rows with the verdict, the best first."""
    is_better = (rows["p"] <= SIGNIFICANT) & (rows["balanced_accuracy"] > guessing)
    return rows.assign(is_shortcut=is_better).sort_values(
        "balanced_accuracy", ascending=False, kind="stable", ignore_index=True
    )


def _few(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most ``_MOST_VIDEOS`` videos, of whole recordings drawn by chance, sorted by video."""
    if len(frame) <= _MOST_VIDEOS:
        return frame.sort_values("video_id", ignore_index=True)
    drawn = frame.sort_values("video_id").sample(frac=1, random_state=seed)
    drawn = drawn[drawn.groupby("recording").cumcount() < _MOST_OF_A_RECORDING]
    # Recordings in the order in which chance meets them, each with all its videos.
    place = pd.Series(pd.factorize(drawn["recording"])[0], drawn.index)
    drawn = drawn.loc[place.sort_values(kind="stable").index]
    return drawn.head(_MOST_VIDEOS).sort_values("video_id", ignore_index=True)


def encode(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float32]:
    """``float32 (N, D)``: numbers as they are, each name a column of 0 and 1."""
    found = []
    for column in columns:
        values = frame[column]
        if column in ("codec", "container"):
            common = values.value_counts().index[:_MOST_VALUES]
            found += [(values == name).fillna(False).to_numpy(np.float32) for name in common]
        else:
            numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
            with np.errstate(over="ignore"):  # 1e308 of a stranger's table.
                narrow = numbers.to_numpy(np.float32)
            found.append(np.where(np.isfinite(narrow), narrow, np.float32(np.nan)))
    return np.column_stack(found)


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Predicts every video by trees that saw no video of its recording.

    Attributes:
        y: ``int64 (N,)``, classes.
        codes: ``int64 (N,)``, recordings.
        splits: of each repeat the folds: train rows, test rows.
    """

    y: NDArray[np.int64]
    codes: NDArray[np.int64]
    splits: Sequence[Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]]
    classes: int
    seed: int

    def figures(self, x: NDArray[np.float32], *, is_alone: bool) -> dict[str, float]:
        """balanced_accuracy, low, high and p of a table of properties."""
        hits = np.zeros(len(self.y))
        # Many trees are steady: once over the folds is enough.
        repeats = self.splits if is_alone else self.splits[:1]
        for repeat, folds in enumerate(repeats):
            for train, test in folds:
                model = _tree(self.seed + repeat) if is_alone else _forest(self.seed + repeat)
                model.fit(x[train], self.y[train])
                hits[test] += model.predict(x[test]) == self.y[test]
        return against_guessing(
            hits / len(repeats),
            self.y,
            self.codes,
            classes=self.classes,
            folds=len(self.splits[0]),
            seed=self.seed,
        )


def against_guessing(
    hits: NDArray[np.float64],
    y: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    classes: int,
    folds: int,
    seed: int,
) -> dict[str, float]:
    """Balanced accuracy, its interval, and the p that it is no better than guessing.

    Args:
        hits: ``float64 (N,)``, how often each video was predicted right, 0 to 1.
        y, codes: class and recording of each.
        folds: of the cross-validation.
    """
    of_class = (y[None, :] == np.arange(classes)[:, None]).astype(np.float64)  # (K, N)
    value = float(((of_class @ hits) / of_class.sum(axis=1)).mean())
    drawn = []
    for weights in resampled(codes, _RESAMPLES, seed):
        total = of_class @ weights
        with np.errstate(invalid="ignore"):
            recall = np.where(total > 0, (of_class @ (hits[:, None] * weights)) / total, np.nan)
        drawn.append(np.nanmean(recall, axis=0))
    values = np.concatenate(drawn)
    # Of the variance: 1 / J + test / train in the place of 1 / J.
    widen = np.sqrt(1 + folds / (folds - 1))
    ends = interval(values) or (np.nan, np.nan)
    low, high = (float(np.clip(value + widen * (end - value), 0, 1)) for end in ends)
    # Few recordings of a class: the spread is itself uncertain, so Student's t, not the normal.
    fewest = min(len(np.unique(codes[y == k])) for k in range(classes))
    spread = widen * float(np.nanstd(values, ddof=1))
    if spread == 0.0:
        p = 0.0 if value > 1 / classes else 1.0
    else:
        p = float(stats.t.sf((value - 1 / classes) / spread, df=max(1, fewest - 1)))
    return {"balanced_accuracy": value, "low": low, "high": high, "p": p}


def _tree(seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    # Eight leaves tell apart the frame rates or resolutions of a handful of sources.
    return DecisionTreeClassifier(
        max_leaf_nodes=8, min_samples_leaf=5, class_weight="balanced", random_state=seed
    )


def _forest(seed: int, *, is_balanced: bool = True) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=_TREES,
        min_samples_leaf=3,
        class_weight="balanced" if is_balanced else None,
        random_state=seed,
    )


def _differs(frame: pd.DataFrame, column: str, names: Sequence[str]) -> str:
    """How the classes differ: the value whose share differs most between two of them, or, where
    nearly each video has a value of its own, the medians.
    """
    values, by = frame[column], frame["label"]
    if column == "has_sound":
        values = values.map({True: "with sound", False: "without sound"})
    if values.nunique() > _MOST_VALUES:
        medians = pd.to_numeric(values, errors="coerce").groupby(by).median().dropna()
        ends = medians.sort_values()
        if not len(ends):
            return ""
        shown = ends if len(names) <= 3 else ends.iloc[[0, -1]]
        return "median " + ", ".join(f"{_said(v)} in {name}" for name, v in shown.items())
    shares = pd.crosstab(by, values, normalize="index")
    value = (shares.max() - shares.min()).idxmax()
    ends = shares[value].sort_values(ascending=False)
    shown = ends if len(names) <= 3 else ends.iloc[[0, -1]]
    return f"{_said(value)}: " + ", ".join(f"{v:.0%} of {name}" for name, v in shown.items())


def _said(value: object) -> str:
    if not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A forest over file properties alone, judged on the videos that models were judged on.

    Attributes:
        hits: ``bool (N,)``, which videos it gets right, in the order of the judged model.
        taught_with: videos.
    """

    hits: NDArray[np.bool_]
    taught_with: int


def rival(
    frame: pd.DataFrame, video_ids: Sequence[str], truth: Sequence[str], *, seed: int
) -> Rival | None:
    """The forest taught with the other recordings of the set; None where it cannot be.

    Args:
        frame: labelled videos of a set.
        video_ids, truth: those that models were judged on; all must be in ``frame``.
    """
    by_id = frame.set_index("video_id")
    if not len(video_ids) or not by_id.index.is_unique or not set(video_ids) <= set(by_id.index):
        return None
    judged = by_id.loc[list(video_ids)]
    others = frame[
        frame["label"].isin(set(truth))
        & ~frame["recording"].isin(set(judged["recording"]))
        & ~frame["video_id"].isin(set(video_ids))
    ]
    columns = [column for column in FILE_COLUMNS if frame[column].nunique(dropna=False) > 1]
    taught = _few(others, seed)
    if taught["label"].nunique() < 2 or not columns:
        return None
    both = pd.concat([taught, judged.reset_index()], ignore_index=True)
    x = encode(both, columns)
    model = _forest(seed, is_balanced=False).fit(x[: len(taught)], taught["label"].astype(str))
    answers = model.predict(x[len(taught) :])
    return Rival(hits=np.asarray(answers == np.asarray(truth)), taught_with=len(taught))
