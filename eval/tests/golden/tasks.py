"""Data in the published schema of each task, and what lmms-eval's own functions ask and score on them.

usage: HF_HOME=/tmp python eval/tests/golden/tasks.py
Writes tasks/NAME/*.parquet and tasks.json beside this file. Images and sounds are drawn here. Made with lmms-eval 0.7.3,
datasets 5.0.0 and Pillow 12.3.0.
"""
import io
import json
import os
import pathlib
import random
import shutil

os.environ.setdefault("HF_HOME", "/tmp")
import numpy as np
import soundfile
import yaml
from datasets import Dataset, Features, Image, Sequence, Value
from lmms_eval import tasks as package
from lmms_eval.api.metrics import anls, exact_match_hf_evaluate, mean
from lmms_eval.tasks._task_utils import mmmu_mcq_utils
from lmms_eval.tasks.ai2d import utils as ai2d
from lmms_eval.tasks.chartqa import utils as chartqa
from lmms_eval.tasks.coco_cap import utils as coco
from lmms_eval.tasks.docvqa import utils as docvqa
from lmms_eval.tasks.librispeech import utils as librispeech
from lmms_eval.tasks.mmau import utils as mmau
from lmms_eval.tasks.mmmu import utils as mmmu
from lmms_eval.tasks.mmstar import utils as mmstar
from lmms_eval.tasks.mvbench import utils as mvbench
from lmms_eval.tasks.ocrbench import utils as ocrbench
from lmms_eval.tasks.pope import utils as pope
from lmms_eval.tasks.realworldqa import utils as realworldqa
from lmms_eval.tasks.refcoco import utils_rec as refcoco
from lmms_eval.tasks.scienceqa import utils as scienceqa
from lmms_eval.tasks.textvqa import utils as textvqa
from lmms_eval.tasks.videomme import utils as videomme
from lmms_eval.tasks.vqav2 import utils as vqav2
from PIL import Image as Picture
from PIL import ImageDraw

here = pathlib.Path(__file__).parent
folder = here / "tasks"
shutil.rmtree(folder, ignore_errors=True)
draw, golden = random.Random(11), {}
T, I = Value("string"), Value("int64")


def picture(width=64, height=48):
    image = Picture.new("RGB", (width, height), tuple(draw.randrange(256) for _ in range(3)))
    ImageDraw.Draw(image).rectangle([8, 8, 8 + draw.randrange(8, 40), 8 + draw.randrange(8, 30)], fill=tuple(draw.randrange(256) for _ in range(3)))
    return image


def prompts(path):
    """The default prompts of a task's YAML file, and those of the file that it includes."""
    path = pathlib.Path(package.__file__).parent / path
    lines = [line for line in path.read_text().splitlines() if "!function" not in line]
    read = yaml.safe_load("\n".join(lines))
    own = read.get("lmms_eval_specific_kwargs", {}).get("default")
    if own is None or ("include" in read and path.name.startswith("mvbench") is False and not own):
        return prompts(path.parent.relative_to(pathlib.Path(package.__file__).parent) / read["include"])
    return own


def task(name, file, features, rows, asked, said, scores):
    """Write the rows; `asked` are the prompts, `said` what a model answers, `scores` what lmms-eval makes of it."""
    place = folder / name / file
    place.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=Features(features)).to_parquet(place)
    assert len(asked) == len(said), name
    golden[name] = dict(prompts=asked, answers=said, scores={k: float(v) for k, v in scores.items()})


def averaged(process, rows, said, key):
    return mean([float(process(row, [answer])[key]) for row, answer in zip(rows, said)])


# Multiple choice in the question's text.
rows = [dict(index=at, question=f"What is shown {at}? Please answer yes or no.\nOptions: A: x, B: y, C: z, D: w ", image=picture(), answer="ABCD"[at % 4],
             category=["math", "math", "logical reasoning"][at % 3], l2_category=["geometry", "statistical reasoning", "diagram reasoning"][at % 3]) for at in range(9)]
said = ["A", "The answer is B", "(C)", "Cannot say", "A dog", "B.", "c", "D: w", "I choose A"]
found = [mmstar.mmstar_process_results(row, [answer])["average"] for row, answer in zip(rows, said)]
task("mmstar", "val-00000-of-00001.parquet", dict(index=I, question=T, image=Image(), answer=T, category=T, l2_category=T), rows,
     [mmstar.mmstar_doc_to_text(row, prompts("mmstar/mmstar.yaml")) for row in rows], said, dict(accuracy=mmstar.mmstar_aggregate_results(found)))

