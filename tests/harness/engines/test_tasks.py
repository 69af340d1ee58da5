"""What is done about tasks whose process is lost, and what a worker takes over from its command."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.harness.command.overrides import check_names
from assay.harness.core.progress import console, say
from assay.harness.engines.tasks import Answer, Engine, LostError, carried_out, engine
from assay.harness.engines.worker import _listening, perform, portable, taken_over


class Losing(Engine):
    """Loses the process of task t so often as `losses` says."""

    workers, tries = 2, 3

    def __init__(self, losses: Mapping[str, int]):
        self.losses, self.asked = Counter(losses), list[str]()

    def __exit__(self, *raised: object) -> None:
        pass

    def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
        for number, task in list(tasks.items()):
            self.asked.append(task)
            self.losses[task] -= 1
            lost = self.losses[task] >= 0
            yield number, Answer(error=LostError("killed")) if lost else Answer(work(task), lines=[f"did {task}"])


def test_a_lost_task_is_given_out_again_and_then_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    losing = Losing({"b": 2, "c": 3})
    found = dict(carried_out(losing, str.upper, ["a", "b", "c"]))
    assert {i: answer for i, answer in found.items() if i < 2} == {0: "A", 1: "B"}
    assert isinstance(found[2], LostError)
    assert losing.asked == ["a", "b", "c", "b", "c", "b", "c"]


def test_what_a_task_raises_is_raised() -> None:
    class Refusing(Losing):
        def carry_out(self, work: Callable[[Any], Any], tasks: Mapping[int, Any]) -> Iterator[tuple[int, Answer]]:
            yield 0, Answer(error=OSError("the disk is full"))

    with pytest.raises(OSError, match="the disk is full"):
        list(carried_out(Refusing({}), str.upper, ["a"]))


class ForeignError(Exception):
    """Cannot be made again from its text."""

    def __init__(self, one: int, other: int):
        super().__init__(f"{one} and {other}")


def test_an_exception_of_elsewhere_comes_across_by_its_text() -> None:
    assert str(portable(ValueError("a"))) == "a"
    told = portable(ForeignError(1, 2))
    assert (type(told), str(told)) == (RuntimeError, "ForeignError: 1 and 2")


def test_lines_are_kept_for_the_command() -> None:
    with _listening() as said:
        say("one")
        say("two [b]")
        assert not console.is_terminal
    assert said == ["one", "two [b]"]


def test_the_local_engine_takes_threads_as_they_are_told(tmp_path: Path) -> None:
    before, variables = torch.get_num_threads(), dict(os.environ)
    try:
        with engine({"name": "local", "threads": None}, tmp_path):
            assert torch.get_num_threads() == before
        with engine({"name": "local", "threads": 2}, tmp_path) as local:
            assert torch.get_num_threads() == 2
            assert list(carried_out(local, len, ["abc"])) == [(0, 3)]
    finally:
        torch.set_num_threads(before)
        os.environ.clear()
        os.environ.update(variables)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"name": "threads"}, "unknown engine 'threads'"),
        ({"name": "processes", "worker": 2}, "unknown option of engine processes: 'worker'; did you mean workers"),
        ({"name": "processes", "workers": 0}, "engine processes: workers=0 must be a whole number, at least 1 or null"),
        ({"name": "slurm", "executor": "elsewhere"}, "engine slurm: executor='elsewhere' must be slurm or local"),
    ],
)
def test_wrong_settings_are_one_line(setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((LookupError, ValueError)) as error:
        engine(setting, tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine=process"], "unknown engine 'process'; did you mean processes?"),
        (
            ["engine=processes", "engine.worker=3"],
            "unknown option of engine processes: 'worker'; did you mean workers?",
        ),
        (["engine.workers=3"], "unknown option of engine local: 'workers'"),
    ],
)
def test_wrong_overrides_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(LookupError) as error:
        check_names(overrides, "evaluate")
    assert message in str(error.value)


def test_an_engine_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.harness.engines.tasks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"engine=ray needs the package ray: pip install 'assay\[ray\]'"):
        engine({"name": "ray"}, tmp_path)


def test_a_worker_takes_over_what_the_command_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_STORE", "/somewhere")
    monkeypatch.setenv("OTHER", "not for workers")
    found = taken_over(3, tmp_path / "logs")
    assert ("ASSAY_STORE", "/somewhere") in found.environment
    assert "OTHER" not in dict(found.environment)
    assert (found.folder, found.threads) == (os.getcwd(), 3)


def test_a_pool_outlives_its_workers(tmp_path: Path) -> None:
    """Process 1 kills itself; the other goes on, and what it was at is known."""
    with engine({"name": "processes", "workers": 2, "threads": 1}, tmp_path) as pool:
        found = dict(pool.carry_out(os._exit, {7: 3}))
        assert isinstance(found[7].error, LostError)
        assert "EXIT(3)" in str(found[7].error)
        after = dict(pool.carry_out(abs, {1: -1, 2: -2, 3: -3}))
    assert {number: answer.value for number, answer in after.items()} == {1: 1, 2: 2, 3: 3}
    assert perform.__module__ == "assay.harness.engines.worker"
