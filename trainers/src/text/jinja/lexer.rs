//! Template source to tokens, with Jinja2's white-space rules as transformers sets them (trim_blocks, lstrip_blocks).
use num_bigint::BigInt;

use super::fault::{Fault, FaultKind, R, fault};
use super::number::parse_int;
use super::string_literal::unescape;
use super::unicode::{is_alnum, is_identifier, is_space};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    Str(String),
    Int(BigInt),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longest first.
const OPERATORS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";", "!",
];

/// Tokens with the lines they begin on; [`Token::End`] is the last. `trim` is Jinja2's trim_blocks and lstrip_blocks.
pub(super) fn tokens(source: &str, trim: bool) -> R<Vec<(usize, Token)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, trim, at: 0, line: 1, line_starts: true, out: Vec::new() };
    lexer.root().map_err(|mut e| {
        e.line.get_or_insert(lexer.line);
        e
    })?;
    let line = lexer.line;
    lexer.out.push((line, Token::End));
    Ok(lexer.out)
}

struct Lexer<'a> {
    source: &'a str,
    trim: bool,
    at: usize,
    line: usize,
    /// Whether what was matched last ended a line (or nothing was).
    line_starts: bool,
    out: Vec<(usize, Token)>,
}

fn syntax(message: impl Into<String>) -> Fault {
    fault(FaultKind::Syntax, message)
}

/// The white-space sign at the beginning of a text.
fn sign(text: &str) -> &str {
    if text.starts_with(['-', '+']) { &text[..1] } else { "" }
}

fn skip_space(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Moves on, counting lines.
    fn advance(&mut self, bytes: usize) {
        let passed = &self.rest()[..bytes];
        self.line += passed.matches('\n').count();
        self.line_starts = passed.ends_with('\n');
        self.at += bytes;
    }

    /// Text up to a tag, without the blanks that the tag's sign or lstrip_blocks takes.
    fn data(&mut self, length: usize, sign: &str, lstrip: bool) {
        let text = &self.rest()[..length];
        let kept = if sign == "-" {
            text.trim_end_matches(is_space)
        } else if sign != "+" && lstrip && self.trim {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            let blank = line < text.len() && text[line..].chars().all(is_space);
            if blank && (line > 0 || self.line_starts) { &text[..line] } else { text }
        } else {
            text
        };
        if !kept.is_empty() {
            self.out.push((self.line, Token::Data(kept.to_string())));
        }
        self.line += text.matches('\n').count();
        self.at += length;
    }

    fn root(&mut self) -> R<()> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let Some(found) =
                ["{%", "{{", "{#"].iter().filter_map(|tag| rest.find(tag).map(|at| (at, *tag))).min_by_key(|f| f.0)
            else {
                let length = rest.len();
                self.data(length, "+", false);
                return Ok(());
            };
            let (length, tag) = found;
            let behind = &rest[length + 2..];
            let sign = sign(behind);
            self.data(length, sign, tag != "{{");
            match tag {
                "{#" => self.comment(sign.len())?,
                "{{" => {
                    self.out.push((self.line, Token::PrintBegin));
                    self.advance(2 + sign.len());
                    self.inside("}}", false)?;
                }
                _ => match raw_begin(&behind[sign.len()..]) {
                    Some(bytes) => {
                        self.advance(2 + sign.len() + bytes);
                        self.raw()?;
                    }
                    None => {
                        self.out.push((self.line, Token::BlockBegin));
                        self.advance(2 + sign.len());
                        self.inside("%}", true)?;
                    }
                },
            }
        }
        Ok(())
    }

    fn comment(&mut self, sign: usize) -> R<()> {
        self.advance(2 + sign);
        let rest = self.rest();
        let end = rest.find("#}").ok_or_else(|| syntax("Missing end of comment tag"))?;
        let before = rest[..end].chars().last().filter(|c| matches!(c, '-' | '+'));
        self.advance(end);
        self.close(before == Some('-'), before.is_none());
        Ok(())
    }

    /// Passes the two closing characters of a tag and the white space they take with them.
    fn close(&mut self, strip: bool, trim: bool) {
        let behind = &self.rest()[2..];
        let more = if strip { skip_space(behind) } else { usize::from(trim && self.trim && behind.starts_with('\n')) };
        self.advance(2 + more);
    }

    fn raw(&mut self) -> R<()> {
        let rest = self.rest();
        let mut from = 0;
        while let Some(found) = rest[from..].find("{%") {
            let at = from + found;
            let tag = &rest[at + 2..];
            let sign = sign(tag);
            let inner = &tag[sign.len()..];
            let name = skip_space(inner);
            if let Some(behind) = inner[name..].strip_prefix("endraw") {
                let end = skip_space(behind);
                let closing = &behind[end..];
                let right = self::sign(closing);
                if closing[right.len()..].starts_with("%}") {
                    self.data(at, sign, true);
                    self.advance(2 + sign.len() + name + "endraw".len() + end + right.len());
                    self.close(right == "-", right.is_empty());
                    return Ok(());
                }
            }
            from = at + 2;
        }
        Err(syntax("Missing end of raw directive"))
    }

    /// Tokens of a tag up to and with its end.
    fn inside(&mut self, end: &str, block: bool) -> R<()> {
        let mut brackets: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return Ok(()) };
            if brackets.is_empty() {
                let sign = sign(rest);
                if rest[sign.len()..].starts_with(end) && (block || sign != "+") {
                    self.out.push((self.line, if block { Token::BlockEnd } else { Token::PrintEnd }));
                    self.advance(sign.len());
                    self.close(sign == "-", block && sign.is_empty());
                    return Ok(());
                }
            }
            let line = self.line;
            if is_space(first) {
                let bytes = skip_space(rest);
                self.advance(bytes);
            } else if let Some((token, bytes)) = number(rest, self.source[..self.at].ends_with('.')) {
                if token == Token::Float(f64::INFINITY) {
                    return Err(super::fault::unsupported("a number beyond the range of floats"));
                }
                self.out.push((line, token));
                self.advance(bytes);
            } else if first == '_' || is_alnum(first) {
                let bytes =
                    rest.find(|c| c != '_' && !is_alnum(c) && !is_identifier(&format!("a{c}"))).unwrap_or(rest.len());
                if !is_identifier(&rest[..bytes]) {
                    return Err(syntax("Invalid character in identifier"));
                }
                self.out.push((line, Token::Name(rest[..bytes].to_string())));
                self.advance(bytes);
            } else if let Some(bytes) = string_end(rest) {
                self.out.push((line, Token::Str(unescape(&rest[1..bytes - 1])?)));
                self.advance(bytes);
            } else {
                self.operator(&mut brackets)?;
            }
        }
    }

    fn operator(&mut self, brackets: &mut Vec<&'static str>) -> R<()> {
        let rest = self.rest();
        let found = OPERATORS.iter().find(|o| rest.starts_with(**o) && **o != "!");
        let Some(operator) = found else {
            return Err(syntax(format!("unexpected char {:?}", rest.chars().next().unwrap_or(' '))));
        };
        match *operator {
            "{" => brackets.push("}"),
            "(" => brackets.push(")"),
            "[" => brackets.push("]"),
            "}" | ")" | "]" => match brackets.pop() {
                Some(expected) if expected == *operator => {}
                Some(expected) => return Err(syntax(format!("unexpected '{operator}', expected '{expected}'"))),
                None => return Err(syntax(format!("unexpected '{operator}'"))),
            },
            _ => {}
        }
        self.out.push((self.line, Token::Operator(operator)));
        self.advance(operator.len());
        Ok(())
    }
}

