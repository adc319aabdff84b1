//! Gemma 4's tower: patches of an image of any size, placed by the sum of a vector for their column and one for their
//! row, and squares of them averaged.

use percept_graph::{HostTensor, Tensor};
use serde_json::json;

use crate::block::{Attention, BlockSpec, Context, Mlp, Norm, Norms, QkNorm, Stack};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::names;
use crate::parameters::{BOUNDS, Parameters};
use crate::rope::Rope;

/// Gemma 4's tower. Images are run at their own size, without padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemma4Tower {
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Patches along the edge of the square that becomes one feature.
    pub pool: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// Of the norms.
    pub eps: f32,
    /// Columns, and rows, that have a vector.
    places: usize,
    rope: Rope,
    stack: Stack,
    /// Its linear layers have bounds.
    clipped: bool,
    /// Features are shifted and scaled by vectors of their own.
    standardized: bool,
}

impl Gemma4Tower {
    /// The tower that these keys describe; values that they leave out are those of Gemma 4's own class.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "num_attention_heads": 12,
            "num_key_value_heads": 12, "head_dim": 64, "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6, "pooling_kernel_size": 3, "patch_size": 16, "position_embedding_size": 10240,
        }));
        let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
        let kv_heads = c.positive("num_key_value_heads")?;
        if !heads.is_multiple_of(kv_heads) {
            let why = format!("is {kv_heads}, which does not divide {heads}");
            return Err(c.error("num_key_value_heads", &why));
        }
        let head_dim = c.positive("head_dim")?;
        if !head_dim.is_multiple_of(4) || head_dim > 1 << 16 {
            return Err(
                c.error("head_dim", &format!("is {head_dim}; a row and a column turn half a head each"))
            );
        }
        if c.flag("attention_bias")? {
            return Err(c.error("attention_bias", "is true; this tower's projections have no biases"));
        }
        let (patch, pool) = (c.positive("patch_size")?, c.positive("pooling_kernel_size")?);
        if patch > 1 << 10 || pool > 1 << 6 {
            let why = format!("is {patch}, and 'pooling_kernel_size' {pool}: more than any tower has");
            return Err(c.error("patch_size", &why));
        }
        let places = c.positive("position_embedding_size")?;
        if places > 1 << 20 {
            return Err(c.error("position_embedding_size", &format!("is {places}, more than any tower has")));
        }
        let nested = c.section("rope_parameters", json!({ "rope_type": "axial", "rope_theta": 100.0 }))?;
        if !["axial", "default"].contains(&nested.text("rope_type")?) {
            return Err(nested.error("rope_type", "must be axial: two directions without scaling"));
        }
        let eps = c.f64("rms_norm_eps")? as f32;
        let block = BlockSpec {
            hidden,
            norm: Norm::rms(eps),
            norms: Norms::Around,
            attention: Attention {
                kv_heads,
                scale: 1.0,
                qk_norm: QkNorm::PerHead(Norm::rms(eps)),
                v_norm: Some(Norm::bare(eps)),
                rope: Some(0),
                ..Attention::plain(heads, head_dim, false)
            },
            recurrent: None,
            cross: None,
            mlp: Mlp {
                width: c.positive("intermediate_size")?,
                activation: c.activation("hidden_activation")?,
                gated: true,
                bias: false,
            },
            mixture: None,
            layer_scale: false,
            residual_scale: None,
            names: names::GEMMA4_VISION,
        };
        let layers = c.layers("num_hidden_layers")?;
        Ok(Self {
            prefix: prefix.to_string(),
            patch,
            pool,
            hidden,
            eps,
            places,
            rope: Rope::new(head_dim / 2, nested.f64("rope_theta")?),
            stack: Stack { prefix: format!("{prefix}encoder.layers"), blocks: vec![block; layers] },
            clipped: c.flag("use_clipped_linears")?,
            standardized: c.flag("standardize")?,
        })
    }

    /// Whether a tensor is a constant of the tower, which training leaves as it is.
    pub fn is_constant(&self, name: &str) -> bool {
        let mut constants = BOUNDS.iter().chain(&[".std_bias", ".std_scale"]);
        name.starts_with(&self.prefix) && constants.any(|suffix| name.ends_with(suffix))
    }

    /// Numbers of a patch.
    pub fn numbers(&self) -> usize {
        3 * self.patch.pow(2)
    }

    /// Features of an image of so many rows and columns of patches.
    pub fn features(&self, [rows, columns]: [usize; 2]) -> usize {
        (rows / self.pool) * (columns / self.pool)
    }

    /// Rows and columns of patches of an image whose patches stand at `places` i64[patches,2], column first, and -1 where
    /// there is none.
    ///
    /// # Errors
    /// When they are no full grid, row by row, or no whole number of squares.
    pub fn grid(&self, places: &[i64]) -> Result<[usize; 2]> {
        let there = places.chunks_exact(2).take_while(|place| place[0] >= 0).count();
        let edge =
            |axis: usize| places.chunks_exact(2).map(|place| place[axis] + 1).max().unwrap_or(0) as usize;
        let (rows, columns) = (edge(1), edge(0));
        let in_order = || {
            let places = places.chunks_exact(2).enumerate();
            places.take(there).all(|(i, place)| *place == [(i % columns) as i64, (i / columns) as i64])
        };
        let padded = || places.chunks_exact(2).skip(there).all(|place| *place == [-1, -1]);
        let whole = |edge: usize| edge > 0 && edge <= self.places && edge.is_multiple_of(self.pool);
        match whole(rows) && whole(columns) && rows * columns == there && in_order() && padded() {
            true => Ok([rows, columns]),
            false => Err(Error::Inputs(format!(
                "the places of {there} patches are no grid of up to {0}x{0}, row by row, that squares of {1} fill",
                self.places, self.pool
            ))),
        }
    }

    /// What a run on images of one grid reads: `patches` f32[n,rows columns,numbers], the vectors of their places
    /// i32[n,rows columns] by column and by row, and cosines and sines f32[n,2 rows columns,pairs].
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn arguments(
        &self,
        [rows, columns]: [usize; 2],
        patches: &[f32],
    ) -> Result<Vec<(&'static str, HostTensor)>> {
        let each = rows * columns;
        let n = patches.len() / (each * self.numbers()).max(1);
        let place = |f: &dyn Fn(usize) -> usize| -> Vec<i32> {
            (0..n).flat_map(|_| (0..each).map(f)).map(|at| at as i32).collect()
        };
        let (x, y) = (place(&|i| i % columns), place(&|i| i / columns));
        // Half a head turns by the column, the other half by the row.
        let both: Vec<i32> = x.iter().zip(&y).flat_map(|(x, y)| [*x, *y]).collect();
        let [cos, sin] = self.rope.angles(&[&both], both.len());
        let table = |angles: &[f32]| HostTensor::from_f32([n, 2 * each, self.rope.pairs()], angles);
        // The vectors of rows lie behind those of columns.
        let y: Vec<i32> = y.iter().map(|y| y + self.places as i32).collect();
        Ok(vec![
            ("patches", HostTensor::from_f32([n, each, self.numbers()], patches)?),
            ("columns", HostTensor::from_i32([n, each], &x)?),
            ("rows", HostTensor::from_i32([n, each], &y)?),
            ("cos", table(&cos)?),
            ("sin", table(&sin)?),
        ])
    }

    /// Features f32[n features,hidden] of images of one grid, from the inputs of [`Gemma4Tower::arguments`].
    pub fn trace(&self, p: &Parameters, inputs: &[Tensor], [rows, columns]: [usize; 2]) -> Option<Tensor> {
        let [patches, by_column, by_row, cos, sin] = inputs else { return None };
        let at = |name: &str| format!("{}{name}", self.prefix);
        let patches = (patches - patches.like(0.5)) * 2.0;
        let x = p.linear(&patches, &at("patch_embedder.input_proj"), self.hidden, false, None);
        let table = at("patch_embedder.position_embedding_table");
        let vector = |ids: &Tensor| p.embedding(ids, &table, [2 * self.places, self.hidden]);
        let x = x + (vector(by_column) + vector(by_row));
        let angles = vec![[cos.clone(), sin.clone()]];
        let cx = Context { angles, clipped: self.clipped, ..Context::default() };
        let x = self.stack.trace(p, &x, &cx);
        let (n, k) = (x.dim(0), self.pool);
        let squares = x.reshape([n * rows / k, k, columns / k, k, self.hidden]);
        let x = squares.mean([1, 3]).reshape([n * self.features([rows, columns]), self.hidden]);
        let x = x * (self.hidden as f64).sqrt();
        Some(match self.standardized {
            true => (x - p.get(&at("std_bias"), [self.hidden])) * p.get(&at("std_scale"), [self.hidden]),
            false => x,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_read_from_the_places_of_its_patches() {
        let c = Config::new("config.json", &json!({ "pooling_kernel_size": 2 }), json!({})).unwrap();
        let tower = Gemma4Tower::read(&c, "").unwrap();
        assert_eq!((tower.stack.blocks.len(), tower.hidden, tower.places), (16, 768, 10240));
        let places = |rows: i64, columns: i64, more: usize| -> Vec<i64> {
            let there = (0..rows).flat_map(|y| (0..columns).flat_map(move |x| [x, y]));
            there.chain(std::iter::repeat_n(-1, 2 * more)).collect()
        };
        assert_eq!(tower.grid(&places(2, 4, 3)).unwrap(), [2, 4]);
        for wrong in
            [places(2, 3, 0), places(0, 0, 4), [places(2, 2, 1), places(2, 2, 0)].concat(), vec![1, 0, 0, 0]]
        {
            assert!(tower.grid(&wrong).is_err(), "{wrong:?}");
        }
    }
}
