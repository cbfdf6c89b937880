//! Packing: sequences laid into bins of one length, so that every step computes about as many tokens.
//!
//! A bin holds whole sequences, each its own root of the forest: they do not see one another, and packing changes no loss.
use std::collections::{BTreeMap, VecDeque};

/// Best-fit decreasing over sequence lengths in tokens: longest first, each into the fullest bin that has room, of equal
/// bins the one that came to that room first. H. Ding et al., "Fewer Truncations Improve Language Modeling", 2024, §3.2 (arXiv 2404.10830).
///
/// Returns the bins in the order they were opened, each as indices into `lengths`. Empty sequences are left out; one longer
/// than `capacity` fills a bin (cut it before).
pub fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let length = |i: usize| lengths[i].min(capacity);
    let mut order: Vec<usize> = (0..lengths.len()).filter(|i| length(*i) > 0).collect();
    // Stable: equal lengths stay in the order of the data set.
    order.sort_by_key(|i| std::cmp::Reverse(length(*i)));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut by_room: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for index in order {
        let need = length(index);
        let (bin, room) = match by_room.range_mut(need..).next() {
            Some((&room, queue)) => {
                let bin = queue.pop_front();
                if queue.is_empty() {
                    by_room.remove(&room);
                }
                (bin.unwrap_or(bins.len()), room)
            }
            None => (bins.len(), capacity),
        };
        if bin == bins.len() {
            bins.push(Vec::new());
        }
        bins[bin].push(index);
        if room > need {
            by_room.entry(room - need).or_default().push_back(bin);
        }
    }
    bins
}

/// Sequences taken apart into pieces (index, first token, end token) of at most `capacity` tokens, in their order.
pub fn split(lengths: &[usize], capacity: usize) -> Vec<(usize, usize, usize)> {
    let capacity = capacity.max(1);
    let pieces = |(index, &length): (usize, &usize)| {
        (0..length).step_by(capacity).map(move |at| (index, at, length.min(at + capacity)))
    };
    lengths.iter().enumerate().flat_map(pieces).collect()
}

/// Sequences one behind the other, cut every `capacity` tokens without regard to where they end.
///
/// Returns the bins, each as pieces (index, first token, end token) of the sequences.
pub fn wrapped(lengths: &[usize], capacity: usize) -> Vec<Vec<(usize, usize, usize)>> {
    let capacity = capacity.max(1);
    let mut bins: Vec<Vec<(usize, usize, usize)>> = Vec::new();
    let mut room = 0;
    for (index, &length) in lengths.iter().enumerate() {
        let mut at = 0;
        while at < length {
            if room == 0 {
                bins.push(Vec::new());
                room = capacity;
            }
            let take = room.min(length - at);
            if let Some(bin) = bins.last_mut() {
                bin.push((index, at, at + take));
            }
            (at, room) = (at + take, room - take);
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_trl() {
        // trl.pack_dataset's own example: lengths 5 (cut to 4), 2, 3, 1 into 4.
        assert_eq!(best_fit_decreasing(&[5, 2, 3, 1], 4), [vec![0], vec![2, 3], vec![1]]);
    }

    #[test]
    fn bins_hold_everything_once_and_no_more_than_fits() {
        let lengths: Vec<usize> = (0..200).map(|i| (i * 37) % 61).collect();
        let bins = best_fit_decreasing(&lengths, 64);
        let mut seen: Vec<usize> = bins.iter().flatten().copied().collect();
        seen.sort();
        assert_eq!(seen, (0..200).filter(|i| lengths[*i] > 0).collect::<Vec<_>>());
        assert!(bins.iter().all(|b| b.iter().map(|i| lengths[*i]).sum::<usize>() <= 64));
        assert!(bins.len() <= lengths.iter().sum::<usize>().div_ceil(64) + 1);
    }

    #[test]
    fn wrapped_cuts_across() {
        assert_eq!(
            wrapped(&[5, 2, 0, 3], 4),
            [vec![(0, 0, 4)], vec![(0, 4, 5), (1, 0, 2), (3, 0, 1)], vec![(3, 1, 3)]]
        );
    }

    #[test]
    fn long_sequences_are_taken_apart() {
        assert_eq!(split(&[3, 0, 9, 4], 4), [(0, 0, 3), (2, 0, 4), (2, 4, 8), (2, 8, 9), (3, 0, 4)]);
    }
}
