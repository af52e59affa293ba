"""Answers on disk: whole lines count, torn ones do not, and those about something else are thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.errors import OutputError
from shoestring.runs.answer_log import ANSWERS, AnswerLog
from shoestring.runs.record import PREDICTIONS
from shoestring.runs.run import run

SHORT = {"kind": "mezo", "steps": 2, "batch_size": 4, "eval_every": 2, "lr": 1e-3}
ABOUT = {"run": "1", "step": 3}


def written(folder: Path, *answers: tuple[str, str, list[float] | str]) -> Path:
    path = folder / ANSWERS
    with AnswerLog(path, ABOUT) as log:
        for answer in answers:
            log.add(*answer)
    return path


def test_answers_are_there_again_with_every_digit(tmp_path: Path) -> None:
    path = written(tmp_path, ("dev", "a", [0.1, -2.5e-8]), ("test", "a", 'a "text"\nof two lines'))
    with AnswerLog(path, ABOUT) as log:
        assert log.known("dev") == {"a": [0.1, -2.5e-8]}
        assert log.known("test") == {"a": 'a "text"\nof two lines'}
        assert log.known("train") == {}


def test_a_torn_last_line_is_dropped_and_the_next_answer_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, ("dev", "a", [1.0]), ("dev", "b", [2.0]))
    path.write_text(path.read_text()[:-4])
    with AnswerLog(path, ABOUT) as log:
        assert log.known("dev") == {"a": [1.0]}
        log.add("dev", "b", [3.0])
    with AnswerLog(path, ABOUT) as log:
        assert log.known("dev") == {"a": [1.0], "b": [3.0]}


@pytest.mark.parametrize("content", ["", "nonsense", '{"run": "2"}\n["dev", "a", [1.0]]\n', "\xff"])
def test_what_is_about_something_else_is_thrown_away(content: str, tmp_path: Path) -> None:
    path = tmp_path / ANSWERS
    path.write_text(content, encoding="latin-1")
    with AnswerLog(path, ABOUT) as log:
        assert log.known("dev") == {}
    assert path.read_text().count("\n") == 1


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        AnswerLog(tmp_path / "nowhere" / ANSWERS, ABOUT).__enter__()


@pytest.mark.parametrize("method", [{"kind": "zero-shot"}, SHORT], ids=["zero-shot", "mezo"])
def test_a_killed_prediction_goes_on_where_it_stopped(
    method: dict[str, Any],
    tiny_masked_folder: Path,
    tiny_original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method=method)
    whole = run(tiny.config(tiny_masked_folder, tiny_original, tmp_path / "whole", method=method))
    written = 0
    add = AnswerLog.add

    def killed(self: AnswerLog, split: str, uid: str, answer: list[float] | str) -> None:
        nonlocal written
        if written == 9:
            raise KeyboardInterrupt
        written += 1
        add(self, split, uid, answer)

    with monkeypatch.context() as patch:
        patch.setattr(AnswerLog, "add", killed)
        with pytest.raises(KeyboardInterrupt) as caught:
            run(config)
    from_where = "what is computed already" if method["kind"] == "zero-shot" else "the last checkpoint"
    assert caught.value.__notes__ == [f"the same command goes on from {from_where}"]
    assert (config.folder / ANSWERS).read_text().count("\n") == 10

    def counted(self: AnswerLog, *given: Any) -> None:
        nonlocal written
        written += 1
        add(self, *given)

    monkeypatch.setattr(AnswerLog, "add", counted)
    again = run(config)
    lines = (config.folder / PREDICTIONS).read_text().splitlines()
    assert written == len(lines)  # No answer was made twice.
    for name, metrics in whole.metrics.items():
        assert again.metrics[name] == pytest.approx(metrics)
    assert not (config.folder / ANSWERS).exists()
