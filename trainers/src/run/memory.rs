//! How much memory is free, so that a run that cannot fit is told so before it starts.
use crate::error::{Error, Result};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of memory that can be had without swapping; None where the system does not say (elsewhere than Linux).
pub fn available_bytes() -> Option<u64> {
    let free = from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    // A container may be allowed less than the machine has.
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let allowed = from_cgroup(read("memory.max"), read("memory.current"));
    let limit = fs::read_to_string("/proc/self/limits").ok();
    let left = from_limits(limit, fs::read_to_string("/proc/self/status").ok());
    Some([allowed, left].into_iter().flatten().fold(free, u64::min))
}

/// The most memory that this process has held so far, in bytes; None where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of memory that this process holds now, without what it has freed; None where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator gives memory back that is free; nothing else can tell.
    unsafe {
        libc::malloc_trim(0);
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A purpose and its bytes.
pub type MemoryPart = (&'static str, u64);

/// The highest peak that was predicted, in bytes; 0 where none was. For [`said`].
static PREDICTED: AtomicU64 = AtomicU64::new(0);
/// What makes every command say its peak and the prediction at its end.
const VARIABLE: &str = "LAPIDARY_MEMORY";
/// Bytes of the program's code, and of threads' scratch, that a command has not touched yet when its peak is predicted.
/// Measured: commands on a model of 0.2 MB end that much above what they held before.
const UNTOUCHED: u64 = 4_000_000;
/// What the program holds where the system does not say: its code and a small tokenizer.
const PROGRAM: u64 = 20_000_000;

/// A peak that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Vec<MemoryPart>);

impl Expected {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|part| part.1).sum()
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, bytes)| format!("{name} {}", show_bytes(*bytes))).collect();
        write!(f, "{} ({})", show_bytes(self.bytes()), parts.join(", "))
    }
}

/// The peak of a command that adds `parts` to what the process holds now.
pub fn expect(parts: &[MemoryPart]) -> Expected {
    let program = resident_bytes().unwrap_or(PROGRAM) + UNTOUCHED;
    let expected = Expected(std::iter::once(("program and data", program)).chain(parts.iter().copied()).collect());
    PREDICTED.fetch_max(expected.bytes(), Ordering::Relaxed);
    expected
}

/// The peak so far and the predicted one, to the byte, where LAPIDARY_MEMORY=say asks for it.
pub fn said() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|value| value == "say")?;
    let predicted = PREDICTED.load(Ordering::Relaxed);
    Some(format!("peak of memory: {} bytes, {predicted} predicted", peak_bytes()?))
}

/// What `ulimit -v` leaves this process: the limit on its address space less what it has.
fn from_limits(limits: Option<String>, status: Option<String>) -> Option<u64> {
    let limits = limits?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let status = status?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = used.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(kib.saturating_mul(1024)))
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn from_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn from_cgroup(max: Option<String>, current: Option<String>) -> Option<u64> {
    let max: u64 = max?.trim().parse().ok()?;
    let current: u64 = current?.trim().parse().ok()?;
    Some(max.saturating_sub(current))
}

/// An error if `needed` bytes are more than what is available. `advice`: what would fit.
pub fn check(needed: u64, available: Option<u64>, advice: &str) -> Result<()> {
    match available {
        Some(available) if needed > available => Err(Error::Input(format!(
            "this run needs about {} of memory and {} are free: {advice}",
            show_bytes(needed),
            show_bytes(available)
        ))),
        _ => Ok(()),
    }
}

/// "3.4 GB"
pub fn show_bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_limits() {
        let status = || Some("VmPeak:\t  300 kB\nVmSize:\t     200 kB\n".to_string());
        let limits = |soft: &str| {
            Some(format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax address space         {soft}    unlimited   bytes\n"
            ))
        };
        assert_eq!(from_limits(limits("1000000"), status()), Some(1_000_000 - 200 * 1024));
        assert_eq!(from_limits(limits("unlimited"), status()), None);
    }

    #[test]
    fn reads_meminfo() {
        let text = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n";
        assert_eq!(from_meminfo(text), Some(8_192_000_000));
        for wrong in ["", "MemAvailable: many", "MemFree: 1 kB\n"] {
            assert_eq!(from_meminfo(wrong), None);
        }
        assert_eq!(from_cgroup(Some("max\n".into()), Some("5\n".into())), None);
        assert_eq!(from_cgroup(Some("9\n".into()), Some("5\n".into())), Some(4));
    }

    #[test]
    fn tells_what_would_fit() {
        assert!(check(10, Some(10), "").is_ok());
        assert!(check(10, None, "").is_ok());
        let told = check(3_400_000_000, Some(999_999_999), "use --use_peft").expect_err("too much").to_string();
        assert_eq!(told, "this run needs about 3.4 GB of memory and 1.0 GB are free: use --use_peft");
        assert_eq!(
            (show_bytes(0), show_bytes(999), show_bytes(123_456)),
            ("0 B".into(), "999 B".into(), "123 kB".into())
        );
    }
}
