//! Counts of things in words: "1 step", "2 steps".

/// A count with its noun, as English has it. `noun` is the singular; one that ends in y after a consonant, or in a hiss, changes as
/// it does in print.
pub fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {}", plural(n, noun))
}

/// The noun alone, in the number that `n` asks for.
pub fn plural(n: u64, noun: &str) -> String {
    let consonant = |c: char| !"aeiou".contains(c);
    match noun.strip_suffix('y') {
        _ if n == 1 => noun.into(),
        Some(stem) if stem.ends_with(consonant) => format!("{stem}ies"),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end)) => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// "1 of 3 rows was", "2 of 3 rows were": how many of how many, and the verb in their number.
pub fn counted_of(n: usize, of: usize, noun: &str, (one, many): (&str, &str)) -> String {
    format!("{n} of {} {}", counted(of, noun), if n == 1 { one } else { many })
}

/// The past of "to be", for [`counted_of`].
pub const WAS: (&str, &str) = ("was", "were");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        for (n, noun, text) in [
            (0, "step", "0 steps"),
            (1, "step", "1 step"),
            (2, "query", "2 queries"),
            (1, "query", "1 query"),
            (3, "day", "3 days"),
            (2, "batch", "2 batches"),
        ] {
            assert_eq!(counted(n, noun), text);
        }
        assert_eq!(counted(12_usize, "row"), "12 rows");
        assert_eq!(counted_of(1, 3, "row", WAS), "1 of 3 rows was");
        assert_eq!(counted_of(0, 1, "row", WAS), "0 of 1 row were");
    }
}
