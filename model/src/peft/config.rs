//! adapter_config.json: every key of PEFT 0.21's LoRA is honoured or refused by name, and so is one that is
//! not known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde_json::{Map, Value, json};

use crate::checkpoint::{BASE_FILE, read_capped};
use crate::config::Config;
use crate::error::{Error, Result};

/// The name of the file in an adapter's folder.
pub(crate) const FILE: &str = "adapter_config.json";
/// Bytes of it, at most: an adapter of thousands of layers lists them here.
const CAP: u64 = 16 << 20;

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It decides what is computed.
    Honoured,
    /// It says something about training or about the file, and nothing about what the adapter computes.
    Told,
    /// It must be null, false or empty; anything else is refused.
    Refused,
}

/// Every key, what is done with it, and what it means here or why it is refused. docs/adapters.md repeats
/// this table.
pub(crate) const KEYS: &[(&str, Use, &str)] = {
    use Use::{Honoured, Refused, Told};
    &[
        ("peft_type", Honoured, "LORA; other methods are refused"),
        ("r", Honoured, "the rank, which the tensors must have"),
        ("rank_pattern", Honoured, "ranks of single modules, by regular expression"),
        ("lora_alpha", Honoured, "what is added is multiplied by alpha / rank"),
        ("alpha_pattern", Honoured, "alphas of single modules, by regular expression"),
        ("use_rslora", Honoured, "the factor is alpha / √rank"),
        ("use_dora", Honoured, "magnitude vectors, of linear layers, convolutions and tables"),
        ("lora_bias", Honoured, "the bias of B is added, times the factor"),
        ("bias", Honoured, "none, all or lora_only; biases in the file replace the model's"),
        ("modules_to_save", Honoured, "modules in the file replace the model's; each must be there"),
        ("trainable_token_indices", Honoured, "rows of the table that the file replaces"),
        ("ensure_weight_tying", Honoured, "a head that is the table gets what the table gets"),
        ("target_modules", Honoured, "a module with tensors that is not among them is an error"),
        (
            "target_parameters",
            Honoured,
            "stacks of a mixture's experts, and matrices; one with tensors that is not among them is an error",
        ),
        ("exclude_modules", Honoured, "a module with tensors that is among them is an error"),
        ("layers_to_transform", Honoured, "a layer with tensors that is not among them is an error"),
        ("layers_pattern", Honoured, "where a module's name holds the number of its layer"),
        (
            "init_lora_weights",
            Honoured,
            "pissa and olora take their first values out of the base, as PEFT does on loading; \
            pissa_niter_N, corda, loftq and lora_ga cannot be repeated and are refused; the others leave the base as it is",
        ),
        ("base_model_name_or_path", Honoured, "the base, where the adapter is given as a model"),
        ("revision", Honoured, "the base's revision in the hub's cache"),
        ("fan_in_fan_out", Told, "true for GPT-2's transposed layers only, which no family here has"),
        ("auto_mapping", Told, "the class that the base had in training"),
        ("task_type", Told, "the kind of model that was trained"),
        ("peft_version", Told, "the version that wrote the file"),
        ("inference_mode", Told, "whether training may go on"),
        ("lora_dropout", Told, "training only"),
        ("velora_config", Told, "the backward pass only"),
        ("eva_config", Told, "first values only"),
        ("corda_config", Told, "read with init_lora_weights alone"),
        ("loftq_config", Told, "read with init_lora_weights alone"),
        ("lora_ga_config", Told, "read with init_lora_weights alone"),
        ("megatron_core", Told, "read with megatron_config alone"),
        ("qalora_group_size", Told, "read with use_qalora alone"),
        ("runtime_config", Told, "PEFT does not read it from a file either"),
        ("alora_invocation_tokens", Refused, "the adapter is to act from these tokens on only"),
        ("arrow_config", Refused, "each token is to choose among several adapters"),
        (
            "kasa_config",
            Refused,
            "the base is to lose its smallest singular values, and the update has a diagonal",
        ),
        ("layer_replication", Refused, "layers of the base are to be repeated"),
        ("megatron_config", Refused, "the base is to be one of Megatron's"),
        ("monteclora_config", Refused, "the weights are to be drawn"),
        ("use_bdlora", Refused, "A and B are to be block-diagonal"),
        ("use_qalora", Refused, "inputs are to be pooled in groups"),
    ]
};

/// How a layer's first values came about, where that changed the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initial {
    /// The base is as it was.
    Plain,
    /// Its largest singular values were taken out (Meng et al. 2024).
    Pissa,
    /// The first columns of its QR decomposition were taken out (Büyükakyüz 2024).
    Olora,
}

