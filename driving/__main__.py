"""The planner's door. The planner itself is not part of this release."""

import sys
from collections.abc import Sequence

from data_prep.front_door import Command, run_door

COMMANDS: tuple[Command, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door("driving", "A style-conditioned trajectory planner.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
