//! Rows that say the same as an earlier one, exactly or nearly.
//!
//! Nearness is the Jaccard similarity |A ∩ B| / |A ∪ B| of the sets of a text's shingles, runs of three words (A. Z. Broder, "On the
//! resemblance and containment of documents", SEQUENCES 1997, section 2). Which texts are compared is decided by bands of
//! MinHash signatures (J. Leskovec, A. Rajaraman, J. Ullman, "Mining of massive datasets", section 3.4); those that share a band
//! are compared exactly, so that nothing is called near that is not.
use engine::random::Stream;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Words of a shingle.
const SHINGLE: usize = 3;
/// Numbers of a signature.
const SIGNATURE: usize = 128;
/// "minhash" in ASCII: the hash functions are the same in every run.
const FUNCTIONS: u64 = 0x006d_696e_6861_7368;
/// The Mersenne prime 2⁶¹ − 1.
const PRIME: u64 = (1 << 61) - 1;
/// How often a pair exactly at the threshold may be overlooked.
const OVERLOOKED: f64 = 0.01;

/// Which earlier row a text is a duplicate of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duplicate {
    /// The earlier row, as it was numbered.
    pub of: usize,
    /// Their similarity: 1 of texts that are the same.
    pub similarity: f64,
}

/// Texts seen so far.
pub struct SeenTexts {
    same: HashMap<[u8; 16], usize>,
    near: Option<Near>,
}

/// What is known of the texts that were kept, for comparing further ones with them.
struct Near {
    threshold: f64,
    functions: Vec<(u64, u64)>,
    rows_per_band: usize,
    /// (band, hash of its numbers) → places in `kept`.
    bands: HashMap<(usize, u64), Vec<usize>>,
    /// Number and shingles, sorted, of each text that was kept.
    kept: Vec<(usize, Vec<u64>)>,
}

impl SeenTexts {
    /// `near`: the similarity from which on texts are duplicates; None: only the same texts are.
    pub fn new(near: Option<f64>) -> Self {
        SeenTexts { same: HashMap::new(), near: near.map(Near::new) }
    }

    /// Whether text number `number` is a duplicate of an earlier one that was none; of those that are as near as each other, of
    /// the first. A text that is no duplicate is kept for the following ones.
    pub fn check(&mut self, number: usize, text: &str) -> Option<Duplicate> {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(text)[..16]);
        if let Some(&of) = self.same.get(&key) {
            return Some(Duplicate { of, similarity: 1.0 });
        }
        if let Some(duplicate) = self.near.as_mut().and_then(|near| near.check(number, text)) {
            return Some(duplicate);
        }
        self.same.insert(key, number);
        None
    }
}

/// The text with every run of white space as one blank, and none at its ends.
pub fn with_single_blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Near {
    fn new(threshold: f64) -> Self {
        let stream = Stream::new(0, FUNCTIONS);
        let number = |i: u64| (u64::from(stream.bits(2 * i)) << 32 | u64::from(stream.bits(2 * i + 1))) % PRIME;
        let functions = (0..SIGNATURE as u64).map(|i| (number(2 * i).max(1), number(2 * i + 1))).collect();
        Near { threshold, functions, rows_per_band: rows_per_band(threshold), bands: HashMap::new(), kept: Vec::new() }
    }

    fn check(&mut self, number: usize, text: &str) -> Option<Duplicate> {
        let shingles = shingles(text);
        let bands = self.bands_of(&shingles);
        let mut candidates: Vec<usize> =
            bands.iter().filter_map(|band| self.bands.get(band)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut best: Option<Duplicate> = None;
        for place in candidates {
            let (of, others) = &self.kept[place];
            let similarity = jaccard(&shingles, others);
            if similarity >= self.threshold && best.is_none_or(|best| similarity > best.similarity) {
                best = Some(Duplicate { of: *of, similarity });
            }
        }
        if best.is_none() {
            for band in bands {
                self.bands.entry(band).or_default().push(self.kept.len());
            }
            self.kept.push((number, shingles));
        }
        best
    }

    /// The bands of a signature: minima of each function over all shingles, some at a time as one number.
    fn bands_of(&self, shingles: &[u64]) -> Vec<(usize, u64)> {
        let value = |(a, b): &(u64, u64), x: u64| {
            let product = u128::from(*a) * u128::from(x % PRIME) + u128::from(*b);
            (product % u128::from(PRIME)) as u64
        };
        let signature: Vec<u64> = self
            .functions
            .iter()
            .map(|function| shingles.iter().map(|&x| value(function, x)).min().unwrap_or(PRIME))
            .collect();
        let joined = |numbers: &[u64]| numbers.iter().fold(FNV, |hash, number| fnv(hash, &number.to_le_bytes()));
        signature.chunks(self.rows_per_band).map(joined).enumerate().collect()
    }
}

/// How many numbers of a signature make a band: as many as leave a pair at the threshold overlooked in no more than
/// [`OVERLOOKED`] of cases. With r numbers in each of b bands that is (1 − sʳ)ᵇ.
fn rows_per_band(threshold: f64) -> usize {
    let overlooked = |r: usize| (1.0 - threshold.powi(r as i32)).powi((SIGNATURE / r) as i32);
    [32, 16, 8, 4, 2].into_iter().find(|&r| overlooked(r) <= OVERLOOKED).unwrap_or(1)
}

/// Hashes of the runs of three words of a text, each once, sorted; of a shorter text, that of all its words.
fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let hash = |words: &[&str]| words.iter().fold(FNV, |hash, word| fnv(fnv(hash, word.as_bytes()), b" "));
    let mut all: Vec<u64> = words.windows(SHINGLE.min(words.len()).max(1)).map(hash).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// |A ∩ B| / |A ∪ B| of sorted sets; 1 of two empty ones.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        both += usize::from(x == y);
        (i, j) = (i + usize::from(x <= y), j + usize::from(y <= x));
    }
    let all = a.len() + b.len() - both;
    if all == 0 { 1.0 } else { both as f64 / all as f64 }
}