rows = [dict(image=picture(), question=f"How many cars {at}?\nA. 1\nB. 2\nC. 3\nPlease answer directly with only the letter of the correct option and nothing else.",
             answer=["B", "3", "Downhill", "A"][at % 4], image_path=f"{at}.webp") for at in range(8)]
said = ["B", "3.", "downhill", "The answer is A", "A", "2", "Uphill", "a"]
task("realworldqa", "data/test-00000-of-00001.parquet", dict(image=Image(), question=T, answer=T, image_path=T), rows,
     [realworldqa.realworldqa_doc_to_text(row, prompts("realworldqa/realworldqa.yaml")) for row in rows], said,
     dict(accuracy=averaged(realworldqa.realworldqa_process_results, rows, said, "exact_match")))

# Yes and no.
rows = [dict(id=str(at), question_id=str(at), question=f"Is there a dog in image {at // 2}?", answer=["yes", "no"][at % 2], image_source=f"COCO_{at // 2}", image=picture(),
             category=["random", "popular", "adversarial"][at % 3]) for at in range(10)]
said = ["Yes", "no", "yes", "Yes, there is.", "No", "No", "unclear", "yes", "YES ", "no."]
results = [pope.pope_process_results(row, [answer])["pope_f1_score"] for row, answer in zip(rows, said)]
task("pope", "data/test-00000-of-00001.parquet", dict(id=T, question_id=T, question=T, answer=T, image_source=T, image=Image(), category=T), rows,
     [pope.pope_doc_to_text(row, prompts("pope/pope.yaml")) for row in rows], said,
     dict(accuracy=pope.pope_aggregate_accuracy(results), precision=pope.pope_aggregate_precision(results), recall=pope.pope_aggregate_recall(results),
          f1=pope.pope_aggregate_f1_score(results), yes_ratio=pope.pope_aggregate_yes_ratio(results)))

# Answers of ten people.
people = [["stop"] * 8 + ["Stop sign", "go"], ["2"] * 4 + ["two"] * 6, ["coca-cola"] * 3 + ["coke"] * 7, ["yes"] * 10]
said = ["STOP!", "two", "Coca Cola", "no"]
rows = [dict(image_id=f"i{at}", question_id=at, question=f"what does SIGN {at} say?", question_tokens=["what"], image=picture(), image_width=64, image_height=48, flickr_original_url="",
             flickr_300k_url="", answers=answers, image_classes=["Sign"], set_name="val", ocr_tokens=["STOP"]) for at, answers in enumerate(people)]
task("textvqa_val", "data/validation-00000-of-00001.parquet",
     dict(image_id=T, question_id=Value("int32"), question=T, question_tokens=Sequence(T), image=Image(), image_width=Value("int32"), image_height=Value("int32"), flickr_original_url=T,
          flickr_300k_url=T, answers=Sequence(T), image_classes=Sequence(T), set_name=T, ocr_tokens=Sequence(T)), rows,
     [textvqa.textvqa_doc_to_text(row, prompts("textvqa/textvqa_val.yaml")) for row in rows], said,
     dict(accuracy=averaged(textvqa.textvqa_process_results, [dict(row, answers=list(row["answers"])) for row in rows], said, "exact_match")))

listed = lambda answers: [dict(answer=answer, answer_confidence="yes", answer_id=at + 1) for at, answer in enumerate(answers)]
rows = [dict(question_type="what", multiple_choice_answer=answers[0], answers=listed(answers), image_id=at, answer_type="other", question_id=at, question=f"What is sign {at}?", image=picture())
        for at, answers in enumerate(people)]
task("vqav2_val", "data/validation-00000-of-00001.parquet",
     dict(question_type=T, multiple_choice_answer=T, answers=[dict(answer=T, answer_confidence=T, answer_id=I)], image_id=I, answer_type=T, question_id=I, question=T, image=Image()), rows,
     [vqav2.vqav2_doc_to_text(row, prompts("vqav2/vqav2_val.yaml")) for row in rows], said,
     dict(accuracy=averaged(vqav2.vqav2_process_results_val, [dict(row, answers=listed(row["answers"][i]["answer"] for i in range(10))) for row in rows], said, "exact_match")))

