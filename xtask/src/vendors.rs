//! `cargo xtask vendors`: packages of chip vendors, fetched for tests alone, and what is run with each. They are never part
//! of the repository, and their licences are their own.

use std::path::{Path, PathBuf};

use crate::assets::{self, Work, unpack_wheel_for};
use crate::command::{Error, Line};
use crate::vendor_tools::TOOLS;

/// A package on PyPI, and what is run with it.
struct Vendor {
    package: &'static str,
    version: &'static str,
    /// SHA-256 of its wheel, and the version of Python that the wheel is for; nothing here is run by it.
    sha256: &'static str,
    python: Option<&'static str>,
    megabytes: u32,
    licence: &'static str,
    /// What it stands in for.
    what: &'static str,
    /// Command lines; `{}` is the folder of the unpacked wheel, `{assets}` that of `cargo xtask assets`.
    runs: &'static [&'static str],
}

const VENDORS: &[Vendor] = &[
    Vendor {
        package: "xla-cpu-pjrt",
        version: "0.0.1",
        sha256: "55837b6b7b47daa717f2d9a5a03563ea0ceaa338d06a81a1e2d3f060d960decc",
        python: None,
        megabytes: 63,
        licence: "none stated",
        what: "a PJRT plug-in of C API 0.81",
        runs: &[
            "cargo run --release --locked -- device test pjrt:{}/xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so --level 2",
        ],
    },
    Vendor {
        package: "fastatomstruct-xla-cpu",
        version: "2026.6.23",
        sha256: "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
        python: None,
        megabytes: 63,
        licence: "Apache-2.0",
        what: "a PJRT plug-in of C API 0.106",
        runs: &[
            "cargo run --release --locked -- device test pjrt:{}/fastatomstruct_xla_cpu/libpjrt_cpu.so --level 2",
        ],
    },
    Vendor {
        package: "libtpu",
        version: "0.0.52",
        sha256: "f5e2e596eaea9357fbb5a6755a7a9007c6ab75bfde4a55191b03eff402971140",
        python: Some("3.11"),
        megabytes: 137,
        licence: "Google Cloud Platform Terms of Service",
        what: "the compiler of Google's TPUs, which needs no TPU",
        runs: &[
            "cargo run --release --locked -- device test pjrt:{}/libtpu/libtpu.so --topology v4:2x2x1",
            "cargo run --release --locked -- device test pjrt:{}/libtpu/libtpu.so --topology v5e:2x2",
            "cargo run --release --locked -- device test pjrt:{}/libtpu/libtpu.so --topology v6e:2x2",
        ],
    },
    Vendor {
        package: "onnxruntime-ep-webgpu",
        version: "0.4.0",
        sha256: "5d8c961eda91a88961cad1fb7621f389f006b18497d6ea9ecf96f729f066cbfb",
        python: None,
        megabytes: 7,
        licence: "MIT",
        what: "an execution provider over WebGPU; it wants a Vulkan adapter",
        runs: &["env ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 cargo run --release --locked -- device test \
             onnx:{assets}/onnxruntime/libonnxruntime.so.1.32.0?ep={}/onnxruntime_ep_webgpu/libonnxruntime_providers_webgpu.so \
             --level 1"],
    },
    Vendor {
        package: "onnxruntime-qnn",
        version: "2.7.0",
        sha256: "c56c01562b8534fe8980cfea4601408d950c065f8251fb862ce82101c52c9849",
        python: Some("3.11"),
        megabytes: 99,
        licence: "MIT, and Qualcomm's own terms for the QNN libraries",
        what: "Qualcomm's compiler for Hexagon HTP with its emulator, of v79",
        runs: &["cargo run --release --locked -- device test \
             onnx:{assets}/onnxruntime/libonnxruntime.so.1.32.0?ep={}/onnxruntime_qnn/libonnxruntime_providers_qnn.so&\
             ep.backend_path={}/onnxruntime_qnn/libQnnHtp.so&ep.htp_arch=79&ep.soc_model=69&computes=f16 --level 1"],
    },
    Vendor {
        package: "torch-npu",
        version: "2.14.0",
        sha256: "7736f7d82cf9f16c7dfc4537f7e7c638153da760273a193455e70857f912189e",
        python: Some("3.11"),
        megabytes: 44,
        licence: "BSD-3-Clause; the headers of AscendCL have CANN's open licences",
        what: "the headers of AscendCL, to which the sample's own declarations are held",
        runs: &["examples/vendor-ascend/build.sh {}/out headers {}/torch_npu/include/third_party/acl/inc"],
    },
];

