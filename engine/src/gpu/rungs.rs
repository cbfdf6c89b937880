//! Which kernel takes a product, and whether its depth is cut into slices.
//!
//! Without measurements the choice follows from the shape. With `GpuOptions::tune` the kernels that add along k in the same
//! order ([`SAME_ORDER`]) are timed once for each class of shapes, and the fastest is remembered, on disk where
//! `GpuOptions::cache` names a directory. All of them give the same bits (those that do not on some device are left out),
//! so that no result depends on what was measured.
use super::adapter::Cooperative;
use super::cache::Cache;
use super::{Gpu, lock};
use crate::backend::{Layout, Product};
use crate::buffer::Host;
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::time::Instant;

/// Kernels of the matrix product, slowest first; shaders/README.md tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// `matmul_naive`: a thread computes an output.
    Naive,
    /// `matmul_tiled`: a workgroup shares tiles of 16 × 16; for small shapes.
    Tiled,
    /// `matmul_register`: a thread keeps 4 × 4 outputs in registers, a workgroup 64 × 64.
    RegisterTiled,
    /// `matmul_blocked`: 8 × 8 outputs a thread, 128 × 128 a workgroup; the next tile is fetched while one is multiplied.
    Blocked,
    /// Blocked with tiles twice as deep.
    BlockedDeep,
    /// For at most eight rows.
    FewRows,
    /// Register-tiled without workgroup memory, for software adapters; shapes in multiples of four.
    Direct,
    /// Of f16 operands on matrix units, with f32 sums.
    Cooperative,
}

/// The rungs whose sums run along k one by one from 0: they differ in speed only.
pub const SAME_ORDER: [Rung; 4] = [Rung::Tiled, Rung::RegisterTiled, Rung::Blocked, Rung::BlockedDeep];

/// All of them.
pub(super) const RUNGS: [Rung; 8] = [
    Rung::Naive,
    Rung::Tiled,
    Rung::RegisterTiled,
    Rung::Blocked,
    Rung::BlockedDeep,
    Rung::FewRows,
    Rung::Direct,
    Rung::Cooperative,
];

/// How operands may lie.
pub(super) const LAYOUTS: [Layout; 3] = [Layout::NN, Layout::NT, Layout::TN];

impl Rung {
    /// What takes a product where a device does not take this one.
    fn simpler(self) -> Option<Rung> {
        match self {
            Rung::Naive => None,
            Rung::Tiled => Some(Rung::Naive),
            Rung::RegisterTiled | Rung::FewRows => Some(Rung::Tiled),
            Rung::Blocked | Rung::Direct | Rung::Cooperative => Some(Rung::RegisterTiled),
            Rung::BlockedDeep => Some(Rung::Blocked),
        }
    }
}

/// A product as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub layout: Layout,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub b_type: DType,
    /// B is f32 and everything comes in fours.
    pub in_fours: bool,
}

/// Workgroups that keep a device busy, and the least depth of a slice.
const BUSY: usize = 128;
const SLICE: usize = 256;
const MOST_SLICES: usize = 16;

/// Slices of the depth for a product of this many workgroups: a function of the shape alone.
pub(super) fn slices(workgroups: usize, k: usize) -> usize {
    (BUSY / workgroups.max(1)).min(k / SLICE).clamp(1, MOST_SLICES)
}

impl Gpu {
    /// The kernel for a product, unless the options name one: the best that the device takes.
    pub(super) fn rung(&self, s: Shape) -> Result<Rung> {
        let mut rung = self.best_rung(s)?;
        if self.options.rung.is_some() || self.options.count_only {
            return Ok(rung);
        }
        while !self.takes_rung(rung, s)? {
            match rung.simpler() {
                Some(simpler) => rung = simpler,
                // None is taken: the product says why.
                None => break,
            }
        }
        Ok(rung)
    }

