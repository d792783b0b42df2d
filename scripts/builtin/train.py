"""Trains the builtin model from nothing: `python train.py OUTPUT_DIRECTORY`.

A run that was cut goes on from its last checkpoint if the command is given again. The dialogues, their
order and the first weights follow from the seed alone, bit for bit; what is learned from them also
depends on how the CPU and the number of threads round, so another machine ends at slightly other
weights. Loss on answers only. Matrices learn by Muon, the rest by AdamW; experts are kept evenly used
by DeepSeek's bias rule, without a loss.
"""

import argparse
import itertools
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import DeepseekV3ForCausalLM

import dialogues
import shape
from state import SLOT, SLOTS

SEED = 20_260
STEPS = 6100
BATCH = 1536  # padded tokens a step: small, for many steps in little time
SAVED = 200  # steps between two checkpoints
BROKEN, BROKEN_SHARE = 0.12, 0.5  # merges of the tokenizer left out, in this share of dialogues: a
# word never seen, or misspelt, is then not the first that comes in unusual pieces
WARM_UP, COOL_DOWN = 30, 0.6  # steps; share of the run in which the rate falls to nothing
MUON_RATE, EMBEDDING_RATE, REST_RATE = 0.02, 0.01, 0.004
DECAY = 0.2  # of matrices, times the rate: without it attention saturates and learns no more
EMBEDDING_SIZE, LAST_NORM = 0.5, 0.12  # at the start: tokens that later layers can still see, and
# logits of about one all the same
BIAS_STEP = 0.002  # after DeepSeek-V3: how far an unevenly used expert's bias moves
POOL = 256  # dialogues sorted by length together, so that batches pad little


def orthogonal(matrix):
    """The nearest orthogonal matrix, roughly: Newton–Schulz of Muon (Jordan et al. 2024)."""
    tall = matrix.size(-2) > matrix.size(-1)
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for matrices and stacks of matrices."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                update = orthogonal(weight.grad.lerp(momentum, 0.95))
                scale = max(1.0, weight.size(-2) / weight.size(-1)) ** 0.5
                weight.mul_(1 - group["lr"] * DECAY).add_(update, alpha=-group["lr"] * scale)


def batches(tokenizer, seed):
    """Endless batches of dialogues never seen twice, of like length, right-padded."""
    rng = random.Random(seed)
    while True:
        drawn = [dialogues.dialogue(rng) for _ in range(POOL)]
        pool = [
            shape.encode(tokenizer, each.messages(), rng.random() < BROKEN_SHARE and broken(rng))
            for each in drawn
        ]
        pool = [each for each in pool if len(each[0]) <= shape.CONTEXT]
        pool.sort(key=lambda each: len(each[0]))
        groups, group = [], []
        for each in pool:
            if group and len(each[0]) * (len(group) + 1) > BATCH:
                groups.append(group)
                group = []
            group.append(each)
        groups.append(group)
        rng.shuffle(groups)
        yield from (padded(group) for group in groups)


def broken(rng):
    """Cuts words where the tokenizer would not: its own dropout is not seeded."""
    return lambda text: "\0".join(pieces(text, rng))


def pieces(text, rng):
    whole, start = SLOT.sub(lambda slot: "[" * len(slot[0]), text), 0
    for place in range(1, len(text)):
        if rng.random() < BROKEN and whole[place - 1 : place + 1].isalpha():
            yield text[start:place]
            start = place
    yield text[start:]


def padded(group):
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for row, (tokens, mask) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(mask)] = torch.tensor(mask)
    return ids, weights


