"""Every table's columns, declared once, as pyarrow schemas; and the list of error kinds.

Missing is null, never -1. Units are in the names.
"""

import pyarrow as pa

# error_kind -> what it says to the person who reads the row.
ERROR_KINDS = {
    "missing": "listed, but gone when it was opened",
    "denied": "the storage refused to hand it over",
    "unreadable": "not a video file, or damaged beyond its first frame",
    "no_video": "opens, but holds no video stream",
    "encrypted": "the video is encrypted and no key is given",
    "unsupported": "no decoder for its codec, or the chosen decoder returns wrong frames for it",
    "too_short": "fewer frames than the task needs",
    "too_large": "over a cap on pixels, frames, seconds or bytes, or needs more memory than allowed",
    "timeout": "not finished within the seconds allowed",
    "crashed": "killed the decoding process",
}
STATUSES = ("ok", "failed", "skipped")
SPLITS = ("train", "val", "test")

VIDEOS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),  # stable hash of the URI
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),  # changes when the content does
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("group", pa.string()),  # source recording: never in two splits
    ]
)

# Every result row starts with these.
RESULT_HEAD = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("fingerprint", pa.string(), nullable=False),
    pa.field("label", pa.string()),
    pa.field("split", pa.string()),
    pa.field("group", pa.string()),
    pa.field("status", pa.string(), nullable=False),  # ok | failed | skipped
    pa.field("error_kind", pa.string()),
    pa.field("error_message", pa.string()),
]
