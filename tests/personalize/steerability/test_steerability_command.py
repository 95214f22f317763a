"""The command: from a YAML file to an artifact with a page."""

import json
import re
from pathlib import Path

import pytest
import yaml

from data_prep.artifact import read_artifact
from personalize.__main__ import main
from personalize.report.words import DASH
from personalize.steerability.command import read_configuration
from personalize.steerability.tables import ROWS
from personalize.steering.particles import Difference, EndOnly, ParticleSteering

CONFIGURATION = """
source:
  class_path: tests.personalize.steerability.toy_half.ToySource
  init_args: {contexts: 60}
chains:
  none: {}
  told: {chain: {telling: {strength: 1}}}
  lookahead: {chain: {}, tune: {lookahead.strength: [0.25, 0.5, 1, 3]}}
  particles:
    chain: {telling: {strength: 0.5}, particles: {count: 1, strength: 2}}
    spend: particles.count
contexts: 16
goals: 8
tuning_contexts: 12
tuning_goals: 6
generator_calls: 13
resamples: 200
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steerability")
    (folder / "toy.yaml").write_text(CONFIGURATION)
    out = folder / "report"
    assert main(["steerability", "--config", str(folder / "toy.yaml"), "--out", str(out)]) == 0
    return out


def test_the_artifact_is_whole(written):
    with read_artifact(written, kind="steerability") as artifact:
        metrics = artifact.json("metrics")
        assert artifact.table(ROWS).height == 4 * 16 * 8
        assert artifact.manifest.notes["best"] == metrics["best"]
        assert artifact.manifest.inputs == {"toy": "abc"}
        assert artifact.manifest.configuration["goals"] == 8
    assert [chain["chain"] for chain in metrics["chains"]] == [
        "none", "told", "lookahead", "particles",
    ]  # fmt: skip
    assert metrics["chains"][2]["settings"] == {"lookahead.strength": 0.25}
    assert metrics["chains"][3]["settings"]["particles.count"] == 5
    assert "source" not in metrics["settings"]


def test_the_page_says_the_verdict_and_needs_no_network(written):
    page = (written / "report.html").read_text()
    metrics = json.loads((written / "metrics.json").read_text())
    assert metrics["verdict"][0] in page
    assert metrics["rule"] in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "<script src" not in page
    for part in ("chains", "response", "doses", "cost", "coverage", "groups", "space", "measured"):
        assert f'id="{part}"' in page
    assert page.count("<svg") == 3 + 1 + 1 + 1  # responses, doses, cost, correlation
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_side_effects_of_standing_still_are_blank_on_the_page(written):
    page = (written / "report.html").read_text()
    metrics = json.loads((written / "metrics.json").read_text())
    assert metrics["chains"][0]["side_effects"]["value"] == 0
    row = re.search(r"<tr[^>]*><td><span class=\"name dotmark c0\">.*?</tr>", page)
    assert row is not None
    cells = re.findall(r"<td.*?</td>", row[0])
    assert cells[8] == f'<td class="n">{DASH}</td>'
    assert cells[7].startswith('<td class="n" data-sort="1">1.000')


def test_the_documented_configurations_are_read():
    folder = Path(__file__).parents[3] / "configs" / "personalize"
    found = sorted(folder.glob("steerability*.yaml"))
    assert found
    for path in found:
        options, _ = read_configuration(path)
        assert "none" in options.chains


@pytest.mark.parametrize(
    ("words", "potential"),
    [
        ("", None),
        ("potential: null", None),
        ("potential: Difference", Difference()),
        ("potential: {class_path: personalize.steering.particles.EndOnly}", EndOnly()),
    ],
)
def test_particles_are_weighed_by_the_potential_that_a_file_names(tmp_path, words, potential):
    chain = f"particles: {{count: 3, strength: 2, {words}}}"
    path = tmp_path / "given.yaml"
    path.write_text(CONFIGURATION.replace("particles: {count: 1, strength: 2}", chain))
    options, plain = read_configuration(path)
    assert options.chains["particles"].chain.particles == ParticleSteering(3, 2.0, potential)
    path.write_text(yaml.safe_dump(plain))  # what a report keeps is read again the same
    assert read_configuration(path)[0].chains["particles"] == options.chains["particles"]


def run(folder: Path, words: str = "", *arguments: str) -> int:
    (folder / "given.yaml").write_text(CONFIGURATION + words)
    given = ["--config", str(folder / "given.yaml"), "--out", str(folder / "out")]
    return main(["steerability", *given, *arguments])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("goal: 3", "The configuration does not fit"),
        ("seed: -1", "seed must be at least 0, got -1."),
        ("source.init_args.town: 3", "The configuration does not fit"),
        ("tuning_goals: 0", "tuning_goals must be at least 1, got 0."),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_sentence(tmp_path, capsys, words, message):
    assert run(tmp_path, words) == 2
    said = capsys.readouterr().err
    assert said.startswith("personalize: ")
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_chain_that_does_not_fit_is_refused(tmp_path, capsys):
    words = CONFIGURATION.replace("telling: {strength: 1}", "telling: {strength: 3}")
    (tmp_path / "wrong.yaml").write_text(words)
    given = ["--config", str(tmp_path / "wrong.yaml"), "--out", str(tmp_path / "out")]
    assert main(["steerability", *given]) == 2
    assert "telling.strength must be from 0 to 1, got 3" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    given = ["--config", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]
    assert main(["steerability", *given]) == 2
    assert "none.yaml is no file." in capsys.readouterr().err


def test_what_is_there_is_kept_unless_said_otherwise(tmp_path, capsys):
    assert run(tmp_path) == 0
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert run(tmp_path) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "manifest.json").read_text() == manifest


def test_options_on_the_command_line_win(tmp_path):
    assert run(tmp_path, "", "--set", "goals=2", "--set", "generator_calls=0") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["settings"]["goals"] == 2
    assert metrics["coverage"]["reported"]["rows"] == 32
    assert metrics["chains"][3]["generator_calls"] == 5.0  # one particle
