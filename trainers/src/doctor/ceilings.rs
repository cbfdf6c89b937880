//! The two speeds that bound every kernel: how fast a device moves numbers, and how fast it multiplies matrices.
use super::devices::Found;
use super::table::Table;
use crate::error::Result;
use engine::backend::{Backend, Layout, Product};
use engine::buffer::{Buffer, Host};
use std::time::Instant;

/// Rates of one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes read and written a second by y ← y + α x on vectors that fit no cache.
    pub bytes_per_s: f64,
    /// Operations a second of a float32 matrix product, at the largest size tried.
    pub flops_per_s: f64,
    /// That size: the matrices are n × n.
    pub n: usize,
}

/// Seconds that a measurement goes on before a rate is taken from it.
const LONG_ENOUGH: f64 = 0.1;
/// Rows and columns of the largest product tried.
const LARGEST: usize = 4096;

/// The least of three times of `work`, which is recorded and then waited for.
fn seconds(device: &dyn Backend, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    work()?;
    device.synchronize()?;
    for _ in 0..3 {
        let start = Instant::now();
        work()?;
        device.synchronize()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

impl Ceilings {
    /// Takes about a second.
    pub fn measure(device: &dyn Backend, is_software: bool) -> Result<Ceilings> {
        let n = if is_software { 4 << 20 } else { 16 << 20 };
        let x = device.zeros(n)?;
        let mut y = device.zeros(n)?;
        let time = seconds(device, || Ok(device.add_scaled(&mut y, 0.5, &x, n)?))?;
        let bytes_per_s = 12.0 * n as f64 / time;
        drop((x, y));
        let mut n = 256;
        loop {
            let flops_per_s = product_rate(device, n)?;
            let time = 2.0 * (n as f64).powi(3) / flops_per_s;
            if time > LONG_ENOUGH || n >= LARGEST {
                return Ok(Ceilings { bytes_per_s, flops_per_s, n });
            }
            n *= 2;
        }
    }
}

/// Operations a second of an n × n product, operands small integers over eight.
fn product_rate(device: &dyn Backend, n: usize) -> Result<f64> {
    let values = |step: usize| -> engine::Result<Buffer> {
        device.upload(Host::F32((0..n * n).map(|i| ((i * step) % 17) as f32 / 8.0 - 1.0).collect()))
    };
    let (a, b) = (values(3)?, values(5)?);
    let p = Product { layout: Layout::NT, m: n, n, k: n, alpha: 1.0 };
    let time = seconds(device, || Ok(device.matmul(p, &a, &b, None).map(|_| ())?))?;
    Ok(2.0 * (n as f64).powi(3) / time)
}

/// The table of all devices.
pub fn describe(found: &[Found], ceilings: &[Ceilings]) -> String {
    let mut table =
        Table::new("ceilings, measured now", &["--device", "copy, GB/s", "float32 product, GFLOP/s", "at n × n"]);
    for (device, c) in found.iter().zip(ceilings) {
        let (bytes, flops) = (format!("{:.1}", c.bytes_per_s / 1e9), format!("{:.1}", c.flops_per_s / 1e9));
        table.row(&[&device.flag, &bytes, &flops, &c.n.to_string()]);
    }
    table.to_string()
}
