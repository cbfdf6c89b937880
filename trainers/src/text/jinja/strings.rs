//! What Python's strings do, on plain text: splitting, stripping, cases, padding.
use super::unicode::{fold, is_cased, is_line_end, is_space, is_title, title};

/// `split()`: at runs of blanks, at most `limit` times.
pub(super) fn split_blanks(text: &str, limit: Option<usize>) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if limit.is_some_and(|n| out.len() >= n) {
            out.push(rest);
            return out;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        out.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    out
}

/// `rsplit()`: as [`split_blanks`] from the end.
pub(super) fn rsplit_blanks(text: &str, limit: Option<usize>) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if limit.is_some_and(|n| out.len() >= n) {
            out.push(rest);
            break;
        }
        let start = rest.char_indices().rev().find(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
        out.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    out.reverse();
    out
}

/// `split(separator)`.
pub(super) fn split_at<'a>(text: &'a str, separator: &str, limit: Option<usize>) -> Vec<&'a str> {
    match limit {
        Some(n) => text.splitn(n.saturating_add(1), separator).collect(),
        None => text.split(separator).collect(),
    }
}

/// `rsplit(separator)`.
pub(super) fn rsplit_at<'a>(text: &'a str, separator: &str, limit: Option<usize>) -> Vec<&'a str> {
    let mut out: Vec<&str> = match limit {
        Some(n) => text.rsplitn(n.saturating_add(1), separator).collect(),
        None => text.rsplit(separator).collect(),
    };
    out.reverse();
    out
}

/// `splitlines(keepends)`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_line_end(*c)) {
        let mut end = at + c.len_utf8();
        if c == '\r' && rest[end..].starts_with('\n') {
            end += 1;
        }
        out.push(if keep_ends { &rest[..end] } else { &rest[..at] });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

/// `strip(chars)` on the left, the right or both sides; without characters, blanks.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// `capitalize()`.
pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // The rest is lowered where it stands: a final sigma is seen from the whole word.
    let lower = text.to_lowercase();
    let first_lower: usize = first.to_lowercase().map(char::len_utf8).sum();
    title(first) + &lower[first_lower..]
}

/// `title()`: after every character without case a word begins.
pub(super) fn title_case(text: &str) -> String {
    let lower: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut in_word = false;
    for (i, c) in lower.iter().enumerate() {
        if !in_word {
            out.push_str(&title(*c));
        } else if *c == 'Σ' {
            out.push(if ends_word(&lower, i) { 'ς' } else { 'σ' });
        } else {
            out.extend(c.to_lowercase());
        }
        in_word = is_cased(*c);
    }
    out
}

/// Whether the letter at `i` is the last of a word with a letter before it (the final sigma's rule).
fn ends_word(chars: &[char], i: usize) -> bool {
    let ignorable = |c: &&char| {
        !is_cased(**c)
            && matches!(**c, '\'' | '.' | ':' | '^' | '`' | '\u{ad}' | '\u{b7}' | '\u{2019}' | '\u{300}'..='\u{36f}')
    };
    let before = chars[..i].iter().rev().find(|c| !ignorable(c)).is_some_and(|c| is_cased(*c));
    let after = chars[i + 1..].iter().find(|c| !ignorable(c)).is_some_and(|c| is_cased(*c));
    before && !after
}

/// `swapcase()`.
pub(super) fn swap_case(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        if *c == 'Σ' {
            out.push(if ends_word(&chars, i) { 'ς' } else { 'σ' });
        } else if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(*c);
        }
    }
    out
}

/// `casefold()`.
pub(super) fn case_fold(text: &str) -> String {
    fold(text)
}

/// `islower()`, `isupper()` and `istitle()`.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

pub(super) fn is_title_case(text: &str) -> bool {
    let (mut in_word, mut any) = (false, false);
    for c in text.chars() {
        if c.is_uppercase() || is_title(c) {
            if in_word {
                return false;
            }
            (in_word, any) = (true, true);
        } else if c.is_lowercase() {
            if !in_word {
                return false;
            }
            any = true;
        } else {
            in_word = false;
        }
    }
    any
}

/// `center(width)`: where the blanks cannot be shared evenly, CPython's rule says which side gets one more.
pub(super) fn center(text: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & width & 1);
    let fills = |n: usize| fill.to_string().repeat(n);
    fills(left) + text + &fills(missing - left)
}

/// `zfill(width)`: zeros behind the sign.
pub(super) fn zero_fill(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let sign = if text.starts_with(['-', '+']) { 1 } else { 0 };
    format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
}

/// `expandtabs(size)`.
pub(super) fn expand_tabs(text: &str, size: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                if size > 0 {
                    let n = size - column % size;
                    out.push_str(&" ".repeat(n));
                    column += n;
                }
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

/// `replace(from, to, count)`; an empty `from` stands before each character and at the end.
pub(super) fn replace(text: &str, from: &str, to: &str, limit: Option<usize>) -> String {
    match limit {
        Some(n) => text.replacen(from, to, n),
        None => text.replace(from, to),
    }
}
