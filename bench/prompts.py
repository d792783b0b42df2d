#!/usr/bin/env python3
"""What Mainstay adds to long prompts at a steady rate, beside HAProxy on the same upstream.

Needs haproxy and wrk (Debian packages of those names) and a release build:

    cargo build --release && python3 bench/prompts.py [--bytes 220000] [--rate 400] [--rounds 5]

Each round measures in turn: the upstream itself, HAProxy, Mainstay in front of it as a provider,
and Mainstay with a site of its own whose one worker it is, over the link between the two halves.
Prompts are of one length and all different from their first block on; the answer is a stream of 16
tokens from memory, so that what is added to the whole is what is added to its first token, and the
little that relaying it takes. Who asks waits a random time, so that about so many come in a second.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import overhead

# Connections, and different prompts of each run.
CONNECTIONS, PROMPTS = 24, 32

LUA = overhead.LUA_ASK + """
local rate, connections, bytes, prompts = %d, %d, %d, %d
local made, turn = {}, 0
function init(args)
  math.randomseed(7)
  for number = 1, prompts do
    local text = string.format("%%d of %%d: ", math.random(1000000), number)
    text = text .. string.rep("the light keeps the harbour ", math.ceil(bytes / 28))
    local head = '{"stream":true,"model":"m","messages":[{"role":"user","content":"'
    made[number] = wrk.format(nil, nil, nil, head .. text:sub(1, bytes) .. '"}]}')
  end
end
function request()
  turn = turn %% prompts + 1
  return made[turn]
end
function delay()
  return math.random(0, 2 * math.floor(1000 * connections / rate))
end
""" + overhead.LUA_DONE


class Servers(overhead.Servers):
    """Upstream, HAProxy, Mainstay with a provider, and Mainstay with a site of its own."""

    def run_haproxy(self, name, text):
        # The upstream answers when it has all of a prompt; HAProxy has that in one buffer.
        room = "global\n  tune.bufsize 524288\n" if name == "direct" else ""
        super().run_haproxy(name, room + text)

    def mainstay(self, name, stream):
        if name == "mainstay":
            super().mainstay(name, stream)
        else:
            self.site(name)

    def site(self, name):
        own = self.folder / "node"
        init = [overhead.program(), "node", "init", "--name", "edge-1", "--dir", str(own), "--json"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
        link = overhead.free_port()
        path = self.folder / "site.toml"
        path.write_text(
            f"""[listen]
api = "127.0.0.1:{self.ports[name]}"
admin = "127.0.0.1:{overhead.free_port()}"
link = "127.0.0.1:{link}"
[node]
name = "edge-1"
ca_file = "{own}/ca.pem"
cert_file = "{own}/node.pem"
key_file = "{own}/node.key"
data_dir = "{own}/data"
[[site]]
name = "here"
node = "https://127.0.0.1:{link}"
node_name = "edge-1"
models = [{{ name = "m", window = 131072 }}]
[[site.worker]]
engine = "openai"
address = "http://127.0.0.1:{self.ports["direct"]}"
sequences = 512
tokens_per_second = 1000000000
"""
        )
        command = [overhead.program(), "serve", "--config", str(path)]
        self.processes[name] = overhead.start(command, self.folder / "site.log")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=220_000)
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(folder)
        script = pathlib.Path(folder) / "prompts.lua"
        script.write_text(
            LUA % (overhead.KEY, options.rate, CONNECTIONS, options.bytes, PROMPTS)
        )
        try:
            for number in range(options.rounds + 1):
                for name, port in servers.ports.items():
                    pid = servers.processes[name].pid
                    before = overhead.cpu_seconds(pid)
                    got = overhead.wrk(port, "s", CONNECTIONS, options.seconds, {"s": str(script)})
                    used = overhead.cpu_seconds(pid) - before
                    got["cpu"] = used / max(got["requests"], 1) * 1e6
                    if number > 0:  # the first round warms up
                        results.setdefault(name, []).append(got)
        finally:
            servers.stop()
    names = {"mainstay": "Mainstay, provider", "as plain": "Mainstay, own site"}
    rows = []
    for name, runs in results.items():
        added = lambda key: statistics.median(
            run[key] - direct[key] for run, direct in zip(runs, results["direct"])
        )
        rows.append(
            {
                "server": names.get(name, name),
                "rps": round(statistics.median(run["rps"] for run in runs)),
                "p50_us": round(statistics.median(run["p50"] for run in runs)),
                "added_p50_us": round(added("p50")),
                "added_p99_us": round(added("p99")),
                "cpu_us": round(statistics.median(run["cpu"] for run in runs)),
            }
        )
    if options.json:
        print(json.dumps({"bytes": options.bytes, "rate": options.rate, "rows": rows}))
        return
    print(f"{'':20}{'req/s':>7}{'p50 us':>9}{'+p50 us':>9}{'+p99 us':>9}{'CPU us/req':>12}")
    for row in rows:
        print(
            f"{row['server']:20}{row['rps']:>7}{row['p50_us']:>9}{row['added_p50_us']:>9}"
            f"{row['added_p99_us']:>9}{row['cpu_us']:>12}"
        )


if __name__ == "__main__":
    main()
