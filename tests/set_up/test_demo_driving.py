"""The driving demo: its commands are ones the doors know, and what is missing is said."""

import sys
from collections.abc import Sequence
from pathlib import Path

import demo_driving
import demo_steps
import pytest

from data_prep import __main__ as data_prep_door
from data_prep.front_door import Command, _parser
from driving import __main__ as driving_door

COMMANDS: dict[str, Sequence[Command]] = {
    "data-prep": data_prep_door.COMMANDS,
    "driving": driving_door.COMMANDS,
}


def check(path: Sequence[demo_steps.Step]) -> list[str]:
    """Parse every command with its own door; the names of the commands."""
    for step in path:
        program, *words = step.words
        if words[0] == "fit":
            assert (demo_driving.CONFIGS.parent.parent / words[2]).is_file() or Path(
                words[2]
            ).is_file()
            continue
        _parser(program, "", COMMANDS[program]).parse_args(words)
    return [step.words[1] for step in path]


def test_simulated_traffic_goes_all_the_way(tmp_path: Path) -> None:
    names = check(demo_driving.steps(None, tmp_path))
    assert names[:4] == ["traffic", "annotate", "encode", "teach"]
    assert names.count("fit") == sum(planner.trained for planner in demo_driving.PLANNERS)
    assert names.count("simulate") == len(demo_driving.PLANNERS)
    assert names[-1] == "report"
    assert check(demo_driving.steps(None, tmp_path, tiny=True)) == names


def test_what_a_step_reads_was_made_before_it(tmp_path: Path) -> None:
    made: set[Path] = set()
    for step in demo_driving.steps(None, tmp_path):
        inside = {path for path in step.reads if tmp_path in path.parents}
        assert inside <= made, step.says
        made.add(step.makes)


def test_one_format_is_read_and_several_are_joined(tmp_path: Path) -> None:
    (tmp_path / "logs" / "deep").mkdir(parents=True)
    (tmp_path / "logs" / "deep" / "a.xml").touch()
    assert check(demo_driving.steps(tmp_path / "logs", tmp_path))[:2] == ["commonroad", "annotate"]
    (tmp_path / "logs" / "sd_1.pkl").touch()
    names = check(demo_driving.steps(tmp_path / "logs", tmp_path))
    assert names[:4] == ["commonroad", "scenarionet", "join", "annotate"]


def test_logs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(demo_steps.DemoError, match="is not there"):
        demo_driving.steps(tmp_path / "none", tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(demo_steps.DemoError, match="holds no CommonRoad, ScenarioNet or Argoverse"):
        demo_driving.steps(tmp_path, tmp_path)


def test_styledrive_s_folder_is_read_split_by_split(tmp_path: Path) -> None:
    folder = tmp_path / "styledrive"
    with pytest.raises(demo_steps.DemoError, match=r"logs/trainval is not there; README.md says"):
        demo_driving.steps(None, tmp_path, styledrive=folder)
    for name in demo_driving.STYLEDRIVE_FILES:
        (folder / name).mkdir(parents=True)
    path = demo_driving.steps(None, tmp_path, styledrive=folder)
    assert check(path)[:4] == ["openscene", "openscene", "join", "annotate"]
    assert path[3].words[2:5] == (
        "--labels",
        str(folder / "styletrain.json"),
        str(folder / "styletest.json"),
    )


SLEEPER = """#!{python}
import pathlib, sys, time
made = pathlib.Path(sys.argv[1])
other = made.with_name("b" if made.name == "a" else "a")
made.mkdir()
for _ in range(200):
    if other.is_dir():
        break
    time.sleep(0.05)
else:
    sys.exit("nobody runs beside me")
print(made.name, "met", other.name)
sys.exit(3 if made.name == sys.argv[2] else 0)
"""


def _pair(folder: Path, fails: str) -> list[demo_steps.Step]:
    program = folder / "program"
    program.write_text(SLEEPER.format(python=sys.executable))
    program.chmod(0o755)
    return [
        demo_steps.Step(
            f"Make {name}.",
            ("program", str(folder / name), fails),
            folder / name,
            together="pair",
        )
        for name in ("a", "b")
    ]


def test_neighbours_of_a_group_run_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_steps.run(_pair(tmp_path, "nobody"), tmp_path)
    said = capsys.readouterr().out
    assert "a met b" in said
    assert "b met a" in said
    demo_steps.run(_pair(tmp_path, "nobody"), tmp_path)
    assert capsys.readouterr().out.count("is there; it is kept") == 2


def test_a_failure_among_neighbours_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(demo_steps.DemoError, match="failed with status 3"):
        demo_steps.run(_pair(tmp_path, "b"), tmp_path)
    assert "b met a" in capsys.readouterr().out


LATE_WRITER = """#!{python}
import pathlib, sys, time
made, reads = pathlib.Path(sys.argv[1]), sys.argv[2:]
missing = [name for name in reads if not (pathlib.Path(name) / "whole").exists()]
if missing:
    sys.exit(f"begun before {{missing}} was whole")
made.mkdir()
time.sleep(0.3)
(made / "whole").touch()
print("made", made.name)
"""


def test_a_neighbour_waits_for_what_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text(LATE_WRITER.format(python=sys.executable))
    program.chmod(0o755)

    def step(name: str, *reads: str) -> demo_steps.Step:
        paths = tuple(tmp_path / each for each in reads)
        words = ("program", str(tmp_path / name), *map(str, paths))
        return demo_steps.Step(f"Make {name}.", words, tmp_path / name, paths, together="group")

    demo_steps.run([step("a"), step("b", "a"), step("c"), step("d", "b", "c")], tmp_path)
    assert [f"made {name}" in capsys.readouterr().out for name in "a"] == [True]
    assert all((tmp_path / name / "whole").exists() for name in "abcd")
