"""Tokenizers with precompiled normalizers, and with added tokens whose flags tokenizer_config.json gives.

    python tokenizers.py > ../fixtures/tokenizers.json

Needs transformers, tokenizers and sentencepiece. Each case has the two files, and texts with their ids and what they are
decoded to, with and without special tokens.
"""

import base64
import json
import os
import sys
import tempfile

sys.path.pop(0)  # This file has the library's name.

import sentencepiece
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


TEXTS = [
    "Hello there", "ＡＢＣ ①②　x", "ﬁne ﬂow", "e\u0301\u0301 é", "a\u200bb", "½ ㎏ ™", "", " ", "  two  spaces ", "㍿ ﷺ", "ｶﾞ",
    "\t\n x", "🙂👨‍👩‍👧", "a<big>b", " <big> b", "x <l>y", "x<r>  y", "word<w>word <w> end", "UP<n>up<N>", "<s>hi</s>", "half<s",
]

ALPHABET = ["<unk>", "<s>", "</s>", "▁"] + [chr(c) for c in range(33, 127)] + list("éÉガ1234㎏株式会社½🙂👨👩👧\u200d")


def field(message, wanted):
    """The bytes of a field of a protocol buffer."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 2:
            length = number()
            at += length
            if key >> 3 == wanted:
                return message[at - length : at]
        elif key & 7 == 0:
            number()
        else:
            at += 4 if key & 7 == 5 else 8
    raise KeyError(wanted)


def charsmap(rules):
    """SentencePiece's own table of rules."""
    with tempfile.TemporaryDirectory() as folder:
        tsv = os.path.join(folder, "rules.tsv")
        with open(tsv, "w") as f:
            for a, b in rules:
                f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
        text = os.path.join(folder, "text.txt")
        with open(text, "w") as f:
            f.write("a b c d e f g\n" * 20)
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=os.path.join(folder, "m"), vocab_size=12, model_type="char", normalization_rule_tsv=tsv, minloglevel=2
        )
        normalizer = field(open(os.path.join(folder, "m.model"), "rb").read(), 3)
        return base64.b64encode(field(normalizer, 2)).decode()


RULES = [("Ａ", "A"), ("Ｂ", "B"), ("Ｃ", "C"), ("①", "1"), ("②", "2"), ("　", " "), ("ﬁ", "fi"), ("ﬂ", "fl"), ("e\u0301", "\u00e9"), ("\u200b", " "), ("½", "1/2"), ("㎏", "kg"), ("™", "TM"), ("㍿", "株式会社"), ("ｶﾞ", "ガ"), ("\t", " "), ("\n", " "), ("ﷺ", "")]


def tokenizer(normalizer, model="Unigram", added=()):
    if model == "Unigram":
        body = {"type": "Unigram", "unk_id": 0, "vocab": [[t, -1.0 - 0.01 * i] for i, t in enumerate(ALPHABET)], "byte_fallback": False}
    else:
        body = {"type": "WordLevel", "vocab": {t: i for i, t in enumerate(ALPHABET)}, "unk_token": "<unk>"}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, t in enumerate(ALPHABET[:3])] + list(added),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": None,
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": body,
    }


def token(content, **flags):
    return dict(dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False), **flags)


def main():
    precompiled = {"type": "Precompiled", "precompiled_charsmap": charsmap(RULES)}
    n = len(ALPHABET)
    added = {
        str(n): token("<big>"), str(n + 1): token("<l>", lstrip=True), str(n + 2): token("<r>", rstrip=True, special=True),
        str(n + 3): token("<w>", single_word=True), str(n + 4): token("<n>", normalized=True),
    }
    plain = [dict(id=n + i, **dict(token(v["content"]))) for i, v in enumerate(added.values())]
    files = [
        (tokenizer(precompiled), {}),
        (tokenizer({"type": "Sequence", "normalizers": [precompiled, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}), {}),
        (tokenizer(None), {"added_tokens_decoder": added}),
        (tokenizer({"type": "Lowercase"}, added=plain), {"added_tokens_decoder": added}),
        (tokenizer({"type": "Lowercase"}, added=plain), {"added_tokens_decoder": {str(n): token("<big>", special=True), "1": token("<s>", special=False, normalized=True)}, "bos_token": "<s>", "extra_special_tokens": ["<x>"]}),
    ]
    cases = []
    for body, config in files:
        with tempfile.TemporaryDirectory() as folder:
            config = dict(config, tokenizer_class="PreTrainedTokenizerFast")
            json.dump(body, open(os.path.join(folder, "tokenizer.json"), "w"))
            json.dump(config, open(os.path.join(folder, "tokenizer_config.json"), "w"))
            t = PreTrainedTokenizerFast.from_pretrained(folder)
            texts = []
            for text in TEXTS:
                ids = t.encode(text, add_special_tokens=False)
                texts.append([text, ids, t.decode(ids, clean_up_tokenization_spaces=False), t.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)])
            cases.append({"tokenizer": body, "config": config, "texts": texts})
    json.dump(cases, sys.stdout, ensure_ascii=False, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
