#!/usr/bin/env python3
"""PyTorch on the shapes that `card_speed` measures, with the same sizes, on the same card.

    python3 bench/engine/card.py [a|b|lite]...

Plain PyTorch, in its best form that fits a page: bf16, decoding as a CUDA graph, latent attention absorbed for
single tokens and expanded for prompts (scaled_dot_product_attention), experts of a prompt as one
grouped product. Random weights. Prints a line for each thing measured.
"""

import sys

import torch
import torch.nn.functional as F

SHAPES = {
    "a": dict(layers=28, hidden=1024, ffn=3072, heads=16, kv=8, head=128, vocab=151936),
    "b": dict(layers=16, hidden=1024, ffn=4096, heads=16, q_lora=512, experts=64, top=6, shared=2,
              inner=256, dense=1, vocab=32768),
    "lite": dict(layers=27, hidden=2048, ffn=10944, heads=16, q_lora=0, experts=64, top=6, shared=2,
                 inner=1408, dense=1, vocab=102400),
}
LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128
CONTEXT, PROMPT, TIMES = 1024, 4096, 21
DEVICE, KIND = "cuda", torch.bfloat16


def weight(*size):
    return ((torch.rand(*size, device=DEVICE, dtype=KIND) * 2 - 1) * 1.7 / size[-1] ** 0.5)


def timed(work):
    work()
    times = []
    for _ in range(TIMES):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[TIMES // 2]


def turn(x, angles):
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = angles
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2).to(KIND)


