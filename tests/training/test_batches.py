"""Crops and their order depend only on (seed, epoch, index), for any number of readers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from qfm_iqm.errors import ImageError
from qfm_iqm.image.preprocess import Preprocessing, reduced, reduced_size
from qfm_iqm.training.augmentation import Augmentation
from qfm_iqm.training.batches import (
    Batch,
    CropDataset,
    EpochOrder,
    ImageStore,
    Sample,
    collate,
)
from qfm_iqm.training.degradations import Cells
from qfm_iqm.training.recipe_schema import AugmentConfig

CROP = Preprocessing(crop=32)


@pytest.fixture(scope="module")
def samples(rated_set):
    paths = sorted(rated_set.glob("*.jpg"))
    return [Sample(path, float(i), i // 4) for i, path in enumerate(paths)]


def epoch_of(
    samples, *, unlabeled_batch=0, workers=0, start=0, epoch=1, seed=3, filled=False, **options
):
    dataset = CropDataset(samples, CROP, seed=seed, **options)
    if filled:
        dataset.fill()
    rated = sum(sample.supervised for sample in samples)
    order = EpochOrder(
        rated, 8, unlabeled=len(samples) - rated, unlabeled_batch=unlabeled_batch, seed=seed
    )
    dataset.epoch = order.epoch = epoch
    order.start = start
    loader = DataLoader(dataset, batch_sampler=order, num_workers=workers, collate_fn=collate)
    return [Batch(*(part.clone() for part in batch)) for batch in loader]


def crop_of(dataset, index):
    ((crop, *_),) = dataset[index]
    return crop


def equal(batches, others):
    return len(batches) == len(others) and all(
        all(map(torch.equal, batch, other)) for batch, other in zip(batches, others, strict=True)
    )


def test_the_same_batches_for_any_number_of_readers_and_from_the_middle(samples):
    whole = epoch_of(samples)
    assert len(whole) == 5
    assert equal(whole, epoch_of(samples, workers=2))
    assert equal(whole, epoch_of(samples, cache=True))
    assert equal(whole, epoch_of(samples, cache=True, filled=True, workers=2))
    assert equal(whole[3:], epoch_of(samples, start=3))
    assert equal(whole[2:], epoch_of(samples, start=2, workers=2))
    assert epoch_of(samples, start=5) == []


def test_a_filled_cache_asks_for_no_file_again(samples, tmp_path):
    copies = [replace(one, path=tmp_path / one.path.name) for one in samples]
    for one, copy in zip(samples, copies, strict=True):
        copy.path.write_bytes(one.path.read_bytes())
    dataset = CropDataset(copies, CROP, seed=3, cache=True)
    dataset.fill()
    for copy in copies:
        copy.path.unlink()
    assert torch.equal(crop_of(dataset, 7), crop_of(CropDataset(samples, CROP, seed=3), 7))
    with pytest.raises(ImageError, match="there is no such file"):
        CropDataset(copies, CROP, seed=3, cache=True).fill()
    CropDataset(copies, CROP, seed=3).fill()  # without a cache it reads nothing


def test_other_epochs_and_seeds_give_other_batches(samples):
    whole = epoch_of(samples)
    assert not equal(whole, epoch_of(samples, epoch=2))
    assert not equal(whole, epoch_of(samples, seed=4))


def test_every_image_once_an_epoch_with_its_own_label_and_content(samples):
    labels = torch.cat([batch.label for batch in epoch_of(samples)]).tolist()
    contents = torch.cat([batch.content for batch in epoch_of(samples)]).tolist()
    assert sorted(labels) == list(range(40))
    assert labels != sorted(labels)
    assert contents == [label // 4 for label in labels]


def test_a_crop_is_a_window_of_its_image_mirrored_or_not(samples):
    mirrored = set()
    tops = set()
    for crops, labels, *_ in epoch_of(samples):
        assert crops.dtype == torch.uint8
        for crop, label in zip(crops.numpy(), labels.tolist(), strict=True):
            image = np.asarray(Image.open(samples[int(label)].path)).transpose(2, 0, 1)
            windows = np.lib.stride_tricks.sliding_window_view(image, (32, 32), (1, 2))
            found = [
                (flip, tuple(place))
                for flip in (False, True)
                for place in np.argwhere(
                    (windows == (crop[..., ::-1] if flip else crop)[:, None, None]).all((0, 3, 4))
                )
            ]
            assert len(found) == 1
            mirrored.add(found[0][0])
            tops.add(found[0][1][0])
    assert mirrored == {False, True}
    assert len(tops) > 15
    assert max(tops) > 48


def test_crops_are_drawn_from_every_size_that_the_model_looks_at(samples):
    preprocessing = Preprocessing(crop=32, shorter_side=80, extra_scales=(48,))
    store = ImageStore(preprocessing, keep=True)
    dataset = CropDataset(samples, preprocessing, seed=3, flip=False)
    seen = {80: 0, 48: 0}
    for epoch in range(4):
        dataset.epoch = epoch
        for place, sample in enumerate(samples):
            drawn = crop_of(dataset, place)
            first = store.get(sample.path).numpy()
            sizes = {80: first, 48: reduced(first, reduced_size(*first.shape[1:], 48))}
            found = [side for side, image in sizes.items() if shows(image, drawn.numpy())]
            assert len(found) == 1
            seen[found[0]] += 1
    assert min(seen.values()) > 0.3 * sum(seen.values())


def shows(image, crop):
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape[1:], (1, 2))
    return bool((windows == crop[:, None, None]).all((0, 3, 4)).any())


def test_without_flip_nothing_is_mirrored(samples):
    flipped = torch.cat([crops for crops, *_ in epoch_of(samples)])
    plain = torch.cat([crops for crops, *_ in epoch_of(samples, flip=False)])
    same = (flipped == plain).flatten(1).all(1)
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 5 < mirrored.sum() < 35


def test_crops_that_a_teacher_scored_are_the_same_in_every_epoch(samples):
    path = samples[0].path
    fixed = [Sample(path, 1.0, 0, (7, 50)), Sample(path, 1.0, 0, (64, 64))]
    image = torch.tensor(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())
    dataset = CropDataset(fixed, CROP, seed=0, flip=False)
    for dataset.epoch in range(4):
        assert torch.equal(crop_of(dataset, 0), image[:, 7:39, 50:82])
        assert torch.equal(crop_of(dataset, 1), image[:, 64:, 64:])


@pytest.mark.parametrize(("top", "left"), [(65, 0), (0, 65), (200, 200)])
def test_a_place_outside_is_refused(samples, top, left):
    path = samples[0].path
    dataset = CropDataset([Sample(path, 1.0, 0, (top, left))], CROP, seed=0)
    with pytest.raises(ImageError, match=rf"lies outside .*{path.name}"):
        dataset[0]


def test_an_image_that_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    dataset = CropDataset([Sample(tmp_path / "broken.jpg", 1.0, 0)], CROP, seed=0)
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        dataset[0]


def test_the_store_reads_once_if_it_keeps(tmp_path, samples):
    path = tmp_path / "photo.png"
    Image.open(samples[0].path).resize((50, 20)).save(path)
    kept, fresh = ImageStore(CROP, keep=True), ImageStore(CROP, keep=False)
    first = kept.get(path)
    assert first.shape == (3, 32, 50)  # reflection-padded, as in scoring
    assert torch.equal(first, fresh.get(path))
    path.unlink()
    assert torch.equal(kept.get(path), first)
    with pytest.raises(ImageError):
        fresh.get(path)


@pytest.mark.parametrize(
    ("length", "size", "batches"), [(10, 4, 2), (8, 4, 2), (3, 4, 1), (1, 4, 1), (7, 7, 1)]
)
def test_the_last_short_batch_is_dropped_but_never_the_only_one(length, size, batches):
    order = EpochOrder(length, size, seed=0)
    given = list(order)
    assert len(given) == len(order) == batches
    indices = [index for batch in given for index in batch]
    assert len(set(indices)) == len(indices) == batches * min(size, length)
    assert set(indices) <= set(range(length))


# Unlabeled samples


@pytest.fixture(scope="module")
def mixed(samples, unlabeled_folder):
    paths = sorted(unlabeled_folder.glob("*.jpg"))
    return samples + [
        Sample(path, 100.0 + i, 50 + i, supervised=False) for i, path in enumerate(paths)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_batch_ends_with_its_unlabeled_crops(samples, mixed, workers):
    plain, whole = epoch_of(samples), epoch_of(mixed, unlabeled_batch=3, workers=workers)
    assert len(whole) == len(plain) == 5
    for (crops, labels, contents, rated, *_), before in zip(whole, plain, strict=True):
        assert len(crops) == 11
        assert rated.tolist() == [True] * 8 + [False] * 3
        # The other samples are the same as without them.
        assert equal([(crops[:8], labels[:8], contents[:8], rated[:8])], [before])
        assert (labels[8:] >= 100).all()
        assert torch.equal(labels[8:] - 50, contents[8:].double())
    assert equal(whole[2:], epoch_of(mixed, unlabeled_batch=3, start=2))


@pytest.mark.parametrize(
    ("unlabeled", "unlabeled_batch"), [(7, 3), (7, 7), (5, 12), (1, 2), (100, 3), (60, 6)]
)
@pytest.mark.parametrize("epoch", [0, 4])
def test_unlabeled_samples_come_in_passes_without_repeats(unlabeled, unlabeled_batch, epoch):
    def order(start=0, **options):
        sampler = EpochOrder(43, 4, seed=9, **options)
        sampler.epoch, sampler.start = epoch, start
        batches = list(sampler)
        assert len(batches) == len(sampler) == 10 - start
        return batches

    options = {"unlabeled": unlabeled, "unlabeled_batch": unlabeled_batch}
    batches = order(**options)
    assert [batch[:4] for batch in batches] == order()
    assert {len(batch) for batch in batches} == {4 + unlabeled_batch}
    drawn = [index for batch in batches for index in batch[4:]]
    assert set(drawn) <= set(range(43, 43 + unlabeled))
    passes = [drawn[i : i + unlabeled] for i in range(0, len(drawn), unlabeled)]
    for one in passes:
        assert len(set(one)) == len(one)
    if unlabeled > 5 and len(drawn) >= 2 * unlabeled:
        assert passes[0] != passes[1]
    for start in (1, 6, 10):
        assert order(start, **options) == batches[start:]


def test_unlabeled_passes_differ_between_epochs_and_seeds():
    drawn = set()
    for epoch, seed in ((0, 0), (1, 0), (0, 1)):
        order = EpochOrder(40, 8, unlabeled=30, unlabeled_batch=6, seed=seed)
        order.epoch = epoch
        drawn.add(tuple(index for batch in order for index in batch[8:]))
    assert len(drawn) == 3


def test_an_empty_pool_adds_nothing():
    assert list(EpochOrder(9, 3, unlabeled=0, unlabeled_batch=4, seed=1)) == list(
        EpochOrder(9, 3, seed=1)
    )


# Pairs


@pytest.fixture(scope="module")
def shown():
    cells = Cells({"darken": ((0.3, 2.8), (0.4, 1.9))})
    return Augmentation(AugmentConfig(), cells, CROP, flip=True)


def test_a_batch_goes_on_with_its_pairs_before_the_unlabeled_crops(mixed, shown):
    rated, taught = mixed[:40], mixed[40:]
    paired = [replace(one, degraded=True, paired=True, group=-2) for one in rated[:5]]
    dataset = CropDataset([*rated, *paired, *taught], CROP, seed=3, augmentation=shown)
    order = EpochOrder(
        40, 8, pairs=5, pairs_batch=2, unlabeled=len(taught), unlabeled_batch=3, seed=3
    )
    loader = DataLoader(dataset, batch_sampler=order, collate_fn=collate)
    plain = EpochOrder(40, 8, unlabeled=len(taught), unlabeled_batch=3, seed=3)
    drawn = []
    for batch, indices, without in zip(loader, order, plain, strict=True):
        assert len(indices) == 13
        assert indices[:8] == without[:8]
        assert [i - 5 for i in indices[10:]] == without[8:]
        drawn += indices[8:10]
        assert len(batch.crop) == 15
        assert batch.pair.tolist() == [-1] * 8 + [i for i in indices[8:10] for _ in "12"] + [-1] * 3
        assert batch.supervised.tolist() == [True] * 12 + [False] * 3
        for k in (8, 10):
            assert batch.content[k] == batch.content[k + 1]
            assert batch.label[k] == rated[indices[k // 2 + 4] - 40].label
            assert batch.crop[k].float().mean() > batch.crop[k + 1].float().mean()
    assert set(drawn[:5]) == set(drawn[5:]) == set(range(40, 45))  # in passes
