import torch

from qfm_iqm.model.folder import load_model
from qfm_iqm.training import selection
from qfm_iqm.training.trainer import Trainer


def test_the_epoch_is_selected_on_validation_and_test_is_scored_once(
    make_recipe, tmp_path, monkeypatch
):
    scored, states = [], []
    figures = iter([0.2, 0.7, 0.7, 0.4])
    real = selection.evaluate_model

    def evaluate_model(model, table, root, **options):
        evaluation, rows = real(model, table, root, **options)
        scored.append(table.names)
        states.append({k: v.clone() for k, v in model.network.state_dict().items()})
        if len(scored) <= 4:
            srcc = next(figures)
            for row in evaluation.rows:
                if (row.subset, row.metric) == ("whole", "srcc"):
                    object.__setattr__(row, "value", srcc)
        return evaluation, rows

    monkeypatch.setattr(selection, "evaluate_model", evaluate_model)
    run = Trainer(make_recipe(train__epochs=4, train__crops_per_image=1), tmp_path / "run")
    run.run()
    split = run.data.split
    assert [set(names) for names in scored] == [set(split.validation)] * 4 + [set(split.test)]
    # The second epoch was the best, the first of two equal ones; its weights are tested.
    assert run.selection.best == {"epoch": 1, "srcc": 0.7}
    assert load_model(tmp_path / "run" / "model").card.training["best_epoch"] == 2
    for key, value in states[1].items():
        assert torch.equal(value, states[4][key])
    assert any(not torch.equal(value, states[3][key]) for key, value in states[1].items())
    for name in ("best", "model"):
        saved = load_model(tmp_path / "run" / name).network.state_dict()
        assert all(torch.equal(saved[key], value) for key, value in states[1].items())
