"""Loss and gradients of a training step against a step-by-step computation."""

import copy
import math
import statistics

import numpy as np
import pytest
import torch

from qfm_iqm.method.config import MethodConfig
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.objective import Objective, fidelity_loss

MEAN, STD = 50.0, 8.0


@pytest.fixture(scope="module")
def initial():
    torch.manual_seed(0)
    return QualityNetwork("test_vit", crop=32, label_mean=MEAN, label_std=STD).double()


@pytest.fixture
def network(initial):
    return copy.deepcopy(initial)


def batches(count=3, size=6, contents=4, unlabeled=0):
    """Crops in [0, 1], labels close enough for matches and far enough for fallbacks.

    Of each batch `unlabeled` crops, at changing places, are not rated by people.
    """
    draw = np.random.default_rng(1)
    for _ in range(count):
        yield (
            torch.tensor(draw.random((size, 3, 32, 32))),
            torch.tensor(MEAN + STD * draw.normal(size=size)),
            torch.tensor(draw.permutation(size) % contents),
            torch.tensor(draw.permutation(size) >= unlabeled),
        )


def step(objective, batch, epoch, **options):
    *asked, rated = batch
    return objective(*asked, epoch, supervised_B=rated, **options)


def smooth_l1(pairs):
    """The mean over a list of (prediction, target); None if it is empty."""
    total = 0.0
    for answer, target in pairs:
        gap = (answer - target).abs()
        total = total + (0.5 * gap**2 if gap < 1 else gap - 0.5)
    return total / len(pairs) if pairs else None


def remember(memory, network, batch, config):
    """Appends a batch to a memory that is a list."""
    crops, labels, contents, rated = batch
    for own, label, content, people in zip(
        network.encode(crops).detach(), labels, contents, rated, strict=True
    ):
        if config.noise_from == "both" or (config.noise_from == "supervised") == bool(people):
            y = (label.item() - MEAN) / STD
            memory.append((own.bfloat16().double(), y, content.item()))
    del memory[: -config.memory]


def matched_by_hand(own, y, content, memory, config):
    """The entry that a crop is matched with, or None, and whether it is a fallback."""
    other = [entry for entry in memory if entry[2] != content]
    if not other:
        return None, False
    if config.matching == "semantics":
        sign, qualified = -1, [entry for entry in other if abs(entry[1] - y) >= config.delta]
    else:
        sign, qualified = 1, [entry for entry in other if abs(entry[1] - y) <= config.tau]
    if not qualified:
        return min(other, key=lambda entry: sign * abs(entry[1] - y)), True

    def cosine(entry):
        return sign * torch.cosine_similarity(own[0].detach(), entry[0][0], 0).item()

    return min(qualified, key=cosine), False


def perturbed_by_hand(own, entry, config):
    rows = []
    for n in range(len(own)):
        chosen = {"all": True, "patches": n > 0, "class": n == 0}[config.tokens]
        row = own[n] + config.alpha * entry[0][n] if chosen else own[n]
        if chosen and config.renormalize:
            row = row * (own[n] ** 2).sum().sqrt() / (row**2).sum().sqrt()
        rows.append(row)
    return torch.stack(rows)


def losses_by_hand(network, batch, memory, config, epoch):
    """One step's losses, crop by crop, with the memory as it is after this step's push."""
    crops, labels, contents, rated = batch
    tokens = network.encode(crops)
    quality = (network.decode(tokens) - MEAN) / STD
    target = (labels - MEAN) / STD
    perturbed, fallbacks, unmatched = [], 0, 0
    for own, y, content in zip(tokens, target.tolist(), contents.tolist(), strict=True):
        entry, fallback = matched_by_hand(own, y, content, memory, config)
        fallbacks += fallback
        unmatched += entry is None
        perturbed.append(own if entry is None else perturbed_by_hand(own, entry, config))
    changed = (network.decode(torch.stack(perturbed)) - MEAN) / STD
    since = epoch - config.start_epoch
    share = 0.0 if since < 0 else min(1.0, since)
    parts = {"regression": [], "pseudo": [], "qcc": [], "qcc_unlabeled": []}
    for i, people in enumerate(rated.tolist()):
        towards = {"own": quality[i].detach(), "own_gradient": quality[i], "label": target[i]}
        parts["regression" if people else "pseudo"].append((quality[i], target[i]))
        parts["qcc" if people else "qcc_unlabeled"].append((changed[i], towards[config.target]))
    weights = {
        "regression": 1.0,
        "pseudo": config.w_u * config.w_pl,
        "qcc": config.w_qcc * share,
        "qcc_unlabeled": config.w_u * share,
    }
    means = {name: smooth_l1(pairs) for name, pairs in parts.items() if pairs}
    return {
        "loss": sum(weights[name] * mean for name, mean in means.items()),
        **{name: mean.detach() for name, mean in means.items()},
        "fallback": fallbacks / len(labels),
        "unmatched": unmatched / len(labels),
    }


