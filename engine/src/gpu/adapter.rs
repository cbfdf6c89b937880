//! Which graphics device: what there is, and how one is chosen.
use crate::error::{Error, Result};

/// Which adapter to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterSelect {
    /// A real GPU: a discrete one before an integrated one. Never a software adapter.
    #[default]
    Auto,
    /// The real GPU of this index in [`Gpu::list`](super::Gpu::list), software adapters not counted.
    Index(usize),
    /// A software adapter (Mesa's llvmpipe): slow, for tests.
    Software,
}

/// An adapter, for people.
#[derive(Clone, Debug)]
pub struct AdapterDescription {
    /// The adapter's name, as the driver states it.
    pub name: String,
    /// "Vulkan", "Metal", "Dx12" …
    pub api: String,
    /// Driver's name and version, as it states them.
    pub driver: String,
    /// A real GPU, of which sort, or software.
    pub kind: AdapterKind,
    /// Bytes of one buffer, at most.
    pub max_buffer_bytes: u64,
    /// Bytes of a buffer that one kernel sees at once, at most.
    pub max_binding_bytes: u64,
    /// Bytes that the threads of a workgroup share, at most.
    pub max_workgroup_bytes: u64,
    /// Bytes of its own memory, where the interface says so (Vulkan).
    pub memory_bytes: Option<u64>,
    /// Features of use to the engine that the adapter has, of [`AdapterDescription::WANTED`].
    pub features: Vec<&'static str>,
}

/// Matrix units: products of SIZE × SIZE matrices of f16, added in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cooperative {
    pub size: u32,
    /// Threads of a subgroup.
    pub subgroup: u32,
}

/// The adapter's matrix units, where they take f16 and add in f32: all ways in which they may have to be used, of which values
/// decide. A driver of a device with several subgroup sizes does not say which of them it takes for a kernel.
pub(super) fn cooperative(adapter: &wgpu::Adapter) -> Vec<Cooperative> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    let info = adapter.get_info();
    if !adapter.features().contains(needed) {
        return Vec::new();
    }
    let kinds = adapter.cooperative_matrix_properties();
    let square = |size: u32| {
        kinds.iter().any(|k| {
            [k.m_size, k.n_size, k.k_size] == [size; 3]
                && k.ab_type == wgpu::CooperativeScalarType::F16
                && k.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    let sizes: Vec<u32> = [16, 8].into_iter().filter(|&size| square(size)).collect();
    ways(
        &sizes,
        [info.subgroup_min_size, info.subgroup_max_size],
        adapter.limits().max_compute_invocations_per_workgroup,
    )
}

/// The largest matrices first, with each the smallest subgroup first: where a subgroup is in truth larger, matrices of several
/// would be one's, and the values are wrong; where it is smaller, several do the same work, and the values are right.
fn ways(sizes: &[u32], [least, most]: [u32; 2], max_threads: u32) -> Vec<Cooperative> {
    let subgroups = || (0..8).map(|bit| 1 << bit).filter(|s| (least.max(1)..=most).contains(s) && 4 * s <= max_threads);
    sizes.iter().flat_map(|&size| subgroups().map(move |subgroup| Cooperative { size, subgroup })).collect()
}

impl AdapterDescription {
    /// Features that the engine uses where they exist.
    pub const WANTED: [&'static str; 6] =
        ["immediates", "f16", "subgroups", "timestamps", "pipeline cache", "cooperative matrices"];
}

/// What sort of device an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor, whose memory it shares.
    Integrated,
    /// A GPU in a virtual machine, or one that does not say what it is.
    Other,
    /// A program that runs on the processor (Mesa's llvmpipe).
    Software,
}

impl std::fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Other => "GPU",
            AdapterKind::Software => "software",
        };
        write!(f, "{} ({kind}, {}, {})", self.name, self.api, self.driver)
    }
}

