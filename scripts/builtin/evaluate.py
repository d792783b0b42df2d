"""Held-out scores of the builtin model: `python evaluate.py MODEL_DIRECTORY`.

Greedy answers in f32 from the saved bf16 weights, constrained: only slots of the prompt, each once per
answer, and those of the guide (`--free`: without). The server forbids more, see `truth.rs` there.
Three sets, all of states never trained on: with trained wording; with wording never trained on; whole
dialogues with wording never trained on, of which the last question is answered.
"""

import argparse
import collections
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import DeepseekV3ForCausalLM, LogitsProcessor, LogitsProcessorList

import answers
import dialogues
import questions
import shape
from state import GUIDE, SLOT, SLOTS
from train import answer_loss, padded

SEED = 777
BATCH, LONGEST = 128, 140


def load(directory):
    model = DeepseekV3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))


class OnlyKnownSlots(LogitsProcessor):
    """Forbids a slot that the prompt does not hold, and one that the answer already has."""

    def __init__(self, tokenizer, width):
        self.slots, self.width = [tokenizer.token_to_id(slot) for slot in SLOTS if slot not in GUIDE], width

    def __call__(self, ids, scores):
        slots = torch.tensor(self.slots)
        in_prompt = (ids[:, : self.width, None] == slots).any(1)
        in_answer = (ids[:, self.width :, None] == slots).any(1)
        scores[:, slots] = scores[:, slots].masked_fill(~in_prompt | in_answer, float("-inf"))
        return scores


@torch.no_grad()
def greedy(model, tokenizer, prompts, constrained):
    """The greedy answer to each list of token ids, as text with its slots."""
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    texts = [None] * len(prompts)
    end, pad = tokenizer.token_to_id(shape.END), tokenizer.token_to_id(shape.PAD)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        width = max(len(prompts[row]) for row in rows)
        ids = torch.tensor([[pad] * (width - len(prompts[row])) + prompts[row] for row in rows])
        limits = [OnlyKnownSlots(tokenizer, width)] if constrained else []
        out = model.generate(
            ids,
            attention_mask=(ids != pad).long(),
            max_new_tokens=LONGEST,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=pad,
            logits_processor=LogitsProcessorList(limits),
        )
        for row, tokens in zip(rows, out[:, width:].tolist()):
            tokens = tokens[: tokens.index(end)] if end in tokens else tokens
            texts[row] = tokenizer.decode(tokens, skip_special_tokens=False)
    return texts


def prompt(tokenizer, each):
    """Ids of all but the last answer, then the mark that asks for it."""
    ids, _ = shape.encode(tokenizer, each.messages()[:-1])
    return ids + [tokenizer.token_to_id("<|assistant|>")]


@torch.no_grad()
def loss(model, tokenizer, several):
    total, count = 0.0, 0
    for each in several:
        ids, weights = padded([shape.encode(tokenizer, each.messages())])
        tokens = int((weights[:, 1:] > 0).sum())
        total, count = total + answer_loss(model, ids, weights).item() * tokens, count + tokens
    return total / count


class Score:
    """Right ones out of all, as printed."""

    def __init__(self):
        self.right, self.all = 0, 0

    def add(self, right):
        self.right, self.all = self.right + bool(right), self.all + 1

    def __str__(self):
        return f"{self.right}/{self.all} ({100 * self.right / max(1, self.all):.1f} %)"


def judge(name, model, tokenizer, several, options):
    """Prints the scores of one set; the print is the record."""
    print(
        f"{name}: {len(several)} questions, loss on answers {loss(model, tokenizer, several):.3f}"
    )
    prompts = [prompt(tokenizer, each) for each in several]
    for mode in ("free", "constrained") if options.free else ("constrained",):
        said = greedy(model, tokenizer, prompts, mode == "constrained")
        scores, intents = count(several, said)
        for key, score in scores.items():
            print(f"  {mode}, {key}: {score}")
        below = [
            f"{key} {each.right}/{each.all}"
            for key, each in sorted(intents.items())
            if each.right < each.all
        ]
        print(f"  {mode}, intents below 100 %: " + ", ".join(below), flush=True)
    wrong = [
        (each.turns[-1], text) for each, text in zip(several, said) if text != each.turns[-1].answer
    ]
    for turn, text in wrong[: options.wrong]:
        print(f"  wrong ({turn.intent}): {turn.question!r}")
        print(f"    want {turn.answer!r}\n    got  {text!r}")


def kind_of(intent):
    """What the scores are told apart by."""
    if intent in questions.STATE or intent == "follow_up":
        return "the state"
    if intent == "outside":
        return "anything else"
    first = list(questions.FIXED)
    if intent.startswith("e") or intent in ("overloaded", "no_site", "upstream_failed"):
        return "errors"
    return "who it is" if first.index(intent) < first.index("e429") else "set-up and concepts"


def count(several, said):
    """Scores by what is asked, and exact answers by intent."""
    scores, intents = collections.defaultdict(Score), collections.defaultdict(Score)
    for each, text in zip(several, said):
        last = each.turns[-1]
        right, refused = text == last.answer, text in answers.REFUSE
        read = " ".join(message["content"] for message in each.messages()[:-1])
        named = set(SLOT.findall(text)) - set(GUIDE)
        scores["exact"].add(right)
        scores["exact, " + ("Chinese" if each.chinese else "English")].add(right)
        scores[f"exact, about {kind_of(last.intent)}"].add(right)
        scores["no slot invented"].add(named <= set(SLOT.findall(read)))
        if last.intent != "outside":
            scores["about the service, but refused"].add(refused)
        intents[last.intent].add(right)
    return dict(sorted(scores.items())), intents


def by_intent(seed, intents, each, **options):
    rng = random.Random(seed)
    return [
        dialogues.dialogue(rng, held_out_state=True, turns=1, intent=intent, **options)
        for intent in intents
        for _ in range(each)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to show per set")
    parser.add_argument("--free", action="store_true", help="without constraints too")
    options = parser.parse_args()
    torch.set_num_threads(1)  # steps are small: threads would only wait for each other
    model, tokenizer = load(options.model)
    for name, several in sets().items():
        judge(name, model, tokenizer, several, options)


def sets():
    """The held-out questions, the same for every model."""
    states, fixed = list(questions.STATE), list(questions.FIXED)
    old = by_intent(SEED, states, 15) + by_intent(SEED + 5, fixed, 3)
    new = by_intent(SEED + 1, states, 15, held_out_wording=True)
    new += by_intent(SEED + 2, fixed, 4, held_out_wording=True)
    new += by_intent(SEED + 3, ["outside"], 100, held_out_wording=True)
    rng = random.Random(SEED + 4)
    options = {"held_out_state": True, "held_out_wording": True}
    talks = [dialogues.dialogue(rng, turns=rng.randint(2, 5), **options) for _ in range(200)]
    return {
        "trained wording, new states": old,
        "new wording, new states": new,
        "last question of a dialogue, new wording, new states": talks,
    }


if __name__ == "__main__":
    main()
