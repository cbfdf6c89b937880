//! Weights packed once for many products: the order in which layout NT reads them.
//!
//! Sixteen rows of a weight W [n, k] (sixteen outputs) make a panel [k, 16]. A row of x then meets its weights from front to
//! back, at the speed of memory and with nothing to transpose. Weights of two bytes stay so, and quantised ones stay
//! quantised (the codes of `crate::codes`): they are decoded a block of sums at a time, in the first-level cache.
//!
//! Worked example: two outputs of three inputs, W = (1 2 3; 4 5 6), are one panel of three lines, each a column of W and 14 zeros:
//!
//! ```text
//! 1 4 0 0 …    2 5 0 0 …    3 6 0 0 …
//! ```
//!
//! Of codes of 4 bits with scale s = ½ and minimum m = −4, [`fold`] keeps 2⁴ s = 8 and m − 8 = −12: code 9 is ½ · 9 − 4 = ½, and
//! with the code in the fraction of the number 1, 8 · (1 + 9/16) − 12 = ½ as well.
use super::matmul::K_BLOCK;
use super::threads::{Shared, Threads, build};
use super::tile::{load, prefetch, store};
use super::weights::{HostWeights, bf16_to_f32, f16_to_f32};
use crate::buffer::DeviceMemory;
use crate::codes;
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use pulp::{Simd, WithSimd};

/// Outputs of a panel, on every machine.
pub(crate) const PANEL: usize = 16;

/// A packed weight [n, k]. Rows beyond n, up to whole panels, are zero.
#[derive(Clone, Debug)]
pub struct Panels {
    pub(crate) n: usize,
    pub(crate) k: usize,
    dtype: DType,
    values: PanelValues,
}

#[derive(Clone, Debug)]
enum PanelValues {
    /// [panels, k, 16]
    F32(Vec<f32>),
    /// [panels, k, 16], bf16 or f16 as bits
    Half(Vec<u16>),
    Codes(Words),
}

impl Panels {
    /// Packs a weight of n rows of k. Quantised rows are whole numbers of blocks ([`HostWeights::new`] sees to it).
    pub(crate) fn pack(threads: &Threads, weights: HostWeights, dtype: DType, n: usize, k: usize) -> Result<Panels> {
        let panels = n.div_ceil(PANEL);
        let size = panels.checked_mul(k * PANEL).ok_or_else(|| Error::shape("pack", format!("{n} × {k}")))?;
        let values = match weights {
            HostWeights::F32(w) => PanelValues::F32(interleaved(threads, w, n, k, size)?),
            HostWeights::F16(w) | HostWeights::Bf16(w) => PanelValues::Half(interleaved(threads, w, n, k, size)?),
            HostWeights::Blocks(quant, blocks) => PanelValues::Codes(packed_codes(threads, quant, blocks, n, k)),
            HostWeights::Packed(panels) => return Ok(panels.clone()),
        };
        Ok(Panels { n, k, dtype, values })
    }

    /// The f32 panels themselves; None where they must be decoded first.
    pub(crate) fn as_f32(&self) -> Option<&[f32]> {
        match &self.values {
            PanelValues::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Elements `from .. from + out.len()` of row `row` as f32, out of the lines of its panel.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize, from: usize, out: &mut [f32]) {
        let (first, r) = (row / PANEL * self.k + from, row % PANEL);
        match &self.values {
            PanelValues::F32(v) => column(&v[first * PANEL..], r, out, |x| x),
            PanelValues::Half(v) if self.dtype == DType::F16 => column(&v[first * PANEL..], r, out, f16_to_f32),
            PanelValues::Half(v) => column(&v[first * PANEL..], r, out, bf16_to_f32),
            PanelValues::Codes(words) => words.row(row, from, out),
        }
    }

    /// The codes of a quantised weight.
    pub(crate) fn as_words(&self) -> Option<&Words> {
        match &self.values {
            PanelValues::Codes(words) => Some(words),
            _ => None,
        }
    }
}

impl DeviceMemory for Panels {
    /// Of the weights as they were.
    fn dtype(&self) -> DType {
        self.dtype
    }
    fn what(&self) -> &'static str {
        "a packed weight"
    }
    fn is_packed(&self) -> bool {
        true
    }
}

/// Column `r` of lines of sixteen.
#[inline(always)]
fn column<T: Copy>(lines: &[T], r: usize, out: &mut [f32], widen: impl Fn(T) -> f32) {
    let (lines, _) = lines.as_chunks::<PANEL>();
    out.iter_mut().zip(lines).for_each(|(to, line)| *to = widen(line[r % PANEL]));
}

