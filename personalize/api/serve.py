"""The command `personalize serve`: its options, help and mistakes before anything is loaded."""

import socket
from collections.abc import Sequence
from importlib.util import find_spec

from data_prep.errors import InputError
from personalize.api.configuration import Serving

_NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def run(*, arguments: Sequence[str]) -> None:
    """Serve what a configuration names.

    Args:
        arguments: Options of the command line.

    Raises:
        InputError: If the configuration does not fit, what it names is damaged, or the address
            is taken.
    """
    options = read_configuration(arguments)
    _check_extra()
    from personalize.api.keys import ApiKeys

    keys = ApiKeys([]) if options.keys is None else ApiKeys.from_file(options.keys)
    listening = _listening(options)
    from personalize.api.server import serve

    serve(options, lambda: read_configuration(arguments), keys=keys, listening=listening)


def read_configuration(arguments: Sequence[str]) -> Serving:
    """The configuration that a command line names.

    Raises:
        InputError: If it cannot be read, or names something that is not there.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(
        prog="personalize serve",
        exit_on_error=False,
        description="Answer requests over HTTP, and show the page to steer by hand.",
    )
    parser.add_argument("--config", action="config", help="YAML file, such as serve.yaml")
    parser.add_class_arguments(Serving)
    try:
        parsed = parser.parse_args(list(arguments))
        options = parser.instantiate(parsed).as_dict()
        options.pop("config", None)
        return Serving(**options)
    except (ArgumentError, ValueError) as error:
        raise InputError(f"The configuration does not fit: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if words.endswith(".") else f"{words}."


def _check_extra() -> None:
    for name in _NEEDED:
        if find_spec(name) is None:
            raise InputError(
                f"Serving needs {name}; install the extra [serve]: pip install "
                "'personalize[serve]'."
            )


def _listening(options: Serving) -> socket.socket:
    """A socket that is bound before anything is loaded, so a taken port is known at once."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # named as TCP, because only then does asyncio send answers without waiting to fill a packet
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        listening.close()
        raise InputError(
            f"Cannot listen on {options.host}:{options.port}: {error.strerror}; choose another "
            "--port."
        ) from error
    return listening
