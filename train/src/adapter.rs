//! Low-rank adapters in PEFT's layout.

use std::collections::BTreeMap;
use std::path::Path;

use percept_graph::HostTensor;
use percept_model::checkpoint::{self, Checkpoint};
use serde_json::json;

use crate::config::LoraConfig;
use crate::error::Result;
use crate::plan::Plan;

/// What PEFT puts before the names of the model that it adapts.
const ADAPTED: &str = "base_model.model.";

/// Write the folder of an adapter: adapter_model.safetensors, with the parameters that were trained whole among its
/// tensors, and adapter_config.json.
///
/// # Errors
/// When it cannot be written, or something is there.
pub fn write(
    folder: &Path,
    lora: &LoraConfig,
    plan: &Plan,
    base: &Path,
    trained: &BTreeMap<String, HostTensor>,
) -> Result<()> {
    let layers: Vec<&String> =
        plan.adapters().keys().filter(|l| trained.contains_key(&format!("{l}.lora_A.weight"))).collect();
    let whole: Vec<&str> = trained
        .keys()
        .filter(|n| plan.adapted(n).is_none())
        .map(|n| n.strip_suffix(".weight").or(n.strip_suffix(".bias")).unwrap_or(n))
        .collect();
    let base = std::fs::canonicalize(base).unwrap_or_else(|_| base.to_path_buf());
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "bias": "none",
        "fan_in_fan_out": false, "inference_mode": true, "r": lora.rank,
        "lora_alpha": lora.alpha.unwrap_or(2.0 * lora.rank as f64), "lora_dropout": 0.0, "target_modules": layers,
        "modules_to_save": if whole.is_empty() { json!(null) } else { json!(whole) }, "use_rslora": false,
        "use_dora": false,
    });
    let tensors = trained.iter().map(|(n, t)| (format!("{ADAPTED}{n}"), t.clone())).collect();
    let files = BTreeMap::from([("adapter_config.json".to_string(), format!("{config:#}\n").into_bytes())]);
    Ok(checkpoint::write_as(folder, "adapter_model.safetensors", &tensors, &files)?)
}

/// The tensors of an adapter under the model's own names.
///
/// # Errors
/// When it cannot be read.
pub fn read(folder: &Path) -> Result<Checkpoint> {
    let file = Checkpoint::open(folder.join("adapter_model.safetensors"))?;
    Ok(file.renamed(|name| name.strip_prefix(ADAPTED).unwrap_or(name).to_string()))
}
