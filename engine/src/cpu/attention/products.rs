//! The two products of attention on panels whose columns are lanes: [rows, lanes] = rows · panel, and panel += rowsᵀ · panel.
//!
//! Worked example: keys (1 2; 3 4; 5 6), of which a path lists row 2, then row 0; two lanes with the queries (1, 0) and (1, 1), which are the
//! columns of the panel q.
//!
//! ```text
//! rows_times_panel:                 s = (5 6; 1 2) · (1 1; 0 1) = (5 11; 1 3)          [listed rows, lanes]
//! add_rows_transposed_times_panel:  o = (5 1; 6 2) · s = (26 58; 32 72)               [E, lanes], from Start::Zero
//!                                   o = ½ (2 2; 2 2) + (26 58; 32 72) = (27 59; 33 73)  with 2 before and factors ½
//! ```
//!
//! The second is what attention does with values in the place of keys; [`FewLanes`] gives its last result with a row for each lane.
use crate::cpu::tile::{Left, PanelTile, Right, Start, load, store};
use pulp::Simd;

/// Rows of a matrix by list: row r starts at `start + index[r] · stride`.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    pub start: *const f32,
    pub stride: usize,
    pub index: &'a [u32],
}

impl Listed<'_> {
    /// # Safety
    /// The list has an entry r, and the row lies in the matrix.
    #[inline(always)]
    unsafe fn row(&self, r: usize) -> *const f32 {
        // SAFETY: promised by the caller.
        unsafe { self.start.add(*self.index.get_unchecked(r) as usize * self.stride) }
    }
}

/// HEIGHT listed rows as the rows of a tile.
#[derive(Clone, Copy)]
struct ListedRows<const HEIGHT: usize>([*const f32; HEIGHT]);

impl<const HEIGHT: usize> Left for ListedRows<HEIGHT> {
    #[inline(always)]
    unsafe fn at(&self, r: usize, p: usize) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { *self.0[r].add(p) }
    }
}

/// Neighbouring columns of listed rows as the rows of a tile; the list runs along k.
#[derive(Clone, Copy)]
struct ListedColumns<'a>(Listed<'a>);

impl Left for ListedColumns<'_> {
    #[inline(always)]
    unsafe fn at(&self, r: usize, p: usize) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { *self.0.row(p).add(r) }
    }
}

/// out[j, lane] = Σ_e rows[j, e] panel[e, lane]; one row of `out` for each entry of the list.
///
/// # Safety
/// Rows have `size` elements; `panel` is [size, NV vectors], `out` [rows, NV vectors].
#[inline(always)]
pub(super) unsafe fn rows_times_panel<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    rows: Listed,
    size: usize,
    panel: *const f32,
    out: *mut f32,
) {
    let width = NV * S::F32_LANES;
    let n = rows.index.len();
    let right = Right { start: panel, stride: width, step: S::F32_LANES };
    let mut j = 0;
    // SAFETY: j + height ≤ n.
    unsafe {
        while j < n {
            macro_rules! tile {
                ($height:expr) => {{
                    let left = ListedRows::<$height>(std::array::from_fn(|r| rows.row(j + r)));
                    let (out, start) = (out.add(j * width), Start::Zero);
                    let tile: PanelTile<_, $height, NV> = PanelTile { k: size, left, right, out, start };
                    simd.vectorize(tile);
                    j += $height;
                }};
            }
            match n - j {
                rest if rest >= MR => tile!(MR),
                2.. => tile!(2),
                _ => tile!(1),
            }
        }
    }
}

/// out[e, lane] ← out[e, lane] (times a factor of the lane) + Σ_j rows[j, e] panel[j, lane]
///
/// # Safety
/// Rows have `size` elements; `panel` is [rows, NV vectors], `out` [size, NV vectors].
#[inline(always)]
pub(super) unsafe fn add_rows_transposed_times_panel<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    rows: Listed,
    size: usize,
    panel: *const f32,
    out: *mut f32,
    start: Start,
) {
    let width = NV * S::F32_LANES;
    let right = Right { start: panel, stride: width, step: S::F32_LANES };
    let k = rows.index.len();
    let mut e = 0;
    // SAFETY: e + height ≤ size.
    unsafe {
        while e < size {
            macro_rules! tile {
                ($height:expr) => {{
                    let left = ListedColumns(Listed { start: rows.start.add(e), ..rows });
                    let tile: PanelTile<_, $height, NV> = PanelTile { k, left, right, out: out.add(e * width), start };
                    simd.vectorize(tile);
                    e += $height;
                }};
            }
            match size - e {
                rest if rest >= MR => tile!(MR),
                2.. => tile!(2),
                _ => tile!(1),
            }
        }
    }
}

