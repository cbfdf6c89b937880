//! GPU memory: buffers, the way in and the way out. `pool` is where buffers come from and go back to.
//!
//! All work is recorded in order into one queue, so a buffer that is dropped may be given out again at once: whatever was
//! recorded with it before is executed before. The exception is `queue.write_buffer`, which runs before everything that
//! is not submitted yet. An upload therefore takes a buffer only if no work is waiting, or if the buffer has been free since
//! before the last submit.
use super::pool::{Allocation, Pool};
use super::{Gpu, lock, shared};
use crate::backend::Memory;
use crate::buffer::{Buffer, DeviceMemory, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::sync::{Arc, mpsc};

/// Bytes of one copy between host and device; bounds the staging memory.
const CHUNK: u64 = 32 << 20;

/// One tensor's memory on a GPU. Goes back to the pool when dropped.
#[derive(Debug)]
pub struct GpuBuffer {
    dtype: DType,
    /// Bytes of the values; the memory behind may be larger.
    bytes: u64,
    memory: Option<Allocation>,
    home: Arc<Pool>,
}

impl GpuBuffer {
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }
    /// Bytes that the values take.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }
    /// Number of elements; for quantised blocks, of weights.
    pub fn len(&self) -> usize {
        match self.dtype {
            DType::Quant(q) => self.bytes() / q.block_bytes() * q.block_len(),
            plain => self.bytes() / plain.bytes(1),
        }
    }
    /// Whether it holds no values.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    pub(super) fn belongs_to(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.home, pool)
    }
    pub(super) fn raw(&self) -> Result<(&wgpu::Buffer, u64)> {
        let memory = self.memory.as_ref().ok_or_else(|| Error::shape("gpu", "a buffer without memory"))?;
        Ok((&memory.buffer, memory.id))
    }
}

impl DeviceMemory for GpuBuffer {
    fn dtype(&self) -> DType {
        self.dtype
    }
    fn what(&self) -> &'static str {
        "GPU memory"
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.release(memory);
        }
    }
}

impl Gpu {
    /// Memory for `n` elements, with whatever was in it before.
    pub(super) fn new_buffer(&self, dtype: DType, n: usize) -> Result<GpuBuffer> {
        let bytes = dtype.bytes(n) as u64;
        let capacity = self.capacity(bytes)?;
        let memory = match self.pool.take(capacity, None) {
            Some(memory) => memory,
            None => self.create(capacity)?,
        };
        Ok(GpuBuffer { dtype, bytes, memory: Some(memory), home: self.pool.clone() })
    }

    pub(super) fn new_f32(&self, n: usize) -> Result<GpuBuffer> {
        self.new_buffer(DType::F32, n)
    }

    fn capacity(&self, bytes: u64) -> Result<u64> {
        let capacity = Pool::capacity(bytes);
        if capacity <= self.max_buffer_bytes {
            return Ok(capacity);
        }
        if bytes.next_multiple_of(256) <= self.max_buffer_bytes {
            return Ok(bytes.next_multiple_of(256));
        }
        Err(Error::Unsupported(format!(
            "{}: a tensor of {} MiB is more than this device's {} MiB for one buffer; keep the weight in 16 bits (or quantised), or use --device cpu",
            self.label,
            bytes >> 20,
            self.max_buffer_bytes >> 20
        )))
    }

    fn create(&self, capacity: u64) -> Result<Allocation> {
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: if self.options.count_only { 4 } else { capacity },
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let buffer = match self.try_create(&descriptor) {
            Ok(buffer) => buffer,
            Err(_) => {
                // Give back what is free, wait until the device has let go of it, and try once more.
                self.pool.clear();
                self.wait()?;
                self.try_create(&descriptor)?
            }
        };
        let mut state = lock(&self.pool.state);
        state.next_id += 1;
        state.count_live(capacity);
        Ok(Allocation { buffer, id: state.next_id, capacity })
    }

