"""The next turn of a conversation goes to the llama.cpp server that has computed the one before."""

import argparse
import concurrent.futures
import importlib.util
import json
import pathlib
import random
import tempfile
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("workers", ROOT / "bench/workers.py")
workers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workers)

CONVERSATIONS, TURNS = 6, 4
# A long text first, then a little each time. A letter is a token of this model.
FIRST, LATER = 4500, 300


def ask(port, talk, said, form):
    """A turn: what was said is answered. The part of the prompt that was cached."""
    talk.append({"role": "user", "content": said})
    body = {"model": workers.MODEL, "messages": talk, "max_tokens": 20, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body, separators=form).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer = json.load(reply)
    talk.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
    counted = answer["usage"]
    return counted["prompt_tokens_details"]["cached_tokens"] / counted["prompt_tokens"]


def found(port, forms, seed):
    """What was cached after the first turn, of conversations that are answered side by side."""
    chance, parts = random.Random(seed), []
    talks = [[] for _ in range(CONVERSATIONS)]
    with concurrent.futures.ThreadPoolExecutor(CONVERSATIONS) as pool:
        for turn in range(TURNS):
            form = forms[turn % len(forms)]
            length = LATER if turn else FIRST
            said = ["".join(chance.choice("abcdefghij ") for _ in range(length)) for _ in talks]
            chance.shuffle(talks)
            asked = [pool.submit(ask, port, *each, form) for each in zip(talks, said)]
            answered = [each.result() for each in asked]
            parts += answered if turn else []
    return parts


def test_a_next_turn_finds_what_was_computed_of_its_conversation():
    options = argparse.Namespace(
        workers=3, share=1.0, rate=2000, context=16_384, mainstay=workers.PROGRAM
    )
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        servers, site = workers.Servers(options, directory), None
        try:
            site = workers.Site(options, directory, servers.ports)
            known = found(site.api, [(",", ":")], 1)
            # The same words, written otherwise each time: a site cannot see that they are the same.
            strange = found(site.api, [(",", ":"), (", ", ": ")], 2)
        finally:
            if site:
                site.close()
            servers.close()
    means = [sum(parts) / len(parts) for parts in (known, strange)]
    print(f"cached of prompts: {means[0]:.2f}, where a site cannot tell {means[1]:.2f}")
    assert means[0] >= 0.85, known
    assert means[0] > means[1], (known, strange)
