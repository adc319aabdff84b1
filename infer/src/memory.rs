//! The peak memory of a run.

use percept_hal::Device;

/// The most bytes that were held at once: of the process, when the device computes in its memory and the system keeps
/// count (Linux), else what the device holds now.
pub fn peak_memory(device: &dyn Device) -> u64 {
    let held = device.memory();
    let resident = if device.info().software { peak_resident() } else { None };
    resident.unwrap_or(held.buffers + held.scratch)
}

fn peak_resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