def by_hand(network, steps, config, epoch):
    """The losses of the last step."""
    memory = []
    for batch in steps:
        remember(memory, network, batch, config)
    return losses_by_hand(network, steps[-1], memory, config, epoch)


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


CASES = [
    ({}, 0.5, 4, 0),
    ({"memory": 4}, 2.0, 4, 0),  # smaller than a batch
    ({"memory": 9, "tau": 0.05}, 1.0, 4, 0),  # wraps around, mostly fallbacks
    ({"tau": 10.0, "alpha": 2.0}, 1.0, 4, 0),
    ({"w_qcc": 3.0}, 0.25, 4, 0),
    ({}, 0.0, 4, 0),
    ({}, 1.0, 1, 0),  # one content: nothing to match
    ({"matching": "semantics"}, 1.0, 4, 0),
    ({"matching": "semantics", "delta": 3.0}, 1.0, 4, 2),  # mostly fallbacks
    ({"matching": "semantics", "delta": 0.1, "memory": 9}, 1.0, 4, 3),
    *(({"target": target, "alpha": 0.5}, 1.0, 4, 2) for target in ("own", "own_gradient", "label")),
    *(
        ({"noise_from": source, "w_pl": 0.3}, 1.0, 4, 2)
        for source in ("supervised", "unlabeled", "both")
    ),
    *(({"tokens": t, "renormalize": r}, 1.0, 4, 2) for t in ("patches", "class") for r in (0, 1)),
    ({"renormalize": True, "alpha": 3.0, "target": "own_gradient"}, 1.0, 4, 0),
    ({"w_u": 0.0, "w_pl": 2.0}, 1.0, 4, 2),
    ({"w_u": 2.0, "w_pl": 0.7, "w_qcc": 0.0}, 1.0, 4, 4),
    ({"start_epoch": 2.0}, 1.9, 4, 2),
    ({"start_epoch": 2.0, "w_pl": 1.0}, 2.25, 4, 2),
    ({"start_epoch": 2.0}, 3.5, 4, 1),
    ({"noise_from": "unlabeled", "memory": 3, "target": "label"}, 7.0, 3, 5),
]


@pytest.mark.parametrize(("options", "epoch", "contents", "unlabeled"), CASES)
def test_loss_and_gradients_are_those_computed_by_hand(
    network, options, epoch, contents, unlabeled
):
    if "renormalize" in options:
        options = options | {"renormalize": bool(options["renormalize"])}
    config = MethodConfig(kind="qfm", **options)
    objective = Objective(network, config)
    steps = list(batches(contents=contents, unlabeled=unlabeled))
    counts = {"matched": 0, "fallbacks": 0.0, "unmatched": 0.0}
    for batch in steps:
        found = step(objective, batch, epoch)
        if "fallback" in found:
            counts["matched"] += len(batch[1])
            counts["fallbacks"] += found["fallback"].item() * len(batch[1])
            counts["unmatched"] += found["unmatched"].item() * len(batch[1])
    assert objective.counts == pytest.approx(counts)
    expected = by_hand(network, steps, config, epoch)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        digits = 1e-6 if key in ("fallback", "unmatched") else 1e-9  # shares are float32
        assert found[key].item() == pytest.approx(
            float(value.detach() if key == "loss" else value), rel=digits, abs=1e-12
        ), key
        assert found[key].requires_grad == (key == "loss")
    if config.target != "label":
        assert (expected["qcc"] > 1e-5) == (contents > 1)
    ours, theirs = gradients(network, found["loss"]), gradients(network, expected["loss"])
    assert ours.keys() == theirs.keys() == dict(network.named_parameters()).keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-7, atol=1e-12, msg=name)


