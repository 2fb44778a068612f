"""The report on tokenizers, from checkpoints under their published names to a table and a picture."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from generation import tile_checkpoint, weights
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import TokenizerConfig
from generation.tile_tokenizer import TileTokenizer
from generation.tokenizer import CNNConfig, KLTokenizer, VARTokenizer, VQTokenizer
from generation.tokenizer_report import (
    draw,
    load_tokenizer,
    main,
    read_image,
    reconstructing,
    report,
    table,
)


def made(kind):
    torch.manual_seed(0)
    if kind == "var":
        return VARTokenizer(32, 64, 8), weights.VAR_TOKENIZER
    if kind == "llamagen":
        return VQTokenizer(64, 8, CNNConfig(32, latent=64)), weights.LLAMAGEN_TOKENIZER
    return KLTokenizer(4, CNNConfig(32)), weights.KL_TOKENIZER


@pytest.mark.parametrize("kind", ["var", "llamagen", "kl"])
@pytest.mark.parametrize("wrapped", ["model", "state_dict", None])
def test_published_files_say_what_they_are(tmp_path, kind, wrapped):
    tokenizer, layout = made(kind)
    state = weights.save(tokenizer, layout)
    if wrapped is None:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "a.safetensors")
        loaded = load_tokenizer(tmp_path / "a.safetensors")
    else:
        torch.save({wrapped: state | {"loss.logvar": torch.zeros(1)}}, tmp_path / "a.pt")
        loaded = load_tokenizer(tmp_path / "a.pt")
    assert type(loaded) is type(tokenizer)
    own = loaded.state_dict()
    assert all((own[key] == tensor).all() for key, tensor in tokenizer.state_dict().items())


@pytest.mark.parametrize("kind", ["llamagen", "kl"])
def test_a_reconstruction_is_an_image_of_the_same_size(kind):
    image = np.random.default_rng(0).random((64, 64, 3), np.float32)
    copy = reconstructing(made(kind)[0].eval())(image)
    assert copy.shape == image.shape and copy.dtype == np.float32
    assert copy.min() >= 0 and copy.max() <= 1


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "wide.jpg"
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, 30:90] = (200, 100, 50)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def test_the_middle_square_of_an_image_is_read(photo):
    square = read_image(photo, 32)
    assert square.shape == (32, 32, 3)
    np.testing.assert_allclose(square.mean((0, 1)) * 255, (200, 100, 50), atol=3)


def test_what_is_not_lost_is_reported_as_kept(photo, tmp_path):
    found = report({"first": read_image(photo, 64), "second": read_image(photo, 64)}, lambda image: image)
    assert [figures["SSIM"] for figures in found.figures] == [pytest.approx(1)] * 2
    assert set(found.legibility.values()) == {1.0}
    console = Console(record=True, width=120)
    console.print(table(found))
    text = console.export_text()
    assert "second" in text and "mean" in text and "inf" in text and "1.000" in text
    draw(found, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width > 800


def test_the_command_reports_and_draws(photo, tmp_path):
    tokenizer, layout = made("llamagen")
    torch.save({"model": weights.save(tokenizer, layout)}, tmp_path / "vq.pt")
    command = ["-m", "generation.tokenizer_report", photo, "--checkpoint", tmp_path / "vq.pt"]
    command += ["--px", "64", "--out", tmp_path / "report.png"]
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "wide.jpg" in result.stdout and "letters told apart" in result.stdout
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_what_is_wrong_is_said_in_one_line(photo, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    for name, message in (("text.pt", "no checkpoint"), ("other.pt", "encoder.conv_in"), ("gone.pt", "read")):
        with pytest.raises(ValueError, match=message) as error:
            load_tokenizer(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    for name, message in (("text.pt", "no image"), ("gone.jpg", "read")):
        with pytest.raises(ValueError, match=message):
            read_image(tmp_path / name, 32)
    for px in (256, 100):
        with pytest.raises(typer.Exit):
            main([photo], tmp_path / "text.pt", px=px)
        message = capsys.readouterr().err
        assert ("text.pt" in message) == (px == 256) and "Traceback" not in message


def test_a_folder_of_tiles_own_is_read(tmp_path, photo, capsys):
    config = TokenizerConfig(px=32, patch=2, channels=32, n_codes=16, sides=(1, 4, 8))
    config_of_folder = CheckpointConfig(tokenizer=config)
    tile_checkpoint.save(
        TileTokenizer(config), config_of_folder, tmp_path / "t", card="", dtype=torch.float32
    )
    main([photo], tmp_path / "t", tmp_path / "report.png", 32)
    assert "letters told apart" in capsys.readouterr().out and (tmp_path / "report.png").exists()
    with pytest.raises(typer.Exit):
        main([photo], tmp_path / "t", tmp_path / "report.png", 64)
    assert "takes 32 only" in capsys.readouterr().err
