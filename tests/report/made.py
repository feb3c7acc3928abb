"""Parts of pages, made by hand."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from PIL import Image

from vidray.report import charts, page
from vidray.report.blocks import (
    Card,
    Chart,
    Column,
    DataTable,
    Finding,
    Fold,
    Gallery,
    Prose,
    Section,
    Thumbnail,
)
from vidray.report.runs import Problem, Runs
from vidray.report.settings import ReportSettings

VIDEO = "<img src=x onerror=alert(1)>.mp4"
SCRIPT = "</script><script>alert(2)</script>"
ERROR = "moov atom not found; " * 476 + "the end."  # 10,004 characters
# A file whose name is shown as "photo_gpj.exe" by what obeys its override, and one with a NUL.
HOSTILE = (
    VIDEO,
    SCRIPT,
    "[/b]",
    "مصارعة في الشارع 🥊.mp4",
    "photo_\u202egpj.exe",
    "nul\x00 bell\x07.mp4",
    '=HYPERLINK("http://x")',
    "' onmouseover='alert(3)",
    "a.b[c]\\d",
)
NOT_UTF8 = "\udce4 not UTF-8.avi"  # what Python makes of such a file's name; no data frame holds it
MODELS = ("extra_trees", "svm", "r3d_18", "efficientnet_lite0_lstm", "timesformer_divided")


def thumbnail(number: int) -> Thumbnail:
    """A picture of one colour, unlike those of other numbers."""
    color = ((40 * number) % 256, 90, 255 - (40 * number) % 256)
    sink = io.BytesIO()
    Image.new("RGB", (128, 96), color).save(sink, "JPEG")
    return Thumbnail(jpeg=sink.getvalue(), alt=f"frame at {number} s", caption=f"{number} s")


def rng() -> np.random.Generator:
    """Always the same draws."""
    return np.random.default_rng(15)


def model_table(names: Sequence[str] = MODELS) -> DataTable:
    """Models with an interval, a missing value, and columns whose best is marked."""
    accuracy = np.linspace(0.55, 0.91, len(names))
    frame = pd.DataFrame(
        {
            "model": names,
            "link": [f"#video-{number % len(HOSTILE)}" for number in range(len(names))],
            "accuracy": accuracy,
            "low": accuracy - 0.06,
            "high": accuracy + 0.04,
            "seconds": [0.004 * 10**k if k != 1 else None for k in range(len(names))],
            "size": [10.0**k for k in range(3, 3 + len(names))],
            "made_at": [datetime(2026, 11, 1 + k, tzinfo=UTC) for k in range(len(names))],
        }
    )
    return DataTable(
        name="models",
        title="Models on the same 60 videos",
        frame=frame,
        columns={
            "model": Column(title="Model"),
            "accuracy": Column(
                title="Accuracy",
                form="share",
                best="highest",
                interval=("low", "high"),
                hint="Share of the videos whose label is right.",
            ),
            "seconds": Column(title="Time a video", form="seconds", best="lowest"),
            "size": Column(title="Size", form="bytes", best="lowest"),
            "made_at": Column(title="Trained", form="date"),
        },
        note="Intervals are of 95 %, by bootstrap over recordings.",
        link="link",
    )


def long_table(rows: int = 120) -> DataTable:
    """More rows than are shown."""
    frame = pd.DataFrame(
        {
            "video": [f"clip_{k:03}.mp4" for k in range(rows)],
            "count": [(k * 37) % 101 for k in range(rows)],
            "share": [None if k % 7 == 0 else (k * 13 % 97) / 97 for k in range(rows)],
        }
    )
    columns = {
        "video": Column(title="Video"),
        "count": Column(title="Frames", form="count"),
        "share": Column(title="Probability", form="percent"),
    }
    return DataTable(name="videos", title="Videos", frame=frame, columns=columns)


def wide_table() -> DataTable:
    """Sixteen columns of figures, more than a sheet of paper has room for at the screen's size."""
    frame = pd.DataFrame({"model": MODELS, "low": 0.5, "high": 0.75})
    columns = {"model": Column(title="Model")}
    for number in range(15):
        frame[f"f{number}"] = [0.6 + k / 100 for k in range(len(MODELS))]
        ends = ("low", "high") if number < 7 else None
        columns[f"f{number}"] = Column(title=f"Macro figure {number}", form="share", interval=ends)
    return DataTable(name="wide", title="Many figures", frame=frame, columns=columns)


def hostile_table() -> DataTable:
    """Names and messages that nobody should have to read, in cells."""
    frame = pd.DataFrame(
        {"video": HOSTILE, "label": list(reversed(HOSTILE)), "error": [ERROR, *HOSTILE[1:]]}
    )
    columns = {
        "video": Column(title="Video"),
        "label": Column(title="Label", hint=SCRIPT),
        "error": Column(title="Error"),
    }
    return DataTable(name="hostile", title=f"Failures {SCRIPT}", frame=frame, columns=columns)