/// Where FNV-1a begins.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo) over further bytes.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicates(near: Option<f64>, texts: &[&str]) -> Vec<Option<(usize, f64)>> {
        let mut seen = SeenTexts::new(near);
        let checked = texts.iter().enumerate().map(|(i, text)| seen.check(i, text));
        checked.map(|duplicate| duplicate.map(|d| (d.of, d.similarity))).collect()
    }

    #[test]
    fn the_same_texts() {
        assert_eq!(
            duplicates(None, &["a b", "c", "a b", "a  b", "c"]),
            [None, None, Some((0, 1.0)), None, Some((1, 1.0))]
        );
        assert_eq!(with_single_blanks(" a\n b\t c "), "a b c");
    }

    /// Ten words have eight runs of three; another last word changes one of them: 7 / 9.
    #[test]
    fn similarity_is_that_of_shingles() {
        let a = "one two three four five six seven eight nine ten";
        let b = "one two three four five six seven eight nine eleven";
        assert_eq!(
            duplicates(Some(0.77), &[a, b, "quite another text of a few words"]),
            [None, Some((0, 7.0 / 9.0)), None]
        );
        assert_eq!(duplicates(Some(0.78), &[a, b]), [None, None]);
        // Short texts are their words; empty ones are the same.
        assert_eq!(duplicates(Some(0.9), &["yes", "no", "yes.", "", " "]), [None, None, None, None, Some((3, 1.0))]);
    }

    /// A chain is cut: what was removed removes nothing.
    #[test]
    fn only_kept_texts_remove() {
        let words: Vec<String> = (0..40).map(|i| format!("w{i}")).collect();
        let text = |from: usize, to: usize| words[from..to].join(" ");
        let (a, b, c) = (text(0, 30), text(3, 33), text(6, 36));
        // a–b and b–c share 25 of 31 runs, a–c 22 of 34.
        let found = duplicates(Some(0.8), &[&a, &b, &c]);
        assert_eq!(found, [None, Some((0, 25.0 / 31.0)), None]);
    }

    /// Of many planted pairs above the threshold nearly all are found, and nothing else is.
    #[test]
    fn planted_pairs_are_found() {
        let stream = Stream::new(5, 0);
        let word = |i: u64| format!("w{}", stream.below(i, 5000));
        let (mut seen, mut found) = (SeenTexts::new(Some(0.7)), 0);
        for i in 0..300u64 {
            let base: Vec<String> = (0..60).map(|j| word(i * 1000 + j)).collect();
            let mut other = base.clone();
            other[(i % 60) as usize] = "changed".into();
            other[((i * 7) % 60) as usize] = "changed".into();
            assert_eq!(seen.check(2 * i as usize, &base.join(" ")), None);
            let duplicate = seen.check(2 * i as usize + 1, &other.join(" "));
            assert!(duplicate.is_none_or(|d| d.of == 2 * i as usize && d.similarity >= 0.7));
            found += usize::from(duplicate.is_some());
        }
        assert!(found >= 297, "{found} of 300");
    }

    #[test]
    fn bands() {
        for threshold in [0.1f64, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0] {
            let r = rows_per_band(threshold);
            let overlooked = (1.0 - threshold.powi(r as i32)).powi((SIGNATURE / r) as i32);
            assert!(overlooked <= OVERLOOKED && SIGNATURE.is_multiple_of(r), "{threshold}: {r}");
        }
    }
}
