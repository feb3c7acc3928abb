"""Early exits: heads after earlier stages of a network, where a clip may leave (Teerapittayanon et
al. 2016, BranchyNet).

    clips -> units -> exit 1 -> units -> exit 2 -> ... -> units -> the network's own head
                        └ sure enough: the clip leaves, and the others go on in a smaller batch

``ExitNetwork`` has the submodules of the network it is made of under their own names, so weights
fit with or without exits; what is new is called ``exits``.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vidray.errors import UserError
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.chains import begin, chain_of, unit_names, units

# What an exit looks at: means over 4 parts of the time, the rows and the columns. Kaya et al. 2019
# reduce to 4x4 as well: an exit is then 1 % of the network's work or less, and still sees where.
_GRID = 4
_WIDTH = 64  # channels inside an exit


class ExitHead(nn.Module):
    """Features of an early unit to logits: a mean over a coarse grid, two convolutions, a layer.

    It has no batch norm, whose statistics would begin afresh beside those of given weights.

    Args:
        channels: of the features.
        num_classes: number of classes.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(_GRID)
        self.narrow = nn.Conv3d(channels, _WIDTH, 1)
        self.look = nn.Conv3d(_WIDTH, _WIDTH, 3, padding=1)
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, num_classes)
        for convolution in (self.narrow, self.look):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, T, H, W)`` -> logits ``float (N, num_classes)``."""
        seen = self.look(self.narrow(self.pool(features)).relu()).relu()  # (N, 64, 4, 4, 4)
        logits: Tensor = self.head(self.norm(seen.mean(dim=(2, 3, 4))))
        return logits


class ExitNetwork(nn.Module):
    """A network with exits. In training it gives the logits of every exit and of its own head,
    ``float (N, E + 1, K)``; in evaluation its own head's alone, ``float (N, K)``, as without exits.

    Args:
        network: of one of the classes that are a chain of units.
        after: the units after which the exits stand, numbers from 0, rising.
        channels: of the features after each of these.
        num_classes: number of classes.

    Attributes:
        loss_weight: of the loss of each exit in training, where that of the network's own head
            counts 1.
    """

    loss_weight: float = 1.0

    def __init__(
        self, network: nn.Module, after: Sequence[int], channels: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self._chain = chain_of(network, type(network).__name__)
        every = unit_names(network, self._chain)
        edges = [0, *(number + 1 for number in after), len(every)]
        self.stages = [every[a:b] for a, b in itertools.pairwise(edges)]
        self.exits = nn.ModuleList(ExitHead(width, num_classes) for width in channels)

    @property
    def num_stages(self) -> int:
        """Exits and the network's own head."""
        return len(self.stages)

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits, see the class."""
        if self.training:
            return torch.stack(self.each(clips), dim=1)
        features = self.begin(clips)
        for part in self._chain.parts:  # Whole, as the network without exits runs them.
            features = self.get_submodule(part)(features)
        return self._chain.end(self, features, clips.shape[0])

    def each(self, clips: Tensor) -> list[Tensor]:
        """The logits of each exit and of the network's own head, ``float (N, K)`` each."""
        features, found = self.begin(clips), []
        for stage in range(self.num_stages):
            features, logits = self.step(stage, features, len(clips))
            found.append(logits)
        return found

    def answer(
        self,
        clips: Tensor,
        leaves: Callable[[int, Tensor], Tensor],
        *,
        rows_at_once: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The logits of the exit where each clip leaves, and its number.

        Args:
            clips: ``float (N, 3, T, H, W)``.
            leaves: number of an exit, from 0, and its logits ``float (n, K)`` of the clips still
                there -> ``bool (n,)``, which of them leave.
            rows_at_once: clips of each pass after the first exit, filled up with zeros: then what
                is said of a clip does not depend on how many others have gone on. All that are
                left if None.

        Returns:
            ``float (N, K)`` and ``int64 (N,)``, from 0; the network's own head has the last number.
        """
        there = torch.arange(len(clips), device=clips.device)
        stages = torch.full_like(there, self.num_stages - 1)
        features, given = self.begin(clips), None
        for stage in range(self.num_stages):
            pieces = None if stage == 0 else rows_at_once
            features, logits = self._in_pieces(stage, features, len(there), pieces)
            if given is None:
                given = logits.new_zeros(len(clips), logits.shape[1])
            if stage == self.num_stages - 1:
                given[there] = logits
                break
            going = leaves(stage, logits)
            given[there[going]], stages[there[going]] = logits[going], stage
            features = self._rows(features, len(there), ~going)
            there = there[~going]
            if not len(there):
                break
        assert given is not None
        return given, stages

    def _in_pieces(
        self, stage: int, features: Tensor, count: int, rows_at_once: int | None
    ) -> tuple[Tensor, Tensor]:
        if rows_at_once is None:
            return self.step(stage, features, count)
        rows = features.unflatten(0, (count, -1))  # (n, rows of a clip, ...)
        found = []
        for piece in rows.split(rows_at_once):
            missing = rows_at_once - len(piece)
            black = piece.new_zeros(missing, *piece.shape[1:])
            filled = torch.cat([piece, black]).flatten(0, 1)
            after, logits = self.step(stage, filled, rows_at_once)
            kept = torch.arange(rows_at_once, device=after.device) < len(piece)
            found.append((self._rows(after, rows_at_once, kept), logits[: len(piece)]))
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        return features, logits

    def step(self, stage: int, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Features after a stage, and the logits of its exit or of the network's own head."""
        features = self._run(stage, features)
        if stage == self.num_stages - 1:
            return features, self._chain.end(self, features, count)
        return features, self.exits[stage](self._as_clips(features, count))

    def _run(self, stage: int, features: Tensor) -> Tensor:
        for name in self.stages[stage]:
            features = self.get_submodule(name)(features)
        return features

    def begin(self, clips: Tensor) -> Tensor:
        """What the first unit is given."""
        return begin(self, self._chain, clips)

    def _as_clips(self, features: Tensor, count: int) -> Tensor:
        """Features as ``(N, C, T, H, W)``."""
        if not self._chain.by_frame:
            return features
        clips: Tensor = features.unflatten(0, (count, -1)).transpose(1, 2)
        return clips

    def _rows(self, features: Tensor, count: int, kept: Tensor) -> Tensor:
        """The features of some of the clips; ``kept`` is ``bool (count,)``."""
        if not self._chain.by_frame:
            return features[kept]
        left: Tensor = features.unflatten(0, (count, -1))[kept].flatten(0, 1)
        return left


class Leaving(nn.Module):
    """A network with exits that clips leave: ``float (N, 3, T, H, W)`` -> ``float (N, K + 1)``, the
    logits, divided by the temperature of an exit, and the stage, 1 for the first exit.

    Args:
        network: with exits.
        temperatures: of each exit.
        leaves_at: the confidence from which a clip leaves.
        rows_at_once: see ``ExitNetwork.answer``.
    """

    def __init__(
        self,
        network: ExitNetwork,
        temperatures: Sequence[float],
        leaves_at: float,
        rows_at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._temperatures, self._leaves_at = temperatures, leaves_at
        self._rows_at_once = rows_at_once

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        logits, stages = self.network.answer(clips, self._leaves, rows_at_once=self._rows_at_once)
        scale = logits.new_tensor([*self._temperatures, 1.0], dtype=torch.float32)[stages]
        return torch.cat([logits.float() / scale[:, None], stages[:, None] + 1.0], dim=1)

    def _leaves(self, number: int, logits: Tensor) -> Tensor:
        confidence = (logits.double() / self._temperatures[number]).softmax(dim=1).amax(dim=1)
        return confidence >= self._leaves_at


class EachExit(nn.Module):
    """What every exit says of clips: ``float (N, 3, T, H, W)`` -> ``float (N, (E + 1) * K)``."""

    def __init__(self, network: ExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        return torch.cat(self.network.each(clips), dim=1)


def flops_by_stage(network: ExitNetwork, clip_shape: Sequence[int]) -> list[int]:
    """Additions and multiplications, counted apart, for a clip that leaves at each stage.

    Args:
        clip_shape: (C, T, H, W); shapes alone go through, and nothing is computed.
    """
    meta = copy.deepcopy(network).to("meta").eval()
    clip = torch.empty((1, *clip_shape), device="meta")
    found: list[int] = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = meta.begin(clip)
        for stage in range(meta.num_stages):
            features, _ = meta.step(stage, features, 1)
            found.append(int(counter.get_total_flops()))
    return found


def placed(built: Architecture, name: str, count: int, clip_shape: Sequence[int]) -> list[int]:
    """The units after which ``count`` exits divide the network's FLOPs most evenly, as Kaya et al.
    2019 place them.

    Args:
        built: the network, without exits.
        name: of the model, for errors.
        clip_shape: (C, T, H, W) of what it is given.

    Raises:
        UserError: the network is no chain of units, or has too few.
    """
    there = units(built.network, name, clip_shape)
    if not 1 <= count <= len(there):
        raise UserError(f"exits is {count}: {name} has places for 1 to {len(there)}")
    found: list[int] = []
    for k in range(count):
        # Room is left for those after it, and none stands twice.
        begin = 0 if not found else found[-1] + 1
        choice = range(begin, len(there) - (count - k - 1))
        wanted = (k + 1) / (count + 1)
        found.append(min(choice, key=lambda place: abs(there[place].share - wanted)))
    return [there[place].number for place in found]


def with_exits(
    built: Architecture, name: str, after: Sequence[int], num_classes: int
) -> Architecture:
    """The same network with exits after these units, whose weights are new.

    Raises:
        UserError: there are no such places.
    """
    channels = {unit.number: unit.channels for unit in units(built.network, name)}
    if not after or any(number not in channels for number in after):
        raise UserError(
            f"exits is {list(after)}: {name} may have them after the units "
            f"{', '.join(map(str, channels))}"
        )
    network = ExitNetwork(built.network, after, [channels[one] for one in after], num_classes)
    return replace(built, network=network)
