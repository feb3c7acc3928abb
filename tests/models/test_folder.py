"""Every model, trained for two steps and saved, predicts the same bits in another process."""

import dataclasses
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from tests.ray_cluster import ROOT
from vidray import features, storage
from vidray.errors import ModelError, UserError
from vidray.features.extraction import Settings
from vidray.learning import loop
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.models import classical
from vidray.models.folder import ClassicalModel, DeepModel, load, save_classical, save_deep
from vidray.models.matrices import to_matrix
from vidray.models.names import CLASSICAL, DEEP, FLOW_MODELS
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build
from vidray.models.preprocess import IMAGENET, Preprocessing
from vidray.models.probabilities import softmax
from vidray.models.weights import files
from vidray.storage.json_file import write_json
from vidray.tables import schema
from vidray.video.clips import ClipSettings

CLASSES = ("clap", "jump", "run")
SIDE_PX = 32
STORED = (6, 5, SIDE_PX, SIDE_PX, 3)  # clips, frames, ...: more frames than most networks take

# One line of standard input: model folder, what to predict, where to write the probabilities.
OTHER_PROCESS = """
import sys
import numpy as np
import pyarrow.parquet as pq
from vidray.models import load

for line in sys.stdin:
    folder, given, answer = line.rstrip("\\n").split("\\t")
    model = load(folder)
    given = np.load(given) if given.endswith(".npy") else pq.read_table(given)
    np.save(answer, model.predict(given))
    print("done", flush=True)
"""
Predict = Callable[[str, str], NDArray[np.float64]]


@pytest.fixture(scope="module")
def predict_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predict]:
    """Model folder, file of clips (npy) or features (parquet) -> probabilities, by one new process
    for all tests, so that its imports are paid for once.
    """
    answer = tmp_path_factory.mktemp("answer") / "probabilities.npy"
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def predict(folder: str, given: str) -> NDArray[np.float64]:
        print(folder, given, answer, sep="\t", file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        return np.load(answer)

    yield predict
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


def make_clips() -> NDArray[np.uint8]:
    """Noise, brighter from class to class: ``uint8 STORED``."""
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 160, STORED, dtype=np.uint8)
    clips += (np.arange(len(clips)) % len(CLASSES) * 40).astype(np.uint8)[:, None, None, None, None]
    return clips


def trained(name: str) -> DeepModel:
    """A network after two steps of two clips each."""
    torch.manual_seed(0)
    # Of 4 frames r2plus1d_r50's last batch norms see two values, and their gradients overflow.
    frames = {"s3d": 8, "slowfast_r50": 8, "r2plus1d_r50": 8}.get(name, 4)
    network = {"name": name, "num_classes": 3, "frames": frames, "size_px": SIDE_PX}
    mean, std = IMAGENET
    preprocessing = Preprocessing(
        num_frames=frames, size_px=SIDE_PX, mean=mean, std=std, flow=name in FLOW_MODELS
    )
    clips = make_clips()
    training = Training(epochs=1, batch_size=2, learning_rate=1e-3, optimizer="sgd")
    loader = TrainingLoader(
        read=lambda rows: clips[rows],
        labels=np.array([0, 1, 2, 1]),
        num_classes=3,
        preprocessing=preprocessing,
        augmentation=Augmentation(),
        batch_size=2,
        seed=0,
        threads=1,
    )
    built = build(**network)
    module = built.network
    before = {k: v.detach().clone() for k, v in list(module.named_parameters())[-2:]}
    rows = loop.fit(
        module,
        loader,
        training=training,
        device=torch.device("cpu"),
        on_epoch=lambda rows, save: None,
    )
    assert rows[-1].steps == 2
    after = dict(module.named_parameters())
    assert any(not torch.equal(value, after[k]) for k, value in before.items())
    _calm(built, preprocessing)
    clip = ClipSettings(frames_per_clip=STORED[1], size_px=SIDE_PX)
    info = {
        "family": "deep",
        "name": name,
        "class_names": CLASSES,
        "network": network,
        "preprocessing": preprocessing,
        "clip": clip,
    }
    return DeepModel(
        name=name,
        class_names=CLASSES,
        network=module.eval(),
        preprocessing=preprocessing,
        clip=clip,
        info=info,
    )


@torch.no_grad()
def _calm(built: Architecture, preprocessing: Preprocessing) -> None:
    """Two steps teach batch norms little of their statistics, and features may be huge: smaller
    weights of the head, so that probabilities are not all 0 and 1, where no difference is seen.
    """
    built.network.eval()
    clips = torch.from_numpy(preprocessing.select(make_clips()[:3]))
    largest = built.embed(preprocessing.to_input(clips)).abs().max()
    for part in built.head.modules():
        if isinstance(part, nn.Linear):
            part.weight /= largest


