"""The least sure labels first: with frames, as a table, and as tasks for Label Studio.

A label is unsure where the second most probable class is near. Label Studio (labelstud.io/guide)
imports the tasks with what the model thinks as a prediction, for a person to confirm or to correct;
the labelling interface beside them has the names that the predictions refer to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidray import storage
from vidray.evaluation.intervals import Floats, Integers
from vidray.report.blocks import Card, Column, DataTable, Fold, Part, Prose
from vidray.report.formats import MISSING, legible
from vidray.report.inside.video_cards import gallery
from vidray.report.nights.rows import NightRows, floats
from vidray.report.tools import Tools

MOST_VIDEOS = 1000
# The names that the interface, and each prediction in a task, give to what is chosen and for what.
_CHOICE, _VIDEO = "label", "video"
_IN_SIGHT = 20


def blocks(found: NightRows, tools: Tools, slug: str) -> tuple[list[Part], dict[str, bytes]]:
    """The parts of the page, and the files for Label Studio by name."""
    frame = least_sure(found)
    if not len(frame):
        return [Prose(paragraphs=["No video has a label with a probability yet."])], {}
    tasks, interface = f"{slug}-label-studio.json", f"{slug}-label-studio.xml"
    names = class_names(found)
    files = {
        tasks: json.dumps(to_tasks(frame, found.history.set_name), ensure_ascii=False).encode(
            errors="backslashreplace"
        ),
        interface: to_interface(names).encode(errors="backslashreplace"),
    }
    shown = frame.head(tools.settings.shown_videos)
    cards = gallery(
        "The least sure labels",
        [_card(row, tools) for row in shown.to_dict("records")],
        note=(
            f"The {len(shown)} videos whose two most probable classes are nearest to each other, "
            "of the newest label of each video. A person who says what they show teaches a model "
            "the most."
        ),
        why=f"{found.history.model_name} was least sure of its label",
    )
    note = (
        f"{len(frame):,} videos: all of them are in the CSV file, and in {tasks}, which Label "
        f"Studio imports (its labelling interface: {interface}). Videos of this machine's disk "
        "are named as Label Studio serves local files, from the root folder; for those of a bucket "
        "connect the bucket to the project."
    )
    table = DataTable(
        name=f"{slug}-least-sure",
        title="The least sure labels, as a list",
        frame=frame,
        columns={
            "file": Column(title="video"),
            "label": Column(),
            "probability": Column(form="share"),
            "second": Column(title="or else"),
            "second_probability": Column(title="its probability", form="share"),
            "true_label": Column(title="true label"),
            "night": Column(form="count"),
        },
        note=note,
        most_rows=_IN_SIGHT,
    )
    return [cards, Fold(title=table.title, blocks=[table], is_open=False)], files


def class_names(found: NightRows) -> tuple[str, ...]:
    """The classes of the set, in the model's order where a row has them; else those it gave."""
    lists = found.rows["class_names"]
    known = pc.list_value_length(lists)
    at = np.flatnonzero(pc.fill_null(pc.greater(known, 0), False).to_numpy())
    if not len(at):
        return found.labels.names
    return tuple(str(name) for name in lists[int(at[-1])].as_py())


def least_sure(found: NightRows, most: int = MOST_VIDEOS) -> pd.DataFrame:
    """The newest label of each video, those with the nearest second class first.

    Columns: video_id, video, file, label, probability, second, second_probability, margin,
    true_label, night, recording, begin_seconds, end_seconds, duration_seconds.
    """
    probability = floats(found.rows["probability"])
    usable = found.is_newest & (found.labels.codes >= 0) & np.isfinite(probability)
    at = np.flatnonzero(usable)
    second, name = _runners_up(found, at)
    first = probability[at]
    # Of rows without probabilities the others have at most the rest.
    other = np.where(np.isnan(second), np.minimum(first, 1 - first), second)
    margin = first - other
    order = np.lexsort((first, margin))[:most]
    rows = found.rows.take(pa.array(at[order]))
    kept = ["video_id", "label", "true_label", "begin_seconds", "end_seconds", "duration_seconds"]
    frame = rows.select(kept).to_pandas()
    uris = [storage.without_secrets(uri) for uri in rows["uri"].to_pylist()]
    frame["video"] = uris
    frame["file"] = [storage.name_of(uri) for uri in uris]
    frame["probability"], frame["margin"] = first[order], margin[order]
    frame["second"] = [name[k] for k in order]
    frame["second_probability"] = second[order]
    frame["night"] = found.numbers[found.night[at[order]]]
    frame["recording"] = rows["group"].to_pandas()
    return frame


