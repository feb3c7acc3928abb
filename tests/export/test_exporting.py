"""An export answers as its network does, ends as if it had not been killed, or leaves no model."""

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.command_lines import ROOT
from vidray import models
from vidray.errors import JobError, UserError
from vidray.export import exporting, quantising
from vidray.export.parity import Parity
from vidray.export.settings import ExportSettings
from vidray.export.writing import ExportSource, Written
from vidray.models.exported.description import Export
from vidray.models.exported.model import ExportedModel
from vidray.models.model_files import name_and_digest, read_info
from vidray.storage import checked_json

_CLIPS = np.random.default_rng(7).integers(0, 256, (5, 2, 32, 32, 3), np.uint8)


def _export(model: str, out: Path | str, **settings: object) -> Parity:
    chosen = ExportSettings(**{"compared_clips": 4, **settings})  # type: ignore[arg-type]
    found = exporting.export(model, str(out), chosen)
    assert found is not None
    return found


def _negated(source: ExportSource) -> ExportSource:
    """The source with a head that answers the contrary."""
    network, head = copy.deepcopy((source.model.network, source.model.head))
    assert head is not None
    for parameter in head.parameters():
        parameter.data.neg_()
    model = dataclasses.replace(source.model, network=network, head=head)
    return dataclasses.replace(source, model=model)