def answer_loss(model, ids, weights, weighted=False):
    """Mean cross entropy over answer tokens; right padding needs no mask under causal attention."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    chosen = weights[:, 1:] > 0
    losses = F.cross_entropy(
        model.lm_head(hidden[:, :-1][chosen]), ids[:, 1:][chosen], reduction="none"
    )
    counts = weights[:, 1:][chosen] if weighted else torch.ones_like(losses)
    return (losses * counts).sum() / counts.sum()


class Balance:
    """Counts how often each expert is best and moves its bias against the surplus."""

    def __init__(self, model):
        self.gates = [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]
        self.loads = [None] * len(self.gates)
        for place, gate in enumerate(self.gates):
            gate.register_forward_hook(
                lambda gate, _, out, place=place: self.count(place, gate, out)
            )

    @torch.no_grad()
    def count(self, place, gate, out):
        self.loads[place] = torch.bincount(out[2].flatten(), minlength=gate.num_experts).float()

    @torch.no_grad()
    def step(self, scale):
        for gate, load in zip(self.gates, self.loads):
            gate.e_score_correction_bias += BIAS_STEP * scale * torch.sign(load.mean() - load)

    def evenness(self):
        return [round(float(load.max() / load.mean()), 2) for load in self.loads]


@torch.no_grad()
def prepare(model, tokenizer):
    """Large embeddings; `[down2]` is the sum of a vector for its kind and one for its number."""
    kinds, weight = {}, model.model.embed_tokens.weight
    weight.normal_(std=EMBEDDING_SIZE)
    model.model.norm.weight.fill_(LAST_NORM)
    for slot in SLOTS:
        if slot[-2].isdigit():
            parts = [
                kinds.setdefault(part, torch.randn(weight.size(1)))
                for part in (slot[1:-2], slot[-2])
            ]
            weight[tokenizer.token_to_id(slot)] = (parts[0] + parts[1]) * EMBEDDING_SIZE / 2**0.5


@torch.no_grad()
def centre(model):
    """Takes out what all tokens share: it changes no probability, but tied embeddings drift."""
    weight = model.model.embed_tokens.weight
    weight -= weight.mean(0)


def optimizers(model):
    matrices = [
        weight
        for name, weight in model.named_parameters()
        if weight.ndim >= 2 and "embed" not in name and "mlp.gate" not in name
    ]
    gates_and_norms = [
        weight
        for name, weight in model.named_parameters()
        if weight.ndim == 1 or "mlp.gate.weight" in name
    ]
    groups = [
        {"params": [model.model.embed_tokens.weight], "lr": EMBEDDING_RATE},
        {"params": gates_and_norms, "lr": REST_RATE},
    ]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    for group in adam.param_groups:
        group["full"] = group["lr"]
    return Muon(matrices, MUON_RATE), adam


def rate(step, steps):
    return min((step + 1) / WARM_UP, (steps - step) / (COOL_DOWN * steps), 1.0)


def save(model, tokenizer, directory):
    """Hugging Face layout in bf16, a tensor per expert; the gate's bias stays f32 as DeepSeek's."""
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embedding
        if name.endswith("experts.gate_up_proj"):
            for expert, matrix in enumerate(value):
                gate, up = matrix.chunk(2)
                tensors[name.replace("gate_up_proj", f"{expert}.gate_proj.weight")] = gate
                tensors[name.replace("gate_up_proj", f"{expert}.up_proj.weight")] = up
        elif name.endswith("experts.down_proj"):
            for expert, matrix in enumerate(value):
                tensors[name.replace("down_proj", f"{expert}.down_proj.weight")] = matrix
        else:
            tensors[name] = value
    kept = {
        name: value.detach()
        .to(torch.float32 if "correction_bias" in name else torch.bfloat16)
        .clone()
        .contiguous()
        for name, value in tensors.items()
    }
    save_file(kept, directory / "model.safetensors", {"format": "pt"})
    model.config.architectures, model.config.dtype = ["DeepseekV3ForCausalLM"], torch.bfloat16
    model.config.save_pretrained(directory)
    path = directory / "config.json"
    settings = json.loads(path.read_text())
    # what DeepSeek's own files say and transformers no longer writes: other engines read these
    settings |= {
        "rope_theta": 10000.0,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "moe_layer_freq": 1,
        "torch_dtype": "bfloat16",
    }
    path.write_text(json.dumps(settings, indent=2) + "\n")
    shape.save_tokenizer(tokenizer, directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="the rate falls to nothing there")
    parser.add_argument("--until", type=int, help="stop at this step; the same command goes on")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)

    corpus = [
        message["content"] for each in dialogues.stream(SEED, 6000) for message in each.messages()
    ]
    tokenizer = shape.train_tokenizer(corpus)
    model = DeepseekV3ForCausalLM(shape.config(tokenizer))
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count} parameters", flush=True)
    prepare(model, tokenizer)
    balance, (muon, adam) = Balance(model), optimizers(model)
    held_out = [
        padded([shape.encode(tokenizer, each.messages())])
        for each in dialogues.stream(SEED + 1, 40, held_out_state=True, held_out_wording=True)
    ]

    parts = {"model": model, "muon": muon, "adam": adam}
    saved = options.output / "checkpoint.pt"
    at = {"step": 0, "tokens": 0, "answers": 0, "loss": None, "seconds": 0.0, "cpu_seconds": 0.0}
    if saved.exists():
        kept = torch.load(saved)
        at = kept.pop("at")
        for name, part in parts.items():
            part.load_state_dict(kept[name])
        print(f"goes on behind step {at['step']}", flush=True)
    since, since_cpu = time.time() - at["seconds"], time.process_time() - at["cpu_seconds"]
    last = min(options.steps, options.until or options.steps)
    todo = range(at["step"], last)
    # the dialogues of the steps before are drawn again, so that a run that was cut goes on alike
    drawn = itertools.islice(batches(tokenizer, SEED + 2), at["step"], None)
    for step, (ids, weights) in zip(todo, drawn):
        scale = rate(step, options.steps)
        for group in adam.param_groups + muon.param_groups:
            group["lr"] = group.get("full", MUON_RATE) * scale
        loss = answer_loss(model, ids, weights, weighted=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adam.step()
        balance.step(scale)
        centre(model)
        model.zero_grad(set_to_none=True)
        at["step"], at["tokens"] = step + 1, at["tokens"] + ids.numel()
        at["answers"] += int((weights > 0).sum())
        at["loss"] = loss.item() if at["loss"] is None else 0.95 * at["loss"] + 0.05 * loss.item()
        at["seconds"], at["cpu_seconds"] = time.time() - since, time.process_time() - since_cpu
        if at["step"] % 50 == 0:
            print(
                f"step {at['step']} loss {at['loss']:.3f} tokens {at['tokens']} seconds "
                f"{at['seconds']:.0f} cpu {at['cpu_seconds']:.0f} load {balance.evenness()}",
                flush=True,
            )
        if at["step"] % SAVED == 0 or at["step"] == last:
            with torch.no_grad():
                losses = [answer_loss(model, *each).item() for each in held_out]
            print(f"step {at['step']} held-out loss {sum(losses) / len(losses):.3f}", flush=True)
            save(model, tokenizer, options.output)
            kept = {name: part.state_dict() for name, part in parts.items()} | {"at": at}
            torch.save(kept, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
    record = {
        "seed": SEED,
        "steps": at["step"],
        "parameters": count,
        "tokens": at["tokens"],
        "answer_tokens": at["answers"],
        "seconds": round(at["seconds"]),
        "cpu_seconds": round(at["cpu_seconds"]),
        "threads": options.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
