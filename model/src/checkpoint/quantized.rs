//! Safetensors whose weights a method of quantization has packed: GPTQ and AWQ of 4 bits, fp8 with scales,
//! and what compressed-tensors writes of 4 and 8 bits. Each linear layer's tensors become its one `weight`,
//! in a dtype that holds `scale * (integer - zero)` to the bit, or in f32.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percept_graph::{DType, TensorType};
use serde_json::Value as Json;

use super::error::{Result, damaged, unsupported};
use super::tensor::{Change, Form, StoredTensor};

/// How a layer's weights [out,in] are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// i32[in/8,out], eight inputs a word; zeros i32[groups,out/8] are less by `less`; scales [groups,out].
    Gptq { less: u8 },
    /// i32[in,out/8], eight outputs a word in AWQ's order, zeros alike; scales [groups,out].
    Awq,
    /// compressed-tensors: i32[out,in/8], eight inputs a word, offset by 8; zeros i32[out/8,groups]; scales
    /// [out,groups].
    Rows,
    /// Numbers of one byte [out,in]; a scale for each block of the weights.
    Bytes,
}

/// A layer's tensors.
pub(crate) struct Packed {
    layout: Layout,
    method: &'static str,
    weights: StoredTensor,
    scales: StoredTensor,
    zeros: Option<StoredTensor>,
    /// The group of every input, where they do not follow each other.
    groups: Option<StoredTensor>,
    rows: usize,
    columns: usize,
    /// Rows and columns that share a scale, where the scales are a matrix of blocks.
    block: Option<[usize; 2]>,
}

/// What is known of a checkpoint's method.
struct Method {
    name: &'static str,
    less: u8,
    /// Rows and columns of a block of weights that share a scale.
    block: Option<[usize; 2]>,
}

/// Puts the layers of a quantized checkpoint together, and takes the method out of its configuration.
///
/// # Errors
/// When the method, or a setting of it, is not read, or a layer's tensors do not fit each other.
pub(crate) fn unpack(
    path: &Path,
    tensors: &mut BTreeMap<String, StoredTensor>,
    config: &mut Json,
) -> Result<()> {
    let text = config.get("text_config").and_then(|c| c.get("quantization_config"));
    let Some(settings) = config.get("quantization_config").or(text).filter(|s| !s.is_null()).cloned() else {
        return Ok(());
    };
    // Other methods are refused by whoever makes a model of the checkpoint; it can still be looked at.
    let Some(method) = method(path, &settings)? else { return Ok(()) };
    let names: Vec<String> = tensors.keys().cloned().collect();
    for name in names {
        let (layer, layout) = if let Some(layer) = name.strip_suffix(".qweight") {
            (layer, if method.name == "awq" { Layout::Awq } else { Layout::Gptq { less: method.less } })
        } else if let Some(layer) = name.strip_suffix(".weight_packed") {
            (layer, Layout::Rows)
        } else if let Some(layer) = name.strip_suffix(".weight") {
            let form = tensors.get(&name).map(|stored| &stored.form);
            let bytes = matches!(form, Some(Form::F8 | Form::Integer { bytes: 1, signed: true }));
            let scaled = ["weight_scale_inv", "weight_scale"]
                .iter()
                .any(|s| tensors.contains_key(&format!("{layer}.{s}")));
            if !bytes || !scaled {
                continue;
            }
            (layer, Layout::Bytes)
        } else {
            continue;
        };
        let packed = Packed::take(path, tensors, &name, layer, layout, &method)?;
        let stored = packed.stored(&name)?;
        tensors.insert(format!("{layer}.weight"), stored);
    }
    // The weights are plain ones now.
    if let Some(config) = config.as_object_mut() {
        config.remove("quantization_config");
        if let Some(text) = config.get_mut("text_config").and_then(Json::as_object_mut) {
            text.remove("quantization_config");
        }
    }
    Ok(())
}

