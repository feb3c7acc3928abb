"""What is said and drawn of the importance of features."""

from collections.abc import Sequence

from vidray.models.importance import Importance
from vidray.report.blocks import Chart, DataTable, Fold, Prose
from vidray.report.inside.feature_importance import importance_blocks, importance_sentence
from vidray.report.runs import TrainedModel


def importance(name: str, rise: float, spread: float, drop: float = 0.0) -> Importance:
    return Importance(
        name=name,
        log_loss_rise=rise,
        log_loss_rise_std=spread,
        accuracy_drop=drop,
        accuracy_drop_std=0.0,
    )


def model(
    name: str, families: Sequence[Importance], features: Sequence[Importance]
) -> TrainedModel:
    found = {"families": families, "features": features}
    return TrainedModel(
        out=f"/{name}", name=name, report={}, info={"family": "classical"}, importance=found
    )


def test_the_most_important_family_and_those_that_are_not_needed_are_named() -> None:
    said = importance_sentence(
        [
            importance("flow", 0.3, 0.1, 0.125),
            importance("color", 0.05, 0.06),
            importance("motion", -0.01, 0.02),
        ],
        [],
    )
    assert "most on flow (+0.3000 ± 0.1000): without it accuracy falls by 12.5 points" in said
    assert "can do without color, motion" in said


def test_where_nothing_stands_out_it_says_so() -> None:
    said = importance_sentence([importance("a", 0.1, 0.2), importance("b", 0.0, 0.1)], [])
    assert "No family matters by more than the spread" in said
    assert "most on" not in said
    one = importance_sentence([importance("a", 0.1, 0.2)], [])
    assert "one family, a (+0.1000 ± 0.2000, no more than from one shuffle" in one
    clear = importance_sentence([importance("a", 0.3, 0.2)], [])
    assert "no more than" not in clear


def test_features_that_rise_by_twice_their_spread_are_counted() -> None:
    features = [importance("a[0]", 0.3, 0.1), importance("a[1]", 0.19, 0.1)]
    said = importance_sentence([], [*features, importance("a[2]", 0.02, 0.0)])
    assert "Of 3 single features, 2 matter" in said
    assert "the first is a[0]" in said


def test_each_model_has_a_fold_with_its_charts_and_only_the_first_is_open() -> None:
    families = [importance("flow", 0.3, 0.1), importance("color", 0.1, 0.1)]
    features = [importance(f"flow.hof[{k}]", 0.5 - k / 100, 0.01) for k in range(40)]
    blocks = importance_blocks(
        [
            model("svm", families, features),
            model("knn", families[:1], []),
            TrainedModel(out="/s3d", name="s3d", report={}, info={"family": "deep"}),
        ]
    )
    assert all(isinstance(block, Fold) for block in blocks)
    svm, knn = (block for block in blocks if isinstance(block, Fold))
    assert (svm.is_open, knn.is_open) == (True, False)
    prose, by_family, by_name = svm.blocks
    assert isinstance(prose, Prose)
    assert isinstance(by_family, Chart)
    assert isinstance(by_name, Chart)
    assert len(by_name.frame) == 15
    assert by_name.frame["low"][0] == 0.5 - 0.01
    assert "flow.hof[3]: log loss rises by 0.4700" in by_name.svg
    assert len(knn.blocks) == 1  # a chart of one dot says nothing
    assert by_family.name != by_name.name


def test_features_of_several_models_are_told_together() -> None:
    shared, alone, idle = (importance("x", 0.2, 0.01), importance("y", 0.9, 0.1),
                           importance("z", 0.1, 0.1))  # fmt: skip
    other = importance("x", 0.4, 0.1)
    blocks = importance_blocks(
        [model("svm", [], [shared, idle]), model("knn", [], [alone, other, idle])]
    )
    table = blocks[0]
    assert isinstance(table, DataTable)
    (row,) = table.frame.to_dict("records")
    assert row["feature"] == "x"
    assert row["models"] == 2
    assert abs(row["mean_rise"] - 0.3) < 1e-12
    assert row["names"] == "knn, svm"
    assert "more than one of 2 models" in table.title
    assert importance_blocks([]) == []
