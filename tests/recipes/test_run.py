"""A recipe's training run that is stopped goes on where it was."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"


@pytest.fixture
def signals() -> Iterator[None]:
    """A run takes over the signals of its process; they come back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_run_resumes_weights_moments_averages_and_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    from training.run import Run, new_ema

    def start(seed: int):
        torch.manual_seed(seed)
        module = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
        ema = new_ema({"layer": module})
        run = Run(tmp_path / "run", checkpoint_minutes=1e6)
        return run, module, optimizer, ema, run.resume({"layer": module}, optimizer, ema)

    run, module, optimizer, ema, resumed = start(0)
    assert not resumed
    for _ in range(3):
        module(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
        run.advance({"loss": 1.0})
    run.extra["note"] = 7
    run.save()

    again, other, other_optimizer, other_ema, resumed = start(1)
    assert resumed
    assert (again.step, again.extra, again.spent_s) == (3, {"note": 7}, run.spent_s)
    for ours, theirs in ((other.state_dict(), module.state_dict()), (other_ema, ema)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(other_optimizer.state_dict()["state"], optimizer.state_dict()["state"], rtol=0, atol=0)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_is_over_leaves_signals_to_whoever_had_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    from training.run import Run

    came: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    run = Run(tmp_path / "run", checkpoint_minutes=1e6)
    run.limit(minutes=None, steps=2)
    if stopped:
        signal.raise_signal(signal.SIGTERM)
        assert not came
    while run.going():
        run.advance({"loss": 1.0})
    assert (run.step, run.interrupted) == ((0, True) if stopped else (2, False))
    signal.raise_signal(signal.SIGTERM)
    assert came == [signal.SIGTERM]


@pytest.mark.usefixtures("signals")
def test_an_interrupted_training_ends_the_program_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    from training.learning import learn

    class Objective:
        def __init__(self, stop: bool) -> None:
            self.modules, self.stop, self.calls = {"layer": torch.nn.Linear(3, 2)}, stop, 0

        def loss(self, _: object) -> torch.Tensor:
            self.calls += 1
            if self.stop and self.calls == 2:
                signal.raise_signal(signal.SIGTERM)
            return self.modules["layer"](torch.ones(4, 3)).square().mean()

    with pytest.raises(SystemExit, match="interrupted at step 2"):
        learn(Objective(stop=True), tmp_path, 1e-2, 0, minutes=1e6, steps=5)
    rest = Objective(stop=False)
    learn(rest, tmp_path, 1e-2, 0, minutes=1e6, steps=5)
    assert rest.calls == 3
