//! Functions of single elements, and conversions between element types.

use percept_graph::{Binary, Compare, DType, Unary};

use super::writer::{Element, Type, Value, Writer};

pub(super) fn direction(kind: Compare) -> &'static str {
    match kind {
        Compare::Eq => "EQ",
        Compare::Ne => "NE",
        Compare::Lt => "LT",
        Compare::Le => "LE",
        Compare::Gt => "GT",
        Compare::Ge => "GE",
    }
}

pub(super) fn unary(w: &mut Writer, kind: Unary, x: &Value) -> Value {
    let exact = |w: &mut Writer, op: &str| w.unary(op, x);
    match kind {
        Unary::Neg => exact(w, "stablehlo.negate"),
        Unary::Abs => exact(w, "stablehlo.abs"),
        Unary::Sign => exact(w, "stablehlo.sign"),
        Unary::Floor => exact(w, "stablehlo.floor"),
        Unary::Ceil => exact(w, "stablehlo.ceil"),
        Unary::Round => exact(w, "stablehlo.round_nearest_even"),
        Unary::Not => exact(w, "stablehlo.not"),
        Unary::IsFinite => w.unary_to("stablehlo.is_finite", x, Element::I1),
        Unary::Exp => rounded_once(w, "stablehlo.exponential", x),
        Unary::Expm1 => rounded_once(w, "stablehlo.exponential_minus_one", x),
        Unary::Log => rounded_once(w, "stablehlo.log", x),
        Unary::Log1p => rounded_once(w, "stablehlo.log_plus_one", x),
        Unary::Sqrt => rounded_once(w, "stablehlo.sqrt", x),
        Unary::Rsqrt => rounded_once(w, "stablehlo.rsqrt", x),
        Unary::Sin => rounded_once(w, "stablehlo.sine", x),
        Unary::Cos => rounded_once(w, "stablehlo.cosine", x),
        Unary::Tanh => rounded_once(w, "stablehlo.tanh", x),
        Unary::Logistic => rounded_once(w, "stablehlo.logistic", x),
        Unary::Erf => {
            let wide = widened(w, x);
            let ty = &wide.ty;
            let y = w.line(ty.clone(), format_args!("chlo.erf {} : {ty} -> {ty}", wide.name));
            w.convert(&y, x.ty.element)
        }
    }
}

/// Half types as f32; everything else as it is.
pub(super) fn widened(w: &mut Writer, x: &Value) -> Value {
    if x.ty.element.is_half() { w.convert(x, Element::F32) } else { x.clone() }
}

/// A function computed in f32 and rounded to the operand's type.
fn rounded_once(w: &mut Writer, op: &str, x: &Value) -> Value {
    let wide = widened(w, x);
    let y = w.unary(op, &wide);
    w.convert(&y, x.ty.element)
}

pub(super) fn binary(w: &mut Writer, kind: Binary, a: &Value, b: &Value) -> Value {
    let float = a.ty.element.is_float();
    let op = match kind {
        Binary::Add => "add",
        Binary::Sub => "subtract",
        Binary::Mul => "multiply",
        Binary::Div if !float => return divide(w, a, b),
        Binary::Div => "divide",
        Binary::Rem if !float => return remainder(w, a, b),
        Binary::Rem => "remainder",
        Binary::Pow => "power",
        Binary::Max => return extreme(w, true, a, b),
        Binary::Min => return extreme(w, false, a, b),
        Binary::And => "and",
        Binary::Or => "or",
        Binary::Xor => "xor",
        Binary::Shl => return shift(w, "shift_left", a, b),
        Binary::Shr => return shift(w, "shift_right_logical", a, b),
    };
    let (wide_a, wide_b) = (widened(w, a), widened(w, b));
    let y = w.binary(op, &wide_a, &wide_b);
    w.convert(&y, a.ty.element)
}

/// min(max(x, low), high), NaN where any of them is: what StableHLO's clamp says, and its compilers do not do.
pub(super) fn clamp(w: &mut Writer, low: &Value, x: &Value, high: &Value) -> Value {
    let raised = extreme(w, true, x, low);
    extreme(w, false, &raised, high)
}

/// The greater or the less of two elements, NaN where either is.
///
/// Those of bf16 are compared as integers in the order of their values: where hardware takes numbers below the normal
/// ones for zero, compilers give either of two such numbers.
fn extreme(w: &mut Writer, greatest: bool, a: &Value, b: &Value) -> Value {
    let name = if greatest { "maximum" } else { "minimum" };
    if !a.ty.element.is_float() {
        return w.binary(name, a, b);
    }
    let chosen = match a.ty.element {
        Element::BF16 => extreme_by_order(w, greatest, a, b),
        _ => w.binary(name, a, b),
    };
    // XLA's compiler for CPUs loses NaN where several of these follow one another.
    let (a_nan, b_nan) = (w.compare("NE", a, a), w.compare("NE", b, b));
    let either = w.binary("or", &a_nan, &b_nan);
    let nan = w.like(a, f64::NAN);
    w.select(&either, &nan, &chosen)
}

/// The greater or the less of two numbers of bf16 by the order of their bits.
fn extreme_by_order(w: &mut Writer, greatest: bool, a: &Value, b: &Value) -> Value {
    let mut key = |x: &Value| {
        let wide = w.convert(x, Element::F32);
        let bits = w.bitcast(&wide, Element::I32, x.dims());
        let (places, magnitude) = (w.like(&bits, 31.0), w.like(&bits, i32::MAX as f64));
        let negative = w.binary("shift_right_arithmetic", &bits, &places);
        let flipped = w.binary("and", &negative, &magnitude);
        w.binary("xor", &bits, &flipped)
    };
    let (key_a, key_b) = (key(a), key(b));
    let first = w.compare(if greatest { "GT" } else { "LT" }, &key_a, &key_b);
    w.select(&first, a, b)
}