def test_the_cases_above_meet_near_matches_and_fallbacks(network):
    shares = [
        by_hand(network, list(batches()), MethodConfig(kind="qfm", tau=tau), 1.0)["fallback"]
        for tau in (0.05, 0.25, 10.0)
    ]
    assert shares[0] > shares[1] or shares[1] > 0
    assert shares[0] > 0
    assert shares[2] == 0


def test_without_its_weight_qfm_is_the_baseline_bit_for_bit(network):
    found = {}
    for kind in ("baseline", "qfm"):
        objective = Objective(network.float(), MethodConfig(kind=kind, w_qcc=0.0))
        for crops, labels, ids, _ in batches():
            losses = objective(crops.float(), labels.float(), ids, 2.0)
        found[kind] = losses["loss"].item(), gradients(network, losses["loss"])
    assert found["baseline"][0] == found["qfm"][0]
    for name, gradient in found["baseline"][1].items():
        assert torch.equal(gradient, found["qfm"][1][name]), name


def test_with_its_weight_it_is_not(network):
    losses = {}
    for kind in ("baseline", "qfm"):
        objective = Objective(network, MethodConfig(kind=kind))
        losses[kind] = step(objective, next(batches()), 1.0)["loss"].item()
    assert losses["qfm"] > losses["baseline"]


def test_no_perturbation_no_inconsistency(network):
    objective = Objective(network, MethodConfig(kind="qfm", alpha=0.0))
    assert step(objective, next(batches()), 1.0)["qcc"].item() == 0.0


@pytest.mark.parametrize(("kind", "decodings"), [("baseline", 1), ("qfm", 2)])
def test_only_the_decoder_runs_twice(network, kind, decodings):
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    network.encoder.backbone.patch_embed.register_forward_hook(lambda *_: calls.append("pixels"))
    network.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    step(Objective(network, MethodConfig(kind=kind)), next(batches()), 1.0)
    assert calls.count("encoder") == calls.count("pixels") == 1
    assert calls.count("decoder") == decodings


def test_the_ramp_rises_linearly_over_the_first_epoch(network):
    ramp = Objective(network, MethodConfig(kind="qfm")).ramp
    assert [ramp(epoch) for epoch in (0, 0.25, 0.5, 1.0, 7.0)] == [0, 0.25, 0.5, 1.0, 1.0]


def test_the_ramp_begins_at_its_epoch(network):
    ramp = Objective(network, MethodConfig(kind="qfm", start_epoch=3.0)).ramp
    assert [ramp(epoch) for epoch in (0, 2.9, 3.0, 3.5, 4.0, 9.0)] == [0, 0, 0, 0.5, 1.0, 1.0]


def test_the_baseline_keeps_no_memory(network):
    objective = Objective(network, MethodConfig())
    assert objective.memory is None
    assert step(objective, next(batches()), 1.0).keys() == {"loss", "regression"}
    # The saved state contains nothing of the method.
    qfm = Objective(network, MethodConfig(kind="qfm"))
    assert qfm.state_dict().keys() == objective.state_dict().keys()


# Unlabeled crops


def test_crops_without_a_word_about_them_are_rated(network):
    *asked, _ = next(batches())
    config = MethodConfig(kind="qfm", w_pl=1.0)
    found = Objective(network, config)(*asked, 1.0)
    said = Objective(network, config)(*asked, 1.0, supervised_B=torch.ones(6, dtype=torch.bool))
    assert found.keys() == said.keys() == {"loss", "regression", "qcc", "fallback", "unmatched"}
    assert found["loss"].item() == said["loss"].item()


