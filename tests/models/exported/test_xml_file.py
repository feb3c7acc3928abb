"""OpenVINO's XML is looked at before OpenVINO reads it."""

import random
from pathlib import Path

import pytest

from tests.models.exported.tiny_graphs import write
from vidray.errors import UserError
from vidray.models.exported import xml_file


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """The text of a graph, and the bytes of its weights."""
    folder = write(tmp_path_factory.mktemp("graph"), "openvino")
    return (folder / "network.xml").read_text(), (folder / "network.bin").stat().st_size


def _check(text: str | bytes, weights_bytes: int) -> None:
    data = text.encode() if isinstance(text, str) else text
    xml_file.check(memoryview(data), weights_bytes=weights_bytes)


def test_what_openvino_writes_passes(graph: tuple[str, int]) -> None:
    _check(*graph)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('<?xml version="1.0"?>', '<!DOCTYPE net SYSTEM "file:///etc/passwd">', "document type"),
        (
            '<?xml version="1.0"?>',
            '<!DOCTYPE n [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
            "document type or entities",
        ),
        ('<?xml version="1.0"?>', "<?php echo 1 ?>", "instructions"),
        (
            '<?xml version="1.0"?>',
            '<?xml version="1.0" encoding="ISO-8859-1"?>',
            "'ISO-8859-1', not in UTF-8",
        ),
        ('type="Convert" version="opset1"', 'type="Evil" version="extension"', "'extension', not"),
        ('type="Convert" version="opset1"', 'type="Evil" version="opset1"', "'Evil' is not one"),
        ('type="Convert" version="opset1"', 'type="Loop" version="opset5"', "'Loop' is not one"),
        ('type="Convert" version="opset1"', 'type="ReadValue" version="opset6"', "'ReadValue'"),
        ("<layers>", "<layers><body></body>", "element 'body' within 'layers'"),
        ("<edges>", "<rt_info></rt_info><edges>", "element 'rt_info' within 'net'"),
        (' offset="0"', ' offset="999999"', "beyond the end"),
        (' offset="0"', ' offset="-1"', "does not say where"),
        (' offset="0"', ' offset="0" path="/etc/passwd"', "'path', which is not known"),
        (' offset="0"', "", "does not say where"),
        ('element_type="i64"', 'element_type="string"', "type that is not known"),
        ("</net>", "", "damaged"),
        ("<layers>", "<layers", "damaged"),
    ],
)
def test_what_no_export_writes_is_refused(
    graph: tuple[str, int], old: str, new: str, said: str
) -> None:
    text, weights_bytes = graph
    assert old in text
    with pytest.raises(UserError, match=said) as error:
        _check(text.replace(old, new, 1), weights_bytes)
    assert "\n" not in str(error.value)


def test_wide_characters_are_refused_which_openvino_would_read_as_others(
    graph: tuple[str, int],
) -> None:
    text, weights_bytes = graph
    wide = text.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-16"?>')
    with pytest.raises(UserError):
        _check(wide.encode("utf-16"), weights_bytes)
    with pytest.raises(UserError):  # Without a word about it.
        _check(text.replace('<?xml version="1.0"?>', "").encode("utf-16"), weights_bytes)


def test_very_many_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_file, "_MOST_ELEMENTS", 100)
    with pytest.raises(UserError, match="more parts"):
        _check("<net><layers>" + "<layer type='Add' version='opset1'/>" * 200, 0)


def test_damage_is_one_line(graph: tuple[str, int]) -> None:
    rng = random.Random(0)
    whole, said = graph[0].encode(), []
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            _check(bytes(data), graph[1])
        except UserError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in line for line in said)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\x00" * 100, b"<a/>", b'{"a": 1}'):
        with pytest.raises(UserError):
            _check(data, 0)
