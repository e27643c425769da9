"""An option without effect in a call is refused with one sentence, and nothing is done."""

import pytest


@pytest.fixture
def files(tmp_path, photo_folder, tiny_model_folder, official_trees):
    """The paths in calls, by words in capitals."""
    names = sorted(path.name for path in photo_folder.iterdir())
    for name, column in (("labels", "mos"), ("scores", "score"), ("others", "score")):
        rows = [f"{image},{number}" for number, image in enumerate(names)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"name,{column}", *rows, ""]))
        paths = [f"{photo_folder / image},{number}" for number, image in enumerate(names)]
        (tmp_path / f"{name}_paths.csv").write_text("\n".join(["path,score", *paths, ""]))
    return {
        "PHOTO": photo_folder / "photo_05.png",
        "MODEL": tiny_model_folder,
        "LABELS": tmp_path / "labels.csv",
        "SCORES": tmp_path / "scores.csv",
        "TABLE": tmp_path / "scores_paths.csv",
        "OTHER": tmp_path / "others_paths.csv",
        "OUT": tmp_path / "out",
        "CSV": tmp_path / "out.csv",
        "HTML": tmp_path / "out.html",
        "DATASET": f"livec={official_trees['livec'][0]}",
        "TREE": official_trees["livec"][0],
    }


IDLE = [
    ("score PHOTO --ray-address auto", "--ray-address has no effect without --engine ray"),
    ("score PHOTO --engine ray -o OUT --max-memory 1GB --readers 2",
     "--max-memory and --readers have no effect with --engine ray: leave them out"),
    ("score PHOTO --engine ray -o OUT --report HTML", "--report has no effect with --engine ray"),
    ("score PHOTO --all-files", "--all-files has no effect where no folder is named"),
    ("score PHOTO --include *.png --exclude *.jpg",
     "--include and --exclude have no effect where no folder is named"),
    ("score PHOTO -m MODEL --runtime onnx --compile", "Only torch can compile a network"),
    ("score PHOTO -m MODEL --runtime onnx --device cpu", "Only torch can choose a device"),
    ("gate PHOTO --min 1 --all-files", "--all-files has no effect where no folder is named"),
    ("report TABLE OTHER -o HTML --threshold 4 --maps 3",
     "--threshold and --maps have no effect on two tables"),
    ("report TABLE -o HTML --maps 3", "--maps has no effect if the model that scored is unknown"),
    ("serve --no-token", "--no-token has no effect on 127.0.0.1, which needs no token"),
    ("serve --host 0.0.0.0 --token secret-token --no-token", "--no-token has no effect with"),
    ("evaluate LABELS --scores SCORES -m MODEL --split test",
     "--model and --split have no effect on --scores"),
    ("evaluate LABELS -m MODEL --column x", "--column has no effect without --scores"),
    ("export --to onnx -m MODEL -o OUT --split test --root OUT --label mos",
     "--root and --label and --split have no effect without --table"),
    ("data split LABELS -o OUT --order LABELS", "--order has no effect without --arniqa"),
    ("data split LABELS -o OUT --liqe-prefix a", "--liqe-prefix has no effect without --liqe"),
    ("data split LABELS -o OUT --arniqa OUT --test 0.3", "--test has no effect with --arniqa"),
    ("data split LABELS -o OUT --liqe OUT --validation 0.3", "--validation has no effect with"),
    ("data split livec --root TREE -o OUT --official --folds 3",
     "--folds has no effect with --official"),
    ("bench cross DATASET -m MODEL --label dmos --lower-is-better",
     "--label and --lower-is-better have no effect on named datasets, whose labels are known"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "sentence"), IDLE, ids=[line for line, _ in IDLE])
def test_an_option_without_effect_is_refused(qfm, files, tmp_path, line, sentence):
    before = sorted(tmp_path.iterdir())
    answer = qfm(*(files.get(word, word) for word in line.split()))
    assert answer.code == 2
    assert sentence in answer.err
    assert answer.err.startswith("qfm: ")
    assert len(answer.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
