//! Metrics held to published code: `tests/golden/metrics.py` made the numbers.

use serde_json::Value;

use super::*;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/metrics.json")).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn near(found: f64, expected: &Value, what: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-9, "{found} is not {expected}: {what}");
}

#[test]
fn options_are_read_as_the_published_rules_read_them() {
    let golden = &golden()["choice"];
    let options = texts(&golden["options"]);
    let all = [
        (choice::Rules::Ranked, "ranked"),
        (choice::Rules::Mmmu, "mmmu"),
        (choice::Rules::Mvbench, "mvbench"),
        (choice::Rules::Letter, "letter"),
        (choice::Rules::Bare, "bare"),
        (choice::Rules::Mmbench, "mmbench"),
        (choice::Rules::Mathvista, "mathvista"),
        (choice::Rules::Tempcompass, "tempcompass"),
    ];
    let mut wrong = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        for (rules, name) in all {
            let answer = text(&case["answer"]);
            let found = choice::choose(rules, &answer, &options, Compat::LmmsEval)
                .map_or(String::new(), choice::letter);
            if found != case[name] {
                wrong.push(format!("{name} {answer:?}: {found:?}, and not {}", case[name]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_are_found_as_the_filters_of_gsm8k_find_them() {
    for case in golden()["numbers"].as_array().unwrap() {
        let found = number::are_right(&text(&case["answer"]), &text(&case["right"]), Compat::LmmsEval);
        assert_eq!(found.map(Value::from), [case["free"].clone(), case["strict"].clone()], "{case}");
    }
}

#[test]
fn open_answers_are_right_where_mmmu_says_so() {
    for case in golden()["open"].as_array().unwrap() {
        let found = open_answer::is_right(&text(&case["answer"]), &text(&case["right"]), Compat::LmmsEval);
        assert_eq!(found, case["score"], "{case}");
    }
    assert!(open_answer::is_right("it is 2", "['1', '2']", Compat::None), "a list of right answers");
}

#[test]
fn people_are_agreed_with_as_in_vqa() {
    for case in golden()["evalai"].as_array().unwrap() {
        assert_eq!(vqa::Normalization::EvalAi.apply(&text(&case["text"])), case["normalized"], "{case}");
    }
    for case in golden()["vqa"].as_array().unwrap() {
        let (answer, people) = (text(&case["answer"]), texts(&case["people"]));
        near(vqa::accuracy(vqa::Normalization::EvalAi, &answer, &people), &case["textvqa"], case);
        near(vqa::accuracy(vqa::Normalization::V2, &answer, &people), &case["vqav2"], case);
    }
}

#[test]
fn spelling_counts_as_in_lmms_eval_and_as_it_should() {
    let mut differ = 0;
    for case in golden()["anls"].as_array().unwrap() {
        let (answer, right) = (text(&case["answer"]), texts(&case["right"]));
        near(anls::anls(&answer, &right, Compat::LmmsEval), &case["score"], case);
        near(anls::anls(&answer, &right, Compat::None), &case["fair"], case);
        differ += usize::from(case["score"] != case["fair"]);
    }
    assert!(differ > 0);
}

#[test]
fn numbers_may_be_off_by_a_twentieth() {
    for case in golden()["relaxed"].as_array().unwrap() {
        let found = relaxed::is_right(&text(&case["answer"]), &text(&case["right"]), Compat::LmmsEval);
        assert_eq!(found, case["score"], "{case}");
    }
    for (answer, right, expected) in
        [("5%", "5", true), ("0", "0.0", true), (" 12. ", "12", true), ("6%", "5", false)]
    {
        assert_eq!(relaxed::is_right(answer, right, Compat::None), expected, "{answer} {right}");
    }
}

#[test]
fn texts_match_and_hold_one_another() {
    for case in golden()["substring"].as_array().unwrap() {
        let squeezed = case["squeezed"].as_bool().unwrap();
        let found = substring::holds(&text(&case["answer"]), &texts(&case["right"]), squeezed);
        assert_eq!(u64::from(found), case["score"], "{case}");
    }
    for case in golden()["exact"].as_array().unwrap() {
        let (answer, right) = (text(&case["answer"]), [text(&case["right"])]);
        let loose = exact::Ignore { case: true, punctuation: true, ends: false };
        assert_eq!(exact::is_right(&answer, &right, exact::Ignore::default()), case["plain"], "{case}");
        assert_eq!(exact::is_right(&answer, &right, loose), case["loose"], "{case}");
    }
}

#[test]
fn boxes_overlap_as_refcoco_counts() {
    for case in golden()["boxes"].as_array().unwrap() {
        let corners = |value: &Value| <[f64; 4]>::try_from(numbers(value)).unwrap();
        let (right, found) = (corners(&case["right"]), boxes::parse(&text(&case["answer"])));
        assert_eq!(found.unwrap_or_default(), corners(&case["found"]), "{case}");
        near(boxes::iou(right, found.unwrap_or_default()), &case["iou"], case);
        assert_eq!(boxes::is_centred(right, found.unwrap_or_default()), case["centred"], "{case}");
    }
}

#[test]
fn words_are_wrong_as_jiwer_counts() {
    for case in golden()["words"].as_array().unwrap() {
        let normalizer: words::Normalizer = serde_json::from_value(case["normalizer"].clone()).unwrap();
        let (mut of_words, mut of_letters) = ((0, 0), (0, 0));
        for (pair, expected) in
            case["pairs"].as_array().unwrap().iter().zip(case["normalized"].as_array().unwrap())
        {
            let normal: Vec<String> = texts(pair).iter().map(|text| normalizer.apply(text)).collect();
            assert_eq!(normal, texts(expected), "{pair}");
            let (words, letters) =
                (words::word_errors(&normal[0], &normal[1]), words::character_errors(&normal[0], &normal[1]));
            of_words = (of_words.0 + words.0, of_words.1 + words.1);
            of_letters = (of_letters.0 + letters.0, of_letters.1 + letters.1);
        }
        near(of_words.0 as f64 / of_words.1 as f64, &case["wer"], &case["normalizer"]);
        near(of_letters.0 as f64 / of_letters.1 as f64, &case["cer"], &case["normalizer"]);
    }
}

#[test]
fn captions_score_as_the_coco_evaluation_scores_them() {
    let golden = &golden()["captions"];
    let mut captions = Vec::new();
    let mut sums = vec![0.0; 10];
    let mut rouges = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let caption = caption::tokens(&text(&case["caption"]));
        assert_eq!(caption.join(" "), case["tokens"], "{case}");
        let references: Vec<Vec<String>> =
            texts(&case["references"]).iter().map(|text| caption::tokens(text)).collect();
        for (found, expected) in references.iter().zip(texts(&case["reference_tokens"])) {
            assert_eq!(found.join(" "), expected, "{case}");
        }
        let rouge = caption::rouge_l(&caption, &references);
        near(rouge, &case["rouge"], case);
        rouges.push(rouge);
        sums.iter_mut()
            .zip(caption::Counts::of(&caption, &references).parts())
            .for_each(|(sum, part)| *sum += part);
        captions.push((caption, references));
    }
    let ciders = caption::cider(&captions);
    for (found, case) in ciders.iter().zip(golden["cases"].as_array().unwrap()) {
        near(*found, &case["cider"], case);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    near(mean(&ciders), &golden["cider"], &Value::Null);
    near(mean(&rouges), &golden["rouge"], &Value::Null);
    for (found, expected) in caption::bleu(&sums).iter().zip(golden["bleu"].as_array().unwrap()) {
        near(*found, expected, &golden["bleu"]);
    }
}

#[test]
fn ranks_classes_and_calibration_are_those_of_scipy_and_scikit_learn() {
    let golden = golden();
    let ranks = &golden["spearman"];
    near(ranks::spearman(&numbers(&ranks["a"]), &numbers(&ranks["b"])).unwrap(), &ranks["value"], ranks);
    near(ranks::pearson(&numbers(&ranks["a"]), &numbers(&ranks["b"])).unwrap(), &ranks["pearson"], ranks);
    let all = &golden["classes"];
    let classes = texts(&all["classes"]);
    let at = |name: &String| classes.iter().position(|class| class == name).unwrap();
    let mut confusion = classes::Confusion::new(classes.clone());
    for (truth, given) in texts(&all["truth"]).iter().zip(&texts(&all["given"])) {
        confusion.counts[at(truth)][at(given)] += 1;
    }
    let scores = confusion.scores();
    for (number, score) in scores.iter().enumerate() {
        near(score.precision, &all["precision"][number], all);
        near(score.sensitivity, &all["recall"][number], all);
        near(score.specificity, &all["specificity"][number], all);
        near(score.f1, &all["f1"][number], all);
        assert_eq!(score.support, all["support"][number]);
    }
    let calibration = &golden["calibration"];
    let right = calibration["correct"].as_array().unwrap().iter().map(|right| right.as_bool().unwrap());
    let answers: Vec<(f64, bool)> = numbers(&calibration["confidence"]).into_iter().zip(right).collect();
    near(classes::calibration_error(&answers, 10), &calibration["ece"], &Value::Null);
    for case in golden["mcnemar"].as_array().unwrap() {
        let (first, second) =
            (case["first"].as_u64().unwrap() as usize, case["second"].as_u64().unwrap() as usize);
        let run = |one: bool| [vec![one; first], vec![!one; second], vec![true; 5]].concat();
        let found = paired::mcnemar(&run(true), &run(false));
        assert_eq!((found.first, found.second), (first, second));
        near(found.p, &case["p"], case);
    }
}
