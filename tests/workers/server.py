"""A real llama.cpp server, of the package xllamacpp, in a process of its own.

    python tests/workers/server.py model.gguf 8090 [SLOTS [CONTEXT]]
"""

import signal
import sys

import xllamacpp


def parameters(model, port, slots, context):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"letters"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = context * slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.endpoint_slots = True
    # Half precision would let a prefix that was read at once differ from one written bit by bit.
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    return params


if __name__ == "__main__":
    slots = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    # For each slot: more than a prompt and its answer together.
    context = int(sys.argv[4]) if len(sys.argv) > 4 else 2048
    server = xllamacpp.Server(parameters(sys.argv[1], int(sys.argv[2]), slots, context))
    print(server.listening_address, flush=True)
    signal.pause()
