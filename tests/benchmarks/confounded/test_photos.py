"""Choice of photos: no duplicates, and only the ends of the axis between two clusters."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from confounded.photos import best_rated, choose_photos, rated_photos, usable_cells
from qfm_iqm.errors import TableError

from .conftest import write


def test_best_rated_training_photos_of_different_contents(recipe, set_root, tmp_path):
    names, paths = best_rated(recipe)
    table, rows = rated_photos(recipe)
    training = [table.names[row] for row in rows["train"]]
    assert set(names) <= set(training)
    mos = dict(zip(table.names, table.mos, strict=True))
    assert names == sorted(training, key=lambda name: -mos[name])[: recipe.pool]
    assert all(path.is_file() for path in paths)

    # Near-duplicates and photos of one content count once, as the better-rated one.
    rated = []
    for name in names:
        Image.open(set_root / name).save(tmp_path / name)
    with Image.open(set_root / names[2]) as image:
        image.resize((43, 39)).save(tmp_path / "repeated.png")
    for place, name in enumerate([*names, "repeated.png"]):
        content = names[0] if place == 4 else name
        rated.append((name, mos[name] if place < len(names) else 0.5, "good", content))
    # Many copies of the split's photos, so that every seed has some in the training split.
    write(tmp_path / "labelled.csv", ("name", "mos", "subset", "content"), rated)
    small = recipe.model_copy(update={"root": tmp_path, "pool": 4, "photos": 4})
    table, rows = rated_photos(small)
    kept, _ = best_rated(small)
    assert len(kept) == 4
    assert not {names[0], names[4]} <= set(kept)
    assert not {names[2], "repeated.png"} <= set(kept)
    with pytest.raises(TableError, match="lower pool"):
        best_rated(small.model_copy(update={"pool": 40}))


def test_types_need_mild_and_severe_cells(recipe):
    assert list(usable_cells(recipe).levels) == ["gaussian blur", "jpeg", "white noise", "darken"]
    with pytest.raises(TableError, match="only 4 in"):
        usable_cells(recipe.model_copy(update={"kinds": 5}))


@pytest.mark.parametrize("flip", [False, True])
def test_clusters_are_the_ends_of_the_axis(recipe, set_root, flip):
    draw = np.random.default_rng(1)
    kinds = [f"kind{n}" for n in range(8)]
    wide = recipe.model_copy(update={"pool": 50, "photos": 32, "validation": 8, "kinds": 2})
    side = np.repeat([1.0, -1.0, 0.05], [20, 20, 10]) * (-1 if flip else 1)  # ten lie between
    names = [f"photo{n:02d}" for n in range(50)]
    semantics = (side[:, None] * 10 + draw.normal(size=(50, 6))).astype(np.float32)
    paths = [set_root / name for name in names]
    photos = choose_photos(wide, names, paths, semantics, kinds)
    assert choose_photos(wide, names, paths, semantics, kinds) == photos
    number = [int(photo.name[-2:]) for photo in photos]
    # Whatever the order of k-means' centers, the first photo is in cluster A.
    assert all(n < 20 for n, photo in zip(number, photos, strict=True) if photo.cluster == 0)
    assert all(20 <= n < 40 for n, photo in zip(number, photos, strict=True) if photo.cluster)
    for cluster in (0, 1):
        own = [photo for photo in photos if photo.cluster == cluster]
        assert len(own) == 16
        assert sum(photo.validation for photo in own) == 4
        assert set(Counter(kind for photo in own for kind in photo.kinds).values()) == {4}
        assert {photo.place > 0 for photo in own} == {cluster == 0}
