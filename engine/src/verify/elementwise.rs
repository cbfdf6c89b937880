//! Unary and binary functions, scaled addition, dropout, SwiGLU, casts.
use super::compare::{Compared, ErrorScale, out};
use super::{Data, Suite, f32s, weights};
use crate::backend::{Backend, Binary, Elementwise, Unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::random::Stream;
use crate::reference::Reference;

const SIZES: [usize; 6] = [1, 7, 33, 129, 257, 5001];

const UNARY: [Unary; 12] = [
    Unary::Affine(-1.5, 0.25),
    Unary::Exp,
    Unary::Ln,
    Unary::Sqrt,
    Unary::Square,
    Unary::Abs,
    Unary::Relu,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::LogSigmoid,
    Unary::Silu,
    Unary::Clamp(-0.5, 0.75),
];

const BINARY: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];

/// More than 65,535 workgroups of 256 elements, and no multiple of anything.
const LARGE: usize = 17_000_003;

pub(super) fn cases(suite: &mut Suite) {
    for op in UNARY {
        for n in SIZES {
            unary(suite, op, n);
        }
    }
    for op in BINARY {
        for (n, n_b) in [(1, 1), (33, 33), (63, 7), (257, 1), (65 * 129, 129), (5001, 5001)] {
            binary(suite, op, n, n_b);
        }
    }
    for n in SIZES {
        add_scaled(suite, n);
        swiglu(suite, n);
        for p in [0.0, 0.1, 0.5, 0.9] {
            dropout(suite, n, p);
        }
        for (from, to) in [(DType::F32, DType::BF16), (DType::F32, DType::F16), (DType::BF16, DType::F32)] {
            cast(suite, n, from, to);
        }
        for (from, to) in [(DType::F16, DType::F32), (DType::F16, DType::BF16), (DType::BF16, DType::F16)] {
            cast(suite, n, from, to);
        }
        cast(suite, n, DType::F32, DType::F32);
    }
    rounding(suite);
}

/// The functions' domain, with kinks, bounds and values so large that a careless formula overflows.
fn inputs(op: Unary, n: usize) -> Vec<f32> {
    let x = Data::new(n).scaled(n, 3.0);
    let special = match op {
        Unary::Ln | Unary::Sqrt => return x.iter().map(|x| x.abs() + 1e-3).collect(),
        Unary::Exp => vec![0.0, 80.0, -80.0],
        Unary::Square => vec![0.0, 1e15],
        Unary::Affine(..) | Unary::Abs | Unary::Relu => vec![0.0, 1e30, -1e30],
        Unary::Clamp(lo, hi) => vec![lo, hi, 0.0],
        Unary::Tanh | Unary::Sigmoid | Unary::LogSigmoid | Unary::Silu => {
            vec![0.0, 20.0, -20.0, 95.0, -95.0, 1e4, -1e4]
        }
    };
    let special = special.iter().copied().chain(std::iter::repeat(f32::NAN));
    // every third element from the list of special values, as long as it lasts
    let mut special = special.take_while(|x| !x.is_nan());
    x.iter().enumerate().map(|(i, &x)| if i % 3 == 2 { special.next().unwrap_or(x) } else { x }).collect()
}

fn unary(suite: &mut Suite, op: Unary, n: usize) {
    let x = inputs(op, n);
    let dy = Data::new(n + 1).normals(n);
    suite.case(format!("unary {op:?} n={n}"), |d| {
        Ok(vec![out("y", d.unary(op, &f32s(d, &x)?, n)?, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("unary_backward {op:?} n={n}"), |d| {
        let y = Reference.unary(op, &f32s(&Reference, &x)?, n)?;
        let y = f32s(d, y.f32()?)?;
        let dx = d.unary_backward(op, &f32s(d, &x)?, &y, &f32s(d, &dy)?, n)?;
        Ok(vec![out("dx", dx, ErrorScale::AtLeast(0.0))])
    });
}

fn binary(suite: &mut Suite, op: Binary, n: usize, n_b: usize) {
    let mut data = Data::new(n);
    let (a, mut b) = (data.scaled(n, 2.0), data.scaled(n_b, 2.0));
    if op == Binary::Div {
        b.iter_mut().for_each(|b| *b += 0.1f32.copysign(*b));
    }
    suite.case(format!("binary {op:?} n={n} n_b={n_b}"), |d| {
        let y = d.binary(op, &f32s(d, &a)?, &f32s(d, &b)?, n, n_b)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(0.0))])
    });
}

fn add_scaled(suite: &mut Suite, n: usize) {
    let mut data = Data::new(n);
    let (x, y) = (data.normals(n), data.normals(n));
    suite.case(format!("add_scaled n={n}"), |d| {
        let mut y = f32s(d, &y)?;
        d.add_scaled(&mut y, -0.7, &f32s(d, &x)?, n)?;
        d.add_scaled(&mut y, 2.0, &f32s(d, &x)?, n)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(1.0))])
    });
    suite.case(format!("add_scaled n={n}, y shared with another owner"), |d| {
        let before = f32s(d, &y)?;
        let mut after = before.clone();
        d.add_scaled(&mut after, 0.5, &before, n)?;
        Ok(vec![out("y before", before, ErrorScale::Exact), out("y after", after, ErrorScale::AtLeast(1.0))])
    });
}

