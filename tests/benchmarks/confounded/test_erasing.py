"""No linear function of erased tokens separates clusters at equal quality; quality remains."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from confounded.erasing import Erased, residual

M, N, D = 400, 3, 6


def drawn(seed):
    """Tokens whose first channel is the cluster's, second the label's; both go together."""
    draw = np.random.default_rng(seed)
    clusters = draw.integers(0, 2, M)
    labels = np.where(draw.random(M) < 0.9, clusters, 1 - clusters) + 0.1 * draw.normal(size=M)
    tokens = draw.normal(size=(M, 1 + N, D))
    tokens[..., 0] += 3 * clusters[:, None]
    tokens[..., 1] += 3 * labels[:, None]
    tokens[..., 2] += clusters[:, None] + labels[:, None]
    return (torch.from_numpy(x).float() for x in (tokens, clusters, labels))


class Given(torch.nn.Module):
    """An encoder that knows the tokens of its rows."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def forward(self, rows):
        return self.tokens[torch.from_numpy(rows)]


def explained(tokens, values):
    """R^2 of a linear regression on tokens."""
    rows = np.c_[tokens.double().numpy(), np.ones(len(tokens))]
    values = values.double().numpy()
    off = values - rows @ np.linalg.lstsq(rows, values, rcond=1e-4)[0]
    return 1 - off.var() / values.var()


@given(seed=st.integers(0, 1000))
def test_no_line_tells_the_clusters_and_quality_stays(seed):
    tokens, clusters, labels = drawn(seed)
    rows = np.arange(M)
    after = Erased(Given(tokens), D, rows, clusters, labels)(rows)
    unexplained = residual(clusters.double(), labels.double())
    for place in range(1 + N):
        assert explained(tokens[:, place], unexplained) > 0.2
        assert explained(after[:, place], labels) > 0.6
    assert explained(after[:, 0], unexplained) < 0.001
    # Patches share one erased direction, so only all of them together tell nothing.
    assert explained(after[:, 1:].flatten(0, 1), unexplained.repeat_interleave(N)) < 0.001


def test_what_the_label_explains_is_not_erased():
    clusters = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)
    assert residual(clusters, clusters * 5 + 1).abs().max() < 1e-12
    rest = residual(clusters, torch.tensor([0.0, 1, 0, 1], dtype=torch.float64))
    assert torch.equal(rest, torch.tensor([-0.5, -0.5, 0.5, 0.5], dtype=torch.float64))
