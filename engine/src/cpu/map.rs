//! y = f(x) element by element over any number of arrays: the one loop that all elementwise kernels share.
use super::level::Level;
use super::threads::{Shared, Threads};
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::mem::MaybeUninit;

/// Elements of a task: 64 KiB of f32 for each array.
pub(crate) const CHUNK: usize = 16 * 1024;

/// A function of I numbers that gives O numbers, written for vectors of any width.
pub(crate) trait Map<const I: usize, const O: usize>: Copy + Send + Sync {
    fn map<S: Simd>(self, simd: S, x: [S::f32s; I]) -> [S::f32s; O];
}

/// New arrays y = f(x); every input has at least n elements.
pub(crate) fn apply<const I: usize, const O: usize>(
    threads: &Threads,
    level: Level,
    n: usize,
    inputs: [&[f32]; I],
    f: impl Map<I, O>,
) -> Result<[Vec<f32>; O]> {
    let inputs = inputs.map(|x| x[..n].as_ptr().cast_mut()).map(InputPointer);
    let mut outputs: [Vec<f32>; O] = std::array::from_fn(|_| Vec::new());
    for y in &mut outputs {
        super::threads::reserve(y, n)?;
    }
    let to: [Shared<f32>; O] = std::array::from_fn(|o| Shared::of_raw(outputs[o].as_mut_ptr()));
    threads.chunks(n, CHUNK, |start, end| {
        // SAFETY: start < end ≤ n; inputs hold n values, outputs have room for n, and chunks are disjoint.
        let loop_ =
            unsafe { Loop::new(end - start, inputs.map(|p| p.0.add(start)), to.map(|p| p.ptr().add(start)), f) };
        level.run(loop_);
    });
    for y in &mut outputs {
        // SAFETY: the chunks cover 0 .. n, so all n elements were written.
        unsafe { y.set_len(n) };
    }
    Ok(outputs)
}

/// y ← f(y, x) in place: the first O of the I inputs of `f` are the arrays that change, n elements each.
pub(crate) fn update<const I: usize, const O: usize, const X: usize>(
    threads: &Threads,
    level: Level,
    changing: [&mut [f32]; O],
    fixed: [&[f32]; X],
    f: impl Map<I, O>,
) {
    const { assert!(I == O + X) };
    let n = changing.iter().map(|y| y.len()).chain(fixed.iter().map(|x| x.len())).min().unwrap_or(0);
    let to = changing.map(Shared::of);
    let fixed = fixed.map(|x| InputPointer(x.as_ptr().cast_mut()));
    threads.chunks(n, CHUNK, |start, end| {
        let (to, fixed) = (to, fixed);
        // SAFETY: start < end ≤ n, the length of the shortest array; chunks are disjoint.
        let loop_ = unsafe {
            let inputs = std::array::from_fn(|i| if i < O { to[i].ptr() } else { fixed[i - O].0 }.add(start));
            Loop::new(end - start, inputs, to.map(|p| p.ptr().add(start)), f)
        };
        level.run(loop_);
    });
}

/// y = f(x) for one part, on this thread. All slices have one length.
#[inline]
pub(crate) fn map_part<const I: usize, const O: usize>(
    level: Level,
    inputs: [&[f32]; I],
    outputs: [&mut [MaybeUninit<f32>]; O],
    f: impl Map<I, O>,
) {
    let n = inputs.iter().map(|x| x.len()).chain(outputs.iter().map(|y| y.len())).min().unwrap_or(0);
    let inputs = inputs.map(|x| x.as_ptr().cast_mut());
    // SAFETY: no slice is shorter than n; outputs are exclusive, so they overlap no input.
    level.run(unsafe { Loop::new(n, inputs, outputs.map(|y| y.as_mut_ptr().cast()), f) });
}

/// y ← f(y) for one part, on this thread.
#[inline]
pub(crate) fn map_self(level: Level, y: &mut [f32], f: impl Map<1, 1>) {
    let p = y.as_mut_ptr();
    // SAFETY: the only array is y.
    level.run(unsafe { Loop::new(y.len(), [p], [p], f) });
}

/// y ← f(x₀, …, y) for one part, on this thread: y is the last of the I inputs.
#[inline]
pub(crate) fn map_in_place<const X: usize, const I: usize>(
    level: Level,
    y: &mut [f32],
    x: [&[f32]; X],
    f: impl Map<I, 1>,
) {
    const { assert!(I == X + 1) };
    let n = x.iter().map(|x| x.len()).min().unwrap_or(0).min(y.len());
    let p = y.as_mut_ptr();
    let inputs = std::array::from_fn(|i| if i < X { x[i].as_ptr().cast_mut() } else { p });
    // SAFETY: no slice is shorter than n; y is exclusive, so it overlaps no other input.
    level.run(unsafe { Loop::new(n, inputs, [p], f) });
}

/// Where an input starts; only read.
#[derive(Clone, Copy)]
struct InputPointer(*mut f32);
// SAFETY: tasks only read through it, and the slice it was made from outlives them.
unsafe impl Send for InputPointer {}
unsafe impl Sync for InputPointer {}

struct Loop<const I: usize, const O: usize, F> {
    n: usize,
    inputs: [*mut f32; I],
    outputs: [*mut f32; O],
    f: F,
}

impl<const I: usize, const O: usize, F> Loop<I, O, F> {
    /// # Safety
    /// Inputs and outputs point to n elements; an output is one of the inputs or overlaps none.
    unsafe fn new(n: usize, inputs: [*mut f32; I], outputs: [*mut f32; O], f: F) -> Self {
        Loop { n, inputs, outputs, f }
    }
}

impl<const I: usize, const O: usize, F: Map<I, O>> WithSimd for Loop<I, O, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut i = 0;
        // SAFETY: `new` promised n elements behind every pointer; all vectors of a step are read before any is written.
        unsafe {
            while i + lanes <= self.n {
                let y = self.f.map(simd, self.inputs.map(|p| p.add(i).cast::<S::f32s>().read_unaligned()));
                for (o, y) in y.into_iter().enumerate() {
                    self.outputs[o].add(i).cast::<S::f32s>().write_unaligned(y);
                }
                i += lanes;
            }
        }
        if i < self.n {
            self.tail::<S>(simd, i);
        }
    }
}

impl<const I: usize, const O: usize, F: Map<I, O>> Loop<I, O, F> {
    /// The elements behind the last whole vector, from and to a vector's worth of memory on the stack.
    #[inline(always)]
    fn tail<S: Simd>(&self, simd: S, start: usize) {
        const { assert!(S::F32_LANES <= 64) };
        let rest = self.n - start;
        let mut memory = [[0f32; 64]; I];
        let mut results = [[0f32; 64]; O];
        // SAFETY: rest < S::F32_LANES ≤ 64 elements are left behind every pointer.
        unsafe {
            for (memory, x) in memory.iter_mut().zip(self.inputs) {
                std::ptr::copy_nonoverlapping(x.add(start), memory.as_mut_ptr(), rest);
            }
            let inputs = memory.each_mut().map(|m| m.as_mut_ptr());
            let outputs = results.each_mut().map(|m| m.as_mut_ptr());
            simd.vectorize(Loop { n: S::F32_LANES, inputs, outputs, f: self.f });
            for (results, y) in results.iter().zip(self.outputs) {
                std::ptr::copy_nonoverlapping(results.as_ptr(), y.add(start), rest);
            }
        }
    }
}
