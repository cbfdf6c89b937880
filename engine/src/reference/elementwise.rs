//! Ops that treat each element alone: unary functions with their derivatives, binary functions,
//! scaled addition, dropout, SwiGLU.
use super::Reference;
use super::check::{values, values_mut};
use crate::backend::{Binary, Elementwise, Unary};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::random::Stream;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The larger of both; NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller of both; NaN if either is.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

impl Elementwise for Reference {
    /// y[i] = f(x[i])
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let f = |x: f64| match op {
            Unary::Affine(a, b) => f64::from(a) * x + f64::from(b),
            Unary::Exp => x.exp(),
            Unary::Ln => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Square => x * x,
            Unary::Abs => x.abs(),
            // NaN stays NaN: a diverged loss must not turn into a harmless one.
            Unary::Relu => larger(x, 0.0),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => sigmoid(x),
            // log σ(x) = min(x, 0) − log(1 + e^−|x|)
            Unary::LogSigmoid => x.min(0.0) - (-x.abs()).exp().ln_1p(),
            Unary::Silu => x * sigmoid(x),
            Unary::Clamp(lo, hi) => smaller(larger(x, f64::from(lo)), f64::from(hi)),
        };
        Ok(Buffer::from_f32(values("unary", "x", x, n)?.iter().map(|&x| f(f64::from(x)) as f32).collect()))
    }

    /// dx[i] = dy[i] · f'(x[i]), where the forward was y[i] = f(x[i])
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        let derivative = |x: f64| match op {
            Unary::Affine(a, _) => f64::from(a),
            Unary::Exp => x.exp(),
            Unary::Ln => 1.0 / x,
            Unary::Sqrt => 0.5 / x.sqrt(),
            Unary::Square => 2.0 * x,
            // 0 where the function has a kink, as PyTorch has it
            Unary::Abs if x == 0.0 => 0.0,
            Unary::Abs => x.signum(),
            Unary::Relu => f64::from(u8::from(x > 0.0)),
            // 1 − tanh²(x)
            Unary::Tanh => 1.0 - x.tanh() * x.tanh(),
            // σ(x) (1 − σ(x)), where 1 − σ(x) = σ(−x)
            Unary::Sigmoid => sigmoid(x) * sigmoid(-x),
            // 1 − σ(x)
            Unary::LogSigmoid => sigmoid(-x),
            // σ(x) + x σ(x) (1 − σ(x))
            Unary::Silu => sigmoid(x) * (1.0 + x * sigmoid(-x)),
            Unary::Clamp(lo, hi) => f64::from(u8::from(x >= f64::from(lo) && x <= f64::from(hi))),
        };
        values("unary_backward", "y", y, n)?;
        let (x, dy) = (values("unary_backward", "x", x, n)?, values("unary_backward", "dy", dy, n)?);
        Ok(Buffer::from_f32(
            x.iter().zip(dy).map(|(&x, &dy)| (f64::from(dy) * derivative(f64::from(x))) as f32).collect(),
        ))
    }

    /// y[i] = f(a[i], b[i mod n_b])
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        if n_b == 0 || !n.is_multiple_of(n_b) {
            return Err(Error::shape("binary", format!("a has {n} elements, which is no multiple of b's {n_b}")));
        }
        let f = |a: f64, b: f64| match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Min => smaller(a, b),
            Binary::Max => larger(a, b),
        };
        let (a, b) = (values("binary", "a", a, n)?, values("binary", "b", b, n_b)?);
        Ok(Buffer::from_f32(a.iter().zip(b.iter().cycle()).map(|(&a, &b)| f(a.into(), b.into()) as f32).collect()))
    }

    /// y[i] ← y[i] + α x[i]
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        let x = values("add_scaled", "x", x, n)?;
        for (y, &x) in values_mut("add_scaled", "y", y, n)?.iter_mut().zip(x) {
            *y = (f64::from(*y) + f64::from(alpha) * f64::from(x)) as f32;
        }
        Ok(())
    }

    /// Dropout (N. Srivastava et al., JMLR 2014), inverted: what stays is scaled up, so that evaluation needs no change.
    /// y[i] = x[i] / (1 − p) where u[i] ≥ p, else 0; u[i] is number i of the stream, uniform in [0, 1).
    /// The backward is the same function of dy.
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
        }
        let keep = 1.0 - f64::from(p);
        let y = values("dropout", "x", x, n)?
            .iter()
            .enumerate()
            .map(|(i, &x)| if stream.uniform(i as u64) >= p { (f64::from(x) / keep) as f32 } else { 0.0 });
        Ok(Buffer::from_f32(y.collect()))
    }

    /// SwiGLU (N. Shazeer, "GLU variants improve transformer", 2020, equation 6), after its two products.
    /// y = silu(gate) ∘ up, silu(x) = x σ(x)
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let (gate, up) = (values("swiglu", "gate", gate, n)?, values("swiglu", "up", up, n)?);
        let f = |g: f64, u: f64| g * sigmoid(g) * u;
        Ok(Buffer::from_f32(gate.iter().zip(up).map(|(&g, &u)| f(g.into(), u.into()) as f32).collect()))
    }

    /// The forward was y = g σ(g) ∘ u, so dg = dy ∘ u ∘ σ(g) (1 + g (1 − σ(g))) and du = dy ∘ g σ(g). Returns (dg, du).
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        let op = "swiglu_backward";
        let (dy, gate, up) = (values(op, "dy", dy, n)?, values(op, "gate", gate, n)?, values(op, "up", up, n)?);
        let (mut dgate, mut dup) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            let (dy, g, u) = (f64::from(dy[i]), f64::from(gate[i]), f64::from(up[i]));
            dgate.push((dy * u * sigmoid(g) * (1.0 + g * sigmoid(-g))) as f32);
            dup.push((dy * g * sigmoid(g)) as f32);
        }
        Ok((Buffer::from_f32(dgate), Buffer::from_f32(dup)))
    }
}
