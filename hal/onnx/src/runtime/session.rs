//! Sessions: a model built by calls of the library's editor, and runs with bound values.

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use ort_sys::{
    GraphOptimizationLevel, OrtGraph, OrtIoBinding, OrtModel, OrtOpAttrType, OrtSession, OrtSessionOptions,
    OrtValueInfo,
};

use super::library::{EpDevice, Library, Value, number, text};
use crate::emit::{Elem, Emitted, Port};
use crate::proto::{AttributeProto, NodeProto};

/// How sessions are made.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Threads of a session; the process's own pool where there is no number.
    pub threads: Option<usize>,
    /// Weights are not rearranged for speed, which saves a copy of them.
    pub keep_layout: bool,
    /// The device of an execution provider before the processor's.
    pub device: Option<EpDevice>,
    /// Options of that provider.
    pub options: Vec<(String, String)>,
    /// What the provider lacks may run on the processor.
    pub fallback: bool,
}

/// A constant of a model, with what keeps its bytes.
pub struct Constant {
    /// Name in the model.
    pub name: String,
    /// Its elements on the host.
    pub value: Value,
    /// They lie outside of the value.
    pub external: bool,
}

/// A node of a session's graph, and the execution provider that runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// The operator.
    pub op: String,
    /// The node's name.
    pub node: String,
    /// The provider.
    pub provider: String,
}

/// A compiled model.
pub struct Session {
    library: Arc<Library>,
    session: *mut OrtSession,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

// SAFETY: sessions run from any thread, several at a time.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session is released once, and no run is under way, since each borrows it.
        unsafe { (self.library.api().ReleaseSession)(self.session) }
    }
}

/// A handle that is released when it is not given away.
struct Guard<T> {
    raw: *mut T,
    release: unsafe extern "system" fn(*mut T),
}

impl<T> Guard<T> {
    fn give(mut self) -> *mut T {
        std::mem::replace(&mut self.raw, ptr::null_mut())
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: the handle is ours, whole, and not used again.
            unsafe { (self.release)(self.raw) }
        }
    }
}

impl Session {
    /// Compile a model with these constants, which must be all that it has.
    ///
    /// # Errors
    /// The library's words: an operator that the provider lacks, or memory.
    pub fn new(
        library: &Arc<Library>,
        emitted: &Emitted,
        constants: Vec<Constant>,
        settings: &Settings,
    ) -> Result<Session, String> {
        let options = options(library, settings)?;
        let model = model(library, emitted, constants)?;
        let mut session = ptr::null_mut();
        // SAFETY: environment, model and options are alive; the session copies what it needs of them.
        library.check(unsafe {
            (library.editor().CreateSessionFromModel)(library.env(), model.raw, options.raw, &mut session)
        })?;
        let names = |ports: &[Port]| ports.iter().map(|p| text(&p.name)).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (names(&emitted.inputs)?, names(&emitted.outputs)?);
        Ok(Session { library: library.clone(), session, inputs, outputs })
    }

    /// Run on one value for each input, writing one value for each output. An output may be the value of an
    /// input.
    ///
    /// # Errors
    /// What the library says.
    pub fn run(&self, inputs: &[&Value], outputs: &[&Value]) -> Result<(), String> {
        let api = self.library.api();
        let mut binding: *mut OrtIoBinding = ptr::null_mut();
        // SAFETY: the session is alive.
        self.library.check(unsafe { (api.CreateIoBinding)(self.session, &mut binding) })?;
        let binding = Guard { raw: binding, release: api.ReleaseIoBinding };
        for (name, value) in self.inputs.iter().zip(inputs) {
            // SAFETY: binding, name and value are alive; the binding shares the value's memory.
            self.library.check(unsafe { (api.BindInput)(binding.raw, name.as_ptr(), value.raw()) })?;
        }
        for (name, value) in self.outputs.iter().zip(outputs) {
            // SAFETY: as for inputs; the caller writes no value twice at a time.
            self.library.check(unsafe { (api.BindOutput)(binding.raw, name.as_ptr(), value.raw()) })?;
        }
        // SAFETY: session and binding are alive; no options are the default ones.
        self.library.check(unsafe { (api.RunWithBinding)(self.session, ptr::null(), binding.raw) })?;
        // SAFETY: the binding is alive.
        self.library.check(unsafe { (api.SynchronizeBoundOutputs)(binding.raw) })
    }

