//! The header: it compiles, its structs lie as ours do, and its table lists every operation with its attributes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use percept_graph::{
    Activation, ArgKind, AttentionSpec, Binary, Compare, Composite, DType, DotSpec, Interpolation, Literal,
    Op, PoolKind, ReduceKind, ScatterKind, TensorType, Unary,
};

use crate::abi;
use crate::attributes::{Value, attributes};
use crate::needs;

const HEADER: &str = include_str!("../../include/percept_plugin.h");

/// The first compiler of these that is there; a test that needs one is skipped without.
fn compiler(names: &[&str]) -> Option<PathBuf> {
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = names.iter().find(there).map(PathBuf::from);
    if found.is_none() {
        needs::skip(&format!("there is no compiler called {}; install one", names.join(" or ")));
    }
    found
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include")
}

fn compile(compiler: &Path, standard: &str, source: &Path, output: &Path, flags: &[&str]) {
    let command = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
        .arg(include())
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(output)
        .output()
        .expect("the compiler starts");
    assert!(command.status.success(), "{standard}: {}", String::from_utf8_lossy(&command.stderr));
}

#[test]
fn the_header_is_c99_and_cpp17_without_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let text = "#include \"percept_plugin.h\"\n#include \"percept_plugin.h\"\n\
                const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message) {\n\
                (void)host; (void)percept_fail(message, PERCEPT_FAILED, \"no %d\", 1); return NULL; }\n";
    for (names, standards, file) in [
        (["cc", "gcc", "clang"], &["-std=c99", "-std=c17"][..], "header.c"),
        (["c++", "g++", "clang++"], &["-std=c++17", "-std=c++20"][..], "header.cpp"),
    ] {
        let Some(compiler) = compiler(&names) else { return };
        let source = folder.path().join(file);
        std::fs::write(&source, text).unwrap();
        for standard in standards {
            compile(&compiler, standard, &source, &folder.path().join("header.o"), &["-c"]);
        }
    }
}

