"""`recsys tokenize` and `recsys assign` on small artifacts."""

import json
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import CODES, ITEM_TEXT_IDS, ITEMS, TEXTS
from recsys.semantic_id import assign, tokenize
from recsys.semantic_id.assign import grown_codec
from recsys.semantic_id.rqvae import RqVae, RqVaeTraining
from recsys.semantic_id.tokenize import codes_for, item_vectors

WIDTH = 8


def vector_of(key):
    """A vector near that of all keys with the same first letter."""
    middle = np.random.default_rng(ord(key[0])).normal(size=WIDTH)
    return middle + 0.05 * np.random.default_rng(sum(key.encode())).normal(size=WIDTH)


def catalogue(folder, keys, *, without_text=(), width=WIDTH):
    """Tables and vectors of items with these keys."""
    keys = sorted(keys)
    rows = [
        {"item_id": i, "item_key": key, "title": None, "brand": None, "categories": [],
         "price_cents": None, "description": None}
        for i, key in enumerate(keys)
    ]  # fmt: skip
    with create_artifact(
        folder / "tables", kind="reviews", command="t", configuration={}, inputs={}
    ) as writer:
        writer.write_table(ITEMS, pl.DataFrame(rows, schema=ITEMS.polars))
    tables = read_artifact(folder / "tables", kind="reviews")
    texts = [key for key in keys if key not in without_text]
    with create_artifact(
        folder / "vectors", kind="vectors", command="t", configuration={},
        inputs={"reviews": tables.content_hash},
    ) as writer:  # fmt: skip
        numbers = range(len(texts))
        writer.write_table(
            TEXTS, pl.DataFrame({"text_id": numbers, "text": texts}, schema=TEXTS.polars)
        )
        ids = [texts.index(key) if key in texts else None for key in keys]
        frame = pl.DataFrame(
            {"item_id": range(len(keys)), "text_id": ids}, schema=ITEM_TEXT_IDS.polars
        )
        writer.write_table(ITEM_TEXT_IDS, frame)
        values = np.stack([vector_of(key)[:width] for key in texts]).astype(np.float32)
        writer.write_arrays("vectors", {"values": values})
    return folder


def codes_by_key(folder, keys):
    codes = read_artifact(folder, kind="semantic_ids").table(CODES)["codes"].to_list()
    return dict(zip(sorted(keys), map(tuple, codes), strict=True))


KEYS = [f"{letter}{number}" for letter in "abcdef" for number in range(8)]


@pytest.fixture
def world(tmp_path, monkeypatch):
    short = partial(RqVae, training=RqVaeTraining(steps=40, batch_size=32))
    monkeypatch.setitem(tokenize.LEARNT, "rqvae", short)
    return catalogue(tmp_path, KEYS, without_text=("a1", "f3"))


def tokenized(world, name="ids", **options):
    out = world / name
    tokenize.run(vectors=world / "vectors", tables=world / "tables", out=out, **options)
    return out


@pytest.mark.parametrize("quantizer", ["residual-kmeans", "rqvae"])
def test_every_item_gets_an_id_of_its_own_and_like_items_share_codes(world, quantizer, capsys):
    out = tokenized(world, quantizer=quantizer, codes=6, levels=2)
    codes = codes_by_key(out, KEYS)
    artifact = read_artifact(out, kind="semantic_ids")
    document = artifact.json("codec")
    assert len(set(codes.values())) == len(KEYS)
    assert (document["quantizer_levels"], len(document["level_sizes"])) == (2, 3)
    quality = artifact.json("quality")
    assert quality["items"] == len(KEYS)
    assert artifact.manifest.notes["items_without_text"] == 2
    assert codes["a1"][:2] == codes["f3"][:2]  # both stand in the middle of all
    assert "share their codes with another" in capsys.readouterr().err
    if quantizer == "residual-kmeans":
        assert len({codes[key][0] for key in ("b0", "b3", "b7")}) == 1


def test_an_item_without_a_text_stands_in_the_middle_of_the_others(world):
    items = item_vectors(read_artifact(world / "vectors", kind="vectors"))
    middle = items.values[items.known].mean(0)
    assert [KEYS[i] for i in torch.nonzero(~items.known).flatten()] == ["a1", "f3"]
    torch.testing.assert_close(items.values[~items.known], middle.expand(2, -1))


