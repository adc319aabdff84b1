//! What the build and the tests need from the system, and how each package manager installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Error, Line};

/// Something the build or the tests need that does not come with Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `cargo fmt`.
    Rustfmt,
    /// `cargo clippy`.
    Clippy,
    /// The Vulkan loader, `libvulkan.so.1`.
    VulkanLoader,
    /// Any Vulkan driver; Mesa's software driver, lavapipe, where there is none.
    VulkanDriver,
    /// `cmake`, which builds libjpeg-turbo.
    Cmake,
    /// `nasm`, without which libjpeg-turbo is slow on x86.
    Nasm,
    /// `pkg-config`, which finds FFmpeg.
    PkgConfig,
    /// FFmpeg's libraries with their headers.
    Ffmpeg,
    /// libclang with clang's own headers, which read FFmpeg's.
    Libclang,
    /// Python's package installer, which fetches the weights that tests use.
    Pip,
    /// Compilers of C and C++, and `make`, which build the plug-ins that tests load.
    Compilers,
    /// OpenCL with headers and a driver, on which a sample plug-in runs; PoCL where there is none.
    OpenCl,
}

impl Need {
    fn component(self) -> Option<&'static str> {
        match self {
            Need::Rustfmt => Some("rustfmt"),
            Need::Clippy => Some("clippy"),
            _ => None,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Need::Rustfmt => "rustfmt (a Rust component: `rustup component add rustfmt`)",
            Need::Clippy => "clippy (a Rust component: `rustup component add clippy`)",
            Need::VulkanLoader => "the Vulkan loader (libvulkan.so.1; Debian's package is libvulkan1)",
            Need::VulkanDriver => {
                "a Vulkan driver, such as Mesa's software driver lavapipe (lvp_icd.*.json; Debian's \
                 package is mesa-vulkan-drivers)"
            }
            Need::Cmake => "cmake",
            Need::Nasm => "nasm",
            Need::PkgConfig => "pkg-config",
            Need::Ffmpeg => {
                "FFmpeg 5.1 or newer with headers (libavcodec, libavformat, libavutil, libswscale, libswresample; \
                 Debian's packages end in -dev), or FFMPEG_DIR set to where it is installed"
            }
            Need::Libclang => {
                "libclang with headers (Debian's package is libclang-dev), or LIBCLANG_PATH set to its folder"
            }
            Need::Pip => {
                "Python 3 with pip (`python3 -m pip`; Debian's packages are python3 and python3-pip)"
            }
            Need::Compilers => "compilers of C and C++, and make (cc, c++, make)",
            Need::OpenCl => {
                "OpenCL: its headers, the loader libOpenCL, and a driver such as PoCL (Debian's packages are \
                 opencl-headers, ocl-icd-opencl-dev and pocl-opencl-icd)"
            }
        }
    }
}

/// A package manager that setup can drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora, RHEL.
    Dnf,
    /// Arch.
    Pacman,
    /// Homebrew.
    Brew,
}

impl Manager {
    const ALL: [(Manager, &str); 4] = [
        (Manager::Apt, "apt-get"),
        (Manager::Dnf, "dnf"),
        (Manager::Pacman, "pacman"),
        (Manager::Brew, "brew"),
    ];

