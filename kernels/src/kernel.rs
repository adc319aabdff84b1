//! Assembles one launch: a kernel's WGSL with its bindings, parameters, strided views and the functions it
//! calls.

use std::sync::Arc;

use percept_graph::DType;

use crate::caps::Caps;
use crate::geometry::{Views, fold_groups};
use crate::math;
use crate::program::{Launch, MAX_PARAM_WORDS, Module, Needs, Slot, Unsupported};
use crate::storage;

/// Invocations of a workgroup in kernels that give each invocation its own words.
pub(crate) const MAP_WORKGROUP: usize = 64;

/// A kernel under assembly. Every call adds its part to the text and, for parameters, to the values beside
/// it, so that the uniform struct and the words sent for it cannot disagree.
pub(crate) struct Kernel {
    name: String,
    body: String,
    declarations: String,
    fields: String,
    params: Vec<u32>,
    bindings: Vec<Slot>,
    needs: Needs,
}

impl Kernel {
    /// A kernel from its WGSL file. `$NAME` in the text is replaced by [`Kernel::set`].
    pub fn new(name: &str, body: &str) -> Self {
        Self {
            name: name.into(),
            body: body.into(),
            declarations: String::new(),
            fields: String::new(),
            params: Vec::new(),
            bindings: Vec::new(),
            needs: Needs::default(),
        }
    }