/// Which tokens have rows of their own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tokens {
    /// Of the input's table.
    OfTable(Vec<usize>),
    /// By the ends of tables' names.
    ByName(BTreeMap<String, Vec<usize>>),
}

/// What adapter_config.json says.
#[derive(Debug)]
pub(crate) struct LoraConfig {
    file: PathBuf,
    rank: usize,
    alpha: f64,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    over_root: bool,
    targets: Names,
    parameters: Vec<String>,
    excluded: Names,
    layers: Vec<usize>,
    places: Vec<Regex>,
    pub dora: bool,
    pub lora_bias: bool,
    pub whole: Vec<String>,
    pub tokens: Option<Tokens>,
    pub tied: bool,
    pub initial: Initial,
    pub base: Option<String>,
    pub revision: Option<String>,
}

/// The modules that a key of the configuration means.
#[derive(Debug)]
enum Names {
    Any,
    Like(Regex),
    Ends(Vec<String>),
}

impl LoraConfig {
    /// Read the file in an adapter's folder.
    ///
    /// # Errors
    /// When it is not there or not an object, a value is of another kind than PEFT writes, a key is not
    /// known, or one asks for what is not done here.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join(FILE);
        let wrong = |why: String| Error::Content { file: file.display().to_string(), why };
        if !file.exists() {
            // PEFT saves adapters that are not called "default" in folders of their names.
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let named = entries.filter(|e| e.path().join(FILE).is_file()).map(|e| e.file_name());
            let mut names: Vec<String> = named.map(|n| n.to_string_lossy().into_owned()).collect();
            names.sort();
            if !names.is_empty() {
                return Err(wrong(format!("is in the folders {}; give one of them", names.join(", "))));
            }
        }
        let text = read_capped(&file, CAP)?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        let mut config = Self::of(&file, &value)?;
        // Percept trains a table that is the head as one, and did not say so at first.
        config.tied |= value.get("ensure_weight_tying").is_none() && folder.join(BASE_FILE).is_file();
        Ok(config)
    }

    fn of(file: &Path, value: &Value) -> Result<Self> {
        let config = Config::new(&file.display().to_string(), value, json!({}))?;
        let keys: Vec<&str> = value.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        match config.any(&["peft_type"]).map(|t| t.as_str().unwrap_or("of another kind")) {
            Some("LORA") | None => {}
            Some(other) => {
                let why = format!("is {other}, which is not read; LoRA adapters (LORA) are, DoRA among them");
                return Err(config.error("peft_type", &why));
            }
        }
        for key in keys {
            let found = KEYS.iter().find(|k| k.0 == key);
            match found {
                Some((_, Use::Refused, why)) if config.get(key).is_some_and(is_set) => {
                    let why =
                        format!("is set, which is not done here: {why}; merge the adapter with PEFT first");
                    return Err(config.error(key, &why));
                }
                Some(_) => {}
                // What another version of PEFT asks for may change the result.
                None if config.get(key).is_some_and(is_set) => {
                    let why = "is not a key of PEFT 0.21, and what it asks for is not known here; remove it if the adapter \
                               is the same without it";
                    return Err(config.error(key, why));
                }
                None => {}
            }
        }
        let texts = |key: &str| match config.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(v) => {
                strings(v).ok_or_else(|| config.error(key, &format!("must be a list of texts, not {v}")))
            }
        };
        let names = |key: &str| -> Result<Option<Names>> {
            Ok(match config.get(key) {
                None => None,
                // What all-linear stands for is in the tensors' names.
                Some(Value::String(all)) if all == "all-linear" => Some(Names::Any),
                Some(Value::String(like)) => {
                    Some(Names::Like(regex(&config, key, &format!(r"\A(?:{like})\z"))?))
                }
                Some(_) => Some(Names::Ends(texts(key)?)),
            })
        };
        let layers = match config.get("layers_to_transform") {
            Some(Value::Number(_)) => vec![config.usize("layers_to_transform")?],
            _ => config.list("layers_to_transform")?,
        };
        let place =
            |p: &String| regex(&config, "layers_pattern", &format!(r"\A(?:.*?\.)?{p}\.(?<layer>\d+)\."));
        if let Some(bias) =
            config.get("bias").filter(|b| !["none", "all", "lora_only"].iter().any(|k| *b == k))
        {
            return Err(config.error("bias", &format!("is {bias}; known: none, all, lora_only")));
        }
        Ok(Self {
            file: file.to_path_buf(),
            rank: config.maybe_usize("r")?.unwrap_or(8),
            alpha: config.maybe_f64("lora_alpha")?.unwrap_or(8.0),
            ranks: patterns(&config, "rank_pattern")?,
            alphas: patterns(&config, "alpha_pattern")?,
            over_root: config.flag("use_rslora")?,
            targets: names("target_modules")?.unwrap_or(Names::Any),
            parameters: texts("target_parameters")?,
            excluded: names("exclude_modules")?.unwrap_or(Names::Ends(Vec::new())),
            layers,
            places: texts("layers_pattern")?.iter().map(place).collect::<Result<_>>()?,
            dora: config.flag("use_dora")?,
            lora_bias: config.flag("lora_bias")?,
            whole: texts("modules_to_save")?,
            tokens: tokens(&config)?,
            tied: config.flag("ensure_weight_tying")?,
            initial: initial(&config)?,
            base: config.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_string),
            revision: config.get("revision").and_then(Value::as_str).map(str::to_string),
        })
    }

    /// What a module's addition is multiplied by, from its rank; an error where its tensors have another rank
    /// than the file says. `module` is its name as PEFT has it, without `base_model.model.`.
    pub fn scale(&self, module: &str, rank: usize) -> Result<f64> {
        let said = first(&self.ranks, module)?.unwrap_or(self.rank as f64);
        if said != rank as f64 {
            let why = format!("'{module}' is to have rank {said}, and its tensors have rank {rank}");
            return Err(self.error(why));
        }
        let alpha = first(&self.alphas, module)?.unwrap_or(self.alpha);
        Ok(alpha / if self.over_root { (rank as f64).sqrt() } else { rank as f64 })
    }

    /// Names that `target_modules` lists and none of these modules has.
    pub fn missing<'a>(&self, modules: impl Iterator<Item = &'a str> + Clone) -> Vec<&str> {
        let Names::Ends(ends) = &self.targets else { return Vec::new() };
        ends.iter().map(String::as_str).filter(|end| !modules.clone().any(|m| ends_with(m, end))).collect()
    }

    /// Whether `target_parameters` means this parameter, by its name as PEFT has it, without `base_model.model.`.
    pub fn targets_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|end| ends_with(name, end))
    }

    /// An error where PEFT would not have put an adapter beside this module.
    pub fn check_target(&self, module: &str) -> Result<()> {
        if self.targets_parameter(&format!("{module}.weight")) {
            return Ok(());
        }
        // A module that is listed by its whole name is adapted in whatever layer it is.
        let listed = matches!(&self.targets, Names::Ends(ends) if ends.iter().any(|e| e == module));
        let outside = |l: Option<usize>| !l.is_some_and(|l| self.layers.contains(&l));
        let key = if !self.targets.fit(module)? {
            "target_modules"
        } else if !matches!(self.excluded, Names::Any) && self.excluded.fit(module)? {
            "exclude_modules"
        } else if !listed && !self.layers.is_empty() && outside(self.layer(module)?) {
            "layers_to_transform"
        } else {
            return Ok(());
        };
        Err(self.error(format!("there are tensors for '{module}', which '{key}' leaves out")))
    }

    /// The number of a module's layer.
    fn layer(&self, module: &str) -> Result<Option<usize>> {
        let numbered = |place: &Regex| {
            let found = place.captures(module).map_err(|e| self.error(format!("'layers_pattern': {e}")))?;
            Ok(found.and_then(|c| c.name("layer")?.as_str().parse().ok()))
        };
        if !self.places.is_empty() {
            let found: Vec<Option<usize>> = self.places.iter().map(numbered).collect::<Result<_>>()?;
            return Ok(found.into_iter().flatten().next());
        }
        // The first number among a name's parts, after at least two of them.
        let parts: Vec<&str> = module.split('.').collect();
        Ok(parts.iter().take(parts.len() - 1).skip(2).find_map(|part| part.parse().ok()))
    }

    /// An error about this file.
    pub fn error(&self, why: String) -> Error {
        Error::Content { file: self.file.display().to_string(), why }
    }
}

