//! What this machine is: cores, memory, and how much of it we used. Read from the system's own text files where there
//! are any; every answer may be unknown.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

/// Threads to compute with when nobody says: one per fast physical core we may run on. Two hardware threads of one core
/// share the units that multiply, so the second one adds contention, not speed; and where every product ends with all
/// threads waiting for the last, a slow core holds the fast ones up.
pub fn default_threads() -> NonZeroUsize {
    let logical = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = field(&status, "Cpus_allowed_list:")
        .map(parse_cpu_list)
        .unwrap_or_default();
    // A quota of a container lowers `available_parallelism` without taking any core away, hence the minimum.
    let devices = Path::new("/sys/devices");
    physical_cores(&devices.join("system/cpu"), &fast_cpus(devices, &allowed))
        .map_or(logical, |physical| physical.min(logical))
}

/// Those of the allowed processors that are no efficiency cores: not in the system's own list of them (Intel), and at least
/// half as fast as the fastest by the system's estimate of capacity (ARM) or else by highest frequency. Processors of one kind
/// differ by a tenth in frequency, the small cores of phones reach a third of the capacity of the large ones.
fn fast_cpus(devices: &Path, allowed: &[usize]) -> Vec<usize> {
    let small = fs::read_to_string(devices.join("cpu_atom/cpus")).unwrap_or_default();
    let small: BTreeSet<usize> = parse_cpu_list(&small).into_iter().collect();
    let number = |cpu: usize, name: &str| -> Option<u64> {
        let path = devices.join(format!("system/cpu/cpu{cpu}/{name}"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let speed = |cpu: usize| {
        number(cpu, "cpu_capacity").or_else(|| number(cpu, "cpufreq/cpuinfo_max_freq"))
    };
    let large = allowed.iter().copied().filter(|cpu| !small.contains(cpu));
    let speeds: Option<Vec<(usize, u64)>> =
        large.clone().map(|cpu| Some((cpu, speed(cpu)?))).collect();
    let fast: Vec<usize> = match speeds {
        Some(speeds) => {
            let fastest = speeds.iter().map(|(_, speed)| *speed).max().unwrap_or(0);
            let is_fast = |(_, speed): &(usize, u64)| *speed >= fastest.div_ceil(2);
            speeds
                .into_iter()
                .filter(is_fast)
                .map(|(cpu, _)| cpu)
                .collect()
        }
        None => large.collect(),
    };
    // We may be confined to small cores.
    if fast.is_empty() {
        allowed.to_vec()
    } else {
        fast
    }
}

/// Cores among the given processors; hardware threads of one core list the same siblings.
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
    let container = container_memory(Path::new("/sys/fs/cgroup"));
    system.into_iter().chain(container).min()
}

/// What a container may still take of its limit. What it holds of files can be dropped, so that counts as free too.
fn container_memory(cgroup: &Path) -> Option<u64> {
    let number = |name: &str| {
        fs::read_to_string(cgroup.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limit: u64 = number("memory.max")?;
    let current: u64 = number("memory.current").unwrap_or(0);
    let statistics = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    let inactive: u64 = field(&statistics, "inactive_file ")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(current.saturating_sub(inactive)))
}

/// Makes a folder that only its owner can look into, with all above it; one that is there is left as it is.
#[cfg(unix)]
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Makes a folder with all above it; here the user's own folders are closed to others anyway.
#[cfg(not(unix))]
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)
}

/// How somebody asked the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// The system, or a manager of services.
    Terminate,
}

/// Waits until somebody asks the program to end.
#[cfg(unix)]
pub async fn stop_signal() -> std::io::Result<Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map(|()| Stop::Interrupt),
        _ = terminate.recv() => Ok(Stop::Terminate),
    }
}

/// Waits until somebody asks the program to end.
#[cfg(not(unix))]
pub async fn stop_signal() -> std::io::Result<Stop> {
    tokio::signal::ctrl_c().await.map(|()| Stop::Interrupt)
}

/// Whether the processor lacks fused multiply-add, on which every exact result rests: it is then computed in software.
#[cfg(target_arch = "x86_64")]
pub fn lacks_fused_multiply_add() -> bool {
    !std::arch::is_x86_feature_detected!("fma")
}

/// Whether the processor lacks fused multiply-add: those of this kind all have it.
#[cfg(not(target_arch = "x86_64"))]
pub fn lacks_fused_multiply_add() -> bool {
    false
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
    fn small_cores_are_left_out() {
        let root = std::env::temp_dir().join(format!("hearth-small-{}", std::process::id()));
        let write = |path: String, text: String| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let all = [0, 1, 2, 3];
        assert_eq!(fast_cpus(&root, &all), all, "nothing is known");
        for (cpu, khz) in [
            (0, 5_200_000),
            (1, 4_900_000),
            (2, 3_900_000),
            (3, 2_000_000),
        ] {
            let name = format!("system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq");
            write(name, format!("{khz}\n"));
        }
        assert_eq!(fast_cpus(&root, &all), [0, 1, 2]);
        assert_eq!(fast_cpus(&root, &[3]), [3]);
        write("cpu_atom/cpus".into(), "2-3\n".into());
        assert_eq!(fast_cpus(&root, &all), [0, 1]);
        assert_eq!(fast_cpus(&root, &[2, 3]), [2, 3], "nothing else is allowed");
        fs::remove_dir_all(root.join("cpu_atom")).unwrap();
        for (cpu, capacity) in [(0, 1024), (1, 870), (2, 300), (3, 300)] {
            write(
                format!("system/cpu/cpu{cpu}/cpu_capacity"),
                format!("{capacity}\n"),
            );
        }
        assert_eq!(fast_cpus(&root, &all), [0, 1]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_container_has_its_limit_less_what_it_holds() {
        let root = std::env::temp_dir().join(format!("hearth-cgroup-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        assert_eq!(container_memory(&root), None);
        write("memory.max", "1000\n");
        assert_eq!(container_memory(&root), Some(1000));
        write("memory.current", "700\n");
        assert_eq!(container_memory(&root), Some(300));
        write(
            "memory.stat",
            "anon 400\ninactive_file 250\nactive_file 50\n",
        );
        assert_eq!(container_memory(&root), Some(550));
        write("memory.current", "2000\n");
        assert_eq!(container_memory(&root), Some(0));
        write("memory.max", "max\n");
        assert_eq!(container_memory(&root), None);
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
