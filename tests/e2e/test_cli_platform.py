"""What operators ask from the command line, without a model."""

from PIL import Image

from packshot.imaging.pixels import encode_png
from packshot.imaging.recipe import with_recipe


def test_verify_tells_a_foreign_file_from_one_of_another_workspace(shell, tmp_path):
    png = encode_png(Image.new("RGB", (8, 8), (200, 30, 20)))
    (tmp_path / "foreign.png").write_bytes(png)
    (tmp_path / "other.png").write_bytes(with_recipe(png, {"prompt": "an apple", "seed": 7}))
    told = shell("verify", tmp_path / "foreign.png", code=1)
    assert "foreign.png: foreign; it holds no recipe of Packshot" in told.out
    told = shell("verify", tmp_path / "other.png", code=1)
    assert "other.png: elsewhere" in told.out
    assert "seed: 7" in told.out
    assert "trainedAlgorithmicMedia" in told.out
    assert shell("verify", tmp_path / "other.png", "--json", code=1).json["recipe_whole"]
    assert "cannot read" in shell("verify", tmp_path / "missing.png", code=2).err
