"""What published code makes of texts, boxes, ranks and classes: the oracle of eval/src/metric.

usage: python eval/tests/golden/metrics.py
Writes metrics.json beside this file. Made with lmms-eval 0.7.3, pycocoevalcap 1.2 (and Java for its tokenizer), jiwer 4.0.0,
whisper-normalizer 0.1.15, scikit-learn 1.9.1 and scipy 1.17.1.
"""
import itertools
import json
import os
import pathlib
import random

os.environ.setdefault("HF_HOME", "/tmp")
import jiwer
import lmms_eval.tasks
import numpy as np
import scipy.stats
import sklearn.metrics
import yaml
from lmms_eval.api.metrics import anls, exact_match_hf_evaluate
from lmms_eval.api.metrics import levenshtein_distance as distance
from lmms_eval.filters.extraction import RegexFilter
from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
from lmms_eval.tasks._task_utils import mmmu_mcq_utils as mcq
from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.mmmu import utils as mmmu
from lmms_eval.tasks.mathvista import utils as mathvista_utils
from lmms_eval.tasks.mmbench import en_utils as mmbench_utils
from lmms_eval.tasks.mvbench.utils import mcq_acc
from lmms_eval.tasks.ocrbench.utils import ocrbench_process_results
from lmms_eval.tasks.refcoco import utils_rec as boxes
from lmms_eval.tasks.scienceqa.utils import sqa_process_results
from lmms_eval.tasks.tempcompass import utils as tempcompass_utils
from lmms_eval.tasks.textvqa.utils import textvqa_process_results
from lmms_eval.tasks.vqav2.utils import vqav2_process_results
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

draw = random.Random(7)
out = {}

# Multiple choice. An empty text stands for an answer that takes no option.
OPTIONS = ["a red car", "the green house", "blue", "Black and white"]
ANSWERS = """B
b
B.
(B)
(B) the green house
B. the green house
B) the green house
B: the green house
The answer is B
The answer is B.
the correct answer is (C).
Answer: D
**Answer:** D
**C**
I think it is A, but on second thought C
(A) is wrong, so (D)
A dog sits on the mat
Cannot say
DNA is shown
I choose D because it fits
It must be the green house because of the colour
the picture shows a red car beside the green house, so it is the green house
none of the above
E
A B C D
The best option is: A
答案是C
정답은 B
A.B.
\"A\"
'C'
D!
option A or option B
The final choice is C, not D
ABCD
a
The answer is not A. It is B.
the answer is blue
blue
Both A and C are right
C .
(a)
 B 
because of that, the black and white one is the one we need here
the Correct Option is d
My answer is A
I
A: a red car
Option B""".split("\n") + ["", "B\nthe green house", "Let me see.\nThe answer is (A)."]
letters = ["A", "B", "C", "D"]


def mmmu_choice(answer):
    mcq.random.choice, kept = (lambda _: ""), mcq.random.choice
    try:
        return mcq.parse_mmmu_multi_choice_response(answer, letters, dict(zip(letters, OPTIONS)))
    finally:
        mcq.random.choice = kept


def mvbench(answer):
    right = [letter for letter in letters if mcq_acc(letter, answer)]
    return right[0] if right else ""


def science(answer):
    right = [letters[at] for at in range(4) if sqa_process_results(dict(choices=OPTIONS, answer=at), [answer])["exact_match"]]
    return right[0] if right else ""


def mmbench(answer):
    """As eval_sub_data reads an answer where no judge is asked."""
    answer = answer.strip()
    item = dict(zip(letters, OPTIONS), prediction=answer)
    return mmbench_utils.mmbench_evaluator.prefetch_answer(item) or extract_mcq_answer(answer, letters)


def mathvista(answer):
    return letters[OPTIONS.index(mathvista_utils.mathvista_evaluator.normalize_extracted_answer(answer.strip(), OPTIONS, "multi_choice", "text", 0))]


def tempcompass(answer):
    rated = lambda letter: tempcompass_utils.tempcompass_process_results_multi_choice(dict(video_id="", question="", answer=f"{letter}. x", dim="action"), [answer])["avg_accuracy"]["rating"]
    right = [letter for letter in letters if rated(letter)]
    return right[0] if right else ""


tempcompass_utils.get_eval_result = lambda prompt: ("Incorrect", 0)
out["choice"] = dict(options=OPTIONS, cases=[
    dict(answer=a, ranked=extract_mcq_answer(a, letters), mmmu=mmmu_choice(a), mvbench=mvbench(a), letter=science(a), mmbench=mmbench(a), mathvista=mathvista(a), tempcompass=tempcompass(a),
         bare=a if a in letters else "") for a in ANSWERS])

