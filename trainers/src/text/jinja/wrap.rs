//! The filter `wordwrap`: Python's `textwrap.wrap`, paragraph by paragraph.
use std::sync::LazyLock;

use fancy_regex::Regex;

use super::arguments::{Args, index};
use super::fault::{FaultKind, R, fault, type_fault, value_fault};
use super::run::Rendering;
use super::strings::lines;
use super::values::Value;

/// textwrap's `wordsep_re`: blanks, dashes between words, words that may break behind a hyphen.
static CHUNKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let (word, letter, blank, solid) = (r#"[\w!"'&.,?]"#, r"[^\d\W]", r"[\t\n\x0b\x0c\r ]", r"[^\t\n\x0b\x0c\r ]");
    Regex::new(&format!(
        r"{blank}+|(?<={word})-{{2,}}(?=\w)|{solid}+?(?:-(?:(?<={letter}{{2}}-)|(?<={letter}-{letter}-))(?={letter}-?{letter})|(?={blank}|\z)|(?<={word})(?=-{{2,}}\w))"
    ))
    .ok()
});
static BLANKS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\t\n\x0b\x0c\r ]+|[^\t\n\x0b\x0c\r ]+").ok());

/// `text | wordwrap(width, break_long_words, wrapstring, break_on_hyphens)`.
pub(super) fn wordwrap(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [width, long, joiner, hyphens] =
        args.bind("wordwrap", ["width", "break_long_words", "wrapstring", "break_on_hyphens"], 0)?;
    let width = width.map_or(Ok(79), |w| index(&w))?;
    let on = |v: &Option<Value>| v.as_ref().is_none_or(Value::truth);
    let joiner = match &joiner {
        None | Some(Value::None) => "\n",
        Some(v) => v.as_str().ok_or_else(|| type_fault("wrapstring must be a str"))?,
    };
    let text = match value {
        Value::Undefined(message) => return Err(fault(FaultKind::Undefined, message.to_string())),
        value => value
            .as_str()
            .ok_or_else(|| type_fault(format!("'{}' object has no attribute 'splitlines'", value.type_name())))?,
    };
    run.charge(text.len().saturating_mul(2 + joiner.len()))?;
    let mut out = Vec::new();
    for line in lines(text, false) {
        out.push(wrap(line, width, on(&long), on(&hyphens))?.join(joiner));
    }
    Ok(Value::str(out.join(joiner)))
}

fn wrap(text: &str, width: i64, break_long: bool, break_hyphens: bool) -> R<Vec<String>> {
    let width = usize::try_from(width).ok().filter(|w| *w > 0);
    let width = width.ok_or_else(|| value_fault("invalid width (must be > 0)"))?;
    let pattern = if break_hyphens { &CHUNKS } else { &BLANKS };
    let pattern =
        pattern.as_ref().ok_or_else(|| fault(FaultKind::Unsupported, "wordwrap's expression does not compile"))?;
    let mut chunks: Vec<String> = Vec::new();
    for found in pattern.find_iter(text) {
        let found = found.map_err(|e| fault(FaultKind::Limit, format!("wordwrap: {e}")))?;
        chunks.push(found.as_str().to_string());
    }
    chunks.reverse();
    let length = |s: &str| s.chars().count();
    let is_blank = |s: &str| s.chars().all(super::unicode::is_space);
    let mut out: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let mut line: Vec<String> = Vec::new();
        let mut used = 0;
        if !out.is_empty() && chunks.last().is_some_and(|c| is_blank(c)) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.pop_if(|c| used + length(c) <= width) {
            used += length(&chunk);
            line.push(chunk);
        }
        if let Some(chunk) = chunks.last_mut().filter(|c| length(c) > width) {
            if break_long {
                let room = width - used;
                let mut end = room;
                if break_hyphens && length(chunk) > room {
                    let head: Vec<char> = chunk.chars().take(room).collect();
                    if let Some(at) = head
                        .iter()
                        .rposition(|c| *c == '-')
                        .filter(|at| *at > 0 && head[..*at].iter().any(|c| *c != '-'))
                    {
                        end = at + 1;
                    }
                }
                let at = chunk.char_indices().nth(end).map_or(chunk.len(), |(at, _)| at);
                line.push(chunk[..at].to_string());
                *chunk = chunk[at..].to_string();
            } else if line.is_empty() {
                line.extend(chunks.pop());
            }
        }
        if line.last().is_some_and(|c| is_blank(c)) {
            line.pop();
        }
        if !line.is_empty() {
            out.push(line.concat());
        }
    }
    Ok(out)
}
