//! Kernels in the other shading languages, through naga's back ends.

use std::str::FromStr;

use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::{AddressSpace, ShaderStage};
use thiserror::Error;

use crate::program::Module;
use crate::validate::{WgslError, validated};

/// A shading language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// SPIR-V 1.3, as little-endian words.
    Spirv,
    /// Metal Shading Language 2.4: storage buffer i of group 0 is `[[buffer(i)]]`. The parameters come after them,
    /// and after these a buffer with the bytes of each storage buffer, a `uint` each.
    Msl,
    /// HLSL, shader model 6.0.
    Hlsl,
    /// GLSL 4.50, for OpenGL and for glslang.
    Glsl,
}

impl Target {
    /// All targets.
    pub const ALL: [Target; 4] = [Target::Spirv, Target::Msl, Target::Hlsl, Target::Glsl];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Spirv => "spirv",
            Target::Msl => "msl",
            Target::Hlsl => "hlsl",
            Target::Glsl => "glsl",
        }
    }
}

impl FromStr for Target {
    type Err = ExportError;

    fn from_str(s: &str) -> Result<Self, ExportError> {
        Target::ALL.into_iter().find(|t| t.name() == s).ok_or_else(|| ExportError::UnknownTarget(s.into()))
    }
}

/// Why a module could not be exported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExportError {
    /// Not one of [`Target::ALL`].
    #[error("unknown target '{0}'; known: spirv msl hlsl glsl")]
    UnknownTarget(String),
    /// The WGSL itself is not valid.
    #[error("{key} is not valid WGSL: {source}")]
    Wgsl {
        /// The key of the module.
        key: String,
        /// What naga reported.
        source: WgslError,
    },
    /// The target language cannot say what the module says.
    #[error("{key} cannot be written as {target}: {message}")]
    Target {
        /// The key of the module.
        key: String,
        /// The language's name.
        target: &'static str,
        /// What naga reported.
        message: String,
    },
}

/// The module in another shading language: UTF-8 text, or for SPIR-V its words in little-endian bytes.
///
/// # Errors
/// When the WGSL is not valid, or the language lacks a feature that the module uses.
pub fn export(module: &Module, target: Target) -> Result<Vec<u8>, ExportError> {
    let key = &module.key;
    let (parsed, info) =
        validated(&module.source).map_err(|source| ExportError::Wgsl { key: key.clone(), source })?;
    let fail = |message: String| ExportError::Target { key: key.clone(), target: target.name(), message };
    match target {
        Target::Spirv => {
            let options = spv::Options { lang_version: (1, 3), ..Default::default() };
            let words = spv::write_vec(&parsed, &info, &options, None).map_err(|e| fail(e.to_string()))?;
            Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
        }
        Target::Msl => {
            let options = msl::Options {
                lang_version: (2, 4),
                per_entry_point_map: [("main".to_string(), msl_resources(&parsed))].into(),
                fake_missing_bindings: false,
                ..Default::default()
            };
            let (text, _) = msl::write_string(&parsed, &info, &options, &msl::PipelineOptions::default())
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
        Target::Hlsl => {
            let options = hlsl::Options {
                shader_model: hlsl::ShaderModel::V6_0,
                fake_missing_bindings: true,
                ..Default::default()
            };
            let mut text = String::new();
            let pipeline = hlsl::PipelineOptions::default();
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&parsed, &info, None)
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
        Target::Glsl => {
            let mut options = glsl::Options { version: glsl::Version::Desktop(450), ..Default::default() };
            for (_, global) in parsed.global_variables.iter() {
                if let (Some(at), AddressSpace::Storage { .. } | AddressSpace::Uniform) =
                    (global.binding, global.space)
                {
                    // Uniform and storage buffers have number spaces of their own in GLSL.
                    options.binding_map.insert(at, at.binding as u8);
                }
            }
            let pipeline = glsl::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: "main".into(),
                multiview: None,
            };
            let mut text = String::new();
            glsl::Writer::new(&mut text, &parsed, &info, &options, &pipeline, BoundsCheckPolicies::default())
                .and_then(|mut writer| writer.write())
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
    }
}

/// Where the buffers of a module are in MSL.
fn msl_resources(module: &naga::Module) -> msl::EntryPointResources {
    let is_storage = |v: &naga::GlobalVariable| matches!(v.space, AddressSpace::Storage { .. });
    let globals = || module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?, is_storage(v))));
    let after = globals().filter(|(_, storage)| *storage).count() as u8;
    let target = |(at, storage): (naga::ResourceBinding, bool)| {
        let slot = if storage { at.binding as u8 } else { after };
        (at, msl::BindTarget { buffer: Some(slot), mutable: storage, ..Default::default() })
    };
    msl::EntryPointResources {
        resources: globals().map(target).collect(),
        sizes_buffer: Some(after + 1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caps, catalog};

    #[test]
    fn a_module_of_every_kernel_is_written_in_every_language() {
        for entry in catalog() {
            let case = entry
                .cases
                .iter()
                .find_map(|c| c.lower(&Caps::default()).ok().filter(|p| !p.launches.is_empty()));
            for launch in case.unwrap_or_default().launches {
                for target in Target::ALL {
                    let bytes = export(&launch.module, target).unwrap_or_else(|e| panic!("{e}"));
                    let text = String::from_utf8_lossy(&bytes);
                    match target {
                        Target::Spirv => assert_eq!(bytes[..4], [0x03, 0x02, 0x23, 0x07]),
                        Target::Msl => {
                            assert!(text.contains("kernel void"), "{text}");
                            for slot in 0..launch.bindings.len() {
                                assert!(text.contains(&format!("[[buffer({slot})]]")), "{slot}: {text}");
                            }
                            assert!(!text.contains("[[user("), "{text}");
                        }
                        Target::Hlsl => assert!(text.contains("numthreads"), "{text}"),
                        Target::Glsl => assert!(text.contains("#version 450"), "{text}"),
                    }
                }
            }
        }
    }

    #[test]
    fn errors_name_the_module_and_the_target() {
        let broken = Module { key: "broken".into(), source: "fn main( {".into(), needs: Default::default() };
        let error = export(&broken, Target::Msl).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("line 1"), "{error}");
        assert!("metal".parse::<Target>().unwrap_err().to_string().contains("metal"));
        assert_eq!("glsl".parse::<Target>().unwrap(), Target::Glsl);
    }
}
