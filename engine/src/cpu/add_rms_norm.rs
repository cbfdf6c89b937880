//! A sum and its root mean square normalisation, in one pass over memory: what a layer gives to the residual stream, and
//! what the next one reads. The bits are those of the sum and the norm one after the other.
use super::elementwise::{Map, map_in_place};
use super::rms_norm::normalise_row;
use super::threads::{Shared, build};
use super::{Cpu, check};
use crate::buffer::Buffer;
use crate::error::Result;
use pulp::Simd;

/// Rows of a task.
const ROWS: usize = 64;

/// s = x + f
#[derive(Clone, Copy)]
struct Add;

impl Map<2, 1> for Add {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [x, f]: [S::f32s; 2]) -> [S::f32s; 1] {
        [simd.add_f32s(x, f)]
    }
}

/// s = x + f (into f's memory if it has no other owner), y = s r ∘ w: x, f [m, d], w [d] → (s [m, d], y [m, d], r [m]).
/// The backward is that of the norm, added onto the gradient of s.
pub(crate) fn add_rms_norm(
    cpu: &Cpu,
    x: &Buffer,
    mut f: Buffer,
    w: &Buffer,
    [m, d]: [usize; 2],
    epsilon: f32,
) -> Result<(Buffer, Buffer, Buffer)> {
    let op = "add_rms_norm";
    let n = check::size(op, &[m, d])?;
    let (x, w) = (check::f32s(op, "x", x, n)?, check::f32s(op, "w", w, d)?);
    let s_to = Shared::of(check::f32s_mut(op, "f", &mut f, n)?);
    let mut rstd = vec![0f32; m];
    let r_to = Shared::of(&mut rstd);
    // SAFETY: tasks own disjoint rows of s and y and elements of rstd, and write all of y's.
    let y = unsafe {
        build(n, |to| {
            cpu.threads.chunks(m, ROWS, |start, end| {
                for i in start..end {
                    let s = s_to.written(i * d, d);
                    map_in_place(cpu.level, s, [&x[i * d..][..d]], Add);
                    r_to.ptr().add(i).write(normalise_row(cpu.level, s, w, to.part(i * d, d), epsilon));
                }
            });
        })?
    };
    Ok((f, Buffer::from_f32(y), Buffer::from_f32(rstd)))
}
