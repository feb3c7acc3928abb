"""The answers that a threshold is chosen from, as a file, and what they show at all."""

from pathlib import Path

import pytest

from vidray.errors import UserError
from vidray.models import two_stages
from vidray.models.deferral import fewest_videos
from vidray.models.two_stages import ValAnswers


def answers(number: int, *, wrong: int = 0) -> ValAnswers:
    """The surest ``wrong`` answers of the cheap model are wrong, and none of the dear one."""
    return ValAnswers(
        cheap="a" * 12,
        dear="b" * 12,
        confidence=tuple(round(1 - k / number, 9) for k in range(number)),
        cheap_right=(False,) * wrong + (True,) * (number - wrong),
        dear_right=(True,) * number,
        groups=(None,) * number,
    )


def test_the_file_and_back(tmp_path: Path) -> None:
    answers(5).write(str(tmp_path))
    assert two_stages.read(str(tmp_path)) == answers(5)


@pytest.mark.parametrize("number", [20, 60, 300])
def test_the_least_that_can_be_allowed(number: int) -> None:
    kept = answers(number)
    least = kept.least_allowed
    assert kept.threshold(least).value is not None
    assert kept.threshold(least - 0.001).value is None
    assert fewest_videos(least) <= number < fewest_videos(least - 0.001)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(5).write(str(tmp_path))
    monkeypatch.setattr(two_stages, "_MOST_BYTES", 10)
    with pytest.raises(UserError, match="hold a million videos'"):
        two_stages.read(str(tmp_path))
