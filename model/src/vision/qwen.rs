//! The image towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: patches in the order in which they are merged,
//! rotary positions in two directions, frames that do not see each other.

use percept_graph::{Activation, HostTensor, Tensor};
use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::Result;
use crate::names::{self, BlockNames};
use crate::parameters::Parameters;
use crate::rope::Rope;
use crate::vision::{Arguments, Framed, Rows, places};

/// Index into the context's segments of the windows.
const WINDOWS: usize = 0;

/// A tower. Parameters stand below `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct QwenTower {
    prefix: String,
    hidden: usize,
    out: usize,
    /// Numbers of a patch.
    numbers: usize,
    patch_bias: bool,
    /// Patches on the edge of the square that becomes one row of features.
    pub merge: usize,
    rope: Rope,
    stack: Stack,
    merger_norm: Norm,
    merger: MergerNames,
    /// What the mergers of inner blocks' states are called.
    inner_mergers: &'static str,
    /// Rows of features on the edge of a window.
    window: Option<usize>,
    /// Side of the square of learned positions, which is stretched over every image.
    positions: Option<usize>,
    /// Blocks whose states are merged into features of their own.
    deepstack: Vec<usize>,
}

/// What a merger's parts are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MergerNames {
    norm: &'static str,
    first: &'static str,
    second: &'static str,
}

const QWEN2_MERGER: MergerNames = MergerNames { norm: "ln_q", first: "mlp.0", second: "mlp.2" };
const QWEN3_MERGER: MergerNames = MergerNames { norm: "norm", first: "linear_fc1", second: "linear_fc2" };

/// The defaults of config.json for Qwen2-VL's tower.
pub fn qwen2_defaults() -> Value {
    json!({
        "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "hidden_act": "quick_gelu", "mlp_ratio": 4,
        "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
    })
}

/// The defaults of config.json for Qwen2.5-VL's tower.
pub fn qwen2_5_defaults() -> Value {
    json!({
        "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "num_heads": 16,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31],
    })
}

/// The defaults of config.json for Qwen3-VL's tower.
pub fn qwen3_defaults() -> Value {
    json!({
        "depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 4304,
        "num_heads": 16, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 3584, "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
    })
}