    /// The packages of a need, separated by spaces.
    fn package(self, need: Need) -> Option<&'static str> {
        match (need, self) {
            (Need::VulkanLoader, Manager::Apt) => Some("libvulkan1"),
            (Need::VulkanLoader, Manager::Dnf | Manager::Brew) => Some("vulkan-loader"),
            (Need::VulkanLoader, Manager::Pacman) => Some("vulkan-icd-loader"),
            (Need::VulkanDriver, Manager::Apt | Manager::Dnf) => Some("mesa-vulkan-drivers"),
            (Need::VulkanDriver, Manager::Pacman) => Some("vulkan-swrast"),
            (Need::VulkanDriver, Manager::Brew) => Some("mesa"),
            (Need::Cmake, _) => Some("cmake"),
            (Need::Nasm, _) => Some("nasm"),
            (Need::PkgConfig, Manager::Apt) => Some("pkg-config"),
            (Need::PkgConfig, Manager::Dnf) => Some("pkgconf-pkg-config"),
            (Need::PkgConfig, Manager::Pacman | Manager::Brew) => Some("pkgconf"),
            (Need::Ffmpeg, Manager::Apt) => {
                Some("libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libswresample-dev")
            }
            (Need::Ffmpeg, Manager::Dnf) => Some("ffmpeg-free-devel"),
            (Need::Ffmpeg, Manager::Pacman | Manager::Brew) => Some("ffmpeg"),
            (Need::Libclang, Manager::Apt) => Some("libclang-dev"),
            (Need::Libclang, Manager::Dnf) => Some("clang-devel"),
            (Need::Libclang, Manager::Pacman) => Some("clang"),
            (Need::Libclang, Manager::Brew) => Some("llvm"),
            (Need::Pip, Manager::Apt | Manager::Dnf) => Some("python3 python3-pip"),
            (Need::Pip, Manager::Pacman) => Some("python python-pip"),
            (Need::Pip, Manager::Brew) => Some("python"),
            (Need::Compilers, Manager::Apt) => Some("gcc g++ make"),
            (Need::Compilers, Manager::Dnf) => Some("gcc gcc-c++ make"),
            (Need::Compilers, Manager::Pacman) => Some("gcc make"),
            (Need::Compilers, Manager::Brew) => Some("gcc make"),
            (Need::OpenCl, Manager::Apt) => Some("opencl-headers ocl-icd-opencl-dev pocl-opencl-icd"),
            (Need::OpenCl, Manager::Dnf) => Some("opencl-headers ocl-icd-devel pocl"),
            (Need::OpenCl, Manager::Pacman) => Some("opencl-headers ocl-icd pocl"),
            (Need::OpenCl, Manager::Brew) => Some("opencl-headers opencl-icd-loader pocl"),
            (Need::Rustfmt | Need::Clippy, _) => None,
        }
    }

    fn commands(self, packages: &[&str], is_root: bool) -> Vec<Line> {
        let list = packages.join(" ");
        let (lines, as_root) = match self {
            Manager::Apt => {
                let apt = "env DEBIAN_FRONTEND=noninteractive apt-get";
                let install = format!("{apt} install --yes --no-install-recommends {list}");
                (vec![format!("{apt} update"), install], true)
            }
            Manager::Dnf => (vec![format!("dnf install --assumeyes {list}")], true),
            Manager::Pacman => (vec![format!("pacman -Sy --needed --noconfirm {list}")], true),
            Manager::Brew => (vec![format!("brew install {list}")], false),
        };
        let sudo = if as_root && !is_root { "sudo " } else { "" };
        lines.iter().map(|line| Line::of(&format!("{sudo}{line}"))).collect()
    }
}

/// What was found on this system.
#[derive(Clone, Debug)]
pub struct System {
    missing: Vec<Need>,
    manager: Option<Manager>,
    is_root: bool,
    has_rustup: bool,
}

impl System {
    /// Looks at the running system.
    pub fn detect() -> System {
        let mut missing = Vec::new();
        for (need, program) in [(Need::Rustfmt, "fmt"), (Need::Clippy, "clippy")] {
            if !answers("cargo", &[program, "--version"]) {
                missing.push(need);
            }
        }
        // macOS and Windows bring their GPU API with them: Metal, and DX12 with WARP.
        if cfg!(target_os = "linux") {
            if !library_folders().iter().any(|folder| folder.join("libvulkan.so.1").exists()) {
                missing.push(Need::VulkanLoader);
            }
            if vulkan_drivers(&driver_folders()).is_empty() {
                missing.push(Need::VulkanDriver);
            }
            // Apple's command line tools, without which Rust links nothing there, bring libclang.
            if !is_set("LIBCLANG_PATH") && !has_libclang(&llvm_folders(&library_folders())) {
                missing.push(Need::Libclang);
            }
            if !has_opencl(&library_folders()) {
                missing.push(Need::OpenCl);
            }
        }
        if cfg!(unix) && !["cc", "c++", "make"].into_iter().all(on_path) {
            missing.push(Need::Compilers);
        }
        if !answers("python3", &["-m", "pip", "--version"]) {
            missing.push(Need::Pip);
        }
        if !on_path("cmake") {
            missing.push(Need::Cmake);
        }
        if cfg!(any(target_arch = "x86", target_arch = "x86_64")) && !on_path("nasm") {
            missing.push(Need::Nasm);
        }
        if !is_set("FFMPEG_DIR") && !is_set("VCPKG_ROOT") {
            if !answers("pkg-config", &["--version"]) {
                missing.push(Need::PkgConfig);
            }
            let libraries = ["libavcodec", "libavformat", "libavutil", "libswscale", "libswresample"];
            if !answers("pkg-config", &[&["--exists"][..], &libraries].concat()) {
                missing.push(Need::Ffmpeg);
            }
        }
        let manager =
            Manager::ALL.into_iter().find(|(_, program)| on_path(program)).map(|(manager, _)| manager);
        System { missing, manager, is_root: is_root(), has_rustup: on_path("rustup") }
    }

