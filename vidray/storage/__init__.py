"""Files in folders and buckets: small functions over URIs, and the formats that are ours.

``storage.join``, ``storage.exists``, ``storage.read_bytes`` and so on are those of ``uris``.
"""

from vidray.masking import without_secrets
from vidray.storage.addresses import canonical, is_bucket, join, name_of, parent_of
from vidray.storage.damage import damaged
from vidray.storage.trees import (
    publish,
    remove_drafts,
    remove_tree,
)
from vidray.storage.uris import (
    WHOLE_FILE_BYTES,
    FileInfo,
    check_file,
    check_folder,
    exists,
    file_info,
    file_infos,
    filesystem,
    is_dead_link,
    is_folder,
    list_files,
    list_names,
    open_binary,
    opened,
    read_bytes,
    read_heads,
    write_bytes,
    write_once,
)

__all__ = [
    "WHOLE_FILE_BYTES",
    "FileInfo",
    "canonical",
    "check_file",
    "check_folder",
    "damaged",
    "exists",
    "file_info",
    "file_infos",
    "filesystem",
    "is_bucket",
    "is_dead_link",
    "is_folder",
    "join",
    "list_files",
    "list_names",
    "name_of",
    "open_binary",
    "opened",
    "parent_of",
    "publish",
    "read_bytes",
    "read_heads",
    "remove_drafts",
    "remove_tree",
    "without_secrets",
    "write_bytes",
    "write_once",
]
