//! Threads of the CPU backend. Tasks own disjoint outputs, so their order and number never show in a result.
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A pool of its own, so that backends with different thread counts live in one process.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// `count` threads; as many as the machine has if `None`.
    pub fn new(count: Option<usize>) -> Result<Self> {
        let count = count.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        if count == 0 {
            return Err(Error::Input("the CPU backend needs at least 1 thread, 0 asked for".into()));
        }
        if count == 1 {
            return Ok(Threads { pool: None, count });
        }
        let builder = || rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("cpu-{i}"));
        // The thread that opens the device is one of its threads: a step is thousands of short kernels, and to hand each
        // over and sleep until it is done costs more than some of them. Where that thread already works for another
        // pool, this one has all threads of its own.
        let pool = builder()
            .use_current_thread()
            .build()
            .or_else(|_| builder().build())
            .map_err(|e| Error::Device { device: "cpu".into(), detail: format!("{count} threads: {e}") })?;
        Ok(Threads { pool: Some(pool), count })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// `task(i)` for i in 0 .. n, in any order and on any thread.
    pub fn each(&self, n: usize, task: impl Fn(usize) + Sync + Send) {
        match &self.pool {
            Some(pool) if n > 1 => pool.install(|| (0..n).into_par_iter().with_max_len(1).for_each(task)),
            _ => (0..n).for_each(task),
        }
    }

    /// `task(start, end)` over 0 .. n in chunks of `chunk`.
    pub fn chunks(&self, n: usize, chunk: usize, task: impl Fn(usize, usize) + Sync + Send) {
        let chunk = chunk.max(1);
        self.each(n.div_ceil(chunk), |i| task(i * chunk, ((i + 1) * chunk).min(n)));
    }
}

/// Memory that several tasks write, each to a part of its own.
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}

// SAFETY: a Shared is only an address. Whoever turns it into a slice or writes through it promises (below) that no two
// tasks touch the same element.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn of(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr())
    }

    pub fn of_raw(start: *mut T) -> Self {
        Shared(start)
    }

    pub fn ptr(self) -> *mut T {
        self.0
    }

    /// Elements `start .. start + len`, perhaps not yet written.
    ///
    /// # Safety
    /// They lie inside the memory, and nobody else touches them while the slice lives.
    pub unsafe fn part<'a>(self, start: usize, len: usize) -> &'a mut [MaybeUninit<T>] {
        // SAFETY: promised by the caller; MaybeUninit<T> has the layout of T.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start).cast(), len) }
    }

    /// Elements `start .. start + len`, all of them written before.
    ///
    /// # Safety
    /// As `part`, and the elements hold values.
    pub unsafe fn written<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// n elements that `fill` writes; the memory is not zeroed first.
///
/// # Safety
/// `fill` writes every one of the n elements.
pub(crate) unsafe fn build<T>(n: usize, fill: impl FnOnce(Shared<T>)) -> Result<Vec<T>> {
    let mut v: Vec<T> = Vec::new();
    reserve(&mut v, n)?;
    fill(Shared(v.as_mut_ptr()));
    // SAFETY: the capacity is at least n and all n elements were written by `fill`.
    unsafe { v.set_len(n) };
    Ok(v)
}

/// New elements from a plain function of the index range: for kernels that are not worth a vector form.
///
/// # Safety
/// `fill(start, part)` writes all of `part`, which is elements `start ..` of the result.
pub(crate) unsafe fn build_chunks<T: Send>(
    threads: &Threads,
    n: usize,
    chunk: usize,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync + Send,
) -> Result<Vec<T>> {
    // SAFETY: the chunks cover 0 .. n and do not overlap; `fill` writes all of each.
    unsafe { build(n, |to| threads.chunks(n, chunk, |start, end| fill(start, to.part(start, end - start)))) }
}

/// Room for n elements, or an error that says how much was asked for.
pub(crate) fn reserve<T>(v: &mut Vec<T>, n: usize) -> Result<()> {
    v.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
        device: "cpu".into(),
        detail: format!("{} MiB more are not to be had", (n.saturating_mul(size_of::<T>())) >> 20),
    })?;
    large_pages(v.as_mut_ptr().cast(), n.saturating_mul(size_of::<T>()));
    Ok(())
}

/// Asks Linux for pages of 2 MiB where memory is about to be written for the first time: a step's large buffers come
/// with a hundredth of the page faults, and kernels that stride through weights miss fewer translations.
fn large_pages(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        /// Below this a buffer hardly holds a whole large page.
        const WORTH: usize = 4 << 20;
        const PAGE: usize = 4096;
        if bytes >= WORTH {
            let (first, end) = ((start as usize).next_multiple_of(PAGE), (start as usize + bytes) / PAGE * PAGE);
            // SAFETY: advice on whole pages inside memory that is ours; it changes no value, and whether the system
            // takes it does not matter.
            unsafe {
                libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}