    /// Put `value` for `$name` in the text.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        // A search for one character is far quicker than one for a word, and most texts have few of these.
        let mut parts = self.body.split('$');
        let mut body = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match part.strip_prefix(name) {
                Some(rest) => body.extend([value, rest]),
                None => body.extend(["$", part]),
            }
        }
        self.body = body;
        self
    }

    /// Add a word to the name, for settings that change the text.
    pub fn tag(&mut self, tag: &str) -> &mut Self {
        self.name.push('_');
        self.name.push_str(tag);
        self
    }

    /// Bind a tensor that the kernel reads with `load_NAME(i)`.
    pub fn input(&mut self, name: &str, slot: Slot, dtype: DType) -> Result<&mut Self, Unsupported> {
        self.bind(name, slot, dtype);
        self.declarations += &storage::load(name, dtype)?;
        Ok(self.tag(dtype.name()))
    }

    /// Bind a tensor that the kernel writes a word at a time, with `store_NAME`, or with `write_NAME` where
    /// the kernel defines `value_NAME(i)`.
    pub fn output(&mut self, name: &str, slot: Slot, dtype: DType) -> Result<&mut Self, Unsupported> {
        self.bind(name, slot, dtype);
        self.declarations += &storage::store(name, dtype)?;
        if self.body.contains(&format!("fn value_{name}(")) {
            self.declarations += &storage::write(name, dtype);
        }
        Ok(self.tag(dtype.name()))
    }

    /// Bind a tensor that the kernel changes in place: both `load_NAME` and `store_NAME`.
    pub fn in_out(&mut self, name: &str, slot: Slot, dtype: DType) -> Result<&mut Self, Unsupported> {
        self.output(name, slot, dtype)?;
        self.declarations += &storage::load(name, dtype)?;
        Ok(self)
    }

    /// Bind raw words: the array only.
    pub fn words(&mut self, name: &str, slot: Slot) -> &mut Self {
        self.bind(name, slot, DType::U32);
        self
    }

    fn bind(&mut self, name: &str, slot: Slot, dtype: DType) {
        self.declarations += &storage::declare(self.bindings.len(), name, dtype);
        self.bindings.push(slot);
    }

    /// Bind an array of `ty` words without access functions, for kernels that read vectors.
    pub fn array(&mut self, name: &str, slot: Slot, ty: &str) -> &mut Self {
        self.declarations += &format!(
            "@group(0) @binding({}) var<storage, read_write> {name}: array<{ty}>;\n",
            self.bindings.len()
        );
        self.bindings.push(slot);
        self
    }

    /// Bind a tensor whose element count is a multiple of four: `load4_NAME(quad)` and `store4_NAME(quad,
    /// vec4)`.
    pub fn vectors(&mut self, name: &str, slot: Slot, dtype: DType) -> Result<&mut Self, Unsupported> {
        self.declarations += &storage::vectors(self.bindings.len(), name, dtype)?;
        self.bindings.push(slot);
        Ok(self.tag(dtype.name()))
    }

    /// The text uses subgroup built-ins.
    pub fn uses_subgroups(&mut self) -> &mut Self {
        self.needs.subgroups = true;
        self
    }

    /// The text uses the type f16.
    pub fn uses_f16(&mut self) -> &mut Self {
        self.needs.f16 = true;
        self
    }

    /// The text uses cooperative matrices.
    pub fn uses_cooperative_matrices(&mut self) -> &mut Self {
        self.needs.cooperative_matrix = true;
        self
    }

    /// Bind an f16 tensor whose element count is a multiple of four as vectors of f16: `load4_NAME(quad)`.
    pub fn half_vectors(&mut self, name: &str, slot: Slot) -> &mut Self {
        self.array(name, slot, "vec4<f16>");
        self.declarations += &format!("fn load4_{name}(quad: u32) -> vec4<f16> {{ return {name}[quad]; }}\n");
        self
    }

    /// Add generated text after the kernel's own.
    pub fn append(&mut self, text: &str) -> &mut Self {
        self.body += text;
        self
    }

    /// Add WGSL declarations before the kernel's text.
    pub fn declare(&mut self, text: &str) -> &mut Self {
        self.declarations += text;
        self
    }

    /// A parameter `p.NAME: u32`; the value was checked to fit by [`crate::geometry::count`].
    pub fn param(&mut self, name: &str, value: usize) -> &mut Self {
        self.word_param(name, "u32", value as u32)
    }

    /// A parameter `p.NAME: i32`.
    pub fn param_i32(&mut self, name: &str, value: i64) -> &mut Self {
        self.word_param(name, "i32", value as i32 as u32)
    }

    /// A parameter `p.NAME: f32`.
    pub fn param_f32(&mut self, name: &str, value: f64) -> &mut Self {
        self.word_param(name, "f32", (value as f32).to_bits())
    }

    fn word_param(&mut self, name: &str, ty: &str, word: u32) -> &mut Self {
        self.fields += &format!("    {name}: {ty},\n");
        self.params.push(word);
        self
    }

    /// Functions `NAME(i: u32) -> u32`, one for each named tensor of `views`: where element i of the index
    /// space is.
    pub fn views(&mut self, names: &[&str], views: &Views) -> &mut Self {
        let prefix = names.first().copied().unwrap_or("view").to_string();
        let rank = views.dims.len();
        for (d, &extent) in views.dims.iter().enumerate().skip(1) {
            self.param(&format!("{prefix}_dim{d}"), extent);
        }
        for (t, name) in names.iter().enumerate() {
            let mut start = "0u".to_string();
            if views.offsets[t] != 0 {
                self.word_param(&format!("{name}_offset"), "u32", views.offsets[t] as u32);
                start = format!("p.{name}_offset");
            }
            let mut text =
                format!("fn {name}(index: u32) -> u32 {{\n    var rest = index;\n    var at = {start};\n");
            for d in (0..rank).rev() {
                let coordinate = if d > 0 { format!("rest % p.{prefix}_dim{d}") } else { "rest".into() };
                match views.strides[t][d] {
                    0 => {}
                    1 => text += &format!("    at += {coordinate};\n"),
                    stride => {
                        let field = format!("{name}_stride{d}");
                        self.word_param(&field, "u32", stride as u32);
                        text += &format!("    at += ({coordinate}) * p.{field};\n");
                    }
                }
                if d > 0 && views.strides[t][..d].iter().any(|&s| s != 0) {
                    text += &format!("    rest = rest / p.{prefix}_dim{d};\n");
                }
            }
            text += "    return at;\n}\n";
            self.declarations += &text;
        }
        self
    }

    /// The launch over `groups` linear workgroups.
    pub fn launch(&self, groups: usize, caps: &Caps) -> Result<Launch, Unsupported> {
        if self.params.len() > MAX_PARAM_WORDS {
            return Err(Unsupported::new(format!("{} needs {} parameters", self.name, self.params.len())));
        }
        if self.bindings.len() > caps.max_bindings as usize {
            return Err(Unsupported::new(format!(
                "{} binds {} buffers, the adapter {}",
                self.name,
                self.bindings.len(),
                caps.max_bindings
            )));
        }
        let fields = if self.fields.is_empty() { "    unused: u32,\n" } else { &self.fields };
        let params = if self.params.is_empty() { vec![0] } else { self.params.clone() };
        let rest = format!("{}{}", self.declarations, self.body);
        let mut source = String::with_capacity(rest.len() + 4096);
        if self.needs.f16 {
            source += "enable f16;\n";
        }
        if self.needs.cooperative_matrix {
            source += "enable wgpu_cooperative_matrix;\n";
        }
        source += "struct Params {\n";
        source += fields;
        source += "}\n@group(1) @binding(0) var<uniform> p: Params;\n";
        source += &math::functions_of(&rest);
        source += &rest;
        let key = format!("{}-{:016x}", self.name, fnv1a(source.as_bytes()));
        Ok(Launch {
            module: Module { key, source: Arc::from(source), needs: self.needs },
            groups: fold_groups(groups, caps.max_groups)?,
            params,
            bindings: self.bindings.clone(),
        })
    }

    /// The launch of a kernel that defines `value_y(i)`: each invocation writes one word of the `n` elements
    /// of y.
    pub fn map(&mut self, dtype: DType, n: usize, caps: &Caps) -> Result<Launch, Unsupported> {
        self.param("n", n);
        self.body +=
            &include_str!("map.wgsl").replace("$PER_WORD", &format!("{}u", storage::per_word(dtype)));
        self.launch(n.div_ceil(storage::per_word(dtype)).div_ceil(MAP_WORKGROUP), caps)
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3))
}
