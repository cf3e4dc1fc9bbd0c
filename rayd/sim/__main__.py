"""``python -m rayd.sim``: play clusters by seed.

Exit code 0: no checker has found anything. 1: one has; the seed and the finding are printed.
"""

import argparse
import gc
import sys
import time
import traceback

from rayd.sim.options import Options
from rayd.sim.simulation import Report, Simulation
from rayd.sim.violation import ViolationError


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parsed = _parser().parse_args()
    fields = {name: getattr(parsed, name) for name in Options._fields if name != "seed"}
    fields["faults"] = parsed.faults == "on"
    gc.set_threshold(100_000, 50, 100)
    if parsed.seeds:
        first, _, last = parsed.seeds.partition(":")
        seeds = range(int(first), int(last))
    else:
        seeds = range(parsed.seed, parsed.seed + 1)
    failed = 0
    began = time.perf_counter()
    for seed in seeds:
        failed += not run(Options(seed=seed, **fields), quiet=len(seeds) > 1)
        gc.collect()
    if len(seeds) > 1:
        print(f"{len(seeds)} seeds, {failed} with a violation, {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


def run(options: Options, *, quiet: bool) -> bool:
    """One run; prints what came of it. Returns whether no checker has found anything."""
    began = time.perf_counter()
    simulation = Simulation(options)
    try:
        report = simulation.run()
    except ViolationError as error:
        print(f"seed {options.seed}: {error}", flush=True)
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return False
    if not quiet:
        _print(options, report, time.perf_counter() - began)
    return True


def _print(options: Options, report: Report, wall_s: float) -> None:
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(report.outcomes.items()))
    faults = ", ".join(f"{count} {name}" for name, count in sorted(report.faults.items()))
    print(f"seed {options.seed}, {options.nodes} nodes: no violation")
    print(f"  virtual time {report.virtual_s:.3f} s, {report.events} events, wall time {wall_s:.1f} s")
    print(f"  calls: {outcomes}")
    print(f"  faults: {faults or 'none'}")
    print(f"  trace {report.digest}")


def _parser() -> argparse.ArgumentParser:
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m rayd.sim", description="Play a cluster in virtual time, by seed.")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--seeds", default="", metavar="A:B", help="many runs, of the seeds from A to before B")
    parser.add_argument("--nodes", type=int, default=default.nodes)
    parser.add_argument("--tasks", type=int, default=default.tasks, help="tasks and calls of all drivers, about")
    parser.add_argument("--drivers", type=int, default=default.drivers, help="drivers at a time")
    parser.add_argument("--cpus", type=int, default=default.cpus, help="of each node")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of faults, in virtual time")
    parser.add_argument("--faults", choices=["on", "off"], default="on")
    parser.add_argument("--no-journal", dest="journal", action="store_false", help="the head keeps none")
    parser.add_argument("--encoded", action="store_true", help="pack and unpack every message")
    parser.add_argument("--check-every", type=int, default=default.check_every, help="steps between two looks inside")
    parser.add_argument("--trace", default="", metavar="FILE", help="write a line per event")
    return parser


if __name__ == "__main__":
    sys.exit(main())
