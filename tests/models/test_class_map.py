"""Lists of labels: which class counts as which, in a model and in data."""

from pathlib import Path

import pytest
import torch

from vidray import models
from vidray.errors import UserError
from vidray.models.class_map import ClassMap, read_class_map
from vidray.models.networks.build import build


def _written(folder: Path, text: str) -> str:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_many_classes_count_as_one(tmp_path: Path) -> None:
    text = (
        'class,label\n"punching person (boxing)",fight\n wrestling , fight\n\n*,no_fight\nblank,\n'
    )
    labels = read_class_map(_written(tmp_path, text))
    known = ["punching person (boxing)", "yoga", "wrestling", "blank"]
    assert [labels.label_of(name) for name in known] == ["fight", "no_fight", "fight", None]
    assert labels.merged(known) == (("fight", "no_fight"), (0, 1, 0, None))


def test_what_is_not_listed_keeps_its_name() -> None:
    labels = ClassMap({"noFight": "no_fight"})
    assert labels.merged(["fight", "noFight"]) == (("fight", "no_fight"), (0, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lists no class"),
        ("class,label\n", "lists no class"),
        ("name,label\na,b\n", "its first line is class,label"),
        ("class,label\na\n", "line 2 is 'a'"),
        ("class,label\na,b,c\n", "line 2 is 'a,b,c'"),
        ("class,label\n,b\n", "line 2 is ',b'"),
        ("class,label\na,b\na,c\n", "line 3 has 'a' again"),
        ('class,label\n"a,b\n', "line 2"),
    ],
)
def test_a_wrong_list_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_class_map(_written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_list_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"class,label\n\xff\xfe,b\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_class_map(str(tmp_path / "labels.csv"))
    with pytest.raises(UserError, match="cannot be read"):
        read_class_map(str(tmp_path / "none.csv"))


def test_a_mistyped_class_is_named() -> None:
    with pytest.raises(UserError, match=r"names 'wrestlin', .*did you mean 'wrestling'"):
        ClassMap({"wrestlin": "fight"}).merged(["wrestling", "yoga"])


def test_one_label_is_too_few() -> None:
    with pytest.raises(UserError, match="a model needs two labels"):
        ClassMap({"*": "any"}).merged(["wrestling", "yoga"])


def test_merged_probabilities_are_sums() -> None:
    """Of the classes that are not left out, as softmax over those gives them."""
    torch.manual_seed(0)
    name = "resnet18_avg"
    plain = build(name, num_classes=5)
    merged = build(name, num_classes=2, merge=(1, 0, None, 1, 0))
    weights = {k.replace("head.", "head.head."): v for k, v in plain.network.state_dict().items()}
    merged.network.load_state_dict(weights)
    clips = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        own = plain.network.eval()(clips)[:, [0, 1, 3, 4]].softmax(dim=1)
        found = merged.network.eval()(clips).softmax(dim=1)
        embedding = merged.embed(clips)
    expected = torch.stack([own[:, 1] + own[:, 3], own[:, 0] + own[:, 2]], dim=1)
    torch.testing.assert_close(found, expected)
    assert embedding.shape == (2, 512)


@pytest.mark.parametrize("merge", [[0, 0], [0, 2, 1], [0, 1, -1], []])
def test_a_merge_that_leaves_a_class_empty_is_refused(merge: list[int | None]) -> None:
    from vidray.models.model_json import Network

    with pytest.raises(UserError, match="merge"):
        Network(name="c3d", num_classes=2, merge=tuple(merge))


def test_a_merged_network_is_trained() -> None:
    built = models.build("resnet18_avg", num_classes=2, merge=(0, 1, 1, None))
    built.network(torch.randn(2, 3, 1, 32, 32)).sum().backward()
    head = built.network.get_submodule("head.head")
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
