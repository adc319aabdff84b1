//! Conversions between element types with the graph's own rules.

use percept_graph::DType;

use super::builder::{Builder, Elem};

/// A value of a dtype as another: floats to integers truncate and saturate, NaN becomes 0.
pub fn convert(b: &mut Builder, x: &str, from: DType, to: DType) -> String {
    let (source, target) = (Elem::of(from), Elem::of(to));
    if !from.is_float() {
        // Between integers the low bits are kept, and whole numbers round to the nearest float.
        if to == DType::Bool {
            return nonzero(b, x, source);
        }
        // A bf16 is made of an f32, so a whole number beyond 24 bits would round twice.
        if to == DType::BF16 && from.is_int() {
            return integer_to_bf16(b, x, source);
        }
        return b.cast(x, source, target);
    }
    let wide = b.cast(x, source, Elem::F32);
    match to {
        DType::Bool => nonzero(b, &wide, Elem::F32),
        DType::I32 => to_integer(b, &wide, i32::MIN as f64, i32::MAX as f64, target),
        DType::U32 => to_integer(b, &wide, 0.0, u32::MAX as f64, target),
        DType::U8 => to_integer(b, &wide, 0.0, 255.0, target),
        _ => b.cast(&wide, Elem::F32, target),
    }
}

fn nonzero(b: &mut Builder, x: &str, elem: Elem) -> String {
    if elem == Elem::Bool {
        return x.to_string();
    }
    let zero = b.scalar(elem, 0.0);
    let is_zero = b.op("Equal", &[x, &zero]);
    b.op("Not", &[&is_zero])
}

/// The limits of an f32 bracket the integer's, so the last step is one of integers.
fn to_integer(b: &mut Builder, x: &str, low: f64, high: f64, to: Elem) -> String {
    let is_number = b.op("Equal", &[x, x]);
    let zero = b.f32(0.0);
    let number = b.op("Where", &[&is_number, x, &zero]);
    let (least, greatest) = (b.f32(low), b.f32(high));
    let bounded = b.op("Clip", &[&number, &least, &greatest]);
    let integer = b.cast(&bounded, Elem::F32, Elem::I64);
    let greatest = b.scalar(Elem::I64, high);
    let integer = b.op("Min", &[&integer, &greatest]);
    b.cast(&integer, Elem::I64, to)
}

/// Whether a number is above or below a tie of bf16 is seen in its upper 16 bits and whether any lower one is
/// set, which fits an f32.
fn integer_to_bf16(b: &mut Builder, x: &str, elem: Elem) -> String {
    let wide = b.cast(x, elem, Elem::I64);
    let step = b.scalar(Elem::I64, 128.0);
    let upper = b.op("Div", &[&wide, &step]);
    let upper = b.op("Mul", &[&upper, &step]);
    let rest = b.op("Sub", &[&wide, &upper]);
    // One beside the multiple of 128, away from zero.
    let sticky = b.op("Sign", &[&rest]);
    let squeezed = b.op("Add", &[&upper, &sticky]);
    let greatest = b.scalar(Elem::I64, (1u64 << 24) as f64);
    let magnitude = b.op("Abs", &[&wide]);
    let small = b.op("Less", &[&magnitude, &greatest]);
    let chosen = b.op("Where", &[&small, &wide, &squeezed]);
    let float = b.cast(&chosen, Elem::I64, Elem::F32);
    b.cast(&float, Elem::F32, Elem::BF16)
}

/// A value in the type that it is computed in.
pub fn widen(b: &mut Builder, x: &str, dtype: DType) -> String {
    let elem = Elem::of(dtype);
    b.cast(x, elem, elem.working())
}

/// A result of the type that `dtype` is computed in, as `dtype`. Only where the result is one of its values
/// but for rounding.
pub fn narrow(b: &mut Builder, y: &str, dtype: DType) -> String {
    let elem = Elem::of(dtype);
    b.cast(y, elem.working(), elem)
}
