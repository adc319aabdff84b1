"""Data in the published schema of each task, and what lmms-eval's own functions ask and score on them.

usage: HF_HOME=/tmp python eval/tests/golden/tasks.py [NAME ...]
Writes tasks/NAME/*.parquet and tasks.json beside this file; with names, those tasks alone and their part of tasks.json. Images and sounds
are drawn here. Made with lmms-eval 0.7.3, datasets 5.0.0 and Pillow 12.3.0; the scores of embeddings with clip-benchmark 1.6.2,
torch 2.15.0, scikit-learn 1.9.1 and scipy 1.17.1.
"""
import importlib
import io
import json
import os
import pathlib
import random
import shutil
import sys
import tarfile

os.environ.setdefault("HF_HOME", "/tmp")
import numpy as np
import scipy.stats
import soundfile
import torch
import yaml
from clip_benchmark.metrics import zeroshot_classification as zeroshot
from clip_benchmark.metrics import zeroshot_retrieval
from datasets import Dataset, Features, Image, Sequence, Value
from lmms_eval import tasks as package
from lmms_eval.api.metrics import anls, exact_match_hf_evaluate, mean
from lmms_eval.filters.extraction import RegexFilter
from lmms_eval.tasks._task_utils import mmmu_mcq_utils
from lmms_eval.tasks.ai2d import utils as ai2d
from lmms_eval.tasks.chartqa import utils as chartqa
from lmms_eval.tasks.coco_cap import utils as coco
from lmms_eval.tasks.docvqa import utils as docvqa
from lmms_eval.tasks.fleurs import utils as fleurs
from lmms_eval.tasks.gqa import utils as gqa
from lmms_eval.tasks.hallusion_bench import evaluate_hb as hallusion
from lmms_eval.tasks.librispeech import utils as librispeech
from lmms_eval.tasks.mathvista import utils as mathvista
from lmms_eval.tasks.mmau import utils as mmau
from lmms_eval.tasks.mmbench import en_utils as mmbench
from lmms_eval.tasks.mmmu import utils as mmmu
from lmms_eval.tasks.mmmu_pro import utils as mmmu_pro
from lmms_eval.tasks.mmstar import utils as mmstar
from lmms_eval.tasks.mvbench import utils as mvbench
from lmms_eval.tasks.ocrbench import utils as ocrbench
from lmms_eval.tasks.pope import utils as pope
from lmms_eval.tasks.realworldqa import utils as realworldqa
from lmms_eval.tasks.scienceqa import utils as scienceqa
from lmms_eval.tasks.tempcompass import utils as tempcompass
from lmms_eval.tasks.textvqa import utils as textvqa
from lmms_eval.tasks.videomme import utils as videomme
from lmms_eval.tasks.vqav2 import utils as vqav2
from PIL import Image as Picture
from PIL import ImageDraw
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

here = pathlib.Path(__file__).parent
folder = here / "tasks"
only = sys.argv[1:]
for name in only or [""]:
    shutil.rmtree(folder / name, ignore_errors=True)
draw = random.Random(11)
golden = json.loads((here / "tasks.json").read_text()) if only else {}
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
    if only and name not in only:
        return
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

# MMMU-Pro: ten options, as text or in the picture. An answer that is not read is one of them at random.
options = lambda *texts: str(list(texts))
ten = [f"thing {at}" for at in range(10)]
pro = dict(id=T, question=T, options=T, explanation=T, **images, img_type=T, answer=T, topic_difficulty=T, subject=T)
rows = [dict(id=f"test_{at}", question=question, options=listed, explanation="", **{name: None for name in images} | {"image_1": picture(), "image_2": picture() if "<image 2>" in question + listed else None},
             img_type="['Table']", answer=answer, topic_difficulty="Medium", subject=subject)
        for at, (subject, question, listed, answer) in enumerate([
            ("Art", "<image 1> Which is it?", options(*ten), "J"), ("Math", "What of <image 1>?", options("<image 2>", "none of it", *ten[2:]), "B"),
            ("Math", "Name <image 1>", options(*ten), "D"), ("Art", "Who drew <image 1>?", options("Monet", "D'Angelo", *ten[2:]), "A"), ("Art", "Which <image 1>", options(*ten[:4]), "C")])]