def test_the_baseline_learns_pseudo_labels_by_their_weight(network):
    batch = next(batches(unlabeled=2))
    config = MethodConfig(w_u=0.5, w_pl=3.0)
    found = step(Objective(network, config), batch, 1.0)
    expected = by_hand(network, [batch], config, 1.0)
    assert found.keys() == {"loss", "regression", "pseudo"}
    loss = expected["regression"] + 1.5 * expected["pseudo"]
    assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("kind", ["baseline", "qfm"])
def test_a_batch_of_unlabeled_crops_alone_has_their_terms_alone(network, kind):
    batch = next(batches(unlabeled=6))
    config = MethodConfig(kind=kind, w_pl=0.5)
    found = step(Objective(network, config), batch, 1.0)
    expected = by_hand(network, [batch], config, 1.0)
    if kind == "baseline":
        loss = 0.25 * expected["pseudo"].item()
    else:
        loss = expected["loss"].item()
        assert found.keys() == expected.keys()
    assert found["loss"].item() == pytest.approx(loss, rel=1e-9)


def test_before_anything_is_in_memory_nothing_is_matched(network):
    objective = Objective(network, MethodConfig(kind="qfm", noise_from="unlabeled"))
    rated, mixed = next(batches()), next(batches(unlabeled=2))
    assert step(objective, rated, 1.0).keys() == {"loss", "regression"}
    assert "qcc" in step(objective, mixed, 1.0)
    assert "qcc" in step(objective, rated, 1.0)


@pytest.mark.parametrize("number", [1, 2])
def test_teachers_speak_for_unlabeled_crops_alone_and_do_not_learn(network, number):
    torch.manual_seed(1)
    teachers = [
        QualityNetwork("test_vit", crop=32, label_mean=MEAN, label_std=STD).double().eval()
        for _ in range(number)
    ]
    config = MethodConfig(kind="qfm", w_pl=0.5, target="label")
    objective = Objective(network, config, teachers=teachers)
    crops, labels, contents, rated = batch = next(batches(unlabeled=3))
    scores = [teacher(crops).detach() for teacher in teachers]
    said = torch.where(rated, labels, sum(scores) / number)
    expected = by_hand(network, [(crops, said, contents, rated)], config, 1.0)
    before = labels.clone()
    found = step(objective, batch, 1.0)
    found["loss"].backward()
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-9)
    assert torch.equal(labels, before)
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())
    assert objective.state_dict().keys() == Objective(network, config).state_dict().keys()


@pytest.mark.parametrize("source", ["supervised", "unlabeled", "both"])
def test_the_memory_holds_the_features_asked_for(network, source):
    objective = Objective(network, MethodConfig(kind="qfm", noise_from=source))
    crops, labels, contents, rated = next(batches(unlabeled=2))
    step(objective, (crops, labels, contents, rated), 1.0)
    kept = {"supervised": rated, "unlabeled": ~rated, "both": rated | True}[source]
    memory = objective.memory
    assert torch.equal(memory.contents_M, contents[kept])
    assert torch.equal(memory.labels_M, ((labels[kept] - MEAN) / STD).float())
    assert torch.equal(memory.tokens_MND, network.encode(crops)[kept].detach().bfloat16())


# Random draws, seen in the decoder's second input.


def added(network, config, steps, **options):
    """What the last step added to the tokens, in units of alpha, and the objective."""
    inputs = []
    hook = network.decoder.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    objective = Objective(network, config)
    for batch in steps:
        losses = step(objective, batch, 1.0, **options)
    hook.remove()
    own, perturbed = inputs[-2:]
    return ((perturbed - own) / config.alpha).detach(), objective, losses


def test_the_random_control_adds_entries_of_other_content(network):
    steps = list(batches(count=4))
    met = set()
    for draw in range(20):
        config = MethodConfig(kind="qfm", matching="random")
        noise, objective, losses = added(network, config, steps, draw=draw)
        kept = objective.memory.tokens_MND.double()
        for own_content, row in zip(steps[-1][2].tolist(), noise, strict=True):
            [entry] = [j for j in range(len(kept)) if (row - kept[j]).abs().max() < 1e-9]
            assert objective.memory.contents_M[entry].item() != own_content
            met.add(entry)
        assert losses["fallback"].item() == losses["unmatched"].item() == 0
    assert met == set(range(24))


