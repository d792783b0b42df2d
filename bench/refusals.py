#!/usr/bin/env python3
"""Do refusals cost those who are let in? Accepted requests with and without ten times as many refused.

    apt-get install wrk; cargo build --release && python3 bench/refusals.py --json

One gateway before a fault server whose answers take 100 ms. `mainstay load` asks with a key
that has no limit, in an open loop; in every other turn `wrk` asks with a key that has used up its
limit, at ten times that rate. Turns alternate, so that both meet the same noise; the figures are
medians over the turns, of times of whole answers.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from ledger import free_port, read_json, waits

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPEN, LIMITED = "sk-open", "sk-limited"
# Connections of wrk, each of which waits for so long that together they reach the rate.
CONNECTIONS = 20
# Twenty tokens, 5 ms apart.
MODEL = "long-20-5ms"

SCRIPT = """
wrk.method = "POST"
wrk.body = '{"model":"chat","messages":[{"role":"user","content":"hello"}]}'
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
function delay() return %d end
"""


def config(upstream, api):
    sha = lambda secret: hashlib.sha256(secret.encode()).hexdigest()
    return f"""
ledger = "off"
[listen]
api = "127.0.0.1:{api}"
admin = "127.0.0.1:0"
[log]
level = "warn"
[[site]]
name = "up"
provider = "openai"
base_url = "{upstream}/s/p/v1"
key = "sk-up"
[[model]]
name = "chat"
served_by = ["up/{MODEL}"]
[[key]]
name = "open"
tier = "enterprise"
hash = "{sha(OPEN)}"
[[key]]
name = "limited"
tier = "free"
hash = "{sha(LIMITED)}"
requests_per_minute = 6
"""


def turn(arguments, url, script):
    flood = script and subprocess.Popen(
        ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", str(arguments.seconds + 2), "--latency",
         "-s", script, f"{url}/v1/chat/completions"], stdout=subprocess.PIPE, text=True)
    if flood:
        time.sleep(1)
    told = subprocess.run(
        [arguments.program, "load", "--url", url, "--tier", f"enterprise={OPEN}", "--rate",
         str(arguments.rate), "--for", f"{arguments.seconds}s", "--max-tokens", "20", "--plain", "--json"],
        capture_output=True, text=True)
    tier = json.loads(told.stdout)["by_tier"]["enterprise"]
    found = {"good": tier["goodput_ratio"], **tier["ttft_ms"]}
    if flood:
        text = flood.communicate()[0]
        refused = int(re.search(r"Non-2xx or 3xx responses: (\d+)", text).group(1))
        found["refused_a_second"] = round(refused / (arguments.seconds + 2))
        found["refused_p99"] = re.search(r"99%\s+(\S+)", text).group(1)
    return found


def resident(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) // 1024


def measure(arguments, directory, processes):
    faults = subprocess.Popen(
        [arguments.program, "faults", "serve", "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    processes.append(faults)
    api = free_port()
    path = pathlib.Path(directory, "mainstay.toml")
    path.write_text(config(read_json(faults.stdout)["url"], api))
    gateway = subprocess.Popen([arguments.program, "serve", "--config", path], cwd=directory,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    processes.append(gateway)
    waits(api)
    url = f"http://127.0.0.1:{api}"
    pause = round(1000 * CONNECTIONS / (10 * arguments.rate))
    script = pathlib.Path(directory, "flood.lua")
    script.write_text(SCRIPT % (LIMITED, pause))
    turn(arguments, url, None)
    memory = [resident(gateway)]
    turns = {"without": [], "with": []}
    for number in range(arguments.turns):
        for kind in ["without", "with"] if number % 2 else ["with", "without"]:
            turns[kind].append(turn(arguments, url, str(script) if kind == "with" else None))
    memory.append(resident(gateway))
    middle = lambda kind, what: statistics.median(one[what] for one in turns[kind])
    found = {f"{what}_ms": {kind: middle(kind, what) for kind in turns} for what in ["p50", "p99"]}
    found["p99_ratio"] = round(found["p99_ms"]["with"] / found["p99_ms"]["without"], 3)
    found["good"] = {kind: min(one["good"] for one in turns[kind]) for kind in turns}
    found["refused_a_second"] = statistics.median(
        one["refused_a_second"] for one in turns["with"])
    found["refused_p99"] = [one["refused_p99"] for one in turns["with"]]
    found["p99_of_turns_ms"] = {kind: [round(one["p99"], 1) for one in turns[kind]]
                                for kind in turns}
    found["memory_mib"] = memory
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=100, help="accepted requests a second")
    parser.add_argument("--seconds", type=int, default=15, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--program", default=str(ROOT / "target/release/mainstay"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("please install: wrk")
    processes = []
    with tempfile.TemporaryDirectory(prefix="mainstay-refusals-") as directory:
        try:
            found = measure(arguments, directory, processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print(json.dumps(found, indent=2) if arguments.json else
          "\n".join(f"{key:20} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