impl QwenTower {
    /// Qwen2-VL's.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn qwen2(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(qwen2_defaults());
        let hidden = c.positive("embed_dim")?;
        let width = (hidden as f64 * c.f64("mlp_ratio")?) as usize;
        let mlp = Mlp { width, activation: c.activation("hidden_act")?, gated: false, bias: true };
        Self::new(
            &c,
            prefix,
            (hidden, c.positive("hidden_size")?),
            mlp,
            Norm::layer(1e-6),
            names::QWEN2_VISION,
        )
    }

    /// Qwen2.5-VL's.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn qwen2_5(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(qwen2_5_defaults());
        let hidden = c.positive("hidden_size")?;
        let width = c.positive("intermediate_size")?;
        let mlp = Mlp { width, activation: c.activation("hidden_act")?, gated: true, bias: true };
        let out = c.positive("out_hidden_size")?;
        let mut t = Self::new(&c, prefix, (hidden, out), mlp, Norm::rms(1e-6), names::QWEN2_5_VISION)?;
        let full = c.list("fullatt_block_indexes")?;
        let edge = c.positive("window_size")? / t.merge / c.positive("patch_size")?;
        if edge == 0 {
            return Err(c.error("window_size", "is smaller than a row of features"));
        }
        t.window = Some(edge);
        for (i, block) in t.stack.blocks.iter_mut().enumerate() {
            block.attention.segments = (!full.contains(&i)).then_some(WINDOWS);
        }
        Ok(t)
    }

    /// Qwen3-VL's.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn qwen3(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(qwen3_defaults());
        let hidden = c.positive("hidden_size")?;
        let width = c.positive("intermediate_size")?;
        let mlp = Mlp { width, activation: c.activation("hidden_act")?, gated: false, bias: true };
        let out = c.positive("out_hidden_size")?;
        let mut t = Self::new(&c, prefix, (hidden, out), mlp, Norm::layer(1e-6), names::QWEN3_VISION)?;
        let positions = c.positive("num_position_embeddings")?;
        if positions.isqrt().pow(2) != positions {
            return Err(c.error("num_position_embeddings", &format!("is {positions}, which is no square")));
        }
        t.positions = Some(positions.isqrt());
        t.patch_bias = true;
        t.merger = QWEN3_MERGER;
        t.deepstack = c.list("deepstack_visual_indexes")?;
        if let Some(i) = t.deepstack.iter().find(|i| **i >= t.stack.blocks.len()) {
            return Err(c.error("deepstack_visual_indexes", &format!("has {i}, beyond the last block")));
        }
        Ok(t)
    }

    /// Qwen2.5-Omni's: Qwen2.5-VL's, whose queries, keys and values have matrices of their own.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn omni2_5(c: &Config, prefix: &str) -> Result<Self> {
        let mut t = Self::qwen2_5(c, prefix)?;
        t.stack.blocks.iter_mut().for_each(|block| block.attention.fused = false);
        Ok(t)
    }

    /// Qwen3-Omni's: Qwen3-VL's, whose mergers have older names.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn omni3(c: &Config, prefix: &str) -> Result<Self> {
        let t = Self::qwen3(c, prefix)?;
        Ok(Self { merger: QWEN2_MERGER, inner_mergers: "merger_list", ..t })
    }

    fn new(
        c: &Config,
        prefix: &str,
        (hidden, out): (usize, usize),
        mlp: Mlp,
        norm: Norm,
        names: BlockNames,
    ) -> Result<Self> {
        let heads = c.positive("num_heads")?;
        if !hidden.is_multiple_of(4 * heads) {
            let why = format!("is {heads}: heads of {hidden} features cannot turn in two directions");
            return Err(c.error("num_heads", &why));
        }
        let depth = c.layers("depth")?;
        let (patch, frames) = (c.positive("patch_size")?, c.positive("temporal_patch_size")?);
        let (channels, merge) = match c.any(&["in_channels", "in_chans"]) {
            Some(n) => (n.as_u64().unwrap_or(0) as usize, c.positive("spatial_merge_size")?),
            None => (3, c.positive("spatial_merge_size")?),
        };
        if patch > 1 << 12 || frames > 1 << 8 || merge > 1 << 8 || channels > 1 << 8 || mlp.width == 0 {
            return Err(c.error("patch_size", "or another extent of patches is not that of a vision tower"));
        }
        let head_dim = hidden / heads;
        let block = BlockSpec {
            hidden,
            norm,
            norms: Norms::Before,
            attention: Attention {
                fused: true,
                bias: Biases::all(true),
                rope: Some(0),
                ..Attention::plain(heads, head_dim, false)
            },
            recurrent: None,
            cross: None,
            mlp,
            mixture: None,
            layer_scale: false,
            residual_scale: None,
            names,
        };
        Ok(Self {
            prefix: prefix.to_string(),
            hidden,
            out,
            numbers: channels * frames * patch * patch,
            patch_bias: false,
            merge,
            rope: Rope::axial(head_dim, 10_000.0),
            stack: Stack { prefix: format!("{prefix}blocks"), blocks: vec![block; depth] },
            merger_norm: norm,
            merger: QWEN2_MERGER,
            inner_mergers: "deepstack_merger_list",
            window: None,
            positions: None,
            deepstack: Vec::new(),
        })
    }

    /// Sets of extra features.
    pub fn deepstack(&self) -> usize {
        self.deepstack.len()
    }

    /// Width of the features.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Rows of features of a grid.
    pub fn features(&self, grid: [usize; 3]) -> usize {
        grid.iter().product::<usize>() / self.merge.pow(2)
    }

    /// What every frame of one grid has in common, with patches in `order`: angles, and where the tower has
    /// them learned positions, windows and the order of features.
    fn shared(&self, h: usize, w: usize, order: &[usize], plan: Option<&Windows>) -> Result<Arguments> {
        let n = h * w;
        let places = places(h, w, self.merge);
        let direction = |axis: usize| -> Vec<i32> { order.iter().map(|&i| places[i][axis] as i32).collect() };
        let [cos, sin] = self.rope.angles(&[&direction(0), &direction(1)], n);
        let pairs = self.rope.pairs();
        let mut shared = vec![
            ("cos", HostTensor::from_f32([1, n, pairs], &cos)?),
            ("sin", HostTensor::from_f32([1, n, pairs], &sin)?),
        ];
        if let Some(plan) = plan {
            let unit = self.merge.pow(2);
            let segments: Vec<i32> = plan.segments.iter().flat_map(|s| vec![*s; unit]).collect();
            let mut back = vec![0; plan.order.len()];
            plan.order.iter().enumerate().for_each(|(at, &u)| back[u] = at as i32);
            shared.push(("segments", HostTensor::from_i32([1, n], &segments)?));
            shared.push(("back", HostTensor::from_i32([back.len()], &back)?));
        }
        if let Some(side) = self.positions {
            let grid = Rows::bilinear((side, side), (h, w), true, |y, x| y * side + x);
            let rows = grid.reordered(order.iter().map(|&i| places[i][0] * w + places[i][1]));
            shared.extend(rows.arguments()?);
        }
        Ok(shared)
    }

    /// Features of patches f32[b,n,numbers] with the inputs of [`QwenTower::shared`].
    fn features_of(&self, p: &Parameters, inputs: &[Tensor]) -> Vec<(String, Tensor)> {
        let [patches, cos, sin, rest @ ..] = inputs else { return Vec::new() };
        let (b, n) = (patches.dim(0), patches.dim(1));
        let mut x = p.linear(
            patches,
            &format!("{}patch_embed.proj", self.prefix),
            self.hidden,
            self.patch_bias,
            None,
        );
        let mut cx = Context {
            angles: vec![[cos, sin].map(|a| a.broadcast_to([b, n, self.rope.pairs()]))],
            ..Context::default()
        };
        let mut back = None;
        if self.window.is_some() {
            cx.segments = vec![rest[0].broadcast_to([b, n])];
            back = rest.get(1);
        }
        if let Some(side) = self.positions {
            let table = p.get(&format!("{}pos_embed.weight", self.prefix), [side * side, self.hidden]);
            x = x + Rows::of(&table, rest);
        }
        let mut outputs = Vec::new();
        let x = self.stack.trace_each(p, &x, &cx, |i, x| {
            for (k, _) in self.deepstack.iter().enumerate().filter(|(_, at)| **at == i) {
                let name = format!("{}.{k}", self.inner_mergers);
                // They are numbered as they come, whatever the order of their mergers.
                let number = outputs.len();
                outputs.push((format!("deepstack.{number}"), self.merge(p, &name, true, &x, None)));
            }
            x
        });
        outputs.push(("features".into(), self.merge(p, "merger", false, &x, back)));
        outputs
    }

    /// Features f32[rows,out] of states f32[b,n,hidden]; `late` normalizes after patches are put together.
    fn merge(&self, p: &Parameters, name: &str, late: bool, x: &Tensor, back: Option<&Tensor>) -> Tensor {
        let path = |part: &str| format!("{}{name}.{part}", self.prefix);
        let unit = self.merge.pow(2);
        let (b, n, width) = (x.dim(0), x.dim(1) / unit, self.hidden * unit);
        let normed = |x: &Tensor| self.merger_norm.trace(p, &path(self.merger.norm), x);
        let together = |x: &Tensor| x.reshape([b, n, width]);
        let x = if late { normed(&together(x)) } else { together(&normed(x)) };
        let x = p.linear(&x, &path(self.merger.first), width, true, Some(Activation::GeluErf));
        let x = p.linear(&x, &path(self.merger.second), self.out, true, None);
        back.map_or(x.clone(), |back| x.gather(back, 1)).reshape([b * n, self.out])
    }
}

