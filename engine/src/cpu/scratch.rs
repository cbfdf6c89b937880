//! Scratch memory of a thread: kept between calls, aligned to cache lines, never zeroed again.
//!
//! A guard and not a closure: code inside a closure would not be compiled for the instruction set around it.
use std::cell::Cell;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]);

thread_local! {
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Floats that hold anything, until dropped.
pub(crate) struct Scratch(Vec<Line>);

impl Scratch {
    /// At least n floats.
    #[inline(never)]
    pub fn new(n: usize) -> Self {
        let mut lines = KEPT.with(Cell::take);
        let need = n.div_ceil(16);
        if lines.len() < need {
            lines.clear();
            lines.resize(need, Line([0.0; 16]));
        }
        Scratch(lines)
    }

    pub fn ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.with(|kept| kept.set(std::mem::take(&mut self.0)));
    }
}