# Documents.
for name, place in (("docvqa_val", "DocVQA"), ("infovqa_val", "InfographicVQA")):
    rows = [dict(questionId=str(at), question=f"What is the total of {at}?", image=picture(), answers=answers) for at, answers in enumerate([["$1,234.50"], ["12 May 2001", "May 12"], ["Smith & Co"]])]
    if name == "docvqa_val":
        rows = [dict(row, docId=at // 2) for at, row in enumerate(rows)]
    said = ["1,234.50", "  may 12 ", "Jones"]
    features = dict(questionId=T, question=T, image=Image(), answers=Sequence(T)) | (dict(docId=I) if name == "docvqa_val" else {})
    task(name, f"{place}/validation-00000-of-00001.parquet", features, rows, [docvqa.docvqa_doc_to_text(row, prompts("docvqa/docvqa_val.yaml")) for row in rows], said,
         dict(anls=mean([anls(row["answers"], [answer])["anls"] for row, answer in zip(rows, said)])))

# Charts.
rows = [dict(type=["human_test", "augmented_test"][at % 2], question=f"How much is bar {at}?", answer=answer, image=picture()) for at, answer in enumerate(["14", "5%", "0.57", "Yes", "0", "Japan"])]
said = ["14.5", "5", "0.6", "yes", "0.0", "japan."]
task("chartqa", "data/test-00000-of-00001.parquet", dict(type=T, question=T, answer=T, image=Image()), rows, [chartqa.chartqa_doc_to_text(row, prompts("chartqa/chartqa.yaml")) for row in rows], said,
     dict(relaxed_accuracy=averaged(chartqa.chartqa_process_results, rows, said, "relaxed_overall")))

# Text in images. lmms-eval divides by a thousand.
rows = [dict(dataset=data, question=f"what is written {at}? ", question_type=kind, answer=answers, image=picture())
        for at, (data, kind, answers) in enumerate([("IIIT5K", "Regular Text Recognition", ["CENTRE"]), ("HME100k", "Handwritten Mathematical Expression Recognition", ["x ^ 2"]),
                                                    ("HME100k", "Handwritten Mathematical Expression Recognition", ["X ^ 2"]), ("docVQA", "Doc-oriented VQA", ["ＡＢ", "ab c"])])]
said = ["It says centre.", "x^2 + 1", "x^2", "AB"]
results = [ocrbench.ocrbench_process_results(row, [answer])["ocrbench_accuracy"] for row, answer in zip(rows, said)]
task("ocrbench", "data/test-00000-of-00001.parquet", dict(dataset=T, question=T, question_type=T, answer=Sequence(T), image=Image()), rows,
     [ocrbench.ocrbench_doc_to_text(row, prompts("ocrbench/ocrbench.yaml")) for row in rows], said, dict(accuracy=sum(result["score"] for result in results) / 1000))

# Diagrams and school books.
rows = [dict(question=f"Which is part {at}?", options=["leaf", "root", "stem", "seed"], answer=str(at % 4), image=picture()) for at in range(6)]
said = ["A", "B. root", "c", "D", "B", "B because"]
filtered = ai2d.MultiChoiceRegexFilter().apply([[answer] for answer in said], rows)
task("ai2d", "data/test-00000-of-00001.parquet", dict(question=T, options=Sequence(T), answer=T, image=Image()), rows, [ai2d.ai2d_doc_to_text(row, prompts("ai2d/ai2d.yaml")) for row in rows], said,
     dict(accuracy=mean([exact_match_hf_evaluate([p], [ai2d.ai2d_doc_to_target(row, "mcq")], ignore_case=True, ignore_punctuation=True)["exact_match"] for p, row in zip(filtered, rows)])))
rows = [dict(image=picture(), question=f"Which is warmer {at}?", choices=["sun", "moon", "ice"][: 2 + at % 2], answer=at % 2, hint=["", "Figure: two\nbodies."][at % 2], task="closed choice", grade="grade2",
             subject="natural science", topic="physics", category="Heat", skill="Compare", lecture="", solution="") for at in range(5)]
said = ["A", "b", "B. moon", "A", "the sun"]
task("scienceqa_img", "ScienceQA-IMG/test-00000-of-00001.parquet",
     dict(image=Image(), question=T, choices=Sequence(T), answer=Value("int8"), hint=T, task=T, grade=T, subject=T, topic=T, category=T, skill=T, lecture=T, solution=T), rows,
     [scienceqa.sqa_doc_to_text(row, prompts("scienceqa/scienceqa_img.yaml")) for row in rows], said, dict(accuracy=averaged(scienceqa.sqa_process_results, rows, said, "exact_match")))

# Examinations. lmms-eval picks at random where it reads nothing; here an average over what it may pick.
images = {f"image_{at}": Image() for at in range(1, 8)}
rows = [dict(id=f"validation_{subject}_{at}", question=question, options=options, explanation="", **{name: None for name in images} | {"image_1": picture(), "image_2": picture() if "<image 2>" in question + options else None},
             img_type="['Table']", answer=answer, topic_difficulty="Easy", question_type=kind, subfield="x")
        for at, (subject, question, options, answer, kind) in enumerate([
            ("Art", "<image 1> Who painted it?", "['Monet', \"D'Angelo\", 'Goya']", "B", "multiple-choice"), ("Art", "What of <image 1>?", "['<image 2>', 'none of it', 'all']", "A", "multiple-choice"),
            ("Math", "Sum in <image 1>?", "[]", "12.5", "open"), ("Math", "Name <image 1>", "['one', 'two', 'three', 'four']", "D", "multiple-choice"), ("Math", "Which <image 1>", "[]", "Paris", "open")])]
said = ["(B)", "I think that it is clearly all of the above: none of it", "So the sum is 12.50", "nobody knows", "It is in Paris"]
total = 0
for choice in "ABCD":
    mmmu_mcq_utils.random.choice, kept = (lambda choices, choice=choice: choice), mmmu_mcq_utils.random.choice
    results = [mmmu.mmmu_process_results(row, [answer])["mmmu_acc"] for row, answer in zip(rows, said)]
    mmmu_mcq_utils.random.choice = kept
    total += mmmu.mmmu_aggregate_results(results) / 4
task("mmmu_val", "Art/validation-00000-of-00001.parquet", dict(id=T, question=T, options=T, explanation=T, **images, img_type=T, answer=T, topic_difficulty=T, question_type=T, subfield=T), rows,
     [mmmu.mmmu_doc_to_text(row, prompts("mmmu/mmmu_val.yaml")) for row in rows], said, dict(accuracy=total))

# Captions.
rows = [dict(question_id=f"{at:012}.jpg", image=picture(), question="Please carefully observe the image and come up with a caption for the image.", answer=[f"A {c} dog on a mat.", f"The {c} dog lies down.", "A dog."],
             id=at, license=0, file_name=f"{at:012}.jpg", coco_url="", height=48, width=64, date_captured="") for at, c in enumerate(["red", "blue", "small"])]
said = ["A red dog on a mat", "a cat", "The small dog lies down on a mat."]
class Arguments:
    output_path = "/tmp"
results = [coco.coco_process_result(row, [answer])["coco_CIDEr"] for row, answer in zip(rows, said)]
score = lambda metric: coco.coco_aggregation_result(results, metric, Arguments)
task("coco2017_cap_val", "data/val-00000-of-00001.parquet",
     dict(question_id=T, image=Image(), question=T, answer=Sequence(T), id=I, license=Value("int8"), file_name=T, coco_url=T, height=Value("int32"), width=Value("int32"), date_captured=T), rows,
     [coco.coco_doc_to_text(row) for row in rows], said, dict(cider=score("CIDEr"), bleu_4=score("Bleu_4"), rouge_l=score("ROUGE_L")))

# Boxes: each phrase is a question.
rows = [dict(question_id=str(at), image=picture(), question="x", answer=["the left box", "a coloured box"][: 1 + at % 2], segmentation=[0.0], bbox=[8.0, 8.0, 24.0 + at, 16.0], iscrowd=0, file_name=f"{at // 2}.jpg")
        for at in range(3)]
features = dict(question_id=T, image=Image(), question=T, answer=Sequence(T), segmentation=Sequence(Value("float32")), bbox=Sequence(Value("float32")), iscrowd=I, file_name=T)
docs = list(refcoco.refcoco_bbox_rec_preprocess_dataset(Dataset.from_list(rows, features=Features(features))))
said = ["[0.125, 0.16, 0.5, 0.5]", "[0.1, 0.1, 0.6, 0.6]", "no box", "[0.2, 0.2, 0.9, 0.9]"]
results = [refcoco.refcoco_bbox_rec_process_result(doc, [answer])["refcoco_IoU"] for doc, answer in zip(docs, said)]
score = lambda metric: refcoco.refcoco_bbox_rec_aggregation_result(results, metric)
task("refcoco_bbox_rec_val", "data/val-00000-of-00001.parquet", features, rows, [refcoco.refcoco_bbox_rec_doc_to_text(doc) for doc in docs], said,
     dict(iou=score("IoU"), center_accuracy=score("Center_ACC")) | {f"acc@{k}": score(f"ACC@{k}") for k in (0.1, 0.3, 0.5, 0.7, 0.9)})

# Videos.
rows = [dict(video=f"{at}.mp4", question=f"What moves {at}?", candidates=["ball", "cube", "cone"], answer=["ball", "cone"][at % 2]) for at in range(5)]
said = ["(A) ball", "C. cone", "", "the answer is c", "nothing"]
results = [mvbench.mvbench_process_results(row, [answer])["mvbench_accuracy"] for row, answer in zip(rows, said)]
task("mvbench", "json/train-00000-of-00001.parquet", dict(video=T, question=T, candidates=Sequence(T), answer=T), rows,
     [mvbench.mvbench_doc_to_text(row, prompts("mvbench/mvbench_action_sequence.yaml")) for row in rows], said, dict(accuracy=mvbench.mvbench_aggregate_results(results) / 100))
rows = [dict(video_id=f"{at:03}", duration="short", domain="Knowledge", sub_category="Astronomy", url="", videoID=f"v{at // 2}", question_id=f"{at}-1", task_type="Counting Problem", question=f"How many {at}?",
             options=["A. One.", "B. Two.", "C. Three.", "D. Four."], answer="ABCD"[at % 4]) for at in range(4)]
said = ["A", "B. Two.", "The best answer is: D", "none"]
results = [videomme.videomme_process_results(row, [answer])["videomme_perception_score"] for row, answer in zip(rows, said)]
task("videomme", "videomme/test-00000-of-00001.parquet", dict(video_id=T, duration=T, domain=T, sub_category=T, url=T, videoID=T, question_id=T, task_type=T, question=T, options=Sequence(T), answer=T), rows,
     [videomme.videomme_doc_to_text(row, prompts("videomme/videomme.yaml")) for row in rows], said, dict(accuracy=videomme.videomme_aggregate_results(results) / 100))

# Sounds.


def tone():
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(1600) * draw.uniform(0.05, 0.3)), 16000, format="WAV")
    return file.getvalue()


