"""Tiny encoders of texts in the folder that sentence-transformers writes, with random weights, and the embeddings of
texts by transformers, pooled and normalized as that library does. Run in this folder, with transformers 5 and
safetensors; the same bytes come out each time.

    python make.py                      writes bert-mean, roberta-cls, qwen3-last and expected.json
    python make.py FOLDER sentences     writes minilm.safetensors, the embeddings of sentences.txt by a real checkpoint
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel, BertConfig, BertModel, Qwen3Config, Qwen3Model, XLMRobertaConfig, XLMRobertaModel
)

TEXTS = [
    "the red square moves to the right",
    "a dog",
    "what is in this picture of a very long road and of a house and of a dog that moves to the right and to the left",
    "",
]
WORDS = sorted({word for text in TEXTS for word in text.split()})


def tokenizer(first, last, pad, unknown):
    vocab = {token: i for i, token in enumerate([pad, unknown, first, last, *WORDS])}
    made = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [(first, vocab[first]), (last, vocab[last])]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} {last} $B {last}", special_tokens=around
    )
    # As in published files, where both are there by chance.
    made.enable_truncation(6)
    made.enable_padding(length=8, pad_id=vocab[pad], pad_token=pad)
    return made, len(vocab)


def last_alone(last, pad, unknown):
    """As Qwen3-Embedding has it: nothing begins a text, and the token that ends it is the padding."""
    vocab = {token: i for i, token in enumerate([pad, unknown, *WORDS])}
    made = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(last, vocab[last])]
    made.post_processor = processors.TemplateProcessing(single=f"$A {last}", pair=f"$A {last} $B {last}", special_tokens=ends)
    return made, len(vocab)


def pooled(model, made, texts, length, mode):
    made.no_padding()
    made.enable_truncation(length)
    rows = []
    for text in texts:
        ids = torch.tensor([made.encode(text).ids])
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        row = {"cls": hidden[0], "lasttoken": hidden[-1]}.get(mode, hidden.mean(0))
        rows.append(torch.nn.functional.normalize(row, dim=0))
    return torch.stack(rows)


def write(name, model, made, length, mode, tokens, prompt=""):
    folder = pathlib.Path(name)
    shutil.rmtree(folder, ignore_errors=True)
    for part in ["", "1_Pooling"]:
        (folder / part).mkdir()
    model.save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    files = {
        "tokenizer_config.json": tokens,
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.config.hidden_size,
            "pooling_mode_cls_token": mode == "cls",
            "pooling_mode_mean_tokens": mode == "mean",
            **({"pooling_mode_lasttoken": True} if mode == "lasttoken" else {}),
        },
    }
    if prompt:
        prompts = {"query": prompt, "document": ""}
        files["config_sentence_transformers.json"] = {"prompts": prompts, "default_prompt_name": "query"}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    return pooled(model, made, [prompt + text for text in TEXTS], length, mode).tolist()


def random(model):
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.dim() == 1)
    return model.eval()


def main():
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
    expected = {"texts": TEXTS}
    made, vocab = tokenizer("[CLS]", "[SEP]", "[PAD]", "[UNK]")
    config = BertConfig(vocab_size=vocab, max_position_embeddings=40, **sizes)
    model = random(BertModel(config, add_pooling_layer=False))
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    expected["bert-mean"] = write("bert-mean", model, made, 20, "mean", tokens)
    made, vocab = tokenizer("<s>", "</s>", "<pad>", "<unk>")
    config = XLMRobertaConfig(
        vocab_size=vocab, max_position_embeddings=24, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5, **sizes
    )
    model = random(XLMRobertaModel(config, add_pooling_layer=False))
    tokens = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    expected["roberta-cls"] = write("roberta-cls", model, made, 16, "cls", tokens)
    made, vocab = last_alone("<|endoftext|>", "<|endoftext|>", "<|unk|>")
    sizes |= dict(num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=64)
    config = Qwen3Config(vocab_size=vocab, tie_word_embeddings=True, **sizes)
    tokens = {"pad_token": "<|endoftext|>", "unk_token": "<|unk|>", "eos_token": "<|endoftext|>"}
    prompt = "what is in this picture "
    expected["qwen3-last"] = write("qwen3-last", random(Qwen3Model(config)), made, 16, "lasttoken", tokens, prompt)
    pathlib.Path("expected.json").write_text(json.dumps(expected) + "\n")


def real(folder):
    folder = pathlib.Path(folder)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = pathlib.Path("sentences.txt").read_text().splitlines()
    save_file({"embeddings": pooled(model, made, texts, length, "mean")}, "minilm.safetensors")


real(sys.argv[1]) if len(sys.argv) > 2 else main()
