"""Answers to a benchmark: one per distinct question, whatever the batch; failures are counted."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import BENCHMARK_ROWS, RECOMMENDATIONS
from recsys.__main__ import main
from recsys.answers import AskingOptions, ask, askable_rows, distinct_questions
from recsys.benchmark import write_benchmark
from recsys.predict import chosen_rows, predicted, run_name, write_predictions
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.top_items import top_items
from tests.recsys.small_world import make_world, write_world

ITEMS = 40


class Reader(Recommender):
    """Scores depend on the newest item and on every preference."""

    uses_preferences: ClassVar[bool] = True
    by_item: torch.Tensor
    by_text: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        table = torch.Generator().manual_seed(3)
        self.register_buffer("by_item", torch.rand(ITEMS, ITEMS, generator=table).double())
        self.register_buffer("by_text", torch.rand(200, ITEMS, generator=table).double())

    def loss(self, batch):
        return torch.zeros(())

    def recommend(self, batch, *, count, filters: Filters | None = None):
        self.asked += len(batch)
        last = (batch.history_mask.sum(1) - 1).clamp_min(0)
        newest = batch.history_item_ids.gather(1, last[:, None])[:, 0]
        scores = self.by_item[newest] * batch.history_mask.any(1, keepdim=True)
        sign = torch.where(batch.preference_avoid[:, -1], -1.0, 1.0).double()
        weight = (sign * batch.preference_mask[:, -1]).unsqueeze(-1)
        scores = scores + (self.by_text[batch.preference_text_ids[:, -1]] * weight).sum(1)
        return top_items(scores, batch, count=count, filters=filters)


class Deaf(Reader):
    """The same, but says that it reads no preferences."""

    uses_preferences: ClassVar[bool] = False


class Broken(Reader):
    """Gives no number for the histories that end in item 3."""

    def recommend(self, batch, *, count, filters: Filters | None = None):
        found = super().recommend(batch, count=count, filters=filters)
        last = (batch.history_mask.sum(1) - 1).clamp_min(0)
        newest = batch.history_item_ids.gather(1, last[:, None])
        bad = torch.where(newest == 3, torch.nan, 0.0)
        return Recommendations(found.item_ids, found.scores + bad)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("predict")
    paths = write_world(folder, make_world())
    write_benchmark(
        tables=paths["tables"],
        preferences=paths["preferences"],
        vectors=paths["vectors"],
        out=folder / "benchmark",
    )
    benchmark = read_artifact(folder / "benchmark", kind="benchmark")
    return {
        "paths": paths,
        "benchmark": folder / "benchmark",
        "artifact": benchmark,
        "rows": benchmark.table(BENCHMARK_ROWS),
    }


@pytest.mark.parametrize("exclude_history", [False, True])
def test_answers_do_not_depend_on_the_batch(world, exclude_history):
    frames = [
        predicted(
            Reader(), world["rows"], AskingOptions(20, size, exclude_history=exclude_history)
        )[0]
        for size in (1, 7, 512)
    ]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    RECOMMENDATIONS.conform(frames[0])


def test_every_row_is_answered_by_its_own_question(world):
    """Against asking each row alone."""
    reader = Reader()
    frame, facts = predicted(reader, world["rows"], AskingOptions(10, 64))
    assert facts["rows"] == world["rows"].height == frame.height
    assert facts["distinct_questions"] < facts["rows"]
    assert reader.asked == facts["distinct_questions"]
    for row in world["rows"].sample(25, seed=1).to_dicts():
        one = pl.DataFrame([row], schema=BENCHMARK_ROWS.polars)
        alone, _ = predicted(reader, one, AskingOptions(10, 1))
        same = frame.filter(
            (pl.col("axis") == row["axis"])
            & (pl.col("condition") == row["condition"])
            & (pl.col("row_id") == row["row_id"])
        )
        assert alone.equals(same)


def test_the_rank_is_that_of_the_target(world):
    frame, _ = predicted(Reader(), world["rows"], AskingOptions(10, 64))
    joined = frame.join(world["rows"], on=["axis", "condition", "row_id"])
    for row in joined.to_dicts():
        items, target = row["item_ids"], row["target_item_id"]
        expected = items.index(target) + 1 if target in items else None
        assert row["target_rank"] == expected
        assert len(set(items)) == len(items) == 10


def test_avoiding_is_told_from_liking(world):
    rows = world["rows"].filter(
        (pl.col("axis") == "sentiment_following") & (pl.col("preference_polarities").list.len() > 0)
    )
    turned = rows.with_columns(
        pl.col("preference_polarities").list.eval(
            pl.when(pl.element() == "like").then(pl.lit("avoid")).otherwise(pl.lit("like"))
        )
    )
    frames = [predicted(Reader(), part, AskingOptions(10, 64))[0] for part in (rows, turned)]
    assert not frames[0]["item_ids"].equals(frames[1]["item_ids"])


def test_the_whole_history_is_left_out_even_where_it_was_not_shown(world):
    options = AskingOptions(ITEMS, 16, maximum_history=2, exclude_history=True)
    frame, _ = predicted(Reader(), world["rows"], options)
    joined = frame.join(world["rows"], on=["axis", "condition", "row_id"])
    for row in joined.to_dicts():
        assert not set(row["item_ids"]) & set(row["history_item_ids"])


def test_a_recommender_that_reads_nothing_is_asked_without_preferences(world):
    rows = askable_rows(world["rows"], uses_preferences=False)
    assert rows["condition"].unique().to_list() == ["none"]
    left, not_asked = chosen_rows(world["artifact"], None, None, Deaf())
    assert left.height + not_asked == world["rows"].height
    with pytest.raises(InputError, match="Deaf reads no preferences and can only be asked under"):
        chosen_rows(world["artifact"], ["latest"], None, Deaf())


def test_an_unknown_condition_is_refused_by_name(world):
    with pytest.raises(InputError, match="has no condition lately; it has all, latest, none"):
        chosen_rows(world["artifact"], ["lately"], None, Reader())
    with pytest.raises(InputError, match="has no axis driving"):
        chosen_rows(world["artifact"], None, ["driving"], Reader())


def test_a_score_that_is_no_number_fails_its_row_and_no_other(world):
    rows = world["rows"].filter(pl.col("condition") == "none")
    ends_in_three = rows["history_item_ids"].list.last() == 3
    assert ends_in_three.any()
    frame, facts = predicted(Broken(), rows, AskingOptions(10, 16))
    failed = frame["item_ids"].list.len() == 0
    joined = rows.join(frame, on=["axis", "condition", "row_id"])
    lost = joined.filter(pl.col("item_ids").list.len() == 0)
    assert (lost["history_item_ids"].list.last() == 3).all()
    assert facts["failed"] == failed.sum() == ends_in_three.sum()
    assert facts["answered"] + facts["failed"] == facts["rows"]


def test_shorter_histories_are_asked_first(world):
    questions, numbers = distinct_questions(world["rows"])
    lengths = questions["history_item_ids"].list.len().to_numpy()
    assert (np.diff(lengths.astype(int)) >= 0).all()
    assert numbers.null_count() == 0
    answers = ask(Reader(), questions, AskingOptions(3, 50))
    assert answers.item_ids.shape == (questions.height, 3)


@pytest.mark.parametrize("option", ["count", "batch_size"])
def test_a_number_below_one_is_refused(world, tmp_path, option):
    spelt = option.replace("_", "-")
    options: Any = {option: 0}
    with pytest.raises(InputError, match=f"--{spelt} must be at least 1, got 0"):
        write_predictions(
            checkpoint=tmp_path, benchmark=world["benchmark"], out=tmp_path / "p", **options
        )


def test_the_name_is_that_of_the_run():
    assert run_name(Path("a/tiger/checkpoints/best-3")) == "tiger"
    assert run_name(Path("a/tiger")) == "tiger"


def test_from_a_trained_run_to_a_report(world, tmp_path, monkeypatch):
    """The doors fit, predict and report, as typed."""
    monkeypatch.chdir(tmp_path)
    for name in ("popularity", "markov"):
        folder = Path(__file__).parents[2] / "configs" / "recsys"
        tables = str(world["paths"]["tables"])
        fit = ["fit", "--config", str(folder / f"{name}.yaml"), "--data.tables", tables]
        assert main([*fit, "--run-folder", name, "--trainer.accelerator", "cpu"]) == 0
        asked = ["--benchmark", str(world["benchmark"]), "--device", "cpu"]
        assert main(["predict", "--checkpoint", name, *asked, "--out", f"p_{name}"]) == 0
    notes = read_artifact(tmp_path / "p_markov", kind="predictions").manifest.notes
    assert notes["name"] == "markov"
    assert notes["trained_on_validation"] is False
    assert notes["seen_items_excluded"] is False
    assert notes["candidates"] == ITEMS
    reported = ["report", "--predictions", "p_popularity", "p_markov", "--out", "report"]
    assert main([*reported, "--resamples", "200"]) == 0
    assert (tmp_path / "report" / "report.html").stat().st_size < 1_000_000


def test_options_of_a_trained_recommender_can_be_changed(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = str(Path(__file__).parents[2] / "configs" / "recsys" / "causal.yaml")
    paths = [
        f"--data.{name}={world['paths'][name]}" for name in ("tables", "vectors", "preferences")
    ]
    fit = ["fit", "--config", config, *paths, "--run-folder", "run", "--trainer.max_epochs=1"]
    assert main([*fit, "--trainer.accelerator=cpu"]) == 0
    asked = ["predict", "--checkpoint", "run", "--benchmark", str(world["benchmark"])]
    asked += ["--device", "cpu", "--axes", "recommendation", "--out"]
    assert main([*asked, "plain"]) == 0
    deaf = ["--set", "ranking.guidance=0", "--set", "ranking.prior=0.7"]
    assert main([*asked, "deaf", *deaf, "--name", "deaf"]) == 0
    plain, changed = (read_artifact(Path(name), kind="predictions") for name in ("plain", "deaf"))
    assert changed.manifest.configuration["changes"] == ["ranking.guidance=0", "ranking.prior=0.7"]
    by_condition = {}
    for name, source in (("plain", plain), ("deaf", changed)):
        for (condition,), rows in source.table(RECOMMENDATIONS).group_by("condition"):
            by_condition[name, condition] = rows.sort("row_id")["item_ids"]
    assert by_condition["deaf", "none"].equals(by_condition["plain", "none"])
    assert by_condition["deaf", "latest"].equals(by_condition["plain", "none"])
    assert not by_condition["plain", "latest"].equals(by_condition["plain", "none"])
    capsys.readouterr()
    for word, message in [
        ("ranking.prio=1", "CausalRetriever does not take ranking.prio=1"),
        ("ranking.prior=[", "CausalRetriever does not take ranking.prior=[: while parsing"),
        ("ranking.prior=much", "CausalRetriever does not take ranking.prior=much"),
        ("size.width=8", "does not fit CausalRetriever"),
        ("ranking.prior", "--set takes NAME=VALUE, got ranking.prior"),
    ]:
        assert main([*asked, "refused", "--set", word]) != 0
        assert message in capsys.readouterr().err
    assert main([*asked, "refused", "--set", "a=1", "--set", "a=2"]) != 0
    assert "--set gives a twice" in capsys.readouterr().err
    assert not Path("refused").exists()