# What `Audio()` is in a file.
SOUND = dict(bytes=Value("binary"), path=T)
sound = lambda name: dict(bytes=tone(), path=name)
for part in ("clean", "other"):
    rows = [dict(audio=sound('a.wav'), gt=text, source=f"librispeech_test_{part}", task="asr_en") for text in ["MISTER QUILTER IS THE APOSTLE", "HE HOPED THERE WOULD BE STEW", "NOR IS HIS COLOUR GREY"]]
    said = ["Mr. Quilter is the apostle.", "He hoped there'd be two", "Nor is his color gray!"]
    results = [librispeech.librispeech_process_result(row, [answer])["wer"] for row, answer in zip(rows, said)]
    task(f"librispeech_test_{part}", f"librispeech_test_{part}-00000-of-00001.parquet", dict(audio=SOUND, gt=T, source=T, task=T), rows,
         [librispeech.librispeech_doc_to_text(row, prompts("librispeech/librispeech_test_clean.yaml")) for row in rows], said, dict(wer=librispeech.librispeech_wer(results, None) / 100))
rows = [dict(question=f"Which sound {at}?", choices=json.dumps(["dog", "cat", "bell", "rain"]), answer=["cat", "rain"][at % 2], task="sound", difficulty="easy", split="test-mini", category="x", audio=sound("a.wav"), audio_id=str(at), id=str(at),
             dataset="x") for at in range(4)]