impl Names {
    fn fit(&self, module: &str) -> Result<bool> {
        match self {
            Names::Any => Ok(true),
            Names::Like(pattern) => pattern.is_match(module).map_err(|e| too_hard(pattern, &e)),
            Names::Ends(ends) => Ok(ends.iter().any(|end| ends_with(module, end))),
        }
    }
}

/// Whether a module is `end`, or a part of its name is and all that follow.
pub(crate) fn ends_with(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Python's idea of truth.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_string)).collect()
}

fn regex(config: &Config, key: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|e| config.error(key, &format!("is no regular expression: {e}")))
}

fn too_hard(pattern: &Regex, e: &fancy_regex::Error) -> Error {
    Error::Content {
        file: FILE.into(),
        why: format!("the pattern '{}' cannot be matched: {e}", pattern.as_str()),
    }
}

/// Numbers by patterns that fit the end of a module's name from a dot on, in the file's order.
fn patterns(config: &Config, key: &str) -> Result<Vec<(Regex, f64)>> {
    let Some(value) = config.get(key) else { return Ok(Vec::new()) };
    let wrong = || config.error(key, &format!("must be an object of numbers, not {value}"));
    let object = value.as_object().ok_or_else(wrong)?;
    let pair = |(pattern, number): (&String, &Value)| {
        let number = number.as_f64().ok_or_else(wrong)?;
        Ok((regex(config, key, &format!(r"\A(?:.*\.)?(?:{pattern})\z"))?, number))
    };
    object.iter().map(pair).collect()
}

