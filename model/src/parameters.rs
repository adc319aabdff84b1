//! Parameters of a model while it is traced: declared once each, under their checkpoint names.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use percept_graph::{Activation, DType, Role, Tensor, TensorType, Trace};

use crate::error::Error;
use crate::peft::suffix;

/// What parameters are on the device: their dtypes, and what adapters put beside them.
pub trait ParameterSpecs {
    /// The dtype of a matrix or table of this shape.
    ///
    /// # Errors
    /// When there is no such parameter, or it has another number of elements.
    fn dtype(&self, name: &str, dims: &[usize]) -> Result<DType, Error>;

    /// What is trained beside the linear layer `name` (without `.weight`), if anything is.
    fn adapter(&self, name: &str) -> Option<Adapter> {
        let _ = name;
        None
    }

    /// Whether elements before that are dropped; the graph then has the inputs [`DROPOUT_KEY`] and
    /// [`DROPOUT_SHARE`].
    fn drops(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// What an adapter does to the products of the linear layer `name` beside its addition.
    fn extras(&self, name: &str) -> Extras {
        let _ = name;
        Extras::default()
    }

    /// Adapters to the linear layer `name` that act on some rows each, with the numbers of their slots: see
    /// [`Parameters::set_slots`].
    fn slots(&self, name: &str) -> Vec<(usize, Adapter, Extras)> {
        let _ = name;
        Vec::new()
    }

    /// Whether an adapter in a file adds something to the tensor `name`, so that it is `{name}.adapted` for
    /// whoever reads it whole. [`Parameters::linear`] and [`Parameters::embedding`] add it to what they
    /// compute.
    fn is_adapted(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// What an adapter does to a linear layer's products beside its addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Extras {
    /// They are first multiplied by `{name}.lora_magnitude_vector` [n] (DoRA, Liu et al. 2024); rows of a
    /// table by as many values as it has columns.
    pub magnitude: bool,
    /// `{name}.lora_bias` [n] is added to them.
    pub bias: bool,
}

/// The input u32[2] that keys the random bits of dropout, another one for every batch.
pub const DROPOUT_KEY: &str = "dropout.key";
/// The input f32[] that is the share of elements that are dropped, below 1; with 0 nothing is.
pub const DROPOUT_SHARE: &str = "dropout.share";

/// A low-rank addition to a linear layer (Hu et al. 2021): y + scale x A^T B^T, with the parameters
/// `{name}.lora_A.weight` [rank,k] and `{name}.lora_B.weight` [n,rank].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapter {
    /// Rows of A.
    pub rank: usize,
    /// Multiplies the addition.
    pub scale: f32,
}

/// Suffixes of the bounds of [`Parameters::clipped_linear`].
pub const BOUNDS: [&str; 4] = [".input_min", ".input_max", ".output_min", ".output_max"];

/// Every parameter in f32, as training has them.
pub struct AllF32;

impl ParameterSpecs for AllF32 {
    fn dtype(&self, _name: &str, _dims: &[usize]) -> Result<DType, Error> {
        Ok(DType::F32)
    }
}

/// The parameters of one trace. A parameter that is used twice, like a tied table, is one input.
pub struct Parameters<'a> {
    trace: Trace,
    specs: &'a dyn ParameterSpecs,
    declared: RefCell<HashMap<String, Tensor>>,
    slots: RefCell<Slots>,
}

/// Which rows the adapter of each slot acts on.
#[derive(Default)]
struct Slots {
    of_rows: Option<Tensor>,
    /// bool, in the shape of `of_rows`, by slot.
    masks: HashMap<usize, Tensor>,
}

impl<'a> Parameters<'a> {
    /// Parameters as inputs of `trace`.
    pub fn new(trace: &Trace, specs: &'a dyn ParameterSpecs) -> Self {
        Self { trace: trace.clone(), specs, declared: RefCell::default(), slots: RefCell::default() }
    }

