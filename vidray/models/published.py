"""Published weights: from the cache of PyTorch's hub, or over the network into it."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  (the name of the error that torch.load raises)
from collections.abc import Mapping
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from vidray import storage
from vidray.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


def state_dict(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of ``weights``; a new file's checksum is compared.

    Raises:
        UserError: the file is not in the cache and can't be fetched, or holds more than tensors.
    """
    name = os.path.basename(weights.url)
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    try:
        # weights_only: published files are pickles, and of one nothing but tensors is let in.
        tensors: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", check_hash=True, progress=False, weights_only=True
        )
    except OSError as error:  # Of which every failure to connect is one.
        raise UserError(
            f"the published weights {name} are not in {folder} and can't be fetched "
            f"({type(error).__name__}): put the file there, or start fresh with --weights none"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{os.path.join(folder, name)} holds no weights ({type(error).__name__}): remove it, "
            "or start fresh with --weights none"
        ) from None
    return tensors


def filled(network: Network, weights: WeightsEnum | None) -> Network:
    """``network``, a fresh one of torchvision's, with its published weights if there are any."""
    if weights is not None:
        network.load_state_dict(state_dict(weights))
    return network


def read_safetensors(uri: str) -> dict[str, Tensor]:
    """The tensors of a file, local or in a bucket.

    Raises:
        UserError: there is none, or it is of another kind: those can run code when opened.
    """
    try:
        return safetensors.torch.load(storage.read_bytes(uri))
    except FileNotFoundError:
        raise UserError(f"{uri} is not there: give a safetensors file, default or none") from None
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{uri} is no safetensors file ({error}): other kinds can run code when opened and are "
            "not; convert it with safetensors.torch.save_file"
        ) from None


def load_state(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put ``state`` into ``network``; all of it has to fit.

    Raises:
        UserError: names the tensors that are missing, too many or of another shape.
    """
    ours = network.state_dict()
    wrong = [f"{name} is missing" for name in ours.keys() - state.keys()]
    wrong += [f"{name} is not in this model" for name in state.keys() - ours.keys()]
    wrong += [
        f"{name} is {tuple(state[name].shape)} and must be {tuple(ours[name].shape)}"
        for name in ours.keys() & state.keys()
        if state[name].shape != ours[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{source} does not fit the model: {'; '.join(sorted(wrong)[:5])}{more}")
    network.load_state_dict(dict(state))