/// The bytes from behind the sign of a block tag to the end of `raw %}`, if it is one.
fn raw_begin(inner: &str) -> Option<usize> {
    let name = skip_space(inner);
    let behind = inner[name..].strip_prefix("raw")?;
    let space = skip_space(behind);
    let closing = &behind[space..];
    let bytes = if let Some(after) = closing.strip_prefix("-%}") {
        3 + skip_space(after)
    } else {
        closing.starts_with("%}").then_some(2)?
    };
    Some(name + 3 + space + bytes)
}

/// The bytes of the string literal at the beginning of a text.
fn string_end(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Digits with single underscores between them: how many bytes.
fn digits(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut n = 0;
    while n < bytes.len() {
        let between =
            bytes[n] == b'_' && n > 0 && bytes[n - 1] != b'_' && bytes.get(n + 1).is_some_and(u8::is_ascii_digit);
        if !bytes[n].is_ascii_digit() && !between {
            break;
        }
        n += 1;
    }
    n
}

/// The number literal at the beginning of a text; a float does not begin right behind a point.
fn number(text: &str, behind_point: bool) -> Option<(Token, usize)> {
    let first = text.bytes().next().filter(u8::is_ascii_digit)?;
    if !behind_point {
        let whole = digits(text);
        let fraction = text[whole..].strip_prefix('.').map(digits).filter(|n| *n > 0).map_or(0, |n| n + 1);
        let behind = &text[whole + fraction..];
        let exponent = behind.strip_prefix(['e', 'E']).map_or(0, |tail| {
            let sign = sign(tail).len();
            match digits(&tail[sign..]) {
                0 => 0,
                n => 1 + sign + n,
            }
        });
        let bytes = whole + fraction + exponent;
        if fraction + exponent > 0 {
            return Some((Token::Float(text[..bytes].replace('_', "").parse().ok()?), bytes));
        }
    }
    let radix = match text.as_bytes().get(1).map(u8::to_ascii_lowercase) {
        Some(b'b') if first == b'0' => 2,
        Some(b'o') if first == b'0' => 8,
        Some(b'x') if first == b'0' => 16,
        _ => 10,
    };
    if radix != 10 {
        let mut n = 2;
        for (at, c) in text.char_indices().skip(2) {
            if c.is_digit(radix) {
                n = at + 1;
            } else if c != '_' || text[..at].ends_with('_') {
                break;
            }
        }
        if n > 2 {
            return parse_int(&text[..n].replace('_', ""), 0).map(|value| (Token::Int(value), n));
        }
    }
    let n = if first == b'0' { text.len() - text.trim_start_matches('0').len() } else { digits(text) };
    Some((Token::Int(text[..n].replace('_', "").parse().ok()?), n))
}
