"""Writes what the server and the engine need beside the weights: `python export.py MODEL_DIRECTORY`.

`slots.json`: the slots, the exact system message that the server must write, and worked examples with
the model's own constrained greedy answers beside the right ones. `reference.json`: prompts with their token ids, greedy tokens and
last logits in f32 from the bf16 weights, for the engine's equality tests.
"""

import argparse
import json
from pathlib import Path

import torch

import answers
import shape
from evaluate import greedy as answer
from evaluate import load
from state import NO_SITES, Model, Site, Speaker, State

SLOT_MEANINGS = {
    "[up1] … [up8]": "name of site 1 … 8 (a provider account or a data center), which answers",
    "[slow1] … [slow8]": "name of a site that answers, but slower than usual",
    "[full1] … [full8]": "name of a site that is overloaded or throttles us",
    "[down1] … [down8]": "name of a site that does not answer",
    "[drained1] … [drained8]": "name of a site that an operator took out of use",
    "[key1] … [key8]": "name of a parked site: the provider refuses its key",
    "[credit1] … [credit8]": "name of a parked site: billing",
    "[T1] … [T8]": "duration until the site of that number is asked again, has room or is back, e.g. `40 s`",
    "[model1] … [model4]": "name of a model that some site can answer now",
    "[off1] … [off4]": "name of a model that no site can answer now",
    "[by1] … [by4]": "names of the sites that can answer the model of that number now",
    "[sub1] … [sub4]": "name of the first substitute of the model of that number",
    "[list:all]": "every site with how it is, e.g. `a is up; b is down, asked again in about 40 s`",
    "[list:names]": "the names of the sites",
    "[list:good]": "the sites that answer, with how they are; no slot if there is none",
    "[list:bad]": "the same of those that are down, drained, without credit or refuse their key",
    "[list:trouble]": "the same of those that are not simply up",
    "[list:slow]": "the same of those that are slow or full",
    "[list:models]": "the names of the models",
    "[toml:…], [run:…], [word:…]": "what `guide.json` says, in every state",
    "[C]": "number of sites in the state",
    "[N]": "number of those sites that answer",
    "[Q]": "number of requests that wait",
    "[R]": "duration until a new try is worth it, e.g. `40 s`",
    "[U]": "base address of the API without path, e.g. `http://127.0.0.1:8080`",
}

LINES = [
    [NO_SITES, "no site is set up: this line comes first, and only `[U]` may follow"],
    ["sites[C][N][list:all]…", "first line of every other state, with the lists that hold something"],
    ["[up1][down2][T2]…", "the sites: slots of status and number, 1, 2, 3 …, and a time if known"],
    ["[model1][by1][sub1][off2]…", "the models, who answers them, their substitutes if they have any"],
    ["[Q][R][U]", "requests that wait; when to retry, if no site answers; the API's address"],
]

RULES = [
    "One newline between lines that hold something, none at the end. Order as in `lines`.",
    "At most 8 sites (those in trouble, if there are more) and 4 models. The embedded engine is "
    "no site here.",
    "Drop the client's system messages and write this one. Keep the prompt below 500 tokens by "
    "dropping the oldest turns.",
    "In the client's text defuse `<|` and anything that looks like a slot, and encode it with "
    "special tokens off; then put the slot of this state in place of each name of its sites and "
    "models (any case, whole word), in earlier answers too, where texts of the guide become slots "
    "again as well. Other names stay as typed.",
    "Decode greedily; forbid a slot that the prompt does not hold, and one that the answer "
    "already has; those of the guide are always allowed. Stop after 140 tokens.",
    "Put the values into the answer. A site slot in it is true by itself: its status is its name.",
]


def worked_states():
    """States as the server would write them, each with a question."""
    mixed = State(
        [
            Site(1, "up"),
            Site(2, "down", True),
            Site(3, "full", True),
            Site(4, "key"),
            Site(5, "slow"),
        ],
        [Model(1, True), Model(2, False, True)],
        waiting=True,
    )
    lost = State([Site(1, "down", True), Site(2, "credit")], [Model(1, False)])
    return [
        (mixed, "Which provider is down?"),
        (lost, "When can I try again?"),
        (mixed, "为什么这么慢?"),
        (State([], []), "is everything up?"),
    ]


def right_answers(worked):
    """What the answers should be, beside what the model says."""
    asked = [("which_down", 0), ("when_retry", 0), ("why_slow", 1)]
    known = [
        getattr(Speaker(state, tongue), intent)()
        for (state, _), (intent, tongue) in zip(worked, asked)
    ]
    return known + [answers.NO_KEY[0]]


def reference_states():
    mixed, lost = worked_states()[0][0], worked_states()[1][0]
    return [
        (mixed, "how are the sites doing"),
        (lost, "what does error 503 mean?"),
        (mixed, "怎么添加站点?"),
        (State([], []), "write a poem about the sea"),
        (mixed, "when will [down2] be back?"),
    ]


@torch.no_grad()
def greedy(model, ids, most):
    """Greedy tokens without cache, the logits of the first, the smallest lead of a winner."""
    ids, made, first, lead = list(ids), [], None, float("inf")
    while len(made) < most:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        first = logits if first is None else first
        best = logits.topk(2)
        lead = min(lead, float(best.values[0] - best.values[1]))
        made.append(int(best.indices[0]))
        ids.append(made[-1])
        if made[-1] == model.config.eos_token_id:
            break
    return made, first, lead


def ask(state, question):
    return [{"role": "system", "content": state.text()}, {"role": "user", "content": question}]


def prompt(tokenizer, messages):
    return shape.encode(tokenizer, messages)[0] + [tokenizer.token_to_id("<|assistant|>")]


def write(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    directory = parser.parse_args().model
    model, tokenizer = load(directory)
    torch.set_num_threads(1)

    worked = worked_states()
    prompts = [prompt(tokenizer, ask(state, question)) for state, question in worked]
    said = answer(model, tokenizer, prompts, constrained=True)
    examples = [
        {"system": state.text(), "question": question, "model_answer": text, "right_answer": right}
        for (state, question), text, right in zip(worked, said, right_answers(worked))
    ]
    write(
        directory / "slots.json",
        {"slots": SLOT_MEANINGS, "lines": LINES, "rules": RULES, "examples": examples},
    )

    references = []
    for state, question in reference_states():
        ids = prompt(tokenizer, ask(state, question))
        made, first, lead = greedy(model, ids, 40)
        top = first.topk(8)
        references.append(
            {
                "messages": ask(state, question),
                "prompt_ids": ids,
                "greedy_ids": made,
                "greedy_text": tokenizer.decode(
                    [token for token in made if token != model.config.eos_token_id],
                    skip_special_tokens=False,
                ),
                "first_top_ids": top.indices.tolist(),
                "first_top_logits": [round(value, 5) for value in top.values.tolist()],
                "smallest_lead": round(lead, 4),
            }
        )
    about = "f32 from the bf16 weights, no constrained decoding; greedy_ids stop after <|end|> or 40 tokens"
    write(directory / "reference.json", {"about": about, "prompts": references})


if __name__ == "__main__":
    main()