def heatmap(names: Sequence[str]) -> Chart:
    """Confusions of classes."""
    cells = pd.DataFrame(
        [
            {"truth": a, "label": b, "share": float(a == b) * 0.7 + 0.1, "n": "12",
             "said": f"{a} as {b}: 12"}
            for a in names
            for b in names
        ],
        columns=["truth", "label", "share", "n", "said"],
    )  # fmt: skip
    return charts.heatmap(cells, x="label", y="truth", value="share", shown="n", x_title="label",
                       y_title="true label", name="heatmap", title="Confusions",
                       note="Rows are true labels.")  # fmt: skip


def every_chart(names: Sequence[str] = MODELS) -> list[Chart]:
    """One of each builder, with these names as its labels."""
    count, random = len(names), rng()
    share = random.uniform(0.5, 0.9, count)
    frame = pd.DataFrame(
        {
            "model": names,
            "accuracy": share,
            "low": share - 0.06,
            "high": share + 0.05,
            "seconds": 10.0 ** random.uniform(-3, 1, count),
            "kind": ["deep" if k % 2 else "classical" for k in range(count)],
            "videos": random.integers(1, 90, count),
        }
    )
    scored = frame.assign(
        said=[f"{name}: {value:.3f}" for name, value in zip(names, share, strict=True)],
        link=[f"#video-{k % len(HOSTILE)}" for k in range(count)],
        ringed=[k % 3 == 0 for k in range(count)],
    )
    steps = pd.DataFrame(
        [
            {"epoch": epoch, "loss": 1 / epoch + k / 10, "low": 1 / epoch + k / 10 - 0.05,
             "high": 1 / epoch + k / 10 + 0.05, "model": name}
            for k, name in enumerate(names)
            for epoch in range(1, 8)
        ],
        columns=["epoch", "loss", "low", "high", "model"],
    )  # fmt: skip
    bins = pd.DataFrame(
        {"from": range(10), "to": range(1, 11), "count": [k * (10 - k) for k in range(10)]}
    )
    x = {"x_title": "time a video (s, log scale)", "y_title": "accuracy"}
    return [
        charts.dots(frame, label="model", value="accuracy", low="low", high="high", color="kind",
                    value_title="accuracy", name="dots", title="Accuracy with intervals"),
        charts.bars(frame, label="model", value="videos", value_title="videos", color="kind",
                    name="bars", title="Videos of each class"),
        charts.lines(steps, x="epoch", y="loss", x_title="epoch", y_title="loss (nats)",
                     color="model", band=("low", "high"), name="lines", title="Training"),
        charts.scatter(scored, x="seconds", y="accuracy", log_x=True, color="kind", label="model",
                       name="scatter", title="Accuracy against time", **x),
        heatmap(names),
        charts.histogram(bins, low="from", high="to", count="count", x_title="duration (s)",
                         name="histogram", title="Durations"),
    ]  # fmt: skip


def gallery() -> Gallery:
    """A card for each hostile name, most with frames."""
    cards = [
        Card(
            title=name,
            facts={"true label": SCRIPT, "label": name, "probability": "0.123"},
            pictures=[thumbnail(4 * number + k) for k in range(number % 5)],
            why_none=ERROR if number % 5 == 0 else "",
            anchor=f"video-{number}",
        )
        for number, name in enumerate((*HOSTILE, NOT_UTF8))
    ]
    return Gallery(
        title="The worst errors", cards=cards, note="The surest of the wrong ones first."
    )


def every_part() -> list[Section]:
    """Two chapters with every kind of part; the first with findings of all levels."""
    found = [
        Finding(level="alarm", text=f"12 videos failed: {VIDEO} and 11 more.", section="models-it"),
        Finding(level="warning", text="r3d_18 is not better than metadata.", section="models-it"),
        Finding(level="good", text="Night 3 labelled 1,200 videos.", section="models-it"),
        Finding(level="note", text="Two models were judged on other videos.", section="models-it"),
    ]
    shut = Fold(title=f"In detail {SCRIPT}", blocks=[gallery(), hostile_table()], is_open=False)
    takeaway = Prose(paragraphs=["The best is r3d_18 (0.910)."], is_finding=True)
    return [
        Section(name="overview", title="Overview", lead="What these runs are.", findings=found,
                blocks=[model_table(), takeaway]),
        Section(name="models-it", title="Models", lead=f"Which is best? {SCRIPT}",
                blocks=[*every_chart(), Prose(paragraphs=[ERROR]), long_table(), wide_table(),
                        Fold(title="More", blocks=[Prose(paragraphs=["Some."])]), shut]),
    ]  # fmt: skip


def html(sections: Sequence[Section], title: str = "") -> str:
    """A page of sections, with two folders that could not be read."""
    problems = [Problem(folder=VIDEO, why=ERROR), Problem(folder=NOT_UTF8, why="no run.json")]
    settings = ReportSettings(title=title or f"Fights {SCRIPT}")
    return page.render(Runs(folders=()), sections, problems, settings, data_folder="r_data")
