//! Appending keys or values to a cache, in place; the cache may be a pool of pages.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::per_word;

/// (cache[b,hk,s,d], new[b,hk,t,d], pos i32[b], page_table?) -> cache.
pub(crate) fn lower(desc: &OpDesc<'_>, paged: bool, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (cache, new) = (&desc.inputs[0], &desc.inputs[1]);
    let mut program = KernelProgram { in_place: vec![(0, 0)], ..KernelProgram::default() };
    let n = count(&new.dims)?;
    if n == 0 || count(&cache.dims)? == 0 {
        return Ok(program);
    }
    let pages = if paged { desc.inputs[3].dims[1] } else { 1 };
    if pages == 0 {
        return Ok(program);
    }
    let words = per_word(cache.dtype);
    if cache.dims[3] % words != 0 {
        return Err(Unsupported::new("rows of an odd number of 16-bit features share words"));
    }
    let mut k = Kernel::new("kv_append", include_str!("kv_append.wgsl"));
    k.tag(if paged { "paged" } else { "dense" });
    k.set(
        "SLOT",
        if paged { "u32(clamp(load_table(b * p.pages + at / p.page), -1, i32(p.slots)))" } else { "b" },
    );
    k.set("PER_WORD", &format!("{words}u"));
    let value = "load_rows(i)";
    k.set("VALUES", &if words == 2 { format!("{value}, load_rows(i + 1u)") } else { value.to_string() });
    k.input("rows", Slot::Input(1), new.dtype)?.input("pos", Slot::Input(2), DType::I32)?;
    if paged {
        k.input("table", Slot::Input(3), DType::I32)?;
    }
    k.output("cache", Slot::Output(0), cache.dtype)?;
    k.param("n", n).param("d", new.dims[3]).param("t", new.dims[2]).param("heads", new.dims[1]);
    k.param("page", cache.dims[2]).param("pages", pages).param("slots", cache.dims[0]);
    program.launches.push(k.launch((n / words).div_ceil(64), caps)?);
    Ok(program)
}
