//! y = f(x) for the functions of `Unary`, and below it dx = dy · f'(x).
use super::elementwise::{Map, apply};
use super::{Cpu, check, math};
use crate::backend::Unary;
use crate::buffer::Buffer;
use crate::error::Result;
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

/// y[i] = f(x[i])
pub(crate) fn unary(cpu: &Cpu, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
    let x = check::f32s("unary", "x", x, n)?;
    let (threads, level) = (&cpu.threads, cpu.level);
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

/// dx[i] = dy[i] · f'(x[i]), where the forward was y[i] = f(x[i])
pub(crate) fn unary_backward(cpu: &Cpu, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
    let x = check::f32s("unary_backward", "x", x, n)?;
    let y = check::f32s("unary_backward", "y", y, n)?;
    let inputs = [x, y, check::f32s("unary_backward", "dy", dy, n)?];
    let (threads, level) = (&cpu.threads, cpu.level);
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
