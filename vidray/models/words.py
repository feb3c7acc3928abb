"""Words as classes: a CLIP or SigLIP whose head is the embeddings of texts.

    fight: two people hitting each other; a brawl in the street
    calm: people walking
    empty street

A frame's score for a text is the cosine of their embeddings, times the model's temperature, plus
SigLIP's bias. A class's is the mean over its prompts, a clip's the mean over its frames. All of
that is linear in the mean of the frames' embeddings, so it is one linear layer: such a model is
judged, labels, is calibrated and fine-tuned like any other (Radford et al. 2021, Zhai et al. 2023).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidray import storage
from vidray.errors import UserError
from vidray.models import transformers_config
from vidray.models.weights import hub
from vidray.storage import checked_json
from vidray.storage.text_file import read_text

if TYPE_CHECKING:
    from torch import Tensor

    from vidray.models.networks.architecture import Architecture

_MOST_BYTES = 1 << 20
_BATCH = 64  # texts
# What tokenizer_config.json may name: each cuts texts by rules that are data, and runs no code.
_TOKENIZERS = {
    "CLIPTokenizer": "CLIPTokenizer",
    "CLIPTokenizerFast": "CLIPTokenizer",
    "SiglipTokenizer": "SiglipTokenizer",
    "Siglip2Tokenizer": "Siglip2Tokenizer",
    "GemmaTokenizer": "GemmaTokenizer",
    "GemmaTokenizerFast": "GemmaTokenizer",
    "PreTrainedTokenizerFast": "PreTrainedTokenizerFast",
    "TokenizersBackend": "PreTrainedTokenizerFast",
}


@dataclass(frozen=True)
class WordClass:
    """A class in words."""

    name: str
    prompts: tuple[str, ...]
    """Texts that describe it, one or more."""


@dataclass(frozen=True)
class WordsModel:
    """A model whose classes are words, and what its model.json holds of it."""

    built: Architecture
    network: dict[str, Any]
    """Arguments of ``models.build``, the weights left out."""
    class_names: tuple[str, ...]
    prompts: dict[str, tuple[str, ...]]
    """Class name -> its texts."""
    found: hub.HubModel
    """Where the model is from, its preprocessing too."""


def read_classes(uri: str) -> tuple[WordClass, ...]:
    """The classes of a text file, local or in a bucket; ``parse`` says how it is written.

    Raises:
        UserError: it is not there, no UTF-8, or a line is wrong.
    """
    text = read_text(
        uri,
        most_bytes=_MOST_BYTES,
        give="give a text file, a class in each line",
        other="is no text in UTF-8: save it as UTF-8",
    )
    return parse(text, where=storage.without_secrets(uri))


def parse(text: str, *, where: str = "the words") -> tuple[WordClass, ...]:
    """Classes of lines ``name: prompt; prompt``; a name alone is its own prompt.

    Empty lines, and those that begin with ``#``, are left out.

    Args:
        where: what errors call the text.

    Raises:
        UserError: names the line that is wrong, or there are fewer than two classes.
    """
    classes: list[WordClass] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        at = f"{where}, line {number}"
        found = _class_of(line, at)
        if found.name in lines:
            raise UserError(
                f"{at}: the class {found.name!r} is in line {lines[found.name]}, too: give all of "
                "its prompts in one line"
            )
        lines[found.name] = number
        classes.append(found)
    if len(classes) < 2:
        raise UserError(f"{where} has {len(classes)} classes: a classifier needs 2 or more")
    return tuple(classes)


def _class_of(line: str, at: str) -> WordClass:
    named, colon, texts = line.partition(":")
    name = named.strip()
    if not name:
        raise UserError(f"{at}: there is no name before the colon: write name: prompt; prompt")
    if not name.isprintable():
        raise UserError(f"{at}: the name {checked_json.shown(name)} has unprintable characters")
    if not colon:
        return WordClass(name, (name,))
    prompts = tuple(prompt.strip() for prompt in texts.split(";"))
    if "" in prompts:
        empty = prompts.index("") + 1
        raise UserError(
            f"{at}: prompt {empty} of {name!r} is empty: write name: prompt; prompt, or the name "
            "alone"
        )
    return WordClass(name, prompts)


def words_model(
    source: str, classes: Sequence[WordClass], *, frames: int | None = None
) -> WordsModel:
    """The model that tells ``classes`` apart, of a CLIP or SigLIP with both of its towers.

    Args:
        source: ``hf:OWNER/NAME[@REVISION]`` or ``hf:/folder``.
        classes: as ``read_classes`` gives them.
        frames: of a clip; 8 where not given.

    Raises:
        UserError: another kind of model, or one that can't be had; a prompt that is too long.
    """
    try:
        from vidray.models.networks.transformers_video import build_transformers
    except ImportError:
        raise UserError("words need the extra: pip install 'vidray[transformers]'") from None

    found = hub.find(source)
    theirs = hub.config_of(found)
    text_config = transformers_config.text_from_theirs(theirs, where=f"{found.name}: {hub.CONFIG}")
    seen = hub.network_config(found)
    assert isinstance(seen, (transformers_config.Clip, transformers_config.Siglip))  # It has texts.
    config = dataclasses.replace(seen, pooling="projection")
    state = hub.state_dict(found)
    prompts = [prompt for one in classes for prompt in one.prompts]
    texts = embed_texts(found, text_config, config, state, prompts)
    built = build_transformers(
        config, len(classes), frames=frames, state=_tower(state), source=str(found)
    )
    _fill(built.head, texts, classes, state)
    network = {
        "name": found.name,
        "num_classes": len(classes),
        "frames": frames or config.frames,
        "size_px": config.image_size,
        "config": config.as_json(),
    }
    loaded = f"{built.loaded}, of {len(texts)} texts"
    return WordsModel(
        built=dataclasses.replace(built, loaded=loaded, source=found.origin),
        network=network,
        class_names=tuple(one.name for one in classes),
        prompts={one.name: one.prompts for one in classes},
        found=found,
    )


def _tower(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without those of a classifier, whose classes are not these."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}


def _fill(
    head: Any, texts: Tensor, classes: Sequence[WordClass], state: Mapping[str, Tensor]
) -> None:
    """Make ``head`` give the mean score of each class's texts, ``float (n, D)``."""
    import torch

    of_class = texts.split([len(one.prompts) for one in classes])
    # Not normalised again: the mean of the scores is the score of the mean.
    means = torch.stack([embeddings.mean(dim=0) for embeddings in of_class])
    with torch.no_grad():
        head.weight.copy_(means * state["logit_scale"].float().exp())
        bias = state.get("logit_bias")
        head.bias.fill_(0.0 if bias is None else float(bias))