    /// The trace they are inputs of.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// A vector or other small parameter, as f32 whatever the checkpoint holds.
    pub fn get(&self, name: &str, dims: impl Into<Vec<usize>>) -> Tensor {
        let (name, dims) = (self.whole(name), dims.into());
        match self.specs.dtype(&name, &dims) {
            Ok(_) => self.declare(&name, DType::F32, dims),
            Err(e) => self.refuse(&name, e),
        }
    }

    /// A matrix or table in the dtype it is stored in. The checkpoint may hold the same elements under
    /// another shape.
    pub fn matrix(&self, name: &str, dims: [usize; 2]) -> Tensor {
        self.as_stored(&self.whole(name), &dims)
    }

    /// Matrices [count,n,k] of one shape, as experts have, in the dtype they are stored in.
    pub fn matrices(&self, name: &str, dims: [usize; 3]) -> Tensor {
        self.as_stored(&self.whole(name), &dims)
    }

    /// Rows of x f32[m,k] times the matrices of the stack `name` [experts,n,k] that `groups` i32[m,c] give each, f32[m,c,n],
    /// plus what an adapter adds to them, as in [`Parameters::linear`]. m is the rows of the pass or a multiple of them,
    /// those of one beside each other.
    pub fn ragged(&self, x: &Tensor, name: &str, dims: [usize; 3], groups: &Tensor) -> Tensor {
        let ([experts, n, _], [m, c]) = (dims, [groups.dim(0), groups.dim(1)]);
        let bare = ragged(x, &self.as_stored(name, &dims), groups);
        let adapted = |Adapter { rank, scale }: Adapter, part: &dyn Fn(&str, &[usize]) -> Tensor| {
            let down = ragged(x, &part(suffix::DOWN, &[experts, rank, x.dim(1)]), groups);
            let each = groups.reshape([m * c, 1]);
            let up = ragged(&down.reshape([m * c, rank]), &part(suffix::UP, &[experts, n, rank]), &each);
            &bare + up.reshape([m, c, n]) * scale as f64
        };
        let y = match self.specs.adapter(name) {
            None => bare.clone(),
            Some(adapter) => {
                adapted(adapter, &|suffix, dims| self.as_stored(&format!("{name}{suffix}"), dims))
            }
        };
        self.specs.slots(name).into_iter().fold(y, |y, (slot, adapter, _)| {
            let part = |suffix: &str, dims: &[usize]| {
                let name = slot_parameter(slot, &format!("{name}{suffix}"));
                self.batch_input(&name, TensorType::new(DType::F32, dims))
            };
            let mask = self.mask(slot);
            let rows = mask.dims().iter().product::<usize>().max(1);
            let mask = mask.reshape([rows, 1]).broadcast_to([rows, m / rows]).reshape([m, 1, 1]);
            mask.select(&adapted(adapter, &part), &y)
        })
    }