fn first(patterns: &[(Regex, f64)], module: &str) -> Result<Option<f64>> {
    for (pattern, number) in patterns {
        if pattern.is_match(module).map_err(|e| too_hard(pattern, &e))? {
            return Ok(Some(*number));
        }
    }
    Ok(None)
}

fn tokens(config: &Config) -> Result<Option<Tokens>> {
    let key = "trainable_token_indices";
    let Some(value) = config.get(key).filter(|v| is_set(v)) else { return Ok(None) };
    let ids = |v: &Value| -> Option<Vec<usize>> {
        v.as_array()?.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
    };
    let found = match value {
        Value::Object(by_name) => {
            by_name.iter().map(|(k, v)| Some((k.clone(), ids(v)?))).collect::<Option<_>>().map(Tokens::ByName)
        }
        list => ids(list).map(Tokens::OfTable),
    };
    let why =
        || config.error(key, &format!("must be ids of tokens, or lists of them by module, not {value}"));
    found.map(Some).ok_or_else(why)
}

fn initial(config: &Config) -> Result<Initial> {
    let key = "init_lora_weights";
    let name = match config.get(key) {
        None | Some(Value::Bool(_)) => return Ok(Initial::Plain),
        Some(Value::String(name)) => name.as_str(),
        Some(other) => return Err(config.error(key, &format!("must be a flag or a name, not {other}"))),
    };
    let kept = "save the adapter with path_initial_model_for_weight_conversion, which makes it one for the base as it was";
    let why = match name {
        "pissa" => return Ok(Initial::Pissa),
        _ if name.eq_ignore_ascii_case("olora") => return Ok(Initial::Olora),
        "eva" | "orthogonal" => return Ok(Initial::Plain),
        _ if ["gaussian", "mica"].iter().any(|n| name.eq_ignore_ascii_case(n)) => return Ok(Initial::Plain),
        _ if name.starts_with("pissa_niter_") => {
            format!("is '{name}': what it took out of the base was drawn at random and is not in the file; {kept}")
        }
        "corda" | "lora_ga" => {
            format!("is '{name}': what it took out of the base followed from data that are not in the file; {kept}")
        }
        "loftq" => "is 'loftq': the base that it belongs to was rounded in a way of its own; save that base with PEFT's \
                    merge_and_unload and open the result"
            .to_string(),
        other => format!("is '{other}', which is not a name of PEFT 0.21"),
    };
    Err(config.error(key, &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Result<LoraConfig> {
        LoraConfig::of(Path::new("adapter_config.json"), &value)
    }

    fn refusal(key: &str, value: Value) -> String {
        let mut file = json!({ "peft_type": "LORA" });
        file[key] = value;
        of(file).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_of_named_adapters_says_which_there_are() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["second", "first"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(FILE), "{}").unwrap();
        }
        let error = LoraConfig::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is in the folders first, second"), "{error}");
    }

    #[test]
    fn patterns_are_those_of_peft() {
        let c = of(json!({
            "r": 8, "lora_alpha": 16, "rank_pattern": { "q_proj": 4, "^model.layers.0.mlp.down_proj": 2 },
            "alpha_pattern": { "layers.1.*q_proj": 3, "k_proj|v_proj": 1 },
        }))
        .unwrap();
        assert_eq!(c.scale("model.layers.0.self_attn.o_proj", 8).unwrap(), 2.0);
        assert_eq!(c.scale("model.layers.0.self_attn.q_proj", 4).unwrap(), 4.0);
        assert_eq!(c.scale("model.layers.1.self_attn.q_proj", 4).unwrap(), 0.75);
        assert_eq!(c.scale("model.layers.0.self_attn.v_proj", 8).unwrap(), 0.125);
        assert_eq!(c.scale("model.layers.0.mlp.down_proj", 2).unwrap(), 8.0);
        // A pattern fits from a dot on, to the end.
        assert_eq!(c.scale("model.layers.0.self_attn.q_proj_norm", 8).unwrap(), 2.0);
        let e = c.scale("model.layers.0.self_attn.q_proj", 8).unwrap_err().to_string();
        assert!(e.contains("rank 4") && e.contains("rank 8") && e.contains("q_proj"), "{e}");
    }

    #[test]
    fn modules_that_peft_would_not_adapt_are_refused() {
        let check =
            |file: Value, module: &str| of(file).unwrap().check_target(module).map_err(|e| e.to_string());
        let (q, k) = ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj");
        let listed = json!({ "target_modules": ["q_proj"] });
        check(listed.clone(), q).unwrap();
        assert!(check(listed, k).unwrap_err().contains("'target_modules'"));
        let like = json!({ "target_modules": r"^(?!.*vision).*\.(?:q|k)_proj" });
        check(like.clone(), k).unwrap();
        assert!(check(like, "vision.layers.0.q_proj").is_err());
        let excluded = json!({ "target_modules": "all-linear", "exclude_modules": ["self_attn.k_proj"] });
        check(excluded.clone(), q).unwrap();
        assert!(check(excluded, k).unwrap_err().contains("'exclude_modules'"));
        for pattern in [json!(null), json!("layers"), json!(["h", "layers"])] {
            let some = |layers: Value| json!({ "target_modules": ["q_proj"], "layers_to_transform": layers, "layers_pattern": pattern });
            check(some(json!(1)), q).unwrap();
            check(some(json!([0, 1])), q).unwrap();
            assert!(check(some(json!([0])), q).unwrap_err().contains("'layers_to_transform'"));
        }
        let e = check(json!({ "target_modules": "(a+)+$" }), &"a".repeat(200)).err();
        assert!(e.is_none_or(|e| e.contains("cannot be matched") || e.contains("target_modules")));
    }

    #[test]
    fn every_key_is_known_and_those_that_are_not_done_are_refused_by_name() {
        for (key, _, _) in KEYS.iter().filter(|k| k.1 == Use::Refused) {
            for value in [json!([7]), json!({ "a": 1 }), json!(true)] {
                let e = refusal(key, value);
                assert!(e.contains(&format!("'{key}'")) && e.contains("not done here"), "{e}");
            }
            for nothing in [json!(null), json!(false), json!([]), json!({})] {
                let mut file = json!({});
                file[*key] = nothing;
                of(file).unwrap();
            }
        }
        assert!(refusal("use_new_thing", json!(true)).contains("'use_new_thing' is not a key of PEFT 0.21"));
        of(json!({ "use_new_thing": null })).unwrap();
        for method in ["IA3", "PROMPT_TUNING", "ADALORA"] {
            assert!(refusal("peft_type", json!(method)).contains(method));
        }
        for name in ["pissa_niter_16", "corda", "loftq", "lora_ga", "newer"] {
            let e = refusal("init_lora_weights", json!(name));
            assert!(e.contains("'init_lora_weights'") && e.contains(name), "{e}");
        }
        for name in
            [json!(true), json!(false), json!("gaussian"), json!("eva"), json!("orthogonal"), json!("mica")]
        {
            assert_eq!(of(json!({ "init_lora_weights": name })).unwrap().initial, Initial::Plain);
        }
    }

    #[test]
    fn the_documentation_has_every_key() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/adapters.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
        let expected =
            KEYS.iter().map(|(key, of, text)| format!("| `{key}` | {of:?} | {text} |").replace("| H", "| h"));
        let lower = |row: String| row.replace("| Told |", "| told |").replace("| Refused |", "| refused |");
        assert_eq!(rows, expected.map(lower).collect::<Vec<_>>());
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for (key, value) in [
            ("r", json!("8")),
            ("lora_alpha", json!("x")),
            ("alpha_pattern", json!(["q"])),
            ("rank_pattern", json!({ "q": "4" })),
            ("alpha_pattern", json!({ "(": 1 })),
            ("target_modules", json!([1])),
            ("target_modules", json!("(")),
            ("use_dora", json!("yes")),
            ("bias", json!("some")),
            ("trainable_token_indices", json!([-1])),
            ("trainable_token_indices", json!({ "embed_tokens": 1 })),
            ("init_lora_weights", json!(3)),
            ("modules_to_save", json!({ "a": 1 })),
        ] {
            let e = refusal(key, value);
            assert!(e.contains(&format!("'{key}'")), "{e}");
        }
    }
}
