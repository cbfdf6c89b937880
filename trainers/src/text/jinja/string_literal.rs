//! The escapes of string literals: Python's `unicode-escape`, as Jinja2 applies it.
use super::fault::{Fault, FaultKind, R, fault, unsupported};

/// Names that `\N{…}` may give here; Python knows all of Unicode's.
const NAMES: [(&str, char); 28] = [
    ("BULLET", '•'),
    ("COPYRIGHT SIGN", '©'),
    ("DEGREE SIGN", '°'),
    ("EM DASH", '—'),
    ("EN DASH", '–'),
    ("EURO SIGN", '€'),
    ("HORIZONTAL ELLIPSIS", '…'),
    ("HYPHEN-MINUS", '-'),
    ("LEFT DOUBLE QUOTATION MARK", '“'),
    ("LEFT SINGLE QUOTATION MARK", '‘'),
    ("LEFT-POINTING DOUBLE ANGLE QUOTATION MARK", '«'),
    ("LEFTWARDS ARROW", '←'),
    ("LINE FEED", '\n'),
    ("LOWER ONE EIGHTH BLOCK", '▁'),
    ("MIDDLE DOT", '·'),
    ("MINUS SIGN", '−'),
    ("MULTIPLICATION SIGN", '×'),
    ("NO-BREAK SPACE", '\u{a0}'),
    ("RIGHT DOUBLE QUOTATION MARK", '”'),
    ("RIGHT SINGLE QUOTATION MARK", '’'),
    ("RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK", '»'),
    ("RIGHTWARDS ARROW", '→'),
    ("SECTION SIGN", '§'),
    ("SNOWMAN", '☃'),
    ("SPACE", ' '),
    ("WHITE HEAVY CHECK MARK", '✅'),
    ("ZERO WIDTH JOINER", '\u{200d}'),
    ("ZERO WIDTH SPACE", '\u{200b}'),
];

/// The text that a literal's inside stands for.
pub(super) fn unescape(inside: &str) -> R<String> {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let Some(c) = tail.chars().next() else { return Err(wrong("\\ at end of string")) };
        let mut used = c.len_utf8();
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '0'..='7' => {
                used = tail.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                out.push(u32::from_str_radix(&tail[..used], 8).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            'x' => used += coded(&tail[1..], 2, &mut out)?,
            'u' => used += coded(&tail[1..], 4, &mut out)?,
            'U' => used += coded(&tail[1..], 8, &mut out)?,
            'N' => {
                let name = tail[1..].strip_prefix('{').and_then(|t| t.split_once('}')).map(|(name, _)| name);
                let name = name.ok_or_else(|| wrong("malformed \\N character escape"))?;
                let known = NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
                out.push(known.ok_or_else(|| unsupported(format!("the character name \\N{{{name}}}")))?.1);
                used += name.len() + 2;
            }
            // Jinja2 spells other characters out before it reads escapes, so that the backslash escapes the spelling's own.
            c if !c.is_ascii() => match c as u32 {
                n @ ..0x100 => out.push_str(&format!("\\x{n:02x}")),
                n @ ..0x10000 => out.push_str(&format!("\\u{n:04x}")),
                n => out.push_str(&format!("\\U{n:08x}")),
            },
            c => {
                out.push('\\');
                out.push(c);
            }
        }
        rest = &tail[used..];
    }
    out.push_str(rest);
    Ok(out)
}

fn wrong(message: &str) -> Fault {
    fault(FaultKind::Syntax, message)
}

/// A character by `digits` hexadecimal digits; how many bytes they took.
fn coded(text: &str, digits: usize, out: &mut String) -> R<usize> {
    let code = text.get(..digits).filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
    let code =
        code.and_then(|t| u32::from_str_radix(t, 16).ok()).ok_or_else(|| wrong("truncated \\x, \\u or \\U escape"))?;
    if (0xd800..0xe000).contains(&code) {
        return Err(unsupported(format!("half a surrogate pair (\\u{code:04x})")));
    }
    out.push(char::from_u32(code).ok_or_else(|| wrong("illegal Unicode character"))?);
    Ok(digits)
}