    /// The name of a tensor with what an adapter adds to it.
    fn whole<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.specs.is_adapted(name) { format!("{name}.adapted").into() } else { name.into() }
    }

    fn as_stored(&self, name: &str, dims: &[usize]) -> Tensor {
        match self.specs.dtype(name, dims) {
            Ok(dtype) => self.declare(name, dtype, dims.to_vec()),
            Err(e) => self.refuse(name, e),
        }
    }

    /// act(x w^T + b) with `{name}.weight` [n,k] and, when there is one, `{name}.bias` [n], plus what an
    /// adapter adds: the one that [`ParameterSpecs::adapter`] tells of, or that of the slot that a row has.
    pub fn linear(&self, x: &Tensor, name: &str, n: usize, bias: bool, act: Option<Activation>) -> Tensor {
        let k = x.dim(x.rank().saturating_sub(1));
        let w = self.as_stored(&format!("{name}.weight"), &[n, k]);
        self.through(x, (name, &w), bias, act)
    }

    /// As [`Parameters::linear`] without a bias, in f32 whatever the weight is stored in.
    pub fn linear_in_f32(&self, x: &Tensor, name: &str, n: usize) -> Tensor {
        let (weight, dims) = (format!("{name}.weight"), vec![n, x.dim(x.rank().saturating_sub(1))]);
        let w = match self.specs.dtype(&weight, &dims) {
            Ok(_) => self.declare(&weight, DType::F32, dims),
            Err(e) => self.refuse(&weight, e),
        };
        self.through(x, (name, &w), false, None)
    }

    /// A linear layer with this weight [n,k] and what goes with its name.
    fn through(&self, x: &Tensor, (name, w): (&str, &Tensor), bias: bool, act: Option<Activation>) -> Tensor {
        let n = w.dim(0);
        let b = bias.then(|| self.get(&format!("{name}.bias"), [n]));
        let products = Products { x, w, b: b.as_ref(), biased: OnceCell::new(), bare: OnceCell::new() };
        let y = match self.specs.adapter(name) {
            None => products.activated(act),
            Some(adapter) => {
                let part = |suffix: &str, dims: &[usize]| match *dims {
                    [_, _] => self.as_stored(&format!("{name}{suffix}"), dims),
                    _ => self.get(&format!("{name}{suffix}"), dims),
                };
                let dropped = self.specs.drops(name).then(|| self.dropped(x, name));
                let into = dropped.as_ref().unwrap_or(x);
                products.adapted(into, n, adapter, self.specs.extras(name), act, part)
            }
        };
        self.specs.slots(name).into_iter().fold(y, |y, (slot, adapter, extras)| {
            let part = |suffix: &str, dims: &[usize]| {
                let name = slot_parameter(slot, &format!("{name}{suffix}"));
                self.batch_input(&name, TensorType::new(DType::F32, dims))
            };
            // The same operations as of an adapter that all rows have, so that a row's result is the same.
            let adapted = products.adapted(x, n, adapter, extras, act, part);
            self.mask(slot).select(&adapted, &y)
        })
    }

    /// As [`Parameters::linear`] of the layer `{part}.linear`, where x and the products are clipped to the bounds
    /// `{part}.input_min`, `input_max`, `output_min` and `output_max`, which are numbers each.
    pub fn clipped_linear(
        &self,
        x: &Tensor,
        name: &str,
        n: usize,
        bias: bool,
        act: Option<Activation>,
    ) -> Tensor {
        let part = name.strip_suffix(".linear").unwrap_or(name);
        let clip = |x: &Tensor, of: &str| {
            let [low, high] = ["min", "max"].map(|end| self.get(&format!("{part}.{of}_{end}"), []));
            x.clamp_between(&low, &high)
        };
        let y = clip(&self.linear(&clip(x, "input"), name, n, bias, None), "output");
        act.map_or(y.clone(), |a| y.activate(a))
    }

    /// From now on rows have the slots of these numbers, i32[..rows,1], and none where the number is
    /// negative.
    pub fn set_slots(&self, of_rows: Tensor) {
        *self.slots.borrow_mut() = Slots { of_rows: Some(of_rows), masks: HashMap::new() };
    }

    /// The rows of a slot.
    fn mask(&self, slot: usize) -> Tensor {
        let Slots { of_rows, masks } = &mut *self.slots.borrow_mut();
        let Some(of_rows) = of_rows else {
            let why = "adapters act on some rows, and the pass does not say on which".to_string();
            self.trace.fail(format!("slot {slot}"), Vec::new(), why);
            return self.trace.full(DType::Bool, [], 0.0);
        };
        masks.entry(slot).or_insert_with(|| of_rows.eq(&of_rows.like(slot as f64))).clone()
    }

    /// x with a random share of its elements replaced by 0 and the others divided by what is left of one
    /// (Srivastava et al. 2014). The bits are counter-based: under the batch's key, each layer has the stream
    /// of its name, and an element the counter of its place.
    fn dropped(&self, x: &Tensor, name: &str) -> Tensor {
        let key = self.batch_input(DROPOUT_KEY, TensorType::new(DType::U32, [2]));
        let share = self.batch_input(DROPOUT_SHARE, TensorType::new(DType::F32, []));
        let uniform = key.random_uniform(dropout_stream(name), x.dims());
        let kept = x / (share.like(1.0) - &share);
        uniform.lt(&share).select(&x.like(0.0), &kept)
    }

    /// An input of the batch, which all layers have in common.
    pub fn batch_input(&self, name: &str, ty: TensorType) -> Tensor {
        let mut declared = self.declared.borrow_mut();
        declared.entry(name.to_string()).or_insert_with(|| self.trace.input(name, Role::Data, ty)).clone()
    }

    /// Rows of the table `name` [v,d] at i32 ids, as f32, plus those that an adapter adds.
    pub fn embedding(&self, ids: &Tensor, name: &str, dims: [usize; 2]) -> Tensor {
        let look = |table: &Tensor| {
            let out = if table.dtype().is_quantized() { DType::F32 } else { table.dtype() };
            table.embedding(ids, out).cast(DType::F32)
        };
        let rows = look(&self.as_stored(name, &dims));
        let layer = name.strip_suffix(".weight").filter(|_| self.specs.is_adapted(name));
        let Some((layer, Adapter { rank, scale })) = layer.and_then(|l| Some((l, self.specs.adapter(l)?)))
        else {
            return rows;
        };
        let [v, d] = dims;
        let first = look(&self.as_stored(&format!("{layer}.lora_embedding_A.weight"), &[v, rank]));
        let up = self.as_stored(&format!("{layer}.lora_embedding_B.weight"), &[d, rank]);
        let added = product(&first, &up, None, None) * scale as f64;
        match self.specs.extras(layer).magnitude {
            true => rows * self.get(&format!("{layer}.lora_magnitude_vector"), [d]) + added,
            false => rows + added,
        }
    }

    /// The parameter `name` of another graph that is recorded on this trace too, in the type that it has
    /// there.
    pub fn shared(&self, name: &str, ty: &TensorType) -> Tensor {
        self.declare(name, ty.dtype, ty.dims.clone())
    }

    fn declare(&self, name: &str, dtype: DType, dims: Vec<usize>) -> Tensor {
        let mut declared = self.declared.borrow_mut();
        declared
            .entry(name.to_string())
            .or_insert_with(|| self.trace.parameter(name, dtype, dims.clone()))
            .clone()
    }

    /// Keeps the error in the trace; what is made of the handle is ignored.
    fn refuse(&self, name: &str, e: Error) -> Tensor {
        self.trace.fail(format!("parameter '{name}'"), Vec::new(), e.to_string());
        self.trace.full(DType::F32, [], 0.0)
    }
}

