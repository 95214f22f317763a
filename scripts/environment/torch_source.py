"""Which torch to install and from where: one already there, the CUDA build or the CPU build."""

import re
from dataclasses import dataclass

from environment.machine import Machine

CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's public index of CPU builds
PROBE_SECONDS = 3.0
TESTED = "2.13.0"

_VERSION = re.compile(
    r"^(\d+)\.(\d+)(?:\.\d+)*(?P<early>(?:a|b|rc|\.dev)\d*)?(?:\+(?P<build>.+))?$"
)
_PROBE = "import torch; print('torch', torch.__version__, torch.version.cuda or '-')"


@dataclass(frozen=True)
class TorchSource:
    """The decision about torch.

    Attributes:
        pin: Constraint that makes the installer take this very build, if one is known.
        extra_index: Index to look in beside the configured ones.
        gpu: The machine has a GPU, so GPU builds of other packages are taken too.
        says: One line that tells the person what was decided and why.
    """

    pin: str | None
    extra_index: str | None
    gpu: bool
    says: str


@dataclass(frozen=True)
class TorchRange:
    """The versions of torch the project accepts: first minor included, last excluded."""

    first: tuple[int, int]
    last: tuple[int, int]

    def accepts(self, version: str) -> bool:
        """Whether a version is in range; an early build of the first minor is older than it."""
        match = _VERSION.match(version)
        if match is None:
            return False
        number = (int(match[1]), int(match[2]))
        if match["early"] and number == self.first:
            return False
        return self.first <= number < self.last


def torch_range(pyproject: str) -> TorchRange:
    """The range in the text of `pyproject.toml`.

    Raises:
        ValueError: If no line such as `"torch>=2.11,<2.14"` is there.
    """
    match = re.search(r'"torch>=(\d+)\.(\d+),<(\d+)\.(\d+)"', pyproject)
    if match is None:
        raise ValueError('pyproject.toml has no requirement like "torch>=2.11,<2.14".')
    first_major, first_minor, last_major, last_minor = (int(part) for part in match.groups())
    return TorchRange((first_major, first_minor), (last_major, last_minor))


def torch_of(machine: Machine, python: str) -> tuple[str, bool] | None:
    """Version of the torch an interpreter imports and whether it is a CUDA build, or None."""
    answer = machine.run([python, "-c", _PROBE])
    for line in answer.text.splitlines():  # an import may print lines of its own
        words = line.split()
        if answer.status == 0 and len(words) == 3 and words[0] == "torch":
            return words[1], words[2] != "-"
    return None


def reusable_torch(
    machine: Machine, python: str, accepted: TorchRange, *, gpu: bool
) -> TorchSource | None:
    """The torch an interpreter already has, where it is in range and can use the GPU there is."""
    found = torch_of(machine, python)
    if found is None or not accepted.accepts(found[0]) or (gpu and not found[1]):
        return None
    version = found[0]
    return TorchSource(f"torch=={version}", None, gpu, f"torch {version} is there; it stays.")


def offered_versions(machine: Machine, python: str, index: str | None = None) -> list[str]:
    """Versions of torch that pip would find for this interpreter, newest first."""
    command = [python, "-m", "pip", "index", "versions", "torch"]
    if index:
        command += ["--index-url", index]
    match = re.search(r"^Available versions: (.*)$", machine.run(command).text, re.MULTILINE)
    return match[1].split(", ") if match else []


def choose_torch(
    machine: Machine,
    python: str,
    accepted: TorchRange,
    *,
    gpu: bool,
    certificates: str | None = None,
) -> TorchSource:
    """Where torch comes from when none is there to be reused.

    Args:
        machine: Answers what the machine has.
        python: The interpreter it is installed for; its pip knows the configured places.
        accepted: The versions the project accepts.
        gpu: Whether an NVIDIA driver is visible.
        certificates: File of certificates to trust when the network is asked.

    Returns:
        On a GPU machine the CUDA build of the normal index. Elsewhere the CPU build, from pip's
        own configuration if that offers one, else from PyTorch's CPU index if that answers.
        Else, and only then, whatever the normal index gives, with a warning of its size.
    """
    if gpu:
        plain = _pick(offered_versions(machine, python), accepted, cpu=False)
        pin = f"torch==={plain}" if plain else None  # `==` would also accept a `+cpu` build
        return TorchSource(pin, None, True, "An NVIDIA driver is there: the CUDA build.")
    if machine.platform != "linux":
        return TorchSource(None, None, False, "The normal torch is the CPU build here.")
    configured = _pick(offered_versions(machine, python), accepted, cpu=True)
    if configured:
        says = f"No NVIDIA driver: the CPU build {configured}, as pip's configuration offers it."
        return TorchSource(f"torch=={configured}", None, False, says)
    if machine.answers(f"{CPU_INDEX}/torch/", PROBE_SECONDS, certificates):
        version = _pick(offered_versions(machine, python, CPU_INDEX), accepted, cpu=True)
        if version:
            says = f"No NVIDIA driver: the CPU build {version} from PyTorch's CPU index."
            return TorchSource(f"torch=={version}", CPU_INDEX, False, says)
    says = (
        "No NVIDIA driver, but no CPU build of torch is offered here and PyTorch's CPU index does "
        "not answer: about 2.7 GB will be downloaded."
    )
    return TorchSource(None, None, False, says)


def _pick(versions: list[str], accepted: TorchRange, *, cpu: bool) -> str | None:
    """The tested version of the wanted build, else the newest that is accepted."""
    fitting = [
        version
        for version in versions
        if accepted.accepts(version) and version.endswith("+cpu") == cpu
    ]
    tested = [version for version in fitting if version.partition("+")[0] == TESTED]
    return (tested or fitting or [None])[0]
