"""The trained token: a word of its own while it is in use, and nothing before, beside and after."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import PHRASE, QUICK, TOKEN, Studio, base_state, loaded, png, save_pipeline, silent, task, train
from safetensors.torch import load, load_file, save_file

from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method
from packshot.ports import TrainingExample

LONG = "an apple " * 40
TABLE = "embeddings.token_embedding.weight"


def rows_of(studio: Studio) -> torch.Tensor:
    with studio.bases.borrow(studio.base) as base:
        return base.initial_rows("apple", 0, 1)["text_encoder"]


@pytest.mark.parametrize("noun", ["apple", "beef tomato", "q", "Ä ö"])
def test_a_new_token_starts_near_the_mean_of_its_class_nouns_pieces(noun: str, studio: Studio) -> None:
    from transformers import CLIPTokenizer

    table = load_file(studio.folder / "text_encoder" / "model.safetensors")[TABLE]
    pieces = CLIPTokenizer.from_pretrained(studio.folder / "tokenizer")(noun, add_special_tokens=False).input_ids
    with studio.bases.borrow(studio.base) as base:
        row, again, other = (base.initial_rows(noun, seed, 1)["text_encoder"] for seed in (0, 0, 1))
    assert torch.equal(row, again)
    assert not torch.equal(row, other)
    assert (row[0] - table[pieces].mean(0)).std().item() == pytest.approx(0.2 * table.std().item(), rel=0.6)


def test_a_class_noun_of_several_words_is_trained(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    photos = (TrainingExample(image=png(0), caption="a beef tomato on grass", mask=None),)
    of = replace(task(studio, tmp_path, photos=photos, cachedir=cachedir), class_noun="beef tomato")
    assert len(train(studio, of).metrics) == QUICK.steps


@pytest.mark.parametrize("method", list(Method))
def test_a_caption_that_cuts_the_token_off_is_trained_and_resumed(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Then no gradient reaches the token, and the optimiser has no state for it."""
    photos = (TrainingExample(image=png(0), caption="on grass and grass and grass with an apple", mask=None),)
    config = replace(QUICK, method=method, train_text_encoder=method is Method.FULL, checkpoint_every_steps=2)
    of = task(studio, tmp_path / "run", config=config, photos=photos, cachedir=cachedir)
    weights = train(studio, of).files["weights.safetensors"]
    assert torch.equal(load(weights)["token.text_encoder"], rows_of(studio))
    assert train(studio, of).files["weights.safetensors"] == weights  # goes on from the last checkpoint


def test_a_prompt_that_cuts_the_token_off_is_generated(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, cachedir=cachedir)
    tuned = loaded(studio, of, train(studio, of).files["weights.safetensors"])
    sampling = SamplingSettings(inference_steps=2)
    cut, bare = (
        studio.generator.generate(studio.base, tuned, [prompt], sampling, report=silent)
        for prompt in (LONG + PHRASE, LONG)
    )
    assert cut == bare


@pytest.mark.parametrize("weight_decay", [0.0, 1.0])
@pytest.mark.parametrize("method", [Method.PIVOTAL, Method.FULL])
def test_the_token_never_decays(
    method: Method, weight_decay: float, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Without a rate nothing but decay could move it; with one, decay must not change its first step."""
    text = method is Method.FULL
    config = replace(QUICK, steps=1, method=method, train_text_encoder=text, weight_decay=weight_decay)
    plain, decayed = (
        load(train(studio, task(studio, tmp_path / name, config=each, cachedir=cachedir)).files["weights.safetensors"])
        for name, each in (("plain", replace(config, weight_decay=0.0)), ("decayed", config))
    )
    assert torch.equal(plain["token.text_encoder"], decayed["token.text_encoder"])
    moved = [name for name in plain if not torch.equal(plain[name], decayed[name])]
    assert bool(moved) is (weight_decay > 0)


def test_the_token_is_a_word_of_its_own_in_a_table_with_spare_rows(tmp_path: Path) -> None:
    """Some bases pad their vocabulary: the new token's id then lies inside the table."""
    folder = save_pipeline(tmp_path / "base")
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    tensors[TABLE] = torch.cat([tensors[TABLE], torch.zeros(7, tensors[TABLE].shape[1])])
    save_file(tensors, weights, metadata={"format": "pt"})
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": len(tensors[TABLE])}))
    studio = Studio(folder)
    before = base_state(studio)
    of = task(studio, tmp_path / "run", config=replace(QUICK, steps=1, prior_weight=0.0))
    row = load(train(studio, of).files["weights.safetensors"])["token.text_encoder"]
    assert base_state(studio) == before
    with studio.bases.borrow(studio.base) as base:
        bare = base.encode_prompts([TOKEN, "an apple"])["hidden_states"]
        with base.with_token(TOKEN, {"text_encoder": row}):
            with_row = base.encode_prompts([TOKEN, "an apple"])["hidden_states"]
    assert not torch.equal(with_row[0], bare[0])
    assert torch.equal(with_row[1], bare[1])


@pytest.mark.parametrize("method", [Method.PIVOTAL, Method.FULL])
def test_the_token_learns_at_its_own_rate(method: Method, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    text = method is Method.FULL
    still = replace(QUICK, steps=1, method=method, train_text_encoder=text, learning_rate=0.0, token_learning_rate=0.0)
    configs = {"still": still, "token": replace(still, token_learning_rate=1e-2)}
    before, after = (
        load(train(studio, task(studio, tmp_path / name, config=each, cachedir=cachedir)).files["weights.safetensors"])
        for name, each in configs.items()
    )
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["token.text_encoder"]
