"""Semantic IDs made elsewhere: codes from a file, and codes for items that the file lacks."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.errors import InputError
from recsys.semantic_id.quantizer import Quantizer, one_thread
from recsys.semantic_id.residual_kmeans import nearest_codes, summed_vectors


@final
class ImportedCodes(Quantizer):
    """Codes that were made elsewhere, with codebooks inferred from the embeddings they belong to.

    A level's vector for a code is the mean residual of the items that carry it. With it an item
    the file does not know gets codes; items of the file keep theirs, which `assign` need not
    repeat exactly.

    Args:
        known_codes: Codes of the items that `fit` will see, in the same order.
        sizes: Number of codes at each level.
        width: Length of an embedding.

    Raises:
        ValueError: If the sizes do not fit the codes or a code is out of range.
    """

    codebooks: Float[Tensor, "level code width"]
    live: Bool[Tensor, "level code"]

    def __init__(
        self, known_codes: Int[Tensor, "item level"], sizes: tuple[int, ...], *, width: int
    ) -> None:
        super().__init__()
        if known_codes.shape[1] != len(sizes):
            raise ValueError(f"sizes must name {known_codes.shape[1]} levels, got {len(sizes)}.")
        if bool(((known_codes < 0) | (known_codes >= torch.tensor(sizes))).any()):
            raise ValueError("known_codes must lie between 0 and their level's size minus 1.")
        self.known_codes = known_codes
        self.sizes = sizes
        self.register_buffer("codebooks", torch.zeros(len(sizes), max(sizes), width))
        self.register_buffer("live", torch.zeros(len(sizes), max(sizes), dtype=torch.bool))

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes at each level."""
        return self.sizes

    @torch.no_grad()
    def fit(self, embeddings: Float[Tensor, "item width"]) -> None:
        """Infer the vector of every code from the items that carry it.

        Raises:
            ValueError: If there is not one embedding per known item.
        """
        if len(embeddings) != len(self.known_codes):
            raise ValueError(
                f"embeddings must hold {len(self.known_codes)} items, got {len(embeddings)}."
            )
        self.codebooks.zero_()
        self.live.zero_()
        with one_thread():
            residuals = embeddings.double()
            for level, codes in enumerate(self.known_codes.T):
                count = torch.bincount(codes, minlength=self.live.shape[1])
                sums = torch.zeros(self.codebooks.shape[1:], dtype=torch.float64)
                sums.index_add_(0, codes, residuals)
                self.codebooks[level] = (sums / count.clamp_min(1)[:, None]).float()
                self.live[level] = count > 0
                residuals = residuals - self.codebooks[level].double()[codes]

    @torch.no_grad()
    def assign(self, embeddings: Float[Tensor, "item width"]) -> Int[Tensor, "item level"]:
        """The nearest code of each level to what the levels before it left.

        Raises:
            ValueError: If nothing was fitted.
        """
        return nearest_codes(embeddings, self.codebooks, self.live)

    def reconstruct(self, codes: Int[Tensor, "item level"]) -> Float[Tensor, "item width"]:
        """Sum of the codes' vectors."""
        return summed_vectors(codes, self.codebooks)


def read_code_file(path: Path) -> dict[str, tuple[int, ...]]:
    """Codes by item key, as a JSON, Parquet or CSV file gives them.

    JSON is an object from item key to a list of digits, each a number or a token that ends in one,
    such as `<a_183>`. Parquet and CSV have a column `item_key` and either a list column `codes`
    (Parquet) or one column per level, taken in their order.

    Raises:
        InputError: If the file cannot be read, an item has no valid digit, or items differ in the
            number of levels.
    """
    try:
        raw = _raw_codes(path)
    except OSError as error:
        raise InputError(f"Cannot read the code file {path}: {error.strerror}.") from error
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(f"The code file {path} cannot be read: {error}.") from error
    found = {key: tuple(_digit(digit, key, path) for digit in row) for key, row in raw.items()}
    lengths = {len(row) for row in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"Items of {path} have {sorted(lengths)} levels; every item needs the same number."
        )
    return found


def codes_of_items(
    found: Mapping[str, Sequence[int]], item_keys: Sequence[str]
) -> tuple[Int[Tensor, "known level"], tuple[int, ...], Bool[Tensor, " item"]]:
    """Codes of the items that a file knows, the level sizes, and which items those are.

    Digits may begin at any number, as published codes often begin at 1; the smallest of each level
    becomes 0.

    Raises:
        InputError: If the file knows none of the items.
    """
    known = [key in found for key in item_keys]
    rows = [tuple(found[key]) for key in item_keys if key in found]
    if not rows:
        raise InputError(
            "The code file knows none of the items; its keys must be the tables' item keys."
        )
    everything = torch.tensor(list(found.values()), dtype=torch.long)
    lowest = everything.min(0).values.clamp_max(1)
    sizes = tuple((everything.max(0).values - lowest + 1).tolist())
    return torch.tensor(rows, dtype=torch.long) - lowest, sizes, torch.tensor(known)


def _raw_codes(path: Path) -> dict[str, Sequence[Any]]:
    if path.suffix == ".json":
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not all(
            isinstance(row, list) for row in document.values()
        ):
            raise ValueError("it must map item keys to lists of digits")
        return document
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    if "item_key" not in frame.columns:
        raise ValueError("it has no column item_key")
    keys = frame["item_key"].cast(pl.String).to_list()
    if frame["item_key"].n_unique() != len(keys):
        raise ValueError("it names an item twice")
    if "codes" in frame.columns:
        return dict(zip(keys, frame["codes"].to_list(), strict=True))
    return dict(zip(keys, frame.drop("item_key").iter_rows(), strict=True))


def _digit(value: object, key: str, path: Path) -> int:
    """A digit given as a number, or as a token that ends in one."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = re.search(r"(\d+)\D*$", value) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"The item {key} in {path} has {value!r} where a digit should be.")
    return int(match[1])
