"""What transformers' processors make of small pictures and clips: run to renew ../fixtures/processors.{json,safetensors}.

Needs transformers 5.23 (its PIL image processors), torch, torchvision 0.29, num2words, pillow 13 and safetensors. Settings
are in the layout of published checkpoints, with small sizes. Of pixel values every 61st is kept.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers as tr
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HERE = Path(__file__).parent / "../fixtures"
EVERY = 61
HALF, CLIP = [0.5, 0.5, 0.5], [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
TOKENS = """<pad> <s> </s> <|im_start|> <|im_end|> <image> <video> <fake_token_around_image> <global-img> <end_of_utterance>
<|image_pad|> <|video_pad|> <|vision_start|> <|vision_end|> <image_soft_token> <start_of_image> <end_of_image>""".split()
TOKENS += [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% elif c['type'] == 'video' %}VIDEO{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)

arrays, cases = {}, []
y, x = np.mgrid[0:300, 0:300]
full = np.stack([(x * 3 + y) % 256, (x // 7 + y // 5) % 2 * 255, (y * 2 + x * x // 40) % 256], -1).astype(np.uint8)
for name, (width, height) in dict(wide=(61, 34), tall=(23, 70), large=(120, 97), tiny=(9, 13)).items():
    arrays[f"picture {name}"] = np.ascontiguousarray(full[:height, :width])
for name, (frames, width, height) in dict(five=(5, 50, 33), eight=(8, 30, 41)).items():
    arrays[f"clip {name}"] = np.stack([full[3 * t : 3 * t + height, 5 * t : 5 * t + width] for t in range(frames)])


def tokenizer(roles):
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    # The same ids in every case, whatever roles it names.
    inner.add_special_tokens(TOKENS)
    t = tr.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", **roles)
    t.add_special_tokens({"additional_special_tokens": TOKENS})
    return t


def case(name, kind, cls, files, parts, roles={}, image=None, video=None, processor={}, marks=("", ""), fps=4.0, **extra):
    """One conversation: `parts` are texts, "picture NAME" and "clip NAME"."""
    t = tokenizer(roles)
    template = TEMPLATE.replace("IMAGE", marks[0]).replace("VIDEO", marks[1])
    subs = [image(**files["preprocessor_config.json"]), t]
    if video:
        subs.append(video(**files.get("video_preprocessor_config.json", files["preprocessor_config.json"])))
    p = cls(*subs, chat_template=template, **{k: v for k, v in processor.items() if k != "processor_class"})
    content = [
        {"type": {"picture": "image", "clip": "video"}[w.split()[0]]} if w in arrays else {"type": "text", "text": w}
        for w in parts
    ]
    messages = [{"role": "user", "content": content}]
    pictures = [Image.fromarray(arrays[w]) for w in parts if w.startswith("picture ")]
    clips = [arrays[w] for w in parts if w.startswith("clip ")]
    given = {}
    if pictures:
        given["images"] = [pictures]
    if clips:
        given["videos"] = [torch.from_numpy(c).permute(0, 3, 1, 2) for c in clips]
        given["video_metadata"] = [
            dict(fps=fps, total_num_frames=len(c), duration=len(c) / fps, frames_indices=list(range(len(c)))) for c in clips
        ]
    made = p(text=[p.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)], return_tensors="np", **given)
    dims = {}
    for key, value in made.items():
        value = np.asarray(value)
        if key == "token_type_ids" and kind != "gemma3":
            continue
        dims[key] = list(value.shape)
        flat = value.reshape(-1).astype(np.float32 if value.dtype.kind == "f" else np.int64)
        arrays[f"{name} {key}"] = flat if flat.dtype == np.int64 and "mask" not in key else flat[::EVERY].copy()
    t.save_pretrained("/tmp/percept-processors")
    files = dict(files)
    if processor:
        files["processor_config.json"] = processor
    files["tokenizer_config.json"] = {k: v for k, v in [("bos_token", "<s>"), *roles.get("extra_special_tokens", {}).items()]}
    cases.append(dict(name=name, kind=kind, files=files, template=template, parts=parts, fps=fps, dims=dims, **extra))


smol = dict(do_convert_rgb=True, do_image_splitting=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True,
            image_mean=HALF, image_std=HALF, max_image_size={"longest_edge": 28}, resample=1,
            rescale_factor=0.00392156862745098, size={"longest_edge": 84},
            video_sampling=dict(fps=1, max_frames=8, video_size={"longest_edge": 28}))
for name, parts in [
    ("pictures", ["picture wide", "Which?", "picture tall", "picture tiny"]),
    ("clips", ["clip five", "Which?"]),
    ("slow clip", ["clip eight", "Which?"]),
]:
    case(f"smolvlm {name}", "smolvlm", tr.SmolVLMProcessor, {"preprocessor_config.json": smol}, parts,
         image=tr.SmolVLMImageProcessorPil, video=tr.SmolVLMVideoProcessor, processor=dict(image_seq_len=4),
         marks=("<image>", "<video>"), fps=0.05 if "slow" in name else 4.0)

qwen = dict(min_pixels=784, max_pixels=6272, patch_size=14, temporal_patch_size=2, merge_size=2, image_mean=CLIP,
            image_std=CLIP_STD)
roles = dict(extra_special_tokens=dict(image_token="<|image_pad|>", video_token="<|video_pad|>",
                                       vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>"))
marks = ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
mixed = ["picture wide", "Which?", "clip five", "picture tall", "clip eight", "and?", "picture large", "picture tiny"]
case("qwen2_vl mixed", "qwen2_vl", tr.Qwen2VLProcessor, {"preprocessor_config.json": qwen}, mixed, roles,
     tr.Qwen2VLImageProcessorPil, tr.Qwen2VLVideoProcessor, marks=marks)
case("qwen2_5_vl mixed", "qwen2_5_vl", tr.Qwen2_5_VLProcessor, {"preprocessor_config.json": qwen}, mixed, roles,
     tr.Qwen2VLImageProcessorPil, tr.Qwen2VLVideoProcessor, marks=marks)
edges = lambda least, most: dict(size=dict(shortest_edge=least, longest_edge=most), patch_size=16, temporal_patch_size=2,
                                 merge_size=2, image_mean=HALF, image_std=HALF)
case("qwen3_vl pictures", "qwen3_vl", tr.Qwen3VLProcessor,
     {"preprocessor_config.json": edges(1024, 8192), "video_preprocessor_config.json": edges(1024, 20000)},
     [w for w in mixed if not w.startswith("clip")], roles, tr.Qwen2VLImageProcessorPil, tr.Qwen3VLVideoProcessor, marks=marks)

clip = dict(crop_size={"height": 28, "width": 28}, do_center_crop=True, do_convert_rgb=True, do_normalize=True,
            do_resize=True, image_mean=CLIP, image_std=CLIP_STD, resample=3, size={"shortest_edge": 28})
llava = dict(patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>")
tower = dict(image=28, patch=14, additional=1, strategy="default")
case("llava pictures", "llava", tr.LlavaProcessor, {"preprocessor_config.json": clip},
     ["picture wide", "Which?", "picture tall", "picture tiny"], {}, tr.CLIPImageProcessorPil, processor=llava,
     marks=("<image>\n", ""), tower=tower)
case("llava padded", "llava", tr.LlavaProcessor, {"preprocessor_config.json": dict(clip, do_pad=True)},
     ["picture wide", "picture tall"], {}, tr.LlavaImageProcessorPil, processor=llava, marks=("<image>\n", ""), tower=tower)
pins = [[28, 56], [56, 28], [56, 56], [28, 84], [84, 84]]
case("llava_next pictures", "llava_next", tr.LlavaNextProcessor,
     {"preprocessor_config.json": dict(clip, image_grid_pinpoints=pins)}, ["picture wide", "Which?", "picture tall"], {},
     tr.LlavaNextImageProcessorPil, processor=llava, marks=("<image>\n", ""), tower=tower)
one = dict(do_convert_rgb=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True, image_mean=HALF,
           image_std=HALF, resample=3, rescale_factor=0.00392156862745098, size={"height": 28, "width": 28})
onevision = dict(num_image_tokens=4, vision_feature_select_strategy="full", image_token="<image>", video_token="<video>",
                 vision_aspect_ratio="anyres_max_1")
for name, parts in [
    ("large picture", ["picture large", "Which?"]),
    ("tall picture", ["picture tall", "Which?"]),
    ("pictures", ["picture wide", "Which?", "picture tall"]),
    ("mixed", ["picture wide", "Which?", "clip five"]),
]:
    case(f"llava_onevision {name}", "llava_onevision", tr.LlavaOnevisionProcessor,
         {"preprocessor_config.json": dict(one, image_grid_pinpoints=pins), "video_preprocessor_config.json": one}, parts, {},
         tr.LlavaOnevisionImageProcessorPil, tr.LlavaOnevisionVideoProcessor, processor=onevision,
         marks=("<image>\n", "<video>\n"), tower=dict(image=28, patch=14, additional=0, strategy="full"))

gemma = dict(do_convert_rgb=None, do_normalize=True, do_pan_and_scan=None, do_rescale=True, do_resize=True, image_mean=HALF,
             image_std=HALF, resample=2, rescale_factor=0.00392156862745098, size={"height": 28, "width": 28})
case("gemma3 pictures", "gemma3", tr.Gemma3Processor, {"preprocessor_config.json": gemma},
     ["picture wide", "Which?", "picture tall"],
     dict(extra_special_tokens=dict(image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>")),
     tr.Gemma3ImageProcessorPil, processor=dict(image_seq_length=4), marks=("<start_of_image>", ""))

vocabulary = json.loads(Path("/tmp/percept-processors/tokenizer.json").read_text())
Path(HERE / "processors.json").write_text(json.dumps(dict(tokenizer=vocabulary, cases=cases), separators=(",", ":")))
save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, HERE / "processors.safetensors")
