//! The filters of Jinja2 that make one text or number of a value; those over lists are in `list_filters`, of numbers in `number_filters`.
use super::arguments::{Args, index, optional_index};
use super::fault::{R, type_fault, unsupported, value_fault};
use super::number_filters::{absolute, file_size, round, to_float, to_int};
use super::run::Rendering;
use super::show::{escape, repr, text};
use super::string_methods::replaced;
use super::strings;
use super::unicode::is_alnum;
use super::values::{Value, undefined_fault};

pub(super) const FILTERS: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// MarkupSafe's `soft_str`: a string as it is, anything else as its text.
fn soft(run: &Rendering, value: &Value) -> R<Value> {
    Ok(match value {
        Value::Str(_) | Value::Markup(_) => value.clone(),
        value => Value::str(text(run, value)?),
    })
}

fn method(run: &Rendering, value: &Value, name: &str, args: Vec<Value>) -> R<Value> {
    super::string_methods::call(run, &soft(run, value)?, name, Args::of(args))
}

/// `value | name(…)`.
pub(super) fn filter(run: &Rendering, name: &str, value: &Value, args: Args) -> R<Value> {
    if let (Value::Chance(what), false) = (value, matches!(name, "d" | "default")) {
        return Err(unsupported(*what));
    }
    match name {
        "upper" | "lower" | "capitalize" => {
            args.none(name)?;
            method(run, value, name, Vec::new())
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"], 0)?;
            method(run, value, "strip", chars.into_iter().collect())
        }
        "center" => {
            let [width] = args.bind(name, ["width"], 0)?;
            method(run, value, "center", vec![width.unwrap_or_else(|| Value::int(80))])
        }
        "title" => {
            args.none(name)?;
            let shown = text(run, value)?;
            Ok(Value::str(title(&shown)))
        }
        "string" => {
            args.none(name)?;
            soft(run, value)
        }
        "safe" => {
            args.none(name)?;
            Ok(Value::Markup(text(run, value)?.into()))
        }
        "escape" | "e" => {
            args.none(name)?;
            Ok(Value::Markup(escape(run, value)?.into()))
        }
        "forceescape" => {
            args.none(name)?;
            Ok(Value::Markup(escape(run, &Value::str(text(run, value)?))?.into()))
        }
        "striptags" => {
            args.none(name)?;
            Ok(Value::str(super::html::strip_tags(&text(run, value)?)?))
        }
        "length" | "count" => {
            args.none(name)?;
            value.len().map(Value::int)
        }
        "default" | "d" => {
            let [otherwise, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
            let gone = value.is_undefined() || (boolean.is_some_and(|b| b.truth()) && !value.truth());
            Ok(if gone { otherwise.unwrap_or_else(|| Value::str("")) } else { value.clone() })
        }
        "attr" => {
            let [attribute] = args.bind(name, ["name"], 1)?;
            let attribute = attribute.unwrap_or(Value::None);
            let wrong = || type_fault("attribute name must be string");
            super::attributes::attribute_alone(run, value, attribute.as_str().ok_or_else(wrong)?)
        }
        "abs" => {
            args.none(name)?;
            absolute(value)
        }
        "int" => to_int(value, args),
        "float" => to_float(value, args),
        "round" => round(run, value, args),
        "replace" => replace(run, value, args),
        "format" => {
            if !args.positional.is_empty() && !args.named.is_empty() {
                return Err(value_fault("can't handle positional and keyword arguments at the same time"));
            }
            let values = if args.named.is_empty() {
                Value::tuple(args.positional)?
            } else {
                Value::Dict(std::rc::Rc::new(args.named_dict()?))
            };
            super::printf::modulo(run, &soft(run, value)?, &values)
        }
        "indent" => indent(run, value, args),
        "truncate" => truncate(run, value, args),
        "wordcount" => {
            args.none(name)?;
            let shown = text(run, value)?;
            let words = shown.split(|c: char| c != '_' && !is_alnum(c)).filter(|w| !w.is_empty());
            Ok(Value::int(words.count()))
        }
        "wordwrap" => super::wrap::wordwrap(run, value, args),
        "filesizeformat" => file_size(run, value, args),
        "urlencode" => {
            args.none(name)?;
            url_encode(run, value)
        }
        "xmlattr" => xml_attributes(run, value, args),
        "tojson" => super::tojson::tojson(run, value, args),
        "pprint" => {
            args.none(name)?;
            let shown = repr(run, &ordered(run, value)?)?;
            if shown.chars().count() > 80 {
                return Err(unsupported("pprint of more than one line"));
            }
            Ok(Value::str(shown))
        }
        "urlize" => Err(unsupported("the filter 'urlize'")),
        _ => super::list_filters::filter(run, name, value, args),
    }
}

/// A value with the keys of its dictionaries in order, as pprint shows them.
fn ordered(run: &Rendering, value: &Value) -> R<Value> {
    Ok(match value {
        Value::Dict(dict) => {
            let mut keyed = Vec::new();
            for (key, value) in dict.iter() {
                if key.as_str().is_none() && dict.len() > 1 {
                    return Err(unsupported("pprint of keys that are no text"));
                }
                keyed.push((key.clone(), Value::tuple(vec![key.clone(), ordered(run, value)?])?));
            }
            let mut out = super::values::Dict::default();
            for pair in super::compare::sort(run, keyed, false)? {
                if let [key, value] = &pair.items()?[..] {
                    out.insert(key.clone(), value.clone())?;
                }
            }
            Value::Dict(std::rc::Rc::new(out))
        }
        Value::List(l) => Value::list(l.items.iter().map(|v| ordered(run, v)).collect::<R<_>>()?)?,
        Value::Tuple(l) => Value::tuple(l.items.iter().map(|v| ordered(run, v)).collect::<R<_>>()?)?,
        value => value.clone(),
    })
}

/// Jinja2's `title`: after blanks, hyphens and opening brackets a word begins.
fn title(shown: &str) -> String {
    let breaks = |c: char| super::unicode::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::new();
    let mut rest = shown;
    while !rest.is_empty() {
        let at_break = rest.starts_with(breaks);
        let end = rest.find(|c| breaks(c) != at_break).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        let first = part.chars().next().map_or(0, char::len_utf8);
        out.push_str(&part[..first].to_uppercase());
        out.push_str(&part[first..].to_lowercase());
        rest = behind;
    }
    out
}

fn replace(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"], 2)?;
    let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
    let limit = match optional_index(&count)? {
        None => None,
        Some(n) => usize::try_from(n).ok(),
    };
    if !run.escapes() {
        let (s, old, new) = (text(run, value)?, text(run, &old)?, text(run, &new)?);
        return replaced(run, &s, &old, &new, limit).map(Value::str);
    }
    let is_markup = |v: &Value| matches!(v, Value::Markup(_));
    let s = if is_markup(&old) || (is_markup(&new) && !is_markup(value)) {
        Value::Markup(escape(run, value)?.into())
    } else {
        soft(run, value)?
    };
    let (old, new) = (soft(run, &old)?, soft(run, &new)?);
    super::string_methods::call(
        run,
        &s,
        "replace",
        Args::of(vec![old, new, Value::int(limit.map_or(-1, |n| n as i64))]),
    )
}

/// A string with the same marking as another.
fn like(value: &Value, text: String) -> Value {
    if matches!(value, Value::Markup(_)) { Value::Markup(text.into()) } else { Value::str(text) }
}

fn indent(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"], 0)?;
    if let Some(e) = undefined_fault(value) {
        return Err(e);
    }
    let Some(s) = value.as_str() else {
        return Err(type_fault(format!("unsupported operand type(s) for +=: '{}' and 'str'", value.type_name())));
    };
    let pad = match width {
        None => "    ".to_string(),
        Some(v) => match v.as_str() {
            Some(s) => s.to_string(),
            None => {
                let n = usize::try_from(index(&v)?).unwrap_or(0);
                run.charge(n)?;
                " ".repeat(n)
            }
        },
    };
    let truth = |v: &Option<Value>| v.as_ref().is_some_and(Value::truth);
    let (first, blank) = (truth(&first), truth(&blank));
    let with_end = format!("{s}\n");
    let lines = strings::lines(&with_end, false);
    run.charge(s.len().saturating_add(lines.len().saturating_mul(pad.len() + 1)))?;
    let mut out = String::new();
    if first {
        out.push_str(&pad);
    }
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
            if blank || !line.is_empty() {
                out.push_str(&pad);
            }
        }
        out.push_str(line);
    }
    Ok(like(value, out))
}

