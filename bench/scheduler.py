#!/usr/bin/env python3
"""What ways to schedule workers carry of published traces: the figures of docs/guide/scheduling.md.

Plays each trace with all policies and five seeds on 16 workers, one trace after the other, and writes
for each a table, JSON and a picture. About a quarter of an hour on two cores.

    cargo build --release && bench/scheduler.py
    bench/scheduler.py --seeds 1 --traces synthetic          a minute
    bench/scheduler.py --out docs/guide/scheduling           where the guide's pictures are
"""

import argparse
import json
import pathlib
import subprocess
import time

TRACES = ["conversation", "synthetic"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mainstay", default="target/release/mainstay", help="the program")
    parser.add_argument("--traces", nargs="+", default=TRACES, help="as mainstay simulate --trace")
    parser.add_argument("--policy", default="all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--threads", type=int, help="runs at once")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/scheduler"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for trace in options.traces:
        name = pathlib.Path(trace).name.split(".")[0]
        command = [options.mainstay, "simulate", "--trace", trace, "--policy", options.policy]
        command += ["--seeds", str(options.seeds), "--workers", str(options.workers), "--json"]
        command += ["--report", str(options.out / f"{name}.svg")]
        if options.threads:
            command += ["--threads", str(options.threads)]
        begun = time.time()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        (options.out / f"{name}.json").write_text(done.stdout)
        tell(json.loads(done.stdout), time.time() - begun)


def tell(compared, seconds):
    """What each carries, against round robin and against the best of the others."""
    rows = compared["policies"]
    others = [row for row in rows if not row["policy"].startswith("late")]
    best = max((row["cap95"] for row in others), default=0)
    turns = next((row["cap95"] for row in rows if row["policy"] == "rr"), 0)
    print(f"\n{compared['trace']}, {compared['workers']} workers, {compared['seeds']} seeds, {seconds:.0f} s")
    print("| policy | CAP95 | of tokens | × rr | × best other |\n|---|---|---|---|---|")
    for row in rows:
        against = [f"{row['cap95'] / part:.2f}" if part else "-" for part in (turns, best)]
        print(f"| `{row['policy']}` | {row['cap95']:.2f} | {row['cap95_tokens']:.2f} | {' | '.join(against)} |")


if __name__ == "__main__":
    main()