/// Lanes that [`FewLanes`] takes at most.
pub(super) const FEW: usize = 8;

/// o[lane, e] ← factor[lane] · o[lane, e] + Σ_j s[j, lane] rows[j, e] for C lanes: what `add_rows_transposed_times_panel` computes
/// and in its order, with vectors along e, where there are too few lanes to fill one (decoding).
#[derive(Clone, Copy)]
pub(super) struct FewLanes<'a, const C: usize> {
    pub rows: Listed<'a>,
    pub size: usize,
    /// [rows, width]
    pub s: *const f32,
    pub width: usize,
    /// [C]
    pub factor: *const f32,
    /// [C, size]
    pub o: *mut f32,
}

impl<const C: usize> FewLanes<'_, C> {
    /// V vectors from column e on.
    ///
    /// # Safety
    /// They lie in the rows.
    #[inline(always)]
    unsafe fn columns<S: Simd, const V: usize>(&self, simd: S, e: usize) {
        let mut sum = [[simd.splat_f32s(0.0); V]; C];
        // SAFETY: promised by the caller; j < n, c < C.
        unsafe {
            let at = |c: usize, v: usize| self.o.add(c * self.size + e + v * S::F32_LANES);
            for c in 0..C {
                for v in 0..V {
                    sum[c][v] = simd.mul_f32s(load(simd, at(c, v)), simd.splat_f32s(*self.factor.add(c)));
                }
            }
            for j in 0..self.rows.index.len() {
                let row = self.rows.row(j).add(e);
                let mut values = [simd.splat_f32s(0.0); V];
                for v in 0..V {
                    values[v] = load(simd, row.add(v * S::F32_LANES));
                }
                for c in 0..C {
                    let s = simd.splat_f32s(*self.s.add(j * self.width + c));
                    for v in 0..V {
                        sum[c][v] = simd.mul_add_f32s(values[v], s, sum[c][v]);
                    }
                }
            }
            for c in 0..C {
                for v in 0..V {
                    store(simd, at(c, v), sum[c][v]);
                }
            }
        }
    }
}

impl<const C: usize> pulp::WithSimd for FewLanes<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FewLanes { rows, size, s, width, factor, o } = self;
        let mut e = 0;
        // SAFETY: e + vectors ≤ size; whoever makes one promises the operands.
        unsafe {
            while C <= 4 && e + 4 * S::F32_LANES <= size {
                self.columns::<S, 4>(simd, e);
                e += 4 * S::F32_LANES;
            }
            while e + S::F32_LANES <= size {
                self.columns::<S, 1>(simd, e);
                e += S::F32_LANES;
            }
            for c in 0..C {
                for e in e..size {
                    let to = o.add(c * size + e);
                    let mut sum = *to * *factor.add(c);
                    for j in 0..rows.index.len() {
                        sum = (*rows.row(j).add(e)).mul_add(*s.add(j * width + c), sum);
                    }
                    to.write(sum);
                }
            }
        }
    }
}

/// panel[e, lane] = factor · row(lane)[e]: rows become the columns of a panel. Lanes without a row become 0.
///
/// # Safety
/// Every row has `size` elements; `panel` is [size, width].
#[inline(always)]
pub(super) unsafe fn fill_panel(
    panel: *mut f32,
    width: usize,
    size: usize,
    factor: f32,
    row: impl Fn(usize) -> Option<*const f32>,
) {
    let mut lane = 0;
    // SAFETY: e < size, lane < width.
    unsafe {
        while lane + 4 <= width {
            let rows: [Option<*const f32>; 4] = std::array::from_fn(|i| row(lane + i));
            let at = |e: usize| panel.add(e * width + lane).cast::<[f32; 4]>();
            let mut e = 0;
            if let [Some(a), Some(b), Some(c), Some(d)] = rows {
                while e + 4 <= size {
                    let x = [a, b, c, d].map(|row| row.add(e).cast::<[f32; 4]>().read_unaligned());
                    for i in 0..4 {
                        at(e + i).write_unaligned(x.map(|x| factor * x[i]));
                    }
                    e += 4;
                }
            }
            while e < size {
                at(e).write_unaligned(rows.map(|row| row.map_or(0.0, |row| factor * *row.add(e))));
                e += 1;
            }
            lane += 4;
        }
        for lane in lane..width {
            let row = row(lane);
            for e in 0..size {
                panel.add(e * width + lane).write(row.map_or(0.0, |row| factor * *row.add(e)));
            }
        }
    }
}

