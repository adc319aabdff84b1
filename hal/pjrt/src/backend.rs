//! Devices by id: `pjrt:/path/plugin.so[:N]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept_graph::DType;
use percept_hal::{Backend, Device, DeviceInfo, EmitterDevice, Error, Result};

use crate::client::Client;
use crate::emitter::{PjrtDevice, PjrtEmitter};
use crate::plugin::Plugin;

/// What precedes the path in an id.
const PREFIX: &str = "pjrt";
/// The environment variable with the plug-ins whose devices are listed, apart as in `PATH`.
const PLUGINS: &str = "PERCEPT_PJRT_PLUGINS";

/// PJRT plug-ins in a registry of devices.
///
/// Any plug-in is opened by its path; those named in the environment variable `PERCEPT_PJRT_PLUGINS` are also listed,
/// and taken by `auto` when they drive hardware.
pub struct PjrtBackend;

impl Backend for PjrtBackend {
    fn prefix(&self) -> &'static str {
        PREFIX
    }

    fn list(&self) -> Vec<DeviceInfo> {
        let named = std::env::var_os(PLUGINS).unwrap_or_default();
        let paths: Vec<PathBuf> =
            std::env::split_paths(&named).filter(|p| !p.as_os_str().is_empty()).collect();
        paths.iter().flat_map(|path| devices(path).unwrap_or_default()).collect()
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(open(id)?))
    }
}

/// The devices of a plug-in.
fn devices(path: &Path) -> Result<Vec<DeviceInfo>> {
    let id = format!("{PREFIX}:{}", path.display());
    let client = client(&id, path)?;
    (0..client.device_count()).map(|device| info(&id, &client, device)).collect()
}

/// Open the device with this whole id.
///
/// # Errors
/// When the path leads to no plug-in, the plug-in finds no hardware, or it has no device of this number.
pub fn open(id: &str) -> Result<PjrtDevice> {
    let (path, device) = parse(id)?;
    let client = client(id, &path)?;
    let count = client.device_count();
    if device >= count {
        let known = (0..count).map(|n| format!("{PREFIX}:{}:{n}", path.display()));
        return Err(Error::UnknownDevice { id: id.to_string(), known: known.collect::<Vec<_>>().join(", ") });
    }
    let info = DeviceInfo { id: id.to_string(), ..info(id, &client, device)? };
    Ok(EmitterDevice::new(PjrtEmitter::new(info, client, device)))
}

/// The path and the number of the device, 0 where none is named.
pub(crate) fn parse(id: &str) -> Result<(PathBuf, usize)> {
    let rest = id.strip_prefix(PREFIX).and_then(|r| r.strip_prefix(':')).filter(|r| !r.is_empty());
    let rest = rest.ok_or_else(|| Error::Open {
        id: id.to_string(),
        why: "name the plug-in's library, as in pjrt:/path/plugin.so or, for its second device, pjrt:/path/plugin.so:1".into(),
    })?;
    let numbered = rest.rsplit_once(':').and_then(|(path, n)| Some((path, n.parse().ok()?)));
    let (path, device) = numbered.unwrap_or((rest, 0));
    Ok((PathBuf::from(path), device))
}

fn client(id: &str, path: &Path) -> Result<Arc<Client>> {
    let plugin = load(id, path)?;
    Client::shared(plugin).map_err(|e| Error::Open { id: id.to_string(), why: e.to_string() })
}

/// The plug-in in a file.
pub(crate) fn load(id: &str, path: &Path) -> Result<&'static Plugin> {
    Plugin::load(path).map_err(|why| Error::Open { id: id.to_string(), why })
}

/// Dtypes that StableHLO has types for, quantized blocks being bytes.
pub(crate) fn dtypes() -> Vec<DType> {
    DType::ALL.to_vec()
}

fn info(id: &str, client: &Client, device: usize) -> Result<DeviceInfo> {
    let failed = |e: crate::plugin::Failure| Error::Open { id: id.to_string(), why: e.to_string() };
    let (platform, version) = client.platform().map_err(failed)?;
    let (major, minor) = client.plugin().version();
    let memory = client.memory_limit(device);
    let version = version.lines().next().unwrap_or_default().trim();
    Ok(DeviceInfo {
        id: if device == 0 { id.to_string() } else { format!("{id}:{device}") },
        name: client.device_kind(device).to_string(),
        software: platform == "cpu" || platform == "interpreter",
        vendor: platform,
        driver: format!("PJRT C API {major}.{minor} {version}").trim_end().to_string(),
        dtypes: dtypes(),
        features: Vec::new(),
        // Where the plug-in does not say how much memory there is, what XLA can index.
        max_buffer_bytes: memory.unwrap_or(1 << 40),
        memory_bytes: memory,
        computes_in: DType::F32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_a_path_and_a_device() {
        let parsed = |id: &str| parse(id).unwrap();
        assert_eq!(parsed("pjrt:/a/b.so"), (PathBuf::from("/a/b.so"), 0));
        assert_eq!(parsed("pjrt:/a/b.so:3"), (PathBuf::from("/a/b.so"), 3));
        assert_eq!(parsed("pjrt:C:\\a\\b.dll"), (PathBuf::from("C:\\a\\b.dll"), 0));
        assert_eq!(parsed("pjrt:/a:b/c.so"), (PathBuf::from("/a:b/c.so"), 0));
        for id in ["pjrt", "pjrt:"] {
            assert!(parse(id).unwrap_err().to_string().contains("pjrt:/path/plugin.so"));
        }
    }

    #[test]
    fn what_is_no_plugin_is_refused_in_words() {
        let file = std::env::current_exe().unwrap();
        let refused = |id: String| open(&id).err().unwrap().to_string();
        let text = refused("pjrt:/no/such/file.so".into());
        assert!(text.contains("/no/such/file.so") && text.contains("No such file"), "{text}");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(refused(format!("pjrt:{manifest}")).contains("is not a library that loads here"));
        // A program of its own is a library to some loaders, but never a plug-in.
        let text = refused(format!("pjrt:{}", file.display()));
        assert!(text.contains("is not a library") || text.contains("GetPjrtApi"), "{text}");
    }
}