class Layer:
    def __init__(self, s, dense):
        h, n = s["hidden"], s["heads"]
        self.s, self.norms = s, [torch.ones(h, device=DEVICE, dtype=KIND) for _ in range(2)]
        if "q_lora" in s:
            low = s["q_lora"]
            self.down = weight(low + LATENT + ROPE, h)
            self.q = weight(n * (NOPE + ROPE), low or h)
            self.up = weight(n, NOPE + VALUE, LATENT)
            self.o = weight(h, n * VALUE)
        else:
            self.qkv = weight((n + 2 * s["kv"]) * s["head"], h)
            self.o = weight(h, n * s["head"])
        self.dense = dense
        inner = s["ffn"] if dense else s["inner"]
        if dense:
            self.gate_up, self.back = weight(2 * inner, h), weight(h, inner)
        else:
            e = s["experts"]
            self.gate = weight(e, h)
            self.gate_up, self.back = weight(e, 2 * inner, h), weight(e, h, inner)
            self.shared = weight(2 * s["shared"] * inner, h), weight(h, s["shared"] * inner)

    def attention(self, x, cache, angles, single):
        s, n = self.s, self.s["heads"]
        x = F.rms_norm(x, (s["hidden"],), self.norms[0])
        if "q_lora" not in s:
            head, kv = s["head"], s["kv"]
            q, k, v = F.linear(x, self.qkv).split([n * head, kv * head, kv * head], -1)
            q = F.rms_norm(q.unflatten(-1, (n, head)), (head,))
            k = F.rms_norm(k.unflatten(-1, (kv, head)), (head,))
            q, k = turn(q, angles["a"]), turn(k, angles["a"])
            v = v.unflatten(-1, (kv, head))
            if single:
                cache[0][:, :, -1], cache[1][:, :, -1] = k[:, 0], v[:, 0]
                k, v = cache
            else:
                k, v = k.transpose(1, 2), v.transpose(1, 2)
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=not single,
                                               enable_gqa=True)
            return F.linear(y.transpose(1, 2).flatten(-2), self.o)
        low = s["q_lora"]
        down = F.linear(x, self.down)
        q = F.rms_norm(down[..., :low], (low,)) if low else x
        q = F.linear(q, self.q).unflatten(-1, (n, NOPE + ROPE))
        latent = F.rms_norm(down[..., low:low + LATENT], (LATENT,))
        rope = turn(down[..., low + LATENT:], angles["one"])
        q_rope = turn(q[..., NOPE:], angles["b"])
        if single:
            cache[:, -1] = torch.cat([latent, rope], -1)[:, 0]
            absorbed = torch.einsum("bthn,hnl->bthl", q[..., :NOPE], self.up[:, :NOPE])
            q = torch.cat([absorbed, q_rope], -1).transpose(1, 2)  # b h 1 d
            scores = (q[:, :, 0] @ cache.transpose(1, 2)) * (NOPE + ROPE) ** -0.5
            mix = scores.softmax(-1, dtype=torch.float32).to(KIND) @ cache[..., :LATENT]
            y = torch.einsum("bhl,hvl->bhv", mix, self.up[:, NOPE:]).flatten(-2).unsqueeze(1)
        else:
            wide = torch.einsum("btl,hdl->bhtd", latent, self.up)
            k = torch.cat([wide[..., :NOPE], rope.unsqueeze(1).expand(-1, n, -1, -1)], -1)
            q = torch.cat([q[..., :NOPE], q_rope], -1).transpose(1, 2)
            y = F.scaled_dot_product_attention(q, k, wide[..., NOPE:].contiguous(), is_causal=True)
            y = y.transpose(1, 2).flatten(-2)
        return F.linear(y, self.o)

    def feed(self, x):
        s = self.s
        x = F.rms_norm(x, (s["hidden"],), self.norms[1])
        if self.dense:
            gate, up = F.linear(x, self.gate_up).chunk(2, -1)
            return F.linear(F.silu(gate) * up, self.back)
        flat = x.flatten(0, 1)
        share, choice = F.linear(flat, self.gate).float().sigmoid().topk(s["top"], -1)
        share = (share / share.sum(-1, keepdim=True) * 2.5).to(KIND)
        gate, up = F.linear(flat, self.shared[0]).chunk(2, -1)
        y = F.linear(F.silu(gate) * up, self.shared[1])
        if len(flat) <= 8:
            gate, up = torch.einsum("tkih,th->tki", self.gate_up[choice], flat).chunk(2, -1)
            each = torch.einsum("tkhi,tki->tkh", self.back[choice], F.silu(gate) * up)
            y = y + (each * share.unsqueeze(-1)).sum(1)
        else:
            order = choice.flatten().argsort(stable=True)
            ends = torch.bincount(choice.flatten(), minlength=s["experts"]).cumsum(0).int() \
                if not torch.cuda.is_current_stream_capturing() else \
                (choice.flatten().unsqueeze(0) <= torch.arange(
                    s["experts"], device=DEVICE).unsqueeze(1)).sum(1).int()
            rows = flat[order // s["top"]]
            gate, up = torch._grouped_mm(rows, self.gate_up.transpose(1, 2), ends).chunk(2, -1)
            each = torch._grouped_mm(F.silu(gate) * up, self.back.transpose(1, 2), ends)
            each = each * share.flatten()[order].unsqueeze(-1)
            y = y.index_add(0, order // s["top"], each)
        return y.view_as(x)


class Model:
    def __init__(self, s):
        self.s = s
        self.layers = [Layer(s, "experts" not in s or i < s["dense"]) for i in range(s["layers"])]
        self.table, self.out = weight(s["vocab"], s["hidden"]), weight(s["vocab"], s["hidden"])

    def __call__(self, ids, caches, angles, single):
        x = F.embedding(ids, self.table)
        for layer, cache in zip(self.layers, caches):
            x = x + layer.attention(x, cache, angles, single)
            x = x + layer.feed(x)
        x = x[:, -1:]
        return F.linear(F.rms_norm(x, (self.s["hidden"],)), self.out)


def angles(tokens):
    def make(pairs, *ones):
        at = torch.arange(tokens, device=DEVICE).view(-1, *ones, 1) * torch.rand(pairs, device=DEVICE)
        return at.cos(), at.sin()

    return {"a": make(64, 1), "b": make(32, 1), "one": make(32)}


def caches(s, batch, length):
    rest = lambda *size: torch.randn(*size, device=DEVICE, dtype=KIND)
    if "q_lora" in s:
        return [rest(batch, length, LATENT + ROPE) for _ in range(s["layers"])]
    return [[rest(batch, s["kv"], length, s["head"]) for _ in range(2)] for _ in range(s["layers"])]


def measure(name):
    s = SHAPES[name]
    model = Model(s)
    for batch in (1, 8, 64):
        ids = torch.randint(0, s["vocab"], (batch, 1), device=DEVICE)
        rows, turns = caches(s, batch, CONTEXT), angles(1)
        work = lambda: model(ids, rows, turns, True)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            work(), work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        time = timed(graph.replay)
        print(f"pytorch {name}: decode of {batch}: {time:.3f} ms, {batch / time * 1e3:.0f} tokens/s", flush=True)
    ids = torch.randint(0, s["vocab"], (1, PROMPT), device=DEVICE)
    turns, none = angles(PROMPT), [None] * s["layers"]
    time = timed(lambda: model(ids, none, turns, False))
    print(f"pytorch {name}: prefill of {PROMPT}: {time:.2f} ms, {PROMPT / time * 1e3:.0f} tokens/s", flush=True)


@torch.inference_mode()
def main():
    print("torch", torch.__version__, torch.cuda.get_device_name())
    a = torch.empty(1 << 31, device=DEVICE, dtype=torch.uint8)
    b = torch.empty_like(a)
    print(f"pytorch copy: {2 * a.numel() / timed(lambda: b.copy_(a)) / 1e6:.0f} GB/s read and written")
    del a, b
    for tokens, rows, columns in ((8192, 8192, 8192), (4096, 3072, 1024), (4096, 1024, 1024)):
        x, w = weight(tokens, columns), weight(rows, columns)
        time = timed(lambda: F.linear(x, w))
        print(f"pytorch product {tokens} x {columns} x {rows}: {2e-9 * tokens * rows * columns / time:.0f} TFLOP/s")
    for name in sys.argv[1:] or SHAPES:
        try:
            measure(name)
        except RuntimeError as error:
            print(f"pytorch {name}: {error!r}"[:300])
            break
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
