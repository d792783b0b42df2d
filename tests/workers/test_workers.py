"""Answers of real llama.cpp servers survive the servers: the short form of bench/workers.py."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_answers_go_on_exactly_when_workers_are_killed():
    command = [sys.executable, ROOT / "bench/workers.py", "--for", "45", "--every", "9"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["kills"] >= 4, told
    assert told["failed"] == 0, told
    assert told["continued_by_the_site"] > 0, told
    assert told["greedy_continued"] == told["greedy_continued_exact"] > 0, told
