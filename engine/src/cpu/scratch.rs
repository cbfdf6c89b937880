//! Scratch memory of a thread: kept between calls, aligned to cache lines, never zeroed again.
use std::cell::RefCell;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with at least `n` floats of scratch that hold anything. Not to be nested.
pub(crate) fn with_scratch<R>(n: usize, f: impl FnOnce(*mut f32) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut lines) => {
            grow(&mut lines, n);
            f(lines.as_mut_ptr().cast())
        }
        // Nested after all: memory of its own.
        Err(_) => {
            let mut lines = Vec::new();
            grow(&mut lines, n);
            f(lines.as_mut_ptr().cast())
        }
    })
}

fn grow(lines: &mut Vec<Line>, n: usize) {
    let need = n.div_ceil(16);
    if lines.len() < need {
        lines.resize(need, Line([0.0; 16]));
    }
}
