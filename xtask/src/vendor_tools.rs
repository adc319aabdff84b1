//! Vendors' compilers in Python: each in an environment of its own, with which `percept export` is run.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::assets::{self, Work, wheel};
use crate::command::{Error, Line};

/// A compiler, and what is run with it.
pub struct Tool {
    /// The format that it writes.
    pub name: &'static str,
    package: &'static str,
    version: &'static str,
    /// SHA-256 of its wheel.
    pub sha256: &'static str,
    /// The version of Python that it is for.
    python: &'static str,
    /// What it imports, as pip takes it. Its own list has more, or is looser than what works.
    requirements: &'static [&'static str],
    /// The package is installed without what its own list has.
    alone: bool,
    /// Files that it brings and that keep it from starting, within the folder of packages.
    removed: &'static [&'static str],
    /// All of it.
    gigabytes: u32,
    licence: &'static str,
    /// Command lines; `{}` is the folder of the environment.
    pub runs: &'static [&'static str],
}

/// The compilers. A tower of CLIP and a decoder, tiny both, are compiled for two chips each; `percept export` compares
/// what the simulator gives.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "rknn",
        package: "rknn-toolkit2",
        version: "2.5.0",
        sha256: "21922dd3037503a2934fea24cbbf6eccda586158178636ae28a2ac658e710055",
        python: "3.11",
        requirements: &[],
        alone: false,
        removed: &[],
        gigabytes: 6,
        licence: "Rockchip's own",
        runs: &[
            "cargo run --release --locked -- export tests/parity/clip/model --to rknn --target RK3588 --python {}/bin/python --out {}/clip.3588.rknn",
            "cargo run --release --locked -- export tests/parity/clip/model --to rknn --target RK3566 --python {}/bin/python --out {}/clip.3566.rknn",
            "cargo run --release --locked -- export tests/parity/llama/model --to rknn --target RK3588 --python {}/bin/python --capacity 64 --out {}/step.3588.rknn",
            "cargo run --release --locked -- export tests/parity/llama/model --to rknn --target RK3566 --python {}/bin/python --capacity 64 --out {}/step.3566.rknn",
        ],
    },
    Tool {
        name: "bmodel",
        package: "tpu_mlir",
        version: "1.30.2",
        sha256: "542807361c9eeb0777a7bd35e501d8c71cce767e4bce021a3cb3a7c25c35f909",
        python: "3.10",
        requirements: &[
            "numpy==1.24.3",
            "scipy==1.11.1",
            "tqdm",
            "Pillow==10.0.0",
            "plotly==5.15.0",
            "opencv-python-headless==4.8.0.74",
            "protobuf==3.20.3",
            "graphviz==0.20.1",
            "pycocotools==2.0.6",
            "scikit-image==0.21.0",
            "scikit-learn==1.6.1",
            "onnxruntime_extensions==0.14.0",
            "pandas==2.0.3",
            "onnx==1.14.1",
            "onnxruntime==1.16.3",
            "onnxsim==0.4.17",
            "transformers==5.6.2",
            "torch==2.4.0",
            "psutil",
            "setuptools<70",
        ],
        alone: true,
        // Parts of the C library of the system that it was built on; that of this system is another.
        removed: &[
            "tpu_mlir/lib/third_party/libc.so.6",
            "tpu_mlir/lib/third_party/libm.so.6",
            "tpu_mlir/lib/third_party/libpthread.so.0",
        ],
        gigabytes: 8,
        licence: "BSD-2-Clause",
        runs: &[
            "cargo run --release --locked -- export tests/parity/clip/model --to bmodel --target BM1684X --python {}/bin/python --out {}/clip.1684x.bmodel",
            "cargo run --release --locked -- export tests/parity/clip/model --to bmodel --target BM1688 --python {}/bin/python --out {}/clip.1688.bmodel",
            "cargo run --release --locked -- export tests/parity/llama/model --to bmodel --target BM1684X --python {}/bin/python --capacity 64 --out {}/step.1684x.bmodel",
            "cargo run --release --locked -- export tests/parity/llama/model --to bmodel --target BM1688 --python {}/bin/python --capacity 64 --out {}/step.1688.bmodel",
        ],
    },
    Tool {
        name: "qnn",
        package: "onnxruntime-qnn",
        version: "2.7.0",
        sha256: "c56c01562b8534fe8980cfea4601408d950c065f8251fb862ce82101c52c9849",
        python: "3.11",
        requirements: &["onnxruntime==1.32.0", "numpy"],
        alone: false,
        removed: &[],
        gigabytes: 1,
        licence: "MIT, and Qualcomm's own terms for the QNN libraries",
        runs: &[
            "cargo run --release --locked -- export tests/parity/clip/model --to qnn --target SM8750 --python {}/bin/python --out {}/clip.8750.onnx",
            "cargo run --release --locked -- export tests/parity/clip/model --to qnn --target SM8650 --python {}/bin/python --out {}/clip.8650.onnx",
        ],
    },
];

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, package, version, gigabytes, licence, python, .. } = self;
        write!(
            f,
            "{name}: {package} {version} with Python {python}\n{gigabytes} GB with all that it imports, licence: {licence}"
        )
    }
}

impl Tool {
    /// The environment that it is in, made when it is not there.
    pub fn installed(&self) -> Result<PathBuf, Error> {
        let vendors = assets::folder()?.join("vendors");
        let place = vendors.join(format!("{}-{}-{}", self.name, self.package, self.version));
        // Written last, so that an environment that was left half made is made again.
        let whole = place.join("installed");
        if whole.is_file() {
            println!("{} is there", place.display());
            return Ok(place);
        }
        if place.exists() {
            fs::remove_dir_all(&place).map_err(|source| Error::file(&place, source))?;
        }
        let work = Work::new(vendors.join(format!(".{}.{}.tmp", self.package, std::process::id())))?;
        let wheel = wheel(Some(self.python), self.package, self.version, self.sha256, &work.0)?;
        let python = format!("python{}", self.python);
        let name = place.display().to_string();
        Line([&python, "-m", "venv", &name].map(str::to_owned).into()).run(&work.0, |_| {})?;
        let pip = |options: &[&str]| {
            let program = place.join("bin/python").display().to_string();
            let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            let line = std::iter::once(program.as_str()).chain(words).chain(options.iter().copied());
            Line(line.map(str::to_owned).collect()).run(&work.0, |_| {})
        };
        let wheel = wheel.display().to_string();
        if self.alone {
            pip(self.requirements)?;
            pip(&["--no-deps", &wheel])?;
        } else {
            pip(&[&[wheel.as_str()], self.requirements].concat())?;
        }
        let packages = place.join(format!("lib/{python}/site-packages"));
        for file in self.removed.iter().map(|file| packages.join(file)) {
            fs::remove_file(&file).map_err(|source| Error::file(&file, source))?;
        }
        fs::write(&whole, "").map_err(|source| Error::file(&whole, source))?;
        Ok(place)
    }
}
