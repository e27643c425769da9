"""The callback in real training with Lightning."""

import pytest
import torch

pytest.importorskip("torchmetrics")
pytest.importorskip("lightning")
import lightning.pytorch as L
from torch.utils.data import DataLoader

from qfm_iqm.integrations.lightning import QualityCallback
from qfm_iqm.scoring.scorer import Scorer


class Generator(L.LightningModule):
    """Makes images of one learned color, darker after each epoch."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.9))

    def training_step(self, batch, _):
        return self.level * batch.mean()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Seen(L.Callback):
    """What was logged after each validation."""

    def __init__(self):
        self.values, self.calls = [], []

    def on_validation_end(self, trainer, _):
        self.values.append(dict(trainer.callback_metrics))


def generate(module):
    assert not module.training
    assert not torch.is_grad_enabled()
    noise = torch.rand(4, 3, 60, 64, generator=torch.Generator().manual_seed(0))
    return noise.to(module.device) * module.level.clamp(0, 1)


def train(tmp_path, callback, epochs=3):
    seen = Seen()
    trainer = L.Trainer(
        max_epochs=epochs, callbacks=[callback, seen], default_root_dir=tmp_path, logger=False,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=1,
    )  # fmt: skip
    loader = DataLoader(torch.ones(2, 1))
    module = Generator()
    trainer.fit(module, loader, loader)
    return seen.values[1:]  # without the sanity check


def test_the_mean_score_of_what_is_generated_is_logged(tmp_path, tiny_model_folder):
    callback = QualityCallback(generate, model=str(tiny_model_folder))
    values = train(tmp_path, callback)
    assert len(values) == 3
    module = Generator().eval()
    for epoch, logged in enumerate(values, 1):
        with torch.no_grad():
            module.level.copy_(torch.tensor(0.9 - 0.1 * 2 * epoch))
            images = generate(module)
        mean = Scorer(str(tiny_model_folder)).score_batch(images).mean().item()
        assert logged["quality"].item() == pytest.approx(mean, abs=1e-3)
    assert len({round(logged["quality"].item(), 3) for logged in values}) == 3


def test_some_epochs_are_passed_over(tmp_path, tiny_model_folder):
    calls = []

    def counted(module):
        calls.append(1)
        return generate(module)

    callback = QualityCallback(counted, model=str(tiny_model_folder), name="fine", every=2)
    values = train(tmp_path, callback, epochs=3)
    assert len(calls) == 2
    assert "fine" in values[0]
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        QualityCallback(generate, every=0)