said = ["(J)", "I think that it is clearly all of the above: none of it", "nobody knows", "The answer is B.", "C"]
total = 0
for choice in "ABCDEFGHIJ":
    mmmu_mcq_utils.random.choice, kept = (lambda choices, choice=choice: choice), mmmu_mcq_utils.random.choice
    results = [mmmu_pro.mmmu_pro_process_results(row, [answer])["mmmu_acc"] for row, answer in zip(rows, said)]
    mmmu_mcq_utils.random.choice = kept
    total += mmmu_pro.mmmu_pro_aggregate_results(results) / 10
task("mmmu_pro_standard", "standard (10 options)/test-00000-of-00002.parquet", pro, rows,
     [mmmu_pro.mmmu_pro_doc_to_text(row, prompts("mmmu_pro/mmmu_pro_standard.yaml")) for row in rows], said, dict(accuracy=total))
rows = [dict(id=f"test_{at}", image=picture(), options=options(*ten), answer="ABJD"[at], subject=["Art", "Music"][at % 2]) for at in range(4)]
said = ["A", "(B)", "J", "The answer is D."]
results = [mmmu_pro.mmmu_pro_process_results(row, [answer])["mmmu_acc"] for row, answer in zip(rows, said)]
task("mmmu_pro_vision", "vision/test-00000-of-00001.parquet", dict(id=T, image=Image(), options=T, answer=T, subject=T), rows,
     [mmmu_pro.mmmu_pro_doc_to_text(row, prompts("mmmu_pro/mmmu_pro_vision.yaml")) for row in rows], said, dict(accuracy=mmmu_pro.mmmu_pro_aggregate_results(results)))

