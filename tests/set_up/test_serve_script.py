"""`make serve`: what it runs are commands the doors know, and what is there is not made again."""

from collections.abc import Sequence
from pathlib import Path

import demo_steps
import pytest
import serve as serve_script

from data_prep import __main__ as data_prep_door
from data_prep.front_door import Command, _parser
from driving import __main__ as driving_door
from personalize import __main__ as personalize_door
from recsys import __main__ as recsys_door

COMMANDS: dict[str, Sequence[Command]] = {
    "data-prep": data_prep_door.COMMANDS,
    "driving": driving_door.COMMANDS,
    "personalize": personalize_door.COMMANDS,
    "recsys": recsys_door.COMMANDS,
}
HALVES = (serve_script.recommendation_steps, serve_script.driving_steps)


def names(path: Sequence[demo_steps.Step]) -> list[str]:
    """Parse every command with its own door; the names of the commands."""
    for step in path:
        program, *words = step.words
        if words[0] != "fit":
            _parser(program, "", COMMANDS[program]).parse_args(words)
    return [" ".join(step.words[:2]) for step in path]


def pretend_made(run: Path, text: str) -> None:
    run.mkdir(parents=True)
    demo_steps._memory(run).write_text(text)


def test_what_is_missing_is_made_first_and_one_model_of_each_half_is_trained(tmp_path):
    recommending = names(serve_script.recommendation_steps(tmp_path, tiny=False))
    assert recommending == [
        "data-prep town",
        "personalize extract",
        "personalize encode",
        "recsys tokenize",
        "recsys fit",
        "recsys embed",
        "personalize index",
    ]
    driving = names(serve_script.driving_steps(tmp_path, tiny=True))
    assert driving == [
        "data-prep traffic",
        "driving annotate",
        "driving encode",
        "driving teach",
        "driving fit",
        "driving embed",
        "personalize index",
    ]


@pytest.mark.parametrize("steps", HALVES)
def test_every_step_reads_what_an_earlier_one_made(tmp_path, steps):
    made: set[Path] = set()
    for step in steps(tmp_path, tiny=False):
        inside = {path for path in step.reads if tmp_path in path.parents}
        assert inside <= made, step.says
        made.add(step.makes)


@pytest.mark.parametrize(
    ("steps", "run"),
    [(HALVES[0], "demo/fit/causal"), (HALVES[1], "demo-driving/fit/diffusion")],
)
def test_a_demo_of_any_data_is_served_as_it_is_unless_it_was_cut_off(tmp_path, steps, run):
    pretend_made(tmp_path / run, "a hash")
    assert [name.split()[1] for name in names(steps(tmp_path, tiny=False))] == ["embed", "index"]
    demo_steps._memory(tmp_path / run).write_text("begun a hash")
    assert len(steps(tmp_path, tiny=False)) == 7


def test_a_step_that_fails_is_said_in_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretend_made(tmp_path / "demo/fit/causal", "a hash")
    words = ["--only", "recommendations", "--root", str(tmp_path), "--bin", str(tmp_path / "bin")]
    assert serve_script.main(words) == 1
    assert "does not start" in capsys.readouterr().err