    /// The commands that install what is missing, or what to install by hand.
    fn plan(&self) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        let mut by_hand = Vec::new();
        let mut packages = Vec::new();
        for &need in &self.missing {
            let package = self.manager.and_then(|manager| manager.package(need));
            match (need.component(), package) {
                (Some(component), _) if self.has_rustup => {
                    lines.push(Line::of(&format!("rustup component add {component}")));
                }
                (None, Some(package)) => packages.push(package),
                _ => by_hand.push(need.describe()),
            }
        }
        if !by_hand.is_empty() {
            return Err(Error::Missing(format!(
                "nothing known here can install what is missing (looked for apt-get, dnf, pacman, brew \
                 and rustup). Install by hand, then run this again:\n  - {}",
                by_hand.join("\n  - ")
            )));
        }
        if let (Some(manager), false) = (self.manager, packages.is_empty()) {
            lines.extend(manager.commands(&packages, self.is_root));
        }
        Ok(lines)
    }
}

/// Installs what is missing; with `dry_run` only prints the commands.
pub fn run(dry_run: bool) -> Result<(), Error> {
    let lines = System::detect().plan()?;
    if lines.is_empty() {
        println!("setup: nothing is missing");
    }
    for line in lines {
        if dry_run {
            println!("$ {line}");
        } else {
            line.run(Path::new("."), |_| {})?;
        }
    }
    Ok(())
}

/// Pins Vulkan to lavapipe in a command's environment, where lavapipe is installed, so that tests and
/// peers run alike everywhere.
pub fn pin_lavapipe(command: &mut Command) {
    if let Some(driver) = lavapipe() {
        // The second name is the loader's newer one for the same thing.
        command.env("VK_ICD_FILENAMES", &driver).env("VK_DRIVER_FILES", &driver);
    }
}

/// Lavapipe's driver file, if it is installed.
fn lavapipe() -> Option<PathBuf> {
    vulkan_drivers(&driver_folders()).into_iter().find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("lvp_icd"))
    })
}

/// The driver files (`*.json`) in these folders, in order.
fn vulkan_drivers(folders: &[PathBuf]) -> Vec<PathBuf> {
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

/// Where the Vulkan loader looks for drivers on Linux, and Homebrew's folder.
fn driver_folders() -> Vec<PathBuf> {
    let mut bases: Vec<PathBuf> =
        ["/etc/xdg", "/usr/local/etc", "/etc", "/usr/local/share", "/usr/share"].map(PathBuf::from).into();
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        bases.extend([home.join(".config"), home.join(".local/share")]);
    }
    bases.extend(brew_prefix().map(|prefix| prefix.join("share")));
    bases.into_iter().map(|base| base.join("vulkan/icd.d")).collect()
}

/// Where shared libraries lie on the distributions that setup knows.
fn library_folders() -> Vec<PathBuf> {
    let bases = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"].map(PathBuf::from);
    let multiarch = bases.iter().filter_map(|base| std::fs::read_dir(base).ok()).flatten();
    let multiarch = multiarch
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().contains("-linux-gnu"));
    let mut folders: Vec<PathBuf> = multiarch.collect();
    folders.extend(brew_prefix().map(|prefix| prefix.join("lib")));
    folders.extend(bases);
    folders
}

/// Library folders, and those of the LLVM versions in them.
fn llvm_folders(libraries: &[PathBuf]) -> Vec<PathBuf> {
    let entries = libraries.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let versions = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"));
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("lib")).collect();
    folders.extend_from_slice(libraries);
    folders
}

/// Whether libclang is there for programs to be built with: the name without a version comes with the
/// headers.
fn has_libclang(folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| folder.join("libclang.so").exists())
}

