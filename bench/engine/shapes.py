"""Writes models of a realistic shape with random weights, for measuring speed.

    python3 -m venv .venv && .venv/bin/pip install gguf numpy
    .venv/bin/python bench/engine/shapes.py DIRECTORY

A is Qwen3-0.6B's shape in Q8_0 and Q4_K_M, B a DeepSeek-V3 style one (969 M parameters, 252 M of
them used by a token) in Q8_0. They say nothing sensible, take 2.1 GB, and are never committed.
A pool of blocks is quantised once and dealt out in random order: what a number is does not change
how fast it is read.
"""

import os
import sys

import gguf
import numpy as np

KIND = gguf.GGMLQuantizationType
POOL = 1 << 21


def k_blocks(numbers):
    """Scales and leasts of blocks of 32 in 6 bits, 8 blocks under one pair; numbers of 4 bits."""
    blocks = numbers.reshape(-1, 8, 32)
    lowest = np.minimum(blocks.min(2), 0)
    step, depth = (np.maximum(blocks.max(2), 0) - lowest) / 15, -lowest
    scale = (step.max(1) / 63).astype(np.float16)
    least = (depth.max(1) / 63).astype(np.float16)
    part = np.rint(step / scale[:, None].astype(np.float32)).clip(1, 63).astype(np.uint8)
    low = np.rint(depth / least[:, None].astype(np.float32)).clip(0, 63).astype(np.uint8)
    wide = scale[:, None].astype(np.float32) * part
    shift = least[:, None].astype(np.float32) * low
    q = np.rint((blocks + shift[..., None]) / wide[..., None]).clip(0, 15).astype(np.uint8)
    parts = np.concatenate([
        part[:, :4] | (part[:, 4:] >> 4 << 6),
        low[:, :4] | (low[:, 4:] >> 4 << 6),
        part[:, 4:] & 15 | (low[:, 4:] & 15) << 4,
    ], axis=1)
    q = (q[:, 0::2] | q[:, 1::2] << 4).reshape(len(q), 128)
    return np.concatenate(
        [scale[:, None].view(np.uint8), least[:, None].view(np.uint8), parts, q], axis=1)


def k6_blocks(numbers):
    """Blocks of 16 with 8-bit scales under one scale, numbers of 6 bits."""
    blocks = numbers.reshape(-1, 16, 16)
    step = np.abs(blocks).max(2) / 31
    scale = (step.max(1) / 127).astype(np.float16)
    part = np.rint(step / scale[:, None].astype(np.float32)).clip(1, 127)
    wide = scale[:, None, None].astype(np.float32) * part[..., None]
    q = (np.rint(blocks / wide).clip(-32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4,
                    q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], axis=2)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    count = len(q)
    return np.concatenate([low.reshape(count, 128), high.reshape(count, 64),
                           part.astype(np.int8).view(np.uint8), scale[:, None].view(np.uint8)], 1)


