//! Recording kernels into one encoder, compiling them once, and hearing of failures.
//!
//! Work is submitted at a read-back, every 48 dispatches, and before a submit would take a slow device so long that its system
//! takes it for hung. Pipelines are compiled at first use and kept; bind groups
//! are kept as long as the buffers they name are likely to come back from the pool.
use super::cache::Cache;
use super::counting::{Cost, Work};
use super::variants::Variant;
use super::{Gpu, GpuBuffer, Plant, lock};
use crate::error::{Error, Result};
use shaders::Shader;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const DISPATCHES_PER_SUBMIT: u32 = 48;
/// Half a second on a device of 200 GFLOP/s, and on one that moves 16 GB a second: systems end the work of a submit after 2 to
/// 10 seconds (Windows 2, the Linux drivers of AMD 2 or 10, of Intel 5).
const FLOPS_PER_SUBMIT: u64 = 100_000_000_000;
const BYTES_PER_SUBMIT: u64 = 8_000_000_000;
const UPLOADS_PER_SUBMIT: u32 = 64;
const BIND_GROUPS_KEPT: usize = 4096;

/// Named constants of a shader that get another value.
pub(super) type Constants = [(&'static str, u32)];

/// The first failure that the driver reported outside a call that returns errors.
#[derive(Debug, Default)]
pub(super) struct Faults {
    any: AtomicBool,
    first: Mutex<Option<String>>,
}

impl Faults {
    pub(super) fn report(&self, message: String) {
        lock(&self.first).get_or_insert(message);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn check(&self, label: &str) -> Result<()> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let detail = lock(&self.first).clone().unwrap_or_default();
        Err(Error::Device { device: label.to_string(), detail })
    }
}

/// A part of a tensor that a kernel sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bind<'a> {
    pub buffer: &'a GpuBuffer,
    pub first_byte: u64,
    pub bytes: u64,
}

impl GpuBuffer {
    /// All of the tensor.
    pub(super) fn whole(&self) -> Bind<'_> {
        Bind { buffer: self, first_byte: 0, bytes: self.bytes() as u64 }
    }
    /// A window of it; `first_byte` is a multiple of the device's alignment.
    pub(super) fn part(&self, first_byte: u64, bytes: u64) -> Bind<'_> {
        Bind { buffer: self, first_byte, bytes }
    }
}

/// One dispatch.
pub(super) struct Call<'a> {
    pub shader: Shader,
    pub constants: &'a Constants,
    /// The words of the shader's `Params`.
    pub params: &'a [u32],
    pub binds: &'a [Bind<'a>],
    pub groups: [u32; 3],
    pub cost: Cost,
}

#[derive(Clone, Debug)]
struct Pipeline {
    id: u64,
    pipeline: wgpu::ComputePipeline,
}

#[derive(Debug, Default)]
pub(super) struct Pipelines {
    compiled: HashMap<(&'static str, Vec<(&'static str, u32)>), Pipeline>,
    /// Those that the device does not take, and why.
    refused: HashMap<(&'static str, Vec<(&'static str, u32)>), String>,
    /// The driver's own cache, and where it is kept between runs.
    cache: Option<(wgpu::PipelineCache, Cache)>,
}

const PIPELINES_FILE: &str = "pipelines.bin";