/// The divisor with 1 where it is 0, and where it is -1; and where it is -1, for signed integers.
fn safe_divisor(w: &mut Writer, b: &Value) -> (Value, Option<Value>) {
    let (zero, one) = (w.like(b, 0.0), w.like(b, 1.0));
    let is_zero = w.compare("EQ", b, &zero);
    let safe = w.select(&is_zero, &one, b);
    if b.ty.element != Element::I32 {
        return (safe, None);
    }
    let minus = w.like(b, -1.0);
    let is_minus = w.compare("EQ", b, &minus);
    (w.select(&is_minus, &one, &safe), Some(is_minus))
}

/// x / 0 is x / 1; x / -1 is -x, which wraps.
fn divide(w: &mut Writer, a: &Value, b: &Value) -> Value {
    let (safe, is_minus) = safe_divisor(w, b);
    let quotient = w.binary("divide", a, &safe);
    let Some(is_minus) = is_minus else { return quotient };
    let negated = w.unary("stablehlo.negate", a);
    w.select(&is_minus, &negated, &quotient)
}

/// x % 0 and x % -1 are x % 1, which is 0.
fn remainder(w: &mut Writer, a: &Value, b: &Value) -> Value {
    let (safe, _) = safe_divisor(w, b);
    w.binary("remainder", a, &safe)
}

/// Zero from 32 places on; a negative distance, read without its sign, is that far.
fn shift(w: &mut Writer, op: &str, a: &Value, b: &Value) -> Value {
    let bits = if b.ty.element == Element::I32 { w.bitcast(b, Element::U32, b.dims()) } else { b.clone() };
    let limit = w.like(&bits, 32.0);
    let fits = w.compare("LT", &bits, &limit);
    let zero = w.like(b, 0.0);
    let distance = w.select(&fits, b, &zero);
    let shifted = w.binary(op, a, &distance);
    let zero = w.like(a, 0.0);
    w.select(&fits, &shifted, &zero)
}

/// Convert between dense dtypes as the graph's cast does.
pub(super) fn cast(w: &mut Writer, x: &Value, from: DType, to: DType) -> Value {
    let element = Element::of(to);
    match (from, to) {
        _ if from == to => x.clone(),
        (_, DType::Bool) => {
            let zero = w.like(x, 0.0);
            w.compare("NE", x, &zero)
        }
        (DType::I32 | DType::U32, DType::BF16) => bf16_of_integer(w, x),
        (DType::I32, DType::U32) | (DType::U32, DType::I32) => w.bitcast(x, element, x.dims()),
        (DType::I32 | DType::U32, DType::U8) => {
            let low = w.like(x, 255.0);
            let low = w.binary("and", x, &low);
            w.convert(&low, element)
        }
        (from, to) if from.is_float() && !to.is_float() => saturated(w, x, to),
        // By way of f32, where f16, u8 and bool are exact.
        (
            DType::F16 | DType::BF16 | DType::U8 | DType::Bool | DType::I32 | DType::U32,
            DType::F16 | DType::BF16,
        ) => {
            let wide = w.convert(x, Element::F32);
            w.convert(&wide, element)
        }
        _ => w.convert(x, element),
    }
}

/// An integer rounded once. f32 would round first; so what lies below its precision is gathered into one bit there,
/// which no tie of bf16 can mistake.
fn bf16_of_integer(w: &mut Writer, x: &Value) -> Value {
    let (signless, element) = (x.clone(), x.ty.element);
    let (low_bits, sticky_bit, zero) = (w.like(x, 511.0), w.like(x, 256.0), w.like(x, 0.0));
    let low = w.binary("and", &signless, &low_bits);
    let high = w.binary("subtract", &signless, &low);
    let inexact = w.compare("NE", &low, &zero);
    let sticky = w.select(&inexact, &sticky_bit, &zero);
    let gathered = w.binary("or", &high, &sticky);
    // Below 2^24 f32 holds every integer.
    let bound = w.like(x, 16_777_216.0);
    let mut small = w.compare("LT", x, &bound);
    if element == Element::I32 {
        let least = w.like(x, -16_777_216.0);
        let above = w.compare("GT", x, &least);
        small = w.binary("and", &small, &above);
    }
    let exact = w.select(&small, x, &gathered);
    let wide = w.convert(&exact, Element::F32);
    w.convert(&wide, Element::BF16)
}

/// A float truncated to an integer, at its bounds where it lies beyond; NaN is 0.
fn saturated(w: &mut Writer, x: &Value, to: DType) -> Value {
    // The bounds, and the greatest f32 not above the upper one.
    let (least, greatest, below) = match to {
        DType::I32 => (i32::MIN as f64, i32::MAX as f64, 2_147_483_520.0),
        DType::U32 => (0.0, u32::MAX as f64, 4_294_967_040.0),
        _ => (0.0, 255.0, 255.0),
    };
    let x = widened(w, x);
    let is_number = w.compare("EQ", &x, &x);
    let zero = w.like(&x, 0.0);
    let number = w.select(&is_number, &x, &zero);
    let (low, high) = (w.like(&x, least), w.like(&x, below));
    let inside = clamp(w, &low, &number, &high);
    let made = match to {
        DType::U8 => {
            let wide = w.convert(&inside, Element::I32);
            w.convert(&wide, Element::U8)
        }
        _ => w.convert(&inside, Element::of(to)),
    };
    let beyond = w.compare("GT", &number, &high);
    let bound = w.splat(Type::new(Element::of(to), x.dims()), greatest);
    w.select(&beyond, &bound, &made)
}
