//! Decoding of quantized blocks, which are rows of bytes: the formats of `percept_graph::DType`, by bit operations.
//!
//! Every product of a scale and an integer is exact in f32; a minimum is added with one rounding.

use percept_graph::{DType, TensorType};

use super::writer::{Element, Value, Writer};

/// The weights of a quantized tensor as f32; `ty` is its type in the graph.
///
/// # Errors
/// When the format has no decoder here, naming it.
pub(super) fn dequantize(w: &mut Writer, bytes: &Value, ty: &TensorType) -> Result<Value, String> {
    let blocks = ty.numel() / ty.dtype.block_len();
    let rows = w.reshape(bytes, &[blocks, ty.dtype.block_bytes()]);
    let weights = match ty.dtype {
        DType::Q8_0 => q8_0(w, &rows),
        DType::Q4_0 => q4_0(w, &rows),
        DType::Q4_1 => q4_1(w, &rows),
        DType::Q4K => q4_k(w, &rows),
        DType::Q6K => q6_k(w, &rows),
        DType::Q8X => q8_x(w, &rows),
        other => return Err(format!("{other} blocks are not decoded in StableHLO")),
    };
    Ok(w.reshape(&weights, &ty.dims))
}

/// The f16 in bytes `at` and `at + 1` of each block, as f32 [blocks, 1].
fn scale(w: &mut Writer, rows: &Value, at: usize) -> Value {
    let blocks = rows.dims()[0];
    let pair = w.columns(rows, at, at + 2);
    let half = w.bitcast(&pair, Element::F16, [blocks]);
    let half = w.reshape(&half, &[blocks, 1]);
    w.convert(&half, Element::F32)
}

/// Bytes `start .. limit` as signed integers, in f32.
fn signed(w: &mut Writer, rows: &Value, start: usize, limit: usize) -> Value {
    let bytes = w.columns(rows, start, limit);
    let signed = w.bitcast(&bytes, Element::I8, bytes.dims());
    w.convert(&signed, Element::F32)
}

/// Bytes `start .. limit` as i32, to take bits from.
fn words(w: &mut Writer, rows: &Value, start: usize, limit: usize) -> Value {
    let bytes = w.columns(rows, start, limit);
    w.convert(&bytes, Element::I32)
}

/// `width` bits of each word from bit `from` on.
fn bits(w: &mut Writer, words: &Value, from: u32, width: u32) -> Value {
    let distance = w.like(words, from as f64);
    let shifted = if from == 0 { words.clone() } else { w.binary("shift_right_logical", words, &distance) };
    let mask = w.like(words, ((1 << width) - 1) as f64);
    w.binary("and", &shifted, &mask)
}

/// Words of two parts: `low | high << by`.
fn joined(w: &mut Writer, low: &Value, high: &Value, by: u32) -> Value {
    let distance = w.like(high, by as f64);
    let high = w.binary("shift_left", high, &distance);
    w.binary("or", low, &high)
}

/// Integers as floats, less an offset.
fn float(w: &mut Writer, words: &Value, offset: f64) -> Value {
    let x = w.convert(words, Element::F32);
    if offset == 0.0 {
        return x;
    }
    let offset = w.like(&x, offset);
    w.binary("subtract", &x, &offset)
}

/// [blocks, groups] repeated over the elements of each group: [blocks, groups, len].
fn per_group(w: &mut Writer, x: &Value, len: usize) -> Value {
    w.broadcast(x, &[x.dims()[0], x.dims()[1], len], &[0, 1])
}

/// [blocks, 1] times a block's elements.
fn scaled(w: &mut Writer, d: &Value, q: &Value) -> Value {
    let d = w.broadcast(d, q.dims(), &[0, 1]);
    w.binary("multiply", &d, q)
}

fn q8_0(w: &mut Writer, rows: &Value) -> Value {
    let d = scale(w, rows, 0);
    let q = signed(w, rows, 2, 34);
    scaled(w, &d, &q)
}

/// Low nibbles, then high ones.
fn nibbles(w: &mut Writer, rows: &Value, start: usize, limit: usize) -> Value {
    let q = words(w, rows, start, limit);
    let (low, high) = (bits(w, &q, 0, 4), bits(w, &q, 4, 4));
    w.concat(&[low, high], 1)
}