/// All adapters: real GPUs first (discrete, integrated, other), then software. One entry a device and API; a device that
/// several APIs reach is listed by its first.
pub(super) fn adapters() -> Vec<(wgpu::Adapter, AdapterDescription)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut adapters: Vec<_> = found
        .into_iter()
        .filter(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .map(|a| {
            let description = describe(&a);
            (a, description)
        })
        .collect();
    adapters.sort_by_key(|(_, d)| match d.kind {
        AdapterKind::Discrete => 0,
        AdapterKind::Integrated => 1,
        AdapterKind::Other => 2,
        AdapterKind::Software => 3,
    });
    let mut seen = Vec::new();
    adapters.retain(|(a, d)| {
        let info = a.get_info();
        let bus = info.device_pci_bus_id;
        if bus.is_empty() || d.kind == AdapterKind::Software {
            return true;
        }
        let is_new = !seen.contains(&bus);
        seen.push(bus);
        is_new
    });
    adapters
}

/// The largest heap that is the device's own.
#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handles are read while the adapter that owns them is borrowed, and nothing is destroyed through them.
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}

fn describe(adapter: &wgpu::Adapter) -> AdapterDescription {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let has = adapter.features();
    let wanted = [
        wgpu::Features::IMMEDIATES,
        wgpu::Features::SHADER_F16,
        wgpu::Features::SUBGROUP,
        wgpu::Features::TIMESTAMP_QUERY,
        wgpu::Features::PIPELINE_CACHE,
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
    ];
    let named = wanted.into_iter().zip(AdapterDescription::WANTED);
    AdapterDescription {
        name: info.name,
        api: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => AdapterKind::Other,
        },
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_workgroup_bytes: u64::from(limits.max_compute_workgroup_storage_size),
        memory_bytes: memory_bytes(adapter),
        features: named.filter(|(f, _)| has.contains(*f)).map(|(_, name)| name).collect(),
    }
}

/// The adapter that `select` asks for, or what was found instead and what to do.
pub(super) fn choose(select: AdapterSelect) -> Result<(wgpu::Adapter, AdapterDescription)> {
    let all = adapters();
    let found: Vec<String> = all.iter().map(|(_, d)| d.to_string()).collect();
    let found = if found.is_empty() { "nothing".to_string() } else { found.join("; ") };
    let is_software = |d: &AdapterDescription| d.kind == AdapterKind::Software;
    let n_real = all.iter().filter(|(_, d)| !is_software(d)).count();
    let mut fitting = all.into_iter().filter(|(_, d)| is_software(d) == (select == AdapterSelect::Software));
    let index = if let AdapterSelect::Index(i) = select { i } else { 0 };
    fitting.nth(index).ok_or_else(|| {
        Error::Input(match select {
            AdapterSelect::Software => format!(
                "no software graphics adapter (found: {found}); on Debian: apt-get install mesa-vulkan-drivers libvulkan1"
            ),
            AdapterSelect::Index(i) if n_real > 0 => {
                format!("no GPU with index {i}: there are {n_real}, counted from 0 (found: {found})")
            }
            _ => format!(
                "no GPU (found: {found}); use --device cpu, install a Vulkan driver for the GPU, or, for tests, use --device gpu:software"
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subgroups_are_tried_from_the_smallest() {
        let pairs = |ways: Vec<Cooperative>| ways.iter().map(|w| (w.size, w.subgroup)).collect::<Vec<_>>();
        // NVIDIA, AMD, Intel, Adreno; Apple's simdgroups have 32 threads, whatever Metal's bounds.
        assert_eq!(pairs(ways(&[16], [32, 32], 1024)), [(16, 32)]);
        assert_eq!(pairs(ways(&[16], [32, 64], 1024)), [(16, 32), (16, 64)]);
        assert_eq!(pairs(ways(&[16, 8], [8, 32], 1024)), [(16, 8), (16, 16), (16, 32), (8, 8), (8, 16), (8, 32)]);
        assert_eq!(pairs(ways(&[16], [64, 128], 256)), [(16, 64)]);
        assert_eq!(pairs(ways(&[8], [4, 64], 1024)), [(8, 4), (8, 8), (8, 16), (8, 32), (8, 64)]);
        assert!(ways(&[], [32, 32], 1024).is_empty() && ways(&[16], [0, 0], 1024).is_empty());
    }
}