impl Pipelines {
    /// With what an earlier run compiled, where the driver takes it and `cache` has it.
    pub(super) fn open(device: &wgpu::Device, features: wgpu::Features, cache: Option<&Cache>) -> Self {
        let cache = cache.filter(|_| features.contains(wgpu::Features::PIPELINE_CACHE)).map(|cache| {
            let data = cache.read(PIPELINES_FILE);
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
            // SAFETY: the bytes are those that get_data gave for this device and driver: the file's directory names both,
            // the file is written as a whole, and wgpu and the driver compare its head with the device again.
            (unsafe { device.create_pipeline_cache(&descriptor) }, cache.clone())
        });
        Pipelines { compiled: HashMap::new(), refused: HashMap::new(), cache }
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        if let Some((pipelines, cache)) = self.cache.as_ref().filter(|_| !self.compiled.is_empty())
            && let Some(data) = pipelines.get_data()
            && cache.read(PIPELINES_FILE).as_ref() != Some(&data)
        {
            cache.write(PIPELINES_FILE, &data);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    // Dropped in this order: a pass borrows its encoder.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    dispatches: u32,
    /// What they cost together.
    work: Work,
    uploads: u32,
    bind_groups: HashMap<Vec<u64>, wgpu::BindGroup>,
}

/// Shaders that read indices from data a caller made: always compiled with bounds checks.
pub(super) const CHECKED_ALWAYS: &[Shader] = &[
    shaders::GATHER_ROWS,
    shaders::SCATTER_ADD_ROWS,
    shaders::WRITE_ROWS,
    shaders::LOG_PROBS,
    shaders::PENALISE,
    shaders::ROPE,
];

impl Gpu {
    /// Records one dispatch. No workgroups, no work.
    pub(super) fn dispatch(&self, call: Call<'_>) -> Result<()> {
        if call.groups.contains(&0) {
            return Ok(());
        }
        if call.groups.iter().any(|&g| g > self.max_groups) {
            return Err(Error::Unsupported(format!(
                "{}: {:?} workgroups are more than this device's {} a dimension",
                call.shader.name, call.groups, self.max_groups
            )));
        }
        for bind in call.binds {
            if bind.bytes > self.max_binding_bytes {
                return Err(Error::Unsupported(format!(
                    "{}: a tensor of {} bytes is more than the {} that a kernel sees at once on {}; use shorter batches",
                    call.shader.name, bind.bytes, self.max_binding_bytes, self.label
                )));
            }
        }
        let work = self.count_dispatch(&call);
        #[cfg(test)]
        assert_listed(call.shader, call.constants);
        if self.options.count_only {
            return self.next_dispatch(&mut lock(&self.recorder), work);
        }
        let pipeline = self.pipeline(call.shader, call.constants)?;
        let mut recorder = lock(&self.recorder);
        if self.pool.evicted.swap(false, Ordering::AcqRel) || recorder.bind_groups.len() > BIND_GROUPS_KEPT {
            recorder.bind_groups.clear();
        }
        let mut key = Vec::with_capacity(1 + 3 * call.binds.len());
        key.push(pipeline.id);
        for bind in call.binds {
            let (_, id) = bind.buffer.raw()?;
            key.extend([id, bind.first_byte, bind.bytes]);
        }
        let bind_group = match recorder.bind_groups.get(&key) {
            Some(group) => group.clone(),
            None => {
                let group = self.bind_group(&pipeline, call.binds)?;
                recorder.bind_groups.insert(key, group.clone());
                group
            }
        };
        let uniform = if self.has_immediates { None } else { Some(self.uniform(&pipeline, call.params)?) };
        let pass = recorder.pass(&self.device);
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        match &uniform {
            Some(group) => pass.set_bind_group(1, group, &[]),
            None => pass.set_immediates(0, bytemuck::cast_slice(call.params)),
        }
        pass.dispatch_workgroups(call.groups[0], call.groups[1], call.groups[2]);
        self.next_dispatch(&mut recorder, work)
    }

    fn next_dispatch(&self, recorder: &mut Recorder, work: Work) -> Result<()> {
        recorder.work += work;
        recorder.dispatches += 1;
        let Work { read_bytes, written_bytes, flops, .. } = recorder.work;
        let is_much = flops >= FLOPS_PER_SUBMIT || read_bytes + written_bytes >= BYTES_PER_SUBMIT;
        if recorder.dispatches >= DISPATCHES_PER_SUBMIT || is_much {
            self.submit_locked(recorder)?;
        }
        Ok(())
    }

    fn bind_group(&self, pipeline: &Pipeline, binds: &[Bind<'_>]) -> Result<wgpu::BindGroup> {
        let mut entries = Vec::with_capacity(binds.len());
        for (binding, bind) in binds.iter().enumerate() {
            let (buffer, _) = bind.buffer.raw()?;
            // Memory comes in multiples of 256 bytes, so that a kernel may look at whole fours of words.
            let size = std::num::NonZeroU64::new(bind.bytes.next_multiple_of(16).max(16));
            entries.push(wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: bind.first_byte, size }),
            });
        }
        Ok(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.pipeline.get_bind_group_layout(0),
            entries: &entries,
        }))
    }

    /// The scalars of a call in a buffer of their own: fresh, because writes to a buffer run before recorded work.
    fn uniform(&self, pipeline: &Pipeline, params: &[u32]) -> Result<wgpu::BindGroup> {
        let mut words = params.to_vec();
        words.resize(params.len().next_multiple_of(4), 0);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: 4 * words.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        Ok(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.pipeline.get_bind_group_layout(1),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
        }))
    }

    fn pipeline(&self, shader: Shader, constants: &Constants) -> Result<Pipeline> {
        let mut pipelines = lock(&self.pipelines);
        let key = (shader.name, constants.to_vec());
        if let Some(found) = pipelines.compiled.get(&key) {
            return Ok(found.clone());
        }
        let refuse = |detail: String| Error::Device { device: self.label.clone(), detail };
        if let Some(reason) = pipelines.refused.get(&key) {
            return Err(refuse(reason.clone()));
        }
        let mut source = plant(shader, &self.options.planted, substitute(shader, constants)?)?;
        if !self.has_immediates {
            source = source.replace("var<immediate>", "@group(1) @binding(0) var<uniform>");
        }
        let checked = self.options.checked || CHECKED_ALWAYS.contains(&shader);
        let checks =
            if checked { wgpu::ShaderRuntimeChecks::checked() } else { wgpu::ShaderRuntimeChecks::unchecked() };
        let scopes =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal].map(|f| self.device.push_error_scope(f));
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(shader.name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: the sources are this project's own (one with a planted fault is checked). Unchecked ones index by shapes that the callers have compared with
        // the buffers' lengths, and their loops end; those that follow indices from outside are in CHECKED_ALWAYS.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: pipelines.cache.as_ref().map(|(cache, _)| cache),
        });
        let [validation, internal] = scopes;
        // The innermost first.
        let errors = [pollster::block_on(internal.pop()), pollster::block_on(validation.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            let reason = format!("kernel {} {constants:?} does not compile: {error}", shader.name);
            pipelines.refused.insert(key, reason.clone());
            return Err(refuse(reason));
        }
        let made = Pipeline { id: pipelines.compiled.len() as u64, pipeline };
        pipelines.compiled.insert(key, made.clone());
        Ok(made)
    }

    /// Whether the device takes the variant: its limits allow it, and the driver compiles it.
    pub(super) fn takes(&self, shader: Shader, constants: &Constants) -> Result<bool> {
        let key = (shader.name, constants.to_vec());
        let known = {
            let pipelines = lock(&self.pipelines);
            (pipelines.compiled.contains_key(&key), pipelines.refused.contains_key(&key))
        };
        match known {
            (true, _) => return Ok(true),
            (_, true) => return Ok(false),
            _ => {}
        }
        let needs = Variant { shader, constants: key.1.clone() }.needs()?;
        if needs.workgroup_bytes > self.max_workgroup_bytes || needs.threads > self.max_threads {
            let reason = format!(
                "kernel {} {constants:?} takes {} bytes of workgroup memory and {} threads of this device's {} and {}",
                shader.name, needs.workgroup_bytes, needs.threads, self.max_workgroup_bytes, self.max_threads
            );
            lock(&self.pipelines).refused.insert(key, reason);
            return Ok(false);
        }
        match self.pipeline(shader, constants) {
            Ok(_) => Ok(true),
            Err(Error::Device { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) fn compile(&self, shader: Shader, constants: &Constants) -> Result<()> {
        self.pipeline(shader, constants).map(|_| ())
    }

    /// Records a copy on the device; sizes and offsets are multiples of 4.
    pub(super) fn copy(&self, from: &wgpu::Buffer, from_byte: u64, to: &wgpu::Buffer, to_byte: u64, bytes: u64) {
        if bytes > 0 && !self.options.count_only {
            let mut recorder = lock(&self.recorder);
            recorder.encoder(&self.device).copy_buffer_to_buffer(from, from_byte, to, to_byte, bytes);
        }
    }

    /// Records zeros over all of `x`.
    pub(super) fn clear(&self, x: &GpuBuffer) -> Result<()> {
        let (buffer, _) = x.raw()?;
        if !x.is_empty() && !self.options.count_only {
            let mut recorder = lock(&self.recorder);
            let bytes = (x.bytes() as u64).next_multiple_of(4);
            recorder.encoder(&self.device).clear_buffer(buffer, 0, Some(bytes));
        }
        Ok(())
    }

    /// Submits what is recorded.
    pub(super) fn submit(&self) -> Result<()> {
        self.submit_locked(&mut lock(&self.recorder))
    }

    fn submit_locked(&self, recorder: &mut Recorder) -> Result<()> {
        recorder.pass = None;
        self.count(|counts| counts.submits += 1);
        if let Some(encoder) = recorder.encoder.take() {
            self.queue.submit([encoder.finish()]);
        } else {
            self.queue.submit([]);
        }
        recorder.dispatches = 0;
        recorder.work = Work::default();
        recorder.uploads = 0;
        self.pool.epoch.fetch_add(1, Ordering::AcqRel);
        self.faults.check(&self.label)
    }

    /// Runs `f` with the epoch of the work that waits to be submitted, if any does; none is recorded meanwhile.
    pub(super) fn with_waiting_epoch<T>(&self, f: impl FnOnce(Option<u64>) -> T) -> T {
        let recorder = lock(&self.recorder);
        f(recorder.encoder.as_ref().map(|_| self.pool.epoch.load(Ordering::Acquire)))
    }

    /// An upload was queued; some drivers lose them when too many wait.
    pub(super) fn count_upload(&self) -> Result<()> {
        let mut recorder = lock(&self.recorder);
        recorder.uploads += 1;
        if recorder.uploads >= UPLOADS_PER_SUBMIT {
            self.submit_locked(&mut recorder)?;
        }
        self.faults.check(&self.label)
    }

    /// Submits what is recorded and waits until all of it is done.
    pub(super) fn wait(&self) -> Result<()> {
        self.submit()?;
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.faults.check(&self.label)?;
        waited
            .map(|_| ())
            .map_err(|e| Error::Device { device: self.label.clone(), detail: format!("waiting for the device: {e}") })
    }
}

impl Recorder {
    /// The encoder, outside any pass.
    fn encoder(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None }))
    }

    fn pass(&mut self, device: &wgpu::Device) -> &mut wgpu::ComputePass<'static> {
        let Recorder { pass, encoder, .. } = self;
        pass.get_or_insert_with(|| {
            encoder
                .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None }))
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None })
                .forget_lifetime()
        })
    }
}

