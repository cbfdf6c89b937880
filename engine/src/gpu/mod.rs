//! The GPU backend: WGSL kernels on Vulkan, Metal or DX12 through wgpu.
//!
//! `adapter` chooses a device, `memory` holds tensors, `recorder` records and submits work, `windows` cuts tensors that
//! are larger than a kernel may see at once; the other files each call the kernels of a group. Results on one device and driver repeat bit for bit:
//! every output element is owned by one thread, sums run in a fixed order, there are no atomics.
mod adamw;
mod adapter;
mod attention;
pub mod cache;
mod cast;
mod counting;
mod elementwise;
mod log_probs;
mod matmul;
mod memory;
mod norms;
mod pool;
mod recorder;
mod rope;
mod rounds;
mod rows;
mod rungs;
mod sample;
mod sums;
mod variants;
mod windows;

#[cfg(test)]
mod tests;

use crate::backend::{AttentionRung, Backend};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};
pub use adapter::{AdapterDescription, AdapterKind, AdapterSelect};
pub use counting::{Counts, Work};
pub use memory::GpuBuffer;
pub use pool::MemoryUse;
pub use rungs::{Rung, SAME_ORDER};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub use variants::{Needs, Variant, variants};

/// How a device is opened; the default is right outside tests.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Compile every kernel with bounds checks. Without, kernels whose indices follow from shapes alone go unchecked.
    pub checked: bool,
    /// A smaller limit than the device's on the bytes that a kernel sees of one tensor, to test that larger ones are cut.
    pub max_binding_bytes: Option<u64>,
    /// A smaller limit than the device's on the bytes of one buffer.
    pub max_buffer_bytes: Option<u64>,
    /// A smaller limit than the device's on the buffers that a kernel sees.
    pub max_bindings: Option<usize>,
    /// A smaller limit than the device's on the bytes that the threads of a workgroup share.
    pub max_workgroup_bytes: Option<u32>,
    /// Pass scalars in uniform buffers even where immediates (push constants) exist.
    pub no_immediates: bool,
    /// Always use this matrix product kernel.
    pub rung: Option<Rung>,
    /// Use this kernel of attention.
    pub attention: AttentionRung,
    /// Take kernels on a software adapter as on a real GPU.
    pub hardware_rungs: bool,
    /// Cut the depth of every product that can be cut into this many slices.
    pub slices: Option<usize>,
    /// Time the product kernels on each class of shapes and take the fastest; they differ in no bit.
    pub tune: bool,
    /// Where compiled pipelines and times are kept between runs.
    pub cache: Option<PathBuf>,
    /// Round activations and the gradients to them to f16 where they meet frozen f16 weights, if the device multiplies such
    /// matrices faster (cooperative matrices). Each row is scaled by a power of two first; sums and results are f32.
    pub f16_operands: bool,
    /// Compute nothing and take no memory: work is counted as on a real GPU with large bindings, values read back are 0.
    pub count_only: bool,
    /// Faults in kernels, to test that the tests see them. Kernels are then checked for bounds, and nothing is kept.
    pub planted: Vec<Plant>,
}

/// A fault: in the source of one shader a text, wherever it stands, becomes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plant {
    /// The shader's name, that is its file in shaders/.
    pub kernel: &'static str,
    /// The text that is replaced; it must stand in the shader.
    pub from: &'static str,
    /// What is put in its place.
    pub to: &'static str,
}

impl GpuOptions {
    /// What the program uses: the fastest kernels, remembered from run to run. `LAPIDARY_CACHE` names another directory (`off`:
    /// none), `LAPIDARY_TUNE=off` takes kernels by shape alone.
    pub fn for_use() -> Self {
        let says = |name: &str, word: &str| std::env::var(name).is_ok_and(|v| v == word);
        GpuOptions { tune: !says("LAPIDARY_TUNE", "off"), cache: cache::default_directory(), ..GpuOptions::default() }
    }
}

