"""The clock of a predictor, without Ray: it runs while a question is in hand."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
import ray

from vidray.distributed import predictors
from vidray.distributed.predictors import Predict
from vidray.distributed.sandbox import Ask

QUESTION = pa.RecordBatch.from_pydict({"seconds": [0.1]})


def sleeping(_: Mapping[str, Any]) -> Ask:
    """Answers after so many seconds as it is asked for, or refuses."""

    def answer(question: pa.RecordBatch) -> pa.RecordBatch:
        seconds = question["seconds"][0].as_py()
        if seconds < 0:
            raise ValueError(seconds)
        time.sleep(seconds)
        return question

    return answer


@pytest.fixture
def predict() -> Predict:
    return Predict(f"{__name__}:sleeping", {})


def test_the_clock_stands_while_nobody_asks(predict: Predict) -> None:
    time.sleep(0.05)
    assert predict.busy_seconds() == 0
    assert predict.answer(QUESTION) is QUESTION
    time.sleep(0.05)
    busy = predict.busy_seconds()
    assert busy >= 0.1
    predict.answer(QUESTION)
    assert predict.busy_seconds() >= busy + 0.1


def test_questions_at_once_count_once(predict: Predict) -> None:
    began = time.monotonic()
    asking = [threading.Thread(target=predict.answer, args=(QUESTION,)) for _ in range(8)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert 0.1 <= predict.busy_seconds() <= time.monotonic() - began


def test_the_clock_stops_at_an_error(predict: Predict) -> None:
    with pytest.raises(ValueError, match="-1"):
        predict.answer(pa.RecordBatch.from_pydict({"seconds": [-1.0]}))
    stopped = predict.busy_seconds()
    time.sleep(0.02)
    assert predict.busy_seconds() == stopped


def test_where_there_are_none_ray_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ray.get`` of nothing would start it."""
    monkeypatch.setattr(ray, "get", None)
    assert predictors.busy_seconds(()) is None