fn method(path: &Path, settings: &Json) -> Result<Option<Method>> {
    let text = |key: &str| settings.get(key).and_then(Json::as_str).unwrap_or_default();
    let refuse = |why: String| Err(unsupported(path, format!("config.json: 'quantization_config' {why}")));
    let four = |name: &'static str, less: u8| match settings.get("bits").and_then(Json::as_u64) {
        Some(4) | None => Ok(Some(Method { name, less, block: None })),
        Some(bits) => refuse(format!("has 'bits' {bits}: {name} of 4 bits is read")),
    };
    match text("quant_method") {
        // Its first release stores zeros less one.
        "gptq" => match text("checkpoint_format") {
            "" | "gptq" => four("gptq", 1),
            "gptq_v2" => four("gptq", 0),
            other => refuse(format!("has 'checkpoint_format' '{other}'; gptq and gptq_v2 are read")),
        },
        "awq" => match text("version").to_ascii_lowercase().as_str() {
            "" | "gemm" => four("awq", 0),
            other => refuse(format!("has 'version' '{other}'; gemm is read")),
        },
        "fp8" => Ok(Some(Method { name: "fp8", less: 0, block: block(settings.get("weight_block_size")) })),
        "compressed-tensors" => match text("format") {
            "pack-quantized" | "float-quantized" | "int-quantized" | "naive-quantized" => {
                let groups = settings.get("config_groups").and_then(Json::as_object);
                let bits = |group: &Json| group.get("weights")?.get("num_bits")?.as_u64();
                let other =
                    groups.and_then(|groups| groups.values().filter_map(bits).find(|bits| *bits != 4));
                if let (Some(bits), "pack-quantized") = (other, text("format")) {
                    return refuse(format!("packs weights of {bits} bits; 4 are read"));
                }
                let structure = |group: &Json| block(group.get("weights")?.get("block_structure"));
                let block = groups.and_then(|groups| groups.values().find_map(structure));
                Ok(Some(Method { name: "compressed-tensors", less: 0, block }))
            }
            other => refuse(format!(
                "has 'format' '{other}'; pack-quantized of 4 bits, float-quantized, int-quantized and \
                 naive-quantized are read"
            )),
        },
        _ => Ok(None),
    }
}

/// Two extents, as settings have them.
fn block(value: Option<&Json>) -> Option<[usize; 2]> {
    let [rows, columns] = &value?.as_array()?[..] else { return None };
    let extent = |v: &Json| v.as_u64().filter(|n| *n > 0 && *n <= 1 << 20).map(|n| n as usize);
    Some([extent(rows)?, extent(columns)?])
}

