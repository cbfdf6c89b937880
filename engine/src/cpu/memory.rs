//! Host memory, and change of element type: f32, f16 and bf16 in all directions, to the nearest, ties to even.
use super::threads::build_chunks;
use super::weights::HostWeights;
use super::{Cpu, check};
use crate::backend::Memory;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::mem::MaybeUninit;

const CHUNK: usize = 32 * 1024;
/// Elements decoded at a time, to stay in the first-level cache.
const STEP: usize = 1024;

impl Memory for Cpu {
    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(Buffer::host(values))
    }

    fn download(&self, x: &Buffer) -> Result<Host> {
        check::host("download", "x", x).cloned()
    }

    fn zeros(&self, n: usize) -> Result<Buffer> {
        check::size("zeros", &[n])?;
        // SAFETY: every chunk is filled.
        let zeros = unsafe { build_chunks(&self.threads, n, 1 << 20, |_, part| part.fill(MaybeUninit::new(0f32)))? };
        Ok(Buffer::from_f32(zeros))
    }

    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        xs.iter().map(|x| x.f32().map(<[f32]>::to_vec)).collect()
    }

    /// The first n elements of x as `to`. Halves widen exactly.
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        if matches!(x.dtype(), DType::Quant(_)) && to != DType::F32 {
            return Err(Error::Unsupported(format!("cast: {} goes to float32 only", x.dtype().name())));
        }
        let x = HostWeights::new("cast", "x", x, 1, n)?;
        let decoded = |start: usize, len: usize, mut each: Box<dyn FnMut(usize, &[f32]) + '_>| {
            let mut buffer = [0f32; STEP];
            for at in (0..len).step_by(STEP) {
                let part = &mut buffer[..STEP.min(len - at)];
                x.decode(start + at, part);
                each(at, part);
            }
        };
        match to {
            DType::F32 => {
                // SAFETY: every element of a part is written.
                let y = unsafe {
                    build_chunks(&self.threads, n, CHUNK, |start, part: &mut [MaybeUninit<f32>]| {
                        let len = part.len();
                        decoded(start, len, Box::new(|at, x| write(&mut part[at..at + x.len()], x, |x| x)));
                    })?
                };
                Ok(Buffer::from_f32(y))
            }
            DType::F16 | DType::BF16 => {
                // SAFETY: every element of a part is written.
                let y = unsafe {
                    build_chunks(&self.threads, n, CHUNK, |start, part: &mut [MaybeUninit<u16>]| {
                        let len = part.len();
                        decoded(
                            start,
                            len,
                            Box::new(|at, x| match to {
                                DType::BF16 => write(&mut part[at..at + x.len()], x, f32_to_bf16),
                                _ => write(&mut part[at..at + x.len()], x, |x| half::f16::from_f32(x).to_bits()),
                            }),
                        );
                    })?
                };
                Ok(Buffer::host(Host::Half(to, y)))
            }
            DType::U32 | DType::Quant(_) => {
                Err(Error::Unsupported(format!("cast: to {}; float32, float16 and bfloat16 are possible", to.name())))
            }
        }
    }
}

#[inline]
fn write<T>(to: &mut [MaybeUninit<T>], from: &[f32], f: impl Fn(f32) -> T) {
    for (y, &x) in to.iter_mut().zip(from) {
        y.write(f(x));
    }
}

/// The upper 16 bits, rounded to the nearest, ties to even; a quiet NaN for NaN.
#[inline(always)]
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let bits = if x.is_nan() { bits | 0x0040_0000 } else { rounded };
    (bits >> 16) as u16
}