    fn best_rung(&self, s: Shape) -> Result<Rung> {
        Ok(match self.options.rung {
            Some(Rung::Direct) if s.in_fours => Rung::Direct,
            Some(Rung::Cooperative) if self.takes_cooperative(s) => Rung::Cooperative,
            None if self.takes_cooperative(s) => Rung::Cooperative,
            None if self.is_software && s.in_fours => Rung::Direct,
            Some(Rung::FewRows) | None if s.m <= 8 => Rung::FewRows,
            Some(Rung::FewRows | Rung::Direct | Rung::Cooperative) => Rung::Tiled,
            Some(rung) => rung,
            None if s.m < 32 || s.n < 32 => Rung::Tiled,
            None if self.options.tune => self.measured(s)?,
            None => by_shape(s),
        })
    }

    /// The fastest of [`SAME_ORDER`] on shapes like this one.
    fn measured(&self, s: Shape) -> Result<Rung> {
        let class = Class::of(s);
        if let Some(rung) = lock(&self.choices).get(&class.name()) {
            return Ok(rung);
        }
        let rung = self.measure(class)?;
        lock(&self.choices).put(class.name(), rung, self.cache.as_ref());
        Ok(rung)
    }

    /// Runs each kernel on a product of the class; one that the device does not take, or that is not bit for bit the first, is out
    /// of the question.
    fn measure(&self, class: Class) -> Result<Rung> {
        let Class { layout, m, n, k, half } = class;
        let p = Product { layout, m, n, k, alpha: 1.0 };
        let values = |n: usize, step: usize| Host::F32((0..n).map(|i| ((i * step) % 61) as f32 / 32.0 - 1.0).collect());
        let a = self.upload_host(&values(m * k, 7))?;
        let b = self.upload_host(&values(n * k, 11))?;
        let b = if half { self.cast_of(&b, 0, n * k, DType::F16)? } else { b };
        let c = self.new_f32(m * n)?;
        let mut first: Option<Vec<u8>> = None;
        let mut best = (f64::INFINITY, by_shape(Shape { layout, m, n, k, b_type: DType::F32, in_fours: false }));
        let shape = Shape { layout, m, n, k, b_type: b.dtype(), in_fours: false };
        for rung in SAME_ORDER {
            if !self.takes_rung(rung, shape)? {
                continue;
            }
            self.product_with(rung, p, &a, &b, &c)?;
            let found = self.read(&[&c])?.pop().unwrap_or_default();
            if *first.get_or_insert_with(|| found.clone()) != found {
                continue;
            }
            for _ in 0..3 {
                let start = Instant::now();
                self.product_with(rung, p, &a, &b, &c)?;
                self.wait()?;
                let seconds = start.elapsed().as_secs_f64();
                if seconds < best.0 {
                    best = (seconds, rung);
                }
            }
        }
        Ok(best.1)
    }

    /// Whether matrix units may take the product: one with frozen f16 weights, y = x Wᵀ forward or dx = dy W backward.
    fn takes_cooperative(&self, s: Shape) -> bool {
        self.cooperative.is_some() && s.layout != Layout::TN && s.b_type == DType::F16
    }