impl Framed for QwenTower {
    fn label(&self) -> String {
        format!("{}tower", self.prefix)
    }

    fn numbers(&self) -> usize {
        self.numbers
    }

    fn merge(&self) -> usize {
        self.merge
    }

    fn prepare(&self, h: usize, w: usize) -> Result<(Vec<usize>, Arguments)> {
        let unit = self.merge.pow(2);
        let plan = self.window.map(|edge| windows((h / self.merge, w / self.merge), edge));
        // Units of merged patches move together.
        let order: Vec<usize> = match &plan {
            Some(plan) => plan.order.iter().flat_map(|u| u * unit..(u + 1) * unit).collect(),
            None => (0..h * w).collect(),
        };
        let shared = self.shared(h, w, &order, plan.as_ref())?;
        Ok((order, shared))
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Vec<(String, Tensor)> {
        self.features_of(p, inputs)
    }
}

/// Rows of features window by window.
struct Windows {
    /// The row-major number of the feature at each place.
    order: Vec<usize>,
    /// The window of each place.
    segments: Vec<i32>,
}

/// The windows of `edge` x `edge` features over a grid; those at the right and bottom may be smaller.
fn windows((h, w): (usize, usize), edge: usize) -> Windows {
    let mut found = Windows { order: Vec::with_capacity(h * w), segments: Vec::with_capacity(h * w) };
    let corners = (0..h).step_by(edge).flat_map(|top| (0..w).step_by(edge).map(move |left| (top, left)));
    for (number, (top, left)) in corners.enumerate() {
        for y in top..(top + edge).min(h) {
            for x in left..(left + edge).min(w) {
                found.order.push(y * w + x);
                found.segments.push(number as i32);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use percept_graph::{DType, Trace};

    use super::*;
    use crate::parameters::AllF32;

    // Qwen3VLVisionModel, transformers 5.23.
    #[test]
    fn extra_features_are_numbered_by_their_layers() {
        let file = json!({
            "depth": 3, "hidden_size": 8, "out_hidden_size": 8, "intermediate_size": 8, "num_heads": 2,
            "num_position_embeddings": 4, "deepstack_visual_indexes": [2, 0],
        });
        let c = Config::new("config.json", &file, json!({})).unwrap();
        let tower = QwenTower::qwen3(&c, "visual.").unwrap();
        let t = Trace::new("tower");
        let p = Parameters::new(&t, &AllF32);
        let mut inputs = vec![t.data("patches", DType::F32, [1, 4, tower.numbers])];
        inputs.extend(["cos", "sin"].map(|name| t.data(name, DType::F32, [1, 4, 2])));
        inputs.push(t.data("rows", DType::I32, [16]));
        inputs.push(t.data("row_weights", DType::F32, [4, 4, 1]));
        let outputs = tower.features_of(&p, &inputs);
        let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["deepstack.0", "deepstack.1", "features"]);
        outputs.iter().for_each(|(name, x)| t.output(name, x));
        assert!(t.finish().is_ok());
    }

    // Values from transformers 5.23: get_vision_window_index.
    #[test]
    fn windows_are_those_of_the_original() {
        let found = windows((3, 5), 2);
        assert_eq!(found.order, [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]);
        assert_eq!(found.segments, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
    }
}