/// What is run with the libraries that `cargo xtask assets` fetched: what takes too long for `cargo xtask test`.
const ASSETS: &[&str] = &[
    "cargo run --release --locked -- device test pjrt:{assets}/pjrt-cpu/pjrt_c_api_cpu_plugin.so --level 3",
    "cargo run --release --locked -- device test onnx:{assets}/onnxruntime/libonnxruntime.so.1.32.0 --level 2",
    "cargo test --locked --package percept --test it graph_compilers -- --include-ignored --nocapture",
];

/// Fetches the named packages, or all of them, and runs what is run with each.
pub fn run(root: &Path, names: &[String]) -> Result<(), Error> {
    let known: Vec<&str> = std::iter::once("assets")
        .chain(VENDORS.iter().map(|v| v.package))
        .chain(TOOLS.iter().map(|tool| tool.name))
        .collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Error::Missing(format!(
            "there is no vendor package '{name}' here; known: {}",
            known.join(", ")
        )));
    }
    let is_chosen = |one: &str| names.is_empty() || names.iter().any(|name| name == one);
    let mut failed = Vec::new();
    let mut run = |name: &'static str, what: String, checked: &dyn Fn() -> Result<(), Error>| {
        if is_chosen(name) {
            println!("\n== {what}");
            if let Err(error) = checked() {
                println!("{error}");
                failed.push(name);
            }
        }
    };
    run("assets", "assets: the libraries of `cargo xtask assets`".into(), &|| {
        all(ASSETS, root, Path::new(""))
    });
    for v in VENDORS {
        let (package, version, what) = (v.package, v.version, v.what);
        let about = format!("{package} {version}: {what}\n{} MB, licence: {}", v.megabytes, v.licence);
        run(package, about, &|| all(v.runs, root, &v.fetched()?));
    }
    for tool in TOOLS {
        run(tool.name, tool.to_string(), &|| all(tool.runs, root, &tool.installed()?));
    }
    if failed.is_empty() {
        return Ok(());
    }
    println!("\nfailed: {}", failed.join(", "));
    Err(Error::Reported)
}

/// Runs lines in which `{}` is a folder, and `{assets}` that of the assets.
fn all(lines: &[&str], root: &Path, folder: &Path) -> Result<(), Error> {
    let [folder, assets] = [folder.to_path_buf(), assets::folder()?].map(|path| path.display().to_string());
    let filled = |word: &str| word.replace("{}", &folder).replace("{assets}", &assets);
    lines.iter().try_for_each(|line| {
        Line(line.split_whitespace().map(filled).collect()).run(root, |command| {
            command.env("PERCEPT_ASSETS", &assets);
        })
    })
}

impl Vendor {
    /// The folder of the unpacked wheel, fetched when it is not there.
    fn fetched(&self) -> Result<PathBuf, Error> {
        let vendors = assets::folder()?.join("vendors");
        let place = vendors.join(format!("{}-{}", self.package, self.version));
        if place.is_dir() {
            println!("{} is there", place.display());
            return Ok(place);
        }
        std::fs::create_dir_all(&vendors).map_err(|source| Error::file(&vendors, source))?;
        let work = Work::new(vendors.join(format!(".{}.{}.tmp", self.package, std::process::id())))?;
        let wheel = unpack_wheel_for(self.python, self.package, self.version, self.sha256, &work.0)?;
        std::fs::rename(&wheel, &place).map_err(|source| Error::file(&place, source))?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_hash_and_something_to_run() {
        for vendor in VENDORS {
            assert!(vendor.sha256.len() == 64 && !vendor.runs.is_empty(), "{}", vendor.package);
            assert!(vendor.runs.iter().all(|run| run.contains("{}/")), "{}", vendor.package);
        }
        for tool in TOOLS {
            assert!(tool.sha256.len() == 64 && tool.runs.len() > 1, "{}", tool.name);
            assert!(tool.runs.iter().all(|run| run.contains("{}/bin/python")), "{}", tool.name);
        }
    }

    #[test]
    fn an_unknown_package_is_refused_with_those_that_are_known() {
        let error = run(Path::new("."), &["cnnl".into()]).unwrap_err().to_string();
        assert!(error.contains("'cnnl'") && error.contains("libtpu"), "{error}");
    }
}
