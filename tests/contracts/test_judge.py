"""What every implementation of Judge must do; run on tiny random models and on the fake of the service tests."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_judges
from fake_models import ColourJudge
from PIL import Image

from packshot.domain.evaluation import cosine
from packshot.judging.transformers_judge import TransformersJudge
from packshot.ports import Judge


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


class JudgeContract:
    @pytest.fixture
    def judge(self, tmp_path: Path) -> Any:
        raise NotImplementedError

    def test_embeddings_are_unit_vectors_of_one_length(self, judge: Judge) -> None:
        embeddings = judge.embed([png(0), png(1, (30, 50)), png(2)], [None] * 3)
        assert len(embeddings) == 3
        assert len({len(each) for each in embeddings}) == 1
        assert all(isinstance(each, tuple) and type(each[0]) is float for each in embeddings)
        assert all(math.isclose(cosine(each, each), 1, rel_tol=1e-6) for each in embeddings)

    def test_one_picture_has_one_embedding_in_any_company(self, judge: Judge) -> None:
        alone = judge.embed([png(0)], [None])[0]
        among = judge.embed([png(seed) for seed in range(40)] + [png(0)], [None] * 41)
        assert cosine(among[0], alone) == pytest.approx(1, abs=1e-5)
        assert cosine(among[-1], alone) == pytest.approx(1, abs=1e-5)
        assert cosine(among[1], alone) < 1 - 1e-6

    def test_adherence_is_a_cosine_for_each_picture(self, judge: Judge) -> None:
        scores = judge.adherence([png(seed) for seed in range(3)], ["an apple", "a pear on wood", "apple " * 200])
        assert len(scores) == 3
        assert all(type(score) is float and -1 <= score <= 1 for score in scores)

    def test_nothing_gives_nothing(self, judge: Judge) -> None:
        assert judge.embed([], []) == []
        assert judge.adherence([], []) == []

    def test_a_judge_has_a_digest(self, judge: Judge) -> None:
        assert judge.digest
        assert judge.digest == judge.digest


class TestColourJudge(JudgeContract):
    @pytest.fixture
    def judge(self, tmp_path: Path) -> ColourJudge:
        return ColourJudge()


class TestTransformersJudge(JudgeContract):
    @pytest.fixture
    def judge(self, tmp_path: Path) -> TransformersJudge:
        return TransformersJudge(tiny_judges.vit(tmp_path / "vit"), tiny_judges.clip(tmp_path / "clip"))
