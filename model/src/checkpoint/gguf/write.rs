//! Writing GGUF files, version 3.

use std::io::{self, Write};

use percept_graph::{DType, TensorType};

use super::metadata::ValueType;
use super::{DEFAULT_ALIGNMENT, TYPES};

/// A value to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    U32(u32),
    F32(f32),
    Bool(bool),
    Bools(Vec<bool>),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// A value of another file, type first, as it lies there.
    Raw(Vec<u8>),
}

/// The head of a file: keys and tensors in the order in which they are written.
#[derive(Default)]
pub(crate) struct Head {
    pub keys: Vec<(String, Given)>,
    /// ggml's names, with types whose dimensions are in the order of the graph's.
    pub tensors: Vec<(String, TensorType)>,
}

impl Head {
    /// Write everything before the first tensor's bytes.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        bytes.extend(b"GGUF");
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        self.keys.iter().for_each(|(key, value)| pair(&mut bytes, key, value));
        let mut offset = 0u64;
        for (name, ty) in &self.tensors {
            text(&mut bytes, name);
            bytes.extend((ty.rank() as u32).to_le_bytes());
            ty.dims.iter().rev().for_each(|&d| bytes.extend((d as u64).to_le_bytes()));
            bytes.extend(number(ty.dtype)?.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += padded(ty.bytes());
        }
        bytes.resize(padded(bytes.len()) as usize, 0);
        out.write_all(&bytes)
    }
}

/// A key with the type and the value of what it stands for.
pub(super) fn pair(out: &mut Vec<u8>, key: &str, value: &Given) {
    text(out, key);
    value.encode(out);
}

/// Write one tensor's bytes and what fills them up to the next tensor's start.
pub(crate) fn tensor(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(&vec![0; padded(bytes.len()) as usize - bytes.len()])
}

fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(DEFAULT_ALIGNMENT)
}

/// ggml's number of a dtype.
fn number(dtype: DType) -> io::Result<u32> {
    let found = TYPES.iter().find(|(d, _)| *d == dtype).map(|(_, n)| *n);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("GGUF has no {dtype}")))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Given {
    /// The type and the value.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut ty = |t: ValueType| out.extend(t.number().to_le_bytes());
        match self {
            Given::U32(v) => {
                ty(ValueType::U32);
                out.extend(v.to_le_bytes());
            }
            Given::F32(v) => {
                ty(ValueType::F32);
                out.extend(v.to_le_bytes());
            }
            Given::Bool(v) => {
                ty(ValueType::Bool);
                out.push(*v as u8);
            }
            Given::Bools(all) => {
                array(out, ValueType::Bool, all.len());
                out.extend(all.iter().map(|v| u8::from(*v)));
            }
            Given::Text(v) => {
                ty(ValueType::Text);
                text(out, v);
            }
            Given::Texts(all) => {
                array(out, ValueType::Text, all.len());
                all.iter().for_each(|v| text(out, v));
            }
            Given::F32s(all) => {
                array(out, ValueType::F32, all.len());
                all.iter().for_each(|v| out.extend(v.to_le_bytes()));
            }
            Given::I32s(all) => {
                array(out, ValueType::I32, all.len());
                all.iter().for_each(|v| out.extend(v.to_le_bytes()));
            }
            Given::Raw(bytes) => out.extend(bytes),
        }
    }
}

fn array(out: &mut Vec<u8>, of: ValueType, count: usize) {
    out.extend(ValueType::Array.number().to_le_bytes());
    out.extend(of.number().to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}
