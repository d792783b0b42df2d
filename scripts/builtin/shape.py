"""The shape of the builtin model and its tokenizer: everything but the weights.

DeepSeek-V3's architecture in small: latent attention, a dense first layer, then mixtures of experts
with a sigmoid gate in groups and one shared expert. Widths are multiples of 32, for quantised tiles.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DeepseekV3Config, PreTrainedTokenizerFast

from state import SLOT, SLOTS

VOCAB = 2048
CONTEXT = 1024
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
END, PAD = "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def config(tokenizer):
    return DeepseekV3Config(
        vocab_size=VOCAB,
        hidden_size=192,
        intermediate_size=512,
        moe_intermediate_size=64,
        num_hidden_layers=5,
        first_k_dense_replace=1,
        num_attention_heads=6,
        num_key_value_heads=6,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        n_routed_experts=8,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=2,
        n_shared_experts=1,
        norm_topk_prob=True,
        routed_scaling_factor=2.0,
        hidden_act="silu",
        rms_norm_eps=1e-6,
        max_position_embeddings=CONTEXT,
        rope_theta=10000.0,
        rope_interleave=True,
        attention_bias=False,
        attention_dropout=0.0,
        tie_word_embeddings=True,
        num_nextn_predict_layers=0,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


def train_tokenizer(texts):
    """Byte-level BPE; each Chinese character stands alone, so that unseen phrases split alike."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\u4e00-\u9fff]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken(text, special=True, normalized=False) for text in [PAD, END] + ROLES + SLOTS
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def save_tokenizer(tokenizer, directory):
    """tokenizer.json, and tokenizer_config.json with the chat template inside it."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    ).save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("backend", None)
    settings["chat_template"] = CHAT_TEMPLATE
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def encode(tokenizer, messages, cut=None):
    """Token ids of a whole dialogue, and for each how much its loss counts: nothing outside answers.

    `cut` says where words of users are broken into unusual pieces, as `\\0` in the text.

    An answer's first tokens choose what is said and its slots must be right; the rest is by heart.
    """
    ids, weights = [], []
    for message in messages:
        text = f"<|{message['role']}|>{message['content']}{END}"
        if cut and message["role"] == "user":
            text = text.replace(message["content"], cut(message["content"]))
        parts = [tokenizer.encode(part, add_special_tokens=False).ids for part in text.split("\0")]
        body = [token for part in parts for token in part]
        ids += body
        if message["role"] == "assistant" and message.get("learn", True):
            plain = 2.0 if SLOT.search(message["content"]) else 1.0
            weights += [0.0] + [4.0 if place < 3 else plain for place in range(len(body) - 1)]
        else:
            weights += [0.0] * len(body)
    return ids, weights