/// Fails where a kernel runs that [`super::variants`] does not list.
#[cfg(test)]
fn assert_listed(shader: Shader, constants: &Constants) {
    use std::sync::LazyLock;
    static LISTED: LazyLock<Vec<Variant>> = LazyLock::new(super::variants);
    // A test may run a kernel of its own.
    let is_listed =
        !shaders::ALL.contains(&shader) || LISTED.iter().any(|v| v.shader == shader && v.constants == constants);
    assert!(is_listed, "{} {constants:?} runs and is not in the list of variants", shader.name);
}

/// The source with the faults that are meant for it.
fn plant(shader: Shader, planted: &[Plant], mut source: String) -> Result<String> {
    for fault in planted.iter().filter(|fault| fault.kernel == shader.name) {
        if !source.contains(fault.from) {
            return Err(Error::shape("gpu", format!("{} has no {:?} to plant a fault in", shader.name, fault.from)));
        }
        source = source.replace(fault.from, fault.to);
    }
    Ok(source)
}

/// The source with other values in its lines `const NAME: u32 = …;`.
pub(super) fn substitute(shader: Shader, constants: &Constants) -> Result<String> {
    let mut lines: Vec<String> = shader.source.lines().map(str::to_string).collect();
    for (name, value) in constants {
        let start = format!("const {name}: u32 = ");
        let line = lines.iter_mut().find(|line| line.starts_with(&start)).ok_or_else(|| Error::Device {
            device: "gpu".into(),
            detail: format!("kernel {} has no constant {name}", shader.name),
        })?;
        *line = format!("{start}{value}u;");
    }
    let source = lines.join("\n");
    let large = shader == shaders::MATMUL_COOPERATIVE && constants.contains(&("SIZE", 16));
    Ok(if large { source.replace("coop_mat8x8", "coop_mat16x16") } else { source })
}