def test_the_same_input_gives_the_same_bytes(world):
    first, second = tokenized(world), tokenized(world, "again")
    hashes = [read_artifact(out, kind="semantic_ids").content_hash for out in (first, second)]
    assert hashes[0] == hashes[1]
    other = tokenized(world, "seed", seed=1)
    assert read_artifact(other, kind="semantic_ids").content_hash != hashes[0]


def test_a_code_file_gives_its_codes_and_the_rest_is_inferred(world, capsys):
    digits = {key: [ord(key[0]) - 96, int(key[1])] for key in KEYS if key != "c5"}
    digits["d1"] = digits["d0"]
    (world / "codes.json").write_text(json.dumps(digits))
    out = tokenized(world, quantizer="imported", codes_file=world / "codes.json", collisions="move")
    codes = codes_by_key(out, KEYS)
    assert codes["b3"] == (1, 3)
    assert codes["d0"] == (3, 0)
    assert codes["d1"] == (3, 1)
    assert codes["c5"][0] == 2
    assert "1 items are not in" in capsys.readouterr().err


@pytest.mark.parametrize("quantizer", ["residual-kmeans", "rqvae", "imported"])
def test_later_items_find_a_place_and_known_items_keep_theirs(world, tmp_path, quantizer):
    options = {"quantizer": quantizer, "codes": 6, "levels": 2}
    if quantizer == "imported":
        digits = {key: [ord(key[0]) - 97, int(key[1])] for key in KEYS}
        (world / "codes.json").write_text(json.dumps(digits))
        options["codes_file"] = world / "codes.json"
    out = tokenized(world, **options)
    grown = [*KEYS[1:], "a05", "c9", "zz"]  # "a0" is gone, so all numbers shift
    later = catalogue(tmp_path / "later", grown)
    assign.run(
        semantic_ids=out, vectors=later / "vectors", tables=later / "tables", out=later / "ids"
    )
    before, after = codes_by_key(out, KEYS), codes_by_key(later / "ids", grown)
    assert all(after[key] == before[key] for key in KEYS[1:])
    assert len(set(after.values())) == len(grown)
    assert before["a0"] not in after.values()
    if quantizer != "rqvae":
        assert after["c9"][0] == before["c2"][0]
    sizes = [read_artifact(f, kind="semantic_ids").json("codec") for f in (out, later / "ids")]
    assert sizes[0] == sizes[1]
    again = later / "twice"
    assign.run(
        semantic_ids=later / "ids", vectors=later / "vectors", tables=later / "tables", out=again
    )
    assert codes_by_key(again, grown) == after