    /// Which execution provider runs which node.
    ///
    /// # Errors
    /// What the library says.
    pub fn assigned(&self) -> Result<Vec<Assigned>, String> {
        let (library, api) = (&self.library, self.library.api());
        let (mut parts, mut count) = (ptr::null(), 0);
        let mut all = Vec::new();
        // SAFETY: the lists and strings belong to the session and live as long.
        unsafe {
            library.check((api.Session_GetEpGraphAssignmentInfo)(self.session, &mut parts, &mut count))?;
            let parts = if count == 0 { &[] } else { std::slice::from_raw_parts(parts, count) };
            let string = |s| std::ffi::CStr::from_ptr(s).to_string_lossy().into_owned();
            for &part in parts {
                let mut provider = ptr::null();
                library.check((api.EpAssignedSubgraph_GetEpName)(part, &mut provider))?;
                let (mut nodes, mut count) = (ptr::null(), 0);
                library.check((api.EpAssignedSubgraph_GetNodes)(part, &mut nodes, &mut count))?;
                let nodes = if count == 0 { &[] } else { std::slice::from_raw_parts(nodes, count) };
                for &node in nodes {
                    let (mut op, mut name) = (ptr::null(), ptr::null());
                    library.check((api.EpAssignedNode_GetOperatorType)(node, &mut op))?;
                    library.check((api.EpAssignedNode_GetName)(node, &mut name))?;
                    all.push(Assigned { op: string(op), node: string(name), provider: string(provider) });
                }
            }
        }
        Ok(all)
    }
}

