//! How each dtype lies in a storage buffer, and the WGSL that reads and writes it.
//!
//! f32, i32 and u32 take a word each; bool and u8 one u32 word each; f16 and bf16 share a word in pairs, the
//! even element in the low half; quantized rows are ggml's blocks as words. Arithmetic is in f32, i32 or u32.

use percept_graph::{DType, TensorType};

use crate::program::{Slot, Unsupported};

/// The WGSL type that elements of a dense dtype are computed in.
pub(crate) fn scalar(dtype: DType) -> Result<&'static str, Unsupported> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok("f32"),
        DType::I32 => Ok("i32"),
        DType::U32 | DType::U8 | DType::Bool => Ok("u32"),
        q => Err(Unsupported::new(format!("no dense kernel reads {q}"))),
    }
}

/// Elements in one 32-bit word: 2 for the 16-bit floats, else 1.
pub(crate) fn per_word(dtype: DType) -> usize {
    if matches!(dtype, DType::F16 | DType::BF16) { 2 } else { 1 }
}

/// The declared element type of the binding's array.
pub(crate) fn word(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::I32 => "i32",
        _ => "u32",
    }
}

/// Bytes of a tensor in device storage; saturates, so that a hostile shape fails the size check after it.
pub fn storage_bytes(dtype: DType, elements: usize) -> u64 {
    let elements = elements as u64;
    match dtype {
        DType::F16 | DType::BF16 => elements.div_ceil(2) * 4,
        q if q.is_quantized() => {
            let bytes = (elements / q.block_len() as u64).saturating_mul(q.block_bytes() as u64);
            bytes.div_ceil(4).saturating_mul(4)
        }
        _ => elements.saturating_mul(4),
    }
}

/// Bytes of a row of a matrix, which rows of 16-bit floats share words with their neighbours to fill.
pub(crate) fn row_bytes(ty: &TensorType) -> u64 {
    let width = ty.dims.last().copied().unwrap_or(1);
    match ty.dtype {
        q if q.is_quantized() => (width / q.block_len()) as u64 * q.block_bytes() as u64,
        d => width as u64 * 4 / per_word(d) as u64,
    }
}

/// The operand at `input`, or these rows of it (the first and how many) where they are not all.
pub(crate) fn rows_slot(input: usize, ty: &TensorType, (first, held): (usize, usize)) -> Slot {
    if held == ty.dims[0] {
        return Slot::Input(input);
    }
    let bytes = (held as u64 * row_bytes(ty)).next_multiple_of(4);
    Slot::InputPart { input, offset: first as u64 * row_bytes(ty), bytes }
}

/// The declaration of a binding.
pub(crate) fn declare(binding: usize, name: &str, dtype: DType) -> String {
    format!("@group(0) @binding({binding}) var<storage, read_write> {name}: array<{}>;\n", word(dtype))
}

/// `fn load_NAME(i: u32) -> T`: element i.
pub(crate) fn load(name: &str, dtype: DType) -> Result<String, Unsupported> {
    let ty = scalar(dtype)?;
    let body = match dtype {
        DType::F16 => format!(
            "let pair = unpack2x16float({name}[i >> 1u]); return select(pair.x, pair.y, (i & 1u) == 1u);"
        ),
        DType::BF16 => format!(
            "let pair = {name}[i >> 1u]; return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (i & 1u) == 1u));"
        ),
        _ => format!("return {name}[i];"),
    };
    Ok(format!("fn load_{name}(i: u32) -> {ty} {{ {body} }}\n"))
}

/// `fn store_NAME(word: u32, value)`, or with two values for the 16-bit floats: a whole word, rounded to
/// nearest even.
pub(crate) fn store(name: &str, dtype: DType) -> Result<String, Unsupported> {
    let ty = scalar(dtype)?;
    Ok(match dtype {
        DType::F16 => format!(
            "fn store_{name}(word: u32, a: f32, b: f32) {{ {name}[word] = f16_bits(a) | (f16_bits(b) << 16u); }}\n"
        ),
        DType::BF16 => format!(
            "fn store_{name}(word: u32, a: f32, b: f32) {{ {name}[word] = bf16_bits(a) | (bf16_bits(b) << 16u); }}\n"
        ),
        DType::U8 => format!("fn store_{name}(word: u32, value: u32) {{ {name}[word] = value & 255u; }}\n"),
        _ => format!("fn store_{name}(word: u32, value: {ty}) {{ {name}[word] = value; }}\n"),
    })
}

/// `fn write_NAME(word: u32, n: u32)`: the word's elements as the kernel's `value_NAME(i)` gives them; n is
/// the tensor's element count, and the half of a last word past it is a copy.
pub(crate) fn write(name: &str, dtype: DType) -> String {
    if per_word(dtype) == 2 {
        format!(
            "fn write_{name}(word: u32, n: u32) {{ store_{name}(word, value_{name}(2u * word), value_{name}(min(2u * word + 1u, n - 1u))); }}\n"
        )
    } else {
        format!("fn write_{name}(word: u32, n: u32) {{ store_{name}(word, value_{name}(word)); }}\n")
    }
}

/// Bindings of vectors: `load4_NAME(quad)`, `load_NAME(i)` and, unless quantized, `store4_NAME(quad, vec4)`
/// of elements 4 quad .. 4 quad + 4, for tensors whose element count is a multiple of four.
pub(crate) fn vectors(binding: usize, name: &str, dtype: DType) -> Result<String, Unsupported> {
    if dtype.is_quantized() {
        return crate::quant::declare(binding, name, dtype);
    }
    let ty = scalar(dtype)?;
    let element = format!("fn load_{name}(i: u32) -> {ty} {{ return load4_{name}(i >> 2u)[i & 3u]; }}\n");
    if per_word(dtype) == 1 {
        let masked = if dtype == DType::U8 { "value & vec4<u32>(255u)" } else { "value" };
        return Ok(format!(
            "@group(0) @binding({binding}) var<storage, read_write> {name}: array<vec4<{ty}>>;\n\
             fn load4_{name}(quad: u32) -> vec4<{ty}> {{ return {name}[quad]; }}\n\
             fn store4_{name}(quad: u32, value: vec4<{ty}>) {{ {name}[quad] = {masked}; }}\n{element}"
        ));
    }
    let (unpack, bits) = match dtype {
        DType::F16 => ("vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y))", "f16_bits"),
        _ => (
            "bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u))",
            "bf16_bits",
        ),
    };
    Ok(format!(
        "@group(0) @binding({binding}) var<storage, read_write> {name}: array<vec2<u32>>;\n\
         fn load4_{name}(quad: u32) -> vec4<f32> {{ let w = {name}[quad]; return {unpack}; }}\n\
         fn store4_{name}(quad: u32, value: vec4<f32>) {{ {name}[quad] = vec2<u32>({bits}(value.x) | ({bits}(value.y) << 16u), {bits}(value.z) | ({bits}(value.w) << 16u)); }}\n{element}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_sizes() {
        assert_eq!(storage_bytes(DType::BF16, 3), 8);
        assert_eq!(storage_bytes(DType::Bool, 3), 12);
        assert_eq!(storage_bytes(DType::Q4_0, 32), 20);
        assert_eq!(storage_bytes(DType::Q4K, 512), 288);
    }

    #[test]
    fn quantized_types_have_no_dense_form() {
        for d in DType::ALL {
            assert_eq!(scalar(d).is_err(), d.is_quantized());
            assert_eq!(store("y", d).is_err(), d.is_quantized());
        }
    }
}
