//! The WGSL expression of one elementwise op on scalars that are already loaded. bool and u8 are u32 there.

use percept_graph::{Activation, Binary, Compare, DType, Op, Unary};

use crate::program::Unsupported;
use crate::storage::scalar;

/// The expression of `op` applied to `args`, each an expression and its dtype.
pub(super) fn expression(op: &Op, args: &[(String, DType)], out: DType) -> Result<String, Unsupported> {
    let types: Vec<DType> = args.iter().map(|(_, d)| *d).collect();
    let none = || Unsupported::new(format!("no elementwise kernel for {} on {types:?}", op.name()));
    let a = args.first().map(|(e, _)| e.as_str()).ok_or_else(none)?;
    let dtype = types[0];
    let b = args.get(1).map_or("", |(e, _)| e.as_str());
    let c = args.get(2).map_or("", |(e, _)| e.as_str());
    match op {
        Op::Unary(kind) => unary(*kind, a, dtype).ok_or_else(none),
        Op::Binary(kind) => binary(*kind, a, b, dtype).ok_or_else(none),
        Op::Compare(kind) => Ok(format!("select(0u, 1u, {})", compare(*kind, a, b, dtype))),
        Op::Select => Ok(format!("select({c}, {b}, {a} != 0u)")),
        Op::Clamp if dtype.is_float() => Ok(format!("min_nan(max_nan({b}, {a}), {c})")),
        Op::Clamp => Ok(format!("min(max({b}, {a}), {c})")),
        Op::Cast { to } => cast(a, dtype, *to),
        Op::Bitcast { to } => Ok(format!("bitcast<{}>({a})", scalar(*to)?)),
        Op::Composite(percept_graph::Composite::Activate(act)) => Ok(activation(*act, a)),
        Op::Composite(percept_graph::Composite::GatedActivate(act)) => {
            Ok(format!("{} * {b}", activation(*act, a)))
        }
        _ => Err(none()),
    }
    .inspect(|_| debug_assert!(scalar(out).is_ok()))
}

fn unary(kind: Unary, a: &str, dtype: DType) -> Option<String> {
    let float = dtype.is_float();
    Some(match (kind, dtype) {
        (Unary::Not, DType::Bool) => format!("(1u - {a})"),
        (Unary::Not, DType::I32 | DType::U32 | DType::U8) => format!("(~{a})"),
        (Unary::Neg, DType::I32) => format!("neg_i32({a})"),
        (Unary::Abs, DType::I32) => format!("abs_i32({a})"),
        (Unary::Sign, DType::I32) => format!("sign({a})"),
        _ if !float => return None,
        // On the bits, so that zeros and NaNs change sign too.
        (Unary::Neg, _) => format!("bitcast<f32>(bitcast<u32>({a}) ^ 0x80000000u)"),
        (Unary::Abs, _) => format!("bitcast<f32>(bitcast<u32>({a}) & 0x7fffffffu)"),
        (Unary::Sqrt, _) => format!("sqrt({a})"),
        (Unary::Rsqrt, _) => format!("(1.0 / sqrt({a}))"),
        (Unary::Floor, _) => format!("floor({a})"),
        (Unary::Ceil, _) => format!("ceil({a})"),
        (Unary::Round, _) => format!("round({a})"),
        (Unary::IsFinite, _) => format!("select(0u, 1u, is_finite({a}))"),
        (Unary::Not, _) => return None,
        // The others are functions of math/, each under its own name.
        (kind, _) => format!("{}_f32({a})", Op::Unary(kind).name()),
    })
}

fn binary(kind: Binary, a: &str, b: &str, dtype: DType) -> Option<String> {
    let float = dtype.is_float();
    let int = dtype.is_int();
    let ty = scalar(dtype).ok()?;
    Some(match kind {
        Binary::And | Binary::Or | Binary::Xor if float => return None,
        Binary::And => format!("({a} & {b})"),
        Binary::Or => format!("({a} | {b})"),
        Binary::Xor => format!("({a} ^ {b})"),
        Binary::Max if float => format!("max_nan({a}, {b})"),
        Binary::Min if float => format!("min_nan({a}, {b})"),
        Binary::Max => format!("max({a}, {b})"),
        Binary::Min => format!("min({a}, {b})"),
        _ if !float && !int => return None,
        Binary::Add => format!("({a} + {b})"),
        Binary::Sub => format!("({a} - {b})"),
        Binary::Mul => format!("({a} * {b})"),
        Binary::Div if float => format!("({a} / {b})"),
        Binary::Div => format!("div_{ty}({a}, {b})"),
        Binary::Rem => format!("rem_{ty}({a}, {b})"),
        Binary::Pow if float => format!("pow_f32({a}, {b})"),
        Binary::Shl if int => format!("shl_{ty}({a}, {b})"),
        Binary::Shr if int => format!("shr_{ty}({a}, {b})"),
        Binary::Pow | Binary::Shl | Binary::Shr => return None,
    })
}

fn compare(kind: Compare, a: &str, b: &str, dtype: DType) -> String {
    if dtype.is_float() {
        return match kind {
            Compare::Eq => format!("equal_f32({a}, {b})"),
            Compare::Ne => format!("!equal_f32({a}, {b})"),
            Compare::Lt => format!("less_f32({a}, {b})"),
            Compare::Le => format!("less_equal_f32({a}, {b})"),
            Compare::Gt => format!("less_f32({b}, {a})"),
            Compare::Ge => format!("less_equal_f32({b}, {a})"),
        };
    }
    let sign = match kind {
        Compare::Eq => "==",
        Compare::Ne => "!=",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    };
    format!("{a} {sign} {b}")
}

/// Conversion between dtypes: to float rounds to nearest even, float to integer truncates and saturates with
/// NaN as 0, to bool is `!= 0`, integers wrap.
fn cast(a: &str, from: DType, to: DType) -> Result<String, Unsupported> {
    let (source, target) = (scalar(from)?, scalar(to)?);
    Ok(match (source, to) {
        _ if from == to => a.to_string(),
        ("f32", DType::Bool) => format!("select(1u, 0u, {a} == 0.0 && !is_nan({a}))"),
        (_, DType::Bool) => format!("select(0u, 1u, {a} != {source}(0))"),
        ("f32", DType::U8) => format!("min(f32_to_u32({a}), 255u)"),
        (_, DType::U8) => format!("({target}({a}) & 255u)"),
        ("f32", DType::I32 | DType::U32) => format!("f32_to_{target}({a})"),
        (_, DType::I32 | DType::U32) => format!("bitcast<{target}>({a})"),
        ("f32", _) => round_to(a, to),
        _ => round_to(&format!("f32({a})"), to),
    })
}

/// An f32 rounded to what a float dtype can hold.
pub(super) fn round_to(a: &str, to: DType) -> String {
    match to {
        DType::BF16 => format!("bitcast<f32>(bf16_bits({a}) << 16u)"),
        DType::F16 => format!("unpack2x16float(f16_bits({a})).x"),
        _ => a.to_string(),
    }
}

/// The expression of an activation function.
pub(crate) fn activation(act: Activation, a: &str) -> String {
    match act {
        Activation::GeluErf => format!("gelu_erf({a})"),
        Activation::GeluTanh => format!("gelu_tanh({a})"),
        Activation::Silu => format!("({a} * logistic_f32({a}))"),
        Activation::QuickGelu => format!("({a} * logistic_f32(1.702 * {a}))"),
        Activation::Relu => format!("max_nan({a}, 0.0)"),
    }
}
