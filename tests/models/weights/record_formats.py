"""Make ``recorded.json``: what networks of PyTorchVideo, PySlowFast, mmaction2 and timm answer.

python -m tests.models.weights.record_formats     # with these packages on the path, two minutes

pip install --no-deps pytorchvideo==0.1.5 fvcore iopath parameterized pyslowfast==1.0 yacs \
    mmaction2==1.2.0 mmengine mmcv-lite==2.1.0 addict yapf einops timm

PySlowFast needs detectron2 and mmaction2 a part that its wheel lacks, for networks that are not
recorded here: both are replaced by nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torchvision.transforms.functional
from torch import Tensor, nn

from tests.models.weights.made_weights import clip, fill
from tests.models.weights.recorded import CLASSES, Recorded, read, shapes_of, write

Shape = tuple[int, int, int]
SMALL: Shape = (8, 64, 64)
# Of mmaction2: our model, its config, the clip, what is changed in the config.
CONFIG = "_kinetics400-rgb"
MMACTION: tuple[tuple[str, str, Shape, dict[str, Any]], ...] = (
    ("resnet50_avg", "tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e", SMALL, {}),
    ("resnet50_avg", "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e", SMALL, {}),
    ("c2d_r50", "c2d/c2d_r50-in1k-pre_8xb32-8x8x1-100e", SMALL, {}),
    ("i3d_r50", "i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e", (16, 64, 64), {}),
    ("slow_r50", "slowonly/slowonly_r50_8xb16-8x8x1-256e", SMALL, {}),
    ("slowfast_r50", "slowfast/slowfast_r50_8xb8-8x8x1-256e", (32, 64, 64), {}),
    (
        "slowfast_r50",
        "slowfast/slowfast_r50_8xb8-8x8x1-256e",
        (32, 64, 64),
        {"slow_pathway": {"lateral_norm": True}},
    ),
    ("r2plus1d_34", "r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e", SMALL, {}),
    ("c3d", "c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101", (16, 112, 112), {}),
    *(
        (
            f"timesformer_{ours}",
            f"timesformer/timesformer_{theirs}_8xb8-8x32x1-15e",
            (4, 64, 64),
            {"num_frames": 4, "img_size": 64},
        )
        for ours, theirs in (("divided", "divST"), ("joint", "jointST"), ("space", "spaceOnly"))
    ),
    (
        "videomae_base",
        "videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400",
        (4, 64, 64),
        {"num_frames": 4, "img_size": 64},
    ),
    ("x3d_s", "x3d/x3d_s_13x6x1_facebook-kinetics400-rgb", (13, 64, 64), {}),
    ("x3d_m", "x3d/x3d_m_16x5x1_facebook-kinetics400-rgb", (16, 64, 64), {}),
    ("mvit_v2_s", "mvit/mvit-small-p244_32xb16-16x4x1-200e", SMALL, {}),
    ("swin3d_t", "swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e", (32, 96, 96), {}),
)


def main() -> None:
    """Record all, or of mmaction2 the models that are named."""
    warnings.simplefilter("ignore")
    only = sys.argv[1:]
    rows = [row for row in read() if only and f"{row}" not in {f"mmaction2-{k}" for k in only}]
    packages = () if only else (*pytorchvideo(), *timm(), *pyslowfast())
    for row in (*packages, *mmaction2(only)):
        print(row, row.shape, row.logits[0][:3], flush=True)
        rows.append(row)
    write(rows)


def recorded(
    package: str, model: str, key: str, network: nn.Module, shape: Shape,
    answer: Callable[[nn.Module, Tensor], Tensor] = lambda network, clips: network(clips),
) -> Recorded:  # fmt: skip
    """What ``network`` with weights that follow from its names answers."""
    with torch.no_grad():
        logits = answer(fill(network), clip(shape))
    assert logits.shape == (2, CLASSES), logits.shape
    return Recorded(
        package=f"{package} {importlib.metadata.version(package)}",
        model=model,
        shape=shape,
        key=key,
        names=shapes_of(network),
        logits=logits.tolist(),
    )


# PyTorchVideo


def pytorchvideo() -> Iterator[Recorded]:
    """Its hub's networks; heads pool over all there is, and give logits."""
    # It imports a module that torchvision has no more since 0.17.
    name = "torchvision.transforms.functional_tensor"
    sys.modules.setdefault(name, torchvision.transforms.functional)
    from pytorchvideo.models import hub

    for ours, shape in (
        ("slow_r50", SMALL),
        ("i3d_r50", SMALL),
        ("c2d_r50", SMALL),
        ("r2plus1d_r50", SMALL),
        ("x3d_s", (13, 64, 64)),
        ("x3d_m", (16, 64, 64)),
    ):
        network = getattr(hub, ours)(pretrained=False, model_num_class=CLASSES)
        yield recorded("pytorchvideo", ours, "model_state", _pooling_all(network), shape)
    slowfast = _pooling_all(hub.slowfast_r50(pretrained=False, model_num_class=CLASSES))
    yield recorded(
        "pytorchvideo", "slowfast_r50", "model_state", slowfast, (32, 64, 64), _two_pathways
    )
    mvit = hub.mvit_base_16x4(
        pretrained=False, spatial_size=64, temporal_size=8, head_num_classes=CLASSES
    )
    yield recorded("pytorchvideo", "mvit_v1_b", "model_state", mvit, SMALL)