@pytest.fixture(scope="module")
def openvino_dir(network_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to OpenVINO in float32."""
    out = tmp_path_factory.mktemp("export") / "openvino"
    _export(network_dir, out, to="openvino")
    return out


@pytest.mark.slow
def test_an_export_is_a_model_folder_with_its_report(network_dir: str, openvino_dir: Path) -> None:
    names = {path.name for path in openvino_dir.iterdir()}
    assert names == {
        "model.json", "network.bin", "network.xml", "parity.json", "run.json", "_SUCCESS",
    }  # fmt: skip
    parent, model = models.load(network_dir), models.load(str(openvino_dir))
    assert isinstance(model, ExportedModel)
    for number in (1, 2, 5):
        np.testing.assert_allclose(
            model.predict(_CLIPS[:number]), parent.predict(_CLIPS[:number]), atol=1e-5
        )
    info, before = read_info(str(openvino_dir)), read_info(network_dir)
    described = checked_json.build(Export, info.pop("exported"), "exported")
    assert info == before
    assert described.parent_digest == name_and_digest(network_dir)[1]
    assert described.parameters == 11177538
    assert described.flops_per_clip is not None
    assert described.flops_per_clip > 1e8
    parity = json.loads((openvino_dir / "parity.json").read_text())
    assert parity["made"] is True
    assert parity["agreement"] == 1
    assert parity["largest_change"] < 1e-4
    for side in (parity["before"], parity["after"]):
        assert side["accuracy"] is None
        assert side["size_bytes"] > 4e7
        assert side["milliseconds"] > 0
    assert parity["before"]["peak_bytes"] > parity["after"]["peak_bytes"] > 1e7


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_another_is_refused(
    network_dir: str, openvino_dir: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in openvino_dir.iterdir()}
    settings = ExportSettings(to="openvino", compared_clips=4)
    assert exporting.export(network_dir, str(openvino_dir), settings) is None
    assert {path.name: path.stat().st_mtime_ns for path in openvino_dir.iterdir()} == before
    other = dataclasses.replace(settings, to="onnx")
    with pytest.raises(UserError, match="to: openvino -> onnx"):
        exporting.export(network_dir, str(openvino_dir), other)


@pytest.mark.slow
def test_int8_of_clips_is_smaller_and_agrees(
    network_dir: str, clips_dir: str, tmp_path: Path
) -> None:
    found = _export(
        network_dir, tmp_path / "m", to="openvino", precision="int8", data=clips_dir,
        calibration_clips=8, compared_clips=8, least_agreement=0.7,
    )  # fmt: skip
    assert not found.made
    assert found.after.size_bytes < 0.3 * found.before.size_bytes
    assert 0 < found.largest_change < 0.2
    assert found.before.accuracy is not None
    assert read_info(str(tmp_path / "m"))["exported"]["ranges"] == "calibrated"
    text = (tmp_path / "m" / "network.xml").read_text()
    assert "FakeQuantize" in text
    assert "nncf" not in text


@pytest.mark.slow
def test_int8_without_clips_is_one_line(network_dir: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes its ranges of clips: give --data"):
        _export(network_dir, tmp_path / "m", to="onnx", precision="int8")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_half_weights_compute_in_their_own_format(network_dir: str, tmp_path: Path) -> None:
    found = _export(network_dir, tmp_path / "m", to="torch", precision="bfloat16")
    assert found.run_by == "PyTorch"
    parent, model = models.load(network_dir), models.load(str(tmp_path / "m"))
    size = (tmp_path / "m" / "weights.safetensors").stat().st_size
    assert size < 0.6 * (Path(network_dir) / "weights.safetensors").stat().st_size
    assert isinstance(model, models.DeepModel)
    assert isinstance(parent, models.DeepModel)
    np.testing.assert_array_equal(
        model.predict(_CLIPS), model.predict(_CLIPS, precision="bfloat16")
    )
    assert 0 < np.abs(model.predict(_CLIPS) - parent.predict(_CLIPS)).max() < 0.05


@pytest.mark.slow
def test_too_few_labels_leave_no_model(
    network_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that changed on their way: whatever made them differ, the clips show it."""
    whole = exporting.write

    def wrong(source: ExportSource) -> Written:
        return whole(_negated(source))

    monkeypatch.setattr(exporting, "write", wrong)
    with pytest.raises(JobError, match="keep their label, and --least") as error:
        _export(network_dir, tmp_path / "m", to="openvino", compared_clips=20)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_int8_that_keeps_labels_only_in_float_is_one_line(
    network_dir: str, clips_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that hang by a thread: what stayed in int8 would be nothing."""
    whole = exporting.write

    def torn(source: ExportSource) -> Written:
        return whole(_negated(source) if source.left is None else source)

    def all_in_float(found: object, *_: object, **__: object) -> object:
        return found  # As s3d with a head that knew nothing.

    monkeypatch.setattr(exporting, "write", torn)
    monkeypatch.setattr(quantising, "kept_accurate", all_in_float)
    with pytest.raises(JobError, match="takes 19 of 19 layers in float, which") as error:
        _export(
            network_dir, tmp_path / "m", to="openvino", precision="int8", data=clips_dir,
            calibration_clips=8, compared_clips=8,
        )  # fmt: skip
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_an_export_or_a_classical_model_is_no_network(openvino_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds an export"):
        _export(str(openvino_dir), tmp_path / "m", to="onnx")


@pytest.mark.slow
def test_from_a_bucket_into_a_bucket(network_dir: str, s3_bucket: str) -> None:
    import s3fs

    s3fs.S3FileSystem().put(network_dir, f"{s3_bucket}/m", recursive=True)
    found = _export(f"{s3_bucket}/m", f"{s3_bucket}/onnx", to="onnx")
    assert found.agreement == 1
    model = models.load(f"{s3_bucket}/onnx")
    parent = models.load(network_dir)
    np.testing.assert_allclose(model.predict(_CLIPS), parent.predict(_CLIPS), atol=1e-5)


_COMMAND = ("--to", "onnx", "--compared-clips", "2")


def _job(model: str, out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "jobs/export.py", "--model", model, "--out", str(out), *_COMMAND]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)  # fmt: skip


def _graph(folder: Path) -> bytes:
    return (folder / "network.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_at_once_and_one_killed_end_with_the_same_model(
    network_dir: str, tmp_path: Path
) -> None:
    both = [_job(network_dir, tmp_path / "both") for _ in range(2)]
    killed = _job(network_dir, tmp_path / "killed")
    while killed.poll() is None and not (tmp_path / "killed" / "run.json").exists():
        time.sleep(0.01)
    killed.kill()  # While it writes.
    killed.communicate()
    if not (tmp_path / "killed" / "model.json").exists():
        with pytest.raises(UserError, match="its training has not finished"):
            models.load(str(tmp_path / "killed"))
    for job in both:
        _, said = job.communicate()
        assert job.returncode == 0, said
    again = _job(network_dir, tmp_path / "killed")
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert (tmp_path / "killed" / "_SUCCESS").exists()
    assert _graph(tmp_path / "killed") == _graph(tmp_path / "both")
    models.load(str(tmp_path / "both"))


def test_any_moment_of_writing_is_no_model_or_a_whole_one(
    network_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each of its files in turn, and run again."""
    from vidray import storage

    class _Killed(BaseException):
        pass

    def made(folder: Path, *_: object) -> None:
        info = {
            **read_info(network_dir),
            "exported": dataclasses.asdict(
                Export(to="torch", precision="bfloat16", parent_digest="0" * 12)
            ),
        }
        (folder / "model.json").write_text(json.dumps(info))
        (folder / "parity.json").write_text("{}")
        shutil.copy(Path(network_dir) / "weights.safetensors", folder)

    monkeypatch.setattr(exporting, "_made", made)
    write = storage.write_bytes
    settings = ExportSettings(to="torch", precision="bfloat16")
    for last in range(5):
        out, left = str(tmp_path / str(last)), [last]

        def killed(uri: str, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise _Killed
            left[0] -= 1
            write(uri, data)

        monkeypatch.setattr(storage, "write_bytes", killed)
        try:
            exporting.export(network_dir, out, settings)
        except _Killed:
            whole = (Path(out) / "model.json").exists()
            assert whole == (last >= 3)
        monkeypatch.setattr(storage, "write_bytes", write)
        exporting.export(network_dir, out, settings)
        assert (Path(out) / "_SUCCESS").exists()
        models.load(out)


def test_a_network_is_not_overwritten_with_its_export(network_dir: str) -> None:
    before = {path.name: path.read_bytes() for path in Path(network_dir).iterdir()}
    settings = ExportSettings(to="torch", precision="float16")
    with pytest.raises(UserError, match="--model and --out are one folder"):
        exporting.export(network_dir, network_dir, settings, overwrite=True)
    assert {path.name: path.read_bytes() for path in Path(network_dir).iterdir()} == before
