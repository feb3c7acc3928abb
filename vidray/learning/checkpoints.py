"""Checkpoints: all that a training needs to resume exactly, in files that cannot run code.

    FOLDER/
      network.safetensors    the state dict of the network
      optimizer.safetensors  PARAMETER/KEY -> its tensor, such as "head.weight/exp_avg"
      average.safetensors    the state dict of the averaged weights, where there are any
      checkpoint.json        all that is no tensor; written last: without it there is no checkpoint

Every tensor comes back bit by bit. Save into a new folder each time: a folder that is saved into
again holds no checkpoint until it is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json

NETWORK, OPTIMIZER, HEADER = "network.safetensors", "optimizer.safetensors", "checkpoint.json"
AVERAGE = "average.safetensors"
_FORMAT = 1
# What a header holds beside its format.
_KEYS: dict[str, type | UnionType] = {
    "optimizer": dict,
    "optimizer.kind": str,
    "optimizer.groups": list,
    "optimizer.values": dict,
    "optimizer.tensors": list,
    "scaler": dict | None,
    "progress": dict,
}
_MOST_NAMED = 5  # tensors named in an error; a wrong architecture has hundreds


def save(
    folder: str | Path,
    network: nn.Module,
    optimizer: Optimizer,
    progress: Mapping[str, Any],
    *,
    scaler: GradScaler | None = None,
    average: nn.Module | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        folder: local; made if it is not there.
        network: as it is, not wrapped in DDP.
        optimizer: over parameters of ``network``.
        progress: anything JSON can hold: where the training is.
        scaler: of float16, if there is one.
        average: the network with averaged weights, if there is one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADER).unlink(missing_ok=True)
    tensors, optimizer_header = _split(network, optimizer)
    _write_tensors(folder / NETWORK, network.state_dict())
    _write_tensors(folder / OPTIMIZER, tensors)
    (folder / AVERAGE).unlink(missing_ok=True)
    if average is not None:
        _write_tensors(folder / AVERAGE, average.state_dict())
    header = {
        "format": _FORMAT,
        "optimizer": optimizer_header,
        "scaler": None if scaler is None else scaler.state_dict(),
        "progress": dict(progress),
    }
    text = json.dumps(header, indent=2)
    _publish(folder / HEADER, lambda draft: draft.write_text(text))


def load(
    folder: str | Path,
    network: nn.Module,
    optimizer: Optimizer,
    *,
    scaler: GradScaler | None = None,
    average: nn.Module | None = None,
) -> dict[str, Any]:
    """Put a checkpoint into a network and an optimizer made as those that were saved.

    All stay on their device and in their memory format. On an error none has changed.

    Returns:
        ``progress`` as it was saved.

    Raises:
        UserError: no checkpoint, one that is damaged, or one of another network or optimizer.
    """
    folder = Path(folder)
    header = _read_header(folder)
    if (scaler is None) != (header["scaler"] is None):
        raise UserError(
            f"the checkpoint {folder} was saved {'without' if scaler else 'with'} a gradient "
            "scaler: resume it with the precision it was trained with"
        )
    if scaler is not None and header["scaler"].keys() != scaler.state_dict().keys():
        raise storage.damaged(str(folder / HEADER), "scaler has other keys than a scaler's")
    weights = read_tensors(folder / NETWORK)
    check_same(weights, network.state_dict(), f"{folder / NETWORK}")
    averaged = _read_average(folder, average)
    state = _join(folder, network, optimizer, header["optimizer"])
    network.load_state_dict(weights)
    optimizer.load_state_dict(state)
    if average is not None:
        average.load_state_dict(averaged)
    if scaler is not None:
        scaler.load_state_dict(header["scaler"])
    progress: dict[str, Any] = header["progress"]
    return progress


def judged_weights(folder: str | Path) -> Path:
    """The file of a checkpoint's weights that are judged: averaged ones where there are any."""
    averaged = Path(folder) / AVERAGE
    return averaged if averaged.exists() else Path(folder) / NETWORK


