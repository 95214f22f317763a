"""Quantizers against hand-made clusters and scikit-learn; code files; quality by hand."""

import json

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from data_prep.errors import InputError
from recsys.semantic_id.imported import ImportedCodes, codes_of_items, read_code_file
from recsys.semantic_id.k_means import _fill_empty, k_means, nearest_centre
from recsys.semantic_id.quality import (
    quality_table,
    relative_reconstruction_error,
    semantic_id_quality,
)
from recsys.semantic_id.quantizer import in_order_of_value
from recsys.semantic_id.residual_kmeans import ResidualKMeans, _principal_axes
from recsys.semantic_id.rqvae import RqVae, RqVaeTraining


def clustered(seed=0, groups=6, per_group=20, width=5):
    """Points in well separated groups, and the number of each point's group."""
    random = torch.Generator().manual_seed(seed)
    middles = 10.0 * torch.randn(groups, width, generator=random)
    group = torch.arange(groups).repeat_interleave(per_group)
    return middles[group] + 0.1 * torch.randn(len(group), width, generator=random), group


def error_of(points, centres):
    return float(nearest_centre(points, centres)[1].sum())


def test_k_means_finds_groups_that_are_there():
    points, group = clustered()
    centres = k_means(points, centre_count=6, generator=torch.Generator().manual_seed(1))
    means = torch.stack([points[group == g].mean(0) for g in range(6)])
    nearest, distance = nearest_centre(means, centres)
    assert sorted(nearest.tolist()) == list(range(6))
    assert float(distance.max()) < 1e-3


def test_k_means_is_as_good_as_scikit_learn():
    points = torch.randn(300, 8, generator=torch.Generator().manual_seed(3))
    other = KMeans(12, n_init="auto", random_state=0).fit(points.numpy())
    ours = k_means(points, centre_count=12, generator=torch.Generator().manual_seed(0))
    assert error_of(points, ours) / float(other.inertia_ or 0.0) < 1.05


def test_nearest_centre_equals_the_slow_version_across_chunks(monkeypatch):
    monkeypatch.setattr("recsys.semantic_id.k_means._CHUNK_ROWS", 7)
    random = torch.Generator().manual_seed(0)
    points, centres = torch.randn(31, 3, generator=random), torch.randn(5, 3, generator=random)
    table = (points[:, None] - centres[None]).square().sum(-1)
    codes, distances = nearest_centre(points, centres)
    assert codes.tolist() == table.argmin(1).tolist()
    torch.testing.assert_close(distances, table.min(1).values)


def test_no_centre_stays_empty():
    points = torch.cat([torch.zeros(50, 2), torch.tensor([[9.0, 0.0], [9.5, 0.0], [0.0, 9.0]])])
    centres = k_means(points, centre_count=4, generator=torch.Generator().manual_seed(0))
    assert len(set(nearest_centre(points, centres)[0].tolist())) == 4
    assert error_of(points, centres) < 1e-9


def test_an_empty_centre_takes_the_worst_served_point_of_a_centre_that_can_spare_it():
    codes = torch.tensor([0, 0, 0, 2, 2])
    distances = torch.tensor([1.0, 5.0, 2.0, 9.0, 0.0])
    # the farthest is point 3; after it centre 2 has one point left, so points 1 and 2 follow
    assert _fill_empty(codes, distances, 5).tolist() == [0, 3, 4, 1, 2]
    assert _fill_empty(codes, distances, 7).tolist() == [0, 3, 4, 1, 2]
    assert codes.tolist() == [0, 0, 0, 2, 2]


def test_fewer_distinct_points_than_centres_give_as_many_centres():
    points = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2)
    centres = k_means(points, centre_count=9, generator=torch.Generator().manual_seed(0))
    assert sorted(centres.tolist()) == [[0.0, 1.0], [1.0, 0.0]]


def test_k_means_refuses_nothing_to_do():
    generator = torch.Generator()
    with pytest.raises(ValueError, match="centre_count must be at least 1, got 0"):
        k_means(torch.zeros(2, 2), centre_count=0, generator=generator)
    with pytest.raises(ValueError, match="points must hold at least one row"):
        k_means(torch.zeros(0, 2), centre_count=1, generator=generator)


def test_residual_levels_explain_what_is_left():
    points, _ = clustered()
    errors = []
    for levels in (1, 2, 3):
        model = ResidualKMeans(5, levels=levels, codes=6)
        model.fit(points)
        error = relative_reconstruction_error(points, model.reconstruct(model.assign(points)))
        errors.append(error)
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2] > 0


