//! Packing: copies a block of B (or of Aᵀ) into panels that the register tile reads from front to back.
//! Weights that are not f32 are decoded here, a block at a time.
use super::K_BLOCK;
use crate::cpu::check::Weights;

/// Rows of B [n, k] (layout NT) `first .. first + count`, columns `from .. from + kc`, transposed into a panel
/// [kc, width]: `to[p · width + j]`. Columns of the panel beyond `count` are left as they are.
///
/// # Safety
/// `to` has room for kc · width floats and count ≤ width, kc ≤ 256.
#[inline(always)]
pub(super) unsafe fn transposed(
    b: Weights,
    k: usize,
    (first, count): (usize, usize),
    (from, kc): (usize, usize),
    to: *mut f32,
    width: usize,
) {
    let mut decoded = [[0f32; K_BLOCK]; 4];
    let mut j = 0;
    while j < count {
        let four = (count - j).min(4);
        let mut rows = [decoded[0].as_ptr(); 4];
        for r in 0..four {
            let start = (first + j + r) * k + from;
            rows[r] = match b {
                Weights::F32(b) => b[start..start + kc].as_ptr(),
                _ => {
                    b.decode(start, &mut decoded[r][..kc]);
                    decoded[r].as_ptr()
                }
            };
        }
        // SAFETY: each row holds kc floats; the panel has room by the caller's promise.
        unsafe {
            if four == 4 {
                transpose_four(rows, kc, to.add(j), width);
            } else {
                for (r, &row) in rows.iter().enumerate().take(four) {
                    for p in 0..kc {
                        *to.add(p * width + j + r) = *row.add(p);
                    }
                }
            }
        }
        j += four;
    }
}

/// Four rows of kc floats become four neighbouring columns of a panel.
///
/// # Safety
/// Each row holds kc floats, `to + p · width` has room for 4, p < kc.
#[inline(always)]
unsafe fn transpose_four(rows: [*const f32; 4], kc: usize, to: *mut f32, width: usize) {
    // SAFETY: p + 4 ≤ kc in the blocks of four, p < kc after them.
    unsafe {
        let mut p = 0;
        while p + 4 <= kc {
            let x: [[f32; 4]; 4] = rows.map(|row| row.add(p).cast::<[f32; 4]>().read_unaligned());
            for i in 0..4 {
                to.add((p + i) * width).cast::<[f32; 4]>().write_unaligned([x[0][i], x[1][i], x[2][i], x[3][i]]);
            }
            p += 4;
        }
        while p < kc {
            to.add(p * width).cast::<[f32; 4]>().write_unaligned(rows.map(|row| *row.add(p)));
            p += 1;
        }
    }
}

/// Rows `from .. from + kc` of a matrix of width n, columns `first .. first + count`, into a panel [kc, width].
///
/// # Safety
/// `to` has room for kc · width floats and count ≤ width.
#[inline(always)]
pub(super) unsafe fn copied(
    b: Weights,
    n: usize,
    (first, count): (usize, usize),
    (from, kc): (usize, usize),
    to: *mut f32,
    width: usize,
) {
    for p in 0..kc {
        let start = (from + p) * n + first;
        // SAFETY: the panel has room for count ≤ width floats at row p.
        let row = unsafe { std::slice::from_raw_parts_mut(to.add(p * width), count) };
        b.decode(start, row);
    }
}
