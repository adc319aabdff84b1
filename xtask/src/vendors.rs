//! `cargo xtask vendors`: packages of chip vendors, fetched for tests alone, and what is run with each. They are never part
//! of the repository, and their licences are their own.

use std::path::{Path, PathBuf};

use crate::assets::{self, Work, unpack_wheel_for};
use crate::command::{Error, Line};

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
             ep.backend_path={}/onnxruntime_qnn/libQnnHtp.so&ep.htp_arch=79&ep.soc_model=69 --level 1"],
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

/// Fetches the named packages, or all of them, and runs what is run with each.
pub fn run(root: &Path, names: &[String]) -> Result<(), Error> {
    let known = || VENDORS.iter().map(|v| v.package).collect::<Vec<_>>().join(", ");
    if let Some(name) = names.iter().find(|name| VENDORS.iter().all(|v| v.package != **name)) {
        return Err(Error::Missing(format!("there is no vendor package '{name}' here; known: {}", known())));
    }
    let chosen = |v: &&Vendor| names.is_empty() || names.iter().any(|name| name == v.package);
    let mut failed = Vec::new();
    for vendor in VENDORS.iter().filter(chosen) {
        println!("\n== {} {}: {}", vendor.package, vendor.version, vendor.what);
        println!("{} MB, licence: {}", vendor.megabytes, vendor.licence);
        if let Err(error) = vendor.check(root) {
            println!("{error}");
            failed.push(vendor.package);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    println!("\nfailed: {}", failed.join(", "));
    Err(Error::Reported)
}

impl Vendor {
    fn check(&self, root: &Path) -> Result<(), Error> {
        let [folder, assets] = [self.fetched()?, assets::folder()?].map(|path| path.display().to_string());
        let filled = |word: &str| word.replace("{}", &folder).replace("{assets}", &assets);
        self.runs
            .iter()
            .try_for_each(|run| Line(run.split_whitespace().map(filled).collect()).run(root, |_| {}))
    }

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
    }

    #[test]
    fn an_unknown_package_is_refused_with_those_that_are_known() {
        let error = run(Path::new("."), &["cnnl".into()]).unwrap_err().to_string();
        assert!(error.contains("'cnnl'") && error.contains("libtpu"), "{error}");
    }
}