def test_the_first_code_is_the_group():
    points, group = clustered()
    model = ResidualKMeans(5, levels=2, codes=6)
    model.fit(points)
    first = model.assign(points)[:, 0]
    for g in range(6):
        assert len(set(first[group == g].tolist())) == 1
    unseen = points + 0.01
    assert model.assign(unseen)[:, 0].tolist() == first.tolist()


def test_components_keep_the_levels_of_wide_embeddings_alive():
    random = torch.Generator().manual_seed(0)
    wide = torch.randn(300, 4, generator=random) @ torch.randn(4, 200, generator=random)
    wide = torch.nn.functional.normalize(wide + 1.5 * torch.randn(300, 200, generator=random))
    used = {}
    for components in (4, 200):
        model = ResidualKMeans(200, codes=32, components=components)
        model.fit(wide)
        codes = model.assign(wide)
        levels = semantic_id_quality(codes, model.level_sizes, quantizer_codes=codes).levels
        used[components] = levels[-1].perplexity
    assert used[4] > 20 > used[200]


def test_all_components_lose_nothing():
    points, _ = clustered(groups=3, per_group=5)
    model = ResidualKMeans(5, levels=1, codes=15, components=5)
    model.fit(points)
    torch.testing.assert_close(
        model.reconstruct(model.assign(points)), points, atol=1e-4, rtol=1e-4
    )


def test_principal_axes_agree_with_scikit_learn():
    points = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()
    points = points * torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    expected = torch.from_numpy(PCA(3).fit(points.numpy()).components_)
    found = _principal_axes(points - points.mean(0), 3)
    torch.testing.assert_close((found * expected).sum(1).abs(), torch.ones(3).double())
    assert bool((found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all())


def test_the_variance_an_rqvae_leaves_shrinks_with_training_and_its_codes_stay_in_use():
    points = torch.randn(256, 12, generator=torch.Generator().manual_seed(0))
    points[:, 4:] = 0.3 * points[:, 4:]
    errors = {}
    for steps in (0, 400):
        settings = RqVaeTraining(steps=steps, restart_every=50)
        model = RqVae(12, levels=2, codes=16, hidden=(32,), latent=6, training=settings)
        model.fit(points)
        codes = model.assign(points)
        errors[steps] = relative_reconstruction_error(points, model.reconstruct(codes))
        assert all(len(set(codes[:, level].tolist())) >= 10 for level in range(2))
    assert errors[400] < 0.6
    assert errors[400] < 0.6 * errors[0]


def test_an_rqvae_is_trained_on_the_codes_that_it_assigns():
    points = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    settings = RqVaeTraining(steps=30)
    model = RqVae(6, levels=3, codes=8, hidden=(16,), latent=4, training=settings)
    model.fit(points)
    with torch.no_grad():
        _, codes, seen = model._loss(model._normal(points))
    assert torch.equal(codes, model.assign(points))
    encoded = model.encoder(model._normal(points))
    left = encoded - model.codebooks[0, codes[:, 0]] - model.codebooks[1, codes[:, 1]]
    torch.testing.assert_close(seen[:, 2], left)


def test_moving_averages_learn_too():
    points = torch.randn(256, 12, generator=torch.Generator().manual_seed(0))
    settings = RqVaeTraining(steps=300, ema_decay=0.95, restart_every=50)
    model = RqVae(12, levels=2, codes=16, hidden=(32,), latent=6, training=settings)
    model.fit(points)
    error = relative_reconstruction_error(points, model.reconstruct(model.assign(points)))
    assert error is not None
    assert error < 0.8


def test_a_quantizer_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        ResidualKMeans(3, levels=0)
    with pytest.raises(ValueError, match="latent must be at least 1, got 0"):
        RqVae(3, latent=0)
    with pytest.raises(ValueError, match="The quantizer has no codes yet; call fit first"):
        ResidualKMeans(3).assign(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="embeddings must be finite"):
        ResidualKMeans(3).fit(torch.tensor([[0.0, float("nan"), 0.0]]))
    with pytest.raises(ValueError, match="embeddings must hold at least one item"):
        ResidualKMeans(3).fit(torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"ema_decay must lie in \[0, 1\), got 1"):
        RqVaeTraining(ema_decay=1.0)
    with pytest.raises(ValueError, match="batch_size at least 1"):
        RqVaeTraining(batch_size=0)


@given(st.permutations(range(12)))
def test_the_order_of_value_forgets_the_order_of_items(order):
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_order_of_value(rows), in_order_of_value(rows[order]))
    assert sorted(in_order_of_value(rows).tolist()) == sorted(rows.tolist())


