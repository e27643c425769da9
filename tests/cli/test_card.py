import pytest


def test_the_default_models_card_is_a_page(qfm, tmp_path):
    out = tmp_path / "default.md"
    answer = qfm("card", "default", "--out", out)
    assert answer.code == 0, answer.err
    page = out.read_text("utf-8")
    assert page.startswith("# default\n")
    for heading in ("What a score means", "Accuracy", "Degradation", "Training", "Limits", "Speed"):
        assert f"\n## {heading}\n" in page
    assert "mean over subsets" in page
    assert qfm("card", "default").out == page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone"], "There is no model 'gone'"),
        (["default", "--out", "card.html"], "must end in .md"),
        (["default", "--speed", "gone.csv"], "The results gone.csv cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(qfm, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    answer = qfm("card", *arguments)
    assert answer.code == 2
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
