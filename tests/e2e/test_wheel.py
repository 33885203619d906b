"""A wheel holds every file of the package, the catalogs and the bundled weights too, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEIGHTS = "packshot/embedded/weights/base/unet/diffusion_pytorch_model.safetensors"


def test_the_wheel_holds_the_catalogs_and_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    project = tmp_path / "project"
    shutil.copytree(ROOT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(ROOT / name, project / name)
    if not (project / "src" / WEIGHTS).exists():
        (project / "src" / WEIGHTS).parent.mkdir(parents=True)
        (project / "src" / WEIGHTS).write_bytes(b"weights")
    program = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=project, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        whole = {name: archive.getinfo(name).file_size for name in packed}
    files = {path.relative_to(project / "src").as_posix(): path for path in project.glob("src/**/*") if path.is_file()}
    assert whole == {name: path.stat().st_size for name, path in files.items()}
    assert WEIGHTS in packed
    assert "packshot/embedded/catalog/produce/apple/honeycrisp/00_mask.png" in packed
    assert "packshot/embedded/catalog-bad/apple/metadata.jsonl" in packed
