"""Frozen features cached on disk: the same as computed, and never stale."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import covering_crops, resize_and_pad
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.training.batches import CropDataset, Sample
from qfm_iqm.training.feature_cache import FeatureCache, _features_hash, fixed_crop


def as_they_come(items, total):
    return items


@pytest.fixture
def model(build_model):
    model = build_model()
    model.network.encoder.freeze(2)
    return model


def store_of(model, folder, crops=3, flip=True):
    return FeatureCache(folder, model, fixed_crops=crops, flip=flip)


def test_drawn_tokens_are_those_of_the_crops_training_cuts(model, photo_folder, tmp_path):
    paths = sorted(photo_folder.iterdir())[:4]
    samples = [Sample(path, 0.0, i) for i, path in enumerate(paths)]
    options = {"seed": 5, "fixed_crops": 3}
    preprocessing = model.card.preprocessing
    cut = CropDataset(samples, preprocessing, **options)
    kept = CropDataset(samples, preprocessing, **options, features=store_of(model, tmp_path))
    for index in range(len(samples)):
        crop = cut[index][0][0].float()[None] / 255
        with torch.inference_mode():
            expected = model.network.encoder.frozen_features(crop)[0]
        found = kept[index][0][0]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)  # kept in float16


def test_fixed_crops_are_few_and_the_same_for_any_seed(photo_folder):
    (sample,) = [Sample(sorted(photo_folder.iterdir())[0], 0.0, 0)]
    preprocessing = Preprocessing(crop=32)
    seen = set()
    for seed in range(6):
        dataset = CropDataset([sample], preprocessing, seed=seed, fixed_crops=2)
        for dataset.epoch in range(4):
            seen.add(dataset[0][0][0].numpy().tobytes())
    image = resize_and_pad(read_image(sample.path), preprocessing).mul(255).round().to(torch.uint8)
    fixed = [fixed_crop(image, 32, sample.path.name, place, flip=True) for place in range(2)]
    assert seen == {crop.numpy().tobytes() for crop in fixed}


def test_scores_from_kept_tokens_are_the_scores(model, photo_folder, tmp_path):
    paths = [str(path) for path in sorted(photo_folder.iterdir())]
    kept = Scorer(model, source=store_of(model, tmp_path).covering).score_paths(paths)
    plain = Scorer(model).score_paths(paths)
    for own, expected in zip(kept, plain, strict=True):
        # A thousandth of the labels' standard deviation, which is 10 here.
        assert own.score == pytest.approx(expected.score, abs=1e-2)
        assert (own.path, own.width, own.height) == (
            expected.path, expected.width, expected.height,
        )  # fmt: skip


def test_what_cannot_be_read_is_left_out_where_that_is_asked_for(model, photo_folder, tmp_path):
    paths = sorted(photo_folder.iterdir())[:3]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    store = store_of(model, tmp_path / "features")
    with pytest.raises(ImageError, match=r"cannot read '.*broken\.jpg'"):
        store.fill([], [broken], as_they_come)
    done = []
    store.fill(
        [], [paths[0], broken, *paths[1:]], lambda items, _: (done.append(p) for p in items),
        lenient=True,
    )  # fmt: skip
    assert done == paths
    with pytest.raises(ImageError, match=r"cannot read '.*broken\.jpg'"):
        store.covering(str(broken))


def test_what_is_there_is_not_computed_again(model, photo_folder, tmp_path):
    paths = sorted(photo_folder.iterdir())[:5]
    counts = []

    def count(items, total):
        counts.append(total)
        return items

    store_of(model, tmp_path).fill(paths[:3], paths[2:], count)
    store_of(model, tmp_path).fill(paths, paths, count)
    store_of(model, tmp_path).fill(paths, paths, count)
    assert counts == [6, 4]  # the third run computed nothing


def test_another_backbone_preprocessing_or_image_finds_nothing(build_model, photo_folder, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes((sorted(photo_folder.iterdir())[0]).read_bytes())
    totals = []

    def note(items, total):
        totals.append(total)
        return items

    def fill(*, seed=0, blocks=2, crop=48, shift=0.0):
        model = build_model(seed=seed, crop=crop)
        model.network.encoder.freeze(blocks)
        with torch.no_grad():
            model.network.encoder.backbone.pos_embed += shift
        store_of(model, tmp_path / "features").fill([path], [], note)

    fill()
    fill(seed=1)
    fill(blocks=3)
    fill(crop=32)
    fill(shift=1e-3)
    told = path.stat()
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns + 10**9))
    fill()
    assert totals == [1] * 6
    fill()
    assert totals == [1] * 6


def test_a_damaged_file_is_made_again(model, photo_folder, tmp_path):
    path = sorted(photo_folder.iterdir())[0]
    before = store_of(model, tmp_path).random(path, 1)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(store_of(model, tmp_path).random(path, 1), before)


def test_an_unreadable_image_is_named(model, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"no\.jpg"):
        store_of(model, tmp_path / "features").fill([tmp_path / "no.jpg"], [], as_they_come)
    assert list(Path(tmp_path / "features").rglob("*.safetensors")) == []


def test_covering_tokens_are_of_all_crops(model, photo_folder, tmp_path):
    path = sorted(photo_folder.iterdir())[-1]
    preprocessing = model.card.preprocessing
    image = resize_and_pad(read_image(path), preprocessing)
    with torch.inference_mode():
        features = model.network.encoder.frozen_features(
            torch.stack(list(covering_crops(image, preprocessing)))
        )
    _, found = store_of(model, tmp_path).covering(str(path))
    torch.testing.assert_close(torch.stack(found), features, rtol=1e-3, atol=2e-3)


def test_the_drawn_crops_of_an_image_are_a_source_for_a_scorer(model, photo_folder, tmp_path):
    store = store_of(model, tmp_path)
    path = sorted(photo_folder.iterdir())[1]
    reading, found = store.random_fixed_crops(path, 2)
    assert len(found) == 2
    assert len(store.random_fixed_crops(path, 10)[1]) == 3
    for place, tokens in enumerate(found):
        assert torch.equal(tokens, store.random(path, place))
    assert (reading.height, reading.width) == read_image(path).shape[-2:]


def test_an_option_that_is_not_used_leaves_stores_where_they_are(model, tmp_path):
    preprocessing = Preprocessing(crop=48, shorter_side=64)
    card = model.card.model_copy(update={"preprocessing": preprocessing})
    model.card = card
    before = hashlib.sha256(b'{"crop":48,"max_aspect":1.0,"shorter_side":64,"resample":"bicubic"}')
    assert _features_hash_after(before, model) == _features_hash(model)


def _features_hash_after(digest, model):
    for number, part in enumerate(model.network.encoder.frozen):
        for key, value in sorted(part.state_dict().items()):
            digest.update(f"{number}:{key}:{tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
    for key, value in sorted(model.network.encoder.backbone.named_parameters(recurse=False)):
        digest.update(f"{key}:{tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
