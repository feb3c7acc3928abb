"""Networks of ``transformers``: logits against its own models, configs, hostile folders."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vidray import models
from vidray.errors import UserError
from vidray.models import transformers_config
from vidray.models.folder import load, save_deep
from vidray.models.networks import checkpointing
from vidray.models.networks.build import build, set_trained
from vidray.models.weights import hub

transformers = pytest.importorskip("transformers")

FRAMES, SIZE_PX = 4, 32
_BODY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
}  # fmt: skip
# Not the values of fresh weights, which are so small that most of a network would not show.
_RANGE = {"initializer_range": 0.2}
_CLIP_SIZE = {"image_size": SIZE_PX, "num_frames": FRAMES}
_TEXT = {"vocab_size": 60, "max_position_embeddings": 8, "eos_token_id": 3, "bos_token_id": 2}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def theirs_of(kind: str, **settings: Any) -> Any:
    """A tiny model of transformers with random weights, in evaluation mode."""
    tr: Any = transformers
    given = {**_BODY, **_RANGE, **settings}
    if kind == "videomae":
        model = tr.VideoMAEForVideoClassification(tr.VideoMAEConfig(**_CLIP_SIZE, **given))
    elif kind == "videomae_first_patch":
        config = tr.VideoMAEConfig(**_CLIP_SIZE, use_mean_pooling=False, **given)
        model = tr.VideoMAEForVideoClassification(config)
    elif kind == "vivit":
        model = tr.VivitForVideoClassification(tr.VivitConfig(**_CLIP_SIZE, **given))
    elif kind == "vjepa2":
        del given["intermediate_size"]
        sizes = {"crop_size": SIZE_PX, "frames_per_clip": FRAMES, "num_pooler_layers": 1}
        predictor = {"pred_hidden_size": 12, "pred_num_attention_heads": 2}
        config = tr.VJEPA2Config(**sizes, **predictor, pred_num_hidden_layers=1, **given)
        model = tr.VJEPA2ForVideoClassification(config)
    else:
        model = _of_images(kind, given)
    return randomised(model).eval()


def _of_images(kind: str, given: dict[str, Any]) -> Any:
    tr: Any = transformers
    labels = {name: given.pop(name) for name in ("num_labels",) if name in given}
    if kind.startswith("siglip"):
        del given["initializer_range"]
        vision = tr.SiglipVisionConfig(image_size=SIZE_PX, patch_size=16, **given)
        text = tr.SiglipTextConfig(**given, **_TEXT)
        config = tr.SiglipConfig(
            vision_config=vision.to_dict(), text_config=text.to_dict(), **labels
        )
        whole, classifier = tr.SiglipModel, tr.SiglipForImageClassification
    else:
        vision = tr.CLIPVisionConfig(image_size=SIZE_PX, patch_size=16, **given)
        text = tr.CLIPTextConfig(**given, **_TEXT)
        config = tr.CLIPConfig(
            vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=20, **labels
        )
        whole, classifier = tr.CLIPModel, tr.CLIPForImageClassification
    return classifier(config) if kind.endswith("_classifier") else whole(config)


def randomised(model: Any) -> Any:
    """The model with norms, biases and positions that are not 0 and 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def saved(model: Any, folder: Path) -> str:
    """``hf:...`` of a model that transformers wrote."""
    model.save_pretrained(folder)
    return f"hf:{folder}"


CLASSIFIERS = (
    "videomae", "videomae_first_patch", "vivit", "vjepa2", "clip_classifier", "siglip_classifier",
)  # fmt: skip


def their_logits(model: Any, clips: Tensor) -> Tensor:
    """What transformers gives for clips ``(N, 3, T, H, W)``; of images, averaged over frames."""
    frames = clips.transpose(1, 2)
    if "Image" in type(model).__name__:
        logits = model(frames.flatten(0, 1)).logits
        return logits.unflatten(0, frames.shape[:2]).mean(dim=1)
    return model(frames).logits