/// Whether plug-ins that use OpenCL can be built, and find a driver.
fn has_opencl(libraries: &[PathBuf]) -> bool {
    let drivers = std::fs::read_dir("/etc/OpenCL/vendors").is_ok_and(|mut entries| entries.next().is_some());
    let header =
        ["/usr/include", "/usr/local/include"].iter().any(|base| Path::new(base).join("CL/cl.h").exists());
    drivers && header && libraries.iter().any(|folder| folder.join("libOpenCL.so").exists())
}

fn brew_prefix() -> Option<PathBuf> {
    std::env::var_os("HOMEBREW_PREFIX").map(PathBuf::from)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(missing: &[Need], manager: Option<Manager>, is_root: bool) -> Vec<String> {
        let system = System { missing: missing.to_vec(), manager, is_root, has_rustup: true };
        system.plan().unwrap().iter().map(Line::to_string).collect()
    }

    const VULKAN: [Need; 2] = [Need::VulkanLoader, Need::VulkanDriver];

    #[test]
    fn each_package_manager_has_its_commands() {
        assert_eq!(
            lines(&VULKAN, Some(Manager::Apt), true),
            [
                "env DEBIAN_FRONTEND=noninteractive apt-get update",
                "env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
                 libvulkan1 mesa-vulkan-drivers",
            ]
        );
        assert_eq!(
            lines(&VULKAN, Some(Manager::Dnf), false),
            ["sudo dnf install --assumeyes vulkan-loader mesa-vulkan-drivers"]
        );
        assert_eq!(
            lines(&VULKAN, Some(Manager::Pacman), false),
            ["sudo pacman -Sy --needed --noconfirm vulkan-icd-loader vulkan-swrast"]
        );
        assert_eq!(lines(&VULKAN, Some(Manager::Brew), false), ["brew install vulkan-loader mesa"]);
    }

    #[test]
    fn media_need_the_same_of_every_package_manager() {
        let media = [Need::Cmake, Need::Nasm, Need::PkgConfig, Need::Ffmpeg, Need::Libclang];
        let last = |manager| lines(&media, Some(manager), true).pop().unwrap();
        assert_eq!(
            last(Manager::Apt),
            "env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends cmake nasm pkg-config \
             libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libswresample-dev libclang-dev"
        );
        assert_eq!(
            last(Manager::Dnf),
            "dnf install --assumeyes cmake nasm pkgconf-pkg-config ffmpeg-free-devel clang-devel"
        );
        assert_eq!(last(Manager::Pacman), "pacman -Sy --needed --noconfirm cmake nasm pkgconf ffmpeg clang");
        assert_eq!(last(Manager::Brew), "brew install cmake nasm pkgconf ffmpeg llvm");
    }

    #[test]
    fn libclang_counts_only_with_what_builds_need() {
        let folder = tempfile::tempdir().unwrap();
        let libraries = [folder.path().to_path_buf()];
        let versioned = folder.path().join("llvm-14/lib");
        std::fs::create_dir_all(&versioned).unwrap();
        std::fs::write(versioned.join("libclang-14.so.1"), "").unwrap();
        assert!(!has_libclang(&llvm_folders(&libraries)));
        std::fs::write(versioned.join("libclang.so"), "").unwrap();
        assert!(has_libclang(&llvm_folders(&libraries)));
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(lines(&[], Some(Manager::Apt), true).is_empty());
        assert!(lines(&[], None, true).is_empty());
        assert_eq!(
            lines(&[Need::VulkanDriver], Some(Manager::Dnf), true),
            ["dnf install --assumeyes mesa-vulkan-drivers"]
        );
        assert_eq!(lines(&[Need::Rustfmt], None, true), ["rustup component add rustfmt"]);
    }

    #[test]
    fn without_a_package_manager_every_missing_thing_is_named() {
        let system = System {
            missing: vec![Need::Rustfmt, Need::VulkanLoader, Need::VulkanDriver],
            manager: None,
            is_root: false,
            has_rustup: false,
        };
        let message = system.plan().unwrap_err().to_string();
        for word in ["rustup component add rustfmt", "libvulkan.so.1", "lavapipe", "mesa-vulkan-drivers"] {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
    }

    #[test]
    fn driver_files_are_found_by_their_ending() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        assert!(vulkan_drivers(&[absent.clone(), folder.path().to_path_buf()]).is_empty());
        for name in ["lvp_icd.x86_64.json", "readme.txt"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        let found = vulkan_drivers(&[absent, folder.path().to_path_buf()]);
        assert_eq!(found, [folder.path().join("lvp_icd.x86_64.json")]);
    }
}