/// Sixteen rows of a matrix side by side: element (row r, column p) of a panel at p · 16 + r.
fn interleaved<T: Copy + Default + Send + Sync>(
    threads: &Threads,
    w: &[T],
    n: usize,
    k: usize,
    size: usize,
) -> Result<Vec<T>> {
    // SAFETY: each task writes its own panel, all of it.
    unsafe {
        build(size, |to: Shared<T>| {
            threads.each(n.div_ceil(PANEL), |panel| {
                let to = to.ptr().add(panel * k * PANEL);
                let rows = (n - panel * PANEL).min(PANEL);
                // Blocks of 16 × 16: whole cache lines on either side.
                for first in (0..k).step_by(16) {
                    for p in first..(first + 16).min(k) {
                        let mut line = [T::default(); PANEL];
                        for r in 0..rows {
                            line[r] = w[(panel * PANEL + r) * k + p];
                        }
                        to.add(p * PANEL).cast::<[T; PANEL]>().write_unaligned(line);
                    }
                }
            });
        })
    }
}

fn packed_codes(threads: &Threads, quant: Quant, blocks: &[u8], n: usize, k: usize) -> Words {
    let bits = if codes::is_four_bits(quant) { 4 } else { 8 };
    let (per_word, group) = (32 / bits, codes::group_len(quant));
    let (len, bytes) = (quant.block_len(), quant.block_bytes());
    let panels = n.div_ceil(PANEL);
    let (words, floats) = (k / per_word * PANEL, k / group * 2 * PANEL);
    let (mut all, mut scales) = (vec![0u32; panels * words], vec![0f32; panels * floats]);
    let (to_codes, to_scales) = (Shared::of(&mut all), Shared::of(&mut scales));
    threads.each(panels, |panel| {
        // SAFETY: each panel is its task's own.
        let (all, scales) =
            unsafe { (to_codes.written(panel * words, words), to_scales.written(panel * floats, floats)) };
        let (mut block_codes, mut block_scales) = ([0u8; 256], [(0f32, 0f32); 16]);
        for r in 0..(n - panel * PANEL).min(PANEL) {
            let row = panel * PANEL + r;
            for b in 0..k / len {
                let block = &blocks[(row * (k / len) + b) * bytes..][..bytes];
                codes::read(quant, block, &mut block_codes[..len], &mut block_scales[..len / group]);
                for (g, &(scale, minimum)) in block_scales[..len / group].iter().enumerate() {
                    let at = (b * len / group + g) * 2 * PANEL + r;
                    (scales[at], scales[at + PANEL]) = (scale, minimum);
                }
                for (i, &code) in block_codes[..len].iter().enumerate() {
                    let p = b * len + i;
                    all[p / per_word * PANEL + r] |= u32::from(code) << (p % per_word * bits);
                }
            }
        }
    });
    let folded = fold(&mut scales, bits);
    Words { codes: all, scales, k, group, bits, folded }
}

/// From (s, m) to (2ᵇ s, m − 2ᵇ s), so that w = s·code + m = 2ᵇ s · (1 + code / 2ᵇ) + (m − 2ᵇ s): one instruction fewer for each
/// weight. Done if every difference is exact in f32, so that the bits stay; returns whether.
fn fold(scales: &mut [f32], bits: usize) -> bool {
    let (pairs, _) = scales.as_chunks_mut::<{ 2 * PANEL }>();
    let folded = |s: f32, m: f32| {
        let large = s * (1 << bits) as f32;
        let sum = m - large;
        // D. Knuth's sum of two numbers and its error.
        let back = sum - m;
        let error = (m - (sum - back)) + (-large - back);
        (error == 0.0).then_some((large, sum))
    };
    if !pairs.iter().all(|pair| (0..PANEL).all(|j| folded(pair[j], pair[PANEL + j]).is_some())) {
        return false;
    }
    for pair in pairs {
        for j in 0..PANEL {
            if let Some(new) = folded(pair[j], pair[PANEL + j]) {
                (pair[j], pair[PANEL + j]) = new;
            }
        }
    }
    true
}

/// Codes in words of 32 bits: 8 of 4 bits or 4 of 8 bits, following ones of a column.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    /// [panels, k / (32 / bits), 16]
    codes: Vec<u32>,
    /// Scales and minima: [panels, k / group, 2, 16].
    scales: Vec<f32>,
    k: usize,
    pub group: usize,
    pub bits: usize,
    /// Whether scales and minima are those of [`fold`].
    folded: bool,
}

