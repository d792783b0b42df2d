"""Our engine beside llama.cpp on the same GGUF files, in turns, and the goals beside both.

    cargo build --release -p mainstay-engine --example speed
    python3 -m venv .venv && .venv/bin/pip install gguf numpy xllamacpp
    .venv/bin/python bench/engine/shapes.py /tmp/mainstay-bench
    .venv/bin/python bench/engine/compare.py /tmp/mainstay-bench [ROUNDS [THREADS [WIDTH [ROWS]]]]

Each round measures a row with one engine and then with the other; the order changes from round to
round. A row's figure is the median of its rounds' ratios: on a machine with neighbours, speeds of
different minutes cannot be compared. WIDTH (avx2, avx512) holds ours to that; which instructions
llama.cpp was built for is printed. ROWS keeps rows that contain it, as "a-q4 decode". Caches of
prompts are off in both.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time

import xllamacpp

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "../../target"))
SPEED = os.path.join(TARGET, "release/examples/speed")
STREAMS = 8

# model, what, our command, at least, stretch (times llama.cpp's speed)
ROWS = [
    ("a-q8", "decode, one", "decode 1 32", 1.3, 1.6),
    ("a-q4", "decode, one", "decode 1 32", 1.8, 2.5),
    ("b-q8", "decode, one", "decode 1 32", 1.4, 1.9),
    ("a-q8", "decode, eight", "decode 8 16", 2.0, 3.0),
    ("a-q4", "decode, eight", "decode 8 16", 2.5, 5.0),
    ("b-q8", "decode, eight", "decode 8 16", 1.8, 2.5),
    ("a-q8", "prefill 512", "prefill 512", 1.2, 1.8),
    ("a-q4", "prefill 512", "prefill 512", 1.6, 2.5),
    ("b-q8", "prefill 512", "prefill 512", 1.6, 2.2),
    ("b-q8", "prefill at 2048", "deep 2048 512", 2.0, 3.0),
    ("b-q8", "decode at 2048", "deepdecode 2048 24", None, None),
    ("a-q8", "decode at 2048", "deepdecode 2048 24", None, None),
]

# Of our engine alone, on B: what, command, at most, stretch
LIMITS = [
    ("first token on a cached 2k prefix / cold", "cached 2048", 0.05, 0.02),
    ("others' gap p99 while 4k enter / idle", "gap 4096", 3.0, 2.0),
]


class Ours:
    def __init__(self, path, threads, width):
        command = [SPEED, path, str(threads)] + ([width] if width else [])
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def measure(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    def __init__(self, path, threads):
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx = 3072 * STREAMS
        params.n_parallel = STREAMS
        params.n_batch = 2048
        params.n_ubatch = 512
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0
        params.warmup = True
        params.verbosity = 0
        params.endpoint_metrics = False
        self.server = xllamacpp.Server(params)
        self.salt = 0

    def complete(self, tokens, count, is_cached=False):
        request = {"prompt": tokens, "n_predict": count, "temperature": 0, "ignore_eos": True,
                   "cache_prompt": is_cached, "id_slot": -1}
        answer = self.server.handle_completions(request)
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        if "timings" not in answer:
            raise RuntimeError(str(answer)[:300])
        return answer["timings"]

    def prompt(self, count):
        self.salt += 1
        return [300 + (at + self.salt * 977) * 7919 % 20000 for at in range(count)]

    def measure(self, command):
        what, *numbers = command.split()
        numbers = [int(number) for number in numbers]
        if what == "prefill":
            return self.complete(self.prompt(numbers[0]), 1)["prompt_per_second"]
        if what == "deep":
            prompt = self.prompt(sum(numbers))
            self.complete(prompt[:numbers[0]], 1, True)
            timings = self.complete(prompt, 1, True)
            assert timings["prompt_n"] <= numbers[1] + 1, timings
            return timings["prompt_per_second"]
        if what == "deepdecode":
            return self.complete(self.prompt(numbers[0]), numbers[1])["predicted_per_second"]
        streams, steps = numbers
        if streams == 1:
            return self.complete(self.prompt(4), steps)["predicted_per_second"]
        return self.together(streams, steps)

    def together(self, streams, steps):
        """Tokens a second of all streams, by the clock of each: prompts of 4 hardly count."""
        rates = []
        prompts = [self.prompt(4) for _ in range(streams)]
        run = lambda p: rates.append(self.complete(p, steps * 2)["predicted_per_second"])
        threads = [threading.Thread(target=run, args=(prompt,)) for prompt in prompts]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(rates) == streams
        return sum(rates)


def main():
    directory = sys.argv[1]
    rounds, threads = (int(sys.argv[at]) if len(sys.argv) > at else 0 for at in (2, 3))
    width = sys.argv[4] if len(sys.argv) > 4 else None
    wanted = sys.argv[5] if len(sys.argv) > 5 else ""
    rows = [row for row in ROWS if wanted in f"{row[0]} {row[1]}"]
    rounds, threads = rounds or 5, threads or 2
    print("llama.cpp:", xllamacpp.get_system_info().strip(), flush=True)
    print(f"ours: {width or 'as wide as the processor'}; {threads} threads each, "
          f"{rounds} rounds", flush=True)
    results = {}
    for model in [model for model in ["a-q8", "a-q4", "b-q8"] if any(r[0] == model for r in rows)]:
        path = f"{directory}/{model}.gguf"
        ours, theirs = Ours(path, threads, width), Theirs(path, threads)
        size = os.path.getsize(path)
        for name, what, command, *_ in [row for row in rows if row[0] == model]:
            pairs = []
            for round_ in range(rounds):
                pair = {}
                for engine in [ours, theirs][:: 1 if round_ % 2 == 0 else -1]:
                    pair[engine] = engine.measure(command)
                    time.sleep(0.05)
                pairs.append((pair[ours], pair[theirs]))
            bandwidth = ours.measure("bandwidth")
            results[name, what] = (pairs, bandwidth, size)
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"  {name} {what}: {ratio:.2f}", flush=True)
        for what, command, most, stretch in LIMITS if model == "b-q8" else []:
            figure = statistics.median(ours.measure(command) for _ in range(rounds))
            verdict = "met" if figure <= most else "MISSED"
            print(f"  {what}: {figure:.3f} (goal {most}, more {stretch}) {verdict}", flush=True)
        ours.close()
        del theirs
    report(results, rows)
    if not wanted:
        starts = [cold_start(threads) for _ in range(rounds)]
        figure = statistics.median(starts)
        verdict = "met" if figure <= 100 else "MISSED"
        print(f"built-in model, process start to first token: {figure:.0f} ms "
              f"(goal 100, more 30) {verdict}")


def cold_start(threads):
    """Milliseconds from starting a process to the first token of the built-in model."""
    start = time.monotonic()
    ours = Ours("builtin", threads, None)
    ours.measure("cached 4")
    took = time.monotonic() - start
    ours.close()
    return took * 1000


def report(results, rows):
    print(f"\n{'model':5} {'measure':16} {'ours/s':>8} {'llama/s':>8} {'ratio':>6} {'lowest':>6} "
          f"{'goal':>5} {'more':>5} {'':6} share of bandwidth")
    for name, what, _, goal, stretch in rows:
        pairs, bandwidth, size = results[name, what]
        ratios = [a / b for a, b in pairs]
        ratio = statistics.median(ratios)
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        verdict = "" if goal is None else "met" if ratio >= goal else "MISSED"
        # A dense model reads all of its file for each token of one stream.
        share = f"{ours * size / bandwidth:.0%}" if (name[0], what) == ("a", "decode, one") else ""
        print(f"{name:5} {what:16} {ours:8.1f} {theirs:8.1f} {ratio:6.2f} {min(ratios):6.2f} "
              f"{goal or '':>5} {stretch or '':>5} {verdict:6} {share}")
    is_depth_known = ("b-q8", "decode, one") in results and ("b-q8", "decode at 2048") in results
    for at, who in enumerate(["ours", "llama.cpp"] if is_depth_known else []):
        near = statistics.median(pair[at] for pair in results["b-q8", "decode, one"][0])
        far = statistics.median(pair[at] for pair in results["b-q8", "decode at 2048"][0])
        print(f"decode kept at depth 2048, B, {who}: {far / near:.0%} (goal 70 %, more 80 %)")
    bandwidths = [result[1] for result in results.values()]
    print(f"memory read by all threads: {min(bandwidths) / 1e9:.1f} to "
          f"{max(bandwidths) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
