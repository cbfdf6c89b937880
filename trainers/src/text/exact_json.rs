//! JSON of data sets as Python reads it: whole numbers of any size, NaN and Infinity, each kept as it is written.
//!
//! serde_json's numbers are 64-bit integers or floats; its `arbitrary_precision` would keep more, but then the tokenizers crate
//! cannot read post-processors any more (numbers inside its untagged enums). So a number that has no room is kept in a
//! [`Json::Object`] with the one key [`KEY`], and whoever shows a value to people, programs or templates asks [`exact_number`]
//! or writes with [`to_text`].
use std::borrow::Cow;

use serde_json::Value as Json;

/// The key of an object that stands for a number: a noncharacter, which no text has.
const KEY: &str = "\u{10FFFE}number";
/// Digits that Python converts at most (`sys.get_int_max_str_digits`).
const MAX_DIGITS: usize = 4300;

/// Reads JSON as Python's `json.loads`: whole numbers keep their digits, `NaN`, `Infinity` and `-Infinity` are numbers, a
/// float beyond the range of f64 is infinite.
///
/// Errors are serde_json's. The column of an error may lie further right behind such a number.
pub fn parse(text: &str) -> serde_json::Result<Json> {
    serde_json::from_str(&spell_out(text))
}

/// The number that `value` stands for where serde_json has no room for it: digits with an optional sign, `NaN`, `Infinity`, `-Infinity`.
pub fn exact_number(value: &Json) -> Option<&str> {
    match value {
        Json::Object(fields) if fields.len() == 1 => fields.get(KEY)?.as_str(),
        _ => None,
    }
}

/// A float as Python's `json.dumps` writes it: NaN and infinities too.
pub fn of_float(x: f64) -> Json {
    let named = match x {
        x if x.is_nan() => "NaN",
        x if x.is_infinite() => ["Infinity", "-Infinity"][usize::from(x < 0.0)],
        x => return Json::from(x),
    };
    Json::Object([(KEY.to_string(), Json::from(named))].into_iter().collect())
}

/// JSON on one line, with every number as it was read.
pub fn to_text(value: &Json) -> String {
    let text = value.to_string();
    let opening = format!("{{\"{KEY}\":\"");
    if !text.contains(&opening) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split(opening.as_str());
    out.push_str(parts.next().unwrap_or(""));
    for part in parts {
        let (digits, rest) = part.split_once("\"}").unwrap_or((part, ""));
        out.push_str(digits);
        out.push_str(rest);
    }
    out
}

/// The text with an object in place of each number that serde_json has no room for.
fn spell_out(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at),
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
                    .count();
                let token = &text[at..at + length];
                if let Some(number) = without_room(token) {
                    out.push_str(&text[copied..at]);
                    out.push_str(&number);
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The byte after the string that starts at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// What stands for a number that serde_json would refuse or round.
fn without_room(token: &str) -> Option<String> {
    let marked = |number: &str| Some(format!("{{\"{KEY}\":\"{number}\"}}"));
    if matches!(token, "NaN" | "Infinity" | "-Infinity") {
        return marked(token);
    }
    if token == "-0" {
        // A whole number to Python, which has one zero of them.
        return Some("0".into());
    }
    let digits = token.strip_prefix('-').unwrap_or(token);
    if !digits.starts_with(|c: char| c.is_ascii_digit())
        || (digits.len() > 1 && digits.starts_with('0') && whole(digits))
    {
        return None;
    }
    if whole(digits) {
        let fits = token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok();
        return if fits || digits.len() > MAX_DIGITS { None } else { marked(token) };
    }
    match token.parse::<f64>() {
        Ok(x) if x.is_infinite() => marked(if x > 0.0 { "Infinity" } else { "-Infinity" }),
        _ => None,
    }
}

fn whole(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for text in [
            "123456789012345678901",
            "[-9223372036854775809,18446744073709551615,18446744073709551616]",
            r#"{"a":{"b":[NaN,Infinity,-Infinity,1.5]},"NaN":"-0 1e999 \" 99999999999999999999"}"#,
        ] {
            assert_eq!(to_text(&parse(text).unwrap()), text);
        }
        assert_eq!(exact_number(&parse("123456789012345678901").unwrap()), Some("123456789012345678901"));
        assert_eq!(parse("-0").unwrap(), Json::from(0));
        assert_eq!(exact_number(&parse("-1e999").unwrap()), Some("-Infinity"));
        assert_eq!(exact_number(&parse("1e300").unwrap()), None);
        for (x, text) in [(f64::NAN, "NaN"), (f64::NEG_INFINITY, "-Infinity"), (0.25, "0.25"), (-0.0, "-0.0")] {
            assert_eq!(to_text(&of_float(x)), text);
        }
    }

    /// What is no JSON stays none: leading zeros, half numbers, names that only begin like one.
    #[test]
    fn errors_stay_errors() {
        for text in ["01", "-", "Nan", "Infinit", "1.", "1e", "[1 2]", "\"open", "+1", "000000000000000000000000001"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
