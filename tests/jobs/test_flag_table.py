"""A flag means the same in every command, and docs/flags.md says what."""

from tests.command_lines import ROOT
from tests.flag_table import Flag, by_flag, page

# Flags whose meaning or values differ between commands, and why that is right.
_MEANINGS = {
    "--model": "jobs/train.py makes the model of a name; evaluate and label take its folder",
    "--out": "a report is one file, with its data beside it; a plan is printed, too",
}
_VALUES = {
    "--data": "a search of both kinds of models learns from two runs",
    "--precision": "float16 needs a loss that is scaled, as in training on a GPU",
}


def _differ(attribute: str, but: dict[str, str]) -> dict[str, dict[str, str]]:
    """Flag -> command -> its value, of flags that have several."""
    found = {}
    for name, own in by_flag().items():
        values = {command: str(getattr(flag, attribute)) for command, flag in own.items()}
        if len(set(values.values())) > 1 and name not in but:
            found[name] = values
    return found


def test_a_flag_means_one_thing_in_all_commands() -> None:
    """The first sentence of its help, word for word; what follows may be of the one command."""
    assert _differ("meaning", _MEANINGS) == {}


def test_a_flag_takes_the_same_values_in_all_commands() -> None:
    assert _differ("takes", _VALUES) == {}


def test_no_reason_is_given_where_flags_agree() -> None:
    flags = by_flag()

    def values(name: str, attribute: str) -> set[str]:
        return {getattr(flag, attribute) for flag in flags[name].values()}

    assert all(len(values(name, "meaning")) > 1 for name in _MEANINGS)
    assert all(len(values(name, "takes")) > 1 for name in _VALUES)


def test_every_flag_says_what_it_means() -> None:
    def says(flag: Flag) -> bool:
        return len(flag.meaning.split()) > 2

    silent = {
        (name, c) for name, own in by_flag().items() for c, flag in own.items() if not says(flag)
    }
    assert silent == set()


def test_the_page_is_as_the_command_lines_are() -> None:
    told = "python -m tests.flag_table > docs/flags.md"
    assert (ROOT / "docs" / "flags.md").read_text() == page(), f"make it anew: {told}"
