"""The report: its page shows what metrics.json holds, escapes what it quotes, and adds up."""

import json
import re
from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import BENCHMARK_ROWS, RECOMMENDATIONS
from personalize.report.markup import Markup, element
from recsys.benchmark import write_benchmark
from recsys.report import write_report
from recsys.report_numbers import rank_histogram, slice_edges
from recsys.report_runs import Run
from recsys.report_verdict import verdict
from tests.recsys.small_world import make_world, write_world

EVIL = '</script><img src="http://evil.example/x" onerror="alert(1)"><b>Thing</b> & Co'
TOTAL = 30


def _answers(rows: pl.DataFrame, luck: float, seed: int, failing: float) -> pl.DataFrame:
    """Random lists in which the target stands first with a given probability."""
    generator = np.random.default_rng(seed)
    lists, ranks = [], []
    for row in rows.to_dicts():
        items = generator.permutation(40)[:TOTAL].tolist()
        target = row["target_item_id"]
        chance = luck + 0.25 * bool(row["preference_text_ids"]) * row["target_wanted"]
        if generator.random() < chance:
            others = [item for item in items if item != target]
            items = [target, *others[: TOTAL - 1]]
        if generator.random() < failing:
            items = []
        lists.append(items)
        ranks.append(items.index(target) + 1 if target in items else None)
    return rows.select("axis", "condition", "row_id").with_columns(
        pl.Series("item_ids", lists, dtype=pl.List(pl.Int32)),
        pl.Series("scores", [[0.5] * len(x) for x in lists], dtype=pl.List(pl.Float32)),
        pl.Series("target_rank", ranks, dtype=pl.Int32),
    )


