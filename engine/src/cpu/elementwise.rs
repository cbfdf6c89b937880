//! Kernels that treat every element alike: y = f(x) for the functions of `Unary`, and below them dx = dy · f'(x);
//! y[i] = f(a[i], b[i mod |b|]) for those of `Binary`; y ← y + α·x; dropout; SwiGLU. On a GPU the
//! first are `unary.wgsl`, `unary_backward.wgsl` and `binary.wgsl`.
use super::map::{CHUNK, Map, apply, map_part, update};
use super::threads::build_chunks;
use super::{Cpu, check, math};
use crate::backend::{Binary, Elementwise, Unary};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::random::Stream;
use pulp::Simd;

/// The type of a parameter.
macro_rules! number {
    ($_:ident) => {
        f32
    };
}

/// One unit struct (or one with f32 parameters) for each function of `$inputs` numbers.
macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident $(($($field:ident),*))? ($inputs:literal): |$simd:ident, $x:pat_param| $y:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name $(($(number!($field)),*))?;
        impl Map<$inputs, 1> for $name {
            #[inline(always)]
            fn map<S: Simd>(self, $simd: S, $x: [S::f32s; $inputs]) -> [S::f32s; 1] {
                $(let $name($($field),*) = self; $(let $field = $simd.splat_f32s($field);)*)?
                [$y]
            }
        }
    )*};
}
maps! {
    Affine(a, b) (1): |s, [x]| s.mul_add_f32s(a, x, b);
    Exp (1): |s, [x]| math::exp(s, x);
    Ln (1): |s, [x]| math::ln(s, x);
    Sqrt (1): |s, [x]| s.sqrt_f32s(x);
    Square (1): |s, [x]| s.mul_f32s(x, x);
    Abs (1): |s, [x]| s.abs_f32s(x);
    Relu (1): |s, [x]| math::max(s, s.splat_f32s(0.0), x);
    Tanh (1): |s, [x]| math::tanh(s, x);
    Sigmoid (1): |s, [x]| math::sigmoid(s, x);
    LogSigmoid (1): |s, [x]| math::log_sigmoid(s, x);
    Silu (1): |s, [x]| s.mul_f32s(x, math::sigmoid(s, x));
    Clamp(lo, hi) (1): |s, [x]| math::min(s, hi, math::max(s, lo, x));
}

// Derivatives: inputs x, y = f(x), dy.
maps! {
    Scale(a) (3): |s, [_x, _y, dy]| s.mul_f32s(a, dy);
    ExpBackward (3): |s, [_x, y, dy]| s.mul_f32s(dy, y);
    LnBackward (3): |s, [x, _y, dy]| s.div_f32s(dy, x);
    /// f' = 1 / (2 y)
    SqrtBackward (3): |s, [_x, y, dy]| s.div_f32s(s.mul_f32s(s.splat_f32s(0.5), dy), y);
    SquareBackward (3): |s, [x, _y, dy]| s.mul_f32s(s.add_f32s(x, x), dy);
    /// f' = sign(x), 0 at 0
    AbsBackward (3): |s, [x, _y, dy]| {
        let zero = s.splat_f32s(0.0);
        let minus = s.select_f32s(s.less_than_f32s(x, zero), s.sub_f32s(zero, dy), zero);
        s.select_f32s(s.greater_than_f32s(x, zero), dy, minus)
    };
    ReluBackward (3): |s, [x, _y, dy]| {
        let zero = s.splat_f32s(0.0);
        s.select_f32s(s.greater_than_f32s(x, zero), dy, zero)
    };
    /// f' = 1 − y²
    TanhBackward (3): |s, [_x, y, dy]| {
        let slope = s.sub_f32s(s.splat_f32s(1.0), s.mul_f32s(y, y));
        s.mul_f32s(dy, slope)
    };
    /// f' = σ(x) σ(−x)
    SigmoidBackward (3): |s, [x, y, dy]| {
        let other = math::sigmoid(s, s.sub_f32s(s.splat_f32s(0.0), x));
        s.mul_f32s(dy, s.mul_f32s(y, other))
    };
    /// f' = σ(−x)
    LogSigmoidBackward (3): |s, [x, _y, dy]| s.mul_f32s(dy, math::sigmoid(s, s.sub_f32s(s.splat_f32s(0.0), x)));
    /// f' = σ(x) (1 + x σ(−x))
    SiluBackward (3): |s, [x, _y, dy]| {
        let other = math::sigmoid(s, s.sub_f32s(s.splat_f32s(0.0), x));
        let inner = s.mul_add_f32s(x, other, s.splat_f32s(1.0));
        s.mul_f32s(dy, s.mul_f32s(math::sigmoid(s, x), inner))
    };
    ClampBackward(lo, hi) (3): |s, [x, _y, dy]| {
        let zero = s.splat_f32s(0.0);
        let above = s.select_f32s(s.greater_than_or_equal_f32s(x, lo), dy, zero);
        s.select_f32s(s.less_than_or_equal_f32s(x, hi), above, zero)
    };
}

