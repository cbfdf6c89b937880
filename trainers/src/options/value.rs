//! From what a person wrote (a flag's words, a YAML value) to a typed value, and back.
use serde_json::Value;
use std::path::PathBuf;

/// A value as it was written, before anything is known about its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A flag's word, or a plain value of a YAML file as it is spelt there: a number, a word, true.
    Text(String),
    /// Several words behind a flag, or a YAML list of plain values.
    List(Vec<String>),
    /// YAML's null.
    Null,
    /// A mapping, or a list of something else than plain values: only options without effect take one.
    Other(String),
}

impl Raw {
    /// As messages quote it.
    pub fn show(&self) -> String {
        match self {
            Raw::Text(text) => format!("{text:?}"),
            Raw::List(items) => format!("[{}]", items.join(", ")),
            Raw::Null => "null".into(),
            Raw::Other(text) => text.clone(),
        }
    }
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => Some(text.trim()),
            _ => None,
        }
    }
    fn is_none(&self) -> bool {
        match self {
            Raw::Null => true,
            Raw::Text(text) => matches!(text.trim().to_ascii_lowercase().as_str(), "none" | "null"),
            _ => false,
        }
    }
}

/// The kind of value an option takes: what its parser accepts and its help says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// true or false, or another word for them that transformers and YAML 1.1 take.
    Bool,
    /// A whole number that is not negative.
    Integer,
    /// A finite number.
    Number,
    /// A number of steps, or a share of all steps.
    Steps,
    /// Any text but the empty one.
    Text,
    /// A path; `~` is the user's home directory.
    Path,
    /// Several words, parted by commas or blanks.
    Words,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// One or several of these names.
    Choices(&'static [&'static str]),
    /// A small language of its own; the text says which.
    Form(&'static str),
}

/// Which numbers are in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least number, or the bound just below all (`min_is_out`).
    pub min: f64,
    /// The greatest number, or the bound just above all (`max_is_out`).
    pub max: f64,
    /// Whether `min` itself is refused.
    pub min_is_out: bool,
    /// Whether `max` itself is refused.
    pub max_is_out: bool,
    /// −1 is written for "no limit".
    pub minus_one_is_none: bool,
}

/// Every number.
pub const ANY: Range = Range {
    min: f64::NEG_INFINITY,
    max: f64::INFINITY,
    min_is_out: false,
    max_is_out: false,
    minus_one_is_none: false,
};

/// min ≤ x
pub const fn at_least(min: f64) -> Range {
    Range { min, ..ANY }
}
/// min < x
pub const fn above(min: f64) -> Range {
    Range { min, min_is_out: true, ..ANY }
}
/// min ≤ x ≤ max
pub const fn between(min: f64, max: f64) -> Range {
    Range { min, max, ..ANY }
}
/// 0 ≤ x < 1
pub const fn share() -> Range {
    Range { min: 0.0, max: 1.0, max_is_out: true, ..ANY }
}
/// 0 < x ≤ 1
pub const fn share_above_zero() -> Range {
    Range { min: 0.0, max: 1.0, min_is_out: true, ..ANY }
}
/// min ≤ x, or −1 for none
pub const fn limit(min: f64) -> Range {
    Range { min, minus_one_is_none: true, ..ANY }
}

impl Range {
    /// Whether x lies inside; −1 for "no limit" is the parser's affair.
    pub fn contains(&self, x: f64) -> bool {
        let above = if self.min_is_out { x > self.min } else { x >= self.min };
        let below = if self.max_is_out { x < self.max } else { x <= self.max };
        above && below
    }
    fn describe(&self) -> String {
        let low = if self.min_is_out { "above" } else { "at least" };
        let high = if self.max_is_out { "below" } else { "at most" };
        let text = match (self.min.is_finite(), self.max.is_finite()) {
            (true, true) => format!(" {low} {} and {high} {}", self.min, self.max),
            (true, false) => format!(" {low} {}", self.min),
            (false, true) => format!(" {high} {}", self.max),
            (false, false) => String::new(),
        };
        if self.minus_one_is_none { format!("{text}, or -1 for no limit") } else { text }
    }
}

/// "a whole number at least 1": what an option accepts, in words.
pub fn describe(kind: Kind, range: Range, optional: bool) -> String {
    let text = match kind {
        Kind::Bool => "true or false".into(),
        Kind::Integer => format!("a whole number{}", range.describe()),
        Kind::Number => format!("a number{}", range.describe()),
        Kind::Steps => "a whole number of steps, at least 1, or a share of all steps above 0 and below 1".into(),
        Kind::Text => "text".into(),
        Kind::Path => "a path".into(),
        Kind::Words => "words parted by commas or blanks".into(),
        Kind::Choice(names) => format!("one of {}", names.join(", ")),
        Kind::Choices(names) => format!("one or several of {}", names.join(", ")),
        Kind::Form(text) => text.to_string(),
    };
    if optional && !matches!(kind, Kind::Text | Kind::Path) && !range.minus_one_is_none {
        format!("{text}, or none")
    } else {
        text
    }
}

