//! Rotations agree with transformers' (tests/golden/rope.py).

use percept_model::{Config, Rope};
use serde_json::{Value, json};

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

#[test]
fn angles_are_those_of_transformers() {
    let golden: Value = serde_json::from_str(include_str!("../golden/rope.json")).unwrap();
    let head_dim = golden["head_dim"].as_u64().unwrap() as usize;
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let (name, parameters) = (&case["name"], &case["parameters"]);
        let mut spellings = vec![json!({"rope_parameters": parameters})];
        // As configurations were before: the base beside the scaling, whose kind is its type.
        let mut scaling = parameters.clone();
        let fields = scaling.as_object_mut().unwrap();
        let theta = fields.remove("rope_theta").unwrap();
        let kind = fields.remove("rope_type").unwrap();
        fields.insert("type".into(), kind);
        spellings.push(json!({"rope_theta": theta, "rope_scaling": scaling}));
        for mut config in spellings {
            config["max_position_embeddings"] = golden["max_position_embeddings"].clone();
            let config = Config::new("config.json", &config, json!({})).unwrap();
            let rope = Rope::from_config(&config, head_dim, 1.0).unwrap();
            let positions: Vec<Vec<i32>> = case["positions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|axis| numbers(axis).iter().map(|&p| p as i32).collect())
                .collect();
            let total = positions.iter().flatten().max().unwrap() + 1;
            let axes: Vec<&[i32]> = positions.iter().map(Vec::as_slice).collect();
            let found = rope.angles(&axes, total as usize);
            for (found, expected) in found.iter().zip([&case["cos"], &case["sin"]]) {
                let expected = numbers(expected);
                assert_eq!(found.len(), expected.len(), "{name}");
                for (f, e) in found.iter().zip(&expected) {
                    // At position 1500 a frequency's last bit moves an angle by 1e-4.
                    assert!((*f as f64 - e).abs() < 2e-4, "{name}: {f} is not {e}");
                }
            }
        }
    }
}

/// The rotation of heads of 16 in a context of 64, with a scaling under the key of newer or of older releases.
fn scaled(key: &str, scaling: Value) -> percept_model::Result<Rope> {
    let config = json!({"max_position_embeddings": 64, key: scaling});
    Rope::from_config(&Config::new("config.json", &config, json!({})).unwrap(), 16, 1e4)
}

#[test]
fn scalings_that_cannot_be_are_refused_by_name() {
    let refused = |parameters: Value| scaled("rope_parameters", parameters).unwrap_err().to_string();
    let unknown = refused(json!({"rope_type": "spiral"}));
    assert!(unknown.contains("known: default, linear, dynamic, yarn, longrope, llama3"), "{unknown}");
    let short = json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]});
    assert!(refused(short).contains("'short_factor' has 1 factors for 8 pairs"));
    assert!(refused(json!({"rope_type": "linear"})).contains("'factor' is missing"));
    for factor in [0.0, -2.0] {
        let e = refused(json!({"rope_type": "linear", "factor": factor}));
        assert!(e.contains("'factor' must be positive"), "{e}");
    }
    let none = json!({"rope_type": "longrope", "short_factor": vec![0.0; 8], "long_factor": vec![1.0; 8],
        "original_max_position_embeddings": 8});
    assert!(refused(none).contains("'short_factor' must hold positive numbers"));
    assert!(refused(json!({"mrope_section": [2, 2, 2]})).contains("8 pairs"));
    assert!(refused(json!({"rope_theta": -1.0})).contains("rope_theta"));
    assert!(refused(json!({"partial_rotary_factor": 0.5})).contains("partial_rotary_factor"));
}

/// `convert_rope_params_to_dict` of transformers 5.24: `self.rope_parameters = rope_scaling or self.rope_parameters`.
#[test]
fn of_both_spellings_the_older_one_holds_where_it_says_something() {
    let both = |scaling: Value, parameters: Value| {
        let config = json!({
            "max_position_embeddings": 64, "rope_theta": 500.0, "rope_scaling": scaling, "rope_parameters": parameters,
        });
        Rope::from_config(&Config::new("config.json", &config, json!({})).unwrap(), 16, 1e4).unwrap()
    };
    let linear = |theta: f64| {
        let parameters = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": theta});
        scaled("rope_parameters", parameters).unwrap()
    };
    let plain = json!({"rope_type": "default", "rope_theta": 1e4});
    assert_eq!(both(json!({"rope_type": "linear", "factor": 4.0}), plain.clone()), linear(500.0));
    assert_eq!(both(json!({"type": "linear", "factor": 4.0, "rope_theta": 7.0}), plain.clone()), linear(7.0));
    for silent in [json!(null), json!({})] {
        assert_eq!(both(silent, plain.clone()), Rope::new(16, 1e4));
    }
}

#[test]
fn a_scaling_reaches_further_than_the_model_was_made_for() {
    let reach = |scaling: Value| scaled("rope_scaling", scaling).unwrap().reach();
    assert_eq!(reach(json!({"type": "dynamic", "factor": 2.0})), 128);
    assert_eq!(reach(json!({"type": "linear", "factor": 4.0})), 256);
    assert_eq!(reach(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})), 128);
    assert_eq!(reach(json!({"type": "default"})), 0);
}
