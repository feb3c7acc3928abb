"""Words as classes: the file, and scores against those of ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.test_transformers_video import info_of, theirs_of
from vidray.errors import UserError
from vidray.models import words
from vidray.models.folder import load, save_deep
from vidray.models.networks.build import set_trained
from vidray.models.words import WordClass

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tokenizer() -> Any:
    """A tokenizer whose words are letters; ends are 2 and 3."""
    vocab = {"a": 0, "b": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    for letter in LETTERS:
        for word in (letter, f"{letter}</w>"):
            vocab.setdefault(word, len(vocab))
    return transformers.CLIPTokenizer(vocab=vocab, merges=[])


def saved(kind: str, folder: Path) -> tuple[str, Any]:
    """``hf:...`` of a tiny CLIP or SigLIP with its tokenizer, and the model."""
    model = theirs_of(kind)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return f"hf:{folder}", model


CLASSES = (
    WordClass("fight", ("abc", "two us")),
    WordClass("calm", ("calm",)),
    WordClass("empty street", ("x", "y z", "zz")),
)


def logits_per_image(model: Any, frames: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """What transformers gives for frames ``(n, 3, H, W)`` and texts: ``(n, texts)``."""
    padding = {"padding": "max_length", "max_length": 8} if "Siglip" in type(model).__name__ else {}
    padding = padding or {"padding": True}
    given = tokenizer()(prompts, return_tensors="pt", **padding)
    if "Siglip" in type(model).__name__:  # Its processor gives no mask.
        del given["attention_mask"]
    found: torch.Tensor = model(pixel_values=frames, **given).logits_per_image
    return found


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_scores_are_those_of_transformers_averaged(kind: str, tmp_path: Path) -> None:
    source, theirs = saved(kind, tmp_path / "model")
    made = words.words_model(source, CLASSES, frames=4)
    clips = torch.randn(3, 3, 4, 32, 32)
    ours = made.built.network.eval()(clips)
    prompts = [prompt for one in CLASSES for prompt in one.prompts]
    scores = logits_per_image(theirs, clips.transpose(1, 2).flatten(0, 1), prompts)
    of_clip = scores.unflatten(0, (3, 4)).mean(dim=1)  # (3, 6)
    wanted = torch.stack([part.mean(dim=1) for part in of_clip.split([2, 1, 3], dim=1)], dim=1)
    assert wanted.std() > 0.03
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    if kind == "siglip":
        assert made.built.head.bias.tolist() == pytest.approx([float(theirs.logit_bias)] * 3)


@torch.no_grad()
def test_it_is_a_model_folder_like_any_other(tmp_path: Path) -> None:
    source, _ = saved("clip", tmp_path / "theirs")
    made = words.words_model(source, CLASSES[:2], frames=4)
    assert made.class_names == ("fight", "calm")
    assert made.prompts == {"fight": ("abc", "two us"), "calm": ("calm",)}
    assert "new one of 2 classes made, of 3 texts" in str(made.built.loaded)
    info = info_of(made.found) | {"class_names": made.class_names, "network": made.network}
    save_deep(str(tmp_path / "model"), info, made.built.network.state_dict())
    model: Any = load(str(tmp_path / "model"))
    clips = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(model.network(clips), made.built.network.eval()(clips))


def test_its_head_can_be_trained_alone(tmp_path: Path) -> None:
    made = words.words_model(saved("clip", tmp_path / "model")[0], CLASSES)
    set_trained(made.built, "head")
    trained = {name for name, p in made.built.network.named_parameters() if p.requires_grad}
    assert {"classifier.weight", "classifier.bias"} <= trained
    assert not [name for name in trained if ".encoder." in name or "embedding" in name]


def test_a_prompt_that_is_too_long_is_not_cut(tmp_path: Path) -> None:
    source, _ = saved("clip", tmp_path / "model")
    long = WordClass("long", ("abcdefghij",))
    with pytest.raises(UserError, match="has 12 tokens, and hf:model reads 8: shorten"):
        words.words_model(source, (*CLASSES, long))


@pytest.mark.parametrize(("change", "match"), [
    ({"tokenizer_class": "TransfoXLTokenizer"}, 'has the tokenizer "TransfoXLTokenizer": one of'),
    ({"tokenizer_class": None}, "has the tokenizer null: one of"),
    ({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, None),
])  # fmt: skip
def test_no_other_tokenizer_is_opened(
    change: dict[str, Any], match: str | None, tmp_path: Path
) -> None:
    source, _ = saved("clip", tmp_path / "model")
    where = tmp_path / "model" / "tokenizer_config.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | change))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('ran')")
    if match is None:
        words.words_model(source, CLASSES)
        return
    with pytest.raises(UserError, match=match):
        words.words_model(source, CLASSES)


@pytest.mark.parametrize("damage", ["cut", "gone", "link"])
def test_a_damaged_tokenizer_is_one_line(damage: str, tmp_path: Path) -> None:
    source, _ = saved("clip", tmp_path / "model")
    where = tmp_path / "model" / "tokenizer.json"
    if damage == "cut":
        where.write_text(where.read_text()[:100])
    elif damage == "gone":
        where.unlink()
    else:
        where.rename(tmp_path / "elsewhere.json")
        where.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError) as raised:
        words.words_model(source, CLASSES)
    assert "\n" not in str(raised.value)


def test_models_without_texts_are_refused(tmp_path: Path) -> None:
    theirs_of("vivit").save_pretrained(tmp_path / "vivit")
    with pytest.raises(UserError, match='is of model_type "vivit", which has no texts'):
        words.words_model(f"hf:{tmp_path}/vivit", CLASSES)
    source, theirs = saved("clip", tmp_path / "model")
    tower = transformers.CLIPVisionModelWithProjection(theirs.config.vision_config)
    config = (tmp_path / "model" / "config.json").read_text()
    tower.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(config)
    with pytest.raises(UserError, match="has no whole text tower"):
        words.words_model(source, CLASSES)


# The file


def test_a_line_is_a_class(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(
        "\ufeff# of the station\n\nfight: two people; a brawl: loud \ncalm\nétroit : a b\n".encode()
    )
    assert words.read_classes(str(file)) == (
        WordClass("fight", ("two people", "a brawl: loud")),
        WordClass("calm", ("calm",)),
        WordClass("étroit", ("a b",)),
    )


@pytest.mark.parametrize(("text", "match"), [
    ("a\n: b\n", "line 2: there is no name before the colon"),
    ("a\n\nb:\n", "line 3: prompt 1 of 'b' is empty"),
    ("a: x;; y\nb", "line 1: prompt 2 of 'a' is empty"),
    ("a: x;\nb", "line 1: prompt 2 of 'a' is empty"),
    ("a\nb\n a : x\n", "line 3: the class 'a' is in line 1, too"),
    ("a\x00b\nc", "line 1: the name .* has unprintable"),
    ("a: x; y\n# b\n", "has 1 classes: a classifier needs 2 or more"),
    ("", "has 0 classes"),
])  # fmt: skip
def test_a_wrong_line_is_named(text: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        words.parse(text)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there: give a text file"):
        words.read_classes(str(tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes("étroit\nb".encode("latin-1"))
    with pytest.raises(UserError, match="is no text in UTF-8"):
        words.read_classes(str(tmp_path / "latin.txt"))
    (tmp_path / "large.txt").write_bytes(b"a" * (1 << 20) + b"a")
    with pytest.raises(UserError, match="is larger than 1 MiB"):
        words.read_classes(str(tmp_path / "large.txt"))
