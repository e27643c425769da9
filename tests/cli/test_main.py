import os
import subprocess
import sys
from importlib import metadata

import pytest

VERBS = (
    "score", "explain", "report", "gate", "serve", "train", "evaluate", "compare", "calibrate",
    "export", "info", "data", "bench",
)  # fmt: skip
GROUPS = {
    "data": ("list", "check", "export", "split"),
    "bench": ("folds", "curve", "ablate", "cross", "diagnose"),
}
GONE = ("finish", "second-opinion", "pack", "average", "card", "benchmark", "pseudo-label")


def test_help_names_every_verb(qfm):
    for flag in ("--help", "-h"):
        answer = qfm(flag)
        assert answer.code == 0
        for verb in VERBS:
            assert verb in answer.out


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_its_verbs(qfm, group):
    answer = qfm(group, "--help")
    assert answer.code == 0
    assert all(verb in answer.out for verb in GROUPS[group])


@pytest.mark.parametrize(
    "verb", [*((v,) for v in VERBS), *((g, v) for g in GROUPS for v in GROUPS[g])]
)
def test_every_verb_explains_itself(qfm, verb):
    answer = qfm(*verb, "--help")
    assert answer.code == 0
    assert "--" in answer.out


@pytest.mark.parametrize("verb", GONE)
def test_what_is_no_verb_is_refused(qfm, verb):
    answer = qfm(verb)
    assert answer.code == 2
    assert answer.err.startswith(f"qfm: There is no verb '{verb}'")


def test_version(qfm):
    assert qfm("--version").out == f"qfm-iqm {metadata.version('qfm-iqm')}\n"


def test_a_mistake_is_one_sentence(qfm, tmp_path):
    answer = qfm("score", tmp_path, "--model", tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == f"qfm: There is no image in {tmp_path}.\n"


def test_a_defect_shows_where_it_is_and_is_code_2(qfm, tmp_path, monkeypatch):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("qfm_iqm.scoring.inputs.find_images", broken)
    for verb in (["gate", "--min", "1"], ["score"]):
        answer = qfm(*verb, tmp_path)
        assert answer.code == 2  # 1 would mean that images are not good enough, or not scored
        assert "Traceback" in answer.err
        assert "ZeroDivisionError: inside" in answer.err


def test_the_installed_command_and_the_module_are_one(start):
    process = start("--version")
    out, _ = process.communicate(timeout=60)
    module = subprocess.run(
        [sys.executable, "-m", "qfm_iqm", "--version"], capture_output=True, timeout=60
    )
    assert process.returncode == module.returncode == 0
    assert out == module.stdout


SHOWING = {
    "--help": ["--help"],
    "--version": ["--version"],
    "score": ["score", "PHOTO"],
    "gate": ["gate", "PHOTO", "--min", "-1000"],
    "info": ["info"],
    "data": ["data", "list"],
    "split": ["data", "split", "LABELS", "--leaks", "skip", "--folds", "1", "--out", "FOLDS"],
    "compare": ["compare", "SCORES", "OTHERS", "--labels", "LABELS"],
    "evaluate": ["evaluate", "LABELS", "--scores", "SCORES"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, photo_folder):
    """Arguments of verbs that print results."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [f"photo_{number:02d}.jpg,{number}" for number in range(12)]
    for name in ("scores", "others"):
        (folder / f"{name}.csv").write_text("\n".join(["name,score", *rows, ""]))
    (folder / "labels.csv").write_text("\n".join(["name,mos", *rows, ""]))
    return {
        "PHOTO": photo_folder / "photo_05.png",
        "SCORES": folder / "scores.csv",
        "OTHERS": folder / "others.csv",
        "LABELS": folder / "labels.csv",
        "FOLDS": folder / "folds",
    }


def arguments_of(verb, inputs):
    return [inputs.get(argument, argument) for argument in SHOWING[verb]]


@pytest.mark.parametrize("verb", SHOWING)
def test_a_reader_that_leaves_ends_the_program_quietly(start, inputs, verb):
    ends = os.pipe()
    os.close(ends[0])
    process = start(*arguments_of(verb, inputs), stdout=ends[1])
    os.close(ends[1])
    _, errors = process.communicate(timeout=300)
    # The gate shows its result on stderr, which is open.
    assert process.returncode == (0 if verb == "gate" else 141), errors
    assert b"Traceback" not in errors
    assert b"Error" not in errors


@pytest.mark.parametrize(
    ("verb", "closed"), [("score", (0,)), ("score", (2,)), ("data", (0, 2)), ("gate", (0, 1, 2))]
)
def test_closed_streams_are_done_without(start, inputs, verb, closed):
    def close():
        for number in closed:
            os.close(number)

    process = start(*arguments_of(verb, inputs), preexec_fn=close)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert (out == b"") == (verb == "gate")
    assert b"Traceback" not in out + errors


@pytest.mark.parametrize("verb", ["score", "data", "--help"])
def test_rows_that_a_closed_stdout_would_lose_are_a_failure(start, inputs, verb):
    process = start(*arguments_of(verb, inputs), preexec_fn=lambda: os.close(1))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors == b"qfm: The output cannot be written: stdout is closed.\n"


def test_no_file_takes_the_place_of_a_closed_stream(start, inputs, tmp_path):
    """An error that is meant for the terminal does not get into the table."""
    table, missing = tmp_path / "scores.csv", tmp_path / "missing.png"
    close = lambda: [os.close(number) for number in (0, 1, 2)]  # noqa: E731
    command = ["score", inputs["PHOTO"], missing, "--out", table]
    process = start(*command, preexec_fn=close)
    process.communicate(timeout=300)
    assert process.returncode == 1
    lines = table.read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("path,")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")  # noqa: PTH110
@pytest.mark.parametrize("verb", ["score", "--help"])
def test_output_that_finds_no_room_is_a_sentence(start, inputs, verb):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = start(*arguments_of(verb, inputs), stdout=full)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    said = errors.decode().splitlines()[-1]
    assert said == "qfm: The output cannot be written: No space left on device."
    assert b"Traceback" not in errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")  # noqa: PTH110
@pytest.mark.parametrize(
    ("arguments", "code"), [(["--min", "-1000"], 0), (["--min", "1000"], 1), (["--mim", "1"], 2)]
)
def test_messages_that_find_no_room_do_not_change_the_exit_code(start, inputs, arguments, code):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = start("gate", inputs["PHOTO"], *arguments, stderr=full)
    process.communicate(timeout=300)
    assert process.returncode == code


def test_a_removed_current_folder_is_a_sentence(start, inputs, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    process = start(
        "score", inputs["PHOTO"], "--out", "scores.csv", cwd=folder, preexec_fn=folder.rmdir
    )
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors == b"qfm: The current folder was removed: change to another one.\n"


@pytest.mark.parametrize("verb", ["gate", "score", "explain"])
def test_names_cannot_write_lines_of_their_own(start, inputs, tmp_path, verb):
    photo = tmp_path / "a\n::error::\x1b[31m.png"
    photo.write_bytes(inputs["PHOTO"].read_bytes())
    options = {"gate": ["--min", "1000"], "score": ["--out", tmp_path / "a\nb.csv"]}
    arguments = options.get(verb, ["--out", tmp_path / "map.png"])
    out, errors = start(verb, photo, *arguments).communicate(timeout=300)
    assert b"a\\n" in out + errors
    assert not any(line.startswith((b"::error", b"b.csv")) for line in (out + errors).splitlines())
    assert b"\x1b" not in out + errors
