import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

import qfm_iqm
from qfm_iqm import read_image
from qfm_iqm.errors import ImageError
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.image.preprocess_torch import resize_and_pad, resized
from qfm_iqm.model.model import QualityModel, QualityScore


@pytest.fixture(scope="module")
def model(build_model):
    return build_model(crop=48)


@pytest.fixture(scope="module")
def photo(photo_folder):
    return photo_folder / "photo_05.png"


def by_hand(model, image):
    """Crop by crop, one at a time, mean and population deviation by numpy."""
    fitted = resize_and_pad(image, model.card.preprocessing)
    width = fitted.shape[-1]
    values = []
    for top, left in grid_positions(*fitted.shape[-2:], 48):
        with torch.inference_mode():
            crop = fitted[None, :, top : top + 48, left : left + 48]
            if abs(left + 24 - width / 2) < 1:  # in the middle: brighter half to the left
                other = fitted[None, :, top : top + 48, width - left - 48 : width - left].flip(-1)
                crop = max(crop, other, key=lambda crop: crop[..., :24].sum().item())
            elif left + 24 > width / 2:  # to the right of the middle: mirrored
                crop = crop.flip(-1)
            values.append(model.network(crop).item())
    return values


def test_a_score_is_the_mean_over_the_covering_crops(model, photo):
    image = read_image(photo)
    values = by_hand(model, image)
    score = model.score(photo)
    assert isinstance(score, QualityScore)
    assert score.value == pytest.approx(np.mean(values), abs=1e-4)
    assert score.crop_std == pytest.approx(np.std(values), abs=1e-4)
    assert score.n_crops == len(values) > 1
    assert (score.height, score.width) == tuple(image.shape[1:])


@pytest.mark.parametrize(
    ("size", "expected"), [((48, 90), None), ((47, 90), True), ((90, 47), True)]
)
def test_an_image_with_a_side_below_a_crop_is_out_of_distribution(model, photo, size, expected):
    image = Image.open(photo).convert("RGB").resize(size)
    assert model.score(image).out_of_distribution is expected
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert model.score(pixels).out_of_distribution is expected


def at_sizes(model, **sizes):
    preprocessing = Preprocessing(crop=48, **sizes)
    card = model.card.model_copy(update={"preprocessing": preprocessing})
    return QualityModel(model.network, card)


def test_all_sizes_that_a_model_looks_at_count(model):
    image = torch.rand(3, 130, 160, generator=torch.Generator().manual_seed(1))
    first = at_sizes(model, shorter_side=100)
    twice = at_sizes(model, shorter_side=100, extra_scales=(60,))
    smaller = resized(resize_and_pad(image, first.card.preprocessing), (60, 74))
    values = by_hand(first, image) + by_hand(model, smaller)
    score = twice.score(image)
    assert score.n_crops == len(values) == 3 * 3 + 2 * 2
    assert score.value == pytest.approx(np.mean(values), abs=1e-4)
    assert twice(image[None]).item() == pytest.approx(np.mean(values), abs=1e-4)
    assert twice.explain(image).score == pytest.approx(score.value, abs=1e-4)


def test_a_mirrored_photo_has_the_same_score(model):
    image = torch.rand(3, 100, 96, generator=torch.Generator().manual_seed(5))
    score, mirrored = model.score(image), model.score(image.flip(-1))
    assert mirrored.value == pytest.approx(score.value, abs=1e-5)
    assert mirrored.crop_std == pytest.approx(score.crop_std, abs=1e-5)
    assert model.score(image.flip(-2)).value != pytest.approx(score.value, abs=1e-5)


def test_every_kind_of_source_gives_the_same_score(model, photo):
    with Image.open(photo) as opened:
        sources = [photo, str(photo), photo.read_bytes(), io.BytesIO(photo.read_bytes()), opened]
        scores = [model.score(source) for source in sources]
    assert set(scores) == {model.score(read_image(photo))}


def test_one_crop_has_no_spread(model):
    score = model.score(Image.new("RGB", (1, 1), "red"))
    assert (score.crop_std, score.n_crops, score.width, score.height) == (0.0, 1, 1, 1)
    assert np.isfinite(score.value)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_does_not_change_the_score(model, photo, batch_size):
    apart = model.score(photo, batch_size=batch_size).value - model.score(photo).value
    assert abs(apart) < 1e-5 * model.network.scale.std


