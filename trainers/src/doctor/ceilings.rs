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
/// Results of a product that are compared with what they have to be.
const LOOKED_AT: usize = 1000;
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
    /// Takes about a second. None where what was timed came out wrong: a device that computes nothing is endlessly fast.
    pub fn measure(device: &dyn Backend, is_software: bool) -> Result<Option<Ceilings>> {
        let Some(bytes_per_s) = copy_rate(device, if is_software { 4 << 20 } else { 16 << 20 })? else {
            return Ok(None);
        };
        let mut n = 256;
        loop {
            let Some(flops_per_s) = product_rate(device, n)? else { return Ok(None) };
            let time = 2.0 * (n as f64).powi(3) / flops_per_s;
            if time > LONG_ENOUGH || n >= LARGEST {
                return Ok(Some(Ceilings { bytes_per_s, flops_per_s, n }));
            }
            n *= 2;
        }
    }
}

/// Bytes a second of y ← y + ½ x with n ones in x, or None where y is not half as many as there were sums.
fn copy_rate(device: &dyn Backend, n: usize) -> Result<Option<f64>> {
    let x = device.upload(Host::F32(vec![1.0; n]))?;
    let (mut y, mut sums) = (device.zeros(n)?, 0);
    let time = seconds(device, || {
        sums += 1;
        Ok(device.add_scaled(&mut y, 0.5, &x, n)?)
    })?;
    let is_right = device.download_f32(&[&y])?.iter().flatten().all(|&y| y == sums as f32 / 2.0);
    Ok(is_right.then_some(12.0 * n as f64 / time))
}

/// Operations a second of an n × n product of small integers over eight, which is exact; None where one of a
/// thousand results is not right.
fn product_rate(device: &dyn Backend, n: usize) -> Result<Option<f64>> {
    let value = |step: usize, i: usize| ((i * step) % 17) as f32 / 8.0 - 1.0;
    let values = |step: usize| -> engine::Result<Buffer> {
        device.upload(Host::F32((0..n * n).map(|i| value(step, i)).collect()))
    };
    let (a, b) = (values(3)?, values(5)?);
    let p = Product { layout: Layout::NT, m: n, n, k: n, alpha: 1.0 };
    let mut product = None;
    let time = seconds(device, || {
        product = Some(device.matmul(p, &a, &b, None)?);
        Ok(())
    })?;
    let found = match &product {
        Some(product) => device.download_f32(&[product])?.concat(),
        None => Vec::new(),
    };
    let expected = |at: usize| (0..n).map(|l| value(3, at / n * n + l) * value(5, at % n * n + l)).sum::<f32>();
    let is_right = (0..n * n).step_by(n * n / LOOKED_AT + 1).all(|at| found.get(at) == Some(&expected(at)));
    Ok(is_right.then_some(2.0 * (n as f64).powi(3) / time))
}

/// The table of all devices.
pub fn describe(found: &[Found], ceilings: &[Option<Ceilings>]) -> String {
    let mut table =
        Table::new("ceilings, measured now", &["--device", "copy, GB/s", "float32 product, GFLOP/s", "at n × n"]);
    for (device, c) in found.iter().zip(ceilings) {
        let Some(c) = c else {
            table.row(&[&device.flag, "no rate: the values are wrong"]);
            continue;
        };
        let (bytes, flops) = (format!("{:.1}", c.bytes_per_s / 1e9), format!("{:.1}", c.flops_per_s / 1e9));
        table.row(&[&device.flag, &bytes, &flops, &c.n.to_string()]);
    }
    table.to_string()
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use engine::cpu::Cpu;
    use engine::gpu::{AdapterSelect, Gpu, GpuOptions};

    /// A device that computes nothing has no rate; one that computes has.
    #[test]
    fn no_rate_of_wrong_values() {
        let cpu = Cpu::new(Some(1)).unwrap();
        assert!(copy_rate(&*cpu, 1000).unwrap().is_some_and(|rate| rate > 0.0));
        assert!(product_rate(&*cpu, 96).unwrap().is_some_and(|rate| rate > 0.0));
        let Ok(gpu) = Gpu::open_with(AdapterSelect::Software, GpuOptions { count_only: true, ..Default::default() })
        else {
            assert!(std::env::var_os("CI").is_none(), "no software adapter");
            return eprintln!("SKIPPED: no software adapter");
        };
        assert_eq!((copy_rate(&*gpu, 1000).unwrap(), product_rate(&*gpu, 96).unwrap()), (None, None));
        assert_eq!(Ceilings::measure(&*gpu, true).unwrap(), None);
    }
}
