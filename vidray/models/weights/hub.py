"""Models of ``transformers``, from the hub or from a folder: ``hf:OWNER/NAME[@REVISION]``,
``hf:/folder``.

    config.json                     what the network is
    model.safetensors               its weights, or
    model.safetensors.index.json    the names of the files that share them
    README.md                       its licence, in the first lines

No code of a repository is run or fetched, and no file but of safetensors is opened for weights. A
revision is resolved to its commit, by which the model is found again. Files of the hub go through
its own cache; a machine without network takes them from there. Imports no PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models import transformers_config
from vidray.models.names import HUB
from vidray.storage import checked_json, names

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Texts and their tokens are read for words as classes alone, but then by the same machine.
_FETCHED = (
    CONFIG, "*.safetensors", INDEX, "preprocessor_config.json", "video_preprocessor_config.json",
    "processor_config.json", "README.md", "tokenizer*.json", "special_tokens_map.json",
    "vocab.json", "merges.txt", "spiece.model",
)  # fmt: skip
_REPO = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")
_MOST_CONFIG_BYTES = 16 << 20  # Names of 21,000 classes are 1 MB.
_MOST_README_BYTES = 1 << 20
_MOST_SHARDS = 1000
_NOT_COMMERCIAL = re.compile(r"\bnc\b", re.IGNORECASE)


@dataclass(frozen=True)
class HubModel:
    """A model of ``transformers`` whose files lie in a folder."""

    folder: str
    """Where they lie: local, or in a bucket."""
    repo: str
    """Its repository, or the name of its folder."""
    revision: str | None
    """The commit; None for a folder."""
    licence: str | None
    """As its README states it."""

    @property
    def name(self) -> str:
        """What model.json calls it: no path of a machine is in it."""
        return f"{HUB}{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def source(self) -> str:
        """What finds it again, on this machine or, of the hub, on any."""
        return self.name if self.revision else f"{HUB}{self.folder}"

    @property
    def origin(self) -> dict[str, Any]:
        """Where it is from, for model.json."""
        return {"repo": self.repo, "revision": self.revision, "licence": self.licence}

    def __str__(self) -> str:
        """The name and the licence, in words."""
        if self.licence is None:
            return f"{self.name} (licence not stated: ask its author)"
        bound = ", not for commercial use" if _NOT_COMMERCIAL.search(self.licence) else ""
        return f"{self.name} (licence {self.licence}{bound})"


def find(source: str) -> HubModel:
    """The model that ``hf:...`` names, fetched into the hub's cache if it is not there.

    Raises:
        UserError: there is no such folder or repository, or it can't be fetched.
    """
    where = source.removeprefix(HUB)
    if "://" in where or where.startswith(("/", ".", "~")) or os.path.isdir(where):
        folder = storage.canonical(os.path.expanduser(where))
        if not storage.exists(storage.join(folder, CONFIG)):
            raise UserError(
                f"{storage.without_secrets(source)} holds no {CONFIG}: give a folder that "
                "save_pretrained of transformers wrote, or hf:OWNER/NAME of the hub"
            )
        repo = names.check_name(storage.name_of(folder.rstrip("/")), what="the folder")
        return HubModel(folder, repo, None, _licence(folder))
    repo, _, revision = where.partition("@")
    if not _REPO.fullmatch(repo) or ".." in where or not _REVISION.fullmatch(revision or "main"):
        raise UserError(
            f"{checked_json.shown(source)} names no model: give hf:OWNER/NAME, "
            "hf:OWNER/NAME@REVISION or hf:/folder"
        )
    folder = _fetched(repo, revision or "main")
    return HubModel(folder, repo, os.path.basename(folder), _licence(folder))


def _fetched(repo: str, revision: str) -> str:
    """The folder of a revision in the hub's cache, named after its commit."""
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f"hf:{repo} needs the extra: pip install 'vidray[transformers]'") from None
    from huggingface_hub import constants

    try:
        return str(
            huggingface_hub.snapshot_download(
                repo, revision=revision, allow_patterns=list(_FETCHED)
            )
        )
    except (OSError, ValueError) as error:  # Of which every failure to connect or to find is one.
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"hf:{repo}@{revision} is not in {constants.HF_HUB_CACHE} and can't be fetched "
            f"({type(error).__name__}: {said}): where there is a network, fetch "
            f"it with hf download {repo} and copy that cache here, or give hf:/folder with its "
            "files"
        ) from None


def config_of(model: HubModel) -> Mapping[str, Any]:
    """The content of config.json.

    Raises:
        UserError: it is too large, or no JSON object.
    """
    return read_json(model, CONFIG)


