"""Trial passes: what they count, and that they leave no trace."""

from dataclasses import replace

import pytest
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, Studio, base_state

from packshot.diffusion.methods import METHODS
from packshot.domain.errors import InvalidConfiguration
from packshot.domain.training_choices import Method, OptimizerKind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", list(Method))
def test_a_trial_counts_what_learns_and_leaves_the_base_as_it_was(
    family: str, method: Method, family_studios: dict[str, Studio]
) -> None:
    studio = family_studios[family]
    before = base_state(studio)
    config = quick(family, method=method)
    trial = studio.trainer.try_out(studio.base, config, "apple")
    assert base_state(studio) == before
    with studio.bases.borrow(studio.base) as base:
        rows = base.initial_rows("apple", 0, 1)
        with base.with_token("<t>", rows) as token_rows:
            attachment = METHODS[method].attach(base, token_rows, config)
            learning = sum(each.numel() for each in attachment.parameters.values())
            attachment.detach()
        parameters = sum(each.numel() for each in base.denoiser.parameters())
    assert trial.learning_parameters == learning > 0
    assert trial.base_parameters > parameters
    assert trial.guided_rows == (1 if family == "flux" else 2)
    assert min(trial.activation_bytes, trial.resident_bytes) > 0
    assert min(trial.step_seconds, trial.forward_seconds, trial.encode_seconds, trial.decode_seconds) > 0


def test_what_a_picture_keeps_depends_on_its_size_and_on_checkpointing_and_not_on_the_batch(studio: Studio) -> None:
    def kept(**changes: object) -> int:
        config = replace(QUICK, method=Method.LORA, prior_weight=0.0, **changes)  # type: ignore[arg-type]
        return studio.trainer.try_out(studio.base, config, "apple").activation_bytes

    plain = kept(batch_size=2)
    assert kept(batch_size=4) == pytest.approx(plain, rel=0.1)
    assert kept(batch_size=64) == kept(batch_size=4)
    assert kept(batch_size=2, resolution=32) > 3 * plain
    assert kept(batch_size=2, gradient_checkpointing=True) < 0.8 * plain


def test_what_cannot_be_trained_is_refused(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(InvalidConfiguration, match="prodigy"):
        studio.trainer.try_out(studio.base, replace(QUICK, optimizer=OptimizerKind.PRODIGY), "apple")