fn options(library: &Arc<Library>, settings: &Settings) -> Result<Guard<OrtSessionOptions>, String> {
    let api = library.api();
    let mut raw = ptr::null_mut();
    // SAFETY: the out-pointer is ours.
    library.check(unsafe { (api.CreateSessionOptions)(&mut raw) })?;
    let options = Guard { raw, release: api.ReleaseSessionOptions };
    let entry = |key: &str, value: &str| {
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: options and strings are alive; the strings are copied.
        library.check(unsafe { (api.AddSessionConfigEntry)(options.raw, key.as_ptr(), value.as_ptr()) })
    };
    // SAFETY: the options are alive in these calls.
    unsafe {
        library.check((api.SetSessionGraphOptimizationLevel)(
            options.raw,
            GraphOptimizationLevel::ORT_ENABLE_ALL,
        ))?;
        match settings.threads {
            Some(n) => {
                let n = c_int::try_from(n).map_err(|_| format!("{n} threads"))?;
                library.check((api.SetIntraOpNumThreads)(options.raw, n))?;
            }
            None => library.check((api.DisablePerSessionThreads)(options.raw))?,
        }
    }
    if settings.keep_layout {
        entry("session.disable_prepacking", "1")?;
    }
    let Some(device) = &settings.device else { return Ok(options) };
    if settings.fallback {
        entry("session.record_ep_graph_assignment_info", "1")?;
    } else {
        entry("session.disable_cpu_ep_fallback", "1")?;
    }
    let keys = settings.options.iter().map(|(k, _)| text(k)).collect::<Result<Vec<_>, _>>()?;
    let values = settings.options.iter().map(|(_, v)| text(v)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<_> = keys.iter().map(|k| k.as_ptr()).collect();
    let values: Vec<_> = values.iter().map(|v| v.as_ptr()).collect();
    let devices = [device.device];
    // SAFETY: the device belongs to the environment; lists and strings are alive and copied.
    library.check(unsafe {
        (api.SessionOptionsAppendExecutionProvider_V2)(
            options.raw,
            library.env(),
            devices.as_ptr(),
            devices.len(),
            keys.as_ptr(),
            values.as_ptr(),
            keys.len(),
        )
    })?;
    Ok(options)
}

/// The model as the editor builds it: what is added belongs to what it is added to.
fn model(
    library: &Arc<Library>,
    emitted: &Emitted,
    constants: Vec<Constant>,
) -> Result<Guard<OrtModel>, String> {
    let (api, editor) = (library.api(), library.editor());
    let mut raw = ptr::null_mut();
    // SAFETY: the out-pointer is ours.
    library.check(unsafe { (editor.CreateGraph)(&mut raw) })?;
    let graph: Guard<OrtGraph> = Guard { raw, release: api.ReleaseGraph };
    let mut inputs = ports(library, &emitted.inputs)?;
    // SAFETY: the graph takes the values of the list over.
    library.check(unsafe { (editor.SetGraphInputs)(graph.raw, inputs.as_mut_ptr(), inputs.len()) })?;
    let mut outputs = ports(library, &emitted.outputs)?;
    // SAFETY: as for the inputs.
    library.check(unsafe { (editor.SetGraphOutputs)(graph.raw, outputs.as_mut_ptr(), outputs.len()) })?;
    for constant in constants {
        let name = text(&constant.name)?;
        let value = constant.value.into_raw();
        // SAFETY: the graph takes the value over; the name is copied.
        library.check(unsafe {
            (editor.AddInitializerToGraph)(graph.raw, name.as_ptr(), value, constant.external)
        })?;
    }
    for node in &emitted.nodes {
        add_node(library, &graph, node)?;
    }
    let domains = emitted.opsets.iter().map(|(d, _)| text(d)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = domains.iter().map(|d| d.as_ptr()).collect();
    let versions: Vec<i32> = emitted.opsets.iter().map(|(_, v)| *v as i32).collect();
    let mut raw = ptr::null_mut();
    // SAFETY: both lists have the given length and are copied.
    let made = unsafe { (editor.CreateModel)(names.as_ptr(), versions.as_ptr(), names.len(), &mut raw) };
    library.check(made)?;
    let model = Guard { raw, release: api.ReleaseModel };
    // SAFETY: the model takes the graph over.
    library.check(unsafe { (editor.AddGraphToModel)(model.raw, graph.give()) })?;
    Ok(model)
}

fn ports(library: &Arc<Library>, ports: &[Port]) -> Result<Vec<*mut OrtValueInfo>, String> {
    ports.iter().map(|p| port(library, &p.name, p.elem, &p.dims)).collect()
}

fn port(library: &Arc<Library>, name: &str, elem: Elem, dims: &[usize]) -> Result<*mut OrtValueInfo, String> {
    let (api, editor) = (library.api(), library.editor());
    let name = text(name)?;
    let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let (mut shape, mut ty, mut info) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: every handle is used while it is alive and released once; the later ones copy the earlier.
    unsafe {
        library.check((api.CreateTensorTypeAndShapeInfo)(&mut shape))?;
        let shape = Guard { raw: shape, release: api.ReleaseTensorTypeAndShapeInfo };
        library.check((api.SetTensorElementType)(shape.raw, number(elem)))?;
        library.check((api.SetDimensions)(shape.raw, dims.as_ptr(), dims.len()))?;
        library.check((editor.CreateTensorTypeInfo)(shape.raw, &mut ty))?;
        let ty = Guard { raw: ty, release: api.ReleaseTypeInfo };
        library.check((editor.CreateValueInfo)(name.as_ptr(), ty.raw, &mut info))?;
    }
    Ok(info)
}

fn add_node(library: &Arc<Library>, graph: &Guard<OrtGraph>, node: &NodeProto) -> Result<(), String> {
    let editor = library.editor();
    let (op, domain, name) = (text(&node.op_type)?, text(&node.domain)?, text(&node.name)?);
    let strings = |list: &[String]| list.iter().map(|s| text(s)).collect::<Result<Vec<_>, _>>();
    let (inputs, outputs) = (strings(&node.input)?, strings(&node.output)?);
    let inputs: Vec<_> = inputs.iter().map(|s| s.as_ptr()).collect();
    let outputs: Vec<_> = outputs.iter().map(|s| s.as_ptr()).collect();
    let mut attributes = Vec::with_capacity(node.attribute.len());
    for a in &node.attribute {
        attributes.push(attribute(library, a)?);
    }
    let mut raw = ptr::null_mut();
    // SAFETY: all lists have the given lengths, strings are copied, and the node takes the attributes over.
    library.check(unsafe {
        (editor.CreateNode)(
            op.as_ptr(),
            domain.as_ptr(),
            name.as_ptr(),
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_ptr(),
            outputs.len(),
            attributes.as_mut_ptr(),
            attributes.len(),
            &mut raw,
        )
    })?;
    // SAFETY: the graph takes the node over.
    library.check(unsafe { (editor.AddNodeToGraph)(graph.raw, raw) })
}

fn attribute(library: &Arc<Library>, a: &AttributeProto) -> Result<*mut ort_sys::OrtOpAttr, String> {
    let name = text(&a.name)?;
    let (data, len, kind): (*const c_void, usize, _) = match a.r#type {
        1 => (ptr::from_ref(&a.f).cast(), 1, OrtOpAttrType::ORT_OP_ATTR_FLOAT),
        2 => (ptr::from_ref(&a.i).cast(), 1, OrtOpAttrType::ORT_OP_ATTR_INT),
        3 => (a.s.as_ptr().cast(), a.s.len(), OrtOpAttrType::ORT_OP_ATTR_STRING),
        _ => (a.ints.as_ptr().cast(), a.ints.len(), OrtOpAttrType::ORT_OP_ATTR_INTS),
    };
    let len = c_int::try_from(len).map_err(|_| format!("attribute '{}' is too long", a.name))?;
    let mut raw = ptr::null_mut();
    // SAFETY: the data has the given length and type, and is copied.
    library.check(unsafe { (library.api().CreateOpAttr)(name.as_ptr(), data, len, kind, &mut raw) })?;
    Ok(raw)
}
