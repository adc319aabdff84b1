//! Ids of plug-in devices, and where plug-ins are looked for.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

use percept_hal::{Error, Result};

use crate::library::Plugin;

/// The environment variable with the folders in which plug-ins are looked for, written as `PATH` is.
pub const SEARCH_PATH: &str = "PERCEPT_PLUGIN_PATH";

/// The table of a plug-in that a device uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// Functions for operations.
    Oplib,
    /// Kernels.
    Kernel,
    /// Whole graphs.
    Graph,
}

/// `plugin:/path/plugin.so?key=value&key=value`, or `plugin:name`, taken apart.
#[derive(Debug, Clone)]
pub struct PluginId {
    /// All of it.
    pub text: String,
    /// The file.
    pub file: PathBuf,
    /// Which table is used, when the user says so.
    pub adapter: Option<Adapter>,
    /// Every launch is waited for, and its guards are looked at.
    pub guard: bool,
    options: Vec<(String, String)>,
}

impl PluginId {
    /// Take an id apart and find its file in these folders, unless it names one.
    ///
    /// # Errors
    /// When there is no such file, or the options are not `key=value`.
    pub fn parse(id: &str, folders: &[PathBuf]) -> Result<Self> {
        let refused = |why: String| Error::Open { id: id.to_string(), why };
        let rest = id.strip_prefix("plugin:").unwrap_or(id);
        let (name, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parsed = Self {
            text: id.to_string(),
            file: PathBuf::new(),
            adapter: None,
            guard: false,
            options: Vec::new(),
        };
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            parsed.option(key, value).map_err(refused)?;
        }
        parsed.file = find(name, folders).map_err(refused)?;
        Ok(parsed)
    }

    /// Options of ours are taken here; the others go to the plug-in.
    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("adapter", "oplib") => self.adapter = Some(Adapter::Oplib),
            ("adapter", "kernel") => self.adapter = Some(Adapter::Kernel),
            ("adapter", "graph") => self.adapter = Some(Adapter::Graph),
            ("adapter", _) => return Err(format!("adapter={value}: it is oplib, kernel or graph")),
            ("guard", "on") => self.guard = true,
            ("guard", "off") => self.guard = false,
            ("guard", _) => return Err(format!("guard={value}: it is on or off")),
            _ => self.options.push((key.to_string(), value.to_string())),
        }
        Ok(())
    }

    /// The options for the plug-in, which must know them.
    pub fn for_plugin(&self, plugin: &Plugin) -> Result<&[(String, String)], String> {
        match self.options.iter().find(|(key, _)| !plugin.options.contains(key)) {
            None => Ok(&self.options),
            Some((key, _)) => {
                let mut known = vec!["adapter".to_string(), "guard".to_string()];
                known.extend(plugin.options.iter().cloned());
                Err(format!("unknown option '{key}'; plug-in '{}' knows {}", plugin.name, known.join(", ")))
            }
        }
    }
}

/// The folders of the search path.
pub fn search_path() -> Vec<PathBuf> {
    std::env::var_os(SEARCH_PATH).map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default()
}

/// The plug-ins in folders: their names and files.
pub fn plugins_in(folders: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if let Some(stem) = name.strip_suffix(DLL_SUFFIX) {
                found.push((stem.strip_prefix(DLL_PREFIX).unwrap_or(stem).to_string(), path));
            }
        }
    }
    found.sort();
    found
}

fn find(name: &str, folders: &[PathBuf]) -> Result<PathBuf, String> {
    let is_path = name.contains(['/', '\\']) || name.ends_with(DLL_SUFFIX);
    if is_path {
        // With its whole path, so that the system does not look for it elsewhere.
        return Path::new(name).canonicalize().map_err(|e| format!("{name}: {e}"));
    }
    if name.is_empty() {
        return Err(format!(
            "an id is plugin:/path/plugin{DLL_SUFFIX}, or plugin:NAME with {SEARCH_PATH} set"
        ));
    }
    let known = plugins_in(folders);
    if let Some((_, path)) = known.iter().find(|(n, _)| n == name) {
        return path.canonicalize().map_err(|e| format!("{}: {e}", path.display()));
    }
    let names: Vec<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
    let there = if names.is_empty() {
        "which have no plug-in".to_string()
    } else {
        format!("which have {}", names.join(", "))
    };
    Err(format!(
        "no plug-in '{name}' in the folders of {SEARCH_PATH} ({}), {there}; or give its file: plugin:/path/{DLL_PREFIX}{name}{DLL_SUFFIX}",
        folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_and_options_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{DLL_PREFIX}chip{DLL_SUFFIX}"));
        std::fs::write(&file, "").unwrap();
        let folders = [folder.path().to_path_buf()];
        let id = PluginId::parse("plugin:chip?guard=on&index=1&fast", &folders).unwrap();
        assert_eq!((id.file, id.guard, id.adapter), (file.canonicalize().unwrap(), true, None));
        assert_eq!(id.options, [("index".into(), "1".into()), ("fast".into(), String::new())]);
        let unknown = PluginId::parse("plugin:chap", &folders).unwrap_err().to_string();
        assert!(unknown.contains("chip") && unknown.contains(SEARCH_PATH), "{unknown}");
        let wrong = PluginId::parse("plugin:chip?adapter=gpu", &folders).unwrap_err().to_string();
        assert!(wrong.contains("oplib"), "{wrong}");
        let missing = PluginId::parse("plugin:/no/such.so", &folders).unwrap_err().to_string();
        assert!(missing.contains("/no/such.so"), "{missing}");
    }
}
