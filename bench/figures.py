"""Every figure that is claimed, by the command that measures it: `python -m bench.figures [NAME ...]`.

It goes on where it was broken off, leaves out what was measured already with the same code on the same processor, and
writes the report at the end. `--list` prints the commands.
"""

from __future__ import annotations

import argparse
import sys
from itertools import takewhile

from bench import metrics, report, run
from bench.commands import FIGURES, WHOLE, result_of

__all__ = ["main"]

SAME_ENGINES = ("recall_qps", "batch", "build", "memory", "cold_start")  # which answer for each engine asked for


def main(words: list[str] | None = None) -> int:
    """Run the named figures, or all; the exit status is that of the first run that did not end."""
    usage = "python -m bench.figures [NAME ...] [--list] [--again] [options of bench.run]"
    parser = argparse.ArgumentParser(usage=usage, description=__doc__, allow_abbrev=False)
    parser.add_argument("--list", action="store_true", help="print names and commands")
    parser.add_argument("--again", action="store_true", help="measure again what was measured with this code")
    words = sys.argv[1:] if words is None else words
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    options, passed = parser.parse_known_args(words[len(names) :])
    known = FIGURES | WHOLE
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}: see --list")
    if options.list:
        for name, command in known.items():
            print(f"{name:14} python -m bench.run {command}")
        return 0
    for name in names or FIGURES:
        if not options.again and _measured(name, known[name]):
            print(f"{name}: measured already", flush=True)
            continue
        print(f"{name}: {known[name]}", flush=True)
        status = run.main([*known[name].split(), *passed])
        if status:
            return status
    return report.main()


def _measured(name: str, command: str) -> bool:
    """Whether a result of this command, with this code, on this processor, is there."""
    result = result_of(name)
    if result is None:
        return False
    known, now = result["machine"], metrics.machine()
    asked = run.options_of(command.split())
    if asked.suite in SAME_ENGINES and not {*asked.ours, *asked.rivals} <= set(result["engines"]):
        return False
    return all(known.get(key) == now[key] for key in ("code", "processor", "family_model"))


if __name__ == "__main__":
    sys.exit(main())
