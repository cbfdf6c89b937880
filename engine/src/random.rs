//! Counter-based random numbers: a number is a pure function of (seed, stream, index), the same on CPU and GPU.
//!
//! Threefry-2x32 with 20 rounds: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, §4.1.
//! Only 32-bit adds, rotations and xors, so that WGSL computes the same bits.
use crate::portable;

const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];

/// Threefry-2x32-20 of `counter` under `key`.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for group in 0..5 {
        for r in ROTATIONS[group % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(r) ^ x[0];
        }
        let g = group + 1;
        x[0] = x[0].wrapping_add(keys[g % 3]);
        x[1] = x[1].wrapping_add(keys[(g + 1) % 3]).wrapping_add(g as u32);
    }
    x
}

/// A stream of random numbers: the key of a seed and a stream id. Index i of a stream is always the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Threefry's key, made of the seed and the stream id.
    pub key: [u32; 2],
}

impl Stream {
    /// `stream` separates uses (initialisation, shuffling, dropout of layer l in step s …) under one seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let k = threefry2x32([seed as u32, (seed >> 32) as u32], [stream as u32, (stream >> 32) as u32]);
        Stream { key: k }
    }
    /// 32 random bits.
    pub fn bits(&self, index: u64) -> u32 {
        threefry2x32(self.key, [index as u32, (index >> 32) as u32])[0]
    }
    /// Uniform in [0, 1) with 24 bits.
    pub fn uniform(&self, index: u64) -> f32 {
        (self.bits(index) >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }
    /// Uniform integer in 0 .. n.
    pub fn below(&self, index: u64, n: u64) -> u64 {
        let x = threefry2x32(self.key, [index as u32, (index >> 32) as u32]);
        let wide = (u64::from(x[0]) << 32) | u64::from(x[1]);
        ((u128::from(wide) * u128::from(n)) >> 64) as u64
    }
    /// Standard normal by Box–Muller, in f64 rounded to f32.
    pub fn normal(&self, index: u64) -> f32 {
        let x = threefry2x32(self.key, [index as u32, (index >> 32) as u32]);
        let u = (f64::from(x[0]) + 0.5) / 4294967296.0;
        let v = f64::from(x[1]) / 4294967296.0;
        ((-2.0 * portable::ln(u)).sqrt() * portable::sin_cos(std::f64::consts::TAU * v).1) as f32
    }
    /// A permutation of 0 .. n (Fisher–Yates).
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            p.swap(i, self.below(i as u64, i as u64 + 1) as usize);
        }
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threefry_known_answers() {
        // Known-answer vectors of the Random123 distribution (kat_vectors, threefry2x32 20).
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn permutation_is_one() {
        let mut p = Stream::new(42, 7).permutation(100);
        assert_ne!(p, (0..100).collect::<Vec<_>>());
        p.sort();
        assert_eq!(p, (0..100).collect::<Vec<_>>());
    }
}
