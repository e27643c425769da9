"""Crops against their single steps; tokens that survive a kill."""

import numpy as np
import pytest
import torch
from PIL import Image

from confounded.tokens import Sheet, TokenStore, crops_of, pooled
from qfm_iqm.image.distortions import distort
from qfm_iqm.model.backbone import build_encoder


def store(folder, seed=0, **changes):
    torch.manual_seed(seed)
    encoder = build_encoder("test_vit", crop=32)
    return TokenStore(folder, encoder, **({"side": 40, "crop": 32, "grid": 1} | changes))


def test_crops_are_the_degraded_square_made_smaller(set_root):
    path = set_root / "photo1.png"
    with Image.open(path) as image:
        square = np.asarray(image)[:, 2:42]
    crops = crops_of(Sheet(path, "jpeg", (30, 5)), side=40, crop=32)
    assert crops.shape == (2, 3, 32, 32)
    for crop, quality in zip(crops, (30, 5), strict=True):
        expected = Image.fromarray(distort(square, "jpeg", quality))
        expected = np.asarray(expected.resize((32, 32), Image.Resampling.BICUBIC)) / 255
        assert np.allclose(crop.permute(1, 2, 0).numpy(), expected, atol=0.006)
    noisy = Sheet(path, "white noise", (0.01,))
    assert torch.equal(crops_of(noisy, side=40, crop=32), crops_of(noisy, side=40, crop=32))
    other = noisy._replace(path=set_root / "photo3.png")
    assert not torch.equal(crops_of(noisy, side=40, crop=32), crops_of(other, side=40, crop=32))


def test_denoising_is_the_filter_of_the_registered_runs(tmp_path):
    clean = np.zeros((80, 80, 3), np.uint8)
    clean[:, :40], clean[:, 40:] = 60, 190
    noisy = distort(clean, "white noise", 0.003, 1)
    Image.fromarray(noisy).save(tmp_path / "noisy.png")
    sheet = Sheet(tmp_path / "noisy.png", "denoise", (0.055,))
    (found,) = (255 * crops_of(sheet, side=80, crop=80)).permute(0, 2, 3, 1).numpy()
    assert found[:, 5:30].std() < 0.5 * noisy[:, 5:30].std()
    assert found[:, 42].mean() - found[:, 37].mean() > 115


def test_tokens_are_averaged_over_a_coarser_grid():
    tokens = torch.arange(1 + 16.0)[None, :, None].repeat(1, 1, 2)
    found = pooled(tokens, 2)
    patches = tokens[0, 1:, 0].reshape(4, 4)
    expected = [patches[i : i + 2, j : j + 2].mean() for i in (0, 2) for j in (0, 2)]
    assert found[0, :, 0].tolist() == [0.0, *expected]
    assert pooled(tokens, 4) is tokens


def test_a_killed_computation_goes_on(set_root, tmp_path):
    sheets = [Sheet(set_root / f"photo{n}.png", "jpeg", (30, 5)) for n in range(10)]
    sheets.append(Sheet(set_root / "photo0.png"))
    partly = store(tmp_path)
    filling = partly.fill(sheets)
    next(filling)
    filling.close()
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")}
    assert 0 < len(files) < len(sheets)
    again = store(tmp_path)
    assert len(list(again.fill(sheets))) == len(sheets) - len(files)
    assert list(again.fill(sheets)) == []
    assert {file: file.stat().st_mtime_ns for file in files} == files
    tokens = again.load(sheets)
    assert tokens.shape == (21, 2, 64)
    assert tokens.dtype == torch.float16
    with torch.inference_mode():
        crops = crops_of(sheets[3], side=40, crop=32)
        expected = pooled(again.encoder(crops), 1)
    assert torch.allclose(tokens[6:8].float(), expected, atol=5e-3)
    # Another backbone, grid or photo size finds no tokens.
    for other in (store(tmp_path, seed=1), store(tmp_path, grid=2), store(tmp_path, side=38)):
        with pytest.raises(FileNotFoundError):
            other.load(sheets[:1])