/// A type that an option's value can have. `None` from `parse` means: not what [`describe`] says.
pub trait OptionValue: Sized {
    /// What help and errors say that it takes.
    const KIND: Kind;
    /// Whether it may be absent: `null`, or `none` where that is no name.
    const OPTIONAL: bool = false;
    /// The value that was written; numbers only within `range`.
    fn parse(raw: &Raw, range: Range) -> Option<Self>;
    /// What is wrong with a value that does not parse, where more can be said than what is accepted.
    fn complaint(_: &Raw) -> Option<String> {
        None
    }
    /// As the resolved config file holds it; `parse` reads it back to an equal value.
    fn write(&self) -> Value;
}

impl OptionValue for bool {
    const KIND: Kind = Kind::Bool;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        // The words that transformers and YAML 1.1 take.
        match raw.text()?.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> Value {
        Value::from(*self)
    }
}

macro_rules! integer {
    ($($t:ty),*) => {$(
        impl OptionValue for $t {
            const KIND: Kind = Kind::Integer;
            fn parse(raw: &Raw, range: Range) -> Option<Self> {
                raw.text()?.parse().ok().filter(|&n: &$t| range.contains(n as f64))
            }
            fn write(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}
integer!(usize, u64);

impl OptionValue for f64 {
    const KIND: Kind = Kind::Number;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        raw.text()?.parse().ok().filter(|x: &f64| x.is_finite() && range.contains(*x))
    }
    fn write(&self) -> Value {
        Value::from(*self)
    }
}

impl OptionValue for String {
    const KIND: Kind = Kind::Text;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        match raw {
            Raw::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }
    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// `~` and what begins with `~/` in the user's home directory, as shells and Python's `expanduser` have it.
pub fn with_home(text: &str) -> String {
    let below = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with(std::path::is_separator));
    match (below, std::env::home_dir()) {
        (Some(rest), Some(home)) => format!("{}{rest}", home.display()),
        _ => text.to_string(),
    }
}

impl OptionValue for PathBuf {
    const KIND: Kind = Kind::Path;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        String::parse(raw, range).map(|text| with_home(&text).into())
    }
    fn write(&self) -> Value {
        Value::from(self.to_string_lossy())
    }
}

/// A path that is also shown as a name, or a name that stands for what is made on the spot (`task:…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(pub String);

impl std::ops::Deref for Location {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl OptionValue for Location {
    const KIND: Kind = Kind::Path;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        String::parse(raw, range).map(|text| Location(with_home(&text)))
    }
    fn write(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

impl OptionValue for Vec<String> {
    const KIND: Kind = Kind::Words;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        let parts: Vec<&str> = match raw {
            Raw::Text(text) => vec![text.as_str()],
            Raw::List(items) => items.iter().map(String::as_str).collect(),
            _ => return None,
        };
        let words: Vec<String> = parts
            .iter()
            .flat_map(|part| part.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty())
            .map(str::to_string)
            .collect();
        (!words.is_empty()).then_some(words)
    }
    fn write(&self) -> Value {
        Value::from(self.clone())
    }
}

/// `none` and `null` give None; text and paths only take YAML's null, as "none" may be a name.
impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        let names = matches!(T::KIND, Kind::Text | Kind::Path);
        let none = if names { *raw == Raw::Null } else { raw.is_none() };
        let minus_one = range.minus_one_is_none && raw.text() == Some("-1");
        if none || minus_one { Some(None) } else { T::parse(raw, range).map(Some) }
    }
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }
}

/// How often something happens: every so many optimiser steps, or after a share of all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steps {
    /// So many, from 1.
    Count(u64),
    /// Above 0 and below 1.
    Share(f64),
}

impl Steps {
    /// Whether every so many steps are also every so many of `other`; shares only of shares.
    pub fn is_multiple_of(self, other: Steps) -> bool {
        match (self, other) {
            (Steps::Count(n), Steps::Count(other)) => n.is_multiple_of(other),
            (Steps::Share(share), Steps::Share(other)) => {
                let times = share / other;
                (times - times.round()).abs() < 1e-9
            }
            _ => false,
        }
    }
    /// In steps, at least 1; a share is rounded up, as transformers does.
    pub fn of(self, total_steps: u64) -> u64 {
        match self {
            Steps::Count(n) => n.max(1),
            Steps::Share(share) => ((total_steps as f64 * share).ceil() as u64).max(1),
        }
    }
}

