//! HTML in text: tags taken out, entities turned back into characters.
use super::fault::{R, unsupported};
use super::strings::split_blanks;

/// MarkupSafe's `striptags`: without tags and comments, blanks collapsed, entities read.
pub(super) fn strip_tags(text: &str) -> R<String> {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let end = match rest[start..].strip_prefix("<!--") {
            Some(comment) => comment.find("-->").map(|at| start + 4 + at + 3),
            None => rest[start..].find('>').map(|at| start + at + 1),
        };
        let Some(end) = end else { break };
        kept.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    kept.push_str(rest);
    unescape(&split_blanks(&kept, None).join(" "))
}

/// Python's `html.unescape`, for numbers and the names that HTML's own escaping uses. Errors: another name.
pub(super) fn unescape(text: &str) -> R<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (shown, used) = entity(tail)?;
        out.push_str(&shown);
        rest = &tail[used..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands for the entity behind a `&`, and how many bytes of it are used.
fn entity(tail: &str) -> R<(String, usize)> {
    if let Some(number) = tail.strip_prefix('#') {
        let (digits, radix, prefix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16, 2),
            None => (number, 10, 1),
        };
        let n = digits.len() - digits.trim_start_matches(|c: char| c.is_digit(radix)).len();
        if n == 0 {
            return Ok(("&".into(), 0));
        }
        let used = prefix + n + usize::from(digits[n..].starts_with(';'));
        let code = u32::from_str_radix(&digits[..n], radix).unwrap_or(u32::MAX);
        let c = match code {
            0x80..=0x9f | 0..=8 | 0xb | 0xe..=0x1f | 0x7f => return Err(unsupported(format!("the entity &#{code};"))),
            code => char::from_u32(code).unwrap_or('\u{fffd}'),
        };
        return Ok((c.to_string(), used));
    }
    let n = tail.find(['\t', '\n', '\u{c}', ' ', '<', '&', '#', ';']).unwrap_or(tail.len());
    let name = &tail[..n];
    if name.is_empty() {
        return Ok(("&".into(), 0));
    }
    let closed = tail[n..].starts_with(';');
    let shown = match name {
        "amp" | "AMP" => "&",
        "lt" | "LT" => "<",
        "gt" | "GT" => ">",
        "quot" | "QUOT" => "\"",
        "apos" if closed => "'",
        "nbsp" => "\u{a0}",
        // Any other name may be one of HTML's 2,231, or begin with one.
        name if name.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) && name.len() > 1 => {
            return Err(unsupported(format!("the HTML entity &{name}")));
        }
        _ => return Ok(("&".into(), 0)),
    };
    Ok((shown.into(), n + usize::from(closed)))
}
