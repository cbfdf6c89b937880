//! `lapidary env`: what a bug report needs to say about program and machine, in one block.
//!
//! What a system does not tell is left out; nothing here opens a device, so that a driver that fails does not hide the rest.
use crate::error::{Error, Result};
use crate::options::EnvOptions;
use crate::plural::counted;
use crate::run::memory::{available_bytes, show_bytes};
use engine::backend::Backend;
use engine::cpu::Cpu;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;

/// Variables that change what the program, the GPU's loader or the terminal does.
const VARIABLES: [&str; 12] = [
    "LAPIDARY_CACHE",
    "LAPIDARY_TUNE",
    "RAYON_NUM_THREADS",
    "RUST_BACKTRACE",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "LD_LIBRARY_PATH",
    "XDG_CACHE_HOME",
    "NO_COLOR",
    "TERM",
];

/// Prints the block, or the same as JSON.
pub fn run(options: &EnvOptions) -> Result<()> {
    let found = environment();
    let text = match options.format.json {
        true => serde_json::to_string_pretty(&found).map_err(Error::internal)? + "\n",
        false => block(&found),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)
}

/// Everything by name: a text, a list of texts, or a mapping.
fn environment() -> Map<String, Value> {
    let mut found = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            found.insert(name.into(), value);
        }
    };
    add("lapidary", Some(json!(env!("CARGO_PKG_VERSION"))));
    // Whoever builds a release says it: LAPIDARY_COMMIT=$(git rev-parse HEAD) cargo build --release.
    add("commit", option_env!("LAPIDARY_COMMIT").map(|commit| json!(commit)));
    add("built", Some(json!(if cfg!(debug_assertions) { "without --release" } else { "with --release" })));
    add("features", Some(json!(if cfg!(feature = "gpu") { vec!["gpu"] } else { vec![] })));
    add("system", Some(json!(system())));
    add("processor", processor().map(|name| json!(name)));
    add("threads", std::thread::available_parallelism().ok().map(|n| json!(n.get())));
    add("computes on", Cpu::new(None).ok().map(|cpu| json!(cpu.name())));
    add("memory", memory().map(|text| json!(text)));
    add("GPUs", Some(json!(gpus())));
    let set = |name: &&str| Some((name.to_string(), json!(std::env::var_os(name)?.to_string_lossy())));
    add("variables", Some(Value::Object(VARIABLES.iter().filter_map(set).collect())));
    found
}

/// "Debian GNU/Linux 12 (bookworm), Linux 6.1.0, x86_64"
fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").ok();
    let pretty = release.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let parts = [
        pretty.map(|name| name.trim_matches('"').to_string()),
        Some(format!("{} {}", std::env::consts::OS, kernel.unwrap_or_default().trim()).trim().to_string()),
        Some(std::env::consts::ARCH.to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The processor's own name; None where the system does not tell it in a file.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string())
}

/// "24.6 GB, 20.1 GB free"
fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let free = available_bytes().map_or(String::new(), |bytes| format!(", {} free", show_bytes(bytes)));
    Some(format!("{}{free}", show_bytes(kib.saturating_mul(1024))))
}

/// A line each: name, kind, interface, driver, memory. Empty without a driver.
#[cfg(feature = "gpu")]
fn gpus() -> Vec<String> {
    let line = |gpu: &engine::gpu::AdapterDescription| {
        let memory = gpu.memory_bytes.map_or(String::new(), |bytes| format!(", {}", show_bytes(bytes)));
        format!("{gpu}{memory}; has {}", gpu.features.join(", "))
    };
    engine::gpu::Gpu::list().iter().map(line).collect()
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> Vec<String> {
    Vec::new()
}

/// A line for each name; lists and mappings one entry a line below it.
fn block(found: &Map<String, Value>) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let mut text = String::new();
    for (name, value) in found {
        let entries: Vec<String> = match value {
            Value::Array(all) => all.iter().map(shown).collect(),
            Value::Object(all) => all.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect(),
            one => {
                text += &format!("- {name}: {}\n", shown(one));
                continue;
            }
        };
        match entries.as_slice() {
            [] => text += &format!("- {name}: none\n"),
            [one] => text += &format!("- {name}: {one}\n"),
            all => {
                text += &format!("- {name}: {}\n", counted(all.len(), "entry"));
                all.iter().for_each(|entry| text += &format!("  - {entry}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_thing() {
        let found = json!({"lapidary": "1", "GPUs": [], "features": ["gpu"], "variables": {"A": "x", "B": ""}});
        let text = block(found.as_object().unwrap());
        assert_eq!(text, "- lapidary: 1\n- GPUs: none\n- features: gpu\n- variables: 2 entries\n  - A=x\n  - B=\n");
        let found = environment();
        for name in ["lapidary", "features", "system", "computes on", "GPUs", "variables"] {
            assert!(found.contains_key(name), "{name}");
        }
    }
}