def _runners_up(found: NightRows, at: Integers) -> tuple[Floats, list[str | None]]:
    """The probability and the name of the second class of rows ``at``; NaN, None if unknown."""
    names = class_names(found)
    lists = found.rows["probabilities"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    second = np.full(len(at), np.nan)
    number = np.full(len(at), -1)
    has_all = lengths[at] == len(names)
    if len(names) > 1 and has_all.any():
        chosen = lists.take(pa.array(at[has_all]))
        values = chosen.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        each = np.nan_to_num(values.reshape(-1, len(names)))
        # Not of the two largest: the label of a long video is that of its windows together.
        own = [names.index(name) if name in names else -1 for name in found.labels.names]
        column = np.array(own)[found.labels.codes[at[has_all]]]
        each[np.flatnonzero(column >= 0), column[column >= 0]] = -1
        number[has_all] = each.argmax(axis=1)
        second[has_all] = each.max(axis=1)
    return second, [names[k] if k >= 0 else None for k in number.tolist()]


def to_tasks(frame: pd.DataFrame, model_version: str) -> list[dict[str, Any]]:
    """Tasks for Label Studio's import, with the model's label as a prediction.

    Args:
        frame: of ``least_sure``.
        model_version: what the predictions are by.
    """
    return [
        {
            "data": {
                _VIDEO: address(row["video"]),
                "uri": row["video"],
                "video_id": row["video_id"],
                "margin": round(float(row["margin"]), 6),
                "second": row["second"] or "",
                "true_label": row["true_label"] or "",
            },
            "predictions": [
                {
                    "model_version": model_version,
                    "score": round(float(row["probability"]), 6),
                    "result": [
                        {
                            "id": f"label-{number}",
                            "from_name": _CHOICE,
                            "to_name": _VIDEO,
                            "type": "choices",
                            "value": {"choices": [legible(row["label"])]},
                        }
                    ],
                }
            ],
        }
        for number, row in enumerate(_records(frame), start=1)
    ]


def _records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def address(uri: str) -> str:
    """Where Label Studio finds a video: buckets and the web by their address, files of a disk by
    the path from its document root, which is ``/`` unless it is set.
    """
    if "://" in uri:
        return uri
    return f"/data/local-files/?d={quote(uri.lstrip('/'))}"


def to_interface(names: Sequence[str]) -> str:
    """The labelling interface: the video, and one choice of the classes."""
    # XML has no control characters.
    choices = "".join(f"    <Choice value={quoteattr(legible(name))}/>\n" for name in names)
    return (
        "<View>\n"
        f'  <Video name="{_VIDEO}" value="${_VIDEO}"/>\n'
        f'  <Choices name="{_CHOICE}" toName="{_VIDEO}" choice="single" required="true">\n'
        f"{choices}"
        "  </Choices>\n"
        "</View>\n"
    )


def _card(row: dict[Any, Any], tools: Tools) -> Card:
    begin, end = (None if pd.isna(row[n]) else row[n] for n in ("begin_seconds", "end_seconds"))
    pictures = tools.thumbnails.of(row["video"], begin_seconds=begin, end_seconds=end)
    or_else = MISSING if row["second"] is None else row["second"]
    second = row["second_probability"]
    facts = {
        "label": f"{row['label']} ({row['probability']:.2f})",
        "or else": or_else if pd.isna(second) else f"{or_else} ({second:.2f})",
        "night": str(row["night"]),
    }
    if isinstance(row["true_label"], str):
        facts["true label"] = row["true_label"]
    if isinstance(pictures, str):
        return Card(title=row["file"], facts=facts, why_none=pictures)
    return Card(title=row["file"], facts=facts, pictures=pictures)
