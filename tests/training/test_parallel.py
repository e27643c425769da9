"""Two processes, as started by `torchrun`: one run, one set of files, one output."""

import csv
import json
import socket

from qfm_iqm.model.folder import load_model

# The process forks and is the first of two; the second writes its output into its own files.
TWO = """
import atexit
second = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if second else "1"
if second:
    atexit.register(lambda: print("status", os.waitpid(second, 0)[1], file=sys.stderr))
else:
    for stream, name in ((1, "second_out"), (2, "second_err")):
        os.dup2(os.open(f"{job['folder']}/{name}", os.O_WRONLY | os.O_CREAT), stream)
"""


def test_a_run_in_two_processes(recipe_content, write_recipe, unlabeled_folder, tmp_path, forked):
    content = recipe_content(
        method__kind="qfm", train__epochs=1, train__crops_per_image=2, train__device="auto"
    )
    content["distillation"] = {"unlabeled": str(unlabeled_folder)}
    recipe = write_recipe(content, tmp_path / "recipe.toml")
    out = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo"}
    run = forked.start("train", recipe, "--out", out, before=TWO, environment=environment)
    code, figures, said = run.wait()
    assert code == 0, said
    assert said.endswith("status 0\n")
    assert "srcc" in figures
    assert "Best epoch by validation: 1" in said
    assert (run.folder / "second_out").read_text() == ""
    assert "epoch" not in (run.folder / "second_err").read_text()
    steps = [
        line
        for line in map(json.loads, (out / "log.jsonl").read_text().splitlines())
        if line["kind"] == "step"
    ]
    # 24 images, two crops each, in batches of eight for each of two processes.
    assert steps[-1]["step"] == 3
    model = load_model(out / "model")
    with (out / "test.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert model.card.training["best_epoch"] == 1
    assert len((out / "expansion.csv").read_text().splitlines()) == 22
    assert load_model(out / "teachers" / "baseline" / "model").card.name.endswith("-teacher")
