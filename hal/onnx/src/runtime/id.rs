//! Ids of devices: `onnx:/path/libonnxruntime.so?ep=/path/plugin.so&fallback=cpu`.

use std::path::PathBuf;

use percept_graph::DType;

use crate::style::{BadStyle, Family, Style};

/// The options of an id, and what each is for.
pub const KNOWN_OPTIONS: [(&str, &str); 9] = [
    ("ep", "the library of an execution provider's plug-in"),
    ("device", "which of the plug-in's devices, counted from 0"),
    ("ep.NAME", "an option of the provider, by its own name"),
    ("fallback", "cpu: what the provider lacks runs on the processor"),
    ("style", "plain, fused or microsoft: the operators that are used"),
    ("opset", "the operator set"),
    ("threads", "threads of each session, instead of one pool for all"),
    ("computes", "f16 or bf16: what the provider computes f32 in, by which the ladder counts errors"),
    ("prepack", "0: weights keep their layout, which saves a copy and costs speed"),
];

/// A device's id, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Id {
    /// ONNX Runtime's library.
    pub library: PathBuf,
    /// An execution provider's plug-in.
    pub plugin: Option<PathBuf>,
    /// Which of its devices.
    pub device: usize,
    /// The provider's options.
    pub options: Vec<(String, String)>,
    /// Whether what it lacks may run on the processor.
    pub fallback: bool,
    /// The operators.
    pub style: Style,
    /// Threads of a session.
    pub threads: Option<usize>,
    /// Whether weights may be rearranged.
    pub prepack: bool,
    /// What the provider computes f32 in.
    pub computes_in: DType,
}

/// Why text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// There is no path.
    #[error(
        "an id is onnx:PATH, where PATH is the library of ONNX Runtime, such as libonnxruntime.so.1.32.0 of the package onnxruntime"
    )]
    NoPath,
    /// An option that there is not.
    #[error("unknown option '{0}'; known: {known}", known = known())]
    Option(String),
    /// An option's value.
    #[error("option '{option}' cannot be '{value}'; it is {what}", what = what(option))]
    Value {
        /// The option.
        option: String,
        /// What was given.
        value: String,
    },
    /// An option that does nothing without a plug-in.
    #[error("option '{0}' is of an execution provider; say which with ep=PATH")]
    NoProvider(String),
    /// A style that there is not.
    #[error(transparent)]
    Style(#[from] BadStyle),
}

fn known() -> String {
    KNOWN_OPTIONS.map(|(name, _)| name).join(", ")
}

fn what(option: &str) -> &'static str {
    KNOWN_OPTIONS.iter().find(|(name, _)| *name == option).map_or("unknown", |(_, what)| what)
}

impl Id {
    /// Take an id apart; with or without its prefix.
    ///
    /// # Errors
    /// When the path is missing or an option is unknown or has no such value.
    pub fn parse(id: &str) -> Result<Self, BadId> {
        let rest = id.strip_prefix("onnx:").unwrap_or(if id == "onnx" { "" } else { id });
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err(BadId::NoPath);
        }
        let mut parsed = Id {
            library: path.into(),
            plugin: None,
            device: 0,
            options: Vec::new(),
            fallback: false,
            style: Style::runtime(),
            threads: None,
            prepack: true,
            computes_in: DType::F32,
        };
        let (mut family, mut opset, mut of_provider) = (None, None, None);
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = || BadId::Value { option: key.into(), value: value.into() };
            if matches!(key, "device" | "fallback" | "computes") || key.starts_with("ep.") {
                of_provider.get_or_insert(key);
            }
            match key {
                "ep" if !value.is_empty() => parsed.plugin = Some(value.into()),
                "device" => parsed.device = value.parse().map_err(|_| bad())?,
                "fallback" if value == "cpu" => parsed.fallback = true,
                "style" => family = Some(value.parse::<Family>()?),
                "opset" => opset = Some(value.parse::<i64>().map_err(|_| bad())?),
                "threads" => match value.parse() {
                    Ok(n) if n > 0 => parsed.threads = Some(n),
                    _ => return Err(bad()),
                },
                "computes" => {
                    let half = value.parse().ok().filter(|dtype| matches!(dtype, DType::F16 | DType::BF16));
                    parsed.computes_in = half.ok_or_else(bad)?;
                }
                "prepack" if matches!(value, "0" | "1") => parsed.prepack = value == "1",
                "ep" | "fallback" | "prepack" => return Err(bad()),
                _ => match key.strip_prefix("ep.") {
                    Some(name) if !name.is_empty() => parsed.options.push((name.into(), value.into())),
                    _ => return Err(BadId::Option(key.into())),
                },
            }
        }
        if let (Some(key), None) = (of_provider, &parsed.plugin) {
            return Err(BadId::NoProvider(key.into()));
        }
        // A provider takes what it knows; the processor's own takes all.
        let default = if parsed.plugin.is_some() { Family::Fused } else { Family::Microsoft };
        let family = family.unwrap_or(default);
        let newest = (family == Family::Microsoft).then_some(crate::style::NEWEST_OPSET);
        parsed.style = Style::new(family, opset.or(newest))?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_apart() {
        let id = Id::parse("onnx:/a/libonnxruntime.so").unwrap();
        assert_eq!(
            (id.library.to_str(), id.plugin, id.style),
            (Some("/a/libonnxruntime.so"), None, Style::runtime())
        );
        let id = Id::parse(
            "onnx:/a/l.so?ep=/b/p.so&ep.htp_arch=79&computes=f16&fallback=cpu&device=1&style=plain&threads=2&prepack=0",
        )
        .unwrap();
        assert_eq!(id.plugin, Some("/b/p.so".into()));
        assert_eq!(id.computes_in, DType::F16);
        assert_eq!(id.options, [("htp_arch".to_string(), "79".to_string())]);
        assert_eq!(
            (id.fallback, id.device, id.style.opset, id.threads, id.prepack),
            (true, 1, 17, Some(2), false)
        );
    }

    #[test]
    fn what_is_wrong_with_an_id_is_named() {
        for (id, parts) in [
            ("onnx", &["onnx:PATH", "libonnxruntime"][..]),
            ("onnx:/a?colour=red", &["unknown option 'colour'", "ep", "fallback", "style", "threads"]),
            ("onnx:/a?threads=none", &["threads", "none"]),
            ("onnx:/a?threads=0", &["threads", "'0'"]),
            ("onnx:/a?ep=", &["'ep'", "plug-in"]),
            ("onnx:/a?ep=/b&fallback=gpu", &["fallback", "gpu", "cpu"]),
            ("onnx:/a?fallback=cpu", &["fallback", "ep=PATH"]),
            ("onnx:/a?computes=f16", &["computes", "ep=PATH"]),
            ("onnx:/a?ep=/b&computes=f8", &["computes", "f8", "bf16"]),
            ("onnx:/a?ep.x=1", &["ep.x", "ep=PATH"]),
            ("onnx:/a?style=baroque", &["baroque", "plain"]),
            ("onnx:/a?style=fused&opset=17", &["fused", "23", "17"]),
        ] {
            let e = Id::parse(id).unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{id}: {e}");
        }
    }
}