/// What the parameter `name` of the adapter in a slot is called in a graph: an input that differs from run to
/// run.
pub fn slot_parameter(slot: usize, name: &str) -> String {
    format!("slot.{slot}.{name}")
}

/// The slot and the parameter that a name of [`slot_parameter`] says.
pub fn parse_slot_parameter(name: &str) -> Option<(usize, &str)> {
    let (slot, name) = name.strip_prefix("slot.")?.split_once('.')?;
    Some((slot.parse().ok()?, name))
}

/// The products of a layer that adapters add to, each recorded once.
struct Products<'a> {
    x: &'a Tensor,
    w: &'a Tensor,
    b: Option<&'a Tensor>,
    /// x w^T + b.
    biased: OnceCell<Tensor>,
    /// x w^T.
    bare: OnceCell<Tensor>,
}

impl Products<'_> {
    fn biased(&self) -> &Tensor {
        self.biased.get_or_init(|| product(self.x, self.w, self.b, None))
    }

    fn bare(&self) -> &Tensor {
        match self.b {
            None => self.biased(),
            Some(_) => self.bare.get_or_init(|| product(self.x, self.w, None, None)),
        }
    }

    /// act(x w^T + b).
    fn activated(&self, act: Option<Activation>) -> Tensor {
        match act {
            None => self.biased().clone(),
            Some(_) => product(self.x, self.w, self.b, act),
        }
    }

    /// The same with what an adapter adds, whose own product is of `into`. `part` declares its parameters of
    /// a suffix and a shape.
    fn adapted(
        &self,
        into: &Tensor,
        n: usize,
        Adapter { rank, scale }: Adapter,
        extras: Extras,
        act: Option<Activation>,
        part: impl Fn(&str, &[usize]) -> Tensor,
    ) -> Tensor {
        let k = into.dim(into.rank().saturating_sub(1));
        let down = part(suffix::DOWN, &[rank, k]);
        let up = part(suffix::UP, &[n, rank]);
        let down = product(into, &down, None, None);
        let added = product(&down, &up, None, None) * scale as f64;
        let mut y = match extras.magnitude {
            false => self.biased() + added,
            true => {
                let y = self.bare() * part(suffix::MAGNITUDE, &[n]) + added;
                self.b.map_or(y.clone(), |b| y + b)
            }
        };
        if extras.bias {
            y = y + part(suffix::BIAS, &[n]);
        }
        act.map_or(y.clone(), |a| y.activate(a))
    }
}

