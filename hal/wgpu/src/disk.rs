//! Files in the user's cache folder: whole or absent, and ignored when damaged.

use std::fs;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"percept1";

/// The folder for one adapter with one driver: a driver update starts a fresh one. Its name ends in a hash of
/// all that tells adapters apart, since two of one name may be different chips.
///
/// `PERCEPT_CACHE_DIR` replaces the user's cache folder; `None` when the user has none.
pub(crate) fn folder(adapter: &wgpu::AdapterInfo) -> Option<PathBuf> {
    let base = match std::env::var_os("PERCEPT_CACHE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => directories::ProjectDirs::from("", "", "percept")?.cache_dir().to_path_buf(),
    };
    Some(base.join("wgpu").join(folder_name(adapter)))
}

fn folder_name(adapter: &wgpu::AdapterInfo) -> String {
    let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = adapter;
    let readable = format!("{name} {driver} {driver_info}");
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let readable: String = readable.chars().map(plain).take(100).collect();
    let all = format!("{name}\0{vendor}\0{device}\0{driver}\0{driver_info}\0{backend:?}");
    format!("{readable}-{:016x}", checksum(all.as_bytes()))
}

/// The contents of a file written by [`store`]; `None` when it is missing, cut short or altered.
pub(crate) fn load(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (head, body) = bytes.split_at_checked(16)?;
    let sum = u64::from_le_bytes(head[8..].try_into().ok()?);
    (head.starts_with(MAGIC) && sum == checksum(body)).then(|| body.to_vec())
}

/// Write a file so that readers see the old contents or the new ones.
pub(crate) fn store(path: &Path, body: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    percept_files::write_shared(path, &[MAGIC, &checksum(body).to_le_bytes()[..], body].concat())
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_ignored() {
        let dir = std::env::temp_dir().join(format!("percept-disk-{}", std::process::id()));
        let path = dir.join("a").join("tuning.json");
        assert_eq!(load(&path), None);
        store(&path, b"one").unwrap();
        store(&path, b"another").unwrap();
        assert_eq!(load(&path).as_deref(), Some(&b"another"[..]));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");

        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(load(&path), None, "altered");
        fs::write(&path, &bytes[..10]).unwrap();
        assert_eq!(load(&path), None, "cut short");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn chips_of_one_name_have_folders_of_their_own() {
        let one = wgpu::AdapterInfo {
            name: "A name that is long ".repeat(8),
            driver: "driver".into(),
            ..wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan)
        };
        let differ = |change: fn(&mut wgpu::AdapterInfo)| {
            let mut other = one.clone();
            change(&mut other);
            folder_name(&other) != folder_name(&one)
        };
        assert_eq!(folder_name(&one), folder_name(&one.clone()));
        assert!(
            differ(|i| i.device = 7) && differ(|i| i.vendor = 7) && differ(|i| i.driver_info = "2".into())
        );
        assert!(differ(|i| i.backend = wgpu::Backend::Gl));
    }
}