@pytest.mark.parametrize("kind", CLASSIFIERS)
@torch.no_grad()
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    theirs = theirs_of(kind, num_labels=5)
    clips = torch.randn(3, 3, FRAMES, SIZE_PX, SIZE_PX)
    source = saved(theirs, tmp_path / "model")
    built = build(source, num_classes=5, weights="default")
    ours, wanted = built.network.eval()(clips), their_logits(theirs, clips)
    assert wanted.std() > 0.05
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    assert built.loaded is not None
    assert "head of 5 classes kept" in built.loaded
    # For other classes there is a new head, on the same embeddings.
    other = build(source, num_classes=3, weights="default", head="layernorm_dropout_linear")
    torch.testing.assert_close(other.embed(clips), built.embed(clips))
    assert "head of 5 classes not kept, a new one of 3 classes made" in str(other.loaded)


@pytest.mark.parametrize("kind", ["videomae", "vjepa2"])
@torch.no_grad()
def test_clips_of_another_size_are_what_transformers_makes_of_them(
    kind: str, tmp_path: Path
) -> None:
    theirs = theirs_of(kind, num_labels=5)
    source = saved(theirs, tmp_path / "model")
    built = build(source, num_classes=5, weights="default", frames=6, size_px=48)
    sizes = {
        "videomae": {"num_frames": 6, "image_size": 48},
        "vjepa2": {"frames_per_clip": 6, "crop_size": 48},
    }[kind]
    config = type(theirs.config)(**{**theirs.config.to_dict(), **sizes})
    larger = type(theirs)(config).eval()
    larger.load_state_dict(theirs.state_dict())
    clips = torch.randn(2, 3, 6, 48, 48)
    ours = built.network.eval()(clips)
    torch.testing.assert_close(ours, their_logits(larger, clips), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_images_of_another_size_have_their_positions_interpolated(tmp_path: Path) -> None:
    theirs = theirs_of("siglip")
    built = build(saved(theirs, tmp_path / "model"), num_classes=5, weights="default", size_px=48)
    frame = torch.randn(1, 3, 48, 48)
    found = theirs.get_image_features(frame, interpolate_pos_encoding=True).pooler_output
    wanted = found / found.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(built.network.eval().embed_frames(frame), wanted)


def test_vivit_takes_the_clips_it_was_trained_on_or_starts_fresh(tmp_path: Path) -> None:
    source = saved(theirs_of("vivit"), tmp_path / "model")
    with pytest.raises(UserError, match=r"for 4 frames of 32 px and the clips have 6 of 32: give"):
        build(source, num_classes=5, weights="default", frames=6)
    fresh = build(source, num_classes=5, frames=6, size_px=48)
    assert fresh.network(torch.randn(1, 3, 6, 48, 48)).shape == (1, 5)


@pytest.mark.parametrize("kind", ["videomae", "vjepa2", "clip", "siglip"])
@torch.no_grad()
def test_a_file_without_a_classifier_gives_its_encoder(kind: str, tmp_path: Path) -> None:
    tr: Any = transformers
    theirs = theirs_of(kind)
    body = theirs
    if kind == "videomae":
        body = randomised(tr.VideoMAEForPreTraining(theirs.config))
    elif kind == "vjepa2":
        body = theirs.vjepa2
    built = build(saved(body, tmp_path / "model"), num_classes=4, weights="default")
    assert "its head none, a new one of 4 classes made" in str(built.loaded)
    clips = torch.randn(2, 3, FRAMES, SIZE_PX, SIZE_PX)
    if kind in ("clip", "siglip"):
        frames = clips.transpose(1, 2).flatten(0, 1)
        found = theirs.get_image_features(frames).pooler_output
        found = (found / found.norm(dim=-1, keepdim=True)).unflatten(0, (2, FRAMES)).mean(dim=1)
        torch.testing.assert_close(built.embed(clips), found)
    elif kind == "vjepa2":
        wanted = theirs.vjepa2(clips.transpose(1, 2), skip_predictor=True).last_hidden_state
        torch.testing.assert_close(
            built.network.vjepa2(clips.transpose(1, 2), skip_predictor=True).last_hidden_state,
            wanted,
        )
    else:
        wanted = body.videomae(clips.transpose(1, 2)).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(built.embed(clips), built.network.fc_norm(wanted))


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_training_reaches_every_parameter(kind: str, tmp_path: Path) -> None:
    built = build(saved(theirs_of(kind), tmp_path / "model"), num_classes=4, weights="default")
    checkpointing.checkpoint_blocks(built.network, built.blocks)
    assert len(built.blocks) == 2
    clips = torch.randn(2, 3, FRAMES, SIZE_PX, SIZE_PX)
    built.network.train()(clips).square().sum().backward()
    # Processes that train together wait for the gradient of each.
    lacking = [name for name, p in built.network.named_parameters() if p.grad is None]
    assert lacking == []


@pytest.mark.parametrize("kind", ["videomae", "vivit", "vjepa2", "clip", "siglip_classifier"])
def test_what_is_frozen_is_what_comes_before(kind: str, tmp_path: Path) -> None:
    built = build(saved(theirs_of(kind), tmp_path / "model"), num_classes=4, weights="default")
    set_trained(built, "last_1_blocks")
    frozen = {name for name, p in built.network.named_parameters() if not p.requires_grad}
    first = {id(p) for p in built.blocks[0].parameters()}
    last = {id(p) for p in built.blocks[1].parameters()}
    for name, parameter in built.network.named_parameters():
        if id(parameter) in first or "embedding" in name or "pre_" in name:
            assert name in frozen
        if id(parameter) in last or name.startswith("classifier"):
            assert name not in frozen


@pytest.mark.parametrize("kind", ["videomae", "vivit", "vjepa2", "clip", "siglip_classifier"])
@torch.no_grad()
def test_a_model_folder_needs_no_hub(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(saved(theirs_of(kind), tmp_path / "theirs"), num_classes=2, weights="default")
    info = info_of(hub.find(f"hf:{tmp_path}/theirs"))
    save_deep(str(tmp_path / "model"), info, built.network.state_dict())
    monkeypatch.setattr(hub, "find", lambda _: pytest.fail("the model folder is all there is"))
    model = load(str(tmp_path / "model"))
    clips = torch.randn(2, 3, FRAMES, SIZE_PX, SIZE_PX)
    assert torch.equal(model.network(clips), built.network.eval()(clips))


def info_of(found: hub.HubModel) -> dict[str, Any]:
    from vidray.models.preprocess import IMAGENET, Preprocessing
    from vidray.video.clips import ClipSettings

    mean, std = IMAGENET
    given = Preprocessing(num_frames=FRAMES, size_px=SIZE_PX, mean=mean, std=std)
    return {
        "family": "deep",
        "name": "hf-model",
        "class_names": ["a", "b"],
        "network": {
            "name": found.name, "num_classes": 2, "head": "linear", "dropout": 0.5,
            "frames": FRAMES, "size_px": SIZE_PX, "config": hub.network_config(found).as_json(),
        },
        "preprocessing": dataclasses.asdict(given),
        "clip": dataclasses.asdict(ClipSettings(frames_per_clip=FRAMES, size_px=SIZE_PX)),
    }  # fmt: skip


@pytest.mark.parametrize("change", [
    {"config": None},
    {"config": {"kind": "bert"}},
    {"config": {"kind": "videomae", "hidden_size": 8192, "auto_map": {"AutoModel": "x.Y"}}},
    {"config": {"kind": "videomae", "num_hidden_layers": 100_000}},
    {"config": {"kind": "videomae", "hidden_act": "os.system"}},
    {"config": {"kind": "videomae", "image_size": 4096, "num_frames": 4096}},
    {"name": "r3d_18"},
])  # fmt: skip
def test_a_model_json_of_impossible_networks_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    found = hub.find(saved(theirs_of("videomae"), tmp_path / "theirs"))
    info = info_of(found)
    info["network"] |= change
    save_deep(str(tmp_path / "model"), info, {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="is not what a training writes"):
        load(str(tmp_path / "model"))


def test_a_model_json_larger_than_its_weights_takes_no_memory(tmp_path: Path) -> None:
    found = hub.find(saved(theirs_of("videomae"), tmp_path / "theirs"))
    info = info_of(found)
    for wide, match in ((2048, "is too small for the"), (8192, "billion parameters: 2.1 at the")):
        info["network"]["config"] |= {
            "hidden_size": wide, "num_hidden_layers": 24, "intermediate_size": 4 * wide,
        }  # fmt: skip
        save_deep(str(tmp_path / "model"), info, {"x": torch.zeros(1)})
        with pytest.raises(UserError, match=match):
            load(str(tmp_path / "model"))


# Configs


@pytest.mark.parametrize("kind", transformers_config.CONFIGS)
def test_defaults_are_those_of_transformers(kind: str) -> None:
    tr: Any = transformers
    theirs = {
        "videomae": tr.VideoMAEConfig, "vivit": tr.VivitConfig, "vjepa2": tr.VJEPA2Config,
        "clip": tr.CLIPConfig, "siglip": tr.SiglipConfig,
    }[kind]()  # fmt: skip
    fresh = transformers_config.CONFIGS[kind]()
    assert transformers_config.from_theirs(json.loads(theirs.to_json_string(False))) == fresh
    # save_pretrained leaves out what does not differ.
    assert transformers_config.from_theirs({"model_type": kind}) == fresh
    stored = fresh.as_json()
    assert json.loads(json.dumps(stored)) == stored
    assert transformers_config.from_json(stored) == fresh


def test_texts_have_configs_too() -> None:
    tr: Any = transformers
    for theirs, ours in (
        (tr.CLIPConfig(), transformers_config.ClipText()),
        (tr.SiglipConfig(), transformers_config.SiglipText(projection_size=768)),
    ):
        assert transformers_config.text_from_theirs(theirs.to_dict()) == ours
    with pytest.raises(UserError, match='model_type "vivit", which has no texts'):
        transformers_config.text_from_theirs({"model_type": "vivit"})


@pytest.mark.parametrize(("config", "match"), [
    ({"model_type": "bert"}, 'model_type "bert": vidray builds videomae, '),
    ({"model_type": "videomae", "hidden_size": "768"}, 'hidden_size is "768": it must be a whole'),
    ({"model_type": "videomae", "hidden_size": 100}, "must be a multiple of num_attention_heads"),
    ({"model_type": "videomae", "num_channels": 1}, "other channels than red, green, blue"),
    ({"model_type": "videomae", "image_size": [224, 320]}, "image_size is a list of 2"),
    ({"model_type": "vivit", "tubelet_size": [2, 16]}, "frames, rows and columns"),
    ({"model_type": "vjepa2", "num_attention_heads": 1024}, "must be 1 to 128"),
    ({"model_type": "clip", "vision_config": {"patch_size": 0}}, "patch_size is 0"),
    ([], "model_type null"),
])  # fmt: skip
def test_configs_of_other_networks_are_refused(config: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        transformers_config.from_theirs(config)


# The hub and folders


def test_weights_in_parts_are_the_same_weights(tmp_path: Path) -> None:
    theirs = theirs_of("vjepa2", num_labels=5)
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert not (tmp_path / "parts" / hub.WEIGHTS).exists()
    found = hub.state_dict(hub.find(f"hf:{tmp_path}/parts"))
    assert found.keys() == theirs.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in theirs.state_dict().items())


def test_names_of_older_versions_are_renamed_by_transformers(tmp_path: Path) -> None:
    theirs = theirs_of("vivit", num_labels=5)
    older = {}
    for today, value in theirs.state_dict().items():
        name = today
        for now, then in (
            ("vivit.layers.", "vivit.encoder.layer."),
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            name = name.replace(now, then)
        older[name] = value
    saved(theirs, tmp_path / "model")
    safetensors.torch.save_file(older, tmp_path / "model" / hub.WEIGHTS)
    built = build(f"hf:{tmp_path}/model", num_classes=5, weights="default")
    now = built.network.state_dict()
    assert all(torch.equal(now[name], value) for name, value in theirs.state_dict().items())


def test_initial_weights_are_not_the_files_own_bytes(tmp_path: Path) -> None:
    theirs = theirs_of("vjepa2")
    state = theirs.state_dict()
    built = build(saved(theirs, tmp_path / "model"), num_classes=2, weights="default")
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.zero_()
    again = hub.state_dict(hub.find(f"hf:{tmp_path}/model"))
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_the_licence_is_read_and_kept(tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    assert "licence not stated" in str(hub.find(source))
    readme = tmp_path / "model" / "README.md"
    readme.write_text('---\nlicense: "cc-by-nc-4.0"\ntags:\n- video\n---\n# license: mit\n')
    built = build(source, num_classes=2, weights="default")
    assert "hf:model (licence cc-by-nc-4.0, not for commercial use): " in str(built.loaded)
    assert built.source == {"repo": "model", "revision": None, "licence": "cc-by-nc-4.0"}
    readme.write_text("---\nlicense: other\nlicense_name: my-own\n---\n")
    assert hub.find(source).licence == "my-own"


def test_class_names_are_those_of_the_config() -> None:
    assert hub.class_names({"id2label": {"1": "run", "0": "walk"}}) == ("walk", "run")
    assert hub.class_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) is None
    assert hub.class_names({}) is None
    with pytest.raises(UserError, match="id2label with numbers missing"):
        hub.class_names({"id2label": {"0": "walk", "7": "run"}})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into(cache: Path, model: Any, repo: str) -> None:
    """Lay a model into the hub's cache as the hub's client does."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    model.save_pretrained(snapshot)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = home / "blobs" / str(number)
        file.rename(blob)
        file.symlink_to(os.path.join("..", "..", "blobs", str(number)))


def test_a_repository_is_taken_from_the_cache_by_its_commit(cache: Path) -> None:
    theirs = theirs_of("videomae", num_labels=5)
    put_into(cache, theirs, "someone/tiny")
    for source in ("hf:someone/tiny", f"hf:someone/tiny@{COMMIT}"):
        found = hub.find(source)
        assert found.source == found.name == f"hf:someone/tiny@{COMMIT}"
        assert found.origin["revision"] == COMMIT
        built = build(source, num_classes=5, weights="default")
        assert torch.equal(built.head.weight, theirs.classifier.weight)


def test_without_network_the_next_step_is_said(cache: Path) -> None:
    said = (
        rf"hf:a/b@v1 is not in {cache} and can't be fetched \(.*\): where there is a network, "
        "fetch it with hf download a/b and copy that cache here, or give hf:/folder"
    )
    with pytest.raises(UserError, match=said):
        hub.find("hf:a/b@v1")
    with pytest.raises(UserError, match="videomae-small-finetuned-kinetics@main is not in"):
        models.build("videomae_small", num_classes=2, weights="default")


@pytest.mark.parametrize(
    "source", ["hf:a/../../etc", "hf:a/b@../x", "hf:a/b/c", "hf:a b/c", "hf:a/b@x;y"]
)
def test_names_that_are_none_go_nowhere(source: str, cache: Path) -> None:
    with pytest.raises(UserError, match="names no model: give hf:OWNER/NAME"):
        hub.find(source)


def test_other_files_than_safetensors_are_not_opened(tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    (tmp_path / "model" / hub.WEIGHTS).rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"holds no model.safetensors: files of other kinds can run"
    ):
        build(source, num_classes=2, weights="default")


@pytest.mark.parametrize(("placed", "match"), [
    ({"x": "../../secret.safetensors"}, "must be a safetensors file of the same folder"),
    ({"x": "/etc/passwd"}, "must be a safetensors file of the same folder"),
    ({"x": "weights.bin"}, "must be a safetensors file of the same folder"),
    ({"x": 7}, "must be a safetensors file of the same folder"),
    ({}, "has no weight_map"),
])  # fmt: skip
def test_an_index_leads_nowhere_else(placed: dict[str, Any], match: str, tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    (tmp_path / "model" / hub.WEIGHTS).unlink()
    (tmp_path / "model" / hub.INDEX).write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(UserError, match=match):
        build(source, num_classes=2, weights="default")


def test_an_index_of_more_than_there_is_is_refused(tmp_path: Path) -> None:
    theirs_of("videomae").save_pretrained(tmp_path / "model", max_shard_size="20KB")
    index = tmp_path / "model" / hub.INDEX
    placed = json.loads(index.read_text())
    placed["weight_map"]["more"] = next(iter(placed["weight_map"].values()))
    index.write_text(json.dumps(placed))
    with pytest.raises(UserError, match=r"1 tensors of .* are in no file, more among them"):
        hub.state_dict(hub.find(f"hf:{tmp_path}/model"))


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    weights = tmp_path / "model" / hub.WEIGHTS
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match="is a link that leads out of its folder"):
        build(source, num_classes=2, weights="default")


@pytest.mark.parametrize("name", [hub.CONFIG, hub.WEIGHTS])
def test_damaged_files_are_one_line(name: str, tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(struct.pack("<Q", 10 << 30) + b"{")
    with pytest.raises(UserError) as raised:
        build(source, num_classes=2, weights="default")
    assert "\n" not in str(raised.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    theirs = theirs_of("videomae")
    with torch.no_grad():
        theirs.fc_norm.bias[3] = float("nan")
    source = saved(theirs, tmp_path / "model")
    with pytest.raises(UserError, match=r"holds NaN or infinity in 1 tensors, fc_norm.bias among"):
        build(source, num_classes=2, weights="default")


def test_weights_of_another_depth_are_refused(tmp_path: Path) -> None:
    source = saved(theirs_of("videomae", num_hidden_layers=3), tmp_path / "three")
    two = saved(theirs_of("videomae"), tmp_path / "two")
    with pytest.raises(UserError, match=r"does not fit .*layer\.2\.\S+ is not in this model"):
        build(two, num_classes=2, weights=source)
    with pytest.raises(UserError, match=r"does not fit .*layer\.2\.\S+ is missing.* more"):
        build(source, num_classes=2, weights=two)
    wide = saved(theirs_of("videomae", intermediate_size=32), tmp_path / "wide")
    with pytest.raises(UserError, match=r"intermediate.dense.bias is \(32,\) and must be \(48,\)"):
        build(two, num_classes=2, weights=wide)


def test_no_code_of_a_folder_runs(tmp_path: Path) -> None:
    source = saved(theirs_of("videomae"), tmp_path / "model")
    config = json.loads((tmp_path / "model" / hub.CONFIG).read_text())
    auto = {"AutoConfig": "evil.NetworkConfig", "AutoModelForVideoClassification": "evil.Model"}
    config |= {"auto_map": auto, "quantization_config": {"quant_method": "evil"}}
    (tmp_path / "model" / hub.CONFIG).write_text(json.dumps(config))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('ran')")
    built = build(source, num_classes=2, weights="default")
    assert isinstance(built.network, nn.Module)
    assert not [key for key in hub.network_config(hub.find(source)).as_json() if "map" in key]


# VideoMAE by name


@pytest.mark.parametrize(
    ("name", "millions"), [("videomae_small", 22), ("videomae_base", 87), ("videomae_large", 305)]
)
def test_parameters_of_the_published_sizes(name: str, millions: int) -> None:
    with torch.device("meta"):  # Tong et al. 2022, table 6, and their list of models
        network = build(name, num_classes=400, frames=2, size_px=16).network
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@torch.no_grad()
def test_videomae_starts_from_a_folder_of_the_same_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = transformers_config.VideoMAE(**_BODY)
    monkeypatch.setitem(transformers_config.VIDEOMAE, "videomae_small", tiny)
    theirs = theirs_of("videomae", num_labels=5)
    saved(theirs, tmp_path / "model")
    clips = torch.randn(2, 3, FRAMES, SIZE_PX, SIZE_PX)
    for weights in (f"hf:{tmp_path}/model", str(tmp_path / "model")):
        built = build(
            "videomae_small", num_classes=5, weights=weights, frames=FRAMES, size_px=SIZE_PX
        )
        ours = built.network.eval()(clips)
        torch.testing.assert_close(ours, their_logits(theirs, clips), rtol=1e-5, atol=1e-5)
