"""The command `personalize serve`: its options, help and mistakes before anything is loaded."""

import signal
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from data_prep.errors import InputError
from personalize.api.configuration import Serving
from personalize.api.listening import bound_socket

_NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def run(*, arguments: Sequence[str]) -> None:
    """Serve what a configuration names.

    Args:
        arguments: Options of the command line.

    Raises:
        InputError: If the configuration does not fit, what it names is damaged, or the address
            is taken.
    """
    hangups: list[int] = []  # while it starts; one would end the process, or be lost
    signal.signal(signal.SIGHUP, lambda number, frame: hangups.append(number))
    options = read_configuration(arguments)
    _check_extra()
    from personalize.api.keys import ApiKeys

    keys = ApiKeys([]) if options.keys is None else ApiKeys.from_file(options.keys)
    listening = bound_socket(options.host, options.port)
    from personalize.api.server import serve

    reread = partial(read_configuration, arguments)
    serve(options, reread, keys=keys, listening=listening, hangups=hangups)


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
