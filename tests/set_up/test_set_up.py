"""What the set-up decides, on machines that exist only here: no network, nothing installed."""

import hashlib
import io
import itertools
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pytest
import set_up as door
from environment import self_check, steps
from environment.machine import Answer, Machine, SetUpError, ThisMachine, gpu_is_visible
from environment.pip_settings import PipSettings, parse_pip_settings
from environment.requirements import extras_for, parse_extras, pinned, requirements
from environment.stamp import STAMP_NAME, Stamp, read_stamp
from environment.steps import Wish, set_up
from environment.torch_source import CPU_INDEX, TorchRange, choose_torch, torch_of, torch_range

PROJECT = Path(__file__).parents[2]
PYPROJECT = (PROJECT / "pyproject.toml").read_text()
ACCEPTED = TorchRange((2, 11), (2, 14))


@final
@dataclass
class FakeMachine(Machine):
    """A machine made of facts; it remembers what it was asked to install."""

    torches: dict[str, str] = field(default_factory=dict)  # interpreter and what it prints
    inherits: bool = True
    offered: str = "2.15.0, 2.13.0, 2.12.1"
    offered_on_cpu_index: str = "2.15.0+cpu, 2.13.1+cpu, 2.13.0+cpu, 2.12.1+cpu"
    index_answers: bool = False
    driver: bool = False
    uv: str | None = None
    uv_works: bool = True
    pip_works: bool = True
    ensurepip: bool = True
    version: str = "3 11"
    pip_settings: str = ""
    platform: str = "linux"
    environ: Mapping[str, str] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    worked: list[list[str]] = field(default_factory=list)
    worked_environ: list[Mapping[str, str]] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)

    def run(self, command: Sequence[str]) -> Answer:
        self.asked.append(list(command))
        text = " ".join(command)
        if "import torch" in text:
            found = self.torches.get(command[0])
            return Answer(0, found) if found else Answer(1, "")
        if "sys.version_info" in text:
            return Answer(0, self.version)
        if "ensurepip" in text:
            return Answer(0 if self.ensurepip else 1, "")
        if "pip config list" in text:
            return Answer(0, self.pip_settings)
        if "pip index versions" in text:
            versions = self.offered_on_cpu_index if CPU_INDEX in command else self.offered
            return Answer(0, f"torch (2)\nAvailable versions: {versions}\n")
        if " venv " in f" {text} ":
            folder = Path(command[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").touch()
            inherits = "--system-site-packages" in command
            (folder / "pyvenv.cfg").write_text(
                "version = 3.11.7\n"
                f"include-system-site-packages = {'true' if inherits else 'false'}\n"
            )
            if inherits and self.inherits:
                self.torches[str(folder / "bin" / "python")] = self.torches[command[0]]
            return Answer(0, "")
        return Answer(127, "")

    def work(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        self.worked.append(list(command))
        self.worked_environ.append(environ)
        works = self.uv_works if command[0] == self.uv else self.pip_works
        if not works:
            log.write_text("Collecting torch\nERROR: No matching distribution found for torch\n")
        return 0 if works else 1

    def show(self, command: Sequence[str]) -> int:
        self.asked.append(list(command))
        return 0

    def which(self, name: str) -> str | None:
        return self.uv if name == "uv" else None

    def exists(self, path: str) -> bool:
        if path == "/proc/driver/nvidia/version":
            return self.driver
        return Path(path).exists()

    def answers(self, url: str, seconds: float, certificates: str | None) -> bool:
        assert seconds <= 3
        self.probed.append(url)
        return self.index_answers


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with this project's requirements and constraints."""
    for name in ("pyproject.toml", "constraints-3.11.txt", "constraints-3.12.txt"):
        (tmp_path / name).write_text((PROJECT / name).read_text())
    return tmp_path


def _wish(project: Path, *extras: str, use_uv: bool = True) -> Wish:
    return Wish(
        project, project / ".venv", frozenset(extras or ("cpu",)), "/base/python", use_uv=use_uv
    )


def _constraints(project: Path) -> list[str]:
    return (project / ".venv" / steps.CONSTRAINTS_NAME).read_text().splitlines()


class TestTorch:
    def test_the_range_is_read_from_pyproject(self) -> None:
        assert torch_range(PYPROJECT) == ACCEPTED

    def test_a_pyproject_without_a_range_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="has no requirement like"):
            torch_range('dependencies = ["numpy"]')

    @pytest.mark.parametrize(
        ("version", "fits"),
        [
            ("2.13.0+cpu", True),
            ("2.11.0", True),
            ("2.11.0a0+git1234", False),  # older than 2.11.0
            ("2.12.0a0+nv25.12", True),
            ("2.10.9", False),
            ("2.14.0", False),
            ("3.12.0", False),
            ("nonsense", False),
        ],
    )
    def test_a_version_is_in_range_or_not(self, version: str, fits: bool) -> None:
        assert ACCEPTED.accepts(version) is fits

    def test_lines_printed_by_an_import_do_not_hide_the_version(self) -> None:
        machine = FakeMachine(torches={"python": "a warning\ntorch 2.11.0 13.0\nbye\n"})
        assert torch_of(machine, "python") == ("2.11.0", True)

    def test_cpu_build_comes_from_pips_own_configuration(self) -> None:
        machine = FakeMachine(offered="2.15.0, 2.14.0+cpu, 2.13.0+cpu, 2.13.0")
        source = choose_torch(machine, "python", ACCEPTED, gpu=False)
        assert (source.pin, source.extra_index) == ("torch==2.13.0+cpu", None)
        assert machine.probed == []  # what pip offers needs no question to the network

    def test_cpu_build_comes_from_the_cpu_index_where_that_answers(self) -> None:
        source = choose_torch(FakeMachine(index_answers=True), "python", ACCEPTED, gpu=False)
        # The tested version, although a newer one is offered.
        assert (source.pin, source.extra_index) == ("torch==2.13.0+cpu", CPU_INDEX)

    def test_the_newest_accepted_build_is_taken_where_the_tested_one_is_missing(self) -> None:
        machine = FakeMachine(offered="2.14.0+cpu, 2.12.1+cpu, 2.12.0+cpu")
        assert choose_torch(machine, "python", ACCEPTED, gpu=False).pin == "torch==2.12.1+cpu"

    def test_without_any_cpu_build_the_size_is_told_and_it_goes_on(self) -> None:
        source = choose_torch(FakeMachine(), "python", ACCEPTED, gpu=False)
        assert (source.pin, source.extra_index) == (None, None)
        assert "about 2.7 GB will be downloaded" in source.says

    def test_a_gpu_takes_the_cuda_build_even_where_a_cpu_build_is_offered(self) -> None:
        machine = FakeMachine(offered="2.13.0+cpu, 2.13.0")
        source = choose_torch(machine, "python", ACCEPTED, gpu=True)
        assert source.pin == "torch===2.13.0"
        assert source.gpu
        assert machine.probed == []

    def test_elsewhere_than_linux_the_normal_build_is_the_cpu_build(self) -> None:
        machine = FakeMachine(platform="darwin", index_answers=True)
        source = choose_torch(machine, "python", ACCEPTED, gpu=False)
        assert (source.pin, source.extra_index, machine.probed) == (None, None, [])


class TestReuse:
    def test_a_torch_of_the_base_interpreter_is_seen_by_the_environment(
        self, project: Path
    ) -> None:
        machine = FakeMachine(torches={"/base/python": "torch 2.11.0+cu130 13.0"}, driver=True)
        assert set_up(_wish(project), machine) == 0
        made = next(command for command in machine.asked if "-m venv" in " ".join(command))
        assert "--system-site-packages" in made
        assert "torch==2.11.0+cu130" in _constraints(project)
        assert "torch==2.13.0" not in _constraints(project)
        assert not any(line.startswith("triton") for line in _constraints(project))

    def test_a_torch_that_an_environment_cannot_see_is_not_reused(self, project: Path) -> None:
        machine = FakeMachine(torches={"/base/python": "torch 2.13.0+cpu -"}, inherits=False)
        set_up(_wish(project), machine)
        made = [command for command in machine.asked if "-m venv" in " ".join(command)]
        assert ["--system-site-packages" in command for command in made] == [True, False]
        assert not any(line.startswith("torch=") for line in _constraints(project))

    def test_uv_is_not_used_then_because_it_does_not_see_that_torch(self, project: Path) -> None:
        machine = FakeMachine(torches={"/base/python": "torch 2.12.0 -"}, uv="/bin/uv")
        set_up(_wish(project), machine)
        assert [command[0] for command in machine.worked] == [_wish(project).python]

    @pytest.mark.parametrize("found", ["torch 2.10.0 -", "torch 2.14.0 13.2", ""])
    def test_a_torch_out_of_range_is_not_reused(self, project: Path, found: str) -> None:
        machine = FakeMachine(torches={"/base/python": found}, offered="2.13.0+cpu")
        set_up(_wish(project), machine)
        made = next(command for command in machine.asked if "-m venv" in " ".join(command))
        assert "--system-site-packages" not in made
        assert "torch==2.13.0+cpu" in _constraints(project)

    def test_a_cpu_build_is_not_reused_on_a_gpu_machine(self, project: Path) -> None:
        machine = FakeMachine(torches={"/base/python": "torch 2.13.0+cpu -"}, driver=True)
        set_up(_wish(project), machine)
        assert "torch===2.13.0" in _constraints(project)

    def test_a_torch_in_an_environment_that_is_there_stays(self, project: Path) -> None:
        wish = _wish(project)
        (project / ".venv" / "bin").mkdir(parents=True)
        (project / ".venv" / "pyvenv.cfg").write_text("version = 3.11.7\n")
        machine = FakeMachine(torches={wish.python: "torch 2.12.0+cpu -"}, offered="2.13.0+cpu")
        machine.uv = "/bin/uv"
        set_up(wish, machine)
        assert "torch==2.12.0+cpu" in _constraints(project)
        assert machine.worked[0][0] == "/bin/uv"  # it sees this torch


class TestGpu:
    def test_the_drivers_file_or_nvidia_smi_tell(self) -> None:
        assert gpu_is_visible(FakeMachine(driver=True))
        assert not gpu_is_visible(FakeMachine())

    def test_faiss_follows_the_machine_and_is_only_one(self) -> None:
        assert extras_for({"cpu", "dev"}, gpu=True) == {"gpu", "dev"}
        assert extras_for({"gpu"}, gpu=False) == {"cpu"}
        assert extras_for({"dev"}, gpu=True) == {"dev"}

    def test_the_gpu_environment_installs_faiss_gpu_and_whole_extras(self, project: Path) -> None:
        machine = FakeMachine(driver=True)
        set_up(_wish(project, "cpu", "llm"), machine)
        assert ".[gpu,llm]" in machine.worked[0]
        assert len(machine.worked) == 1
        assert "--gpu" in machine.asked[-1]


class TestRequirements:
    def test_no_gpu_compiler_comes_to_a_cpu_machine(self) -> None:
        needed = requirements({"cpu", "llm"}, PYPROJECT, gpu=False)
        assert needed.complete[:2] == ("-e", ".[cpu]")
        assert any(line.startswith("peft") for line in needed.complete)
        assert [line.split(">")[0] for line in needed.alone] == ["xgrammar"]

    def test_what_is_installed_alone_has_the_tested_version(self, project: Path) -> None:
        machine = FakeMachine(offered="2.13.0+cpu")
        set_up(_wish(project, "llm"), machine)
        assert machine.worked[1][-2:] == ["--no-deps", "xgrammar==0.2.8"]
        assert pinned(["other>=1"], "xgrammar==0.2.8\n") == ("other>=1",)

    def test_an_unknown_extra_is_named_with_those_there_are(self) -> None:
        with pytest.raises(SetUpError, match=r"no extra speed; choose among commonroad, cpu, dev,"):
            parse_extras("cpu,speed", PYPROJECT)

    @pytest.mark.parametrize("version", ["3.11", "3.12"])
    def test_constraints_name_no_place_and_no_build(self, version: str) -> None:
        text = (PROJECT / f"constraints-{version}.txt").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert not any("+" in line or "/" in line or "@" in line for line in lines)
        assert "torch==2.13.0" in lines
        assert not any(line.startswith(("triton", "nvidia-", "-e")) for line in lines)
        named = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
        listed = tomllib.loads(PYPROJECT)["project"]
        for line in listed["dependencies"] + listed["optional-dependencies"]["dev"]:
            name = line.replace("[", ">").replace(">", "=").partition("=")[0]
            assert name.lower() in named, f"{name} has no tested version"


class TestUv:
    SETTINGS = (
        ":env:.find-links='/wheels'\n"
        "global.cert='/etc/certificates.pem'\n"
        "global.extra-index-url='https://one.example/simple https://two.example/simple'\n"
        "global.find-links='/other'\n"
        "global.index-url='https://mirror.example/simple'\n"
        "install.trusted-host='one.example'\n"
    )

    def test_pips_configuration_is_read_with_its_precedence(self) -> None:
        assert parse_pip_settings(self.SETTINGS) == PipSettings(
            index_url="https://mirror.example/simple",
            extra_index_urls=("https://one.example/simple", "https://two.example/simple"),
            find_links=("/wheels",),
            trusted_hosts=("one.example",),
            certificates="/etc/certificates.pem",
        )
        assert parse_pip_settings("") == PipSettings()
        assert parse_pip_settings(":env:.no-index='1'").no_index

    def test_uv_gets_all_of_it(self, project: Path) -> None:
        machine = FakeMachine(uv="/bin/uv", pip_settings=self.SETTINGS, offered="2.13.0+cpu")
        set_up(_wish(project), machine)
        command = machine.worked[0]
        assert command[:3] == ["/bin/uv", "pip", "install"]
        pairs = list(itertools.pairwise(command))
        for pair in [
            ("--default-index", "https://mirror.example/simple"),
            ("--index", "https://one.example/simple"),
            ("--index", "https://two.example/simple"),
            ("--find-links", "/wheels"),
            ("--allow-insecure-host", "one.example"),
            ("--index-strategy", "unsafe-best-match"),
        ]:
            assert pair in pairs
        assert machine.worked_environ[0]["SSL_CERT_FILE"] == "/etc/certificates.pem"

    def test_a_setting_made_for_uv_is_kept(self) -> None:
        settings = PipSettings(certificates="/pip.pem", proxy="http://proxy:1")
        merged = settings.uv_environment({"SSL_CERT_FILE": "/uv.pem"})
        assert merged == {"SSL_CERT_FILE": "/uv.pem", "ALL_PROXY": "http://proxy:1"}

    def test_pip_follows_where_uv_fails_and_where_it_is_unwanted(self, project: Path) -> None:
        machine = FakeMachine(uv="/bin/uv", uv_works=False, offered="2.13.0+cpu")
        assert set_up(_wish(project), machine) == 0
        assert [command[0] for command in machine.worked] == ["/bin/uv", _wish(project).python]
        machine = FakeMachine(uv="/bin/uv", offered="2.13.0+cpu")
        set_up(_wish(project, use_uv=False), machine, force=True)
        assert [command[0] for command in machine.worked] == [_wish(project).python]

    def test_uv_makes_the_environment_where_ensurepip_is_missing(self, project: Path) -> None:
        machine = FakeMachine(uv="/bin/uv", ensurepip=False)
        set_up(_wish(project), machine)
        assert any(command[:3] == ["/bin/uv", "venv", "--seed"] for command in machine.asked)


class TestPip:
    def test_settings_that_would_lead_elsewhere_are_left_out(self, project: Path) -> None:
        outside = {"PIP_CONSTRAINT": "/etc/pins.txt", "PIP_USER": "1", "PIP_INDEX_URL": "https://x"}
        machine = FakeMachine(environ=outside)
        set_up(_wish(project), machine)
        assert machine.worked_environ[0] == {"PIP_USER": "0", "PIP_INDEX_URL": "https://x"}


class TestFailures:
    def test_missing_ensurepip_without_uv_is_one_sentence(self, project: Path) -> None:
        with pytest.raises(SetUpError, match="install the package python3-venv, or uv"):
            set_up(_wish(project), FakeMachine(ensurepip=False))

    def test_an_old_interpreter_is_refused(self, project: Path) -> None:
        with pytest.raises(SetUpError, match=r"is Python 3\.9, the project needs 3\.11"):
            set_up(_wish(project), FakeMachine(version="3 9"))

    def test_pips_own_complaint_is_shown_and_no_stamp_stays(self, project: Path) -> None:
        with pytest.raises(SetUpError, match="No matching distribution found for torch"):
            set_up(_wish(project), FakeMachine(pip_works=False))
        assert read_stamp(project / ".venv") is None

    def test_a_program_or_host_that_is_not_there_raises_nothing(self) -> None:
        machine = ThisMachine()
        assert machine.run(["/no/such/program"]).status == 127
        assert machine.answers("http://127.0.0.1:9/", 0.5, None) is False


class TestStamp:
    def test_a_second_call_asks_nothing_and_installs_nothing(self, project: Path) -> None:
        set_up(_wish(project, "cpu", "dev"), FakeMachine())
        again = FakeMachine()
        assert set_up(_wish(project, "cpu", "dev"), again) == 0
        assert set_up(_wish(project, "dev"), again) == 0  # a part of what is there
        assert (again.asked, again.worked) == ([], [])

    def test_a_further_extra_keeps_those_that_are_there(self, project: Path) -> None:
        set_up(_wish(project, "cpu"), FakeMachine())
        again = FakeMachine()
        set_up(_wish(project, "dev"), again)
        assert ".[cpu,dev]" in again.worked[0]
        stamp = read_stamp(project / ".venv")
        assert stamp is not None
        assert stamp.extras == ("cpu", "dev")

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints-3.11.txt"])
    def test_a_changed_requirement_installs_again(self, project: Path, name: str) -> None:
        set_up(_wish(project), FakeMachine())
        with (project / name).open("a") as stream:
            stream.write("\n# changed\n")
        again = FakeMachine()
        set_up(_wish(project), again)
        assert again.worked

    def test_force_and_a_damaged_stamp_install_again(self, project: Path) -> None:
        set_up(_wish(project), FakeMachine())
        forced = FakeMachine()
        set_up(_wish(project), forced, force=True)
        assert forced.worked
        (project / ".venv" / STAMP_NAME).write_text("{")
        damaged = FakeMachine()
        set_up(_wish(project), damaged)
        assert damaged.worked

    def test_a_moved_project_gets_a_new_environment(self, project: Path) -> None:
        set_up(_wish(project), FakeMachine())
        path = project / ".venv" / STAMP_NAME
        raw = json.loads(path.read_text())
        path.write_text(json.dumps(raw | {"root": "/elsewhere"}))
        left = project / ".venv" / "left_over"
        left.touch()
        set_up(_wish(project), FakeMachine())
        assert not left.exists()

    def test_a_gpu_faiss_counts_as_the_faiss_that_was_asked_for(self, project: Path) -> None:
        machine = FakeMachine(driver=True)
        set_up(_wish(project, "cpu"), machine)
        stamp = read_stamp(project / ".venv")
        assert stamp is not None
        assert stamp.covers(Stamp(stamp.fingerprint, stamp.root, ("cpu",)))


class TestDoor:
    def test_the_supported_versions_are_said_alike_everywhere(self) -> None:
        wanted = tomllib.loads(PYPROJECT)["project"]["requires-python"]
        for first, last in [
            (door.OLDEST, door.TOO_NEW),
            (steps.OLDEST, steps.TOO_NEW),
        ]:
            assert wanted == f">={first[0]}.{first[1]},<{last[0]}.{last[1]}"

    def test_an_old_python_hands_over_to_a_newer_one_that_really_runs(self) -> None:
        versions = {"/shim/python3.12": None, "/bin/python3.11": (3, 11)}
        found = door.other_interpreter(
            which={
                "python3.12": "/shim/python3.12",  # a shim without a target
                "python3.11": "/bin/python3.11",
            }.get,
            version=versions.get,
        )
        assert found == "/bin/python3.11"

    def test_an_old_python_alone_says_so_in_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(door, "other_interpreter", lambda: None)
        monkeypatch.setattr(door.sys, "version_info", (3, 9, 1))
        said = io.StringIO()
        monkeypatch.setattr(door.sys, "stderr", said)
        assert door.main([]) == 2
        assert said.getvalue().count("\n") == 1
        assert "this is Python 3.9, the project needs 3.11" in said.getvalue()

    def test_an_unknown_extra_ends_with_one_sentence(self) -> None:
        done = subprocess.run(
            [sys.executable, PROJECT / "scripts" / "set_up.py", "--extras", "speed"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("set-up: there is no extra speed;")
        assert done.stderr.count("\n") == 1


class TestSelfCheck:
    def test_other_weights_are_refused(self, tmp_path: Path) -> None:
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(b"weights")
        expected = hashlib.sha256(b"weights").hexdigest()
        assert self_check.check_hash(weights, expected) == expected
        with pytest.raises(self_check.CheckError, match="do not use them"):
            self_check.check_hash(weights)

    @pytest.mark.parametrize(
        ("versions", "message"),
        [
            ({"lightning": "2.6.3"}, "malicious upload"),
            ({"faiss-cpu": "1.15.1", "faiss-gpu": "1.15.1"}, "overwrite each other"),
            ({"torch": "2.13.0+cpu", "nvidia-cublas": "13"}, "CUDA libraries were installed"),
        ],
    )
    def test_what_must_not_be_there_is_named(self, versions: dict[str, str], message: str) -> None:
        with pytest.raises(self_check.CheckError, match=message):
            self_check.check_names(versions, gpu=False)

    def test_cuda_libraries_belong_on_a_gpu_machine(self) -> None:
        self_check.check_names({"torch": "2.13.0", "nvidia-cublas": "13"}, gpu=True)
