//! Which devices there are, opened; and for what is missing, how to get it.
use super::table::Table;
use crate::device::DeviceChoice;
use crate::error::Result;
use engine::backend::Device;
use engine::cpu::Cpu;
use engine::verify::Tolerance;

/// A device that works.
pub struct Found {
    /// What `--device` calls it.
    pub flag: String,
    pub device: Device,
    /// Runs on the CPU's cores, though its interface is a GPU's.
    pub is_software: bool,
    /// How far its kernels may be from the reference.
    pub tolerance: Tolerance,
    /// Limits and features, a line each.
    pub notes: Vec<String>,
    /// Bytes of memory that are free (of a GPU: that it has), where it says so.
    pub free_bytes: Option<u64>,
}

/// Devices, and a line for each that is missing.
pub struct Search {
    pub found: Vec<Found>,
    pub missing: Vec<String>,
}

/// The devices that `choice` names; all for auto.
pub fn find(choice: DeviceChoice, threads: Option<usize>) -> Result<Search> {
    let mut search = Search { found: Vec::new(), missing: Vec::new() };
    if matches!(choice, DeviceChoice::Auto | DeviceChoice::Cpu) {
        search.found.push(Found {
            flag: "cpu".into(),
            device: Cpu::new(threads)?,
            is_software: false,
            tolerance: Tolerance::FLOAT32,
            notes: Vec::new(),
            free_bytes: crate::run::memory::available_bytes(),
        });
    }
    if choice != DeviceChoice::Cpu {
        find_gpus(choice, &mut search)?;
    }
    Ok(search)
}

#[cfg(not(feature = "gpu"))]
fn find_gpus(choice: DeviceChoice, search: &mut Search) -> Result<()> {
    let line = "no GPU can be used: this program was built without the feature gpu (leave out --no-default-features)";
    if choice != DeviceChoice::Auto {
        return Err(crate::error::Error::input(line));
    }
    search.missing.push(line.into());
    Ok(())
}

#[cfg(feature = "gpu")]
fn find_gpus(choice: DeviceChoice, search: &mut Search) -> Result<()> {
    use engine::gpu::{AdapterKind, AdapterSelect, Gpu};
    let all = Gpu::list();
    let n_real = all.iter().filter(|d| d.kind != AdapterKind::Software).count();
    let mut wanted = match choice {
        DeviceChoice::Gpu(index) => vec![AdapterSelect::Index(index.unwrap_or(0))],
        DeviceChoice::Software => vec![AdapterSelect::Software],
        _ => (0..n_real).map(AdapterSelect::Index).collect(),
    };
    if choice == DeviceChoice::Auto && all.len() > n_real {
        wanted.push(AdapterSelect::Software);
    }
    for select in wanted {
        let (flag, description) = match select {
            AdapterSelect::Index(i) => (format!("gpu:{i}"), all.get(i).filter(|_| i < n_real)),
            _ => ("gpu:software".to_string(), all.get(n_real)),
        };
        let device = match Gpu::open(select) {
            Ok(device) => device,
            // An adapter that was asked for by name must open; of all that there are, each may fail.
            Err(error) if choice == DeviceChoice::Auto => {
                search.missing.push(format!("{flag}: {error}"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        search.found.push(Found {
            flag,
            free_bytes: memory(&*device),
            device,
            is_software: select == AdapterSelect::Software,
            tolerance: Tolerance { absolute: 1e-5, relative: 1e-4 },
            notes: description.map(notes).unwrap_or_default(),
        });
    }
    if n_real == 0 && choice == DeviceChoice::Auto {
        search.missing.push(
            "no real GPU was found. On Linux install the vendor's Vulkan driver: mesa-vulkan-drivers for AMD and Intel; for NVIDIA \
             its own driver and libvulkan1. On macOS and Windows the system has one."
                .into(),
        );
    }
    if all.len() == n_real && choice == DeviceChoice::Auto {
        search.missing.push(
            "no software adapter (the GPU's tests can run on one): on Debian apt-get install mesa-vulkan-drivers libvulkan1".into(),
        );
    }
    Ok(())
}

/// What a run may take.
#[cfg(feature = "gpu")]
fn memory(device: &dyn engine::backend::Backend) -> Option<u64> {
    if device.shares_host_memory() { crate::run::memory::available_bytes() } else { device.memory_bytes() }
}

#[cfg(feature = "gpu")]
fn notes(adapter: &engine::gpu::AdapterDescription) -> Vec<String> {
    use crate::run::memory::show_bytes;
    let lacks: Vec<&str> =
        engine::gpu::AdapterDescription::WANTED.into_iter().filter(|f| !adapter.features.contains(f)).collect();
    let list = |features: &[&str]| if features.is_empty() { "nothing".to_string() } else { features.join(", ") };
    vec![
        format!("{adapter}"),
        format!(
            "one tensor up to {}, of which a kernel sees {} at once; {} of workgroup memory",
            show_bytes(adapter.max_buffer_bytes),
            show_bytes(adapter.max_binding_bytes),
            show_bytes(adapter.max_workgroup_bytes)
        ),
        format!("has {}; lacks {}", list(&adapter.features), list(&lacks)),
    ]
}

/// The table of devices with what is to be said about each.
pub fn describe(found: &[Found]) -> String {
    let mut table = Table::new("devices", &["--device", "what it is"]);
    for device in found {
        table.row(&[&device.flag, &device.device.name()]);
        for note in &device.notes {
            table.row(&["", note]);
        }
    }
    table.to_string()
}