def test_forward_is_the_same_function(model, photo):
    image = read_image(photo)
    with torch.inference_mode():
        batch = model(torch.stack([image, image.flip(-1)]))
    assert batch[0].item() == pytest.approx(model.score(image).value, abs=1e-4)
    assert batch[1].item() == pytest.approx(model.score(image.flip(-1)).value, abs=1e-4)


@pytest.mark.parametrize("shape", [(3, 50, 50), (1, 1, 50, 50), (50, 50)])
def test_what_is_no_batch_of_images_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"a batch \(B, 3, H, W\)"):
        model(torch.rand(shape))


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_mode_as_it_was(build_model, photo, training):
    resnet = build_model("test_resnet", crop=64)
    resnet.network.train(training)
    statistics = {key: value.clone() for key, value in resnet.state_dict().items()}
    first, second = resnet.score(photo), resnet.score(photo)
    assert first == second
    assert resnet.network.training is training
    assert all(torch.equal(value, statistics[key]) for key, value in resnet.state_dict().items())


def test_a_file_that_is_no_image_is_refused(model, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError):
        model.score(tmp_path / "text.jpg")


def test_scores_are_in_label_units_and_have_no_gradient(model, photo):
    scale = model.network.scale
    assert abs(model.score(photo).value - scale.mean) < 5 * scale.std
    assert type(model.score(photo).value) is float


def test_the_promised_names(tiny_model_folder, photo):
    loaded = qfm_iqm.load_model(tiny_model_folder)
    assert isinstance(loaded, qfm_iqm.QualityModel)
    assert isinstance(loaded.score(photo), qfm_iqm.QualityScore)


def test_a_url_is_scored_as_its_file(model, photo):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://photos/one.png", "wb") as file:
        file.write(photo.read_bytes())
    assert model.score("memory://photos/one.png") == model.score(photo)
    with fsspec.open("memory://photos/text.png", "wb") as file:
        file.write(b"no image")
    for name in ("text", "gone"):
        with pytest.raises(ImageError, match=f"cannot read 'memory://photos/{name}.png'"):
            model.score(f"memory://photos/{name}.png")


@pytest.mark.parametrize("wrong", [None, 3, ["photo.jpg"], (path for path in ["photo.jpg"])])
def test_what_is_no_source_is_refused(model, wrong):
    with pytest.raises(ImageError, match="give a path, bytes"):
        model.score(wrong)
    with pytest.raises(TypeError, match="images must be a batch"):
        model(wrong)


def test_a_batch_size_below_one_is_refused(model, photo):
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        model.score(photo, batch_size=0)


def test_training_a_module_leaves_the_model_in_it_as_it_is(build_model, photo):
    resnet = build_model("test_resnet", crop=64)
    state = copy.deepcopy(resnet.state_dict())
    score = resnet.score(photo)
    images = torch.rand(2, 3, 64, 64)
    answers = resnet(images)
    around = torch.nn.Sequential(torch.nn.Identity(), resnet).train()
    assert torch.equal(around(images), answers)
    assert around.training
    assert not any(module.training for module in resnet.modules())
    assert resnet.train() is resnet
    assert torch.equal(resnet(images), answers)
    assert resnet.score(photo) == score
    for key, value in resnet.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_its_network_is_trained_on_request(build_model):
    resnet = build_model("test_resnet", crop=64)
    resnet.network.train()
    before = copy.deepcopy(resnet.state_dict())
    resnet(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in resnet.network.decoder.parameters())
    changed = {key for key, value in resnet.state_dict().items() if not value.equal(before[key])}
    assert any(key.endswith("running_mean") for key in changed)


@pytest.mark.parametrize(
    ("dtype", "apart"), [(torch.float64, 1e-3), (torch.bfloat16, 1.0), (torch.float16, 0.2)]
)
def test_the_network_may_be_of_another_precision(model, photo, dtype, apart):
    other, image = copy.deepcopy(model).to(dtype), read_image(photo)
    expected = model.score(photo).value
    assert other(image[None]).dtype == dtype
    assert other(image[None]).item() == pytest.approx(expected, abs=apart)
    assert other.score(photo).value == pytest.approx(expected, abs=apart)