def embed_texts(
    found: hub.HubModel,
    text_config: transformers_config.ClipText | transformers_config.SiglipText,
    config: transformers_config.Clip | transformers_config.Siglip,
    state: Mapping[str, Tensor],
    texts: Sequence[str],
) -> Tensor:
    """The normalised embeddings of texts, ``float32 (n, D)``.

    Args:
        found: where the tokenizer is.
        text_config: of the text tower.
        config: of the vision tower, whose space it is.
        state: weights of both.
        texts: n of them.

    Raises:
        UserError: there is no tokenizer, or the tower lacks weights; a text is too long.
    """
    import torch
    from torch.nn import functional

    from vidray.models.networks.transformers_text import text_tower

    tower = text_tower(text_config, config, state, source=found.name)
    tokens = _tokens(found, text_config, texts)
    embeddings = torch.empty(len(texts), 0)
    with torch.no_grad():
        for rows in _batches(tokens):
            ids = torch.tensor([tokens[row] for row in rows])
            here = functional.normalize(tower(ids), dim=-1)
            if not embeddings.shape[1]:
                embeddings = torch.empty(len(texts), here.shape[1])
            embeddings[rows] = here
    return embeddings


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Rows of texts of one length: none is padded, which would change CLIP's last digits."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    for _, same in itertools.groupby(order, key=lambda row: len(tokens[row])):
        rows = list(same)
        yield from (rows[k : k + _BATCH] for k in range(0, len(rows), _BATCH))


def _tokens(
    found: hub.HubModel,
    config: transformers_config.ClipText | transformers_config.SiglipText,
    texts: Sequence[str],
) -> list[list[int]]:
    """The numbers of each text's tokens, as the tower takes them."""
    tokenizer = _tokenizer(found)
    most = config.max_position_embeddings
    tokens: list[list[int]] = [list(tokenizer(text)["input_ids"]) for text in texts]
    for text, own in zip(texts, tokens, strict=True):
        if len(own) > most:
            raise UserError(
                f"the prompt {checked_json.shown(text)} has {len(own)} tokens, and "
                f"{found.name} reads {most}: shorten it"
            )
        if own and max(own) >= config.vocab_size:
            raise UserError(f"the tokenizer of {found.name} is of another model: it has more words")
    if isinstance(config, transformers_config.SiglipText):  # It was trained on texts of one length.
        padded = [
            tokenizer(text, padding="max_length", max_length=most)["input_ids"] for text in texts
        ]
        return [list(own) for own in padded]
    return tokens


def _tokenizer(found: hub.HubModel) -> Any:
    import transformers

    if storage.is_bucket(found.folder):
        raise UserError(
            f"{found.name} is in a bucket: copy it to a local folder, for its tokenizer"
        )
    named = hub.read_json(found, "tokenizer_config.json").get("tokenizer_class")
    if named not in _TOKENIZERS:
        raise UserError(
            f"{found.name} has the tokenizer {checked_json.shown(named)}: one of "
            f"{', '.join(_TOKENIZERS)}"
        )
    # Without one it would make an empty tokenizer.
    if not hub.check_files(found, ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model")):
        raise UserError(f"{found.name} has no tokenizer.json: get the model with its tokenizer")
    try:
        kind = getattr(transformers, _TOKENIZERS[named])
        return kind.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    except ImportError as error:  # SigLIP's first one needs sentencepiece and protobuf.
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"the tokenizer {named} of {found.name} needs more packages ({said}): pip install "
            "sentencepiece protobuf"
        ) from None
    except Exception as error:  # noqa: BLE001  A parser of another's files raises nearly anything.
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"the tokenizer of {found.name} cannot be read ({type(error).__name__}: {said}): get "
            "the model again"
        ) from None
