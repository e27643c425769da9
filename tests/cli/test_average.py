import torch

from qfm_iqm.model.folder import load_model, save_model


def test_two_folders_become_one(qfm, build_model, photo_folder, tmp_path):
    one, two = build_model(), build_model()
    with torch.no_grad():
        for weight in two.network.parameters():
            weight *= 1.1
    for name, model in (("one", one), ("two", two)):
        save_model(model, tmp_path / name)
    answer = qfm("average", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "mean")
    assert answer.code == 0, answer.err
    assert "The mean of 2 models" in answer.out
    found = load_model(tmp_path / "mean")
    sources = [load_model(tmp_path / name).card.weights_sha256 for name in ("one", "two")]
    assert found.card.training["average_of"] == sources
    for weight, own in zip(found.network.parameters(), one.network.parameters(), strict=True):
        torch.testing.assert_close(weight, 1.05 * own)
    assert qfm("score", photo_folder, "--model", tmp_path / "mean").code == 0


def test_what_cannot_be_averaged_is_said(qfm, build_model, tiny_model_folder, tmp_path):
    save_model(build_model(seed=7), tmp_path / "other")
    answer = qfm("average", tiny_model_folder, tmp_path / "other", "--out", tmp_path / "mean")
    assert answer.code == 2
    assert answer.err.startswith("qfm: ")
    assert "not trained on from the same weights" in answer.err
    assert not (tmp_path / "mean").exists()
