"""Every table's columns, declared once, as pyarrow schemas; and the list of error kinds.

Missing is null, never -1. Units are in the names.
"""

from collections.abc import Mapping

import pyarrow as pa

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
        pa.field("begin_seconds", pa.float64()),  # of the stretch that is meant; null: the file
        pa.field("end_seconds", pa.float64()),
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

# The part of the file that a row is of; null: all of it. Seconds from the first frame shown.
_STRETCH = [
    pa.field("begin_seconds", pa.float64()),
    pa.field("end_seconds", pa.float64()),  # what is shown then is not looked at
]
# What could not be read right of a video; null where the decoder has looked at no frame.
_DAMAGE = [
    pa.field("damaged_packets", pa.int32()),  # packets the decoder refused
    pa.field("corrupt_frames", pa.int32()),  # frames it marked corrupt, of those looked at
    pa.field("corrupt_share", pa.float64()),  # the same as a share
]
# Of the file, whatever part of it is looked at.
_PROBE = [
    pa.field("width_px", pa.int32()),  # as stored, before rotation
    pa.field("height_px", pa.int32()),
    pa.field("rotation_degrees", pa.int32()),  # counter-clockwise, to stand upright
    pa.field("sample_aspect_ratio", pa.float64()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("frames_per_second", pa.float64()),
    pa.field("num_frames", pa.int64()),  # frames that decode, never a header's claim
    *_DAMAGE,
    pa.field("codec", pa.string()),
    pa.field("container", pa.string()),
    pa.field("has_sound", pa.bool_()),
]
_QUALITY = [
    pa.field("sharpness", pa.float64()),
    pa.field("noise", pa.float64()),
    pa.field("blockiness", pa.float64()),
    pa.field("brightness", pa.float64()),
    pa.field("contrast", pa.float64()),
    pa.field("near_duplicate_share", pa.float64()),
    pa.field("black_share", pa.float64()),
    pa.field("enhanced_share", pa.float64()),  # of the sampled frames
]
_CAP = [
    pa.field("cap", pa.string()),  # that a failed video was over, such as max_pixels
    pa.field("cap_value", pa.float64()),  # what it was then
]
_PROVENANCE = [
    pa.field("decoder", pa.string()),  # the one that was used
    pa.field("config_digest", pa.string(), nullable=False),
]


def features_schema(lengths: Mapping[str, int]) -> pa.Schema:
    """FEATURES: head, stretch, probe, quality, one fixed-size float32 list per family, provenance.

    Args:
        lengths: family name -> how many numbers, in the order of the columns.
    """
    families = [pa.field(name, pa.list_(pa.float32(), size)) for name, size in lengths.items()]
    return pa.schema([*RESULT_HEAD, *_STRETCH, *_PROBE, *_QUALITY, *families, *_CAP, *_PROVENANCE])


def clips_schema(shape: tuple[int, int, int, int]) -> pa.Schema:
    """CLIPS on its way to the run folder, where ``shards`` puts the pixels beside the table.

    Args:
        shape: (T, H, W, 3) of every clip.
    """
    layout = {"shape": ",".join(map(str, shape))}
    return pa.schema(
        [
            *RESULT_HEAD,
            pa.field("clip_index", pa.int32()),
            *_STRETCH,  # that the clip spans
            *_DAMAGE,
            pa.field("pixels", pa.large_binary(), metadata=layout),  # uint8, C order
            *_CAP,
            *_PROVENANCE,
        ]
    )


_SEGMENT = pa.struct(
    [
        pa.field("begin_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("probability", pa.float64()),  # mean of its windows
    ]
)
# LABELS as a worker makes them: ``label`` is the predicted one.
LABELLED = pa.schema(
    [
        *RESULT_HEAD,
        *_STRETCH,
        pa.field("true_label", pa.string()),
        pa.field("probability", pa.float64()),  # of ``label``
        pa.field("probabilities", pa.list_(pa.float64())),  # in the model's class order
        pa.field("segments", pa.list_(_SEGMENT)),  # of a long video
        pa.field("embedding", pa.list_(pa.float32())),
        # Of a network with early exits: 1 if all clips left at the first, the largest of theirs.
        pa.field("exit_stage", pa.int32()),
        pa.field("duration_seconds", pa.float64()),  # of the stretch, where it is of one
        *_DAMAGE,
        pa.field("attempts", pa.int32(), nullable=False),  # with this content, this one included
        pa.field("stage", pa.int32()),  # of two models the one that labelled it, 1 or 2
        *_CAP,
        *_PROVENANCE,
    ]
)
# As committed.
LABELS = pa.schema(
    [
        *LABELLED,
        pa.field("model_digest", pa.string(), nullable=False),
        # What ``probabilities`` are of, in their order: beside them, so that no reader of one file
        # needs another. As a dictionary: 8 kB of a file of 50,000 rows and 101 classes.
        pa.field("class_names", pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        pa.field("labelled_at", pa.timestamp("us", "UTC"), nullable=False),  # of the commit
        pa.field("commit", pa.int32(), nullable=False),  # of two rows of a video, the higher counts
    ]
)
# Of jobs/study.py: a row per model and purpose, and repeat or fraction.
STUDY = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("purpose", pa.string(), nullable=False),
        pa.field("repeat", pa.int32()),  # of a cross-validation
        pa.field("fraction", pa.float64()),  # of split train, in a learning curve
        pa.field("train_videos", pa.int32(), nullable=False),  # of a fold: their mean
        pa.field("judged_videos", pa.int32(), nullable=False),
        pa.field("accuracy", pa.float64(), nullable=False),
        pa.field("accuracy_low", pa.float64()),  # 95 % interval over recordings
        pa.field("accuracy_high", pa.float64()),
        pa.field("macro_f1", pa.float64()),
        pa.field("macro_auc", pa.float64()),
        pa.field("log_loss", pa.float64(), nullable=False),
        pa.field("training_seconds", pa.float64()),  # of all folds; null: trained elsewhere
        pa.field("seconds_per_video", pa.float64()),  # of a test, from the file to the label
        pa.field("on_front", pa.bool_()),  # of a test: no model is as accurate for less
        pa.field("kind", pa.string()),  # baseline, classical or deep
    ]
)
