"""`personalize diagnose` as users meet it, on runs of `personalize tune` in closed form."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_prep.artifact import read_artifact
from personalize.__main__ import main
from personalize.checkpoint import checkpoint_folders
from personalize.diagnosis.command import read_configuration
from personalize.diagnosis.page import page as whole_diagnosis
from personalize.diagnosis.tables import ROWS
from personalize.diagnosis.tuning_run import TuningRun
from personalize.preference_optimization.tabular_policy import TabularPolicy
from tests.conftest import PROJECT
from tests.personalize.preference_optimization.toy_tunable import ToyTunable

OWN = "tests.personalize.tuning.toy_objectives"
HALF = "tests.personalize.preference_optimization.toy_tunable.ToySource"
SMALL = ["--set", "resamples=200", "--set", "probes=24"]


def configuration(objective: str, **options):
    return {
        "model": {
            "objective": {"class_path": f"{OWN}.{objective}", "init_args": options},
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}},
        },
        "data": {
            "half": {"class_path": HALF, "init_args": {"contexts": 200}},
            "batch_size": 20,
            "builder": {
                "class_path": "personalize.preference_optimization.extremes.BestAgainstWorst",
                "init_args": {"weights": {"match": 1.0}},
            },
        },
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1},
        "checkpoints": {"every_n_batches": None, "keep": 100},
        "early_stopping": {"patience": 100},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, and their diagnosis."""
    folder = tmp_path_factory.mktemp("diagnose")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, objective, options in (
            ("compared", "Compare", {"beta": 0.5}), ("drawn", "Reinforce", {}),
        ):  # fmt: skip
            (folder / f"{name}.yaml").write_text(
                yaml.safe_dump(configuration(objective, **options))
            )
            assert main(["tune", "--config", f"{name}.yaml", "--run-folder", name]) == 0
        given = ["--after", "compared", "drawn", "--out", "diagnosis", *SMALL]
        assert main(["diagnose", *given, "--set", "proxy=match", "--set", "meant=quality"]) == 0
    return folder


@pytest.fixture(scope="module")
def metrics(runs):
    return json.loads((runs / "diagnosis" / "metrics.json").read_text())


def of_run(metrics, name: str):
    return next(run for run in metrics["runs"] if run["name"] == name)


def test_half_builder_and_beta_are_the_first_runs(metrics):
    assert metrics["settings"]["beta"] == 0.5
    assert metrics["held_out"]["builder"] == "BestAgainstWorst"
    assert metrics["held_out"]["contexts"] == 40
    assert metrics["configuration"]["half"]["class_path"] == HALF


def test_rankings_of_the_toy_agree_with_its_own_table(runs, metrics):
    """Scores of pairs are those that the tuned table gives, and the artifact holds each pair."""
    with read_artifact(runs / "diagnosis", kind="diagnosis") as artifact:
        rows = artifact.table(ROWS)
    half = ToyTunable(contexts=200)
    assert isinstance(half.policy, TabularPolicy)
    run = TuningRun.of(runs / "compared")
    tuned = run.policy(half.policy)
    own = rows.filter(rows["run"] == "compared")
    kinds = half.kinds(torch.tensor(own["context"].to_list()))
    for policy, when in ((half.policy, "before"), (tuned, "after")):
        table = torch.log_softmax(policy.table.detach(), -1)[kinds].double().numpy()
        for who in ("winner", "loser"):
            said = table[np.arange(len(own)), own[who].to_numpy()]
            np.testing.assert_allclose(own[f"{who}_{when}"].to_numpy(), said, atol=1e-5)
    right = (own["winner_after"] > own["loser_after"]).mean()
    ranking = of_run(metrics, "compared")["ranking"]
    assert ranking["accuracy"]["mean"] == pytest.approx(right)
    assert ranking["accuracy"]["mean"] > ranking["reference_accuracy"]["mean"] + 0.2
    margins = half.match[kinds].numpy()
    winners, losers = own["winner"].to_numpy(), own["loser"].to_numpy()
    places = np.arange(len(own))
    assert (margins[places, winners] > margins[places, losers]).all()


def test_the_evaluation_is_that_of_the_run_itself(runs, metrics):
    for name in ("compared", "drawn"):
        own = json.loads((runs / name / "evaluation.json").read_text())
        found = of_run(metrics, name)["evaluation"]["measures"]["match"]
        for when in ("before", "after"):
            assert found[when]["mean"] == pytest.approx(own["measures"]["match"][when]["mean"])
        assert found["verdict"] == own["measures"]["match"]["verdict"] == "better"


def test_mass_goes_to_what_is_preferred_and_sums_to_nothing(metrics):
    mass = of_run(metrics, "compared")["displacement"]["mass"]
    assert sum(one["mean"] for one in mass.values()) == pytest.approx(0, abs=1e-6)
    assert mass["not preferred"]["high"] < 0
    assert mass["preferred"]["mean"] > mass["not preferred"]["mean"]


