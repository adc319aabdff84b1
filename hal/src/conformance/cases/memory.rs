//! L0: bytes go in and come out; memory is counted and comes back; requests that cannot be met are refused.

use std::sync::Arc;

use percept_graph::{DType, TensorType};

use crate::conformance::case::{Fault, Level::L0, Subject};
use crate::conformance::table::Table;
use crate::conformance::values::{Fill, Random};
use crate::device::Weight;
use crate::error::Error;

/// A promise that does not hold.
pub fn wrong<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong(why.into()))
}

/// The promise, or why not.
pub fn hold(holds: bool, why: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { wrong(why()) }
}

/// A call that must fail in a certain way.
pub fn refused<T>(result: Result<T, Error>, what: &str, right: impl Fn(&Error) -> bool) -> Result<(), Fault> {
    match result {
        Ok(_) => wrong(format!("{what} was accepted")),
        Err(e) if right(&e) => Ok(()),
        Err(e) => wrong(format!("{what} was refused for another reason: {e}")),
    }
}

fn same_bytes(given: &[u8], expected: &[u8], what: &str) -> Result<(), Fault> {
    hold(given.len() == expected.len(), || {
        format!("{what}: {} bytes, expected {}", given.len(), expected.len())
    })?;
    match given.iter().zip(expected).position(|(a, b)| a != b) {
        Some(i) => {
            wrong(format!("{what}: byte {i} of {} is {}, expected {}", given.len(), given[i], expected[i]))
        }
        None => Ok(()),
    }
}

fn bytes_of(name: &str, ty: &TensorType) -> Vec<u8> {
    Random::named(name).tensor(ty, Fill::Normal).bytes().to_vec()
}

/// Shapes in elements for dense types, in blocks for quantized ones.
const COUNTS: [(&str, usize); 6] =
    [("none", 0), ("one", 1), ("three", 3), ("prime", 131), ("past-tile", 1025), ("large", 70_001)];

fn round_trips(t: &mut Table) {
    for d in DType::ALL {
        for (name, n) in COUNTS {
            let ty = TensorType::new(d, [n, d.block_len()]);
            let ty = if d.is_quantized() { ty } else { TensorType::new(d, [n]) };
            let of = ty.clone();
            t.promise(L0, "memory.round_trip", format!("{d}/{name}"), move |s: &Subject| {
                let bytes = bytes_of(name, &of);
                let b = s.device.upload(&of, &bytes)?;
                hold(b.ty() == &of, || format!("the buffer is {}, not {of}", b.ty()))?;
                same_bytes(&s.device.read(&b)?, &bytes, "first read")?;
                same_bytes(&s.device.read(&b)?, &bytes, "second read")
            });
            t.promise(L0, "memory.zeros", format!("{d}/{name}"), move |s: &Subject| {
                let b = s.device.zeros(&ty)?;
                same_bytes(&s.device.read(&b)?, &vec![0; ty.bytes()], "zeros")
            });
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    round_trips(t);
    t.promise(L0, "memory.many", "buffers", |s| {
        let ty = TensorType::new(DType::F32, [37]);
        let all: Vec<Vec<u8>> = (0..500).map(|i| bytes_of(&i.to_string(), &ty)).collect();
        let buffers = all.iter().map(|b| s.device.upload(&ty, b)).collect::<Result<Vec<_>, _>>()?;
        for (i, (buffer, bytes)) in buffers.iter().zip(&all).enumerate().rev() {
            same_bytes(&s.device.read(buffer)?, bytes, &format!("buffer {i} of 500"))?;
        }
        Ok(())
    });
    t.promise(L0, "memory.reuse", "freed-and-taken", |s| {
        // Freed memory is reused; buffers in use must not change.
        let ty = TensorType::new(DType::F32, [1025]);
        let kept = bytes_of("kept", &ty);
        let keep = s.device.upload(&ty, &kept)?;
        for i in 0..50 {
            let bytes = bytes_of(&format!("passing {i}"), &ty);
            let b = s.device.upload(&ty, &bytes)?;
            same_bytes(&s.device.read(&b)?, &bytes, &format!("passing buffer {i}"))?;
        }
        same_bytes(&s.device.read(&keep)?, &kept, "the buffer that was kept")
    });
    t.promise(L0, "memory.usage", "counted-and-freed", |s| {
        let ty = TensorType::new(DType::F32, [1 << 16]);
        let before = s.device.memory().buffers;
        let b = s.device.zeros(&ty)?;
        let during = s.device.memory().buffers;
        hold(during >= before + ty.bytes() as u64, || {
            format!("{before} bytes in use before, {during} with a buffer of {}", ty.bytes())
        })?;
        let clone = b.clone();
        drop(b);
        hold(s.device.memory().buffers == during, || {
            "a clone's memory was freed with another handle".into()
        })?;
        drop(clone);
        s.device.synchronize()?;
        let after = s.device.memory().buffers;
        hold(after <= before, || {
            format!("{before} bytes in use before, {after} after the buffer was dropped")
        })
    });
    t.promise(L0, "memory.weights", "loaded-and-read", |s| {
        for d in [DType::F32, DType::BF16, DType::Q8_0, DType::Q4_1, DType::Q4K] {
            let ty = TensorType::new(d, [33, 2 * d.block_len().max(32)]);
            let bytes = bytes_of("weight", &ty);
            let weight = Weight::new(ty.clone(), Arc::new(bytes.clone()))?;
            let b = s.device.load_weight(&weight)?;
            same_bytes(&s.device.read(&b)?, &bytes, &format!("weight {ty}"))?;
        }
        Ok(())
    });
    t.promise(L0, "errors.byte_count", "upload", |s| {
        for d in [DType::F32, DType::BF16, DType::Q4_0] {
            let ty = TensorType::new(d, [3, 32]);
            for n in [0, ty.bytes() - 1, ty.bytes() + 1] {
                refused(s.device.upload(&ty, &vec![0; n]), &format!("{n} bytes for {ty}"), |e| {
                    matches!(e, Error::ByteCount { .. })
                })?;
            }
        }
        Ok(())
    });
    t.promise(L0, "errors.too_large", "zeros", |s| {
        let ty = TensorType::new(DType::F32, [1usize << 50]);
        refused(s.device.zeros(&ty), "a buffer of 4 PiB", |e| matches!(e, Error::OutOfMemory { .. }))?;
        let ty = TensorType::new(DType::F32, [usize::MAX, usize::MAX]);
        refused(s.device.zeros(&ty), "a buffer beyond all counting", |e| {
            matches!(e, Error::OutOfMemory { .. })
        })?;
        // The device continues.
        let ty = TensorType::new(DType::F32, [3]);
        let bytes = bytes_of("after", &ty);
        same_bytes(&s.device.read(&s.device.upload(&ty, &bytes)?)?, &bytes, "an upload after the refusal")
    });
}
