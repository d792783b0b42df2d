#!/usr/bin/env python3
"""Time to first token as `mainstay load` measures it, beside aiperf, at the same server.

    cargo build --release && python3 bench/clients.py [--rounds 5] [--rate 4] [--json]

Installs aiperf into a virtual environment that goes away afterwards (a minute or two; `--venv DIR`
keeps one, and takes it from there the next time). The server is Mainstay with its rehearsal model:
its first token takes the same time whatever the prompt, so that what differs is the client. Both
clients ask by chance at the same rate, in turn; the medians of the rounds are printed. The goal is
that they agree within 5 %.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSION = "0.13.0"
OUTPUT = 16
# The built-in model's: aiperf counts tokens with it, and needs no network for it.
TOKENIZER = str(ROOT / "crates/mainstay-engine/builtin")
PROMPT = 50


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program():
    if path := os.environ.get("MAINSTAY_PROGRAM"):
        return path
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "mainstay")


def serve(folder):
    port = free_port()
    path = pathlib.Path(folder) / "mainstay.toml"
    path.write_text(
        f"""[listen]
api = "127.0.0.1:{port}"
admin = "127.0.0.1:{free_port()}"
[[site]]
name = "here"
engine = {{ model = "rehearsal" }}
[[model]]
name = "chat"
served_by = ["here/rehearsal"]
"""
    )
    log = open(pathlib.Path(folder) / "mainstay.log", "w")
    process = subprocess.Popen(
        [program(), "serve", "--config", str(path)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return process, port
        except OSError:
            time.sleep(0.05)  # waits for: the server to listen
    raise SystemExit(f"nothing listens on port {port}; see {log.name}")


def install(folder):
    folder = pathlib.Path(folder)
    if not (folder / "bin" / "aiperf").exists():
        print("installing aiperf", file=sys.stderr)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"aiperf=={VERSION}"]
        subprocess.run(pip, check=True)
    return str(folder / "bin" / "aiperf")


def ours(url, rate, seconds, seed):
    out = subprocess.run(
        [program(), "load", "--url", url, "--rate", str(rate), "--for", f"{seconds}s",
         "--prompt-tokens", str(PROMPT), "--max-tokens", str(OUTPUT), "--seed", str(seed), "--json"],
        capture_output=True, text=True, check=True,
    ).stdout
    return json.loads(out)["by_tier"]["anonymous"]["ttft_ms"]


def theirs(aiperf, url, rate, seconds, folder):
    os.makedirs(folder)
    done = subprocess.run(
        [aiperf, "profile", "--model", "chat", "--url", url, "--endpoint-type", "chat", "--streaming",
         "--tokenizer", TOKENIZER, "--request-rate", str(rate), "--request-count",
         str(round(rate * seconds)), "--isl", str(PROMPT), "--osl", str(OUTPUT),
         "--artifact-dir", folder, "--ui", "none"],
        capture_output=True, text=True,
    )
    found = list(pathlib.Path(folder).rglob("profile_export_aiperf.json"))
    if not found:
        raise SystemExit(f"aiperf told nothing:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    told = json.loads(found[0].read_text())
    return (told.get("records") or told)["time_to_first_token"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=4.0)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--venv")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        aiperf = install(options.venv or pathlib.Path(folder) / "venv")
        process, port = serve(folder)
        url = f"http://127.0.0.1:{port}"
        rows = {"mainstay load": [], "aiperf": []}
        try:
            for number in range(options.rounds):
                told = ours(url, options.rate, options.seconds, number + 1)
                rows["mainstay load"].append(told)
                there = f"{folder}/{number}"
                rows["aiperf"].append(theirs(aiperf, url, options.rate, options.seconds, there))
        finally:
            process.terminate()
            process.wait(20)
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("p50", "p95")}
        for name, runs in rows.items()
    }
    ratio = medians["mainstay load"]["p50"] / medians["aiperf"]["p50"]
    if options.json:
        print(json.dumps({"median_ttft_ms": medians, "ratio": ratio, "aiperf": VERSION}))
        return
    print(f"{'client':16}{'TTFT p50':>10}{'p95':>10}   (ms, medians of {options.rounds} rounds)")
    for name, told in medians.items():
        print(f"{name:16}{told['p50']:>10.1f}{told['p95']:>10.1f}")
    print(f"mainstay load to aiperf {VERSION}: {ratio:.3f}")


if __name__ == "__main__":
    main()
