"""Writes a model for llama.cpp that computes quickly and means nothing: a GGUF file of the Llama
architecture with random weights, the same on every machine, one token for each byte.

    python tests/workers/model.py model.gguf

What it says is letters without sense. That is enough to see whether an answer that moves from one
server to another is the one that a single server would have given: greedily decoded, it has no end
of its own and does not repeat itself soon.
"""

import sys

import gguf
import numpy as np

WIDTH = 64
HEADS = 4
LAYERS = 2
HIDDEN = 160
CONTEXT = 16_384
SEED = 20

# Each message behind its role, and the assistant's turn at the end.
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_letters():
    """A printable letter for each byte, as byte-level tokenizers write them down (GPT-2's rule)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {byte: chr(byte) for byte in plain}, 256
    for byte in range(256):
        if byte not in letters:
            letters[byte], spare = chr(spare), spare + 1
    return [letters[byte] for byte in range(256)]


def write(path):
    random = np.random.default_rng(SEED)

    def weights(*shape, scale=1.0):
        return (random.standard_normal(shape) * scale / np.sqrt(shape[-1])).astype(np.float32)

    tokens = byte_letters() + ["<begin>", "<end>"]
    begin, end = 256, 257
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("letters")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2)
    # A list of merges there must be; this one never applies.
    writer.add_token_merges([f"{tokens[0]} {tokens[0]}"])
    writer.add_bos_token_id(begin)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)

    writer.add_tensor("token_embd.weight", weights(len(tokens), WIDTH, scale=8.0))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            writer.add_tensor(f"{block}{name}.weight", weights(WIDTH, WIDTH, scale=2.0))
        writer.add_tensor(block + "ffn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        writer.add_tensor(block + "ffn_gate.weight", weights(HIDDEN, WIDTH, scale=1.0))
        writer.add_tensor(block + "ffn_up.weight", weights(HIDDEN, WIDTH, scale=1.0))
        writer.add_tensor(block + "ffn_down.weight", weights(WIDTH, HIDDEN, scale=1.0))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    # It writes lower-case letters and blanks alone: the rows of all else stay at zero, and so their
    # logits, above which the greatest of 27 random ones always is.
    output = np.zeros((len(tokens), WIDTH), dtype=np.float32)
    written = [ord(" "), *range(ord("a"), ord("z") + 1)]
    output[written] = weights(len(written), WIDTH, scale=12.0)
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(sys.argv[1])