impl Packed {
    /// The tensors that the layer is put together of, by what they are.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &StoredTensor)> {
        let always = [("weights", &self.weights), ("scales", &self.scales)];
        let perhaps = [("zeros", &self.zeros), ("groups", &self.groups)];
        always.into_iter().chain(perhaps.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?))))
    }

    /// The method that packed them.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Takes a layer's tensors out of all.
    fn take(
        path: &Path,
        tensors: &mut BTreeMap<String, StoredTensor>,
        name: &str,
        layer: &str,
        layout: Layout,
        method: &Method,
    ) -> Result<Packed> {
        let mut take = |key: &str| tensors.remove(&format!("{layer}.{key}"));
        let absent =
            |what: &str| damaged(path, format!("layer '{layer}' has '{name}' and no '{layer}.{what}'"));
        let key = name.rsplit('.').next().unwrap_or_default().to_string();
        let weights = take(&key).ok_or_else(|| absent(&key))?;
        let (scales, zeros, groups) = match layout {
            Layout::Gptq { .. } | Layout::Awq => (
                take("scales").ok_or_else(|| absent("scales"))?,
                Some(take("qzeros").ok_or_else(|| absent("qzeros"))?),
                take("g_idx"),
            ),
            Layout::Rows => (
                take("weight_scale").ok_or_else(|| absent("weight_scale"))?,
                take("weight_zero_point"),
                take("weight_g_idx"),
            ),
            Layout::Bytes => (
                take("weight_scale_inv")
                    .or_else(|| take("weight_scale"))
                    .ok_or_else(|| absent("weight_scale"))?,
                take("weight_zero_point"),
                None,
            ),
        };
        // Scales of activations are for devices that multiply bytes; the original's shape is that of the
        // words.
        [
            "input_scale",
            "activation_scale",
            "weight_shape",
            "input_global_scale",
            "output_scale",
            "k_scale",
            "v_scale",
        ]
        .into_iter()
        .for_each(|other| drop(take(other)));
        let wrong = |why: String| damaged(path, format!("layer '{layer}': {why}"));
        let [a, b] = weights.ty.dims[..] else {
            return Err(wrong(format!("'{key}' is {}, no matrix", weights.ty)));
        };
        let (rows, columns) = match layout {
            Layout::Gptq { .. } => (b, a.saturating_mul(8)),
            Layout::Awq => (b.saturating_mul(8), a),
            Layout::Rows => (a, b.saturating_mul(8)),
            Layout::Bytes => (a, b),
        };
        // A scale for every row, or for all of them, is no block.
        let blocks = layout == Layout::Bytes && scales.ty.rank() == 2 && scales.ty.dims[1] > 1;
        let block = method.block.filter(|_| blocks);
        let method = method.name;
        let packed = Packed { layout, method, weights, scales, zeros, groups, rows, columns, block };
        packed.check().map_err(wrong)?;
        Ok(packed)
    }

    /// Groups of inputs, and of outputs.
    fn grid(&self) -> [usize; 2] {
        let dims = &self.scales.ty.dims;
        match (self.layout, &dims[..]) {
            (Layout::Gptq { .. } | Layout::Awq, [groups, outputs]) => [*groups, *outputs],
            (Layout::Rows | Layout::Bytes, [outputs, groups]) => [*groups, *outputs],
            (Layout::Bytes, [] | [1]) => [1, 1],
            (Layout::Bytes, [outputs]) => [1, *outputs],
            _ => [0, 0],
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        let words = !matches!(self.layout, Layout::Bytes);
        if words && self.weights.ty.dtype != DType::I32 {
            return Err(format!("its words are {}, not i32", self.weights.ty));
        }
        let [groups, outputs] = self.grid();
        let shared = matches!(self.layout, Layout::Bytes);
        let fits = groups > 0
            && groups <= self.columns
            && match (self.block, shared) {
                (Some([r, c]), _) => (outputs, groups) == (self.rows.div_ceil(r), self.columns.div_ceil(c)),
                (None, true) => (outputs == 1 || outputs == self.rows) && self.columns.is_multiple_of(groups),
                (None, false) => {
                    outputs == self.rows && (self.groups.is_some() || self.columns.is_multiple_of(groups))
                }
            };
        if !fits || self.rows == 0 || self.columns == 0 || !self.scales.ty.dtype.is_float() {
            return Err(format!(
                "scales {} do not fit {} x {} weights",
                self.scales.ty, self.rows, self.columns
            ));
        }
        if let Some(zeros) = &self.zeros {
            let expected = match self.layout {
                Layout::Gptq { .. } | Layout::Awq => vec![groups, self.rows.div_ceil(8)],
                Layout::Rows => vec![self.rows.div_ceil(8), groups],
                Layout::Bytes => return Err("weights of one byte with zero points are not read".into()),
            };
            if zeros.ty != TensorType::new(DType::I32, expected.clone()) {
                return Err(format!("zeros {} should be i32{expected:?}", zeros.ty));
            }
        }
        if let Some(of) = &self.groups {
            if of.ty != TensorType::new(DType::I32, [self.columns]) {
                return Err(format!("groups {} should be i32[{}]", of.ty, self.columns));
            }
            if let Some(bad) =
                i32s(of).into_iter().find(|g| usize::try_from(*g).is_err() || *g as usize >= groups)
            {
                return Err(format!("an input is of group {bad}, there are {groups}"));
            }
        }
        Ok(())
    }

    /// The layer's weight.
    fn stored(self, name: &str) -> Result<StoredTensor> {
        let ty = TensorType::new(self.held_in(), [self.rows, self.columns]);
        if ty.numel() > isize::MAX as usize / 4 {
            return Err(damaged(
                self.weights.span.path(),
                format!("tensor '{name}' {ty} is beyond any memory"),
            ));
        }
        let span = self.weights.span.clone();
        Ok(StoredTensor { ty, form: Form::Layer(Arc::new(self)), span, change: Change::None })
    }

    /// The dtype that holds the weights: integers whose scale sixteen neighbours share, or floats.
    pub fn held_in(&self) -> DType {
        let of = self.groups_of();
        let runs =
            self.columns.is_multiple_of(32) && of.chunks(16).all(|run| run.iter().all(|g| *g == run[0]));
        if runs && !matches!(self.weights.form, Form::F8) { DType::Q8X } else { DType::F32 }
    }

    /// What it is called in reports.
    pub fn name(&self) -> String {
        let bits = if matches!(self.layout, Layout::Bytes) { 8 } else { 4 };
        format!("{} ({bits} bits)", self.method)
    }

    /// The group of every input.
    fn groups_of(&self) -> Vec<usize> {
        let groups = self.grid()[0];
        match &self.groups {
            Some(of) => i32s(of).into_iter().map(|g| g as usize).collect(),
            // The last block of a matrix may be a part of one.
            None => {
                let size = self.block.map_or(self.columns.div_ceil(groups), |[_, columns]| columns);
                (0..self.columns).map(|i| (i / size).min(groups - 1)).collect()
            }
        }
    }

    /// Hands out the rows in order: the integers or floats of each as stored, less their zeros, and the scale
    /// of every input.
    pub fn rows(&self, name: &str, mut row: impl FnMut(&[f32], &[f32]) -> Result<()>) -> Result<()> {
        let of = self.groups_of();
        let [groups, outputs] = self.grid();
        let mut scales = Vec::with_capacity(self.scales.ty.numel());
        self.scales.convert(name, DType::F32, &mut |bytes| {
            scales.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        })?;
        self.zeros.iter().chain(&self.groups).try_for_each(|part| part.span.check_whole())?;
        let zeros: Option<Vec<u32>> =
            self.zeros.as_ref().map(|z| i32s(z).into_iter().map(|w| w as u32).collect());
        let bytes = self.weights.span.as_ref();
        let word = |words: &[u8], at: usize| {
            u32::from_le_bytes([words[4 * at], words[4 * at + 1], words[4 * at + 2], words[4 * at + 3]])
        };
        let nibble = |word: u32, at: usize| (word >> (4 * at) & 15) as f32;
        let (mut values, mut scale) = (vec![0.0; self.columns], vec![0.0; self.columns]);
        let block = self.block.map_or(self.rows.div_ceil(outputs), |[rows, _]| rows);
        for o in 0..self.rows {
            for (i, value) in values.iter_mut().enumerate() {
                let group = of[i];
                let zero = |at: usize, place: usize| zeros.as_ref().map_or(0.0, |z| nibble(z[at], place));
                *value = match self.layout {
                    Layout::Gptq { less } => {
                        let zero = zero(group * self.rows.div_ceil(8) + o / 8, o % 8);
                        nibble(word(bytes, i / 8 * self.rows + o), i % 8) - (zero + f32::from(less))
                    }
                    Layout::Awq => {
                        // Even outputs come first in a word.
                        let place = o % 8 / 2 + o % 2 * 4;
                        let words = self.rows / 8;
                        nibble(word(bytes, i * words + o / 8), place) - zero(group * words + o / 8, place)
                    }
                    Layout::Rows => {
                        // Both are offset by eight; without zeros the middle is zero.
                        let own = nibble(word(bytes, o * (self.columns / 8) + i / 8), i % 8);
                        own - if zeros.is_some() { zero(o / 8 * groups + group, o % 8) } else { 8.0 }
                    }
                    Layout::Bytes => {
                        let byte = bytes[o * self.columns + i];
                        if matches!(self.weights.form, Form::F8) { e4m3(byte) } else { f32::from(byte as i8) }
                    }
                };
                scale[i] = match self.layout {
                    Layout::Gptq { .. } | Layout::Awq => scales[group * outputs + o],
                    Layout::Rows | Layout::Bytes => scales[(o / block).min(outputs - 1) * groups + group],
                };
            }
            row(&values, &scale)?;
        }
        Ok(())
    }
}

/// Blocks of [`DType::Q8X`] of integers and the scale of each, of which sixteen share one.
pub(crate) fn blocks(values: &[f32], scales: &[f32], out: &mut Vec<u8>) {
    for (values, scales) in values.chunks_exact(32).zip(scales.chunks_exact(32)) {
        // Nothing is added, whatever the sign of a zero.
        out.extend([scales[0], scales[16], -0.0, -0.0].iter().flat_map(|v| v.to_le_bytes()));
        out.extend(values.iter().map(|v| *v as i8 as u8));
    }
}

/// A float of four bits of exponent and three of mantissa, without infinities.
pub(crate) fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -size } else { size }
}

fn i32s(stored: &StoredTensor) -> Vec<i32> {
    stored.span.as_ref().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
