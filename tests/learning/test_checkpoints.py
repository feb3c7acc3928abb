"""Checkpoints: bit by bit, loud about what does not fit, and no way to run code."""

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.learning import checkpoints

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.01),
}


def make_network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 4, classes)
    )


def train(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int, steps: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(5, 3, 4, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def assert_same(left: object, right: object) -> None:
    if isinstance(left, Tensor):
        assert isinstance(right, Tensor)
        assert left.dtype == right.dtype
        assert left.stride() == right.stride()
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert isinstance(right, dict)
        assert left.keys() == right.keys()
        for key, value in left.items():
            assert_same(value, right[key])
    elif isinstance(left, list):
        assert isinstance(right, list)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert type(left) is type(right)
        assert left == right


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_everything_comes_back_bit_by_bit_and_training_goes_on_alike(
    tmp_path: Path, kind: str
) -> None:
    network = make_network()
    groups = [{"params": [*network[0].parameters()], "lr": 0.5}, {"params": network[3].weight}]
    optimizer = OPTIMIZERS[kind](groups)
    train(network, optimizer, seed=1)
    checkpoints.save(tmp_path / "a", network, optimizer, {"epoch": 3, "losses": [0.1, 1e-300]})

    other = make_network()
    groups = [{"params": [*other[0].parameters()]}, {"params": other[3].weight}]
    other_optimizer = OPTIMIZERS[kind](groups)
    progress = checkpoints.load(tmp_path / "a", other, other_optimizer)

    assert progress == {"epoch": 3, "losses": [0.1, 1e-300]}
    assert_same(network.state_dict(), other.state_dict())
    assert_same(optimizer.state_dict(), other_optimizer.state_dict())
    train(network, optimizer, seed=2)
    train(other, other_optimizer, seed=2)
    assert_same(network.state_dict(), other.state_dict())


def test_an_optimizer_that_has_not_stepped_has_no_state(tmp_path: Path) -> None:
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters())
    checkpoints.save(tmp_path, network, optimizer, {})
    stepped = make_network()
    other = torch.optim.Adam(stepped.parameters())
    train(stepped, other, seed=0)
    checkpoints.load(tmp_path, stepped, other)
    assert other.state_dict()["state"] == {}


def test_the_memory_format_stays_that_of_the_network(tmp_path: Path) -> None:
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters())
    train(network, optimizer, seed=0)
    checkpoints.save(tmp_path, network, optimizer, {})
    other = make_network().to(memory_format=torch.channels_last)
    other_optimizer = torch.optim.Adam(other.parameters())
    checkpoints.load(tmp_path, other, other_optimizer)
    for tensor in (other[0].weight, other_optimizer.state[other[0].weight]["exp_avg"]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        other_optimizer.state[other[0].weight]["exp_avg"],
        optimizer.state[network[0].weight]["exp_avg"],
    )


def test_the_gradient_scaler_comes_back(tmp_path: Path) -> None:
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    checkpoints.save(tmp_path, network, optimizer, {}, scaler=scaler)
    other = torch.amp.GradScaler("cpu")
    checkpoints.load(tmp_path, network, optimizer, scaler=other)
    assert other.state_dict() == scaler.state_dict()
    with pytest.raises(UserError, match="saved with a gradient scaler"):
        checkpoints.load(tmp_path, network, optimizer)
    checkpoints.save(tmp_path, network, optimizer, {})
    with pytest.raises(UserError, match="saved without a gradient scaler"):
        checkpoints.load(tmp_path, network, optimizer, scaler=other)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters())
    train(network, optimizer, seed=0)
    checkpoints.save(tmp_path, network, optimizer, {})
    return tmp_path


def load_into(folder: Path, network: nn.Module, kind: type = torch.optim.AdamW) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = kind(network.parameters())
    try:
        checkpoints.load(folder, network, optimizer)
    except UserError:
        assert_same(before, dict(network.state_dict()))  # an error has changed nothing
        assert not optimizer.state
        raise


def test_another_shape_is_named(saved: Path) -> None:
    with pytest.raises(UserError, match=r"3\.weight is float32 \(3, 16\) instead of float32 \(5"):
        load_into(saved, make_network(classes=5))


def test_missing_and_extra_tensors_are_named(saved: Path) -> None:
    longer = make_network().append(nn.Linear(3, 2))
    with pytest.raises(UserError, match=r"missing: 4\.weight float32 \(2, 3\), 4\.bias"):
        load_into(saved, longer)
    with pytest.raises(UserError, match=r"extra: 3\.bias float32 \(3,\), 3\.weight"):
        load_into(saved, make_network()[:3])


def test_only_the_first_few_of_many_are_named(saved: Path) -> None:
    other = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10, 30)))
    with pytest.raises(UserError, match=r"missing: .* and \d+ more") as error:
        load_into(saved, other)
    assert len(str(error.value)) < 1000