impl OptionValue for Steps {
    const KIND: Kind = Kind::Steps;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        let x: f64 = raw.text()?.parse().ok()?;
        if x > 0.0 && x < 1.0 {
            Some(Steps::Share(x))
        } else {
            (x >= 1.0 && x.fract() == 0.0 && x < 2f64.powi(53)).then_some(Steps::Count(x as u64))
        }
    }
    fn write(&self) -> Value {
        match self {
            Steps::Count(n) => Value::from(*n),
            Steps::Share(share) => Value::from(*share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Raw {
        Raw::Text(s.into())
    }

    #[test]
    fn booleans() {
        for (word, value) in [("true", true), ("True", true), ("yes", true), ("1", true), ("off", false), ("no", false)]
        {
            assert_eq!(bool::parse(&text(word), ANY), Some(value), "{word}");
        }
        for word in ["", "maybe", "2", "none"] {
            assert_eq!(bool::parse(&text(word), ANY), None, "{word}");
        }
        assert_eq!(Option::<bool>::parse(&text("none"), ANY), Some(None));
        assert_eq!(Option::<bool>::parse(&Raw::Null, ANY), Some(None));
    }

    #[test]
    fn integers() {
        let one = at_least(1.0);
        for (word, value) in [("1", Some(1)), ("8", Some(8)), ("0", None), ("-1", None), ("2.0", None), ("x", None)] {
            assert_eq!(usize::parse(&text(word), one), value, "{word}");
        }
        assert_eq!(u64::parse(&text("18446744073709551615"), ANY), Some(u64::MAX));
        assert_eq!(u64::parse(&text("18446744073709551616"), ANY), None);
        assert_eq!(Option::<u64>::parse(&text("-1"), limit(1.0)), Some(None));
        assert_eq!(Option::<u64>::parse(&text("0"), limit(1.0)), None);
        assert_eq!(Option::<u64>::parse(&text("7"), limit(1.0)), Some(Some(7)));
        assert_eq!(Option::<usize>::parse(&text("None"), one), Some(None));
    }

    #[test]
    fn numbers() {
        for (word, range, value) in [
            ("2e-5", at_least(0.0), Some(2e-5)),
            ("2.0E-5", at_least(0.0), Some(2e-5)),
            (".5", share(), Some(0.5)),
            ("3", at_least(0.0), Some(3.0)),
            ("1", share(), None),
            ("1", share_above_zero(), Some(1.0)),
            ("0", share_above_zero(), None),
            ("0", above(0.0), None),
            ("-1e-5", at_least(0.0), None),
            ("inf", at_least(0.0), None),
            ("nan", ANY, None),
            ("1.5", between(0.0, 1.0), None),
            ("fast", ANY, None),
        ] {
            assert_eq!(f64::parse(&text(word), range), value, "{word}");
        }
    }

    #[test]
    fn words_and_text() {
        let words = |raw: Raw| Vec::<String>::parse(&raw, ANY);
        let two = Some(vec!["q_proj".to_string(), "v_proj".to_string()]);
        assert_eq!(words(text("q_proj,v_proj")), two);
        assert_eq!(words(text(" q_proj  v_proj ")), two);
        assert_eq!(words(Raw::List(vec!["q_proj".into(), "v_proj".into()])), two);
        assert_eq!(words(text(" , ")), None);
        assert_eq!(words(Raw::Null), None);
        assert_eq!(String::parse(&text(""), ANY), None);
        assert_eq!(Option::<String>::parse(&text("none"), ANY), Some(Some("none".into())));
        assert_eq!(Option::<PathBuf>::parse(&Raw::Null, ANY), Some(None));
    }

    #[test]
    fn a_tilde_is_home() {
        let home = std::env::home_dir().expect("a home directory").display().to_string();
        assert_eq!(PathBuf::parse(&text("~/run"), ANY), Some(PathBuf::from(format!("{home}/run"))));
        assert_eq!(Location::parse(&text("~"), ANY), Some(Location(home)));
        for as_it_is in ["~someone/run", "run/~", "./~/run", "~run"] {
            assert_eq!(PathBuf::parse(&text(as_it_is), ANY), Some(PathBuf::from(as_it_is)));
        }
    }

    #[test]
    fn steps() {
        for (word, value) in [
            ("10", Some(Steps::Count(10))),
            ("10.0", Some(Steps::Count(10))),
            ("0.25", Some(Steps::Share(0.25))),
            ("0", None),
            ("-5", None),
            ("1.5", None),
        ] {
            assert_eq!(Steps::parse(&text(word), ANY), value, "{word}");
        }
        assert!(Steps::Count(6).is_multiple_of(Steps::Count(3)) && !Steps::Count(6).is_multiple_of(Steps::Count(4)));
        assert!(
            Steps::Share(0.3).is_multiple_of(Steps::Share(0.1)) && !Steps::Share(0.3).is_multiple_of(Steps::Count(1))
        );
        assert_eq!(Steps::Share(0.25).of(10), 3);
        assert_eq!(Steps::Count(7).of(3), 7);
    }

    #[test]
    fn descriptions() {
        assert_eq!(describe(Kind::Integer, at_least(1.0), false), "a whole number at least 1");
        assert_eq!(describe(Kind::Integer, limit(1.0), true), "a whole number at least 1, or -1 for no limit");
        assert_eq!(describe(Kind::Number, share(), false), "a number at least 0 and below 1");
        assert_eq!(describe(Kind::Bool, ANY, true), "true or false, or none");
        assert_eq!(describe(Kind::Choice(&["nll", "dft"]), ANY, false), "one of nll, dft");
    }
}
