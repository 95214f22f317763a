"""Comparisons as a table and as an artifact: what is read back is what was written."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from personalize.preference_optimization.compared_rows import ComparedRows, joined
from personalize.preference_optimization.comparison_tables import (
    COMPARISONS,
    comparison_table,
    comparisons_of_table,
    own_comparisons,
)
from personalize.preference_optimization.extremes import PairsByReward
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    kept_comparisons,
    read_comparisons,
    write_comparisons,
)
from tests.personalize.preference_optimization.toy_tunable import ToyTunable

CONTEXT, RESPONSE = torch.tensor([7, 7, 7, 107, 9]), torch.tensor([3, 0, 1, 3, 2])
ORIGIN = torch.tensor([7, 7])


def compared() -> ComparedRows:
    """A list of three in one context, and one response in two contexts."""
    whole = joined(
        [
            ComparedRows.of(torch.tensor([[2, 0, 1]]), "lists", grade=torch.tensor([[3.0, 2, 1]])),
            ComparedRows.of(torch.tensor([[3, 0]]), "swaps", strength=torch.tensor([0.25])),
        ]
    )
    return replace(whole, margin=torch.tensor([0.5, 0.0]), annotator=torch.tensor([4, 11]))


def spoken(found: ComparedRows, context: torch.Tensor, response: torch.Tensor) -> list:
    """What comparisons say, whatever their rows are called."""
    said = []
    for number in range(len(found)):
        rows = found.rows[number][found.present[number]]
        places = [(int(context[r]), int(response[r])) for r in rows]
        names = ("strength", "margin", "weight", "annotator")
        numbers = [float(getattr(found, name)[number]) for name in names]
        grades = found.grade[number][found.present[number]].tolist()
        said.append((places, numbers, grades, found.sources[int(found.provenance[number])]))
    return said


def test_a_table_says_what_the_comparisons_say() -> None:
    table = comparison_table(compared(), CONTEXT, RESPONSE, ORIGIN)
    assert table.height == 5
    assert table.row(0, named=True) == {
        "comparison": 0, "place": 0, "context": 7, "response": 1, "grade": 3.0, "strength": 1.0,
        "margin": 0.5, "weight": 1.0, "annotator": 4, "origin": 7, "provenance": "lists",
    }  # fmt: skip
    assert table["context"].to_list() == [7, 7, 7, 107, 7]
    found, context, response, origin = comparisons_of_table(
        table.sample(fraction=1.0, shuffle=True)
    )
    assert spoken(found, context, response) == spoken(compared(), CONTEXT, RESPONSE)
    assert origin.tolist() == [7, 7]
    assert len(context) == 4  # the row that nothing compares is gone


def test_comparisons_may_bear_any_numbers() -> None:
    table = comparison_table(compared(), CONTEXT, RESPONSE, ORIGIN)
    other = table.with_columns(comparison=pl.lit(5000) - 7 * pl.col("comparison"))
    found, context, response, origin = comparisons_of_table(other)
    assert len(origin) == 2
    expected = spoken(compared(), CONTEXT, RESPONSE)
    assert spoken(found, context, response) == expected[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("place") + 1, "must number the places of a comparison 0, 1, ...; comparison 0"),
        (pl.col("comparison") * 10 + pl.col("place"), "must number the places"),
        ((pl.col("place") * 0.1).cast(pl.Float32).alias("strength"), "more than one strength"),
        (pl.lit(2.0, pl.Float32).alias("strength"), r"strength must lie in \[0, 1\]"),
        (pl.lit(1, pl.Int64).alias("response"), "compared with itself"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(change: pl.Expr, message: str) -> None:
    table = comparison_table(compared(), CONTEXT, RESPONSE, ORIGIN).with_columns(change)
    with pytest.raises(InputError, match=message):
        comparisons_of_table(table)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="is empty"):
        comparisons_of_table(COMPARISONS.empty())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_of_ones_own_needs_four_columns(tmp_path, ending: str) -> None:
    frame = pl.DataFrame(
        {"comparison": [1, 1], "place": [1, 0], "context": [5, 5], "response": [8, 3]}
    )
    path = tmp_path / f"own{ending}"
    (frame.write_csv if ending == ".csv" else frame.write_parquet)(path)
    found, context, response, origin = comparisons_of_table(own_comparisons(path))
    assert spoken(found, context, response) == [
        ([(5, 3), (5, 8)], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0], "given")
    ]
    assert origin.tolist() == [5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("comparison,place,context\n1,0,5\n", "lacks response"),
        ("comparison,place,context,response,stars\n1,0,5,2,3\n", "has unknown stars"),
        ("comparison,place,context,response\n1,0,5,shoe\n", "holds what does not fit"),
        ("comparison,place,context,response\n1,0,5,\n1,1,5,2\n", "null in response"),
        ("comparison,place,context,response\n1,0,5,1\n1,0,5,2\n", "repeats a key"),
    ],
)
def test_a_table_of_ones_own_that_does_not_fit_is_refused(tmp_path, text, message) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        own_comparisons(path)


def test_a_table_that_is_not_there_is_refused(tmp_path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(InputError, match="cannot be read as a table"):
            own_comparisons(tmp_path / name)


def written(folder, stored: StoredComparisons) -> None:
    write_comparisons(
        folder, stored, command="test", configuration={"seed": 0}, inputs={"toy": "abc"}
    )


def test_what_is_read_back_is_what_was_written(tmp_path) -> None:
    responses = torch.randn(4, 8, 3)
    stored = StoredComparisons(
        compared(), CONTEXT, RESPONSE, ORIGIN, responses, {"generator": "table"}
    )
    written(tmp_path / "out", stored)
    found = read_comparisons(tmp_path / "out")
    assert spoken(found.compared, found.context, found.response) == spoken(
        compared(), CONTEXT, RESPONSE
    )
    assert torch.equal(found.responses, responses)
    assert found.facts == {"generator": "table"}
    with read_artifact(tmp_path / "out", kind="comparisons") as artifact:
        assert artifact.manifest.inputs == {"toy": "abc"}
        assert artifact.manifest.notes == {
            "comparisons": 2, "contexts": 1, "lists": 1, "swaps": 1,
        }  # fmt: skip


def test_the_same_comparisons_are_the_same_bytes(tmp_path) -> None:
    stored = StoredComparisons(compared(), CONTEXT, RESPONSE, ORIGIN, torch.arange(4), {})
    for name in ("one", "two"):
        written(tmp_path / name, stored)
    hashes = {read_artifact(tmp_path / n, kind="comparisons").content_hash for n in ("one", "two")}
    assert len(hashes) == 1


def test_some_of_the_stored_speak_of_the_same_rows(tmp_path) -> None:
    stored = StoredComparisons(compared(), CONTEXT, RESPONSE, ORIGIN, torch.arange(4), {})
    some = stored.some(torch.tensor([1]))
    assert len(some) == 1
    assert spoken(some.compared, some.context, some.response)[0][0] == [(107, 3), (7, 3)]


def test_a_damaged_or_other_artifact_is_refused(tmp_path) -> None:
    few = StoredComparisons(compared(), CONTEXT, RESPONSE, ORIGIN, torch.arange(2), {})
    written(tmp_path / "few", few)
    with pytest.raises(ArtifactMismatch, match="compares responses that it does not hold"):
        read_comparisons(tmp_path / "few")
    with pytest.raises(ArtifactMismatch, match="no artifact"):
        read_comparisons(tmp_path)
    with pytest.raises(InputError, match="exists"):
        written(tmp_path / "few", few)


def test_what_is_kept_is_what_is_compared() -> None:
    toy = ToyTunable()
    candidates = toy.candidates(torch.tensor([0, 4]), toy.policy, seed=0)
    found = PairsByReward({"match": 1.0}, per_context=1)(candidates)
    kept = kept_comparisons(found, candidates, {})
    assert len(kept.context) == len(found.rows.unique()) < len(candidates.context)
    assert len(kept.responses.unique()) == len(kept.responses)
    mine = [
        [(int(candidates.context[r]), int(candidates.responses[candidates.response[r]]))
         for r in row] for row in found.rows
    ]  # fmt: skip
    theirs = [
        [(int(kept.context[r]), int(kept.responses[kept.response[r]])) for r in row]
        for row in kept.compared.rows
    ]
    assert mine == theirs


def test_a_comparison_belongs_with_the_context_of_its_best(tmp_path) -> None:
    (tmp_path / "own.csv").write_text("comparison,place,context,response\n1,1,5,8\n1,0,6,8\n")
    _, _, _, origin = comparisons_of_table(own_comparisons(tmp_path / "own.csv"))
    assert origin.tolist() == [6]


def test_a_comparison_of_one_is_named() -> None:
    table = comparison_table(compared(), CONTEXT, RESPONSE, ORIGIN)
    alone = table.filter((pl.col("comparison") == 0) | (pl.col("place") == 0))
    with pytest.raises(InputError, match=r"must number the places .*; comparison 1 does not"):
        comparisons_of_table(alone)
