//! Chat-template source made ready for minijinja: generation marks become emitted marker text, operators that can
//! multiply memory get a size check.
//!
//! minijinja has no custom tags, so `{% generation %} … {% endgeneration %}` (transformers' extension) is rewritten to a
//! scope that emits [`START`] and [`END`]; the renderer strips them and keeps their positions. White-space control
//! survives: the left sign stays on the first tag that replaces the mark, the right sign on the last one.
//!
//! `a + b`, `a ~ b` and `a * b` become `a|lapidary_size + b` …: the filter charges the size of its operand to the render's
//! memory budget (see `builtins`), which stops strings that double themselves. Fuel alone would not: thirty doublings are
//! cheap in instructions.

/// Emitted where a generation block starts and ends: noncharacters and private-use code points, which no text has.
pub const START: &str = "\u{10FFFE}\u{F0A1C}\u{E5A7}\u{10FFFF}";
pub const END: &str = "\u{10FFFE}\u{F0A1D}\u{E5A8}\u{10FFFF}";

/// The rewritten source, and whether it had generation marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub source: String,
    pub has_generation: bool,
}

/// Rewrites a template. Source that does not lex is returned as it stands: minijinja's own error is the better one.
pub fn prepare(source: &str) -> Prepared {
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    let mut has_generation = false;
    let mut raw = false;
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let Some(end) = tag_end(tail) else {
            // An open tag without an end; minijinja names the line.
            out.push_str(tail);
            return Prepared { source: out, has_generation };
        };
        let tag = &tail[..end];
        match block_name(tag) {
            Some("endraw") => raw = false,
            Some("raw") => raw = true,
            _ => {}
        }
        if raw || tag.starts_with("{#") {
            out.push_str(tag);
        } else if let Some(mark) = generation_mark(tag) {
            has_generation = true;
            out.push_str(&mark);
        } else {
            check_operators(tag, &mut out);
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    Prepared { source: out, has_generation }
}

/// The byte after the end of the tag that `tail` starts with; strings inside are skipped and brackets balanced.
fn tag_end(tail: &str) -> Option<usize> {
    let close = match &tail[..2] {
        "{#" => return tail.find("#}").map(|at| at + 2),
        "{{" => "}}",
        _ => "%}",
    };
    let bytes = tail.as_bytes();
    let (mut at, mut depth) = (2, 0usize);
    while at < bytes.len() {
        if depth == 0 && tail[at..].starts_with(close) {
            return Some(at + 2);
        }
        match bytes[at] {
            b'\'' | b'"' => at = string_end(bytes, at)?,
            b'{' | b'[' | b'(' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' | b')' => (at, depth) = (at + 1, depth.saturating_sub(1)),
            _ => at += utf8_len(bytes[at]),
        }
    }
    None
}

/// The byte after the string literal that starts at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1 + bytes.get(i + 1).map_or(1, |b| utf8_len(*b)),
            b if b == quote => return Some(i + 1),
            b => i += utf8_len(b),
        }
    }
    None
}

fn utf8_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// The text between the delimiters of a block tag, without its white-space signs, and those signs.
fn block_parts(tag: &str) -> Option<(&str, &str, &str)> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let left = if inner.starts_with(['-', '+']) { &inner[..1] } else { "" };
    let inner = &inner[left.len()..];
    let right = if inner.ends_with(['-', '+']) { &inner[inner.len() - 1..] } else { "" };
    Some((left, inner[..inner.len() - right.len()].trim(), right))
}

fn block_name(tag: &str) -> Option<&str> {
    block_parts(tag).and_then(|(_, inner, _)| inner.split_whitespace().next())
}

/// What replaces `{% generation %}` or `{% endgeneration %}`.
fn generation_mark(tag: &str) -> Option<String> {
    let (left, inner, right) = block_parts(tag)?;
    match inner {
        // `with` is the scope that the call block of transformers' extension makes.
        "generation" => Some(format!("{{%{left} with %}}{{{{ '{START}' }}}}{{% if true {right}%}}")),
        "endgeneration" => Some(format!("{{%{left} endif %}}{{{{ '{END}' }}}}{{% endwith {right}%}}")),
        _ => None,
    }
}

/// Words after which an operator is a sign, not an operation on what stands before it.
const NOT_OPERANDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "elif", "else", "set", "for", "recursive", "do"];

/// Copies a tag, putting the size check behind each left operand of `+`, `~` and `*`.
fn check_operators(tag: &str, out: &mut String) {
    let bytes = tag.as_bytes();
    let mut at = 2;
    let mut operand_ends = false;
    out.push_str(&tag[..2]);
    if matches!(bytes.get(2), Some(b'-' | b'+')) {
        out.push_str(&tag[2..3]);
        at = 3;
    }
    let last = tag.len() - 2;
    while at < last {
        let b = bytes[at];
        let start = at;
        match b {
            b'\'' | b'"' => (at, operand_ends) = (string_end(bytes, at).unwrap_or(last), true),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9' | 0x80.. => {
                while at < last && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80) {
                    at += 1;
                }
                operand_ends = !NOT_OPERANDS.contains(&&tag[start..at]);
            }
            b'*' if bytes[at + 1] == b'*' => (at, operand_ends) = (at + 2, false),
            // A sign right before the end is white-space control.
            b'+' | b'~' | b'*' if operand_ends && at + 1 < last => {
                out.push_str(if b == b'*' { "|lapidary_times " } else { "|lapidary_size " });
                (at, operand_ends) = (at + 1, false);
            }
            b if b.is_ascii_whitespace() => at += 1,
            b => (at, operand_ends) = (at + 1, matches!(b, b')' | b']' | b'}')),
        }
        out.push_str(&tag[start..at]);
    }
    out.push_str(&tag[last..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_marks_keep_white_space_control() {
        let p = prepare("{%- generation -%} x {% endgeneration %}");
        assert!(p.has_generation);
        assert!(p.source.starts_with("{%- with %}{{ '"));
        assert!(p.source.contains("{% if true -%} x {% endif %}"));
        assert!(p.source.ends_with("{% endwith %}"));
        assert!(!prepare("{# {% generation %} #}{{ '{% generation %}' }}").has_generation);
        assert!(!prepare("{% raw %}{% generation %}{% endraw %}").has_generation);
    }

    #[test]
    fn operators_are_checked_and_signs_are_not() {
        let of = |s: &str| prepare(s).source;
        assert_eq!(of("{{ a + b ~ 'x+y' }}"), "{{ a |lapidary_size + b |lapidary_size ~ 'x+y' }}");
        assert_eq!(of("{{- x[1:] * 3 -}}"), "{{- x[1:] |lapidary_times * 3 -}}");
        assert_eq!(of("{{ f(+1, *args, **kw) }}"), "{{ f(+1, *args, **kw) }}");
        assert_eq!(of("{%+ if x +%}"), "{%+ if x +%}");
        assert_eq!(of("{{ {'a': {'b': 1}} }} text }}"), "{{ {'a': {'b': 1}} }} text }}");
        assert_eq!(of("{{ 'é\\'' + \"ü\" }}"), "{{ 'é\\'' |lapidary_size + \"ü\" }}");
        assert_eq!(of("a {{ open"), "a {{ open");
    }
}