    /// Creates a buffer; running out of memory is an error value.
    fn try_create(&self, descriptor: &wgpu::BufferDescriptor) -> Result<wgpu::Buffer> {
        self.faults.check(&self.label)?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(descriptor);
        let invalid = pollster::block_on(validation.pop());
        let exhausted = pollster::block_on(memory.pop());
        if let Some(error) = exhausted {
            let state = lock(&self.pool.state);
            return Err(Error::OutOfMemory {
                device: self.label.clone(),
                detail: format!(
                    "{} MiB asked for, {} MiB in use ({error}); shorten the batch, use gradient_checkpointing, LoRA or 16-bit weights",
                    descriptor.size >> 20,
                    state.live_bytes >> 20
                ),
            });
        }
        match invalid {
            Some(error) => Err(Error::Device { device: self.label.clone(), detail: error.to_string() }),
            None => Ok(buffer),
        }
    }

    pub(super) fn upload_host(&self, values: &Host) -> Result<GpuBuffer> {
        match values {
            Host::F32(v) => self.upload_bytes(DType::F32, bytemuck::cast_slice(v)),
            Host::U32(v) => self.upload_bytes(DType::U32, bytemuck::cast_slice(v)),
            Host::Half(dtype, v) => self.upload_bytes(*dtype, bytemuck::cast_slice(v)),
            Host::Blocks(dtype, v) => self.upload_bytes(*dtype, v),
        }
    }

    fn upload_bytes(&self, dtype: DType, values: &[u8]) -> Result<GpuBuffer> {
        let bytes = values.len() as u64;
        let capacity = self.capacity(bytes)?;
        let memory = match self.with_waiting_epoch(|epoch| self.pool.take(capacity, epoch)) {
            Some(memory) => memory,
            None => self.create(capacity)?,
        };
        let target = GpuBuffer { dtype, bytes, memory: Some(memory), home: self.pool.clone() };
        self.count(|counts| counts.uploads = (counts.uploads.0 + 1, counts.uploads.1 + bytes));
        if self.options.count_only {
            return Ok(target);
        }
        let (raw, _) = target.raw()?;
        for (i, chunk) in values.chunks(CHUNK as usize).enumerate() {
            let whole = chunk.len() / 4 * 4;
            let offset = i as u64 * CHUNK;
            if whole > 0 {
                self.queue.write_buffer(raw, offset, &chunk[..whole]);
            }
            if whole < chunk.len() {
                let mut last = [0u8; 4];
                last[..chunk.len() - whole].copy_from_slice(&chunk[whole..]);
                self.queue.write_buffer(raw, offset + whole as u64, &last);
            }
            if chunk.len() as u64 == CHUNK {
                self.wait()?;
            }
        }
        self.count_upload()?;
        Ok(target)
    }