def write_answers(
    folder: Path,
    benchmark: Path,
    name: str,
    *,
    luck: float,
    reads: bool,
    failing: float = 0.0,
    conditions: Collection[str] | None = None,
) -> Path:
    """Predictions of a pretended recommender."""
    source = read_artifact(benchmark, kind="benchmark")
    rows = source.table(BENCHMARK_ROWS)
    conditions = conditions if reads else ["none"]
    if conditions is not None:
        rows = rows.filter(pl.col("condition").is_in(list(conditions)))
    with create_artifact(
        folder / name,
        kind="predictions",
        command="recsys predict",
        configuration={"benchmark": str(benchmark)},
        inputs={"benchmark": source.content_hash},
    ) as writer:
        writer.write_table(RECOMMENDATIONS, _answers(rows, luck, len(name), failing))
        writer.notes.update(
            {
                "name": name,
                "module": "recsys.retriever.x" if reads else "recsys.baselines.x",
                "uses_preferences": reads,
                "trained_on_validation": False,
                "seen_items_excluded": False,
                "training_configuration": {"model": EVIL},
            }
        )
    return folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    world = make_world()
    world.titles = [f"{EVIL} {item}" for item in range(world.item_count)]
    paths = write_world(folder, world)
    benchmark = folder / "benchmark"
    write_benchmark(
        tables=paths["tables"],
        preferences=paths["preferences"],
        vectors=paths["vectors"],
        out=benchmark,
    )
    runs = [
        write_answers(folder, benchmark, "yardstick", luck=0.05, reads=False),
        write_answers(folder, benchmark, "reader", luck=0.3, reads=True),
    ]
    write_report(predictions=runs, out=folder / "report", resamples=300)
    report = read_artifact(folder / "report", kind="report")
    return {
        "folder": folder,
        "paths": paths,
        "benchmark": benchmark,
        "runs": runs,
        "html": report.file("report.html").read_text(encoding="utf-8"),
        "metrics": report.json("metrics"),
        "rows": pl.read_parquet(report.file("rows.parquet")),
        "bytes": report.manifest.files["report.html"].size_bytes,
    }


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def _parsed(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


def test_the_page_is_small_and_fetches_nothing(made):
    page = _parsed(made["html"])
    assert made["bytes"] <= 1_000_000
    assert not {"img", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", made["html"], re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_untrusted_text_is_escaped_everywhere(made):
    page = _parsed(made["html"])
    assert EVIL in " ".join(page.texts)  # it is shown, as text
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "<b>Thing" not in made["html"]
    assert sum(tag == "script" for tag, _ in page.tags) == 1


def test_markup_escapes_children_and_attributes():
    made = element("p", "<b>", Markup("<i></i>"), class_='"x"')
    assert made == '<p class="&quot;x&quot;">&lt;b&gt;<i></i></p>'


def test_every_mean_is_the_mean_of_its_rows(made):
    rows = made["rows"]
    assert made["metrics"]["cells"]
    for cell in made["metrics"]["cells"]:
        own = rows.filter(
            (pl.col("model") == cell["model"])
            & (pl.col("axis") == cell["axis"])
            & (pl.col("condition") == cell["condition"])
        )
        assert own.height == cell["rows"] == cell["answered"] + cell["failed"]
        ranks = own["target_rank"].to_list()
        expected = np.mean([0.0 if r is None or r > 10 else 1 / np.log2(r + 1) for r in ranks])
        found = cell["metrics"]["ndcg_10"]
        assert found["value"] == pytest.approx(expected, abs=1e-6)
        assert found["low"] <= found["value"] <= found["high"]


def test_the_page_shows_the_numbers_of_the_metrics(made):
    table = re.search(r'<table class="sortable" id="headline">(.*?)</table>', made["html"])
    assert table
    for row in made["metrics"]["headline"]:
        for metric in ("recall_5", "ndcg_5", "mrr_5", "recall_10", "ndcg_10", "mrr_10"):
            assert f"{row[metric]:.4f}" in table[1]


def test_coverage_adds_up(made):
    coverage = made["metrics"]["coverage"]
    total = read_artifact(made["benchmark"], kind="benchmark").table(BENCHMARK_ROWS).height
    for run in coverage["runs"]:
        assert run["questions"] == total
        assert run["answered"] + run["failed"] + run["not_asked"] == total
    for axis in coverage["axes"].values():
        assert axis["kept"] + sum(axis["dropped"].values()) == axis["candidates"]


def test_sentiment_stands_beside_its_parts(made):
    cells = [cell for cell in made["metrics"]["pairs"] if cell["condition"] == "stated"]
    assert cells
    rows = made["rows"].filter(pl.col("model") == "reader")
    for cell in cells:
        own = rows.filter((pl.col("axis") == cell["axis"]) & (pl.col("condition") == "stated"))
        by_pair: dict[int, dict[bool, bool]] = {}
        for row in own.to_dicts():
            hit = row["target_rank"] is not None and row["target_rank"] <= 5
            by_pair.setdefault(row["pair_id"], {})[row["target_wanted"]] = hit
        both = np.mean([pair[True] and not pair[False] for pair in by_pair.values()])
        spared = np.mean([not pair[False] for pair in by_pair.values()])
        assert cell["at"]["5"]["both"]["value"] == pytest.approx(both)
        assert cell["at"]["5"]["spared"]["value"] == pytest.approx(spared)


def test_the_oracle_is_never_a_result(made):
    metrics = made["metrics"]
    assert not [test for test in metrics["comparisons"] if test["condition"] == "oracle"]
    assert "oracle" not in metrics["shown_conditions"].values()
    rows = re.findall(r'<tr[^>]*data-condition="oracle"[^>]*>', made["html"])
    assert rows
    assert all('class="bound"' in row for row in rows)


def test_the_verdict_names_yardstick_difference_and_preferences(made):
    first, second, *_ = made["metrics"]["verdict"]
    assert "reader" in first
    assert "yardstick" in first
    assert "it beats yardstick" in first
    assert "Preferences chosen without looking at the target help reader" in second
    assert "upper" not in first


def _best(value: float) -> dict:
    found = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {
        "model": "ours",
        "condition": "none",
        "axis": "recommendation",
        "answered": 900,
        "metrics": {"ndcg_10": found, "recall_10": found},
    }


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.03, "it beats"), (-0.03, -0.01, "it is behind"), (-0.01, 0.01, "cannot be told")],
)
def test_the_verdict_says_no_more_than_the_interval(low, high, said):
    test = {
        "model": "ours",
        "condition": "none",
        "metric": "ndcg_10",
        "against": "markov",
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "p_holm": 0.001,
    }
    sentences = verdict(_best(0.05), [test], [], [_best(0.05)], [], {})
    assert said in sentences[0]
    assert "No recommender here reads preferences." in sentences