def _pooling_all(network: nn.Module) -> nn.Module:
    """Windows of 7x7 features of 224 px, as windows of what a smaller clip gives; no softmax."""
    for module in network.modules():
        if type(module) is nn.AvgPool3d:
            module.forward = lambda x: x.mean(dim=(2, 3, 4), keepdim=True)  # type: ignore[method-assign]
        if hasattr(module, "activation") and isinstance(module.activation, nn.Softmax):
            module.activation = None
    return network


def _two_pathways(network: nn.Module, clips: Tensor) -> Tensor:
    # PackPathway of PyTorchVideo's tutorial and PySlowFast's pack_pathway_output.
    frames = clips.shape[2]
    slow = clips.index_select(2, torch.linspace(0, frames - 1, frames // 4).long())
    logits: Tensor = network([slow, clips])
    return logits


def timm() -> Iterator[Recorded]:
    """An image transformer, its logits averaged over frames."""
    import timm

    def averaged(network: nn.Module, clips: Tensor) -> Tensor:
        frames = clips.transpose(1, 2)
        logits: Tensor = network(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return logits.mean(dim=1)

    network = timm.create_model("vit_base_patch16_224", img_size=64, num_classes=CLASSES)
    yield recorded("timm", "timesformer_space", "", network, (2, 64, 64), averaged)


# PySlowFast


def pyslowfast() -> Iterator[Recorded]:
    """Its networks of 2020: SlowFast and the ResNets."""
    for name in ("detectron2", "detectron2.layers"):
        module = types.ModuleType(name)
        module.ROIAlign = object  # type: ignore[attr-defined]
        sys.modules.setdefault(name, module)
    models = importlib.import_module("slowfast.models.video_model_builder")

    def alone(network: nn.Module, clips: Tensor) -> Tensor:
        logits: Tensor = network([clips])
        return logits

    slowfast = models.SlowFastModel(_pyslowfast_config("slowfast", 32, two=True))
    row = "pyslowfast", "slowfast_r50", "model_state"
    yield recorded(*row, _logits(slowfast), (32, 64, 64), _two_pathways)
    for ours, theirs in (("slow_r50", "slowonly"), ("i3d_r50", "i3d"), ("c2d_r50", "c2d")):
        network = _logits(models.ResNetModel(_pyslowfast_config(theirs, 8, two=False)))
        yield recorded("pyslowfast", ours, "model_state", network, SMALL, alone)


def _logits(network: nn.Module) -> nn.Module:
    network.head.act = nn.Identity()
    return network


def _pyslowfast_config(arch: str, frames: int, *, two: bool) -> Any:
    config = importlib.import_module("slowfast.config.defaults").get_cfg()
    config.NUM_GPUS = 1
    config.MODEL.NUM_CLASSES = CLASSES
    config.MODEL.ARCH = arch
    config.DATA.CROP_SIZE = 64
    config.DATA.NUM_FRAMES = frames
    config.RESNET.DEPTH = 50
    ways = 2 if two else 1
    config.RESNET.NUM_BLOCK_TEMP_KERNEL = [[depth] * ways for depth in (3, 4, 6, 3)]
    if not two:
        config.DATA.INPUT_CHANNEL_NUM = [3]
        return config
    config.SLOWFAST.ALPHA = 4
    config.SLOWFAST.BETA_INV = 8
    config.SLOWFAST.FUSION_CONV_CHANNEL_RATIO = 2
    config.SLOWFAST.FUSION_KERNEL_SZ = 7
    config.RESNET.SPATIAL_STRIDES = [[1, 1], [2, 2], [2, 2], [2, 2]]
    config.RESNET.SPATIAL_DILATIONS = [[1, 1]] * 4
    config.NONLOCAL.LOCATION = [[[], []]] * 4
    config.NONLOCAL.GROUP = [[1, 1]] * 4
    config.NONLOCAL.POOL = [[[1, 2, 2], [1, 2, 2]]] * 4
    return config


# mmaction2


def mmaction2(only: Sequence[str] = ()) -> Iterator[Recorded]:
    """Recognizers of its configs."""
    for name in ("localizers.drn", "localizers.drn.drn", "multimodal"):
        module = types.ModuleType(f"mmaction.models.{name}")
        module.__path__ = []
        module.__all__ = []  # type: ignore[attr-defined]
        module.DRN = object  # type: ignore[attr-defined]
        sys.modules.setdefault(module.__name__, module)
    importlib.import_module("mmaction.models")
    registry = importlib.import_module("mmaction.registry").MODELS
    read_config = importlib.import_module("mmengine.config").Config.fromfile
    importlib.import_module("mmengine.registry").init_default_scope("mmaction")
    where = str(importlib.import_module("mmaction").__file__)
    configs = os.path.join(os.path.dirname(where), ".mim/configs/recognition")
    for ours, path, shape, changed in MMACTION:
        if only and ours not in only:
            continue
        model = read_config(os.path.join(configs, f"{path}{_ending(path)}.py")).model
        _without_files(model)
        _merge(model.backbone, changed)
        model.cls_head.num_classes = CLASSES
        network = registry.build(model)
        is_2d = ours == "resnet50_avg"
        yield recorded(
            "mmaction2", ours, "state_dict", network, shape, _answer_2d if is_2d else _answer_3d
        )


def _ending(path: str) -> str:
    return "" if "videomae" in path else "-rgb" if "ucf101" in path else CONFIG


def _merge(config: Any, changed: dict[str, Any]) -> None:
    for key, value in changed.items():
        if isinstance(value, dict):
            _merge(config[key], value)
        else:
            config[key] = value


def _without_files(config: Any) -> None:
    for key in list(config):
        if key in ("pretrained", "init_cfg"):
            config[key] = None
        elif key == "pretrained2d":
            config[key] = False
        elif isinstance(config[key], dict):
            _without_files(config[key])


def _answer_2d(network: nn.Module, clips: Tensor) -> Tensor:
    return _answered(network, clips.transpose(1, 2).contiguous())  # (N, T, C, H, W)


def _answer_3d(network: nn.Module, clips: Tensor) -> Tensor:
    return _answered(network, clips[:, None])  # (N, clips, C, T, H, W)


def _answered(network: nn.Module, inputs: Tensor) -> Tensor:
    features, settings = network.extract_feat(inputs)
    logits: Tensor = network.cls_head(features, **settings)
    return logits


if __name__ == "__main__":
    main()
