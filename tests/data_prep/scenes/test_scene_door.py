"""The commands of driving: every one is there, and CommonRoad's and `join` run whole."""

import json

import pytest

from data_prep.__main__ import COMMANDS, main
from data_prep.artifact import read_artifact
from data_prep.scenes.tables import SCENES, TRACKS
from tests.data_prep.scenes import commonroad_files as files

NAMES = (
    "commonroad",
    "scenarionet",
    "argoverse2-sensor",
    "argoverse2-forecasting",
    "nuplan",
    "openscene",
    "traffic",
    "join",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name, capsys):
    assert name in {command.name for command in COMMANDS}
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert f"data-prep {name} " in capsys.readouterr().out


def test_two_formats_of_commonroad_and_their_join(tmp_path, capsys):
    pytest.importorskip("commonroad", reason="the extra [commonroad] is not installed")
    for number, version in ((1, "2018b"), (2, "2020a")):
        for place in "AB":
            files.write(
                tmp_path / f"logs{number}" / place / f"{number}.xml",
                [files.obstacle(7 + number, files.states(0.0), version=version)],
                version=version,
                benchmark=f"ZAM_{place}-{number}_1_T-1",
            )
        options = ["--split-fractions", "0", "0.5", "--threads", "1", "--seed", "1"]
        logs = ["--logs", str(tmp_path / f"logs{number}")]
        assert main(["commonroad", *logs, *options, "--out", str(tmp_path / f"{number}")]) == 0
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text())
    assert manifest["command"] == "data-prep commonroad"
    assert sorted(manifest["inputs"]) == ["A/1.xml", "B/1.xml"]
    assert manifest["configuration"]["split_fractions"] == [0.0, 0.5]
    out = tmp_path / "joined"
    folders = [str(tmp_path / "1"), str(tmp_path / "2")]
    assert main(["join", "--scenes", *folders, "--out", str(out)]) == 0
    artifact = read_artifact(out, kind="scenes")
    assert artifact.table(SCENES)["scene_key"].to_list() == [
        "ZAM_A-1_1_T-1",
        "ZAM_A-2_1_T-1",
        "ZAM_B-1_1_T-1",
        "ZAM_B-2_1_T-1",
    ]
    assert artifact.table(TRACKS)["route_source"].to_list() == ["matched"] * 4
    assert main(["join", "--scenes", *folders, "--out", str(out)]) == 2
    assert "pass --overwrite" in capsys.readouterr().err


def test_an_empty_folder_is_said(tmp_path, capsys):
    pytest.importorskip("commonroad", reason="the extra [commonroad] is not installed")
    assert main(["commonroad", "--logs", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "There is no CommonRoad file" in capsys.readouterr().err
