"""The best chain by a stated rule, and what may be said of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from personalize.report.words import number, share, signed
from personalize.steerability.numbers import main_loss

Numbers = Mapping[str, Any]
ALIKE_CALLS = 1.1
"""Calls up to this many times as many count as equal."""

LEAST_RESPONSE = 0.05
"""Responses beside what was asked that are smaller, per unit, are not worth a word."""


def best_chain(
    chains: Sequence[dict[str, Any]], *, largest_quality_loss: float, generator_calls: float
) -> dict[str, Any] | None:
    """The chain of least steering error among those that are sure to lose little enough.

    Args:
        chains: Numbers of all chains.
        largest_quality_loss: Share of the unsteered main quality up to which the interval of the
            loss must lie.
        generator_calls: Calls that a chain may take, a tenth more included; 0 allows any.

    Returns:
        None where no chain may be named.
    """
    allowed = [
        chain
        for chain in chains
        if chain["steering_error"] is not None
        and main_loss(chain, "low") <= largest_quality_loss
        and (not generator_calls or chain["generator_calls"] <= ALIKE_CALLS * generator_calls)
    ]
    return min(allowed, key=lambda chain: chain["steering_error"]["value"], default=None)


def rule(largest_quality_loss: float, generator_calls: float, quality: str | None) -> str:
    """The rule by which a chain is called the best, in words."""
    bound = f" whose 95 % interval of {quality} loses at most {share(largest_quality_loss)} of it"
    calls = f" and which take at most {generator_calls:g} generator calls (a tenth more is alike)"
    return (
        "The best chain has the least steering error among those"
        + (bound if quality else " given")
        + (calls if generator_calls else "")
        + ". It is chosen among these on the reported contexts, and its intervals are not widened "
        "for that."
    )


def verdict(
    chains: Sequence[dict[str, Any]],
    best: dict[str, Any] | None,
    *,
    largest_quality_loss: float,
    generator_calls: float,
) -> list[str]:
    """Sentences, the main one first; for the bounds see `best_chain`."""
    if best is None:
        return ["No chain keeps the bounds that were set; none can be named the best."]
    if best["neutral"] or best["approach"]["low"] <= 0:
        said = ["No chain within the bounds is sure to bring outputs nearer to their goals."]
    else:
        said = [_steers(best), _side(best)]
    said += [
        _breaks(chain, largest_quality_loss, generator_calls)
        for chain in chains
        if chain["steering_error"] is not None
        and chain["steering_error"]["value"] < best["steering_error"]["value"]
    ]
    said += _calls(chains, best)
    return said


def _steers(best: Numbers) -> str:
    gain, error, asked = best["gain"], best["steering_error"], best["asked"]
    oracle = best["oracle_error"]
    low, high = share(gain["low"]), share(gain["high"])
    bound = f", the nearest possible output {number(oracle['value'], 2)}" if oracle else ""
    return (
        f"Chain {best['chain']} steers best: it makes {share(gain['value'])} of the way that is "
        f"asked for ({low} to {high}) and ends {number(error['value'], 2)} "
        f"from the goal; without steering it is {number(asked['value'], 2)}{bound}.{_costs(best)}"
    )


def _costs(best: Numbers) -> str:
    name = best["main_quality"]
    change = best["quality"][name]["change"] if name else None
    if change is None:
        return ""
    return (
        f" It changes {name} by {signed(change['value'], 3)} "
        f"({signed(change['low'], 3)} to {signed(change['high'], 3)})."
    )


def _side(best: Numbers) -> str:
    found = (
        f"Of the way {best['chain']} makes, {number(best['side_effects']['value'], 2)} is across "
        "what was asked (the sine of the angle)"
    )
    names, cells = best["response"]["dimensions"], best["response"]["cells"]
    beside = [
        (abs(cell["value"]), asked, seen, cell["value"])
        for asked, row in zip(names, cells, strict=True)
        for seen, cell in zip(names, row, strict=True)
        if asked != seen and cell is not None and _tells(cell)
    ]
    if not beside:
        return found + "; no single dimension is sure to move when another is asked for."
    _, asked, seen, value = max(beside)
    return f"{found}; most of all, asking for {asked} moves {seen} by {signed(value, 2)} per unit."


def _tells(cell: Numbers) -> bool:
    return abs(cell["value"]) >= LEAST_RESPONSE and not cell["low"] <= 0 <= cell["high"]


def _breaks(chain: Numbers, largest_quality_loss: float, generator_calls: float) -> str:
    """What keeps a chain that comes nearer from being the best."""
    loss, broken = main_loss(chain, "low"), []
    if loss > largest_quality_loss:
        broken.append(f"may lose up to {share(loss)} of {chain['main_quality']}")
    if generator_calls and chain["generator_calls"] > ALIKE_CALLS * generator_calls:
        broken.append(f"takes {chain['generator_calls']:.4g} generator calls")
    nearer = number(chain["steering_error"]["value"], 2)
    return f"Chain {chain['chain']} comes nearer ({nearer}), but {' and '.join(broken)}."


def _calls(chains: Sequence[dict[str, Any]], best: Numbers) -> list[str]:
    steering = [chain for chain in chains if not chain["neutral"]]
    unequal = [
        chain["chain"]
        for chain in steering
        if not 1 / ALIKE_CALLS
        <= chain["generator_calls"] / max(best["generator_calls"], 1e-9)
        <= ALIKE_CALLS
    ]
    if best["neutral"] or not unequal:
        return []
    return [
        f"Not at equal cost: {', '.join(unequal)} take other numbers of generator calls than "
        f"{best['chain']} ({best['generator_calls']:.4g}); compare only rows of one number."
    ]
