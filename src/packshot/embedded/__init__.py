"""The bundled base model, judge and sample catalog: data, and where it lies. Knows no model library."""

from pathlib import Path

_ROOT = Path(__file__).parent

WEIGHTS_FOLDER = _ROOT / "weights"
CATALOG_FOLDER = _ROOT / "catalog"