def test_reversals_drift_hacking_and_health_are_there(metrics):
    compared, drawn = of_run(metrics, "compared"), of_run(metrics, "drawn")
    context = compared["context"]
    assert context["reversals"] > 40
    for when in ("before", "after"):
        suite = context[when]
        total = suite["accuracy"]["true"]["mean"] + suite["accuracy"]["adversarial"]["mean"]
        assert total == pytest.approx(1)
    assert context["after"]["reversal_rate"]["mean"] != context["before"]["reversal_rate"]["mean"]
    axes = {one["axis"]: one for one in compared["drift"]}
    assert set(axes) == {"match", "quality", "safety gates"}
    match = axes["match"]
    assert match["total"] > match["noise"]
    assert match["categories"][2]["change"]["low"] > 0
    assert match["categories"][2]["value_gap"]["low"] > 0
    assert match["steps"][0] == 0
    assert len(match["steps"]) > 2
    assert len(match["course"]["high"]) == len(match["steps"])
    points = drawn["hacking"]["points"]
    assert points[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert points[-1]["kl"] > 0.1
    assert points[-1]["proxy"]["low"] > 0
    health = {one["name"]: one for one in compared["health"]}
    assert health["finite loss"]["well"] is True
    assert health["clipping"]["well"] is None


def test_the_page_says_every_verdict_and_needs_no_network(runs, metrics):
    page = (runs / "diagnosis" / "report.html").read_text()
    for run in metrics["runs"]:
        assert run["verdict"][0].startswith("Better: match goes from")
        assert run["verdict"][0] in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    for part in ("evaluation", "rankings", "likelihood", "contexts", "course", "health"):
        assert f'id="{part}"' in page
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def rows_of(page: str, section: str) -> dict[str, list[str]]:
    """The cells of every row of a section's tables, by the first one."""
    part = page.split(f'id="{section}"')[1].split("</section>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part)
    cells = [
        [
            re.sub(r"<span.*?</span>|<[^>]*>", "", cell)
            for cell in re.findall(r"<t[dh].*?</t[dh]>", row)
        ]
        for row in rows
    ]
    return {row[0]: row[1:] for row in cells}


def test_the_page_has_a_line_per_measure_and_a_column_per_run(runs, metrics):
    page = (runs / "diagnosis" / "report.html").read_text()
    found = rows_of(page, "rankings")
    assert found["measure"][:2] == ["compared", "drawn"]
    for place, name in enumerate(("compared", "drawn")):
        said = of_run(metrics, name)["ranking"]
        assert found["right after"][place] == f"{said['accuracy']['mean']:.3f}"
        assert found["right before"][place] == f"{said['reference_accuracy']['mean']:.3f}"
    told = rows_of(page, "contexts")
    assert told["told"][:3] == ["before", "compared", "drawn"]
    suites = [of_run(metrics, "compared")["context"]["before"]]
    suites += [of_run(metrics, name)["context"]["after"] for name in ("compared", "drawn")]
    for row, key in (("what is preferred", "true"), ("the opposite", "adversarial")):
        assert told[row][:3] == [f"{suite['accuracy'][key]['mean']:.3f}" for suite in suites]
    assert told["turns"][:3] == [f"{suite['reversal_rate']['mean']:.3f}" for suite in suites]
    assert not {"nothing", "what is inferred", "lost by inferring"} & set(told)
    evaluation = rows_of(page, "evaluation")["run"]
    assert evaluation == ["measure", "before", "after", "difference", ""]


def test_axes_along_which_nothing_moves_are_folded_away(runs, metrics):
    page = (runs / "diagnosis" / "report.html").read_text()
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    for run in metrics["runs"]:
        for one in run["drift"]:
            title = f"<h3>Answers of {run['name']} by {one['axis']}</h3>"
            still = one["p_value"] >= 0.05 / len(run["drift"])
            assert page.count(title) == 1
            assert (title in folded) == (still and one["axis"] != "safety gates")


def test_what_was_not_compared_in_two_contexts_is_said(metrics):
    alone = {**metrics, "runs": [{**run, "context": None} for run in metrics["runs"]]}
    said = whole_diagnosis(alone)
    assert "Not measured: no two responses were seen in two contexts" in said
    assert "Simulated data" not in said
    simulated = {**metrics, "facts": {**metrics["facts"], "simulated": True, "parts": {"a": 1000}}}
    assert "Simulated data" in whole_diagnosis(simulated)
    assert "<td>a 1,000</td>" in whole_diagnosis(simulated)


def test_what_is_ill_stands_out_and_what_is_well_does_not(metrics):
    one = {"sentence": "Something.", "count": 3}
    for well, style, word in (
        (True, "pill", "well"), (False, "pill yes", "look here"), (None, "pill", "not logged"),
    ):  # fmt: skip
        run = {**metrics["runs"][0], "health": [{**one, "well": well}]}
        said = whole_diagnosis({**metrics, "runs": [run]})
        assert f'<span class="{style}">{word}</span>' in said


def test_a_run_may_begin_where_another_ended(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    given = ["--after", "compared", "--before", "compared", "--out", str(tmp_path / "same"), *SMALL]
    assert main(["diagnose", *given]) == 0
    found = json.loads((tmp_path / "same" / "metrics.json").read_text())["runs"][0]
    assert found["ranking"]["accuracy"] == found["ranking"]["reference_accuracy"]
    assert found["ranking"]["implicit_accuracy"]["mean"] == 0.5
    assert found["displacement"]["winner_change"]["mean"] == 0
    assert found["verdict"][0].startswith("No difference is shown")
    assert "Answers are not shown to move" in capsys.readouterr().err


def test_a_file_may_say_everything(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    checkpoint = checkpoint_folders(runs / "drawn", "last")[0]
    half = {"class_path": HALF, "init_args": {"contexts": 200}}
    text = {"half": half, "after": [str(checkpoint)], "resamples": 200, "probes": 8, "answers": 2}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(text))
    given = ["--config", str(tmp_path / "given.yaml"), "--out", str(tmp_path / "out")]
    assert main(["diagnose", *given]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["held_out"]["builder"] == "TargetAgainstOthers"
    assert found["runs"][0]["steps"] == TuningRun.of(checkpoint).step
    assert found["runs"][0]["hacking"] is None


def test_the_same_diagnosis_twice_is_the_same(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    for name in ("one", "two"):
        given = ["--after", "compared", "--out", str(tmp_path / name), *SMALL]
        assert main(["diagnose", *given]) == 0
    one, two = ((tmp_path / name / "metrics.json").read_text() for name in ("one", "two"))
    assert one == two


def test_the_documented_configuration_is_read(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    path = PROJECT / "configs" / "personalize" / "diagnose.yaml"
    found, plain = read_configuration(path, None, [Path("compared")], ["probes=9"])
    assert (found.proxy, found.meant, found.probes) == ("preference_match", "hit", 9)
    assert plain["after"] == ["compared"]


def refused(capsys, *given: str) -> str:
    assert main(["diagnose", *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("personalize: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("contexts=3", "contexts must be at least 4, got 3"),
        ("probes=1", "probes must be at least 4, got 1"),
        ("answers=0", "answers must be at least 1, got 0"),
        ("rows_at_once=0", "rows_at_once must be at least 1, got 0"),
        ("resamples=9", "resamples must be at least 100, got 9"),
        ("seed=-1", "seed must be at least 0, got -1"),
        ("beta=0", "beta must be positive, got 0"),
        ("judges_share=1", "judges_share must lie between 0 and 1, got 1"),
        ("proxy=match", "proxy and meant must be named together"),
        ("after=[]", "after must name at least one run, got none"),
        ("colour=red", "The configuration does not fit"),
    ],
)
def test_settings_out_of_range_are_one_sentence(
    runs, tmp_path, monkeypatch, capsys, change, message
):
    monkeypatch.chdir(runs)
    given = ["--after", "compared", "--out", str(tmp_path / "out"), "--set", change]
    assert message in refused(capsys, *given)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_or_does_not_fit_is_one_sentence(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    out = ["--out", str(tmp_path / "out")]
    assert "Name a run to diagnose: --after RUN" in refused(capsys, *out)
    assert "nowhere is neither a checkpoint" in refused(capsys, "--after", "nowhere", *out)
    assert "none.yaml is no file." in refused(capsys, "--config", "none.yaml", *out)
    (tmp_path / "list.yaml").write_text("- 1\n")
    said = refused(capsys, "--config", str(tmp_path / "list.yaml"), *out)
    assert "must be a mapping of settings" in said
    (tmp_path / "torn.yaml").write_text("a: [1\n")
    assert "is no YAML" in refused(capsys, "--config", str(tmp_path / "torn.yaml"), *out)
    rewards = ["--set", "proxy=colour", "--set", "meant=match"]
    said = refused(capsys, "--after", "compared", *out, *SMALL, *rewards)
    assert "no reward is named colour; there are match, quality" in said
    nothing = ["--set", "builder.least_gap=100"]
    said = refused(capsys, "--after", "compared", *out, *nothing)
    assert "BestAgainstWorst decides no comparison in 40 contexts" in said
    few = ["--set", "half.contexts=15"]
    said = refused(capsys, "--after", "compared", *out, *few)
    assert "a diagnosis needs 4 held-out contexts, this half has 3" in said
    assert "exists; pass --overwrite" in refused(
        capsys, "--after", "compared", "--out", "diagnosis"
    )