/// A graphics device that runs kernels.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// "gpu: llvmpipe (LLVM 15.0.6, 256 bits) (Vulkan)"
    label: String,
    is_software: bool,
    shares_host_memory: bool,
    memory_bytes: Option<u64>,
    options: GpuOptions,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
    /// Buffers that a kernel may see.
    max_bindings: usize,
    max_groups: u32,
    max_workgroup_bytes: u32,
    /// Threads of a workgroup.
    max_threads: u32,
    /// Bindings start at multiples of this many bytes.
    alignment: u64,
    has_immediates: bool,
    /// Matrix units, where they may be used.
    cooperative: Option<adapter::Cooperative>,
    cache: Option<cache::Cache>,
    choices: Mutex<rungs::Choices>,
    pool: Arc<pool::Pool>,
    recorder: Mutex<recorder::Recorder>,
    pipelines: Mutex<recorder::Pipelines>,
    faults: Arc<recorder::Faults>,
    counts: Mutex<Counts>,
}

impl Backend for Gpu {
    fn name(&self) -> String {
        self.label.clone()
    }
    fn is_host(&self) -> bool {
        false
    }
    fn shares_host_memory(&self) -> bool {
        self.shares_host_memory
    }
    fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("label", &self.label).finish_non_exhaustive()
    }
}

