"""Writes `held_out.json`, on which CI tries the committed model in the engine of the program.

`python held_out.py MODEL_DIRECTORY`: held-out questions as clients write them, with the state they are
asked in and the one right answer, in names and times in place of slots; and of how many the model got
right here, constrained, which is what CI asks of it.
"""

import argparse
import collections
import json
import random
import re
from pathlib import Path

import dialogues
import questions
from evaluate import greedy, kind_of, load, prompt
from state import GUIDE, SLOT

SEED = 778
PER_STATE, PER_FIXED, OUTSIDE, TALKS = 3, 1, 25, 24
SITES = ["harbour", "northlake", "gz-1", "sh-2", "fra", "iad", "osaka", "oregon"]
MODELS = ["chat-large", "coder", "writer-7", "r1-mini"]
CONDITIONS = {
    "up": "Up",
    "slow": "Slow",
    "full": "Full",
    "down": "Down",
    "drained": "Drained",
    "key": "KeyRefused",
    "credit": "NoCredit",
}
URL = "http://127.0.0.1:8080"


class Scene:
    """A state with names and times, as the server would find it."""

    def __init__(self, dialogue, rng):
        self.state, self.chinese = dialogue.state, dialogue.chinese
        sites = self.state.sites if self.state else []
        self.names = dict(zip([site.slot for site in sites], rng.sample(SITES, len(sites))))
        self.again = {site.time: rng.randint(2, 110) for site in sites if site.has_time}
        models = self.state.models if self.state else []
        self.models = dict(zip([each.slot for each in models], rng.sample(MODELS, len(models))))
        up = [place for place, site in enumerate(sites) if site.status in ("up", "slow")]
        self.by = {
            each.number: sorted(rng.sample(up, rng.randint(1, len(up)))) if each.served else []
            for each in models
        }
        self.waiting = rng.randint(2, 90) if self.state and self.state.waiting else 0
        self.retry = rng.randint(2, 110) if sites and self.state.needs_retry() else None

    def duration(self, seconds):
        return f"{seconds} {'秒' if self.chinese else 's'}"

    def listed(self, names):
        if self.chinese or len(names) < 2:
            return "、".join(names)
        return ", ".join(names[:-1]) + " and " + names[-1]

    def value(self, slot):
        if slot in GUIDE:
            return GUIDE[slot]
        if slot in self.again:
            return self.duration(self.again[slot])
        if match := re.match(r"\[(by|sub)(\d)\]", slot):
            by = [list(self.names.values())[place] for place in self.by[int(match[2])]]
            return self.listed(by) if match[1] == "by" else "qwen-max"
        up = sum(site.status in ("up", "slow") for site in self.state.sites)
        counts = {
            "[C]": len(self.names),
            "[N]": up,
            "[Q]": self.waiting,
            "[R]": self.duration(self.retry or 0),
            "[U]": URL,
        }
        return str({**self.names, **self.models, **counts}[slot])

    def written(self, text):
        """What a client writes or reads."""
        if self.state and self.state.sites:
            spelled = lambda slot: self.state.spelled(slot[1], self.chinese)  # noqa: E731
            text = re.sub(r"\[list:(\w+)\]", spelled, text)
        return SLOT.sub(lambda slot: self.value(slot[0]), text)

    def json(self):
        sites = self.state.sites if self.state else []
        models = self.state.models if self.state else []
        return {
            "sites": [
                {
                    "name": self.names[site.slot],
                    "condition": CONDITIONS[site.status],
                    "again": self.again.get(site.time),
                }
                for site in sites
            ],
            "models": [
                {
                    "name": self.models[each.slot],
                    "by": self.by[each.number],
                    "substitute": "qwen-max" if each.has_substitute else None,
                }
                for each in models
            ],
            "waiting": self.waiting,
            "retry": self.retry,
            "url": URL if self.state.url else None,
        }


def drawn():
    """The questions. The server always tells a state, and no earlier answer has slots in it."""
    rng = random.Random(SEED)
    wanted = [intent for intent in questions.STATE for _ in range(PER_STATE)]
    wanted += [intent for intent in questions.FIXED for _ in range(PER_FIXED)]
    wanted += ["outside"] * OUTSIDE + [None] * TALKS
    made = []
    while len(made) < len(wanted):
        intent = wanted[len(made)]
        options = {"turns": 1, "intent": intent} if intent else {"turns": rng.randint(2, 4)}
        each = dialogues.dialogue(rng, held_out_state=True, held_out_wording=True, **options)
        if each.state is not None:
            made.append((each, Scene(each, rng)))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    directory = parser.parse_args().model
    model, tokenizer = load(directory)
    made = drawn()
    prompts = [prompt(tokenizer, each) for each, _ in made]
    said = greedy(model, tokenizer, prompts, constrained=True)
    right, kinds = 0, collections.Counter()
    asked = []
    for (each, scene), text in zip(made, said):
        *before, last = each.turns
        right += text == last.answer
        kinds[kind_of(last.intent), text == last.answer] += 1
        turns = [[scene.written(turn.question), scene.written(turn.answer)] for turn in before]
        asked.append(
            {
                "about": kind_of(last.intent),
                "state": scene.json(),
                "before": turns,
                "question": scene.written(last.question),
                "answer": scene.written(last.answer),
            }
        )
    print(f"{right} of {len(made)} right", dict(kinds))
    text = ",\n ".join(json.dumps(each, ensure_ascii=False) for each in asked)
    (directory / "held_out.json").write_text(f'{{"right": {right}, "asked": [\n {text}\n]}}\n')


if __name__ == "__main__":
    main()
