//! What this machine is: cores, memory, and how much of it we used. Read from the system's own text files where there
//! are any; every answer may be unknown.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

/// Threads to compute with when nobody says: one per physical core we may run on. Two hardware threads of one core
/// share the units that multiply, so the second one adds contention, not speed.
pub fn default_threads() -> NonZeroUsize {
    let logical = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = field(&status, "Cpus_allowed_list:")
        .map(parse_cpu_list)
        .unwrap_or_default();
    // A quota of a container lowers `available_parallelism` without taking any core away, hence the minimum.
    physical_cores(Path::new("/sys/devices/system/cpu"), &allowed)
        .map_or(logical, |physical| physical.min(logical))
}

/// Cores among the allowed processors; hardware threads of one core list the same siblings.
fn physical_cores(cpus: &Path, allowed: &[usize]) -> Option<NonZeroUsize> {
    let siblings = |cpu: &usize| {
        fs::read_to_string(cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")))
    };
    let cores: Result<BTreeSet<String>, _> = allowed.iter().map(siblings).collect();
    NonZeroUsize::new(cores.ok()?.len())
}

/// `0-2,5` as `[0, 1, 2, 5]`; what cannot be read is left out.
fn parse_cpu_list(text: &str) -> Vec<usize> {
    /// Linux itself stops at 8192 processors.
    const MAX_CPUS: usize = 8192;
    let bounds = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(MAX_CPUS))
    });
    bounds.flatten().collect()
}

/// Bytes that programs may still take without swapping, the page cache counted as free: the smaller of what the system
/// has and what our container allows.
pub fn available_memory() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| kilobytes(&text, "MemAvailable:"));
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    system.into_iter().chain(container).min()
}

/// The most memory this process ever had resident.
#[cfg(target_os = "linux")]
pub fn peak_resident_bytes() -> Option<u64> {
    // Not `getrusage`: its maximum survives `exec`, so it may be that of the shell that started us.
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| kilobytes(&text, "VmHWM:"))
}

/// The most memory this process ever had resident.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn peak_resident_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    // Apple counts bytes, the BSDs kilobytes.
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok()?.checked_mul(unit)
}

/// The most memory this process ever had resident: unknown here.
#[cfg(not(unix))]
pub fn peak_resident_bytes() -> Option<u64> {
    None
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_cpu_list("3"), [3]);
        assert!(parse_cpu_list("").is_empty() && parse_cpu_list("x-y").is_empty());
    }

    #[test]
    fn siblings_count_once() {
        let root = std::env::temp_dir().join(format!("hearth-cpus-{}", std::process::id()));
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let folder = root.join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        let cores = |allowed: &[usize]| physical_cores(&root, allowed).map(NonZeroUsize::get);
        assert_eq!(cores(&[0, 1, 2, 3]), Some(2));
        assert_eq!(
            cores(&[0, 2]),
            Some(1),
            "both allowed processors are one core"
        );
        assert_eq!(
            cores(&[0, 9]),
            None,
            "an unknown processor makes the answer unknown"
        );
        assert_eq!(cores(&[]), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn memory_fields() {
        let text = "MemTotal:  100 kB\nMemAvailable:     64 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(65_536));
        assert_eq!(kilobytes(text, "SwapFree:"), None);
        assert_eq!(kilobytes("X: 5 pages", "X:"), None);
    }

    #[test]
    fn there_is_at_least_one_thread_and_at_most_the_parallelism() {
        let logical = std::thread::available_parallelism().unwrap();
        assert!(default_threads() <= logical);
    }
}
