"""Pixels in memory: every entry point accepts and refuses the same, and scores the same."""

import numpy as np
import pytest
import torch

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import OVERSHOOT
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.scorer import Scorer

TOLERANCE = 0.05  # for scores with a deviation of 10; images may be reduced in floats


def metric(model, image):
    from qfm_iqm.integrations.metric import QualityMetric

    return QualityMetric(model)(image[None]).item()


def loss(model, image):
    if isinstance(image, torch.Tensor) and image.is_floating_point():
        image = image.detach().clone().requires_grad_()
    return model(image[None]).item()


DOORS = {
    "score": lambda model, image: model.score(image).value,
    "explain": lambda model, image: model.explain(image).score,
    "score_batch": lambda model, image: Scorer(model).score_batch(image[None]).item(),
    "list": lambda model, image: Scorer(model).score_batch([image]).item(),
    "metric": metric,
    "call": lambda model, image: model(image[None]).item(),
    "loss": loss,
    "compiled": lambda model, image: torch.compile(model, backend="eager")(image[None]).item(),
}


@pytest.fixture(scope="module")
def model(build_model):
    """One that reduces images of more than 60 pixels."""
    whole = build_model(crop=48)
    preprocessing = Preprocessing(crop=48, shorter_side=60)
    card = whole.card.model_copy(update={"preprocessing": preprocessing})
    return QualityModel(whole.network, card).eval()


@pytest.fixture(params=[(90, 100), (50, 60)], ids=["reduced", "as it is"])
def image(request):
    """Smooth, and from 0 to 1."""
    across = torch.linspace(0, 1, request.param[1])
    down = torch.linspace(0, 1, request.param[0])[:, None]
    return torch.stack([across * down, across.flip(0) * down, across + 0 * down])


@pytest.fixture(params=DOORS)
def door(request, model):
    if request.param == "metric":
        pytest.importorskip("torchmetrics")
    return lambda image: DOORS[request.param](model, image)


IN_OTHER_UNITS = {
    "8 bits": (lambda image: image * 255, "to 255; 0 to 255 looks like 8-bit"),
    "16 bits": (lambda image: image * 65535, "from 0 to 65535$"),
    "-1 to 1": (lambda image: image * 2 - 1, r"from -1 to 1; .*\(x \+ 1\) / 2"),
    "ImageNet's": (lambda image: (image - 0.45) / 0.225, "from -2 to 2.44.*normalized"),
    "too dark": (
        lambda image: image - OVERSHOOT - 0.01,
        "from -0.21 to 0.79; if a resizing overshot, clamp",
    ),
    "too bright": (lambda image: image + OVERSHOOT + 0.01, "to 1.21"),
    "NaN": (lambda image: image.index_fill(1, torch.tensor(3), np.nan), "holds NaN"),
    "inf": (lambda image: image / (image < 1), "to inf"),
    "-inf": (lambda image: -image / (image < 1), "from -inf"),
}


@pytest.mark.parametrize("kind", IN_OTHER_UNITS)
def test_values_in_other_units_are_refused(door, image, kind):
    change, said = IN_OTHER_UNITS[kind]
    wrong = change(image)
    for pixels in (wrong, wrong.double(), wrong.numpy().transpose(1, 2, 0)):
        with pytest.raises(ValueError, match=f"images? must hold values from 0 to 1, .*{said}"):
            door(pixels)


def test_values_that_overshoot_are_clamped(door, model, image):
    beyond = (image - 0.5) * 1.1 + 0.5  # by 0.05 on both sides
    beyond[0, 0, 0], beyond[0, 0, 1] = 0.999 + OVERSHOOT, 0.001 - OVERSHOOT
    expected = model.score(beyond.clamp(0, 1)).value
    assert door(beyond) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_precision_is_scored(door, model, image, dtype):
    rounded = image.to(dtype)
    expected = model.score(rounded.float()).value
    assert door(rounded) == pytest.approx(expected, abs=TOLERANCE)
    assert expected == pytest.approx(model.score(image).value, abs=0.2)


def test_whole_numbers_of_eight_bits_are_scored(door, model, image):
    whole = (image * 255).round().byte()
    expected = model.score(whole.float() / 255).value
    assert door(whole) == pytest.approx(expected, abs=TOLERANCE)
    with pytest.raises(ValueError, match=r"of uint8, not .* of torch\.int64"):
        door(whole.long())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.dtype(">f4"), np.uint8])
def test_arrays_are_scored_as_photo_libraries_give_them(door, model, image, dtype):
    whole = (image * 255).round().byte()
    expected = model.score(whole).value
    pixels = whole.numpy() if dtype is np.uint8 else (whole.numpy() / 255).astype(dtype)
    array = pixels.transpose(1, 2, 0)
    array.flags.writeable = False
    assert door(array) == pytest.approx(expected, abs=TOLERANCE)
    backwards = np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    assert door(backwards) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.rand(1, 50, 50),
        torch.rand(4, 50, 50),
        torch.rand(50, 50, 3),
        torch.rand(50, 50),
        torch.rand(1, 3, 50, 50),
        torch.rand(3, 0, 50),
        torch.ones(3, 50, 50, dtype=torch.bool),
        torch.ones(3, 50, 50, dtype=torch.complex64),
        np.zeros((3, 50, 50), np.float32),
        np.zeros((50, 50, 4), np.float32),
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 3), np.uint16),
        np.zeros((50, 50, 3), bool),
        np.zeros((50, 50, 3), object),
    ],
    ids=lambda wrong: f"{type(wrong).__name__}-{tuple(wrong.shape)}-{wrong.dtype}",
)
def test_what_is_no_image_is_refused_by_its_shape(door, wrong):
    with pytest.raises(ValueError, match=r"images? must be .*\(.*3.*H, W\), or .*, not \(") as said:
        door(wrong)
    assert "\n" not in str(said.value)


def test_an_image_that_wants_gradients_has_the_score_of_one_that_does_not(door, model, image):
    expected = model.score(image).value
    assert door(image.clone().requires_grad_()) == pytest.approx(expected, abs=TOLERANCE)
    with torch.inference_mode():
        own = image.clone()
    assert door(own) == pytest.approx(expected, abs=TOLERANCE)
    backwards = image.flip(-1).transpose(-1, -2).contiguous().transpose(-1, -2).flip(-1)
    assert door(backwards) == pytest.approx(expected, abs=TOLERANCE)


def test_another_default_type_changes_no_score(door, model, image):
    expected = door(image)
    torch.set_default_dtype(torch.float64)
    try:
        assert door(image) == pytest.approx(expected, abs=1e-6)
        assert door(image.double()) == pytest.approx(expected, abs=TOLERANCE)
    finally:
        torch.set_default_dtype(torch.float32)
