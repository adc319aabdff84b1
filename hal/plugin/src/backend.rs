//! The entry in the device registry.

use std::sync::Arc;

use percept_graph::DType;
use percept_hal::{
    Backend, Device, DeviceInfo, EmitterDevice, Error, KernelBackedDevice, LibraryDevice, Result,
};

use crate::graphs::{GraphFormat, PluginGraphs};
use crate::id::{Adapter, PluginId, plugins_in, search_path};
use crate::kernels::PluginKernels;
use crate::library::Plugin;
use crate::opened::Opened;
use crate::oplib::PluginLibrary;

/// Devices of plug-ins: `plugin:/path/plugin.so?key=value`, or `plugin:NAME` for those of the search path.
pub struct PluginBackend {
    formats: Vec<GraphFormat>,
}

impl PluginBackend {
    /// A backend that hands graphs over in Percept's text form and in these formats.
    pub fn new(formats: impl IntoIterator<Item = GraphFormat>) -> Self {
        Self { formats: [GraphFormat::TEXT_FORM].into_iter().chain(formats).collect() }
    }

    /// Load a plug-in and open its device, with the table that the id asks for.
    ///
    /// # Errors
    /// When there is no such plug-in, it does not work with this host, or its device cannot be opened.
    pub fn open_device(&self, id: &str) -> Result<Arc<dyn Device>> {
        let id = PluginId::parse(id, &search_path())?;
        let refused = |why: String| Error::Open { id: id.text.clone(), why };
        let plugin = Plugin::load(&id.file).map_err(refused)?;
        let adapter = adapter(&plugin, id.adapter).map_err(refused)?;
        let opened = Opened::new(plugin, &id)?;
        let missing = || refused("it does not have the table that its device needs".into());
        Ok(match adapter {
            Adapter::Oplib => {
                let library = PluginLibrary::new(opened).ok_or_else(missing)?;
                Arc::new(LibraryDevice::new(library))
            }
            Adapter::Graph => {
                let graphs = PluginGraphs::new(opened, &self.formats)?.ok_or_else(missing)?;
                Arc::new(EmitterDevice::new(graphs))
            }
            Adapter::Kernel => {
                let kernels = PluginKernels::new(opened)?.ok_or_else(missing)?;
                Arc::new(KernelBackedDevice::new(kernels))
            }
        })
    }
}

impl Default for PluginBackend {
    fn default() -> Self {
        Self::new([])
    }
}

impl Backend for PluginBackend {
    fn prefix(&self) -> &'static str {
        "plugin"
    }

    /// The plug-ins of the search path. They are not loaded for it: that runs code, and a list must not fail for it.
    fn list(&self) -> Vec<DeviceInfo> {
        let listed = |(name, path): (String, std::path::PathBuf)| DeviceInfo {
            id: format!("plugin:{name}"),
            name: path.display().to_string(),
            vendor: String::new(),
            driver: "plug-in, not loaded".into(),
            // So that `auto` takes none that was not asked for.
            software: true,
            dtypes: Vec::new(),
            features: Vec::new(),
            max_buffer_bytes: 0,
            memory_bytes: None,
            computes_in: DType::F32,
        };
        plugins_in(&search_path()).into_iter().map(listed).collect()
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        self.open_device(id)
    }
}

/// The table that a device uses: the one asked for, else the first there is.
fn adapter(plugin: &Plugin, asked: Option<Adapter>) -> Result<Adapter, String> {
    let all = [
        (Adapter::Oplib, "oplib", plugin.oplib.is_some()),
        (Adapter::Graph, "graph", plugin.graphs.is_some()),
        (Adapter::Kernel, "kernel", plugin.kernels.is_some()),
    ];
    let there: Vec<_> = all.iter().filter(|(_, _, is_there)| *is_there).collect();
    let found = there.iter().find(|(adapter, ..)| asked.is_none_or(|a| a == *adapter));
    let names: Vec<&str> = there.iter().map(|(_, name, _)| *name).collect();
    found
        .map(|(adapter, ..)| *adapter)
        .ok_or_else(|| format!("plug-in '{}' has {}", plugin.name, names.join(", ")))
}