fn truncate(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let length = length.map_or(Ok(255), |v| index(&v))?;
    let leeway = optional_index(&leeway)?.unwrap_or(5);
    let end = end.unwrap_or_else(|| Value::str("..."));
    let n_end = end.len()? as i64;
    if length < n_end || leeway < 0 {
        return Err(value_fault(format!("truncate: expected length >= {n_end} and leeway >= 0")));
    }
    if value.len()? as i64 <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let (Some(s), Some(_)) = (value.as_str(), end.as_str()) else {
        return Err(type_fault("truncate takes a str"));
    };
    let kept: String = s.chars().take((length - n_end) as usize).collect();
    let kept =
        if kill.is_some_and(|k| k.truth()) { kept } else { strings::rsplit_at(&kept, " ", Some(1))[0].to_string() };
    super::operators::binary(run, super::ast::Operator::Add, &like(value, kept), &end)
}

/// Python's `quote`: everything but letters, digits and `_.-~` (and `/`) by its bytes.
fn quoted(shown: &str, in_query: bool) -> String {
    let mut out = String::new();
    for b in shown.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(b)),
            b'/' if !in_query => out.push('/'),
            b' ' if in_query => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn url_encode(run: &Rendering, value: &Value) -> R<Value> {
    let pairs = match value {
        Value::Dict(dict) => Value::View(super::values::View::Items, dict.clone()),
        value if value.as_str().is_some() || !value.is_iterable() => {
            let shown = text(run, value)?;
            run.charge(shown.len() * 3)?;
            return Ok(Value::str(quoted(&shown, false)));
        }
        Value::Bytes(_) => return Err(unsupported("urlencode of bytes")),
        other => other.clone(),
    };
    let mut parts = Vec::new();
    for pair in pairs.items()? {
        let pair = pair.items()?;
        let [key, value] = &pair[..] else { return Err(value_fault("not enough values to unpack (expected 2)")) };
        let part = quoted(&text(run, key)?, true) + "=" + &quoted(&text(run, value)?, true);
        run.charge(part.len())?;
        parts.push(part);
    }
    Ok(Value::str(parts.join("&")))
}

fn xml_attributes(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [space] = args.bind("xmlattr", ["autospace"], 0)?;
    let Value::Dict(dict) = value else {
        return Err(undefined_fault(value)
            .unwrap_or_else(|| type_fault(format!("'{}' object has no attribute 'items'", value.type_name()))));
    };
    let mut parts = Vec::new();
    for (key, value) in dict.iter().filter(|(_, v)| !matches!(v, Value::None | Value::Undefined(_))) {
        let name = key.as_str().ok_or_else(|| type_fault("expected string or bytes-like object"))?;
        if name.contains(|c: char| matches!(c, ' ' | '\t'..='\r' | '/' | '>' | '=')) {
            return Err(value_fault(format!("Invalid character in attribute name: {name:?}")));
        }
        parts.push(format!("{}=\"{}\"", escape(run, key)?, escape(run, value)?));
    }
    let mut out = parts.join(" ");
    if !out.is_empty() && space.is_none_or(|s| s.truth()) {
        out.insert(0, ' ');
    }
    run.charge(out.len())?;
    Ok(if run.escapes() { Value::Markup(out.into()) } else { Value::str(out) })
}