def class_names(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of its classes, of what ``config_of`` gives; None where it states none."""
    named = values.get("id2label")
    if not isinstance(named, Mapping) or len(named) < 2:
        return None
    found = [named.get(str(number)) for number in range(len(named))]
    # Names that transformers makes up where nobody gave any.
    if found == [f"LABEL_{number}" for number in range(len(found))]:
        return None
    if not all(isinstance(name, str) and name and checked_json.is_text(name) for name in found):
        raise UserError(f"{CONFIG} has id2label with numbers missing, or names that are no text")
    return tuple(str(name) for name in found)


def network_config(model: HubModel) -> transformers_config.NetworkConfig:
    """The checked config of its network.

    Raises:
        UserError: a network that vidray does not build, or a value out of its range.
    """
    return transformers_config.from_theirs(config_of(model), where=f"{model.name}: {CONFIG}")


def state_dict(model: HubModel) -> dict[str, Tensor]:
    """The tensors of its weights, by the names of ``transformers``; not to be written to.

    Raises:
        UserError: there are none of safetensors, or a file is damaged or leads out of the folder.
    """
    from vidray.models.weights import files

    if _is_there(model.folder, WEIGHTS):
        return files.read_safetensors(_part(model.folder, WEIGHTS))
    if not _is_there(model.folder, INDEX):
        raise UserError(
            f"{model.name} holds no {WEIGHTS}: files of other kinds can run code when opened and "
            "are not; ask its author for safetensors, or convert it with save_pretrained"
        )
    placed = read_json(model, INDEX).get("weight_map")
    if not isinstance(placed, Mapping) or not placed:
        raise UserError(f"{model.name}: {INDEX} has no weight_map: get the model again")
    tensors: dict[str, Tensor] = {}
    for shard in _shards(model, placed):
        here = files.read_safetensors(_part(model.folder, shard))
        tensors |= {name: tensor for name, tensor in here.items() if placed.get(name) == shard}
    if lost := sorted(set(placed) - set(tensors)):
        raise UserError(
            f"{model.name}: {len(lost)} tensors of {INDEX} are in no file, {lost[0]} among them: "
            "get the model again"
        )
    return tensors


def _shards(model: HubModel, placed: Mapping[str, Any]) -> list[str]:
    """The files that an index names, each directly in the folder."""
    files = sorted({str(file) for file in placed.values()})
    if len(files) > _MOST_SHARDS:
        raise UserError(f"{model.name}: {INDEX} names {len(files)} files: {_MOST_SHARDS} at most")
    for file in files:
        if not names.is_name(file) or not file.endswith(".safetensors"):
            raise UserError(
                f"{model.name}: {INDEX} names the file {checked_json.shown(file)}: it must be a "
                "safetensors file of the same folder"
            )
    return files


def check_files(model: HubModel, files: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the files that are there; raises UserError where one is a link out of the folder."""
    there = tuple(file for file in files if _is_there(model.folder, file))
    for file in there:
        _part(model.folder, file)
    return there


def read_json(model: HubModel, name: str) -> Mapping[str, Any]:
    """The content of one of its files of JSON.

    Raises:
        UserError: it is not there, too large, or no JSON object.
    """
    where = _part(model.folder, name)
    shown = storage.without_secrets(where)
    try:
        if storage.file_info(where).size_bytes > _MOST_CONFIG_BYTES:
            raise UserError(f"{shown} is larger than any config is: get the model again")
        found = checked_json.loads(storage.read_bytes(where))
    except (VideoError, OSError) as error:
        raise UserError(f"{shown} cannot be read ({type(error).__name__})") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{shown} is damaged ({error}): get the model again") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{shown} is {checked_json.shown(found)}: it must be an object")
    return found


def _licence(folder: str) -> str | None:
    """The licence that the first lines of README.md state."""
    if not _is_there(folder, "README.md"):
        return None
    where = _part(folder, "README.md")
    if storage.file_info(where).size_bytes > _MOST_README_BYTES:
        return None
    lines = storage.read_bytes(where).decode(errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    stated = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if match := re.fullmatch(
            r"(license|license_name):\s*[\"']?([\w.+ -]{1,80}?)[\"']?\s*", line
        ):
            stated[match[1]] = match[2]
    licence = stated.get("license")
    return stated.get("license_name", licence) if licence == "other" else licence


def _is_there(folder: str, name: str) -> bool:
    return storage.exists(storage.join(folder, name))


def _part(folder: str, name: str) -> str:
    """A file of the folder; it may be a link within it, or into the cache that the folder is of."""
    where = storage.join(folder, name)
    if storage.is_bucket(folder):
        return where
    home = os.path.realpath(folder)
    # CACHE/models--OWNER--NAME/snapshots/COMMIT/file is a link to ../../blobs/HASH.
    above, snapshots = os.path.split(os.path.dirname(home))
    homes = [home, os.path.join(above, "blobs")] if snapshots == "snapshots" else [home]
    found = os.path.realpath(where)
    if not any(found.startswith(f"{one}{os.sep}") for one in homes):
        raise UserError(
            f"{where} is a link that leads out of its folder: copy the file itself there"
        )
    return where