def test_imported_codes_give_unseen_items_the_codes_of_their_like():
    points, group = clustered(per_group=4)
    codes = torch.stack([group, torch.arange(4).repeat(6)], dim=1)
    model = ImportedCodes(codes, (6, 4), width=5)
    model.fit(points)
    assert model.assign(points + 0.01)[:, 0].tolist() == group.tolist()
    with pytest.raises(ValueError, match="embeddings must hold 24 items, got 1"):
        model.fit(points[:1])
    with pytest.raises(ValueError, match="sizes must name 2 levels, got 1"):
        ImportedCodes(codes, (6,), width=5)
    with pytest.raises(ValueError, match="known_codes must lie between 0"):
        ImportedCodes(codes, (6, 3), width=5)


def test_code_files_of_all_formats_agree(tmp_path):
    expected = {"A": (3, 0), "B": (1, 2)}
    (tmp_path / "a.json").write_text(json.dumps({"A": ["<a_3>", "<b_0>"], "B": [1, "2"]}))
    pl.DataFrame({"item_key": ["A", "B"], "codes": [[3, 0], [1, 2]]}).write_parquet(
        tmp_path / "a.parquet"
    )
    (tmp_path / "a.csv").write_text("item_key,first,second\nA,3,0\nB,1,2\n")
    for name in ("a.json", "a.parquet", "a.csv"):
        assert read_code_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"A": [1], "B": [1, 2]}', r"have \[1, 2\] levels"),
        ("a.json", '{"A": []}', r"have \[0\] levels"),
        ("a.json", '{"A": ["x"]}', "The item A in .* has 'x' where a digit should be"),
        ("a.json", '{"A": [-1]}', "has -1 where a digit should be"),
        ("a.json", '{"A": [true]}', "has True where a digit should be"),
        ("a.json", "[1]", "it must map item keys to lists of digits"),
        ("a.json", "{", "cannot be read"),
        ("a.csv", "key,a\nA,1\n", "it has no column item_key"),
        ("a.csv", "item_key,a\nA,1\nA,2\n", "it names an item twice"),
    ],
)
def test_broken_code_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_code_file(tmp_path / name)


def test_a_missing_code_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read the code file .*none\.json: No such"):
        read_code_file(tmp_path / "none.json")


def test_digits_may_begin_at_one_and_unknown_items_are_marked():
    codes, sizes, known = codes_of_items({"B": (1, 4), "A": (2, 1)}, ["A", "C", "B"])
    assert codes.tolist() == [[1, 0], [0, 3]]
    assert sizes == (2, 4)
    assert known.tolist() == [True, False, True]
    with pytest.raises(InputError, match="knows none of the items"):
        codes_of_items({"B": (0,)}, ["A"])


def test_quality_by_hand():
    codes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]])
    quality = semantic_id_quality(codes, (4, 2, 2), quantizer_codes=codes[:, :2])
    first, second, third = quality.levels
    assert (first.size, first.used, first.prefixes, first.most_children) == (4, 2, 2, 2)
    assert first.perplexity == pytest.approx(4 / 3**0.75)  # entropy of 3/4 and 1/4
    assert second.perplexity == pytest.approx(2.0)
    assert (second.mean_children, second.single_child_share) == (1.5, 0.5)
    assert (third.prefixes, third.most_children) == (4, 2)
    assert third.single_child_share == pytest.approx(2 / 3)
    assert quality.collision_rate == 0.5
    assert quality.bucket_sizes == {1: 2, 2: 1}
    assert quality.largest_bucket == 2
    assert "50.0% share their codes" in quality_table(quality)
    assert json.loads(json.dumps(quality.as_json()))["bucket_sizes"] == {"1": 2, "2": 1}
    with pytest.raises(ValueError, match="item_codes must hold at least one item"):
        semantic_id_quality(codes[:0], (4, 2, 2), quantizer_codes=codes[:0])


def test_reconstruction_error_has_its_fixed_points():
    points, _ = clustered()
    assert relative_reconstruction_error(points, points) == 0
    mean = points.mean(0).expand_as(points)
    assert relative_reconstruction_error(points, mean) == pytest.approx(1.0)
    assert relative_reconstruction_error(points[:1], points[:1]) is None