class Model:
    def __init__(self, path, arch, size):
        self.random = np.random.default_rng(7)
        numbers = self.random.normal(0, size, POOL).astype(np.float32)
        q8 = gguf.quants.quantize(numbers.reshape(-1, 32), KIND.Q8_0)
        self.pool = {KIND.Q8_0: q8, KIND.Q4_K: k_blocks(numbers), KIND.Q6_K: k6_blocks(numbers)}
        self.writer, self.path = gguf.GGUFWriter(path, arch, use_temp_file=False), path
        self.count = 0

    def matrix(self, name, kind, *shape):
        numbers, _ = gguf.GGML_QUANT_SIZES[kind]
        pool = self.pool[kind]
        # Runs of blocks, so that dealing is fast.
        blocks = int(np.prod(shape)) // numbers
        starts = self.random.integers(0, len(pool) - 64, -(-blocks // 64))
        raw = pool[(starts[:, None] + np.arange(64)).reshape(-1)[:blocks]]
        raw = raw.reshape(*shape[:-1], -1)
        self.writer.add_tensor(name + ".weight", raw, raw_dtype=kind)
        self.count += int(np.prod(shape))

    def vector(self, name, *shape, around=1.0):
        numbers = self.random.normal(around, 0.02, shape).astype(np.float32)
        self.writer.add_tensor(name, numbers)

    def words(self, count):
        """A tokenizer that nobody asks: prompts are given as tokens."""
        alphabet = [chr(c) for c in range(33, 127)] + [chr(c) for c in range(161, 256)]
        tokens = (alphabet + ["ab"] + [f"<t{n}>" for n in range(count)])[:count]
        writer = self.writer
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types([gguf.TokenType.NORMAL] * count)
        writer.add_token_merges(["a b"])
        writer.add_eos_token_id(1)
        writer.add_bos_token_id(0)

    def done(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        size = os.path.getsize(self.path)
        print(f"{self.path}: {self.count / 1e6:.0f} M numbers, {size / 1e6:.0f} MB", flush=True)


def shape_a(path, is_q4):
    layers, hidden, inner, heads, kv, head, vocab = 28, 1024, 3072, 16, 8, 128, 151936
    model = Model(path, "qwen3", 0.04)
    writer = model.writer
    writer.add_context_length(8192)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    model.words(vocab)
    most = KIND.Q4_K if is_q4 else KIND.Q8_0
    some = KIND.Q6_K if is_q4 else KIND.Q8_0
    model.matrix("token_embd", some, vocab, hidden)
    for layer in range(layers):
        # As llama.cpp's Q4_K_M: every other layer's values and ways down in 6 bits, and the first
        # and last eighth's.
        is_more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
        more = some if is_more else most
        at = f"blk.{layer}."
        model.vector(at + "attn_norm.weight", hidden)
        model.vector(at + "ffn_norm.weight", hidden)
        model.vector(at + "attn_q_norm.weight", head)
        model.vector(at + "attn_k_norm.weight", head)
        model.matrix(at + "attn_q", most, heads * head, hidden)
        model.matrix(at + "attn_k", most, kv * head, hidden)
        model.matrix(at + "attn_v", more, kv * head, hidden)
        model.matrix(at + "attn_output", most, hidden, heads * head)
        model.matrix(at + "ffn_gate", most, inner, hidden)
        model.matrix(at + "ffn_up", most, inner, hidden)
        model.matrix(at + "ffn_down", more, hidden, inner)
    model.vector("output_norm.weight", hidden)
    model.done()


def shape_b(path):
    layers, hidden, inner, heads, vocab = 16, 1024, 4096, 16, 32768
    q_lora, kv_lora, rope, nope, value = 512, 512, 64, 128, 128
    experts, each, used, shared = 64, 256, 6, 2
    kind = KIND.Q8_0
    model = Model(path, "deepseek2", 0.04)
    writer = model.writer
    writer.add_context_length(8192)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(kv_lora + rope)
    writer.add_value_length(kv_lora)
    writer.add_key_length_mla(nope + rope)
    writer.add_value_length_mla(value)
    writer.add_q_lora_rank(q_lora)
    writer.add_kv_lora_rank(kv_lora)
    writer.add_rope_dimension_count(rope)
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(used)
    writer.add_expert_shared_count(shared)
    writer.add_expert_feed_forward_length(each)
    writer.add_expert_weights_scale(2.5)
    writer.add_expert_weights_norm(True)
    writer.add_expert_group_count(8)
    writer.add_expert_group_used_count(4)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    model.words(vocab)
    model.matrix("token_embd", kind, vocab, hidden)
    model.matrix("output", kind, vocab, hidden)
    for layer in range(layers):
        at = f"blk.{layer}."
        model.vector(at + "attn_norm.weight", hidden)
        model.vector(at + "ffn_norm.weight", hidden)
        model.vector(at + "attn_q_a_norm.weight", q_lora)
        model.vector(at + "attn_kv_a_norm.weight", kv_lora)
        model.matrix(at + "attn_q_a", kind, q_lora, hidden)
        model.matrix(at + "attn_q_b", kind, heads * (nope + rope), q_lora)
        model.matrix(at + "attn_kv_a_mqa", kind, kv_lora + rope, hidden)
        model.matrix(at + "attn_k_b", kind, heads, kv_lora, nope)
        model.matrix(at + "attn_v_b", kind, heads, value, kv_lora)
        model.matrix(at + "attn_output", kind, hidden, heads * value)
        if layer == 0:
            model.matrix(at + "ffn_gate", kind, inner, hidden)
            model.matrix(at + "ffn_up", kind, inner, hidden)
            model.matrix(at + "ffn_down", kind, hidden, inner)
            continue
        model.vector(at + "ffn_gate_inp.weight", experts, hidden, around=0.0)
        model.vector(at + "exp_probs_b.bias", experts, around=0.0)
        model.matrix(at + "ffn_gate_exps", kind, experts, each, hidden)
        model.matrix(at + "ffn_up_exps", kind, experts, each, hidden)
        model.matrix(at + "ffn_down_exps", kind, experts, hidden, each)
        model.matrix(at + "ffn_gate_shexp", kind, shared * each, hidden)
        model.matrix(at + "ffn_up_shexp", kind, shared * each, hidden)
        model.matrix(at + "ffn_down_shexp", kind, hidden, shared * each)
    model.vector("output_norm.weight", hidden)
    model.done()


if __name__ == "__main__":
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    if not os.path.exists(f"{out}/a-q8.gguf"):
        shape_a(f"{out}/a-q8.gguf", False)
    if not os.path.exists(f"{out}/a-q4.gguf"):
        shape_a(f"{out}/a-q4.gguf", True)
    if not os.path.exists(f"{out}/b-q8.gguf"):
        shape_b(f"{out}/b-q8.gguf")
