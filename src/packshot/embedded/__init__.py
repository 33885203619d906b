"""The bundled base model, judge and sample catalog: data, and where it lies. Knows no model library."""

from pathlib import Path

_ROOT = Path(__file__).parent

BASE_FOLDER = _ROOT / "weights" / "base"
JUDGE_EMBEDDER_FOLDER = _ROOT / "weights" / "judge" / "embedder"
JUDGE_CLIP_FOLDER = _ROOT / "weights" / "judge" / "clip"
CATALOG_FOLDER = _ROOT / "catalog"
