"""A usage error gives one sentence: what is wrong, what was probably meant, where help is."""

import pytest

MISTAKES = [
    ("fly", "There is no verb 'fly'", "qfm"),
    ("scor photo.jpg", "There is no verb 'scor' (did you mean 'score'?)", "qfm"),
    ("data lst", "There is no verb 'lst' (did you mean 'list'?)", "qfm data"),
    ("--fly", "There is no option '--fly'", "qfm"),
    ("data --fly list", "There is no option '--fly'", "qfm data"),
    ("score photo.jpg --otu t.csv", "There is no option '--otu' (did you mean '--out'?)",
     "qfm score"),
    ("score photo.jpg -x", "There is no option '-x'", "qfm score"),
    ("score photo.jpg --out", "'--out' requires an argument", "qfm score"),
    ("score photo.jpg --resume=3", "'--resume' does not take a value", "qfm score"),
    ("score photo.jpg --engine horse", "--engine: 'horse' ", "qfm score"),
    ("score photo.jpg --batch-size 0", "--batch-size: ", "qfm score"),
    ("score photo.jpg --readers many", "--readers: 'many' ", "qfm score"),
    ("serve --port 70000", "--port: ", "qfm serve"),
    ("data split table.csv -o x --leaks all", "--leaks: 'all' ", "qfm data split"),
    ("evaluate", "LABELS is missing", "qfm evaluate"),
    ("bench folds", "RECIPE is missing", "qfm bench folds"),
    ("gate --min 50", "PATHS is missing", "qfm gate"),
    ("report scores.csv", "--out is missing", "qfm report"),
    ("explain a.jpg b.jpg -o map.png", "unexpected extra argument", "qfm explain"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "problem", "verb"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_it_is_one_sentence(qfm, line, problem, verb):
    answer = qfm(*line.split())
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("qfm: ")
    assert problem in answer.err
    assert answer.err.endswith(f": see {verb} --help.\n")
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "call", [["score", "--two\nlines"], ["info", "-m", "two\nlines"], ["data", "two\nlines"]]
)
def test_a_name_with_a_line_end_makes_no_second_line(qfm, call):
    (line,) = qfm(*call).err.splitlines()
    assert "two\\nlines'" in line


def test_control_codes_of_a_name_do_not_reach_the_terminal(qfm):
    assert "'\\x1b[31mred'" in qfm("info", "-m", "\x1b[31mred").err


@pytest.mark.parametrize("group", [[], ["data"], ["bench"]])
def test_without_a_verb_help_is_shown(qfm, group):
    answer = qfm(*group)
    assert "Usage: " in answer.out + answer.err
    assert "qfm: " not in answer.err


def test_an_amount_of_memory(qfm, tmp_path):
    answer = qfm("score", tmp_path, "--max-memory", "much")
    assert answer.code == 2
    assert answer.err == "qfm: --max-memory takes an amount like 2GB or 800MB, not 'much'.\n"