said = ["B. cat", "(D)", "A", "it is C or D maybe"]
results = [mmau.mmau_process_results(dict(row), [answer])["accuracy"] for row, answer in zip(rows, said)]
task("mmau_test_mini", "test_mini-00000-of-00001.parquet", dict(question=T, choices=T, answer=T, task=T, difficulty=T, split=T, category=T, audio=SOUND, audio_id=T, id=T, dataset=T), rows,
     [mmau.doc_to_text(row, prompts("mmau/mmau_test_mini.yaml")) for row in rows], said, dict(accuracy=mmau.mmau_aggregate_results(results) / 100))

# Text: lm-evaluation-harness's prompt, and the option that is held most likely.
rows = [dict(question=f" What is {at} + {at}? ", subject="elementary_mathematics", choices=[str(2 * at), "7", "x", "y"], answer=0) for at in range(3)]
task("mmlu", "all/test-00000-of-00001.parquet", dict(question=T, subject=T, choices=Sequence(T), answer=I), rows,
     [f"{row['question'].strip()}\nA. {row['choices'][0]}\nB. {row['choices'][1]}\nC. {row['choices'][2]}\nD. {row['choices'][3]}\nAnswer:" for row in rows], ["A", "B", "A"], dict(accuracy=2 / 3))

(here / "tasks.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