def test_the_gaussian_control_adds_noise_of_the_norm_that_quality_would_add(network):
    steps = list(batches())
    quality, *_ = added(network, MethodConfig(kind="qfm"), steps)
    noise, *_ = added(network, MethodConfig(kind="qfm", matching="gaussian"), steps)
    for b in range(6):
        for n in range(quality.shape[1]):
            expected = sum(x * x for x in quality[b, n].tolist()) ** 0.5
            found = sum(x * x for x in noise[b, n].tolist()) ** 0.5
            assert found == pytest.approx(expected, rel=1e-5)
    likeness = torch.cosine_similarity(noise.flatten(0, 1), quality.flatten(0, 1), 1)
    assert likeness.abs().max() < 0.6  # 64 channels: five standard deviations


def test_top_k_adds_one_of_the_k_best(network):
    steps = list(batches())
    config = MethodConfig(kind="qfm", tau=10.0)
    best, met = [[] for _ in range(6)], [set() for _ in range(6)]
    memory = []
    for batch in steps:
        remember(memory, network, batch, config)
    tokens, contents = network.encode(steps[-1][0]).detach(), steps[-1][2].tolist()
    for b in range(6):
        other = [j for j in range(18) if memory[j][2] != contents[b]]
        other.sort(key=lambda j: torch.cosine_similarity(tokens[b, 0], memory[j][0][0], 0).item())
        best[b] = set(other[:3])
    for draw in range(30):
        three = config.model_copy(update={"top_k": 3})
        noise, *_ = added(network, three, steps, draw=draw)
        for b in range(6):
            [entry] = [j for j in range(18) if (noise[b] - memory[j][0]).abs().max() < 1e-9]
            met[b].add(entry)
    assert met == best


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ({"matching": "random"}, True),
        ({"matching": "gaussian"}, True),
        ({"matching": "quality", "top_k": 3, "tau": 10.0}, True),
        ({"matching": "semantics", "top_k": 3, "delta": 0.01}, True),
        ({"matching": "quality"}, False),
        ({"matching": "semantics"}, False),
    ],
)
def test_the_same_draw_gives_the_same_and_another_another(network, options, drawn):
    steps = list(batches())
    config = MethodConfig(kind="qfm", **options)
    first, again, other = (added(network, config, steps, draw=draw) for draw in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert first[2]["loss"].item() == again[2]["loss"].item()
    assert torch.equal(first[0], other[0]) != drawn
    # It neither affects nor depends on the process's random state.
    state = torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(added(network, config, steps, draw=5)[0], first[0])
    torch.set_rng_state(state)
    added(network, config, steps, draw=5)
    assert torch.equal(torch.get_rng_state(), state)


# Data parallelism

OPTIONS = {"memory": 9, "tau": 0.5, "w_pl": 0.3, "start_epoch": 0.0}
RATE = 0.05

IMPORTS = """
from torch.nn.parallel import DistributedDataParallel
from qfm_iqm.method.config import MethodConfig
from qfm_iqm.training.objective import Objective, fidelity_loss
from qfm_iqm.model.network import QualityNetwork
"""
TRAINING = f"""
network = QualityNetwork("test_vit", crop=32, label_mean={MEAN}, label_std={STD}).double()
weights = {{n[8:]: t for n, t in given.items() if n.startswith("network.")}}
network.load_state_dict(weights)
objective = Objective(network, MethodConfig(kind="qfm", **{OPTIONS}))
parallel = DistributedDataParallel(objective)
optimizer = torch.optim.SGD(network.parameters(), lr={RATE})
for step in range(3):
    batch = {{n: given[f"{{n}}_{{step}}_{{rank}}"] for n in ("crops", "labels", "ids", "rated")}}
    optimizer.zero_grad()
    parallel(
        batch["crops"], batch["labels"], batch["ids"], step + 1.0, supervised_B=batch["rated"]
    )["loss"].backward()
    optimizer.step()
result = {{**network.state_dict(), "memory": objective.memory.tokens_MND}}
"""


def test_two_processes_train_the_same_network_on_the_mean_of_their_losses(two_ranks, network):
    steps = list(batches(count=6, unlabeled=2))
    given = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for i, batch in enumerate(steps):
        for name, tensor in zip(("crops", "labels", "ids", "rated"), batch, strict=True):
            given[f"{name}_{i // 2}_{i % 2}"] = tensor
    first, second = two_ranks(TRAINING, given, IMPORTS)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name

    config = MethodConfig(kind="qfm", **OPTIONS)
    initial, memory = copy.deepcopy(network.state_dict()), []
    for i in range(3):
        pair = steps[2 * i : 2 * i + 2]
        for batch in pair:
            remember(memory, network, batch, config)
        losses = [losses_by_hand(network, batch, memory, config, i + 1.0) for batch in pair]
        assert all(loss["qcc"] > 1e-6 for loss in losses)
        slopes = gradients(network, sum(loss["loss"] for loss in losses) / 2)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter -= RATE * slopes[name]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-9, msg=name)
    moved = [name for name in initial if (first[name] - initial[name]).abs().max() > 1e-6]
    assert len(moved) > 10
    assert len(first["memory"]) == 9