def save(model: DeepModel, folder: str) -> None:
    save_deep(folder, model.info, model.network.state_dict())


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DEEP if name != "videomae_large"])  # 1.2 GB
def test_a_deep_model_predicts_the_same_in_another_process(
    name: str, tmp_path: Path, predict_elsewhere: Predict
) -> None:
    model = trained(name)
    clips = make_clips()[:3]
    probabilities = model.predict(clips)
    assert probabilities.shape == (3, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    # Not zeros and ones, in which a difference would be lost.
    assert ((probabilities > 1e-3) & (probabilities < 0.999)).any()

    folder = str(tmp_path / "model")
    save(model, folder)
    try:
        np.save(tmp_path / "clips.npy", clips)
        elsewhere = predict_elsewhere(folder, str(tmp_path / "clips.npy"))
        assert np.array_equal(elsewhere, probabilities)
    finally:
        shutil.rmtree(folder)  # 4 GB of all models together


def make_table() -> tuple[pa.Table, NDArray[np.int64], list[str]]:
    """FEATURES of 36 videos with a number missing, their classes, their recordings."""
    rng = np.random.default_rng(0)
    labels = np.arange(36) // 2 % len(CLASSES)
    families = ("temporal", "motion")
    lengths = {family: features.FAMILIES[family].length for family in families}
    columns = {}
    for family, length in lengths.items():
        values = (rng.normal(size=(36, length)) + labels[:, None]).astype(np.float32)
        values[3, 1] = np.nan
        columns[family] = pa.FixedSizeListArray.from_arrays(
            pa.array(values.ravel()), type=schema.features_schema(lengths).field(family).type
        )
    return pa.table(columns), labels, [f"g{row // 2}" for row in range(36)]


def fitted(name: str) -> ClassicalModel:
    table, labels, groups = make_table()
    settings = Settings(families=("temporal", "motion"))
    matrix = to_matrix(table, settings.families)
    info = {
        "family": "classical",
        "name": name,
        "class_names": CLASSES,
        "families": settings.families,
        "features": settings,
    }
    own = {
        "random_forest": {"n_estimators": 20},
        "extra_trees": {"n_estimators": 20},
        "gradient_boosting": {"max_iter": 10, "min_samples_leaf": 3},
    }.get(name)
    return ClassicalModel(
        name=name,
        class_names=CLASSES,
        pipeline=classical.fit(name, matrix, labels, groups, CLASSES, seed=0, parameters=own),
        families=settings.families,
        features=settings,
        info=info,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_model_predicts_the_same_in_another_process(
    name: str, tmp_path: Path, predict_elsewhere: Predict
) -> None:
    model = fitted(name)
    table, labels, _ = make_table()
    probabilities = model.predict(table)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.8
    folder = str(tmp_path / "model")
    save_classical(folder, model.info, model.pipeline)
    file = tmp_path / "table.parquet"
    pq.write_table(table, file)
    assert np.array_equal(predict_elsewhere(folder, str(file)), probabilities)


# What a folder tells


@pytest.mark.slow
def test_a_deep_folder_tells_all_there_is_to_know(place: str) -> None:
    folder = storage.join(place, "model")
    made = trained("resnet18_avg")
    save(made, folder)
    assert storage.list_names(folder) == ["model.json", "weights.safetensors"]
    model = load(folder)
    assert isinstance(model, DeepModel)
    assert (model.name, model.class_names) == ("resnet18_avg", CLASSES)
    assert (model.preprocessing, model.clip) == (made.preprocessing, made.clip)
    assert not model.network.training
    assert model.info["network"]["frames"] == 4
    clips = make_clips()
    assert np.array_equal(model.predict(clips), made.predict(clips))
    assert model.predict(clips[:0]).shape == (0, 3)


def test_a_classical_folder_tells_all_there_is_to_know(place: str) -> None:
    folder = storage.join(place, "model")
    made = fitted("knn")
    save_classical(folder, made.info, made.pipeline)
    assert storage.list_names(folder) == ["model.json", "pipeline.skops"]
    model = load(folder)
    assert isinstance(model, ClassicalModel)
    assert dataclasses.replace(model, pipeline=None, info={}) == dataclasses.replace(
        made, pipeline=None, info={}
    )
    table, _, _ = make_table()
    assert np.array_equal(model.predict(table), made.predict(table))


def test_softmax_by_hand() -> None:
    found = softmax(np.array([[0, np.log(3)], [1000, 1000]], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)


# What a folder must not be


@pytest.mark.slow
def test_what_is_no_model_folder_is_refused(place: str) -> None:
    empty = storage.join(place, "nothing")
    with pytest.raises(UserError, match=r"not a model folder \(no model.json\): make one with"):
        load(empty)
    folder = storage.join(place, "half")
    for family, part in (("deep", "weights.safetensors"), ("classical", "pipeline.skops")):
        info = trained("resnet18_avg").info if family == "deep" else fitted("knn").info
        write_json(storage.join(folder, "model.json"), info)
        with pytest.raises(UserError, match=f"not a whole model folder .no {part}."):
            load(folder)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deep", "classical"])
def test_a_pickle_in_a_model_folder_is_not_run(place: str, family: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps(Payload(marker))
    pickle.loads(payload)
    assert marker.exists()  # So it does where a pickle is trusted.
    marker.unlink()

    folder = storage.join(place, "model")
    if family == "deep":
        save(trained("resnet18_avg"), folder)
        part = storage.join(folder, "weights.safetensors")
        torch.save({"head.weight": Payload(marker)}, tmp_path / "weights.pth")
        pickles = [payload, (tmp_path / "weights.pth").read_bytes()]
    else:
        model = fitted("knn")
        save_classical(folder, model.info, model.pipeline)
        part = storage.join(folder, "pipeline.skops")
        pickles = [payload]
    assert isinstance(load(folder), DeepModel | ClassicalModel)
    for content in pickles:
        storage.write_bytes(part, content)
        with pytest.raises(UserError, match="can run code") as caught:
            load(folder)
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not marker.exists()


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    save(trained("resnet18_avg"), folder)
    state = safetensors.torch.load_file(tmp_path / "model" / "weights.safetensors")
    del state["head.bias"]
    safetensors.torch.save_file(state, tmp_path / "model" / "weights.safetensors")
    with pytest.raises(
        UserError, match=r"weights\.safetensors does not fit.*head\.bias is missing"
    ):
        load(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tensor", "value"), [("head.weight", np.nan), ("backbone.stem.bn1.running_var", np.inf)]
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, tensor: str, value: float) -> None:
    folder = str(tmp_path / "model")
    model = trained("resnet18_avg")
    state = model.network.state_dict()
    state[tensor].view(-1)[0] = value
    save_deep(folder, model.info, state)
    told = f"holds NaN or infinity in 1 tensors, {re.escape(tensor)} among them"
    with pytest.raises(UserError, match=told):
        load(folder)


@pytest.mark.slow
def test_weights_larger_than_the_network_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    save(trained("resnet18_avg"), str(folder))
    with (folder / "weights.safetensors").open("ab") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(files, "read_safetensors", lambda uri: pytest.fail(f"{uri} is read"))
    with pytest.raises(UserError, match=r"has 1099511627776 bytes, and weights of this model \d+ "):
        load(str(folder))


class Broken(nn.Module):
    """Gives what ``change`` makes of logits of zeros."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.change(torch.zeros(len(clips), len(CLASSES)))


def _fail(_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("mat1 and mat2\nshapes cannot be multiplied")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda logits: logits * np.nan, "gives probabilities .* that do not sum to 1"),
        (lambda logits: logits + np.inf, "gives probabilities .* that do not sum to 1"),
        (lambda logits: logits[:, :2], "has 2 outputs and 3 class names"),
        (
            _fail,
            r"cannot take what its model.json says it is given \(RuntimeError: mat1 and mat2 ",
        ),
    ],
)
def test_a_fault_of_a_network_is_told_in_a_line(change: Any, told: str) -> None:
    mean, std = IMAGENET
    model = DeepModel(
        name="broken",
        class_names=CLASSES,
        network=Broken(change),
        preprocessing=Preprocessing(num_frames=5, size_px=SIDE_PX, mean=mean, std=std),
        clip=ClipSettings(frames_per_clip=5, size_px=SIDE_PX),
        info={},
    )
    with pytest.raises(ModelError, match=f"the model broken {told}") as caught:
        model.predict(make_clips())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="precision is 'int8': one of float32, bfloat16, float16"):
        model.predict(make_clips(), precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["classes", "NaN", "families"])
def test_a_classical_model_at_fault_is_refused(tmp_path: Path, fault: str) -> None:
    folder, model = str(tmp_path / "model"), fitted("logistic_regression")
    info = dict(model.info)
    match fault:
        case "classes":
            info["class_names"], told = CLASSES[:2], "has 3 outputs and 2 class names"
        case "families":
            info["families"], told = ("temporal",), "numbers a row, the model was fitted to"
        case _:
            (inner,) = model.pipeline.calibrated_classifiers_
            inner.estimator.named_steps["classify"].coef_[:] = np.nan
            told = "that do not sum to 1"
    save_classical(folder, info, model.pipeline)
    with pytest.raises(ModelError, match=told) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_folder_is_plain_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save(trained("r3d_18"), str(folder))
    info = json.loads((folder / "model.json").read_text())
    assert info["class_names"] == list(CLASSES)
    assert Preprocessing.from_json(info["preprocessing"]).std == IMAGENET[1]
    with safetensors.safe_open(folder / "weights.safetensors", "pt") as file:
        assert "fc.weight" in file.keys()  # noqa: SIM118  (not a mapping)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("distributed.training", "sklearn"),
        ("labelling.predictor", "sklearn"),
        ("learning.examples", "skops"),
        ("distributed.mailbox", "torch"),
    ],
)
def test_a_process_imports_what_it_needs_only(module: str, left_out: str) -> None:
    """Each takes seconds, in every worker of every job."""
    code = f"import sys; import vidray.{module}; sys.exit({left_out!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
