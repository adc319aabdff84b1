use std::collections::BTreeMap;
use std::fs;

use percept_graph::HostTensor;
use serde_json::{Value, json};

use super::*;
use crate::checkpoint::{BASE_FILE, Base, write, write_as};
use crate::parameters::ParameterSpecs as _;
use crate::weights::Weights;

const Q: &str = "base_model.model.model.layers.0.q_proj";
const TABLE: &str = "base_model.model.model.embed_tokens";

fn tensors(given: &[(&str, &[usize])]) -> BTreeMap<String, HostTensor> {
    let tensor = |(name, dims): &(&str, &[usize])| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|i| (i as f32 + 1.0) / 8.0).collect();
        (name.to_string(), HostTensor::from_f32(*dims, &values).unwrap())
    };
    given.iter().map(tensor).collect()
}

/// A tied model of one layer, and adapters to it.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let model =
            tensors(&[("model.layers.0.q_proj.weight", &[4, 3]), ("model.embed_tokens.weight", &[5, 3])]);
        write(&place.0.path().join("base"), &model, &BTreeMap::new()).unwrap();
        place
    }

    fn base(&self) -> Weights {
        Weights::new(Arc::new(Checkpoint::open(self.0.path().join("base")).unwrap()))
    }

    fn adapter(&self, name: &str, config: Value, given: &[(&str, &[usize])]) -> PathBuf {
        let folder = self.0.path().join(name);
        let files = BTreeMap::from([(FILE.to_string(), config.to_string().into_bytes())]);
        write_as(&folder, TENSORS, &tensors(given), &files).unwrap();
        folder
    }

    /// What is said about an adapter of q_proj with these settings and tensors.
    fn refusal(&self, settings: Value, given: &[(&str, &[usize])]) -> String {
        let mut config = json!({ "r": 2, "lora_alpha": 2, "target_modules": ["q_proj", "embed_tokens"] });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let folder = self.adapter("refused", config, given);
        let said = self.base().with_adapter(&folder).err().map(|e| e.to_string());
        fs::remove_dir_all(folder).unwrap();
        said.unwrap_or_else(|| panic!("{settings} {given:?} is taken"))
    }
}