fn q4_0(w: &mut Writer, rows: &Value) -> Value {
    let d = scale(w, rows, 0);
    let q = nibbles(w, rows, 2, 18);
    let q = float(w, &q, 8.0);
    scaled(w, &d, &q)
}

fn q4_1(w: &mut Writer, rows: &Value) -> Value {
    let (d, m) = (scale(w, rows, 0), scale(w, rows, 2));
    let q = nibbles(w, rows, 4, 20);
    let q = float(w, &q, 0.0);
    let y = scaled(w, &d, &q);
    let m = w.broadcast(&m, y.dims(), &[0, 1]);
    w.binary("add", &y, &m)
}

/// Groups 0 to 3 have their 6 bits in bytes 0-3 (scales) and 4-7 (minima); groups 4 to 7 have four bits in bytes 8-11
/// and the two above them at the top of bytes 0-3 and 4-7.
fn q4_k(w: &mut Writer, rows: &Value) -> Value {
    let blocks = rows.dims()[0];
    let (d, dmin) = (scale(w, rows, 0), scale(w, rows, 2));
    let (a, b, c) = (words(w, rows, 4, 8), words(w, rows, 8, 12), words(w, rows, 12, 16));
    let mut factors = |first: &Value, low: u32, of: &Value| {
        let below = bits(w, first, 0, 6);
        let (low, high) = (bits(w, &c, low, 4), bits(w, first, 6, 2));
        let above = joined(w, &low, &high, 4);
        let all = w.concat(&[below, above], 1);
        let all = float(w, &all, 0.0);
        let all = scaled(w, of, &all);
        per_group(w, &all, 32)
    };
    let (scales, minima) = (factors(&a, 0, &d), factors(&b, 4, &dmin));
    // Each run of 32 bytes: a group in the low nibbles, the next in the high ones.
    let q = words(w, rows, 16, 144);
    let (low, high) = (bits(w, &q, 0, 4), bits(w, &q, 4, 4));
    let runs = [blocks, 4, 1, 32];
    let (low, high) = (w.reshape(&low, &runs), w.reshape(&high, &runs));
    let q = w.concat(&[low, high], 2);
    let q = w.reshape(&q, &[blocks, 8, 32]);
    let q = float(w, &q, 0.0);
    let y = w.binary("multiply", &scales, &q);
    w.binary("subtract", &y, &minima)
}

/// Two halves of four runs of 32 weights: run r has its low bits in nibble r / 2 of bytes 32 (r % 2) on, and its upper
/// ones in bits 2 r of 32 shared bytes.
fn q6_k(w: &mut Writer, rows: &Value) -> Value {
    let blocks = rows.dims()[0];
    let d = scale(w, rows, 208);
    let (low, high) = (words(w, rows, 0, 128), words(w, rows, 128, 192));
    let low = w.reshape(&low, &[blocks, 2, 64]);
    let high = w.reshape(&high, &[blocks, 2, 32]);
    // Runs 0 and 1 are the low nibbles of 64 bytes, 2 and 3 the high ones.
    let (first, second) = (bits(w, &low, 0, 4), bits(w, &low, 4, 4));
    let low = w.concat(&[first, second], 2);
    let upper: Vec<Value> = (0..4).map(|r| bits(w, &high, 2 * r, 2)).collect();
    let high = w.concat(&upper, 2);
    let q = joined(w, &low, &high, 4);
    let q = float(w, &q, 32.0);
    let q = w.reshape(&q, &[blocks, 16, 16]);
    let scales = signed(w, rows, 192, 208);
    let scales = scaled(w, &d, &scales);
    let scales = per_group(w, &scales, 16);
    w.binary("multiply", &scales, &q)
}

fn q8_x(w: &mut Writer, rows: &Value) -> Value {
    let blocks = rows.dims()[0];
    let floats = w.columns(rows, 0, 16);
    let floats = w.reshape(&floats, &[blocks, 4, 4]);
    let floats = w.bitcast(&floats, Element::F32, [blocks, 4]);
    let (scales, minima) = (w.columns(&floats, 0, 2), w.columns(&floats, 2, 4));
    let (scales, minima) = (per_group(w, &scales, 16), per_group(w, &minima, 16));
    let q = signed(w, rows, 16, 48);
    let q = w.reshape(&q, &[blocks, 2, 16]);
    let y = w.binary("multiply", &scales, &q);
    w.binary("add", &y, &minima)
}
