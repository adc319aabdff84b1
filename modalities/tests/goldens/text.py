"""Small GGUF vocabularies and what llama.cpp makes of texts with them; chat templates and what transformers renders.

Run to renew ../fixtures/vocabulary.json and ../fixtures/templates.json. Needs gguf, llama-cpp-python 0.3.36,
sentencepiece, tokenizers and transformers 5.23.
"""

import io
import json
import tempfile
from pathlib import Path

import gguf
import sentencepiece
from llama_cpp import Llama
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

here = Path(__file__).parent
corpus = (here / "corpus.txt").read_text().split("\n\n")
texts = corpus + [
    "",
    " ",
    "Hello world",
    " Hello  world   !\n\n\n  again\t\tand\r\nagain   ",
    "It's what they'll say: I'VE, we're, you'd, she'S 's 'S.",
    "Numbers 1 12 123 1234 12345 3.14159 1,000,000 ½ ³ ٣٤",
    "naïve café Ångström ÀÉÎ straße DŽ ŉ",
    "你好，世界！ 漢字とカタカナ ひらがな 한국어 ไทย עברית",
    "emoji 😀👩‍👩‍👧 🇪🇺 … — “quotes” ‘single’ $+<=>^~|`",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|> <|im_end|><custom>x <custom>",
    "_under_score__ CamelCaseWord HTTPServer x=y+1; // comment\n\tindented",
    "\u0000\u0001\u007f\u00a0\u2003\ufeff\ue000",
    "a" * 50,
]


def ids_of(path):
    llama = Llama(model_path=str(path), vocab_only=True, verbose=False)
    return [
        {
            "plain": llama.tokenize(text.encode(), add_bos=False, special=True),
            "around": llama.tokenize(text.encode(), add_bos=True, special=True),
        }
        for text in texts
    ]


def write(path, model, tokens, types, scores=None, merges=None, pre=None, **extra):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    for key, value in extra.items():
        getattr(writer, f"add_{key}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


folder = Path(tempfile.mkdtemp())
out = {"texts": texts}

# Byte-level BPE, trained on words split in GPT-2's way.
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
trainer = trainers.BpeTrainer(
    vocab_size=900, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator(corpus, trainer)
state = json.loads(tokenizer.to_str())["model"]
tokens = sorted(state["vocab"], key=state["vocab"].get) + ["<custom>"]
types = [3 if token in special else 4 if token == "<custom>" else 1 for token in tokens]
merges = [" ".join(pair) for pair in state["merges"]]
named = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
out["bpe"] = {"tokens": tokens, "token_types": types, "merges": merges, "ids": {}}
pres = ["default", "gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "gpt-4o", "tekken", "falcon",
        "deepseek-coder", "deepseek-v3", "chatglm-bpe"]
for pre in pres:
    path = folder / f"{pre}.gguf"
    write(path, "gpt2", tokens, types, merges=merges, pre=pre, **named)
    out["bpe"]["ids"][pre] = ids_of(path)

# llama.cpp splits like these two only where letters have no combining marks; here the models' own tokenizer.json decides.
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
for pre, end, digits in [("gpt-4o", CONTRACTIONS, "{1,3}"), ("tekken", "", "")]:
    pattern = (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{end}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{end}|\p{{N}}{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    peer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m) for m in state["merges"]],
                                ignore_merges=pre == "tekken"))
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    peer.add_special_tokens(special)
    peer.add_tokens([AddedToken("<custom>", normalized=False)])
    first = [1] if pre == "tekken" else []
    plain = [peer.encode(text).ids for text in texts]
    out["bpe"]["ids"][pre] = [{"plain": ids, "around": first + ids} for ids in plain]

# SentencePiece.
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(line for text in corpus for line in text.splitlines()), model_writer=model, vocab_size=700,
    model_type="bpe", byte_fallback=True, character_coverage=0.98, hard_vocab_limit=False, minloglevel=2,
    user_defined_symbols=["<custom>"], normalization_rule_name="identity", remove_extra_whitespaces=False,
    split_digits=True,
)
pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
tokens = [pieces.id_to_piece(i) for i in range(len(pieces))]
scores = [pieces.get_score(i) for i in range(len(pieces))]
kinds = {"<custom>": 4, "<unk>": 2, "<s>": 3, "</s>": 3}
types = [kinds.get(token, 6 if pieces.is_byte(i) else 1) for i, token in enumerate(tokens)]
named = {"bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0}
out["spm"] = {"tokens": tokens, "scores": scores, "token_types": types, "ids": {}}
for prefix in [True, False]:
    path = folder / f"spm{prefix}.gguf"
    write(path, "llama", tokens, types, scores=scores, add_space_prefix=prefix, **named)
    out["spm"]["ids"][str(prefix).lower()] = ids_of(path)
# The tokenizer.json of a parity case.
model = AutoTokenizer.from_pretrained(here / "../../../tests/parity/llama/model")
model.pad_token = "<pad>"
out["json"] = [
    {
        "plain": model(text, add_special_tokens=False).input_ids,
        "around": model(text).input_ids,
        "decoded": model.decode(model(text).input_ids),
        "skipped": model.decode(model(text).input_ids, skip_special_tokens=True),
        "padded": dict(model(text, padding="max_length", truncation=True, max_length=24)),
    }
    for text in texts
]
(here / "../fixtures/vocabulary.json").write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")))

# Chat templates.
tools = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather in a \"city\" <now> & später",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"default": 1.5e-7}}},
        },
    },
    {"name": "z", "b": [], "a": {}, "n": None, "t": True, "f": [1, 2.0, -0.5, 1e16, 123456789012345]},
]
talk = [
    {"role": "system", "content": "  You are kind.\n"},
    {"role": "user", "content": "What's the capital of France?"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nParis."},
    {"role": "user", "content": "Thanks! \"quoted\" <b> & ünï 😀"},
]
seen = [
    {"role": "user", "content": [
        {"type": "image"}, {"type": "text", "text": "What is this?"}, {"type": "image"}, {"type": "text", "text": "And this?"}
    ]},
    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    {"role": "user", "content": "Plain."},
]
cases = []
for path in sorted((here / "templates").glob("*.jinja")):
    source = path.read_text()
    for messages in [talk, seen, [], talk[1:2], [{"role": "tool", "content": "x"}]]:
        for prompt in [False, True]:
            variables = {
                "bos_token": "<s>", "eos_token": "</s>", "pad_token": None, "enable_thinking": prompt, "number": 7,
                "names": ["b", "a", "c"], "tools": tools if prompt else None,
            }
            case = {"template": path.name, "messages": messages, "add_generation_prompt": prompt, "variables": variables}
            try:
                rendered, _ = render_jinja_template(
                    [messages], chat_template=source, add_generation_prompt=prompt, **variables
                )
                case["text"] = rendered[0]
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)
(here / "../fixtures/templates.json").write_text(json.dumps(cases, indent=1, ensure_ascii=True))
