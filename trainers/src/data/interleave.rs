//! Rows drawn from several data sets with given probabilities: `interleave_datasets` of the datasets library.
use crate::error::Result;
use crate::named::named;
use engine::random::Stream;
use std::iter::Peekable;

/// "draws" in ASCII: separates the choice of data sets from the other uses of a seed.
const DRAWS: u64 = 0x0064_7261_7773 << 8;

named! {
    /// When a mixture ends whose data sets are drawn from.
    pub enum StoppingStrategy {
        /// With the last row of the data set that is the first to end.
        FirstExhausted = "first_exhausted",
        /// When each data set has ended once; those that end before begin again.
        AllExhausted = "all_exhausted",
        /// When each data set has ended, none of which begins again.
        AllExhaustedWithoutReplacement = "all_exhausted_without_replacement",
    }
}

/// How rows are drawn from several data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Interleaving {
    /// How likely the next row is one of each data set: positive, in proportion to each other.
    pub probabilities: Vec<f64>,
    /// When the mixture ends.
    pub stopping: StoppingStrategy,
    /// Decides the draws.
    pub seed: u64,
}

impl Interleaving {
    /// The data set that draw `draw` takes a row from: as a function of seed and draw, the same in every pass.
    fn source(&self, draw: u64) -> usize {
        let total: f64 = self.probabilities.iter().sum();
        let mut rest = f64::from(Stream::new(self.seed, DRAWS).uniform(draw)) * total;
        for (i, p) in self.probabilities.iter().enumerate() {
            if rest < *p {
                return i;
            }
            rest -= p;
        }
        self.probabilities.len() - 1
    }

    /// The rows of `n` data sets as they are drawn; `open` begins with one of them anew. A data set without rows has ended
    /// before the first draw.
    pub fn open<T, I, F>(&self, n: usize, open: F) -> Result<Interleaved<I, F>>
    where
        I: Iterator<Item = Result<T>>,
        F: Fn(usize) -> Result<I>,
    {
        let mut sources = (0..n).map(|i| open(i).map(Iterator::peekable)).collect::<Result<Vec<_>>>()?;
        let ended = sources.iter_mut().map(|rows| rows.peek().is_none()).collect();
        Ok(Interleaved { how: self.clone(), open, sources, ended, draw: 0, is_over: false })
    }
}

/// Rows of several data sets as they are drawn.
pub struct Interleaved<I: Iterator, F> {
    how: Interleaving,
    open: F,
    sources: Vec<Peekable<I>>,
    /// Which data sets have ended once.
    ended: Vec<bool>,
    draw: u64,
    is_over: bool,
}

impl<T, I: Iterator<Item = Result<T>>, F: Fn(usize) -> Result<I>> Interleaved<I, F> {
    fn is_at_end(&self) -> bool {
        match self.how.stopping {
            StoppingStrategy::FirstExhausted => self.ended.contains(&true),
            _ => !self.ended.contains(&false),
        }
    }

    fn drawn(&mut self) -> Result<Option<T>> {
        while !self.is_at_end() {
            let i = self.how.source(self.draw);
            self.draw += 1;
            let Some(row) = self.sources[i].next() else { continue };
            if self.sources[i].peek().is_none() {
                self.ended[i] = true;
                if self.how.stopping == StoppingStrategy::AllExhausted && !self.is_at_end() {
                    self.sources[i] = (self.open)(i)?.peekable();
                }
            }
            return row.map(Some);
        }
        Ok(None)
    }
}

impl<T, I: Iterator<Item = Result<T>>, F: Fn(usize) -> Result<I>> Iterator for Interleaved<I, F> {
    type Item = Result<T>;
    fn next(&mut self) -> Option<Result<T>> {
        if self.is_over {
            return None;
        }
        let row = self.drawn().transpose();
        self.is_over = !matches!(row, Some(Ok(_)));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(counts: &[usize], probabilities: &[f64], stopping: StoppingStrategy, seed: u64) -> Vec<(usize, usize)> {
        let how = Interleaving { probabilities: probabilities.to_vec(), stopping, seed };
        let rows = |i: usize| Ok((0..counts[i]).map(move |row| Ok((i, row))));
        how.open(counts.len(), rows).unwrap().collect::<Result<_>>().unwrap()
    }

    fn of(all: &[(usize, usize)], source: usize) -> Vec<usize> {
        all.iter().filter(|(i, _)| *i == source).map(|(_, row)| *row).collect()
    }

    #[test]
    fn ends_as_the_strategy_says() {
        use StoppingStrategy::*;
        let first = drawn(&[30, 5], &[1.0, 1.0], FirstExhausted, 1);
        assert_eq!((first.last(), of(&first, 1)), (Some(&(1, 4)), vec![0, 1, 2, 3, 4]));
        assert!(of(&first, 0).iter().copied().eq(0..of(&first, 0).len()) && of(&first, 0).len() < 30);

        let all = drawn(&[30, 5], &[1.0, 1.0], AllExhausted, 1);
        assert_eq!((all.last(), of(&all, 0)), (Some(&(0, 29)), (0..30).collect()));
        let again = of(&all, 1);
        assert!(again.len() > 5 && again.iter().enumerate().all(|(i, row)| *row == i % 5), "{again:?}");

        let once = drawn(&[30, 5], &[1.0, 1.0], AllExhaustedWithoutReplacement, 1);
        assert_eq!((once.len(), of(&once, 1)), (35, vec![0, 1, 2, 3, 4]));
        assert!(drawn(&[0, 5], &[1.0, 1.0], FirstExhausted, 1).is_empty());
    }

    /// 4000 draws at 3 : 1 lie within five deviations of 3000; the draws are those of the seed.
    #[test]
    fn shares_are_those_asked_for() {
        let all = drawn(&[4000, 4000], &[3.0, 1.0], StoppingStrategy::FirstExhausted, 7);
        let (a, n) = (of(&all[..4000], 0).len() as f64, 4000.0);
        assert!((a - 0.75 * n).abs() < 5.0 * (n * 0.75 * 0.25).sqrt(), "{a}");
        assert_eq!(all, drawn(&[4000, 4000], &[3.0, 1.0], StoppingStrategy::FirstExhausted, 7));
        assert_ne!(all, drawn(&[4000, 4000], &[3.0, 1.0], StoppingStrategy::FirstExhausted, 8));
    }
}
