//! y[i] = f(a[i], b[i mod |b|]) for the functions of `Binary`; and y ← y + α·x.
use super::elementwise::{CHUNK, Map, apply, map_part, update};
use super::{Cpu, check, math};
use crate::backend::Binary;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use pulp::Simd;

macro_rules! maps {
    ($($name:ident: |$simd:ident, $a:ident, $b:ident| $y:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Map<2, 1> for $name {
            #[inline(always)]
            fn map<S: Simd>(self, $simd: S, [$a, $b]: [S::f32s; 2]) -> [S::f32s; 1] {
                [$y]
            }
        }
    )*};
}

maps! {
    Add: |s, a, b| s.add_f32s(a, b);
    Sub: |s, a, b| s.sub_f32s(a, b);
    Mul: |s, a, b| s.mul_f32s(a, b);
    Div: |s, a, b| s.div_f32s(a, b);
    // math's take b where either is NaN; where a is, the result must be.
    Min: |s, a, b| s.select_f32s(s.equal_f32s(a, a), math::min(s, a, b), a);
    Max: |s, a, b| s.select_f32s(s.equal_f32s(a, a), math::max(s, a, b), a);
}

/// y[i] = f(a[i], b[i mod n_b])
pub(crate) fn binary(cpu: &Cpu, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
    if n_b == 0 && n > 0 || n_b > 0 && !n.is_multiple_of(n_b) {
        return Err(Error::shape("binary", format!("a has {n} elements, which is no multiple of b's {n_b}")));
    }
    let (a, b) = (check::f32s("binary", "a", a, n)?, check::f32s("binary", "b", b, n_b)?);
    let y = match op {
        Binary::Add => repeated(cpu, a, b, Add),
        Binary::Sub => repeated(cpu, a, b, Sub),
        Binary::Mul => repeated(cpu, a, b, Mul),
        Binary::Div => repeated(cpu, a, b, Div),
        Binary::Min => repeated(cpu, a, b, Min),
        Binary::Max => repeated(cpu, a, b, Max),
    }?;
    Ok(Buffer::from_f32(y))
}

/// Whole repetitions of b, several to a task.
fn repeated(cpu: &Cpu, a: &[f32], b: &[f32], f: impl Map<2, 1>) -> Result<Vec<f32>> {
    if a.len() == b.len() {
        let [y] = apply(&cpu.threads, cpu.level, a.len(), [a, b], f)?;
        return Ok(y);
    }
    if let &[b] = b {
        let [y] = apply(&cpu.threads, cpu.level, a.len(), [a], WithScalar(f, b))?;
        return Ok(y);
    }
    let chunk = b.len() * CHUNK.div_ceil(b.len().max(1));
    // SAFETY: the parts cover all of y, and every part is written whole.
    unsafe {
        super::threads::build_chunks(&cpu.threads, a.len(), chunk, |start, part| {
            for (i, y) in part.chunks_mut(b.len()).enumerate() {
                let a = &a[start + i * b.len()..][..b.len()];
                map_part(cpu.level, [a, b], [y], f);
            }
        })
    }
}

/// f(a, b) with the same b for all.
#[derive(Clone, Copy)]
struct WithScalar<F>(F, f32);

impl<F: Map<2, 1>> Map<1, 1> for WithScalar<F> {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [a]: [S::f32s; 1]) -> [S::f32s; 1] {
        self.0.map(simd, [a, simd.splat_f32s(self.1)])
    }
}

#[derive(Clone, Copy)]
struct AddScaled(f32);

impl Map<2, 1> for AddScaled {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [y, x]: [S::f32s; 2]) -> [S::f32s; 1] {
        [simd.mul_add_f32s(simd.splat_f32s(self.0), x, y)]
    }
}

/// y ← y + α·x, in place
pub(crate) fn add_scaled(cpu: &Cpu, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
    let x = check::f32s("add_scaled", "x", x, n)?;
    let y = check::f32s_mut("add_scaled", "y", y, n)?;
    update(&cpu.threads, cpu.level, [y], [x], AddScaled(alpha));
    Ok(())
}