# The last number of an answer, and the one after a phrase.
NUMBERS = [("So it is 18.", "18"), ("The answer is 18", "18"), ("The answer is 18.", "18"), ("$1,024.50 in all", "1024.50"), ("The answer is $5.", "5"), ("12 and 7", "7"), ("7 and ...", "7"), ("-3", "-3"),
           ("The answer is -3.0 or so", "-3.0"), ("The answer is 1,000,000!", "1000000"), ("none", "0"), ("5", "5"), ("the answer is 5 ", "5"), ("x=4.", "4"), ("10%", "10"), ("The answer is 7. The answer is 8.", "8"),
           ("", "1"), ("$", "1"), ("The answer is 3 apples", "#### 3"), ("about 2.", "So 1+1=<<1+1=2>>2\n#### 2")]
gsm8k = yaml.safe_load((pathlib.Path(lmms_eval.tasks.__file__).parent / "gsm8k/gsm8k-cot-zeroshot.yaml").read_text())


def number(answer, right, at):
    first = gsm8k["filter_list"][at]["filter"][0]
    read = RegexFilter(first["regex_pattern"], first.get("group_select", 0)).apply([[answer]], [None])[0]
    settings = {key: gsm8k["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    return bool(exact_match_hf_evaluate(read, [right], **settings)["exact_match"])


out["numbers"] = [dict(answer=a, right=r, free=number(a, r, 1), strict=number(a, r, 0)) for a, r in NUMBERS]

# Open questions of MMMU.
OPEN = [("The answer is 12.5", "12.5"), ("so x = 1,234", "1234"), ("it could be red\nor blue", "blue"), ("1e3 apples", "1000"), ("B", "b"),
        ("the result is 3.14159", "3.14"), ("2/3", "2/3"), ("thus the force is -5 N.", "-5"), ("nothing", "7"), ("...", "x"), ("= 42", "42"),
        ("Therefore the final answer is\n: 9", "9"), ("It is Paris", "paris"), ("paris.", "Paris"), ("a", "a"), ("x is a", "a"), ("0.666", "0.67"),
        ("12,34", "12"), ("-1,234,567.5 units", "-1234567.5"), ("answer x", "answer"), ("is ", ""), ("result 5 result 6", "6"), ("1_000", "1000"),
        ("['1', '2']", "1"), ("it is inf", "inf"), ("50%", "50%"), ("$20", "20"), ("3 and 4", "4"), (".5", "0.5"), ("5.", "5")]
out["open"] = [dict(answer=a, right=r, score=bool(mmmu.eval_open(r, mmmu.parse_open_response(a)))) for a, r in OPEN]

# VQA accuracy.
VQA = [("Yes.", ["yes"] * 9 + ["no"]), ("two", ["2"] * 3 + ["3"] * 7), ("the cat", ["cat", "a cat", "dog", "cats", "cat", "kitten", "x", "y", "z", "w"]),
       ("dont know", ["don't know", "no"] + ["yes"] * 8), ("1,000", ["1000"] * 2 + ["1,000"] * 8), ("3.5", ["3.5"] * 1 + ["35"] * 9),
       ("coca-cola", ["coca cola"] * 4 + ["coke"] * 6), ("U.S.A.", ["usa"] * 5 + ["us"] * 5), ("it's", ["it 's"] * 5 + ["its"] * 5), ("", ["a"] * 10),
       ("what?", ["what"] * 10), ("A-B; c/d", ["a b c d"] * 5 + ["ab cd"] * 5), ("none", ["0"] * 10), ("ten\ntimes", ["10 times"] * 10),
       ("Man's", ["mans"] * 5 + ["man 's"] * 5), ("x" + "." * 40, ["x"] * 10), ("(left)", ["left"] * 6 + ["right"] * 4), ("yall", ["y'all"] * 10),
       ("5:30", ["5:30"] * 2 + ["530"] * 8)]


def vqa2(answer, people):
    doc = dict(question_id=0, answers=[dict(answer=p, answer_id=at) for at, p in enumerate(people)])
    return vqav2_process_results(doc, [answer])["exact_match"]


out["vqa"] = [dict(answer=a, people=p, textvqa=textvqa_process_results(dict(question_id=0, answers=list(p)), [a])["exact_match"],
                   vqav2=vqa2(a, p)) for a, p in VQA]
texts = sorted({t for a, p in VQA for t in [a, *p]} | {"".join(draw.choice("ab 1,.'-()?\"s/") for _ in range(9)) for _ in range(200)})
out["evalai"] = [dict(text=t, normalized=EvalAIAnswerProcessor()(t)) for t in texts]

# Edit distances; `fair` divides by the lengths of what is compared.
ANLS = [("paris", ["Paris"]), (" Paris  ", ["paris"]), ("pari", ["paris", "london"]), ("abc", ["xyz"]), ("", ["a"]), ("  the   cat ", ["the cat", "a cat"]),
        ("12/05/2001", ["12/05/2002"]), ("straße", ["strasse"]), ("$1,000", ["1,000", "$1000"]), ("a b", ["ab"]), ("   parix   ", ["paris"]), ("Ünïcode", ["unicode"])]


def fair(answer, right):
    plain = lambda t: " ".join(t.strip().lower().split())
    best = max(1 - distance(plain(r), plain(answer)) / max(len(plain(r)), len(plain(answer)), 1) for r in right)
    return best if best >= 0.5 else 0.0


out["anls"] = [dict(answer=a, right=r, score=float(anls(r, [a])["anls"]), fair=fair(a, r)) for a, r in ANLS]

# Relaxed accuracy.
RELAXED = [("5%", "5"), ("5", "5%"), ("0.05", "5%"), ("104", "100"), ("106", "100"), ("95", "100"), ("0", "0.0"), ("0", "0"), ("-10", "-10.4"), ("Yes", "yes"),
           ("yes.", "Yes"), ("1,000", "1000"), (" 12 ", "12"), ("12.", "12"), ("1e2", "100"), ("nan", "3"), ("inf", "3"), ("abc", "abd"), ("50 %", "50%"), ("", ""), ("1_0", "10")]
out["relaxed"] = [dict(answer=a, right=r, score=bool(relaxed_correctness(a, r))) for a, r in RELAXED]

# Substrings.
SUBSTRING = [("The word is CENTRE.", ["centre"], "IC13"), ("ＡＢＣ　12", ["abc 12"], "IC13"), ("a b", ["ab"], "HME100k"), ("x ^ 2", ["X^2"], "HME100k"),
             ("x ^ 2", ["x^2"], "HME100k"), ("one\ntwo", ["one two"], "x"), ("no", ["yes", "n"], "x"), ("", ["a"], "x")]
out["substring"] = [dict(answer=a, right=r, squeezed=d == "HME100k",
                         score=ocrbench_process_results(dict(answer=r, dataset=d, question_type=""), [a])["ocrbench_accuracy"]["score"]) for a, r, d in SUBSTRING]

# Exact match.
EXACT = [("Yes.", "yes"), ("a, b", "a b"), ("  x", "x"), ("Straße", "straße"), ("it's", "its"), ("no", "yes"), ("“x”", "x"), ("", "")]
out["exact"] = [dict(answer=a, right=r, plain=bool(exact_match_hf_evaluate([a], [r])["exact_match"]),
                     loose=bool(exact_match_hf_evaluate([a], [r], ignore_case=True, ignore_punctuation=True)["exact_match"])) for a, r in EXACT]

# Boxes.
BOXES = ["[0.1, 0.2, 0.5, 0.6]", "The box is [0.15,0.2,0.45,0.65].", "nothing", "[1, 2, 3]", "[0,0,1,1] and [0.1, 0.2, 0.5, 0.6]", "[-0.5, 0.1, 0.3, 0.4]",
         "[ 0.5 , 0.6, 0.1, 0.2]", "[0.1, 0.2, 0.5, 0.6 ]"]
right = [0.1, 0.2, 0.5, 0.6]
out["boxes"] = []
for answer in BOXES:
    found = boxes.parse_float_sequence_within(answer)
    out["boxes"].append(dict(answer=answer, right=right, found=found, iou=boxes.compute_iou(right, found), centred=bool(boxes.compute_center_accuracy(right, found))))

# Words.
HEARD = [("Mr. Smith won't pay $20 million.", "mister smith will not pay 20 million dollars"), ("It's twenty-five past three o'clock", "its 25 past three"),
         ("The colour of grey", "the color of gray"), ("one two three", "one three"), ("hello world", ""), ("Ça va, naïve", "ca va naive"),
         ("um, well (applause) yes", "well yes"), ("He said [noise] nothing.", "he said nothing at all"), ("a b c", "a x b c"), ("double oh seven", "007"),
         ("这是一个(笑)测试，对吗？", "这 是个测试 对"), ("ภาษาไทยนี้", "ภาษาไทนี"), ("Ｗｉ－Ｆｉ 很好", "wifi很 好")]
out["words"] = []
for kind, apply in (("english", EnglishTextNormalizer()), ("basic", BasicTextNormalizer()), ("letters", lambda t: BasicTextNormalizer(split_letters=True)(t).strip()), ("plain", lambda t: t)):
    pairs = [(apply(r), apply(h)) for r, h in HEARD]
    refs, hyps = [p[0] for p in pairs], [p[1] for p in pairs]
    out["words"].append(dict(normalizer=kind, pairs=HEARD, normalized=pairs, wer=jiwer.wer(refs, hyps), cer=jiwer.cer(refs, hyps)))

# Captions.
CAPTIONS = [("A man's dog can't swim (really).", ["A dog that can't swim.", "The man's dog isn't swimming.", "a dog near the water"]),
            ("Two men riding black-and-white horses down a street.", ["Two men ride horses.", "Two policemen on black-and-white horses", "Men riding down the street on horses."]),
            ("a red stop sign that says \"Stop\" on St. Mark's Ave.", ["A stop sign at St. Mark's Ave. in the U.S.", "A red sign says 'stop'.", "the sign reads STOP!"]),
            ("It costs $5.50, 50% of 1,000 at 10:30 p.m.", ["A price of $5.50 is shown", "50% off at 10:30 p.m.", "the prices are listed"]),
            ("A kitchen with a stove, sink & refrigerator", ["A kitchen with a sink and/or a stove", "The kitchen has a stove - and a sink", "a small kitchen -- very clean..."]),
            ("cannot tell; they're gonna play rock 'n' roll", ["They are going to play.", "They're gonna play rock 'n' roll", "people playing music"]),
            ("a 2-story house", ["A two-story house.", "The 1990s house, No. 5", "An old house built in the '90s"]),
            ("", ["nothing", "an empty image", "no caption here"]),
            ("a cat on a mat", ["a cat on a mat", "the cat sat on the mat", "a cat lying on a rug"]),
            ("People at O'Neil's bar watching T.V.", ["People watch TV in a bar", "A group of people at O'Neil's", "several people who've had a drink"])]
words = "a the man woman dog cat two red blue big small sits stands on in near with table street field riding holding ball umbrella train".split()
for _ in range(30):
    text = lambda: " ".join(draw.choice(words) for _ in range(draw.randint(4, 12))).capitalize() + draw.choice([".", "", "!"])
    base = text()
    CAPTIONS.append((base if draw.random() < 0.3 else text(), [base] + [text() for _ in range(4)]))
gts = {at: [dict(caption=c) for c in refs] for at, (_, refs) in enumerate(CAPTIONS)}
res = {at: [dict(caption=c)] for at, (c, _) in enumerate(CAPTIONS)}
gts, res = PTBTokenizer().tokenize(gts), PTBTokenizer().tokenize(res)
bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
cider, each_cider = Cider().compute_score(gts, res)
rouge, each_rouge = Rouge().compute_score(gts, res)
out["captions"] = dict(cases=[dict(caption=c, references=r, tokens=res[at][0], reference_tokens=gts[at], cider=float(each_cider[at]), rouge=float(each_rouge[at]))
                              for at, (c, r) in enumerate(CAPTIONS)], bleu=[float(b) for b in bleu], cider=float(cider), rouge=float(rouge))

# Ranks.
a = [draw.choice([1, 2, 3, 4.5, 5]) for _ in range(40)]
b = [x + draw.choice([-1, 0, 0, 2]) for x in a]
out["spearman"] = dict(a=a, b=b, value=float(scipy.stats.spearmanr(a, b).statistic), pearson=float(scipy.stats.pearsonr(a, b).statistic))

# Classes.
classes = ["ant", "bee", "cat", "dog"]
truth = [draw.choice(classes[:3]) for _ in range(120)]
given = [t if draw.random() < 0.6 else draw.choice(classes) for t in truth]
precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(truth, given, labels=classes, zero_division=0)
specificity = [sklearn.metrics.recall_score([t != c for t in truth], [g != c for g in given], zero_division=0) for c in classes]
out["classes"] = dict(classes=classes, truth=truth, given=given, precision=precision.tolist(), recall=recall.tolist(), f1=f1.tolist(), support=support.tolist(),
                      specificity=specificity, matrix=sklearn.metrics.confusion_matrix(truth, given, labels=classes).tolist(), macro_f1=float(f1.mean()),
                      balanced=sklearn.metrics.balanced_accuracy_score(truth, given))

# Calibration: numpy sorts confidences into bins.
confidence = [round(draw.random(), 3) for _ in range(200)]
correct = [draw.random() < c for c in confidence]
bins = np.clip(np.digitize(confidence, np.linspace(0, 1, 11), right=True) - 1, 0, 9)
gap = lambda k: abs(np.mean(np.array(correct)[bins == k]) - np.mean(np.array(confidence)[bins == k])) * (bins == k).sum()
out["calibration"] = dict(confidence=confidence, correct=correct, bins=10, ece=float(sum(gap(k) for k in range(10) if (bins == k).any()) / len(correct)))

# McNemar: the exact test is the binomial one.
out["mcnemar"] = [dict(first=f, second=s, p=float(scipy.stats.binomtest(min(f, s), f + s, 0.5).pvalue) if f + s else 1.0)
                  for f, s in itertools.product([0, 1, 3, 10, 40], repeat=2)]

(pathlib.Path(__file__).parent / "metrics.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