/// The stream of a layer's dropout: FNV-1a of its name.
fn dropout_stream(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// act(x w^T + b) of f32 x and w [n,k] in any dtype. With a half-precision w the products are of halves,
/// summed in f32; a quantized one is dequantized exactly.
pub fn product(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, act: Option<Activation>) -> Tensor {
    if !matches!(w.dtype(), DType::F16 | DType::BF16) {
        return x.linear(w, bias, act);
    }
    let y = x.cast(w.dtype()).linear(w, None, None).cast(DType::F32);
    let y = bias.map_or(y.clone(), |b| &y + b);
    act.map_or(y.clone(), |a| y.activate(a))
}

/// Rows f32[m,k] times matrices [g,n,k] in any dtype, each row the ones of `groups` i32[m,c], f32[m,c,n]; halves and
/// quantized matrices as in [`product`].
pub fn ragged(x: &Tensor, w: &Tensor, groups: &Tensor) -> Tensor {
    as_weights(x, w).ragged_dot(w, groups).cast(DType::F32)
}

/// Rows f32[m,n] times the transposes of matrices [g,n,k], likewise, f32[m,c,k].
pub fn ragged_transposed(x: &Tensor, w: &Tensor, groups: &Tensor) -> Tensor {
    as_weights(x, w).ragged_dot_transposed(w, groups).cast(DType::F32)
}

/// x in the dtype of half-precision weights.
fn as_weights(x: &Tensor, w: &Tensor) -> Tensor {
    if w.dtype().is_float() { x.cast(w.dtype()) } else { x.clone() }
}

#[cfg(test)]
mod tests {
    use percept_graph::HostTensor;
    use percept_graph::reference::evaluate;

    use super::*;

    /// One layer with an adapter whose input is dropped.
    struct Dropping;

    impl ParameterSpecs for Dropping {
        fn dtype(&self, _name: &str, _dims: &[usize]) -> Result<DType, Error> {
            Ok(DType::F32)
        }

        fn adapter(&self, _name: &str) -> Option<Adapter> {
            Some(Adapter { rank: 2, scale: 0.5 })
        }

        fn drops(&self, _name: &str) -> bool {
            true
        }
    }

    /// Threefry-2x32-20 of the counter (a, b), as in Salmon et al. 2011.
    fn threefry(key: [u32; 2], counter: [u32; 2]) -> u32 {
        let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
        let [mut a, mut b] = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
        for round in 0..20usize {
            a = a.wrapping_add(b);
            b = b.rotate_left([13, 15, 26, 6, 17, 29, 16, 24][round % 8]) ^ a;
            if round % 4 == 3 {
                let i = round / 4 + 1;
                a = a.wrapping_add(keys[i % 3]);
                b = b.wrapping_add(keys[(i + 1) % 3]).wrapping_add(i as u32);
            }
        }
        a
    }

    // y = x w^T + scale (m x / (1 - p)) A^T B^T with m from the published generator, worked out in plain
    // loops.
    #[test]
    fn dropout_before_an_adapter_follows_its_formula() {
        let (rows, k, n, rank) = (40, 8, 3, 2);
        let t = Trace::new("dropout");
        let x = t.data("x", DType::F32, [rows, k]);
        let p = Parameters::new(&t, &Dropping);
        t.output("y", &p.linear(&x, "layers.0.q", n, false, None));
        drop(p);
        let graph = t.finish().unwrap();
        let numbers = |n: usize, seed: usize| -> Vec<f64> {
            (0..n).map(|i| ((i * 7 + seed * 13) % 11) as f64 / 8.0 - 0.5).collect()
        };
        let values = |name: &str| match name {
            "x" => numbers(rows * k, 1),
            "layers.0.q.weight" => numbers(n * k, 2),
            "layers.0.q.lora_A.weight" => numbers(rank * k, 3),
            _ => numbers(n * rank, 4),
        };
        let run = |share: f64, key: [u32; 2]| {
            let input = |i: &percept_graph::Input| {
                let ty = graph.ty(i.value).clone();
                match &i.name[..] {
                    DROPOUT_KEY => HostTensor::from_f64(ty, &key.map(f64::from)).unwrap(),
                    DROPOUT_SHARE => HostTensor::from_f64(ty, &[share]).unwrap(),
                    name => HostTensor::from_f64(ty, &values(name)).unwrap(),
                }
            };
            let inputs: Vec<HostTensor> = graph.inputs().iter().map(input).collect();
            evaluate(&graph, &inputs).unwrap()[0].values()
        };
        let [x, w] = ["x", "layers.0.q.weight"].map(values);
        let [a, b] = ["layers.0.q.lora_A.weight", "layers.0.q.lora_B.weight"].map(values);
        let expected = |share: f64, key: [u32; 2]| {
            let mut dropped = 0;
            let mut y = Vec::new();
            for r in 0..rows {
                let kept: Vec<f64> = (0..k)
                    .map(|c| {
                        let bits = threefry(key, [(r * k + c) as u32, dropout_stream("layers.0.q")]);
                        let is_dropped = f64::from(bits >> 8) / 16_777_216.0 < share;
                        dropped += usize::from(is_dropped);
                        if is_dropped { 0.0 } else { x[r * k + c] / (1.0 - share) }
                    })
                    .collect();
                let dot = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
                let down: Vec<f64> = a.chunks(k).map(|row| dot(&kept, row)).collect();
                for j in 0..n {
                    y.push(
                        dot(&x[r * k..][..k], &w[j * k..][..k]) + 0.5 * dot(&down, &b[j * rank..][..rank]),
                    );
                }
            }
            (y, dropped as f64 / (rows * k) as f64)
        };
        for (share, key) in [(0.0, [1, 2]), (0.25, [1, 2]), (0.25, [3, 2]), (0.6, [7, 9])] {
            let (wanted, dropped) = expected(share, key);
            let found = run(share, key);
            assert!(
                found.iter().zip(&wanted).all(|(f, e)| (f - e).abs() < 1e-5),
                "{share}: {found:?} {wanted:?}"
            );
            assert!((dropped - share).abs() < 0.08, "{dropped} of {share}");
        }
        assert_ne!(run(0.25, [1, 2]), run(0.25, [3, 2]));
    }

    #[test]
    fn the_stream_of_a_layer_is_fnv_1a() {
        // Published values for the empty text and for "a" and "foobar".
        assert_eq!(["", "a", "foobar"].map(dropout_stream), [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]);
    }
}