def read_progress(folder: str | Path) -> dict[str, Any]:
    """``progress`` as it was saved, and nothing else; raises UserError as ``load`` does."""
    progress: dict[str, Any] = _read_header(Path(folder))["progress"]
    return progress


def _read_average(folder: Path, average: nn.Module | None) -> dict[str, Tensor]:
    """The averaged weights, or none; UserError where only one side has them."""
    if (average is not None) != (folder / AVERAGE).exists():
        raise UserError(
            f"the checkpoint {folder} was saved {'without' if average else 'with'} averaged "
            "weights: resume it with the ema it was trained with"
        )
    if average is None:
        return {}
    tensors = read_tensors(folder / AVERAGE)
    check_same(tensors, average.state_dict(), f"{folder / AVERAGE}")
    return tensors


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        UserError: it is not there, or it is not such a file; a pickle is not, whatever its name.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there: give a folder that a training has saved") from None
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a safetensors file ({error}): it is damaged or of another format"
        ) from None


def check_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Compare names, shapes and dtypes of two sets of tensors.

    Raises:
        UserError: they differ; the message names the tensors and what they have.
    """
    differences = [
        f"{name} is {_describe(found[name])} instead of {_describe(wanted[name])}"
        for name in wanted
        if name in found and _describe(found[name]) != _describe(wanted[name])
    ]
    _raise_if(
        where,
        missing=[f"{name} {_describe(wanted[name])}" for name in wanted if name not in found],
        extra=[f"{name} {_describe(found[name])}" for name in found if name not in wanted],
        different=differences,
    )


def _raise_if(
    where: str,
    *,
    missing: Collection[str],
    extra: Collection[str],
    different: Collection[str],
) -> None:
    reasons = [
        f"{kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("extra", extra), ("different", different))
        if names
    ]
    if reasons:
        raise UserError(
            f"{where} does not fit the model; {'; '.join(reasons)}; "
            "give the file of this model, head and number of classes"
        )


def _some(names: Collection[str]) -> str:
    first = ", ".join(list(names)[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{first} and {more} more" if more > 0 else first


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _split(network: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer as tensors by name, and the rest of it, which JSON can hold."""
    names = _names(network, optimizer)
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            holder = tensors if isinstance(value, Tensor) else values
            holder[f"{names[index]}/{key}"] = value
    groups = [
        {**group, "params": [names[index] for index in group["params"]]}
        for group in state["param_groups"]
    ]
    header = {
        "kind": type(optimizer).__name__,
        "groups": groups,
        "values": values,
        "tensors": sorted(tensors),
    }
    return tensors, header


def _join(
    folder: Path, network: nn.Module, optimizer: Optimizer, header: Mapping[str, Any]
) -> dict[str, Any]:
    """A state dict of ``optimizer`` from the parts that ``_split`` made."""
    if header["kind"] != type(optimizer).__name__:
        raise UserError(
            f"the checkpoint {folder} is of the optimizer {header['kind']}, not of "
            f"{type(optimizer).__name__}: resume it with the optimizer it was trained with"
        )
    names = _names(network, optimizer)
    indices = {name: index for index, name in enumerate(names)}
    _check_groups(folder, header["groups"], optimizer, indices)
    tensors = read_tensors(folder / OPTIMIZER)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    _check_state(folder, header["tensors"], tensors, dict(zip(names, parameters, strict=True)))
    if unknown := [name for name in header["values"] if name.rsplit("/", 1)[0] not in indices]:
        raise storage.damaged(
            str(folder / HEADER), f"optimizer.values has no parameter of: {_some(unknown)}"
        )
    state: dict[int, dict[str, Any]] = {}
    for full_name, value in {**header["values"], **tensors}.items():
        name, key = full_name.rsplit("/", 1)
        like = parameters[indices[name]]
        state.setdefault(indices[name], {})[key] = _laid_out(value, like)
    groups = [
        {
            **{key: _as_before(value, old[key]) for key, value in saved.items()},
            "params": [indices[name] for name in saved["params"]],
        }
        for saved, old in zip(header["groups"], optimizer.param_groups, strict=True)
    ]
    return {"state": state, "param_groups": groups}