def test_the_fidelity_loss_against_pairs_counted_one_by_one():
    draw = np.random.default_rng(5)
    quality, target = draw.normal(size=(2, 9))
    groups = np.array([0, 0, 1, 1, 1, -2, -2, 3, 0])
    losses = []
    for i in range(9):
        for j in range(i + 1, 9):
            if groups[i] == groups[j]:
                normal = statistics.NormalDist()
                gaps = (quality[i] - quality[j], (target[i] - target[j]) / 0.5)
                p, t = (min(max(normal.cdf(gap), 1e-4), 1 - 1e-4) for gap in gaps)
                losses.append(1 - math.sqrt(p * t) - math.sqrt((1 - p) * (1 - t)))
    found = fidelity_loss(*map(torch.tensor, (quality, target, groups)))
    assert found.item() == pytest.approx(sum(losses) / len(losses), abs=1e-9)


def test_the_fidelity_loss_is_none_without_a_pair_and_least_in_the_labels_order():
    quality = torch.tensor([0.3, -1.0, 2.0], requires_grad=True)
    alone = fidelity_loss(quality, torch.randn(3), torch.tensor([0, 1, 2]))
    alone.backward()
    assert alone.item() == 0 and not quality.grad.any()
    same = torch.zeros(3, dtype=torch.long)
    target = torch.tensor([0.0, -1.0, 1.0])
    right = fidelity_loss(2 * target, target, same)
    assert right < fidelity_loss(-2 * target, target, same)
    assert right < 1e-3  # twice the labels fits their noise of half a deviation


def test_the_fidelity_term_is_part_of_the_loss(network):
    batch = next(batches())
    plain, ranked = (
        step(Objective(network, MethodConfig(), fidelity=weight), batch, 0) for weight in (0, 2)
    )
    assert "fidelity" not in plain
    difference = ranked["loss"] - plain["loss"]
    assert difference.item() == pytest.approx(2 * ranked["fidelity"].item())


def test_pairs_are_learned_from_by_their_differences(network):
    batch = next(batches())
    pairs = torch.tensor([7, -1, -1, 3, 7, 3])
    plain, paired, none = (
        step(Objective(network, MethodConfig()), batch, 0, pairs_B=given)
        for given in (None, pairs, torch.full((6,), -1))
    )
    assert "pairs" not in plain and "pairs" not in none
    assert none["loss"].item() == plain["loss"].item()
    quality = (network(batch[0]) - MEAN) / STD
    target = (batch[1] - MEAN) / STD
    by_hand = smooth_l1(
        [(quality[i] - quality[j], target[i] - target[j]) for i, j in ((0, 4), (3, 5))]
    )
    assert paired["pairs"].item() == pytest.approx(by_hand.item(), rel=1e-9)
    assert (paired["loss"] - plain["loss"]).item() == pytest.approx(by_hand.item(), rel=1e-9)