#[test]
fn every_tensor_is_used_or_named() {
    let place = Fixture::new();
    let named = |part: &str| format!("{Q}.{part}");
    let (a, b) = (named("lora_A.weight"), named("lora_B.weight"));
    let whole: [(&str, &[usize]); 2] = [(&a, &[2, 3]), (&b, &[4, 2])];
    let with = |name: &'static str, dims: &'static [usize]| [whole[0], whole[1], (name, dims)];
    for (settings, given, said) in [
        (json!({}), vec![whole[0]], "its other half"),
        (json!({}), vec![whole[1]], "lora_A.weight"),
        (
            json!({}),
            vec![("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 5][..])],
            "lora_embedding_B",
        ),
        (json!({}), vec![], "holds no tensors"),
        (
            json!({}),
            with("base_model.model.model.layers.0.q_proj.lora_diag.default", &[2]).to_vec(),
            "lora_diag",
        ),
        (json!({}), with("base_model.model.model.layers.0.mlp.bias", &[2]).to_vec(), "layers.0.mlp.bias"),
        (json!({}), with("base_model.model.model.layers.0.q_proj.lora_B.bias", &[4]).to_vec(), "lora_bias"),
        (json!({ "lora_bias": true }), whole.to_vec(), "the bias of B"),
        (json!({ "use_dora": true }), whole.to_vec(), "lora_magnitude_vector"),
        (
            json!({}),
            with("base_model.model.model.layers.0.q_proj.lora_magnitude_vector", &[4]).to_vec(),
            "use_dora",
        ),
        (
            json!({ "use_dora": true }),
            with("base_model.model.model.layers.0.q_proj.lora_magnitude_vector", &[3]).to_vec(),
            "is not 4 values",
        ),
        (json!({ "target_modules": ["k_proj"] }), whole.to_vec(), "'target_modules'"),
        (json!({ "r": 4 }), whole.to_vec(), "rank 4"),
        (json!({ "modules_to_save": ["classifier"] }), whole.to_vec(), "'classifier'"),
        (json!({ "trainable_token_indices": [1] }), whole.to_vec(), "rows for 'the table'"),
        (
            json!({}),
            with("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", &[1, 3])
                .to_vec(),
            "no trainable_token_indices",
        ),
        (
            json!({ "trainable_token_indices": [7] }),
            with("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", &[1, 3])
                .to_vec(),
            "has 7",
        ),
        (
            json!({ "trainable_token_indices": [1, 2] }),
            with("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", &[1, 3])
                .to_vec(),
            "2 rows of 3",
        ),
        (
            json!({}),
            with("model.layers.0.q_proj.lora_A.default.weight", &[2, 3]).to_vec(),
            "several adapters",
        ),
        (json!({}), vec![(&a[..], &[2, 4][..]), whole[1]], "do not fit"),
        (json!({}), vec![whole[0], (&b[..], &[5, 2][..])], "another base"),
    ] {
        let found = place.refusal(settings, &given);
        assert!(found.contains(said), "{said}: {found}");
    }
    let elsewhere = [
        ("base_model.model.model.layers.7.q_proj.lora_A.weight", &[2, 3][..]),
        ("base_model.model.model.layers.7.q_proj.lora_B.weight", &[4, 2][..]),
    ];
    assert!(place.refusal(json!({}), &elsewhere).contains("no such layer"));
}

#[test]
fn a_pickle_is_refused_with_what_to_do() {
    let place = Fixture::new();
    let folder = place.adapter("pickle", json!({}), &[]);
    fs::rename(folder.join(TENSORS), folder.join("adapter_model.bin")).unwrap();
    let e = place.base().with_adapter(&folder).err().unwrap().to_string();
    assert!(e.contains("adapter_model.bin") && e.contains("safe_serialization"), "{e}");
}

#[test]
fn two_adapters_cannot_replace_the_same_tensor_and_replacing_has_no_weight() {
    let place = Fixture::new();
    let table = format!("{TABLE}.weight");
    let one = place.adapter("one", json!({ "modules_to_save": ["embed_tokens"] }), &[(&table, &[5, 3])]);
    let other = place.adapter("other", json!({ "modules_to_save": ["embed_tokens"] }), &[(&table, &[5, 3])]);
    let both = place.base().with_adapter(&one).unwrap().with_adapter(&other);
    assert!(both.err().unwrap().to_string().contains("another adapter replaces"));
    let half = place.base().with_weighted_adapter(&one, 0.5);
    assert!(half.err().unwrap().to_string().contains("no weight 0.5"));
}

#[test]
fn a_head_that_was_the_table_gets_a_tensor_of_its_own_only_where_they_differ() {
    let place = Fixture::new();
    let (a, b) = (format!("{TABLE}.lora_embedding_A"), format!("{TABLE}.lora_embedding_B"));
    let low: [(&str, &[usize]); 2] = [(&a, &[2, 5]), (&b, &[3, 2])];
    let config =
        |tied: bool| json!({ "r": 2, "target_modules": ["embed_tokens"], "ensure_weight_tying": tied });
    let apart = place.base().with_adapter(&place.adapter("apart", config(false), &low)).unwrap();
    assert!(apart.has("lm_head.weight") && !place.base().has("lm_head.weight"));
    assert!(apart.adapter("model.embed_tokens").is_some() && apart.adapter("lm_head").is_none());
    let values = |c: &Checkpoint, name: &str| floats(&c.weight(name).unwrap());
    let own = values(&Checkpoint::open(place.0.path().join("base")).unwrap(), "model.embed_tokens.weight");
    let merged = apart.merged().unwrap();
    assert_eq!(values(&merged, "lm_head.weight"), own);
    assert_ne!(values(&merged, "model.embed_tokens.weight"), own);
    assert_eq!(merged.config()["tie_word_embeddings"], false);
    let together = place.base().with_adapter(&place.adapter("together", config(true), &low)).unwrap();
    assert!(together.adapter("lm_head").is_some());
    let merged = together.merged().unwrap();
    assert_eq!(values(&merged, "lm_head.weight"), values(&merged, "model.embed_tokens.weight"));
}

#[test]
fn modules_of_the_base_that_are_listed_and_have_no_tensors_are_named() {
    let place = Fixture::new();
    let given: [(&str, &[usize]); 2] =
        [(&format!("{Q}.lora_A.weight"), &[2, 3]), (&format!("{Q}.lora_B.weight"), &[4, 2])];
    for (listed, named) in [("embed_tokens", true), ("of_another_family", false), ("q_proj", false)] {
        let config = json!({ "r": 2, "target_modules": ["q_proj", listed] });
        let folder = place.adapter("listed", config, &given);
        let overlaid = place.base().with_adapter(&folder).unwrap();
        let found = overlaid.doubts();
        assert_eq!(found.len(), usize::from(named), "{listed}: {found:?}");
        assert!(found.iter().all(|d| d.contains("lists embed_tokens among")), "{found:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn an_adapter_of_another_base_is_doubted_by_fingerprint_and_by_name() {
    let place = Fixture::new();
    let q: [(&str, &[usize]); 2] = [
        ("base_model.model.model.layers.0.q_proj.lora_A.weight", &[2, 3]),
        ("base_model.model.model.layers.0.q_proj.lora_B.weight", &[4, 2]),
    ];
    let doubts = |folder: &Path| place.base().with_adapter(folder).unwrap().doubts().to_vec();
    for (base, is_doubted) in
        [("org/base", false), ("Base", false), ("../base", false), ("org/other-7B", true)]
    {
        let config = json!({ "r": 2, "base_model_name_or_path": base });
        let folder = place.adapter("named", config, &q);
        let found = doubts(&folder);
        assert_eq!(found.len(), usize::from(is_doubted), "{base}: {found:?}");
        assert!(found.iter().all(|d| d.contains(base) && d.contains("/base'")), "{found:?}");
        fs::remove_dir_all(folder).unwrap();
    }
    let folder = place.adapter("printed", json!({ "r": 2, "base_model_name_or_path": "org/other" }), &q);
    let own = Base::of(place.base().checkpoint()).unwrap();
    fs::write(folder.join(BASE_FILE), json!({ "base": own }).to_string()).unwrap();
    assert!(doubts(&folder).is_empty());
    let other = Base { path: "elsewhere".into(), fingerprint: "sha256:0".into() };
    fs::write(folder.join(BASE_FILE), json!({ "base": other }).to_string()).unwrap();
    let found = doubts(&folder);
    assert!(found[0].contains("elsewhere") && found[0].contains("base"), "{found:?}");
}

#[test]
fn what_does_not_fit_a_stack_of_experts_is_named() {
    let place = Fixture(tempfile::tempdir().unwrap());
    // Two experts of width 2 over 3 features.
    let (both, down) = ("model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj");
    let model = tensors(&[(both, &[2, 4, 3]), (down, &[2, 3, 2])]);
    write(&place.0.path().join("base"), &model, &BTreeMap::new()).unwrap();
    let experts = "base_model.model.model.layers.0.mlp.experts";
    let named = |part: &str| format!("{experts}.{part}");
    let (a, b) = (named("lora_A.weight"), named("lora_B.weight"));
    let (inner_a, inner_b) = (named("base_layer.lora_A.weight"), named("base_layer.lora_B.weight"));
    let (single_a, single_b) = (named("2.up_proj.lora_A.weight"), named("2.up_proj.lora_B.weight"));
    let (magnitude, odd) = (named("lora_magnitude_vector"), named("0.middle.lora_A.weight"));
    let odd_b = named("0.middle.lora_B.weight");
    let of_down: Vec<(&str, &[usize])> = vec![(&a, &[4, 2]), (&b, &[3, 4])];
    let parameters = json!({ "target_parameters": ["experts.down_proj"] });
    for (settings, given, said) in [
        (json!({}), of_down.clone(), "'target_parameters' has no parameter of"),
        (parameters.clone(), of_down[..1].to_vec(), "not its other half"),
        (
            parameters.clone(),
            vec![(&a[..], &[4, 3][..]), (&b, &[4, 4])],
            "do not fit 'model.layers.0.mlp.experts.down_proj'",
        ),
        (parameters.clone(), vec![(&a[..], &[2, 2][..]), (&b, &[3, 2])], "is to have rank 2"),
        (parameters.clone(), vec![(&inner_a[..], &[4, 3][..]), (&inner_b, &[4, 4])], "has no parameter of"),
        (parameters.clone(), [&of_down[..], &[(&magnitude[..], &[3][..])]].concat(), "A and B alone"),
        (
            json!({ "target_parameters": ["experts.down_proj"], "use_dora": true }),
            of_down.clone(),
            "are not done beside experts",
        ),
        (
            json!({ "target_modules": ["up_proj"] }),
            vec![(&single_a[..], &[2, 3][..]), (&single_b, &[2, 2])],
            "do not fit",
        ),
        (
            json!({ "target_modules": ["middle"] }),
            vec![(&odd[..], &[2, 3][..]), (&odd_b, &[2, 2])],
            "which experts do not have",
        ),
        (json!({}), vec![(&single_a[..], &[2, 3][..]), (&single_b, &[2, 2])], "'target_modules' leaves out"),
    ] {
        let found = place.refusal(settings, &given);
        assert!(found.contains(said), "{found}");
    }
    let fits = json!({ "r": 2, "lora_alpha": 2, "target_parameters": ["experts.down_proj"] });
    let folder = place.adapter("fits", fits, &of_down);
    let weights = place.base().with_adapter(&folder).unwrap();
    assert_eq!(weights.adapter(down).map(|a| a.rank), Some(2));
    let up = weights.find(&format!("{down}.lora_B.weight")).unwrap();
    assert_eq!(up.ty.dims, [2, 3, 2]);
    // File element (row, rank, expert) = (0, 1, 0) is the third number; here it is expert 0's second.
    let values = floats(&up);
    assert_eq!(values[..4], [1.0 / 8.0, 3.0 / 8.0, 5.0 / 8.0, 7.0 / 8.0]);
    assert_eq!(values[6..8], [2.0 / 8.0, 4.0 / 8.0]);
}