    /// The first of these ways to use matrix units that the driver takes and that gives the right values.
    pub(super) fn first_right(&mut self, ways: &[Cooperative]) -> Result<Option<Cooperative>> {
        for &way in ways {
            self.cooperative = Some(way);
            match self.cooperative_is_right() {
                Ok(true) => return Ok(Some(way)),
                Ok(false) | Err(Error::Device { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether matrix units give the right values here: products of small integers, which have to be exact, in sizes that
    /// fill no tile, rows of A a factor of 2⁶⁰ apart.
    pub(super) fn cooperative_is_right(&self) -> Result<bool> {
        for layout in [Layout::NT, Layout::NN] {
            let p = Product { layout, m: 37, n: 71, k: 45, alpha: 0.5 };
            let power = |i: usize| if i.is_multiple_of(2) { (2f32).powi(-40) } else { (2f32).powi(20) };
            let a: Vec<f32> = (0..p.m * p.k).map(|s| ((s * 7) % 13) as f32 * power(s / p.k)).collect();
            let b: Vec<f32> = (0..p.n * p.k).map(|s| ((s * 5) % 17) as f32 - 8.0).collect();
            let b_at = |l: usize, j: usize| if layout == Layout::NT { b[j * p.k + l] } else { b[l * p.n + j] };
            let sum = |i: usize, j: usize| (0..p.k).map(|l| a[i * p.k + l] * b_at(l, j)).sum::<f32>();
            let c = self.new_f32(p.m * p.n)?;
            let device_b = self.upload_host(&Host::F32(b.clone()))?;
            let device_b = self.cast_of(&device_b, 0, b.len(), DType::F16)?;
            self.product_with(Rung::Cooperative, p, &self.upload_host(&Host::F32(a.clone()))?, &device_b, &c)?;
            let found: Vec<f32> =
                self.read(&[&c])?.pop().map_or_else(Vec::new, |bytes| bytemuck::pod_collect_to_vec(&bytes));
            let want: Vec<f32> = (0..p.m * p.n).map(|at| p.alpha * sum(at / p.n, at % p.n)).collect();
            if found != want {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was measured so far: classes of shapes and their kernels.
    pub fn measured_choices(&self) -> BTreeMap<String, Rung> {
        lock(&self.choices).known.clone()
    }
}

fn by_shape(s: Shape) -> Rung {
    if s.m.div_ceil(128) * s.n.div_ceil(128) >= 64 { Rung::Blocked } else { Rung::RegisterTiled }
}

/// Shapes that are measured as one: sizes rounded down to powers of two, at most 1024.
#[derive(Clone, Copy, Debug)]
struct Class {
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
    /// B is decoded as it is loaded.
    half: bool,
}

impl Class {
    fn of(s: Shape) -> Self {
        let round = |n: usize| 1 << n.clamp(1, 1024).ilog2();
        let half = s.b_type != DType::F32;
        Class { layout: s.layout, m: round(s.m), n: round(s.n), k: round(s.k), half }
    }
    fn name(self) -> String {
        let Class { layout, m, n, k, half } = self;
        format!("{layout:?} {m} {n} {k} {}", if half { "float16" } else { "float32" })
    }
}

/// Kernels by class of shapes.
#[derive(Debug, Default)]
pub(super) struct Choices {
    known: BTreeMap<String, Rung>,
}

const FILE: &str = "products.json";

impl Choices {
    /// What an earlier run measured; nothing where there is no such file, or one that makes no sense.
    pub(super) fn load(cache: Option<&Cache>) -> Self {
        let text = cache.and_then(|c| c.read(FILE)).unwrap_or_default();
        let stored: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
        let rung = |name: &str| SAME_ORDER.into_iter().find(|r| format!("{r:?}") == name);
        Choices { known: stored.into_iter().filter_map(|(class, name)| Some((class, rung(&name)?))).collect() }
    }

    fn get(&self, class: &str) -> Option<Rung> {
        self.known.get(class).copied()
    }

    fn put(&mut self, class: String, rung: Rung, cache: Option<&Cache>) {
        self.known.insert(class, rung);
        let names: BTreeMap<&str, String> = self.known.iter().map(|(c, r)| (c.as_str(), format!("{r:?}"))).collect();
        if let (Some(cache), Ok(text)) = (cache, serde_json::to_vec_pretty(&names)) {
            cache.write(FILE, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_workgroups_get_slices() {
        assert_eq!(slices(1, 1024), 4);
        assert_eq!(slices(9, 4096), 14);
        assert_eq!(slices(1, 1 << 20), 16);
        assert_eq!(slices(1, 511), 1);
        assert_eq!(slices(64, 512), 2);
        assert_eq!(slices(65, 1 << 20), 1);
        assert_eq!(slices(0, 0), 1);
    }

    #[test]
    fn nonsense_in_the_cache_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path(), "device");
        let mut choices = Choices::load(Some(&cache));
        choices.put("NT 64 64 64 float32".into(), Rung::Blocked, Some(&cache));
        assert_eq!(Choices::load(Some(&cache)).get("NT 64 64 64 float32"), Some(Rung::Blocked));
        assert_eq!(Choices::load(Some(&Cache::at(dir.path(), "another"))).known.len(), 0);
        cache.write(FILE, b"{\"NT 64 64 64 float32\": \"Direct\", \"x\": \"Blocked\"}");
        assert_eq!(
            Choices::load(Some(&cache)).known.into_iter().collect::<Vec<_>>(),
            [("x".to_string(), Rung::Blocked)]
        );
        cache.write(FILE, b"[1, 2");
        assert_eq!(Choices::load(Some(&cache)).known.len(), 0);
    }
}