/// row(lane)[e] = factor · panel[e, lane] for lanes 0 .. count: the columns of a panel become rows. + 0, so that a sum
/// that underflowed to −0 is the same as one that met another masked key.
///
/// # Safety
/// Every row has room for `size` elements; `panel` is [size, width], count ≤ width.
#[inline(always)]
pub(super) unsafe fn spill_panel(
    panel: *const f32,
    width: usize,
    size: usize,
    count: usize,
    factor: f32,
    row: impl Fn(usize) -> *mut f32,
) {
    let mut lane = 0;
    // SAFETY: e < size, lane < count.
    unsafe {
        while lane + 4 <= count {
            let rows: [*mut f32; 4] = std::array::from_fn(|i| row(lane + i));
            let at = |e: usize| panel.add(e * width + lane).cast::<[f32; 4]>().read_unaligned();
            let mut e = 0;
            while e + 4 <= size {
                let x: [[f32; 4]; 4] = std::array::from_fn(|i| at(e + i));
                for (r, row) in rows.iter().enumerate() {
                    row.add(e).cast::<[f32; 4]>().write_unaligned(x.map(|x| factor * x[r] + 0.0));
                }
                e += 4;
            }
            while e < size {
                let x = at(e);
                for (r, row) in rows.iter().enumerate() {
                    row.add(e).write(factor * x[r] + 0.0);
                }
                e += 1;
            }
            lane += 4;
        }
        for lane in lane..count {
            for e in 0..size {
                row(lane).add(e).write(factor * *panel.add(e * width + lane) + 0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;
    use pulp::WithSimd;

    /// Lanes 0 and 1 of s, of both o, and of the o of few lanes.
    struct Example;

    const KEYS: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

    impl WithSimd for Example {
        type Output = [[f32; 4]; 4];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            // Two vectors, as a scalar level has one lane a vector.
            let width = 2 * S::F32_LANES;
            let panel = |x: [[f32; 2]; 2]| -> Vec<f32> {
                x.iter().flat_map(|row| (0..width).map(|lane| row.get(lane).copied().unwrap_or(0.0))).collect()
            };
            let first = |x: &[f32]| [x[0], x[1], x[width], x[width + 1]];
            let rows = Listed { start: KEYS.as_ptr(), stride: 2, index: &[2, 0] };
            let q = panel([[1.0, 1.0], [0.0, 1.0]]);
            let [mut s, mut o] = [vec![0.0; 2 * width], vec![0.0; 2 * width]];
            let (mut before, half) = (vec![2.0; 2 * width], vec![0.5; width]);
            let mut few = [2.0; 4];
            // SAFETY: rows of two entries; panels of two rows of two vectors; a factor for each lane.
            unsafe {
                rows_times_panel::<S, 6, 2>(simd, rows, 2, q.as_ptr(), s.as_mut_ptr());
                add_rows_transposed_times_panel::<S, 6, 2>(simd, rows, 2, s.as_ptr(), o.as_mut_ptr(), Start::Zero);
                let start = Start::Scaled(half.as_ptr());
                add_rows_transposed_times_panel::<S, 6, 2>(simd, rows, 2, s.as_ptr(), before.as_mut_ptr(), start);
                let (s, factor, o) = (s.as_ptr(), half.as_ptr(), few.as_mut_ptr());
                simd.vectorize(FewLanes::<2> { rows, size: 2, s, width, factor, o });
            }
            [first(&s), first(&o), first(&before), few]
        }
    }

    #[test]
    fn worked_example() {
        for level in Level::available() {
            let [s, o, scaled, few] = level.run(Example);
            assert_eq!(s, [5.0, 11.0, 1.0, 3.0]);
            assert_eq!(o, [26.0, 58.0, 32.0, 72.0]);
            assert_eq!(scaled, [27.0, 59.0, 33.0, 73.0]);
            assert_eq!(few, [27.0, 33.0, 59.0, 73.0]);
        }
    }
}