/// A vector's columns of a panel from some row on.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    codes: *const u32,
    scales: *const f32,
    /// From here to the same rows of the panels that are read after this tile's.
    codes_ahead: usize,
    scales_ahead: usize,
    folded: bool,
}

/// Scale and minimum of the columns in one group.
#[derive(Clone, Copy)]
pub(crate) struct Scale<S: Simd> {
    scale: S::f32s,
    minimum: S::f32s,
    folded: bool,
}

impl Words {
    /// Elements `from .. from + out.len()` of row `row` of the weight, which is a column of its panel.
    #[inline(always)]
    fn row(&self, row: usize, from: usize, out: &mut [f32]) {
        let (panel, r, per_word) = (row / PANEL, row % PANEL, 32 / self.bits);
        let mask = (1u32 << self.bits) - 1;
        for (p, to) in (from..).zip(out) {
            let word = self.codes[(panel * self.k / per_word + p / per_word) * PANEL + r];
            let code = (word >> (p % per_word * self.bits)) & mask;
            let at = (panel * self.k / self.group + p / self.group) * 2 * PANEL + r;
            let (scale, minimum) = (self.scales[at], self.scales[at + PANEL]);
            // As in [`Scale::weight`]: folded scales meet the code as a fraction of the number 1.
            let code = match self.folded {
                true => f32::from_bits(1.0f32.to_bits() | code << (23 - self.bits)),
                false => code as f32,
            };
            *to = scale.mul_add(code, minimum);
        }
    }

    /// The columns of the vector at `column`, from row `from` on, the first of a group.
    #[inline(always)]
    pub fn column(&self, column: usize, from: usize) -> Column {
        /// Panels from one that is read to the one that is fetched: a tile's three, on machines with wide vectors.
        const AHEAD: usize = 3;
        let (panel, inside, per_word) = (column / PANEL, column % PANEL, 32 / self.bits);
        let at = panel * self.k + from;
        Column {
            codes: self.codes.as_ptr().wrapping_add(at / per_word * PANEL + inside),
            scales: self.scales.as_ptr().wrapping_add(at / self.group * 2 * PANEL + inside),
            codes_ahead: AHEAD * self.k / per_word * PANEL,
            scales_ahead: AHEAD * self.k / self.group * 2 * PANEL,
            folded: self.folded,
        }
    }
}

impl Column {
    /// # Safety
    /// The panel has a group `g` from the first row on.
    #[inline(always)]
    pub unsafe fn scale<S: Simd>(self, simd: S, g: usize) -> Scale<S> {
        // SAFETY: promised by the caller.
        unsafe {
            let at = self.scales.add(2 * g * PANEL);
            prefetch(at.wrapping_add(self.scales_ahead));
            prefetch(at.wrapping_add(self.scales_ahead + PANEL));
            Scale { scale: load(simd, at), minimum: load(simd, at.add(PANEL)), folded: self.folded }
        }
    }

    /// # Safety
    /// The panel has a word `word` from the first row on.
    #[inline(always)]
    pub unsafe fn codes<S: Simd>(self, _: S, word: usize) -> S::u32s {
        let at = self.codes.wrapping_add(word * PANEL);
        // The processor does not see these short streams coming.
        prefetch(at.wrapping_add(self.codes_ahead));
        // SAFETY: promised by the caller.
        unsafe { at.cast::<S::u32s>().read_unaligned() }
    }
}

impl<S: Simd> Scale<S> {
    /// The weight of code i of a word: scale · code + minimum.
    #[inline(always)]
    pub fn weight<const BITS: usize>(self, simd: S, codes: S::u32s, i: usize) -> S::f32s {
        if self.folded {
            // In the highest bits of the fraction of the number 1 a code is 1 + code / 2ᵇ.
            let (up, down) = ((23 - BITS).saturating_sub(i * BITS), (i * BITS).saturating_sub(23 - BITS));
            let moved = if up > 0 {
                simd.wrapping_dyn_shl_u32s(codes, simd.splat_u32s(up as u32))
            } else {
                simd.wrapping_dyn_shr_u32s(codes, simd.splat_u32s(down as u32))
            };
            let mask = simd.splat_u32s(((1 << BITS) - 1) << (23 - BITS));
            let one = simd.transmute_u32s_f32s(simd.splat_f32s(1.0));
            let code = simd.transmute_f32s_u32s(simd.or_u32s(simd.and_u32s(moved, mask), one));
            return simd.mul_add_f32s(self.scale, code, self.minimum);
        }
        // An integer below 2²³ in the lowest bits of the number 2²³ is 2²³ + the integer.
        let (mask, large) = (simd.splat_u32s((1 << BITS) - 1), simd.splat_f32s(8_388_608.0));
        let code = simd.and_u32s(simd.wrapping_dyn_shr_u32s(codes, simd.splat_u32s((i * BITS) as u32)), mask);
        let code = simd.transmute_f32s_u32s(simd.or_u32s(code, simd.transmute_u32s_f32s(large)));
        simd.mul_add_f32s(self.scale, simd.sub_f32s(code, large), self.minimum)
    }
}