/// A struct's C name, its size, and its fields with their offsets.
type Layout = (&'static str, u64, &'static [(&'static str, usize)]);

macro_rules! layouts {
    ($($c:literal $rust:ident),* $(,)?) => {
        [$(($c, abi::$rust::SIZE, abi::$rust::FIELDS)),*]
    };
}

const LAYOUTS: [Layout; 21] = layouts![
    "percept_message" Message,
    "percept_tensor" Tensor,
    "percept_attribute" Attribute,
    "percept_op" Op,
    "percept_node" Node,
    "percept_region" Region,
    "percept_option" OptionPair,
    "percept_device_info" Info,
    "percept_span" Span,
    "percept_planned" Planned,
    "percept_launch" Launch,
    "percept_kernel_limits" Limits,
    "percept_module" Module,
    "percept_dispatch" Dispatch,
    "percept_graph" GraphSource,
    "percept_host" Host,
    "percept_plugin" Entry,
    "percept_devices" RawDevices,
    "percept_oplib" RawOplib,
    "percept_kernels" RawKernels,
    "percept_graphs" RawGraphs,
];

#[test]
fn structs_lie_as_the_header_says() {
    let Some(cc) = compiler(&["cc", "gcc", "clang"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut text = "#include \"percept_plugin.h\"\nint main(void) {\n".to_string();
    let mut expected = String::new();
    for (name, size, fields) in LAYOUTS {
        writeln!(text, "printf(\"{name} %d\\n\", (int)sizeof({name}));").unwrap();
        writeln!(expected, "{name} {size}").unwrap();
        for (field, offset) in fields {
            writeln!(text, "printf(\"{name}.{field} %d\\n\", (int)offsetof({name}, {field}));").unwrap();
            writeln!(expected, "{name}.{field} {offset}").unwrap();
        }
    }
    for (name, number) in [
        ("PERCEPT_ABI_VERSION", abi::ABI_VERSION),
        ("PERCEPT_UNSUPPORTED", abi::UNSUPPORTED as u32),
        ("PERCEPT_LOST", abi::LOST as u32),
        ("PERCEPT_DEVICE_SYNCHRONOUS", abi::DEVICE_SYNCHRONOUS as u32),
        ("PERCEPT_DEVICE_COMPUTES_F16", abi::DEVICE_COMPUTES_F16 as u32),
        ("PERCEPT_DEVICE_COMPUTES_BF16", abi::DEVICE_COMPUTES_BF16 as u32),
        ("PERCEPT_BYTES", abi::BYTES),
        ("PERCEPT_OPENCL_C", abi::OPENCL_C),
        ("PERCEPT_ONNX", abi::ONNX),
    ] {
        writeln!(text, "printf(\"{name} %d\\n\", (int){name});").unwrap();
        writeln!(expected, "{name} {number}").unwrap();
    }
    for dtype in DType::ALL {
        let name = format!("PERCEPT_{}", dtype.name().to_uppercase());
        writeln!(text, "printf(\"{name} %d\\n\", (int){name});").unwrap();
        writeln!(expected, "{name} {}", abi::dtype_number(dtype)).unwrap();
    }
    text.push_str("return 0;\n}\n");
    let (source, program) = (folder.path().join("layout.c"), folder.path().join("layout"));
    std::fs::write(&source, text).unwrap();
    compile(&cc, "-std=c99", &source, &program, &[]);
    let printed = Command::new(&program).output().expect("the program starts").stdout;
    assert_eq!(String::from_utf8_lossy(&printed), expected);
    // And every field of the header's structs is one of ours.
    let fields: usize = LAYOUTS.iter().map(|(_, _, fields)| fields.len()).sum();
    assert!(fields > 120, "{fields}");
}

/// A type for operations that want one.
fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

/// One of every operation, with everything that it may have.
fn one_of_each() -> Vec<Op> {
    let spec = AttentionSpec {
        window: Some(4),
        soft_cap: Some(30.0),
        segments: true,
        blocks: true,
        wide_blocks: true,
        offset: true,
        kv_len: true,
        ..AttentionSpec::causal(0.5)
    };
    let act = Activation::Silu;
    let size = vec![1, 2];
    let dense = Literal::dense(f32s(&[2]), &[1.0, 2.0]).unwrap();
    let dot = DotSpec {
        lhs_batch: vec![0],
        rhs_batch: vec![0],
        lhs_contract: vec![1],
        rhs_contract: vec![1],
        accum: DType::F32,
        out: DType::F32,
    };
    let mut ops = vec![
        Op::Constant(Literal::splat(f32s(&[]), 1.0)),
        Op::Constant(dense),
        Op::Iota { ty: f32s(&[3]), axis: 0 },
        Op::Cast { to: DType::F16 },
        Op::Bitcast { to: DType::I32 },
        Op::Reshape { dims: size.clone() },
        Op::Transpose { perm: size.clone() },
        Op::Broadcast { dims: size.clone(), axes: size.clone() },
        Op::Slice { start: size.clone(), limit: size.clone(), stride: size.clone() },
        Op::Pad { low: size.clone(), high: size.clone(), interior: size.clone() },
        Op::Concat { axis: 0 },
        Op::DynamicSlice { sizes: size.clone() },
        Op::DynamicUpdateSlice,
        Op::Select,
        Op::Clamp,
        Op::ArgReduce { kind: ArgKind::Max, axis: 0 },
        Op::Dot(dot),
        Op::Gather { axis: 0 },
        Op::Scatter { axis: 0, kind: ScatterKind::Set },
        Op::Sort { axis: 0, descending: true, limit: 3 },
        Op::Dequantize { to: DType::F32 },
        Op::Barrier,
        Op::Fused(std::sync::Arc::new(percept_graph::Graph::new("body"))),
    ];
    ops.extend(Unary::ALL.map(Op::Unary));
    ops.extend(Binary::ALL.map(Op::Binary));
    ops.extend(Compare::ALL.map(Op::Compare));
    ops.extend(ReduceKind::ALL.map(|kind| Op::Reduce { kind, axes: vec![0], accum: DType::F32 }));
    let composites = [
        Composite::Linear { bias: true, act: Some(act) },
        Composite::QuantizedDot { transposed: false },
        Composite::RaggedDot { transposed: false },
        Composite::RaggedOuter { groups: 2 },
        Composite::Int8Dot,
        Composite::Softmax,
        Composite::LogSoftmax,
        Composite::CrossEntropy { ignore: -100, label_smoothing: 0.1 },
        Composite::CrossEntropyGrad { ignore: -100, label_smoothing: 0.1 },
        Composite::RmsNorm { eps: 1e-5, unit_offset: false },
        Composite::RmsNormGrad { eps: 1e-5, unit_offset: false },
        Composite::LayerNorm { eps: 1e-5 },
        Composite::LayerNormGrad { eps: 1e-5 },
        Composite::Rope { interleaved: false },
        Composite::Attention(spec.clone()),
        Composite::AttentionGrad(spec),
        Composite::KvAppend { paged: false },
        Composite::Activate(act),
        Composite::GatedActivate(act),
        Composite::Embedding { out: DType::F32 },
        Composite::Patchify { patch: size.clone() },
        Composite::Conv1d { stride: 1, padding: 0, dilation: 1, bias: true },
        Composite::GatedDelta { segments: false, state: true },
        Composite::ShortConv { segments: false, state: true },
        Composite::CumSum { axis: 0 },
        Composite::Pool { kind: PoolKind::Avg, window: size.clone(), stride: size.clone() },
        Composite::RandomBits { stream: 0, dims: size },
        Composite::Upsample { size: [2, 2], kind: Interpolation::Bilinear { align_corners: true } },
        Composite::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 },
    ];
    ops.extend(composites.map(Op::Composite));
    ops
}

/// Operations of the header's table with their attributes' names and kinds.
fn table() -> BTreeMap<String, BTreeMap<String, String>> {
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let mut rows: Vec<String> = Vec::new();
    for line in HEADER.lines() {
        if let Some(row) = line.strip_prefix(" * @op ") {
            rows.push(row.to_string());
        } else if let (Some(rest), Some(row)) = (line.strip_prefix(" *          "), rows.last_mut()) {
            row.push_str(rest);
        }
    }
    let mut all = BTreeMap::new();
    for row in rows {
        let words: Vec<&str> = row.split_whitespace().collect();
        let names = words.iter().take_while(|w| is_name(w));
        let attribute = |word: &&str| {
            let (name, kind) = word.split_once(':')?;
            let base = kind.trim_end_matches(['*', '?']);
            (is_name(name) && ["i", "f", "s", "b", "t", "y"].contains(&base))
                .then(|| (name.into(), kind.into()))
        };
        let attributes: BTreeMap<String, String> = words.iter().filter_map(attribute).collect();
        for name in names {
            assert!(all.insert(name.to_string(), attributes.clone()).is_none(), "{name} has two rows");
        }
    }
    all
}

#[test]
fn the_table_lists_every_operation_with_its_attributes() {
    let mut ours: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for op in one_of_each() {
        let entry = ours.entry(op.name()).or_default();
        entry.extend(attributes(&op).into_iter().map(|(name, value)| (name.to_string(), value)));
    }
    let table = table();
    let names = |list: Vec<&String>| list.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(names(table.keys().collect()), names(ours.keys().collect()));
    for (op, attributes) in &ours {
        let row = &table[op];
        assert_eq!(names(row.keys().collect()), names(attributes.keys().collect()), "{op}");
        for (name, value) in attributes {
            let kind = row[name].trim_end_matches('?');
            let fits = match value {
                Value::Ints(list) => kind == "i*" || (["i", "b", "t"].contains(&kind) && list.len() == 1),
                Value::Floats(list) => kind == "f" && list.len() == 1,
                Value::Text(word) => kind == "s" && HEADER.contains(word.as_str()),
                Value::Bytes(_) => kind == "y*",
            };
            assert!(fits, "{op}.{name} is {value:?}, and the table says {kind}");
        }
    }
}

/// The variants of an enum in a source file, with the names of their fields.
fn variants(source: &str, name: &str) -> BTreeMap<String, Vec<String>> {
    let start = source.find(&format!("pub enum {name} {{")).expect("the enum is there");
    let body = &source[start..start + source[start..].find("\n}\n").expect("it ends")];
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in body.lines().skip(1).filter(|l| !l.trim_start().starts_with("///")) {
        let word: String =
            line.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if word.is_empty() {
            continue;
        }
        if line.starts_with("        ") {
            found.get_mut(&last).expect("a field has a variant").push(word);
        } else {
            found.insert(word.clone(), Vec::new());
            last = word;
        }
    }
    found
}

/// What the exemplars cannot show is looked up in the sources: no operation and no field is left out.
#[test]
fn no_operation_and_no_field_is_left_out() {
    let ops = include_str!("../../../graph/src/op.rs");
    let composites = include_str!("../../../graph/src/composite.rs");
    let mut seen = 0;
    for (source, name) in [(ops, "Op"), (composites, "Composite")] {
        for (variant, fields) in variants(source, name) {
            let text = |op: &Op| format!("{op:?}");
            let prefix = if name == "Op" { variant.clone() } else { format!("Composite({variant}") };
            let is = |op: &&Op| {
                text(op).strip_prefix(&prefix).is_some_and(|r| !r.starts_with(char::is_alphanumeric))
            };
            let op = one_of_each().into_iter().find(|op| is(&op)).unwrap_or_else(|| panic!("no {prefix}"));
            let attributes = attributes(&op);
            for field in fields {
                // The result's type says it.
                let is_type = (variant.as_str(), field.as_str()) == ("Iota", "ty");
                assert!(is_type || attributes.iter().any(|(n, _)| *n == field), "{variant} has no {field}");
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen} fields were seen");
}

/// The page for porters shows the text form as it is.
#[test]
fn the_graph_of_the_guide_is_one() {
    let page = include_str!("../../../docs/porting.md");
    let text = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let graph: percept_graph::Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!((graph.inputs().len(), graph.outputs().len()), (2, 2));
}
