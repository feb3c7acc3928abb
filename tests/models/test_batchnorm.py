"""Batch norm over several processes against one process with all rows; frozen batch norm."""

import os
import socket
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from vidray.models.networks import batchnorm

# Rows of the two processes in three batches: different shares, an empty one too.
SHARES = ((3, 2), (1, 0), (2, 5))
CASES = {
    "3d": lambda: nn.BatchNorm3d(4),
    "plain average": lambda: nn.BatchNorm3d(4, momentum=None),
    "no scale": lambda: nn.BatchNorm3d(4, affine=False),
    "no running statistics": lambda: nn.BatchNorm3d(4, track_running_stats=False),
    "frozen": lambda: batchnorm.freeze(nn.BatchNorm3d(4)),
}


def make_network(case: str) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 1), CASES[case](), nn.ReLU(), nn.Conv3d(4, 2, 1))
    if network[1].affine:
        network[1].weight.data.uniform_(0.5, 2.0)
        network[1].bias.data.uniform_(-1.0, 1.0)
    return network.double()


def make_batch(index: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    # A mean far from 0: a variance of E[x^2] - E[x]^2 would lose its digits.
    return 50 + torch.randn(rows, 2, 2, 3, 3, generator=generator, dtype=torch.float64)


def run_batches(network: nn.Module, rank: int | None) -> dict[str, Tensor]:
    """Outputs, gradients and final state; of one process's rows, or of all where rank is None."""
    results = {}
    network.train()
    for index, shares in enumerate(SHARES):
        rows = make_batch(index, sum(shares))
        if rank is not None:
            rows = rows[: shares[0]] if rank == 0 else rows[shares[0] :]
        rows = rows.clone().requires_grad_()
        output = network(rows)
        network.zero_grad()
        # Each output element has another weight in the loss, the same in both ways.
        (output * rows.detach().cos()).sum().backward()
        results |= {f"output{index}": output.detach(), f"input_gradient{index}": rows.grad}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                results[f"gradient{index}:{name}"] = parameter.grad.clone()
    network.eval()
    results["evaluated"] = network(make_batch(9, 2)).detach()
    return results | {f"state:{name}": value for name, value in network.state_dict().items()}


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    for case in CASES:
        network = batchnorm.synchronise(make_network(case))
        results = run_batches(network, rank)
        contiguous = {name: value.contiguous().clone() for name, value in results.items()}
        safetensors.torch.save_file(contiguous, Path(folder) / f"{case}-{rank}.safetensors")
    halves = batchnorm.synchronise(nn.Sequential(nn.BatchNorm1d(2)))
    rows = torch.tensor([[1.0, -2.0], [3.0, 2.0]])[rank : rank + 1].bfloat16()
    output = halves(rows)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output.float().sign(), torch.full((1, 2), 2.0 * rank - 1))
    with pytest.raises(ValueError, match="one value per channel on all workers"):
        halves(rows[: 1 - rank])
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder)), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)  # torch's import in two new processes, on a busy machine
@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_as_one_with_all_rows(two_processes: Path, case: str) -> None:
    expected = run_batches(make_network(case), None)
    first, second = (
        safetensors.torch.load_file(two_processes / f"{case}-{rank}.safetensors") for rank in (0, 1)
    )
    assert first.keys() == second.keys() == expected.keys()
    for name, value in expected.items():
        if name.startswith(("output", "input_gradient")):
            assert torch.allclose(torch.cat([first[name], second[name]]), value, atol=1e-10), name
        elif name.startswith("gradient"):
            assert torch.allclose(first[name] + second[name], value, atol=1e-9), name
        else:
            assert torch.allclose(first[name], value, atol=1e-12), name
            assert torch.equal(first[name], second[name]), name


def test_one_process_keeps_torchs_own() -> None:
    network = make_network("3d")
    assert batchnorm.synchronise(network) is network
    assert type(network[1]) is nn.BatchNorm3d


def test_a_synchronised_one_alone_is_torchs_own() -> None:
    plain, other = nn.BatchNorm2d(3), batchnorm.SynchronisedBatchNorm(3)
    rows = torch.randn(4, 3, 2, 2)
    assert torch.equal(plain(rows), other(rows))
    assert torch.equal(plain.running_var, other.running_var)


def test_frozen_batch_norms_stay_as_they_are_in_training() -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.BatchNorm2d(4), nn.Dropout()
    )
    plain = nn.BatchNorm2d(4)
    for norm in (network[0][1], plain):
        norm.running_mean.copy_(torch.arange(4.0))
        norm.running_var.copy_(torch.arange(1.0, 5.0))
    names = list(network.state_dict())
    weight = network[0][1].weight
    batchnorm.freeze(network[0])
    network.train()

    assert list(network.state_dict()) == names
    assert network[0][1].weight is weight
    assert not weight.requires_grad
    assert network[0][0].weight.requires_grad
    assert network[1].training
    assert network[2].training
    assert network[1].weight.requires_grad
    rows = 7 + torch.randn(2, 4, 3, 3)
    assert torch.equal(network[0][1](rows), plain.eval()(rows))
    assert torch.equal(network[0][1].running_mean, torch.arange(4.0))
    assert network[0][1].num_batches_tracked == 0
    network.eval().train()
    assert not network[0][1].training


def test_a_network_that_is_a_batch_norm_is_replaced() -> None:
    frozen = batchnorm.freeze(nn.BatchNorm1d(2))
    assert isinstance(frozen.train(), batchnorm.FrozenBatchNorm)
    assert not frozen.training
