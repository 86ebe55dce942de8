"""Two or more ways to do one thing, timed in turns, and the report of it."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.machine import describe_machine, describe_versions
from stages.core.errors import UserError

Contender = Callable[[], object]


def make_parser(description: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: `rounds`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=_positive, default=rounds, help="turns of each side")
    return parser


def add_number(parser: argparse.ArgumentParser, name: str, default: int, help_: str) -> None:
    """An option that takes a whole number of at least 1."""
    parser.add_argument(name, type=_positive, default=default, help=help_)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round.

    They alternate, and every other round in reverse, so that what else the machine does, and how
    warm it is, falls on all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            begin = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": _rounded(statistics.median(values)),
        "low": _rounded(min(values)),
        "high": _rounded(max(values)),
    }


def rates(seconds: Sequence[float], work: float) -> list[float]:
    """Work a second in each round."""
    return [work / each for each in seconds]


def inverse(seconds: Sequence[float]) -> list[float]:
    """Of things that are done once a round: how many a second."""
    return rates(seconds, 1)


def compare(
    what: str,
    ours: Sequence[float],
    rival: Sequence[float],
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> dict[str, object]:
    """One line of the table: figures of both by round, and the ratio of ours to the rival's.

    Args:
        what: is compared.
        ours: a figure for each round.
        rival: the rival's, of the same rounds.
        unit: of both.
        at_least: the bar that the median ratio has to reach.
        at_most: the one that it must not exceed.
    """
    ratios = [a / b for a, b in zip(ours, rival, strict=True)]
    line: dict[str, object] = {
        "what": what,
        "unit": unit,
        "ours": spread(ours),
        "rival": spread(rival),
        "ratio": spread(ratios),
    }
    ratio = statistics.median(ratios)
    if at_least is not None:
        line |= {"at_least": at_least, "met": ratio >= at_least}
    if at_most is not None:
        line |= {"at_most": at_most, "met": ratio <= at_most}
    return line


def prove(equal: bool, what: str) -> str:
    """What was proven, for the report.

    Raises:
        UserError: it is not so; nothing is timed then.
    """
    if not equal:
        raise UserError(f"not equal: {what}; a time would say nothing")
    return what


def print_report(
    arguments: argparse.Namespace,
    proven: Sequence[str],
    lines: Sequence[Mapping[str, object]],
    **more: Any,
) -> None:
    """Print the JSON of a benchmark to standard output."""
    module = sys.modules["__main__"].__spec__
    name = module.name if module else "benchmarks"
    report = {
        "command": " ".join(["python -m", name, *sys.argv[1:]]),
        "options": {key: str(value) for key, value in vars(arguments).items()},
        "machine": describe_machine(),
        "versions": describe_versions(),
        "proven": list(proven),
        "results": list(lines),
        **more,
    }
    print(json.dumps(report, indent=2))


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