/// The value behind a lock; a thread that panicked while it held the lock changes nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens an adapter. Errors say what was found and what to do.
    pub fn open(select: AdapterSelect) -> Result<Arc<Gpu>> {
        Gpu::open_with(select, GpuOptions::default())
    }

    /// All adapters there are: real GPUs first, in the order that `AdapterSelect::Index` counts, then software.
    pub fn list() -> Vec<AdapterDescription> {
        adapter::adapters().into_iter().map(|(_, description)| description).collect()
    }

    /// Opens an adapter with options of one's own. Matrix units that give wrong values are not used. Errors as [`Gpu::open`].
    pub fn open_with(select: AdapterSelect, options: GpuOptions) -> Result<Arc<Gpu>> {
        let (mut gpu, units) = Gpu::open_unchecked(select, options)?;
        // A driver whose matrix units are wrong, or do not take the kernel, is used without them.
        if !units.is_empty() && gpu.options.planted.is_empty() && !gpu.options.count_only {
            gpu.cooperative = gpu.first_right(&units)?;
            gpu.reset_counts();
        }
        if gpu.cooperative.is_some() {
            gpu.label += ", f16 operands";
        }
        Ok(Arc::new(gpu))
    }

    /// The device, and how its matrix units may have to be used, of which it takes the first.
    fn open_unchecked(select: AdapterSelect, mut options: GpuOptions) -> Result<(Gpu, Vec<adapter::Cooperative>)> {
        if !options.planted.is_empty() {
            (options.checked, options.cache) = (true, None);
        }
        let (adapter, description) = adapter::choose(select)?;
        let wanted = wgpu::Features::IMMEDIATES
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let units = if options.f16_operands { adapter::cooperative(&adapter) } else { Vec::new() };
        let mut features = adapter.features() & wanted;
        if !units.is_empty() {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let limits = adapter.limits();
        let label = format!("gpu: {} ({})", description.name, description.api);
        let request = wgpu::DeviceDescriptor {
            label: Some("lapidary"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            experimental_features: match units.is_empty() {
                // SAFETY: the one experimental feature asked for is cooperative matrices, for one kernel of this project's own.
                false => unsafe { wgpu::ExperimentalFeatures::enabled() },
                true => wgpu::ExperimentalFeatures::disabled(),
            },
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&request))
            .map_err(|e| Error::Device { device: label.clone(), detail: format!("cannot be opened: {e}") })?;
        let faults = Arc::new(recorder::Faults::default());
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| sink.report(error.to_string())));
        let sink = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                sink.report(format!("the device was lost: {message}"));
            }
        });
        // Offsets in a window are 32-bit numbers of elements, with room to spare.
        let most = (1 << 31) - 256;
        let device_binding = if options.count_only { most } else { limits.max_storage_buffer_binding_size.min(most) };
        let max_binding_bytes = options.max_binding_bytes.map_or(device_binding, |b| b.min(device_binding)) / 256 * 256;
        let cache =
            options.cache.as_deref().map(|root| cache::Cache::at(root, &format!("{label} {}", description.driver)));
        let device_bindings =
            if options.count_only { usize::MAX } else { limits.max_storage_buffers_per_shader_stage as usize };
        let device_buffer = if options.count_only { u64::MAX >> 8 } else { limits.max_buffer_size };
        let workgroup_bytes = limits.max_compute_workgroup_storage_size;
        let gpu = Gpu {
            shares_host_memory: matches!(description.kind, AdapterKind::Software | AdapterKind::Integrated),
            memory_bytes: description.memory_bytes,
            is_software: description.kind == AdapterKind::Software && !options.count_only && !options.hardware_rungs,
            max_binding_bytes,
            max_buffer_bytes: options.max_buffer_bytes.map_or(device_buffer, |b| b.min(device_buffer)),
            max_bindings: options.max_bindings.map_or(device_bindings, |n| n.min(device_bindings)),
            max_workgroup_bytes: options.max_workgroup_bytes.map_or(workgroup_bytes, |b| b.min(workgroup_bytes)),
            max_threads: limits.max_compute_invocations_per_workgroup,
            max_groups: limits.max_compute_workgroups_per_dimension,
            alignment: u64::from(limits.min_storage_buffer_offset_alignment.max(4)),
            has_immediates: features.contains(wgpu::Features::IMMEDIATES)
                && limits.max_immediate_size >= 128
                && !options.no_immediates,
            cooperative: units.first().copied(),
            choices: Mutex::new(rungs::Choices::load(cache.as_ref())),
            pipelines: Mutex::new(recorder::Pipelines::open(&device, features, cache.as_ref())),
            cache,
            options,
            device,
            queue,
            label,
            pool: Arc::default(),
            recorder: Mutex::default(),
            faults,
            counts: Mutex::default(),
        };
        Ok((gpu, units))
    }

    /// The GPU memory of `x`; an error if it is elsewhere.
    fn gpu_buffer<'a>(&self, op: &'static str, x: &'a Buffer) -> Result<&'a GpuBuffer> {
        match x.device::<GpuBuffer>() {
            Some(b) if b.belongs_to(&self.pool) => Ok(b),
            Some(_) => Err(Error::shape(op, format!("a buffer of another GPU; this one is {}", self.label))),
            None => Err(Error::shape(op, format!("a buffer in host memory; upload it to {} first", self.label))),
        }
    }

    /// The GPU memory of `n` or more elements of `dtype`.
    fn typed<'a>(&self, op: &'static str, x: &'a Buffer, dtype: DType, n: usize) -> Result<&'a GpuBuffer> {
        let b = self.gpu_buffer(op, x)?;
        if b.dtype() != dtype {
            return Err(Error::shape(op, format!("{} needed, {} found", dtype.name(), b.dtype().name())));
        }
        if b.len() < n {
            return Err(Error::shape(op, format!("{n} elements needed, {} found", b.len())));
        }
        Ok(b)
    }

    fn f32<'a>(&self, op: &'static str, x: &'a Buffer, n: usize) -> Result<&'a GpuBuffer> {
        self.typed(op, x, DType::F32, n)
    }

    fn u32<'a>(&self, op: &'static str, x: &'a Buffer, n: usize) -> Result<&'a GpuBuffer> {
        self.typed(op, x, DType::U32, n)
    }
}

/// A new tensor as the trait hands it out.
fn shared(x: GpuBuffer) -> Buffer {
    Buffer::Device(Arc::new(x))
}

/// A size as the 32 bits that kernels count in.
fn word(op: &'static str, n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::Unsupported(format!("{op}: {n} is more than a GPU kernel can count (2³² − 1)")))
}