@pytest.mark.parametrize(
    ("quantizer", "first", "second"),
    [
        ("residual-kmeans", {"components": 1}, {"components": 7}),
        ("rqvae", {"steps": 5}, {"steps": 30}),
        ("rqvae", {"steps": 30, "learning_rate": 1e-4}, {"steps": 30, "learning_rate": 1e-2}),
        ("rqvae", {"steps": 30, "commitment": 0.1}, {"steps": 30, "commitment": 5.0}),
        (
            "rqvae",
            {"steps": 30, "codebook_update": "ema"},
            {"steps": 30, "codebook_update": "gradient"},
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_an_option_reaches_the_quantizer_and_later_items_are_assigned_by_it(
    world, tmp_path, quantizer, first, second
):
    options = {"quantizer": quantizer, "codes": 6, "levels": 2}
    out = tokenized(world, **options, **first)
    other = tokenized(world, "other", **options, **second)
    weights = [(f / "quantizer.safetensors").read_bytes() for f in (out, other)]
    assert weights[0] != weights[1]
    configuration = read_artifact(out, kind="semantic_ids").manifest.configuration
    assert {name: configuration[name] for name in first} == first
    grown = [*KEYS, "c9"]
    later = catalogue(tmp_path / "later", grown)
    assign.run(
        semantic_ids=out, vectors=later / "vectors", tables=later / "tables", out=later / "ids"
    )
    before, after = codes_by_key(out, KEYS), codes_by_key(later / "ids", grown)
    assert all(after[key] == before[key] for key in KEYS)
    assert (later / "ids" / "quantizer.safetensors").read_bytes() == weights[0]


def test_a_full_bucket_is_named():
    known = {"a": (0, 0), "b": (0, 1)}
    assigned = np.array([[0], [0], [0]])
    with pytest.raises(InputError, match=r"The item c gets the codes \[0\], which 2 items share"):
        grown_codec(known, (4, 2), ["a", "b", "c"], torch.from_numpy(assigned))
    codec, seen = grown_codec(known, (4, 3), ["a", "b", "c"], torch.from_numpy(assigned))
    assert codec.item_codes.tolist() == [[0, 0], [0, 1], [0, 2]]
    assert seen.tolist() == [True, True, False]


def test_what_does_not_fit_is_refused(world, tmp_path):
    nameless = world / "nameless"
    tokenize.run(vectors=world / "vectors", tables=None, out=nameless, codes=6)
    with pytest.raises(
        ArtifactMismatch, match="holds no item keys; run recsys tokenize with --tab"
    ):
        assign.run(
            semantic_ids=nameless, vectors=world / "vectors", tables=world / "tables",
            out=world / "x",
        )  # fmt: skip
    narrow = catalogue(tmp_path / "narrow", KEYS, width=5)
    out = tokenized(world, codes=6)
    with pytest.raises(ArtifactMismatch, match="does not fit vectors of 5 numbers"):
        assign.run(
            semantic_ids=out, vectors=narrow / "vectors", tables=narrow / "tables", out=world / "x"
        )
    other = catalogue(tmp_path / "other", [*KEYS, "g0"])
    with pytest.raises(ArtifactMismatch, match="was made from other tables than"):
        tokenize.run(vectors=world / "vectors", tables=other / "tables", out=world / "x")
    for options, message in (
        ({"codes": 0}, "--codes must be at least 1, got 0"),
        ({"levels": 0}, "--levels must be at least 1, got 0"),
        ({"collision_size": 0}, "--collision-size must be at least 1, got 0"),
        ({"quantizer": "imported"}, "--codes-file and --quantizer imported belong together"),
        ({"codes_file": world / "a.json"}, "--codes-file and --quantizer imported belong together"),
        ({"levels": 1, "codes": 1, "collision_size": 4}, "items share the codes"),
        ({"components": 0}, "--components must be at least 1, got 0"),
        ({"quantizer": "rqvae", "steps": 0}, "--steps must be at least 1, got 0"),
        (
            {"quantizer": "rqvae", "learning_rate": -1.0},
            "--learning-rate must be positive, got -1",
        ),
        ({"quantizer": "rqvae", "commitment": 0.0}, "--commitment must be positive, got 0"),
        (
            {"quantizer": "rqvae", "components": 4},
            "--components is read by --quantizer residual-kmeans alone, not by rqvae",
        ),
        *(
            (
                {name: value},
                f"{flag} is read by --quantizer rqvae alone, not by residual-kmeans",
            )
            for name, flag, value in (
                ("steps", "--steps", 3),
                ("learning_rate", "--learning-rate", 0.1),
                ("commitment", "--commitment", 0.5),
                ("codebook_update", "--codebook-update", "ema"),
            )
        ),
        (
            {"quantizer": "imported", "codes_file": world / "a.json", "steps": 9},
            "--steps is read by --quantizer rqvae alone, not by imported",
        ),
    ):
        with pytest.raises(InputError, match=message):
            tokenized(world, "x", **options)
    with pytest.raises(InputError, match="needs --tables, which name the items"):
        tokenize.run(
            vectors=world / "vectors", tables=None, out=world / "x", quantizer="imported",
            codes_file=world / "a.json",
        )  # fmt: skip


def test_a_catalogue_without_texts_is_refused(tmp_path):
    lonely = catalogue(tmp_path, ["a0", "b0"], without_text=("a0",))
    vectors = read_artifact(lonely / "vectors", kind="vectors")
    with create_artifact(
        tmp_path / "mute", kind="vectors", command="t", configuration={}, inputs={}
    ) as writer:
        writer.write_table(TEXTS, vectors.table(TEXTS))
        nobody = vectors.table(ITEM_TEXT_IDS).with_columns(text_id=pl.lit(None, pl.Int32))
        writer.write_table(ITEM_TEXT_IDS, nobody)
        writer.write_arrays("vectors", vectors.arrays("vectors"))
    with pytest.raises(InputError, match="has no item with a text, so nothing can be quantized"):
        tokenize.run(vectors=tmp_path / "mute", tables=None, out=tmp_path / "x")


@pytest.mark.parametrize(("items", "codes"), [(1, 2), (362, 64), (900, 64), (12_101, 256)])
def test_the_number_of_codes_follows_the_number_of_items(items, codes):
    assert codes_for(items) == codes
