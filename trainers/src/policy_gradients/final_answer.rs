//! Finding the answer in a completion: the last number, what stands after `####`, in `\boxed{}`, after `</think>`.

/// Numbers as people write them: sign, thousands' commas, decimals, per cent.
pub fn number(text: &str) -> Option<f64> {
    let plain: String = text.trim().trim_end_matches(['.', '%']).trim_start_matches('$').replace(',', "");
    let plain = plain.trim();
    let shape = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let is_number = shape.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && shape.chars().all(|c| c.is_ascii_digit() || c == '.')
        && shape.chars().any(|c| c.is_ascii_digit());
    if is_number { plain.parse().ok() } else { None }
}

/// The last number in a text: digits with a sign before (unless a digit or letter stands before that) and decimals.
pub fn last_number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let mut end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let part_of = |i: usize| bytes[i].is_ascii_digit() || matches!(bytes[i], b'.' | b',');
    let mut start = end;
    while start > 0 && part_of(start - 1) {
        start -= 1;
    }
    while start < end && !bytes[start].is_ascii_digit() && bytes[start] != b'.' {
        start += 1;
    }
    while end > start && !bytes[end - 1].is_ascii_digit() {
        end -= 1;
    }
    let negative = start > 0 && bytes[start - 1] == b'-' && !(start > 1 && bytes[start - 2].is_ascii_alphanumeric());
    // A text such as 1.2.3 is no number; then its last part is.
    let found = number(&text[start..end]).or_else(|| number(text[start..end].rsplit(['.', ',']).next()?))?;
    Some(if negative { -found } else { found })
}

/// What stands after the last `####`, to the end of the line: GSM8K's answers.
pub fn after_hashes(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("####")?;
    Some(rest.lines().next().unwrap_or("").trim())
}

/// What stands in the last `\boxed{…}`, braces balanced.
pub fn boxed(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("\\boxed{")?;
    let mut depth = 1;
    for (i, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(rest[..i].trim());
        }
    }
    None
}

/// What follows the reasoning: all after the last `</think>`, or the whole text.
pub fn after_thinking(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, rest)| rest)
}

/// Whether two answers are the same: as numbers if both are, else as text without blanks at the ends and case.
pub fn same(found: &str, expected: &str) -> bool {
    match (number(found), number(expected)) {
        (Some(a), Some(b)) => same_number(a, b),
        _ => found.trim().eq_ignore_ascii_case(expected.trim()),
    }
}

/// Equal to nine digits.
pub fn same_number(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, value) in [
            ("12", Some(12.0)),
            ("-3.50", Some(-3.5)),
            ("1,234", Some(1234.0)),
            ("$5", Some(5.0)),
            ("40%", Some(40.0)),
            (".5", Some(0.5)),
            ("3 apples", None),
            ("", None),
            ("-", None),
            ("inf", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn last_numbers() {
        for (text, value) in [
            ("15 + 36 = 51.", Some(51.0)),
            ("so it is -7", Some(-7.0)),
            ("12-5", Some(5.0)),
            ("x is 3.25, I think", Some(3.25)),
            ("about 1,000,000 stars", Some(1e6)),
            ("page 1.2.3", Some(3.0)),
            ("none", None),
            ("é7é", Some(7.0)),
        ] {
            assert_eq!(last_number(text), value, "{text}");
        }
    }

    #[test]
    fn marked_answers() {
        assert_eq!(after_hashes("a\n#### 12 \nb"), Some("12"));
        assert_eq!(boxed("\\boxed{1} then \\boxed{\\frac{1}{2}}."), Some("\\frac{1}{2}"));
        assert_eq!(boxed("\\boxed{1"), None);
        assert_eq!(after_thinking("<think>3</think> 4"), " 4");
        assert!(same(" 7.0", "7") && same("Paris", "paris ") && !same("7", "8"));
    }
}