    /// The bytes of several buffers. Everything recorded is submitted, and waited for once per 32 MiB.
    pub(super) fn read(&self, buffers: &[&GpuBuffer]) -> Result<Vec<Vec<u8>>> {
        let bytes: u64 = buffers.iter().map(|b| b.bytes).sum();
        self.count(|counts| counts.read_backs = (counts.read_backs.0 + 1, counts.read_backs.1 + bytes));
        if self.options.count_only {
            self.submit()?;
            return Ok(buffers.iter().map(|b| vec![0; b.bytes()]).collect());
        }
        let mut out: Vec<Vec<u8>> = buffers.iter().map(|b| Vec::with_capacity(b.bytes())).collect();
        // Pieces of at most CHUNK bytes, gathered into staging buffers of at most CHUNK bytes.
        let mut pieces: Vec<(usize, u64, u64)> = Vec::new();
        for (i, buffer) in buffers.iter().enumerate() {
            let mut offset = 0;
            while offset < buffer.bytes {
                let size = (buffer.bytes - offset).min(CHUNK);
                pieces.push((i, offset, size));
                offset += size;
            }
        }
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let mut total = 0;
            let mut n = 0;
            while n < rest.len() && (n == 0 || total + rest[n].2 <= CHUNK) {
                total += rest[n].2.next_multiple_of(4);
                n += 1;
            }
            self.read_pieces(buffers, &rest[..n], total, &mut out)?;
            rest = &rest[n..];
        }
        if pieces.is_empty() {
            self.faults.check(&self.label)?;
        }
        Ok(out)
    }

    fn read_pieces(
        &self,
        buffers: &[&GpuBuffer],
        pieces: &[(usize, u64, u64)],
        total: u64,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        let staging = self.try_create(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: total,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })?;
        let mut at = 0;
        for &(i, offset, size) in pieces {
            let size = size.next_multiple_of(4);
            self.copy(buffers[i].raw()?.0, offset, &staging, at, size);
            at += size;
        }
        self.submit()?;
        let (done, result) = mpsc::channel();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |r| {
            // The receiver may be gone after an error; nobody waits then.
            let _ = done.send(r);
        });
        self.wait()?;
        let failed = |detail: String| Error::Device { device: self.label.clone(), detail };
        match result.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(format!("reading back failed: {error}"))),
            Err(_) => return Err(failed("reading back did not finish".into())),
        }
        {
            let view = staging.slice(..).get_mapped_range().map_err(|e| failed(format!("reading back failed: {e}")))?;
            let mut at = 0;
            for &(i, _, size) in pieces {
                out[i].extend_from_slice(&view[at..at + size as usize]);
                at += size.next_multiple_of(4) as usize;
            }
        }
        staging.unmap();
        Ok(())
    }

    /// The values of several buffers, with one wait for all.
    pub(super) fn download_hosts(&self, xs: &[&GpuBuffer]) -> Result<Vec<Host>> {
        let host = |(bytes, x): (Vec<u8>, &&GpuBuffer)| match x.dtype {
            DType::F32 => Host::F32(bytemuck::pod_collect_to_vec(&bytes)),
            DType::U32 => Host::U32(bytemuck::pod_collect_to_vec(&bytes)),
            half @ (DType::F16 | DType::BF16) => Host::Half(half, bytemuck::pod_collect_to_vec(&bytes)),
            quant @ DType::Quant(_) => Host::Blocks(quant, bytes),
        };
        Ok(self.read(xs)?.into_iter().zip(xs).map(host).collect())
    }

    /// The buffer behind `x` with no other owner: as it is, or a copy made on the device.
    pub(super) fn own<'a>(&self, op: &'static str, x: &'a mut Buffer) -> Result<&'a GpuBuffer> {
        self.gpu_buffer(op, x)?;
        if !x.is_sole() {
            *x = shared(self.copy_of(self.gpu_buffer(op, x)?)?);
        }
        self.gpu_buffer(op, x)
    }

    fn copy_of(&self, x: &GpuBuffer) -> Result<GpuBuffer> {
        self.count(|counts| counts.copies = (counts.copies.0 + 1, counts.copies.1 + x.bytes));
        let copy = self.new_buffer(x.dtype, x.len())?;
        self.copy(x.raw()?.0, 0, copy.raw()?.0, 0, x.bytes.next_multiple_of(4));
        Ok(copy)
    }
}

impl Memory for Gpu {
    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(shared(self.upload_host(&values)?))
    }

    fn download(&self, x: &Buffer) -> Result<Host> {
        let x = self.gpu_buffer("download", x)?;
        self.download_hosts(&[x])?.pop().ok_or_else(|| Error::shape("download", "nothing came back"))
    }

    fn zeros(&self, n: usize) -> Result<Buffer> {
        let x = self.new_f32(n)?;
        self.clear(&x)?;
        Ok(shared(x))
    }

    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        let buffers = xs.iter().map(|x| self.f32("download_f32", x, 0)).collect::<Result<Vec<_>>>()?;
        Ok(self.read(&buffers)?.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    fn download_all(&self, xs: &[&Buffer]) -> Result<Vec<Host>> {
        let buffers = xs.iter().map(|x| self.gpu_buffer("download_all", x)).collect::<Result<Vec<_>>>()?;
        self.download_hosts(&buffers)
    }

    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        let x = self.gpu_buffer("cast", x)?;
        if x.len() < n {
            return Err(Error::shape("cast", format!("{n} elements needed, {} found", x.len())));
        }
        let y = self.cast_of(x, 0, n, to)?;
        Ok(shared(y))
    }

    fn synchronize(&self) -> Result<()> {
        self.wait()
    }
}
