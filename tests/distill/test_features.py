"""FeatureDistillation, against slow obvious NumPy: pooling, standardising, and the loss."""

import numpy as np
import pytest
import torch

from qfm_iqm.distill.features import FeatureDistillation, TeacherTokens, grid_of, standardise
from qfm_iqm.errors import TableError

draw = np.random.default_rng(4)


def stored(path, tokens):
    path.write_bytes(tokens.astype("<f2").tobytes())
    rows, number, width = tokens.shape
    return TeacherTokens(path, tokens=number, width=width, rows=rows)


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_tokens_are_averaged_over_the_cells_of_a_grid(side):
    tokens = draw.normal(size=(2, 1 + 36, 5))
    cell = 6 // side
    expected = np.zeros((2, side * side, 5))
    for b in range(2):
        for row in range(6):
            for column in range(6):
                place = (row // cell) * side + column // cell
                expected[b, place] += tokens[b, 1 + row * 6 + column] / cell**2
    torch.testing.assert_close(grid_of(torch.tensor(tokens), side), torch.tensor(expected))


@pytest.mark.parametrize(("number", "side"), [(36, 4), (36, 7), (35, 5), (1, 2)])
def test_a_grid_that_does_not_fit_is_refused(number, side):
    with pytest.raises(TableError, match=f"{number} tokens cannot be averaged"):
        grid_of(torch.zeros(1, 1 + number, 3), side)


def test_tables_of_one_teacher_are_standardised_together(tmp_path):
    parts = [draw.normal(3, 2, (7, 4, 6)), draw.normal(-1, 5, (12, 4, 6))]
    parts = [part.astype(np.float16) for part in parts]
    tables = [stored(tmp_path / str(i), part) for i, part in enumerate(parts)]
    standardise(tables)
    whole = np.concatenate([part.reshape(-1, 6) for part in parts]).astype(np.float64)
    mean, std = whole.mean(0), whole.std(0, ddof=1)
    for table, part in zip(tables, parts, strict=True):
        for row in range(len(part)):
            expected = (part[row].astype(np.float64) - mean) / std
            np.testing.assert_allclose(table.get(row).numpy(), expected, atol=1e-4)
            mirrored = expected.reshape(2, 2, 6)[:, ::-1].reshape(4, 6)
            np.testing.assert_allclose(table.get(row, flip=True).numpy(), mirrored, atol=1e-4)


def test_a_constant_channel_gives_finite_numbers(tmp_path):
    table = stored(tmp_path / "t", np.ones((3, 4, 2)))
    standardise([table])
    assert table.get(1).abs().max() < 1e-3


def test_tables_of_other_shapes_are_refused(tmp_path):
    tables = [stored(tmp_path / str(n), np.zeros((2, n, 3))) for n in (1, 4)]
    with pytest.raises(TableError, match="different teachers or grids"):
        standardise(tables)


def test_the_loss_is_that_of_the_crops_with_hints():
    torch.manual_seed(2)
    loss_of = FeatureDistillation(5, 3).double()
    tokens = torch.randn(4, 1 + 2, 5, dtype=torch.float64, requires_grad=True)
    wanted = 3 * torch.randn(4, 2, 3, dtype=torch.float64)
    wanted[1] = torch.nan
    weight, bias = (p.detach().numpy() for p in loss_of.project.parameters())
    errors = []
    for b in (0, 2, 3):
        for n in range(2):
            guess = weight @ tokens[b, 1 + n].detach().numpy() + bias
            for error in np.abs(guess - wanted[b, n].numpy()):
                errors.append(error**2 / 2 if error < 1 else error - 0.5)
    loss = loss_of(tokens, wanted)
    assert loss.item() == pytest.approx(np.mean(errors))
    loss.backward()
    assert tokens.grad[:, 0].abs().max() == 0  # the class token has no target
    assert tokens.grad[1].abs().max() == 0  # nor has a crop without tokens
    assert tokens.grad[0, 1:].abs().min() > 0
    assert tokens.grad.isfinite().all()


def test_without_any_hint_there_is_no_loss():
    loss_of = FeatureDistillation(5, 3)
    loss = loss_of(torch.randn(2, 3, 5), torch.full((2, 2, 3), torch.nan))
    assert loss.item() == 0