# Circular evaluation: each question with its options in every order.
rows, said = [], []
for at, (texts, right, answers) in enumerate([
        (["cat", "dog", "cow", "hen"], 1, ["B", "A.", "(D)", "C: dog"]), (["red", "blue", "nan", "nan"], 0, ["A", "It must be A or B, I say", "nan", "nan"]),
        (["up", "down", "left", "nan"], 2, ["left", "The answer is B", "A", "nan"]), (["one", "two", "three", "four"], 3, ["A four-legged thing, so four", "C", "Option B", "E"])]):
    count = len([text for text in texts if text != "nan"])
    for turn in range(count):
        turned = [texts[(place + turn) % count] for place in range(count)] + ["nan"] * (4 - count)
        rows.append(dict(index=at + 1000000 * turn, question=f"What is {at}?", hint=["nan", "Look at the left."][at % 2], answer="ABCD"[(right - turn) % count],
                         **dict(zip("ABCD", turned)), category=["object_localization", "ocr"][at % 2], image=picture(), source="x", **{"L2-category": ["finegrained_perception", "logic"][at // 2]}, comment="nan", split="dev"))
        said.append(answers[turn])
results = [mmbench.mmbench_process_results(row, [answer])["gpt_eval_score"] for row, answer in zip(rows, said)]
evaluator = mmbench.mmbench_evaluator
whole, by_category, by_l2 = evaluator.eval_result(results, eval_method="static")
# Single questions by the same reading, where none stands for another.
single = [evaluator.eval_sub_data(mmbench.pd.DataFrame([result]), {result["index"]: result["answer"]}, static_only=True) for result in results]
task("mmbench_en_dev", "en/dev-00000-of-00001.parquet",
     dict(index=I, question=T, hint=T, answer=T, A=T, B=T, C=T, D=T, category=T, image=Image(), source=T, comment=T, split=T) | {"L2-category": T}, rows,
     [mmbench.mmbench_doc_to_text(row, prompts("mmbench/_default_template_mmbench_en_yaml")) for row in rows], said, dict(circular_accuracy=whole, accuracy=mean(single)))

# Figures as they are and changed, judged by the words of the answers.
rows, said = [], []
for at, (category, subset, figure, question, right, answer) in enumerate([
        ("VD", "illusion", 0, 0, "1", "Yes, both are equal."), ("VD", "illusion", 0, 1, "0", "No."), ("VD", "illusion", 1, 0, "0", "I see two lines. yes"), ("VD", "illusion", 1, 1, "1", "yes"),
        ("VS", "chart", 1, 0, "1", "Yes"), ("VS", "chart", 1, 1, "0", "It is not"), ("VS", "chart", 2, 0, "0", "The eyes see more"), ("VS", "map", 1, 0, "1", "True"), ("VS", "map", 2, 0, "0", "no"),
        ("VS", "map", 2, 1, "1", "Yes.")]):
    rows.append(dict(category=category, subcategory=subset, visual_input="1", set_id="0", figure_id=str(figure), sample_note="x", question_id=str(question), question=f"Is it {at}?",
                     gt_answer_details="It is.", gt_answer=right, filename=f"./{category}/{subset}/0_{figure}.png", image=picture()))
    said.append(answer)
results = [hallusion.hb_process_results(row, [answer])["aAcc"] for row, answer in zip(rows, said)]
task("hallusion_bench_image", "data/image-00000-of-00001.parquet",
     dict(category=T, subcategory=T, visual_input=T, set_id=T, figure_id=T, sample_note=T, question_id=T, question=T, gt_answer_details=T, gt_answer=T, filename=T, image=Image()), rows,
     [hallusion.hb_doc_to_text(row, prompts("hallusion_bench/hallusion_bench_image.yaml")) for row in rows], said,
     dict(accuracy=hallusion.hb_aggregation_result_aAcc_intern(results), question_accuracy=hallusion.hb_aggregation_result_qAcc_intern(results),
          figure_accuracy=hallusion.hb_aggregation_result_fAcc_intern(results)))

# Figures in mathematics: those with options. What lmms-eval asks a judge to take out of an answer is the answer here.
about = dict(category="math-targeted-vqa", context="geometry diagram", grade="high school", img_height=48, img_width=64, language="english", skills=["geometry reasoning"], source="Geometry3K", split="testmini", task="geometry problem solving")
rows = [dict(pid=str(at + 1), question=f"How long is {at}?", image=f"images/{at}.jpg", decoded_image=picture(), choices=[] if at == 2 else ["21", "12.5", "7"][: 3 - at % 2], unit=["", "cm"][at % 2], precision=1.0,
             answer=["12.5", "21", "4", "7", "12.5", "21"][at], question_type="free_form" if at == 2 else "multi_choice", answer_type="integer" if at == 2 else "text", metadata=about, query="x") for at in range(6)]
rows[3]["choices"] = ["21", "7"]
said = ["B", "(A) 21", "so it is 6", "The length is 12.4", ""]
asked = [row for row in rows if row["question_type"] == "multi_choice"]
results = []
for row, answer in zip(asked, said):
    with_answer = lambda response, problem, quick=False: response
    mathvista.mathvista_evaluator.extract_answer, kept = with_answer, mathvista.mathvista_evaluator.extract_answer
    results.append(mathvista.mathvista_process_results(dict(row, metadata=dict(about)), [answer])["llm_as_judge_eval"])
    mathvista.mathvista_evaluator.extract_answer = kept
task("mathvista_testmini_choice", "data/testmini-00000-of-00001-725687bf7a18d64b.parquet",
     dict(pid=T, question=T, image=T, decoded_image=Image(), choices=Sequence(T), unit=T, precision=Value("float64"), answer=T, question_type=T, answer_type=T,
          metadata=dict(category=T, context=T, grade=T, img_height=I, img_width=I, language=T, skills=Sequence(T), source=T, split=T, task=T), query=T), rows,
     [mathvista.mathvista_doc_to_text(row, dict(shot=0, shot_type="format-prompt", use_caption=False, use_ocr=False)) for row in asked], said, dict(accuracy=mathvista.mathvista_aggregate_results(results, None) / 100))

# Questions in one table, images in another.
rows = [dict(id=f"2{at}", imageId=f"n{at // 2}", question=f"What is left of {at}?", answer=["chair", "yes", "T-shirt"][at % 3], fullAnswer="x", isBalanced=True, groups={"global": "x", "local": "y"}, entailed="", equivalent="",
             types=dict(structural="query", semantic="rel", detailed="relO"), annotations=dict(question=[], answer=[], fullAnswer=[]), semantic=[], semanticStr="x") for at in range(5)]
said = ["Chair.", "Yes", "t shirt", "a chair", "yes "]
plain = dict(id=T, imageId=T, question=T, answer=T, fullAnswer=T, isBalanced=Value("bool"), groups={"global": T, "local": T}, entailed=T, equivalent=T, types=dict(structural=T, semantic=T, detailed=T),
             annotations=dict(question=Sequence(T), answer=Sequence(T), fullAnswer=Sequence(T)), semantic=Sequence(T), semanticStr=T)
asked = [gqa.gqa_doc_to_text(row, prompts("gqa/gqa.yaml")) for row in rows]
score = mean([exact_match_hf_evaluate([answer], [row["answer"]], ignore_case=True, ignore_punctuation=True)["exact_match"] for row, answer in zip(rows, said)])
task("gqa", "testdev_balanced_instructions/testdev-00000-of-00001.parquet", plain, rows, asked, said, dict(exact_match=score))
if not only or "gqa" in only:
    (folder / "gqa/testdev_balanced_images").mkdir()
    Dataset.from_list([dict(id=f"n{at}", image=picture()) for at in range(3)], features=Features(dict(id=T, image=Image()))).to_parquet(folder / "gqa/testdev_balanced_images/testdev-00000-of-00001.parquet")

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
SPLITS = [("refcoco", part) for part in ("val", "testA", "testB", "test")] + [("refcoco+", part) for part in ("val", "testA", "testB")] + [("refcocog", part) for part in ("val", "test")]
for family, part in SPLITS:
    utils = importlib.import_module(f"lmms_eval.tasks.{family}.utils_rec")
    first = (family, part) == SPLITS[0]
    rows = [dict(question_id=str(at), image=picture(), question="x", answer=["the left box", "a coloured box"][: 1 + at % 2], segmentation=[0.0], bbox=[8.0, 8.0, 24.0 + at, 16.0], iscrowd=0, file_name=f"{at // 2}.jpg")
            for at in range(3 if first else 2)]
    features = dict(question_id=T, image=Image(), question=T, answer=Sequence(T), segmentation=Sequence(Value("float32")), bbox=Sequence(Value("float32")), iscrowd=I, file_name=T)
    docs = list(utils.refcoco_bbox_rec_preprocess_dataset(Dataset.from_list(rows, features=Features(features))))
    said = ["[0.125, 0.16, 0.5, 0.5]", "[0.1, 0.1, 0.6, 0.6]", "no box", "[0.2, 0.2, 0.9, 0.9]"][: len(docs)]
    results = [utils.refcoco_bbox_rec_process_result(doc, [answer])["refcoco_IoU"] for doc, answer in zip(docs, said)]
    score = lambda metric: utils.refcoco_bbox_rec_aggregation_result(results, metric)
    task(f"{family}_bbox_rec_{part}", f"data/{part}-00000-of-00001.parquet", features, rows, [utils.refcoco_bbox_rec_doc_to_text(doc) for doc in docs], said,
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

rows = [dict(video_id=str(at // 2), question=f"What happens {at}?\nA. rising\nB. falling\nC. turning\nD. nothing", answer=["A. rising", "D. nothing"][at % 2], dim=["action", "speed"][at // 3]) for at in range(6)]
said = ["A. rising", "D", "A) rising", "The best option is D", "B.", "D. nothing at all"]
tempcompass.get_eval_result = lambda prompt: ("Incorrect", 0)
results = [tempcompass.tempcompass_process_results_multi_choice(row, [answer])["avg_accuracy"] for row, answer in zip(rows, said)]
task("tempcompass_multi_choice", "multi-choice/test-00000-of-00001.parquet", dict(video_id=T, question=T, answer=T, dim=T), rows,
     [tempcompass.tempcompass_doc_to_text_multi_choice(row, prompts("tempcompass/_default_template_yaml")) for row in rows], said, dict(accuracy=tempcompass.tempcompass_aggregate_rating(results, None) / 100))

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
rows = [dict(id=1600 + at // 2, num_samples=1600, path=f"{at}.wav", audio=sound("a.wav"), transcription=text, raw_transcription=text.capitalize() + ".", gender=1, lang_id=19, language="English", lang_group_id=0)
        for at, text in enumerate(["the colour of the 2 cars isn't known", "mr smith arrived at 10 o'clock", "however due to the slow speed it took days"])]
said = ["The color of the two cars is not known.", "Mister Smith, arrived at ten o'clock", "However, due to slow speed, it took a few days!"]
results = [fleurs.fleurs_process_result(row, [answer])["wer"] for row, answer in zip(rows, said)]
task("fleurs_en", "en_us/test-00000-of-00001.parquet", dict(id=I, num_samples=I, path=T, audio=SOUND, transcription=T, raw_transcription=T, gender=I, lang_id=I, language=T, lang_group_id=I), rows,
     [fleurs.fleurs_doc_to_text(row, prompts("fleurs/_default_template_yaml")) for row in rows], said, dict(wer=fleurs.fleurs_wer(results, None) / 100))
rows = [dict(id=1700 + at // 2, num_samples=1600, path=f"{at}.wav", audio=sound("a.wav"), transcription=text, raw_transcription=text, gender=1, lang_id=15, language="Mandarin Chinese", lang_group_id=6)
        for at, text in enumerate(["这 并 不 是 告 别", "火 箭 在 海 上 坠 落", "今 天 天 气 很 好"])]
said = ["这不是告别。", "火箭在海上坠落了", "今天，天汽很好！"]
results = [fleurs.fleurs_process_result(row, [answer])["wer"] for row, answer in zip(rows, said)]
task("fleurs_cmn_hans_cn", "cmn_hans_cn/test-00000-of-00001.parquet", dict(id=I, num_samples=I, path=T, audio=SOUND, transcription=T, raw_transcription=T, gender=I, lang_id=I, language=T, lang_group_id=I), rows,
     [fleurs.fleurs_doc_to_text(row, prompts("fleurs/_default_template_yaml")) for row in rows], said, dict(wer=fleurs.fleurs_wer(results, None) / 100))
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

# Problems of school mathematics: the filters and the comparison of the task's file.
file = yaml.safe_load((pathlib.Path(package.__file__).parent / "gsm8k/gsm8k-cot-zeroshot.yaml").read_text())
rows = [dict(question=f"Ann has {at} eggs and sells {at} more. How many?", answer=f"She has {at}.\n{at}+{at}=<<{at}+{at}={answer}>>{answer}\n#### {answer}") for at, answer in enumerate(["18", "1,024", "7", "-3", "70000", "5"])]
said = ["So it is 9 * 2 = 18. The answer is 18.", "She makes $1,024 a day.", "The answer is 7", "The answer is -3. ", "Betty earns 70000.00 dollars", "none"]
score = {}
for name, chain in (("strict_match", file["filter_list"][0]), ("exact_match", file["filter_list"][1])):
    first = chain["filter"][0]
    read = RegexFilter(first["regex_pattern"], first.get("group_select", 0)).apply([[answer] for answer in said], rows)
    settings = {key: file["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    score[name] = mean([float(exact_match_hf_evaluate(one, [row["answer"]], **settings)["exact_match"]) for one, row in zip(read, rows)])
task("gsm8k", "main/test-00000-of-00001.parquet", dict(question=T, answer=T), rows, [f"Q: {row['question']}\nA: Let's think step by step." for row in rows], said, score)



# Embeddings: what clip-benchmark, torch and scipy make of them. The vectors stand in for a model's; each is of length one.
def unit(*shape):
    vectors = torch.tensor(np.random.default_rng(sum(shape)).normal(size=shape), dtype=torch.float32)
    return torch.nn.functional.normalize(vectors, dim=-1)


def embedded(name, said, scores, asked, **vectors):
    if not only or name in only:
        golden[name] = dict(prompts=asked, answers=said, scores={k: float(v) for k, v in scores.items()}, **{key: [" ".join(map(str, vector)) for vector in value.tolist()] for key, value in vectors.items()})


rows = [dict(image=picture(), label=at * 5 % 7) for at in range(9)]
names = [f"class {at}" for at in range(7)]
templates = ["a photo of a {c}.", "the {c} in a game"]


class Texts:
    """A model whose embedding of a text is a row of a table."""

    def encode_text(self, texts):
        return texts


texts, images = unit(7, 2, 16), unit(9, 16)
table = {template.format(c=name): texts[at, which] for at, name in enumerate(names) for which, template in enumerate(templates)}
classifier = zeroshot.zero_shot_classifier(Texts(), lambda words: torch.stack([table[word] for word in words]), names, templates, "cpu", amp=False)
logits, target = images @ classifier, torch.tensor([row["label"] for row in rows])
top_1, top_5 = (top_k_accuracy_score(target, logits, k=k, labels=range(7)) for k in (1, 5))
task("imagenet1k_zeroshot", "data/validation-00000-of-00014.parquet", dict(image=Image(), label=I), rows, [""] * 9, [""] * 9, {})
embedded("imagenet1k_zeroshot", [""] * 9, dict(top_1=top_1, top_5=top_5, mean_per_class_recall=balanced_accuracy_score(target, logits.argmax(1))), [""] * 9, images=images, texts=texts.flatten(0, 1))
if not only or "imagenet1k_zeroshot" in only:
    (folder / "imagenet1k_zeroshot/classnames.txt").write_text("\n".join(names) + "\n")
    (folder / "imagenet1k_zeroshot/zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")

rows = [dict(question_id=f"{at:012}.jpg", image=picture(), question="x", answer=[f"text {at} {which}" for which in range(5)], id=at, license=0, file_name=f"{at:012}.jpg", coco_url="", height=48, width=64, date_captured="") for at in range(12)]
images = unit(12, 24)
texts = torch.nn.functional.normalize(images.repeat_interleave(5, 0) + 2.2 * unit(60, 24), dim=-1)
scores, pairs = texts @ images.t(), torch.eye(12, dtype=bool).repeat_interleave(5, 0)
found = {}
for k in (1, 5, 10):
    found[f"image_retrieval_recall@{k}"] = (zeroshot_retrieval.recall_at_k(scores, pairs, k) > 0).double().mean()
    found[f"text_retrieval_recall@{k}"] = (zeroshot_retrieval.recall_at_k(scores.T, pairs.T, k) > 0).double().mean()
task("coco2017_retrieval", "data/val-00000-of-00002.parquet",
     dict(question_id=T, image=Image(), question=T, answer=Sequence(T), id=I, license=Value("int8"), file_name=T, coco_url=T, height=Value("int32"), width=Value("int32"), date_captured=T), rows, [""] * 12, [""] * 12, {})
embedded("coco2017_retrieval", [""] * 12, found, [""] * 12, images=images, texts=texts)

rows = [dict(sentence1=f"A man plays {at}.", sentence2=f"Someone plays {at}.", score=score) for at, score in enumerate([0.0, 0.2, 0.2, 0.44, 0.68, 0.76, 0.9, 1.0])]
texts = unit(16, 8)
cosines = (texts[0::2].double() * texts[1::2].double()).sum(1).numpy()
people = [row["score"] for row in rows]
task("stsb_test", "data/test-00000-of-00001.parquet", dict(sentence1=T, sentence2=T, score=Value("float64")), rows, [row["sentence1"] for row in rows], [""] * 8, {})
embedded("stsb_test", [""] * 8, dict(cosine_spearman=scipy.stats.spearmanr(cosines, people).statistic, cosine_pearson=scipy.stats.pearsonr(cosines, people).statistic), [row["sentence1"] for row in rows], texts=texts)

# Shards as `percept data build` writes them: files of a sample one after the other, its turns in a document.
said = ["animals", "food", "Flags", "rising."]
rows = []
if not only or "emoji_world" in only:
    for number, (name, medium) in enumerate([("category", "png"), ("sound", "wav")]):
        place = folder / f"emoji_world/{name}/held-out/00000.tar"
        place.parent.mkdir(parents=True)
        with tarfile.open(place, "w", format=tarfile.USTAR_FORMAT) as tar:
            for at in range(3 - 2 * number):
                answer, question = (["animals", "objects", "flags"][at], "Which category is this?") if medium == "png" else ("rising", "Is the sound rising, falling or steady?")
                kind = dict(png="image", wav="audio")[medium]
                turns = [dict(role="user", content=[dict(type=kind), dict(type="text", text=question)]), dict(role="assistant", content=answer)]
                drawn = io.BytesIO()
                picture(48, 48).save(drawn, "PNG")
                for extension, content in ((medium, drawn.getvalue() if medium == "png" else tone()), ("json", json.dumps(dict(messages=turns, meta=dict(task=name, answer=answer))).encode())):
                    info = tarfile.TarInfo(f"{name}-{at}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                rows.append((question, answer))
    golden["emoji_world"] = dict(prompts=[question for question, _ in rows], answers=said,
                                 scores=dict(exact_match=mean([float(exact_match_hf_evaluate([answer], [right])["exact_match"]) for answer, (_, right) in zip(said, rows)])))

(here / "tasks.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