/// Rows `from .. from + kc` of a panel as f32: [kc, 16] to `to`. `from` is a multiple of the block of sums.
pub(crate) struct Decode<'a> {
    pub panels: &'a Panels,
    pub panel: usize,
    pub from: usize,
    pub kc: usize,
    pub to: &'a mut [f32],
}

impl WithSimd for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Decode { panels: Panels { k, dtype, values, .. }, panel, from, kc, to } = self;
        const { assert!(K_BLOCK.is_multiple_of(32)) };
        let (to, _) = to.as_chunks_mut::<PANEL>();
        let first = panel * k + from;
        match values {
            PanelValues::F32(v) => {
                let (rows, _) = v[first * PANEL..].as_chunks::<PANEL>();
                to[..kc].copy_from_slice(&rows[..kc]);
            }
            PanelValues::Half(v) => {
                let (rows, _) = v[first * PANEL..].as_chunks::<PANEL>();
                if *dtype == DType::F16 {
                    to[..kc].iter_mut().zip(rows).for_each(|(to, row)| *to = row.map(f16_to_f32));
                } else {
                    to[..kc].iter_mut().zip(rows).for_each(|(to, row)| *to = row.map(bf16_to_f32));
                }
            }
            PanelValues::Codes(words) => {
                // SAFETY: the rows lie in the panel, and rows are whole groups, groups whole words.
                unsafe {
                    match words.bits {
                        4 => decode_words::<S, 4>(simd, words, panel, from, kc, to.as_flattened_mut()),
                        _ => decode_words::<S, 8>(simd, words, panel, from, kc, to.as_flattened_mut()),
                    }
                }
            }
        }
    }
}

/// kc rows of a panel of codes as f32: [kc, 16].
///
/// # Safety
/// The rows lie in the panel, `to` holds them; kc is a multiple of a group.
#[inline(always)]
unsafe fn decode_words<S: Simd, const BITS: usize>(
    simd: S,
    words: &Words,
    panel: usize,
    from: usize,
    kc: usize,
    to: &mut [f32],
) {
    debug_assert!(to.len() >= kc * PANEL);
    let per_word = 32 / BITS;
    for j in (0..PANEL).step_by(S::F32_LANES) {
        // SAFETY: promised by the caller; vectors divide a panel's 16 columns.
        unsafe {
            let column = words.column(panel * PANEL + j, from);
            for g in 0..kc / words.group {
                let scale = column.scale(simd, g);
                for word in g * words.group / per_word..(g + 1) * words.group / per_word {
                    let codes = column.codes(simd, word);
                    for i in 0..per_word {
                        let w = scale.weight::<BITS>(simd, codes, i);
                        store(simd, to.as_mut_ptr().add((word * per_word + i) * PANEL + j), w);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        let threads = Threads::new(Some(1)).unwrap();
        let w = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let packed = Panels::pack(&threads, HostWeights::F32(&w), DType::F32, 2, 3).unwrap();
        let lines =
            packed.as_f32().unwrap().chunks(PANEL).map(|line| (line[0], line[1], line[2..].iter().sum::<f32>()));
        assert_eq!(lines.collect::<Vec<_>>(), [(1.0, 4.0, 0.0), (2.0, 5.0, 0.0), (3.0, 6.0, 0.0)]);

        let mut scales = [[0.5f32; PANEL], [-4.0; PANEL]].concat();
        assert!(fold(&mut scales, 4));
        assert_eq!((scales[0], scales[PANEL]), (8.0, -12.0));
        assert_eq!(scales[0] * (1.0 + 9.0 / 16.0) + scales[PANEL], 0.5 * 9.0 - 4.0);
        // 1 − 2²⁴ has 25 bits: then the numbers stay as they are.
        let mut exact = [[(1 << 20) as f32; PANEL], [1.5; PANEL]].concat();
        assert!(!fold(&mut exact, 4));
        assert_eq!((exact[0], exact[PANEL]), ((1 << 20) as f32, 1.5));
    }
}