@pytest.mark.parametrize(
    ("readers", "said"),
    [
        ({}, "No recommender here reads preferences."),
        (
            {"ours": {"none"}},
            "What preferences add is not known: ours reads preferences but answered only without "
            "them.",
        ),
        (
            {"b": {"latest"}, "a": {"none"}, "c": {"none"}, "d": set(), "e": {"none", "all"}},
            "What preferences add is not known: a and c read preferences but answered only "
            "without them; b reads preferences but answered only with them; d reads preferences "
            "but answered no question of the recommendation axis; e reads preferences but failed "
            "too often to be compared.",
        ),
    ],
)
def test_the_verdict_says_why_preferences_add_nothing_that_is_known(readers, said):
    assert said in verdict(_best(0.05), [], [], [_best(0.05)], [], readers)


def test_a_reader_that_was_asked_without_preferences_still_reads_them(made, tmp_path):
    reader = write_answers(
        tmp_path, made["benchmark"], "silent", luck=0.3, reads=True, conditions=["none"]
    )
    write_report(predictions=[made["runs"][0], reader], out=tmp_path / "report", resamples=100)
    said = json.loads((tmp_path / "report" / "metrics.json").read_text())["verdict"]
    assert any("silent reads preferences but answered only without them" in one for one in said)
    assert not any("No recommender here" in one for one in said)


def test_an_interval_that_correction_takes_back_is_doubted():
    test = {
        "model": "ours",
        "condition": "none",
        "metric": "ndcg_10",
        "against": "markov",
        "difference": 0.02,
        "low": 0.001,
        "high": 0.04,
        "p_holm": 0.09,
    }
    assert "not after Holm's correction" in verdict(_best(0.05), [test], [], [], [], {})[0]


def test_too_many_failures_give_no_mean(made, tmp_path):
    failing = write_answers(
        tmp_path, made["benchmark"], "failing", luck=0.2, reads=True, failing=0.3
    )
    write_report(predictions=[made["runs"][0], failing], out=tmp_path / "report", resamples=100)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    cells = [cell for cell in metrics["cells"] if cell["model"] == "failing"]
    assert cells
    assert all("metrics" not in cell for cell in cells)
    assert re.search(r"\d+ of \d+ rows failed; no mean", cells[0]["refused"])
    assert cells[0]["refused"] in (tmp_path / "report" / "report.html").read_text()


def test_predictions_of_another_benchmark_are_refused(made, tmp_path):
    paths = made["paths"]
    write_benchmark(
        tables=paths["tables"],
        preferences=paths["preferences"],
        vectors=paths["vectors"],
        out=tmp_path / "benchmark",
        seed=9,
    )
    other = write_answers(tmp_path, tmp_path / "benchmark", "other", luck=0.1, reads=True)
    with pytest.raises(ArtifactMismatch, match="answer different benchmarks"):
        write_report(predictions=[made["runs"][0], other], out=tmp_path / "report")


def test_two_predictions_of_one_name_are_refused(made, tmp_path):
    with pytest.raises(InputError, match="Two predictions are named reader"):
        write_report(predictions=[made["runs"][1]] * 2, out=tmp_path / "report")


def test_an_unknown_baseline_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="--baseline sasrec is not among reader, yardstick"):
        write_report(predictions=made["runs"], out=tmp_path / "r", baseline="sasrec")


def test_artifacts_that_moved_are_asked_for(made, tmp_path):
    with pytest.raises(InputError, match=r"pass --benchmark FOLDER"):
        write_report(predictions=made["runs"], out=tmp_path / "r", benchmark=tmp_path / "gone")


def test_too_few_resamples_are_refused(made, tmp_path):
    with pytest.raises(InputError, match="--resamples must be at least 100, got 5"):
        write_report(predictions=made["runs"], out=tmp_path / "r", resamples=5)


def test_simulated_data_is_called_simulated(made):
    assert "Simulated data" not in made["html"]
    assert made["metrics"]["data"]["simulated"] is False


def test_slices_and_ranks_hold_every_row():
    counts = np.array([0, 1, 2, 5, 9, 30])
    assert slice_edges(counts, np.arange(6)) == [1, 5]
    ranks = [1, 2, 5, 11, None, None]
    rows = pl.DataFrame(
        {
            "axis": ["recommendation"] * 6,
            "condition": ["none"] * 6,
            "answered": [True] * 6,
            "target_rank": pl.Series(ranks, dtype=pl.Int32),
        }
    )
    run = Run("x", {}, {}, "", rows)
    assert rank_histogram(run, "none", (1, 5, 10, 50))["counts"] == [1, 2, 0, 1, 2]