def test_another_choice_of_what_is_trained_is_named(saved: Path) -> None:
    network = make_network()
    optimizer = torch.optim.AdamW(network[3].parameters())
    with pytest.raises(UserError, match=r"extra: 0\.weight, 0\.bias, 1\.weight, 1\.bias;"):
        checkpoints.load(saved, network, optimizer)


def test_another_optimizer_is_named(saved: Path) -> None:
    with pytest.raises(UserError, match="is of the optimizer AdamW, not of SGD"):
        load_into(saved, make_network(), torch.optim.SGD)


def test_optimizer_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    path = saved / checkpoints.OPTIMIZER
    tensors = checkpoints.read_tensors(path)
    for change, expected in (
        ({"3.bias/exp_avg": torch.zeros(7)}, r"3\.bias/exp_avg is \(7,\) instead of \(3,\)"),
        ({"5.bias/exp_avg": torch.zeros(7)}, r"extra: 5\.bias/exp_avg"),
    ):
        checkpoints.safetensors.torch.save_file({**tensors, **change}, path)
        with pytest.raises(UserError, match=expected):
            load_into(saved, make_network())
    del tensors["0.weight/exp_avg_sq"]
    checkpoints.safetensors.torch.save_file(tensors, path)
    with pytest.raises(UserError, match=r"missing: 0\.weight/exp_avg_sq"):
        load_into(saved, make_network())


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", [checkpoints.NETWORK, checkpoints.OPTIMIZER, checkpoints.HEADER])
def test_a_pickle_is_refused_and_not_run(saved: Path, name: str) -> None:
    target = saved / "it_ran"
    payload = pickle.dumps({"0.weight": Payload(target)})
    pickle.loads(payload)
    assert target.exists()  # the payload works where somebody unpickles it
    target.unlink()
    (saved / name).write_bytes(payload)
    with pytest.raises(UserError, match=re.escape(name)):
        load_into(saved, make_network())
    torch.save({"0.weight": Payload(target)}, saved / name)
    with pytest.raises(UserError, match=re.escape(name)):
        load_into(saved, make_network())
    assert not target.exists()


def test_a_save_that_is_killed_leaves_no_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters())
    with pytest.raises(TypeError):  # what JSON cannot hold ends the save before its last file
        checkpoints.save(saved, network, optimizer, {"epoch": object()})
    with pytest.raises(UserError, match=r"no finished checkpoint \(no checkpoint.json\)"):
        load_into(saved, network)
    checkpoints.save(saved, network, optimizer, {})
    assert sorted(path.name for path in saved.iterdir()) == sorted(
        [checkpoints.NETWORK, checkpoints.OPTIMIZER, checkpoints.HEADER]
    )


def test_a_missing_or_foreign_file_is_named(saved: Path, tmp_path: Path) -> None:
    header = json.loads((saved / checkpoints.HEADER).read_text())
    (saved / checkpoints.HEADER).write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(UserError, match="not a checkpoint of format 1"):
        load_into(saved, make_network())
    (saved / checkpoints.HEADER).write_text(json.dumps(header))
    (saved / checkpoints.NETWORK).unlink()
    with pytest.raises(UserError, match=r"network\.safetensors is not there"):
        load_into(saved, make_network())


_ABSURD = (None, 5, "x", [], {}, [None], [{}], {"x": 5}, [{"params": [5]}])


def _changed(values: dict[str, object], *names: str) -> Iterator[dict[str, object]]:
    """Each key missing, and in its place each absurd value; keys of optimizer, too."""
    for name in names:
        yield {key: value for key, value in values.items() if key != name}
        yield from ({**values, name: absurd} for absurd in _ABSURD)


@pytest.mark.parametrize("key", ["optimizer", "scaler", "progress"])
def test_a_header_that_somebody_changed_is_told_in_a_line_or_taken(saved: Path, key: str) -> None:
    """Each missing key was an "unexpected KeyError" that asked for a report."""
    path = saved / checkpoints.HEADER
    header = json.loads(path.read_text())
    headers = [*_changed(header, key)]
    if key == "optimizer":
        headers += [{**header, key: one} for one in _changed(header[key], *header[key])]
    told = set()
    for changed in headers:
        path.write_text(json.dumps(changed))
        try:
            load_into(saved, make_network())
        except UserError as error:
            told.add(str(error))
    assert all(str(saved) in line and "\n" not in line for line in told)
    assert any(
        line.startswith(f"{path} is damaged ({key} is missing), or not vidray's: put back")
        for line in told
    )


def test_a_header_of_nothing_but_brackets_is_told_in_a_line(saved: Path) -> None:
    (saved / checkpoints.HEADER).write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"checkpoint\.json is damaged .*: put back"):
        load_into(saved, make_network())