fn swiglu(suite: &mut Suite, n: usize) {
    let mut data = Data::new(n);
    let (gate, up, dy) = (inputs(Unary::Silu, n), data.normals(n), data.normals(n));
    suite.case(format!("swiglu n={n}"), |d| {
        let y = d.swiglu(&f32s(d, &gate)?, &f32s(d, &up)?, n)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("swiglu_backward n={n}"), |d| {
        let (dgate, dup) = d.swiglu_backward(&f32s(d, &dy)?, &f32s(d, &gate)?, &f32s(d, &up)?, n)?;
        Ok(vec![out("dgate", dgate, ErrorScale::AtLeast(0.0)), out("dup", dup, ErrorScale::AtLeast(0.0))])
    });
}

fn dropout(suite: &mut Suite, n: usize, p: f32) {
    // nowhere near zero, so that an element kept by one and dropped by the other is far outside the tolerance
    let x: Vec<f32> = Data::new(n).normals(n).iter().map(|x| x + 1f32.copysign(*x)).collect();
    let stream = Stream::new(n as u64, 5);
    suite.case(format!("dropout n={n} p={p}"), |d| {
        Ok(vec![out("y", d.dropout(&f32s(d, &x)?, n, p, stream)?, ErrorScale::AtLeast(0.0))])
    });
}

fn cast(suite: &mut Suite, n: usize, from: DType, to: DType) {
    let x = Data::new(n).scaled(n, 10.0);
    suite.case(format!("cast {} to {} n={n}", from.name(), to.name()), |d| cast_exactly(d, &x, from, to));
}

fn cast_exactly(d: &dyn Backend, x: &[f32], from: DType, to: DType) -> Result<Vec<Compared>> {
    Ok(vec![out("y", d.cast(&weights(d, x, from)?, x.len(), to)?, ErrorScale::Exact)])
}

/// Ties go to the even neighbour; the small numbers of f16 (below 2⁻¹⁴) keep their value.
fn rounding(suite: &mut Suite) {
    let ulp = |bits: i32| 2f32.powi(-bits);
    let halfway = |bits: i32| -> Vec<f32> {
        let near = |x: f32| [x, x + x * ulp(20), x - x * ulp(20), -x];
        (0..8).flat_map(|i| near(1.0 + (i as f32 + 0.5) * ulp(bits))).collect()
    };
    suite.case("cast float32 to bfloat16, ties", |d| cast_exactly(d, &halfway(7), DType::F32, DType::BF16));
    suite.case("cast float32 to float16, ties", |d| cast_exactly(d, &halfway(10), DType::F32, DType::F16));
    let small: Vec<f32> = (0..33).map(|i| (i as f32 - 16.0) * 0.75 * ulp(24)).collect();
    suite.case("cast float32 to float16, below 2^-14", |d| cast_exactly(d, &small, DType::F32, DType::F16));
    suite.case("cast float16 to float32, below 2^-14", |d| cast_exactly(d, &small, DType::F16, DType::F32));
    let large = [65504.0, -65504.0, 65503.0, 3e38, -3e38, 1e-30];
    suite.case("cast float32 to bfloat16, large", |d| cast_exactly(d, &large, DType::F32, DType::BF16));
    suite.case("cast float32 to float16, large", |d| cast_exactly(d, &large[..3], DType::F32, DType::F16));
}

pub(super) fn large_cases(suite: &mut Suite) {
    let n = LARGE;
    // cheap to make, different in every block
    let x: Vec<f32> = (0..n).map(|i| (i % 8191) as f32 / 4096.0 - 0.9).collect();
    suite.case(format!("unary Silu n={n}"), |d| {
        Ok(vec![out("y", d.unary(Unary::Silu, &f32s(d, &x)?, n)?, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("binary Mul n={n}"), |d| {
        let x = f32s(d, &x)?;
        Ok(vec![out("y", d.binary(Binary::Mul, &x, &x, n, n)?, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("add_scaled n={n}"), |d| {
        let (mut y, x) = (d.zeros(n)?, f32s(d, &x)?);
        d.add_scaled(&mut y, 0.5, &x, n)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("cast float32 to bfloat16 n={n}"), |d| cast_exactly(d, &x, DType::F32, DType::BF16));
    suite.case(format!("dropout n={n}"), |d| {
        let y = d.dropout(&f32s(d, &x)?, n, 0.25, Stream::new(1, 2))?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("sum_squares n={n}"), |d| {
        let sum = d.sum_squares(&[(&f32s(d, &x)?, n)])?;
        Ok(vec![out("sum", f32s(d, &[sum[0] as f32])?, ErrorScale::AtLeast(0.0))])
    });
}
