//! Vision towers, and how their runs are put together.

mod framed;
mod gemma4;
mod glm;
mod mrope;
mod pixtral;
mod qwen;
mod rows;
mod tower;

pub use framed::{Arguments, Framed, framed_runs, places};
pub use gemma4::Gemma4Tower;
pub use glm::GlmTower;
pub use mrope::{Grids, Resume, mrope_at, mrope_layout, mrope_of};
pub use pixtral::PixtralTower;
pub use qwen::{QwenTower, qwen2_5_defaults, qwen2_defaults, qwen3_defaults};
pub use rows::Rows;

use percept_graph::{HostTensor, Tensor, Trace};
use percept_modalities::{Inputs, Values};

use crate::causal::{EncoderRun, Layout, input_ids};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::weights::Weights;

/// Patches that one run should have at most; a run has at least one image or frame even so.
pub const PATCHES: usize = 4096;

/// A run whose inputs are `arguments` and whose outputs are what `trace` gives. The trace must depend on
/// `label`, the weights and the arguments' types alone.
///
/// # Errors
/// When the checkpoint's tensors do not fit the configuration.
pub fn encoder_run(
    label: &str,
    weights: &Weights,
    arguments: Vec<(&str, HostTensor)>,
    trace: impl FnOnce(&Parameters, &[Tensor]) -> Vec<(String, Tensor)>,
) -> Result<EncoderRun> {
    let mut key = label.to_string();
    for (name, value) in &arguments {
        key += &format!(" {name}:{}", value.ty());
    }
    let t = Trace::new(label);
    let p = Parameters::new(&t, weights);
    let inputs: Vec<Tensor> =
        arguments.iter().map(|(name, v)| t.data(*name, v.ty().dtype, v.ty().dims.to_vec())).collect();
    for (name, value) in trace(&p, &inputs) {
        t.output(name, &value);
    }
    let arguments = arguments.into_iter().map(|(name, v)| (name.to_string(), v)).collect();
    Ok(EncoderRun { key, graph: t.finish()?, arguments })
}

/// An array of floats by name with its extents; `None` when the inputs have none.
///
/// # Errors
/// When it has another rank or dtype, or its values do not fill it.
pub fn floats<'a, const N: usize>(inputs: &'a Inputs, name: &str) -> Result<Option<([usize; N], &'a [f32])>> {
    let Some(array) = inputs.arrays.get(name) else { return Ok(None) };
    match (<[usize; N]>::try_from(&array.dims[..]), &array.values) {
        (Ok(dims), Values::F32(values)) if product(&dims) == Some(values.len()) => Ok(Some((dims, values))),
        _ => Err(Error::Inputs(format!(
            "{name} {:?} must be floats of rank {N}, as many as its extents say",
            array.dims
        ))),
    }
}

/// The same for integers.
///
/// # Errors
/// As [`floats`].
pub fn integers<'a, const N: usize>(
    inputs: &'a Inputs,
    name: &str,
) -> Result<Option<([usize; N], &'a [i64])>> {
    let Some(array) = inputs.arrays.get(name) else { return Ok(None) };
    match (<[usize; N]>::try_from(&array.dims[..]), &array.values) {
        (Ok(dims), Values::I64(values)) if product(&dims) == Some(values.len()) => Ok(Some((dims, values))),
        _ => Err(Error::Inputs(format!(
            "{name} {:?} must be integers of rank {N}, as many as its extents say",
            array.dims
        ))),
    }
}

fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Text, in which each token of `kinds` is a placeholder for the next of so many feature rows. The rows of a
/// kind come after those of the kinds before it.
///
/// # Errors
/// When there are more or fewer placeholders than rows.
pub fn media_layout(inputs: &Inputs, kinds: &[(i32, usize)]) -> Result<Layout> {
    let mut layout = Layout::text(inputs)?;
    layout.features = feature_rows(&input_ids(inputs)?, kinds)?;
    Ok(layout)
}

/// The feature row of every token, as [`media_layout`] has them.
///
/// # Errors
/// As [`media_layout`].
pub fn feature_rows(ids: &[i32], kinds: &[(i32, usize)]) -> Result<Vec<Option<usize>>> {
    let mut start = 0;
    let mut rows = vec![None; ids.len()];
    for &(token, count) in kinds {
        let mut placeholders = rows.iter_mut().zip(ids).filter(|(_, id)| **id == token).map(|(row, _)| row);
        (start..start + count).zip(&mut placeholders).for_each(|(row, found)| *found = Some(row));
        let found = ids.iter().filter(|id| **id == token).count();
        if found != count {
            return Err(Error::Inputs(format!(
                "the prompt has {found} placeholders for media (token {token}), but the media have {count} rows of features"
            )));
        }
        start += count;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_each_kind_go_to_its_placeholders_in_order() {
        let rows = feature_rows(&[9, 7, 8, 7, 9], &[(7, 2), (8, 1)]).unwrap();
        assert_eq!(rows, [None, Some(0), Some(2), Some(1), None]);
        let e = feature_rows(&[7, 7], &[(7, 3)]).unwrap_err().to_string();
        assert_eq!(
            e,
            "the prompt has 2 placeholders for media (token 7), but the media have 3 rows of features"
        );
    }
}