def _check_groups(
    folder: Path,
    saved: list[dict[str, Any]],
    optimizer: Optimizer,
    indices: Mapping[str, int],
) -> None:
    """Check that the groups hold the same parameters with the same options."""
    names = list(indices)
    before = {name: index for index, group in enumerate(saved) for name in group["params"]}
    after: dict[str, int] = {}
    for index, group in enumerate(optimizer.param_groups):
        for _ in group["params"]:
            after[names[len(after)]] = index
    _raise_if(
        f"{folder / HEADER}, by the parameters it trains,",
        missing=[name for name in after if name not in before],
        extra=[name for name in before if name not in after],
        different=[name for name in after if name in before and before[name] != after[name]],
    )
    for old, new in zip(saved, optimizer.param_groups, strict=True):
        if old.keys() != new.keys():
            raise UserError(
                f"the checkpoint {folder} has other optimizer options "
                f"({', '.join(sorted(old.keys() ^ new.keys()))}): it was saved with another "
                "version of torch; resume it with that one"
            )


def _check_state(
    folder: Path,
    listed: list[str],
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> None:
    """Check that each listed tensor exists and has its parameter's shape, or is a number."""
    different = []
    extra = [name for name in tensors if name not in listed]
    for full_name, tensor in tensors.items():
        parameter = parameters.get(full_name.rsplit("/", 1)[0])
        if parameter is None:
            extra.append(full_name)
        elif tensor.ndim and tensor.shape != parameter.shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(parameter.shape)}"
            different.append(f"{full_name} is {shapes}")
    missing = [name for name in listed if name not in tensors]
    _raise_if(f"{folder / OPTIMIZER}", missing=missing, extra=extra, different=different)


def _names(network: nn.Module, optimizer: Optimizer) -> list[str]:
    """The names of the optimizer's parameters, in its order."""
    by_identity = {id(parameter): name for name, parameter in network.named_parameters()}
    return [
        by_identity[id(parameter)]
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]


def _laid_out(value: Any, like: Tensor) -> Any:
    """A tensor in the memory format of its parameter: a sum in another order has other bits."""
    if not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)


def _as_before(value: Any, old: Any) -> Any:
    """A value of JSON as the tuple that it was: betas, for example."""
    return tuple(value) if isinstance(old, tuple) and isinstance(value, list) else value


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((folder / HEADER).read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no finished checkpoint (no {HEADER}): give another, or start afresh"
        ) from None
    except (ValueError, RecursionError) as error:
        raise storage.damaged(str(folder / HEADER), str(error)) from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise UserError(
            f"{folder / HEADER} is not a checkpoint of format {_FORMAT}: resume it with the "
            "version of vidray that saved it"
        )
    if wrong := next(_wrong_keys(header), None):
        raise storage.damaged(str(folder / HEADER), wrong)
    return header


def _wrong_keys(header: Mapping[str, Any]) -> Iterator[str]:
    """Keys of ``save`` that are missing or hold something else."""
    for name, kind in _KEYS.items():
        value: Any = header
        for key in name.split("."):
            if key not in value:
                yield f"{name} is missing"
                return  # Others are within it.
            value = value[key]
        if not isinstance(value, kind):
            yield f"{name} is {checked_json.shown(value)}"
            return
    for number, group in enumerate(header["optimizer"]["groups"]):
        if not isinstance(group, dict) or not _are_names(group.get("params")):
            yield f"optimizer.groups[{number}] names no params"
    if not _are_names(header["optimizer"]["tensors"]):
        yield "optimizer.tensors are no names"


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _publish(path, lambda draft: safetensors.torch.save_file(on_cpu, draft))


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all, and to the disk before the next one begins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    write(draft)
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
