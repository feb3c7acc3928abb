"""Clips without labels beside labelled ones: which of them may be learnt from.

A bucket holds what the labelled data were taken from, so a clip without a label may be of a video
that judges the model. None of these is learnt from: not the same video, not another of the same
recording, not another file of the same bytes or the same pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.learning.examples import Examples, read_clips
from vidray.models.arrays import RowNumbers
from vidray.tables import digests
from vidray.tables.shards import Clips
from vidray.video.clips import ClipSettings

_HELD_OUT = ("val", "test")
# What may identify a video that judges: a copy elsewhere has another id, and maybe the same bytes.
_SAME_VIDEO = ("video_id", "uri", "fingerprint", "group")
_CLIPS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class UnlabelledClips:
    """Clips that are learnt from without labels.

    Attributes:
        uri: their run folder.
        rows: ``int64 (N,)``, N >= 1: of its ``Clips``.
        left_out: the number of its other clips.
        digest: twelve hex digits that change with the videos, and with how they were cut.
    """

    uri: str
    rows: RowNumbers
    left_out: int
    digest: str


def clips_beside(data: str, labelled: Examples) -> UnlabelledClips:
    """The clips of run ``data`` that may be learnt from beside ``labelled``; labels are ignored.

    Left out are: labelled videos of ``labelled``'s run; what split val or test holds, there or
    here; and what shows the same as these, see ``_SAME_VIDEO``.

    Raises:
        UserError: no such run, one cut otherwise, or no clip is left.
    """
    found = read_clips(data, labelled=False)
    _check_cut_alike(data, found, labelled)
    assert labelled.clips is not None
    assert found.clips is not None
    whole = labelled.clips.table
    known = whole.filter(pc.is_valid(whole["label"]))["video_id"]
    held_out = labelled.table.filter(pc.is_in(labelled.table["split"], pa.array(_HELD_OUT)))
    table = found.table
    out = pc.is_in(table["video_id"], known.combine_chunks())
    out = pc.or_(out, pc.fill_null(pc.is_in(table["split"], pa.array(_HELD_OUT)), False))
    for name in _SAME_VIDEO:
        values = held_out[name].combine_chunks().drop_null()
        out = pc.or_(out, pc.and_(pc.is_valid(table[name]), pc.is_in(table[name], values)))
    table = table.filter(pc.invert(out))
    seen = set(_looks(labelled.clips, held_out["row"].to_numpy()))
    rows = table["row"].to_numpy()
    new = np.array([look not in seen for look in _looks(found.clips, rows)], bool)
    if not new.any():
        raise UserError(
            f"{storage.without_secrets(data)} has no clip to learn from beside the labelled ones: "
            "cut videos without labels with jobs/clips.py --unlabelled keep"
        )
    table = table.filter(pa.array(new))
    columns = [table[name].to_pylist() for name in ("video_id", "uri", "fingerprint")]
    return UnlabelledClips(
        uri=found.clips.uri,
        rows=rows[new],
        left_out=len(found.table) - int(new.sum()),
        digest=digests.of([columns, found.settings]),
    )


def _check_cut_alike(data: str, found: Examples, labelled: Examples) -> None:
    """Raise UserError where clips of the two runs do not have the same frames of the same size."""

    def cut(settings: dict[str, Any]) -> ClipSettings:
        # Which videos are cut changes no clip; nor does their number, where their length is given.
        given = ClipSettings.from_json(settings)
        given = replace(given, unlabelled="skip", limits=ClipSettings().limits)
        return given if given.clip_seconds is None else replace(given, clips_per_video=1)

    one, other = cut(found.settings), cut(labelled.settings)
    different = [name for name in vars(one) if getattr(one, name) != getattr(other, name)]
    if different:
        name = different[0]
        raise UserError(
            f"{storage.without_secrets(data)} was cut with {name} {getattr(one, name)} and the "
            f"labelled clips with {getattr(other, name)}: cut both alike"
        )


def _looks(clips: Clips, rows: RowNumbers) -> Iterator[bytes]:
    """The digest of each clip's pixels."""
    for begin in range(0, len(rows), _CLIPS_AT_ONCE):
        for clip in clips.read(rows[begin : begin + _CLIPS_AT_ONCE]):
            yield hashlib.blake2b(clip, digest_size=16).digest()


def read_beside(
    own: Clips, own_rows: RowNumbers, other: Clips, other_rows: RowNumbers, rows: RowNumbers
) -> NDArray[np.uint8]:
    """Clips by number: those of ``own_rows`` come first, then those of ``other_rows``.

    Returns:
        ``uint8 (N, T, H, W, 3)``.
    """
    is_own = rows < len(own_rows)
    if is_own.all():
        return own.read(own_rows[rows])
    shape = (own.num_frames, own.size_px, own.size_px, 3)
    clips = np.empty((len(rows), *shape), np.uint8)
    clips[is_own] = own.read(own_rows[rows[is_own]])
    clips[~is_own] = other.read(other_rows[rows[~is_own] - len(own_rows)])
    return clips
