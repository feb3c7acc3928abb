"""How many processes a cluster holds, counted once for tables and for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vidray.distributed import capacity, training
from vidray.distributed.resources import Predictors, Resources
from vidray.errors import UserError
from vidray.learning.train_config import Workers

GIB = 1 << 30
Cluster = Callable[..., None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Make Ray tell of these nodes, and of a dead one that is large."""

    def make(*nodes: dict[str, float]) -> None:
        told: list[dict[str, Any]] = [{"Alive": True, "Resources": node} for node in nodes]
        dead = {"Alive": False, "Resources": {"CPU": 64, "GPU": 8, "memory": 999 * GIB}}
        monkeypatch.setattr(capacity.ray, "nodes", lambda: [*told, dead])
        total = {kind: sum(n.get(kind, 0) for n in nodes) for kind in ("CPU", "GPU")}
        monkeypatch.setattr(capacity.ray, "cluster_resources", lambda: total)

    return make


def predictors(number: int, gpus_each: float = 0) -> Resources:
    wanted = Predictors(target="m:f", number=number, gpus_each=gpus_each)
    return Resources(memory_gib=2, predictors=wanted)


def test_no_process_takes_from_two_nodes(cluster: Cluster) -> None:
    cluster({"CPU": 3, "memory": 5 * GIB}, {"CPU": 1.5, "memory": 99 * GIB, "GPU": 1}, {"CPU": 0})
    assert capacity.places({"CPU": 1}) == 4
    assert capacity.places({"CPU": 2}) == 1
    assert capacity.places({"CPU": 1, "GPU": 1}) == 1
    assert capacity.places({"CPU": 1, "GPU": 0}) == 4
    assert capacity.places({"CPU": 1, "memory": 2 * GIB}) == 3


def test_workers_fit_beside_predictors_on_cpus(cluster: Cluster) -> None:
    cluster({"CPU": 3, "memory": 99 * GIB, "GPU": 1})
    assert capacity.workers_at_once(Resources()) == 3
    assert capacity.workers_at_once(Resources(workers=2)) == 2
    assert capacity.workers_at_once(Resources(workers=9)) == 3
    assert capacity.workers_at_once(predictors(2)) == 1
    assert capacity.workers_at_once(predictors(2, gpus_each=0.5)) == 3


@pytest.mark.parametrize(("each", "fit"), [(0.3, 9), (0.5, 6), (1, 3), (2, 1)])
def test_predictors_share_a_gpu_or_take_whole_ones(cluster: Cluster, each: float, fit: int) -> None:
    cluster({"CPU": 1, "GPU": 2}, {"CPU": 1, "GPU": 1})
    assert capacity.predictors_that_fit(each) == fit


def test_what_would_wait_for_ever_is_refused(cluster: Cluster) -> None:
    cluster({"CPU": 0.5, "memory": GIB})
    with pytest.raises(UserError, match="none of the 2 nodes of the cluster has a CPU for tasks"):
        capacity.check_cluster(Resources())
    cluster({"CPU": 2, "memory": GIB}, {"CPU": 0, "memory": 64 * GIB})
    with pytest.raises(UserError, match=r"needs 2.0 GiB and the largest node offers 1.0 GiB"):
        capacity.check_cluster(Resources())
    cluster({"CPU": 2, "memory": 8 * GIB, "GPU": 1})
    capacity.check_cluster(predictors(1))
    with pytest.raises(UserError, match="the cluster has room for 2 processes"):
        capacity.check_cluster(predictors(2))
    with pytest.raises(UserError, match=r"3 predictors of 0.5 GPUs each do not fit on the 1 GPUs"):
        capacity.check_cluster(predictors(3, gpus_each=0.5))


def test_training_workers_get_the_cpus_of_one_node(cluster: Cluster) -> None:
    cluster({"CPU": 8}, {"CPU": 4})
    each = {workers: training.resources_of_one(Workers(workers=workers)) for workers in (1, 2, 3)}
    assert [each[workers]["CPU"] for workers in (1, 2, 3)] == [8, 4, 4]
    assert training.trainings_at_once(Workers(workers=2, most_cpus=2)) == 3
    with pytest.raises(UserError, match="13 workers need a CPU each and the cluster has 12"):
        training.resources_of_one(Workers(workers=13))
