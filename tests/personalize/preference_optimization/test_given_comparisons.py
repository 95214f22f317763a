"""Stored comparisons where a half and a builder are asked for: nothing lost, nothing added."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_prep.errors import ArtifactMismatch
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.comparison_set import ComparisonSet
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import WholeRankings
from personalize.preference_optimization.given_comparisons import (
    ComparedSource,
    GivenComparisons,
)
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    kept_comparisons,
    write_comparisons,
)
from personalize.preference_optimization.tabular_policy import NumberedContexts
from personalize.preference_optimization.tunable import TRAINING, VALIDATION
from personalize.tuning.data import TuningData
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable


def written(folder: Path, stored: StoredComparisons, toy: ToyTunable) -> Path:
    write_comparisons(folder, stored, command="test", configuration={}, inputs=dict(toy.inputs))
    return folder


def built(builder, contexts) -> tuple[ToyTunable, StoredComparisons]:
    toy = ToyTunable()
    candidates = toy.candidates(torch.as_tensor(contexts), toy.policy, seed=0)
    return toy, kept_comparisons(builder(candidates), candidates, {})


def spoken(compared: ComparedRows, context, response, responses) -> set:
    """What every comparison says, whatever its rows are called."""
    said = set()
    for number, places in enumerate(compared.present):
        rows = compared.rows[number][places]
        pairs = [(int(context[r]), int(responses[response[r]])) for r in rows]
        said.add((tuple(pairs), float(compared.strength[number])))
    return said


@pytest.mark.parametrize(
    "builder", [WholeRankings({"match": 1.0}, 4), ContextSwaps({"match": 1.0})], ids=str
)
def test_what_was_stored_is_built_again(tmp_path, builder) -> None:
    toy, stored = built(builder, toy_contexts := torch.arange(0, 90, 2))
    folder = written(tmp_path / "out", stored, toy)
    half = ComparedSource(ToySource(), folder).open()
    candidates = half.candidates(toy_contexts, half.policy, seed=5)
    found = GivenComparisons(folder)(candidates)
    assert spoken(found, candidates.context, candidates.response, candidates.responses) == spoken(
        stored.compared, stored.context, stored.response, stored.responses
    )
    judged = toy.judge(candidates.context, candidates.responses[candidates.response][:, None])
    torch.testing.assert_close(candidates.reward, judged.reward[:, 0])
    few = half.candidates(toy_contexts[:3], half.policy, seed=5)
    assert set(few.origin.tolist()) <= {0, 2, 4}
    assert 0 < len(GivenComparisons(folder)(few)) < len(found)


def test_a_generator_is_tuned_on_stored_comparisons_split_by_split(tmp_path) -> None:
    toy, stored = built(WholeRankings({"match": 1.0}, 2), torch.arange(100))
    folder = written(tmp_path / "out", stored, toy)
    source = ComparedSource(ToySource(), folder)
    data = TuningData(source, GivenComparisons(folder), batch_size=8)
    data.build(data.policy, None)
    for part, split in ((data.training, TRAINING), (data.validation, VALIDATION)):
        assert isinstance(part, ComparisonSet)
        context = part.context[part.compared.rows]
        assert set(context.flatten().tolist()) <= {
            c + swap for c in toy.contexts(split).tolist() for swap in (0, 100)
        }
        assert len(part) > 10
    assert len(data.training) + len(data.validation) == int((stored.origin < 80).sum())
    assert set(data.input_hashes()) == {"toy", "comparisons"}


def test_all_else_is_the_halfs_own(tmp_path) -> None:
    toy, stored = built(WholeRankings({"match": 1.0}), torch.arange(9))
    half = ComparedSource(ToySource(), written(tmp_path / "out", stored, toy)).open()
    contexts, every = torch.tensor([3, 104]), torch.arange(12).expand(2, -1)
    assert half.contexts(TRAINING).tolist() == toy.contexts(TRAINING).tolist()
    batch = half.batch(contexts)
    assert isinstance(batch, NumberedContexts)
    assert torch.equal(batch.numbers, toy.batch(contexts).numbers)
    assert torch.equal(half.targets(contexts), toy.targets(contexts))
    assert torch.equal(half.judge(contexts, every).reward, toy.judge(contexts, every).reward)
    assert torch.equal(half.features(contexts, every)[1], toy.features(contexts, every)[1])
    found = half.evaluate(half.policy, VALIDATION)
    assert (found.values["match"] == toy.evaluate(toy.policy, VALIDATION).values["match"]).all()
    half.write(half.policy, tmp_path / "policy", command="test", options={})
    assert (tmp_path / "policy" / "manifest.json").is_file()


def test_a_logged_response_is_known_as_one(tmp_path) -> None:
    toy = ToyTunable()
    logged = toy.targets(torch.arange(4))[:, 0]
    rows = torch.tensor([[0, 1]])
    stored = StoredComparisons(
        ComparedRows.of(rows, "given"), torch.tensor([2, 2]), torch.tensor([0, 1]),
        torch.tensor([2]), torch.stack([logged[2], (logged[2] + 1) % 12]), {},
    )  # fmt: skip
    half = ComparedSource(ToySource(), written(tmp_path / "out", stored, toy)).open()
    found = half.candidates(torch.arange(4), half.policy, seed=0)
    assert found.target.tolist() == [True, False]
    assert found.distance.tolist() == [0.0, 1.0]
    none = half.candidates(torch.tensor([3]), half.policy, seed=0)
    assert len(none.context) == 0
    assert len(GivenComparisons(tmp_path / "out")(none)) == 0


def test_a_best_that_fails_a_gate_is_not_taught(tmp_path) -> None:
    toy = ToyTunable()
    assert not toy.gates[1, 3]
    assert toy.gates[1, 2]
    pairs = torch.tensor([[0, 1], [1, 0]])
    stored = StoredComparisons(
        ComparedRows.of(pairs, "given"), torch.tensor([1, 1]), torch.tensor([0, 1]),
        torch.tensor([1, 1]), torch.tensor([2, 3]), {},
    )  # fmt: skip
    folder = written(tmp_path / "out", stored, toy)
    half = ComparedSource(ToySource(), folder).open()
    found = half.candidates(torch.tensor([1]), half.policy, seed=0)
    kept = GivenComparisons(folder)(found)
    assert found.responses[found.response[kept.rows]].tolist() == [[2, 3]]


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    toy, stored = built(WholeRankings({"match": 1.0}), torch.arange(9))
    folder = written(tmp_path / "out", stored, toy)
    with pytest.raises(ArtifactMismatch, match="was made with other toy than the half has"):
        ComparedSource(ToySource(seed=1), folder).open()
    candidates = toy.candidates(torch.arange(9), toy.policy, seed=0)
    other = replace(candidates, responses=torch.zeros(12, 8, 3))
    with pytest.raises(ValueError, match=r"compares responses of another kind: \(\) torch.int64"):
        GivenComparisons(folder)(other)
    with pytest.raises(ArtifactMismatch, match="no artifact"):
        GivenComparisons(tmp_path)(candidates)


def test_what_was_logged_under_another_wish_is_no_target_here(tmp_path) -> None:
    toy = ToyTunable()
    logged = toy.targets(torch.tensor([2, 102]))[:, 0]
    stored = StoredComparisons(
        ComparedRows.of(torch.tensor([[0, 1]]), "given"), torch.tensor([2, 102]),
        torch.tensor([0, 1]), torch.tensor([2]), logged, {},
    )  # fmt: skip
    half = ComparedSource(ToySource(), written(tmp_path / "out", stored, toy)).open()
    found = half.candidates(torch.tensor([2]), half.policy, seed=0)
    assert found.context.tolist() == [2, 102]
    assert found.target.tolist() == [True, False]