macro_rules! maps_of_two {
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

maps_of_two! {
    Add: |s, a, b| s.add_f32s(a, b);
    Sub: |s, a, b| s.sub_f32s(a, b);
    Mul: |s, a, b| s.mul_f32s(a, b);
    Div: |s, a, b| s.div_f32s(a, b);
    // math's take b where either is NaN; where a is, the result must be.
    Min: |s, a, b| s.select_f32s(s.equal_f32s(a, a), math::min(s, a, b), a);
    Max: |s, a, b| s.select_f32s(s.equal_f32s(a, a), math::max(s, a, b), a);
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
        build_chunks(&cpu.threads, a.len(), chunk, |start, part| {
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

#[derive(Clone, Copy)]
struct Swiglu;

impl Map<2, 1> for Swiglu {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [gate, up]: [S::f32s; 2]) -> [S::f32s; 1] {
        let silu = simd.mul_f32s(gate, math::sigmoid(simd, gate));
        [simd.mul_f32s(silu, up)]
    }
}

#[derive(Clone, Copy)]
struct SwigluBackward;

impl Map<3, 2> for SwigluBackward {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [dy, gate, up]: [S::f32s; 3]) -> [S::f32s; 2] {
        let one = simd.splat_f32s(1.0);
        let s = math::sigmoid(simd, gate);
        let silu = simd.mul_f32s(gate, s);
        // silu' = σ + silu (1 − σ)
        let slope = simd.mul_add_f32s(silu, simd.sub_f32s(one, s), s);
        [simd.mul_f32s(simd.mul_f32s(dy, up), slope), simd.mul_f32s(dy, silu)]
    }
}

impl Elementwise for Cpu {
    /// y[i] = f(x[i])
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let x = check::f32s("unary", "x", x, n)?;
        let (threads, level) = (&self.threads, self.level);
        let [y] = match op {
            Unary::Affine(a, b) => apply(threads, level, n, [x], Affine(a, b)),
            Unary::Exp => apply(threads, level, n, [x], Exp),
            Unary::Ln => apply(threads, level, n, [x], Ln),
            Unary::Sqrt => apply(threads, level, n, [x], Sqrt),
            Unary::Square => apply(threads, level, n, [x], Square),
            Unary::Abs => apply(threads, level, n, [x], Abs),
            Unary::Relu => apply(threads, level, n, [x], Relu),
            Unary::Tanh => apply(threads, level, n, [x], Tanh),
            Unary::Sigmoid => apply(threads, level, n, [x], Sigmoid),
            Unary::LogSigmoid => apply(threads, level, n, [x], LogSigmoid),
            Unary::Silu => apply(threads, level, n, [x], Silu),
            Unary::Clamp(lo, hi) => apply(threads, level, n, [x], Clamp(lo, hi)),
        }?;
        Ok(Buffer::from_f32(y))
    }

    /// dx[i] = dy[i] · f'(x[i]), where the forward was y[i] = f(x[i])
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        let x = check::f32s("unary_backward", "x", x, n)?;
        let y = check::f32s("unary_backward", "y", y, n)?;
        let inputs = [x, y, check::f32s("unary_backward", "dy", dy, n)?];
        let (threads, level) = (&self.threads, self.level);
        let [dx] = match op {
            Unary::Affine(a, _) => apply(threads, level, n, inputs, Scale(a)),
            Unary::Exp => apply(threads, level, n, inputs, ExpBackward),
            Unary::Ln => apply(threads, level, n, inputs, LnBackward),
            Unary::Sqrt => apply(threads, level, n, inputs, SqrtBackward),
            Unary::Square => apply(threads, level, n, inputs, SquareBackward),
            Unary::Abs => apply(threads, level, n, inputs, AbsBackward),
            Unary::Relu => apply(threads, level, n, inputs, ReluBackward),
            Unary::Tanh => apply(threads, level, n, inputs, TanhBackward),
            Unary::Sigmoid => apply(threads, level, n, inputs, SigmoidBackward),
            Unary::LogSigmoid => apply(threads, level, n, inputs, LogSigmoidBackward),
            Unary::Silu => apply(threads, level, n, inputs, SiluBackward),
            Unary::Clamp(lo, hi) => apply(threads, level, n, inputs, ClampBackward(lo, hi)),
        }?;
        Ok(Buffer::from_f32(dx))
    }

    /// y[i] = f(a[i], b[i mod n_b])
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        if n_b == 0 && n > 0 || n_b > 0 && !n.is_multiple_of(n_b) {
            return Err(Error::shape("binary", format!("a has {n} elements, which is no multiple of b's {n_b}")));
        }
        let (a, b) = (check::f32s("binary", "a", a, n)?, check::f32s("binary", "b", b, n_b)?);
        let y = match op {
            Binary::Add => repeated(self, a, b, Add),
            Binary::Sub => repeated(self, a, b, Sub),
            Binary::Mul => repeated(self, a, b, Mul),
            Binary::Div => repeated(self, a, b, Div),
            Binary::Min => repeated(self, a, b, Min),
            Binary::Max => repeated(self, a, b, Max),
        }?;
        Ok(Buffer::from_f32(y))
    }

    /// y ← y + α·x, in place
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        let x = check::f32s("add_scaled", "x", x, n)?;
        let y = check::f32s_mut("add_scaled", "y", y, n)?;
        update(&self.threads, self.level, [y], [x], AddScaled(alpha));
        Ok(())
    }

    /// Dropout (N. Srivastava et al., JMLR 2014), inverted: what stays is scaled up, so that evaluation needs no change.
    /// y[i] = x[i] / (1 − p) where u[i] ≥ p, else 0; u[i] is number i of the stream. Its own backward, applied to dy.
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
        }
        let x = check::f32s("dropout", "x", x, n)?;
        let scale = (1.0 / (1.0 - f64::from(p))) as f32;
        // SAFETY: every element of a part is written.
        let y = unsafe {
            build_chunks(&self.threads, n, 16 * 1024, |start, part| {
                for (i, (y, &x)) in part.iter_mut().zip(&x[start..]).enumerate() {
                    let keep = stream.uniform((start + i) as u64) >= p;
                    y.write(if keep { x * scale } else { 0.0 });
                }
            })?
        };
        Ok(Buffer::from_f32(y))
    }

    /// SwiGLU (N. Shazeer, "GLU variants improve transformer", 2020, equation 5): y = gate σ(gate) ∘ up
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let inputs = [check::f32s("swiglu", "gate", gate, n)?, check::f32s("swiglu", "up", up, n)?];
        let [y] = apply(&self.threads, self.level, n, inputs, Swiglu)?;
        Ok(Buffer::from_f32(y))
    }

    /// The forward was y = silu(gate) ∘ up, so dgate = dy ∘ up ∘ silu'(gate), dup = dy ∘ silu(gate).
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        let op = "swiglu_backward";
        let inputs = [check::f32s(op, "dy", dy, n)?, check::f32s(op, "gate", gate, n)?, check::f32s(op, "up", up, n)?];
        let [dgate, dup] = apply(&self.threads, self.level, n, inputs, SwigluBackward)?;
        Ok((Buffer::from_f32(dgate), Buffer::from_f32(dup)))
    }
}
