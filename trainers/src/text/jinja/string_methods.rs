//! The methods of Python's strings, and those of MarkupSafe's escaped ones.
use super::arguments::{Args, index, optional_index, text as string};
use super::fault::{R, type_fault, unsupported, value_fault};
use super::run::Rendering;
use super::show::{escape, text};
use super::strings;
use super::unicode::{self, decimal_value};
use super::values::{Dict, Value};

/// Every method that a string has.
pub(super) const METHODS: [&str; 48] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
    "__len__",
];

/// A limit of `split` and `replace`: negative means none.
fn limit(value: &Option<Value>) -> R<Option<usize>> {
    Ok(match value {
        None => None,
        Some(v) => usize::try_from(index(v)?).ok(),
    })
}

/// Calls a method of a string.
pub(super) fn call(run: &Rendering, value: &Value, name: &str, args: Args) -> R<Value> {
    let s = value.as_str().unwrap_or("");
    let escaped = matches!(value, Value::Markup(_));
    run.charge(s.len() + 16)?;
    let made = |text: String| -> R<Value> {
        run.charge(text.len())?;
        Ok(if escaped { Value::Markup(text.into()) } else { Value::str(text) })
    };
    let many = |parts: Vec<&str>| -> R<Value> {
        run.charge(parts.len() * 32)?;
        Value::list(parts.into_iter().map(|p| made(p.to_string())).collect::<R<_>>()?)
    };
    // What is put into an escaped string is escaped first.
    let inserted = |v: &Value| -> R<String> {
        string(v, name)?;
        if escaped { escape(run, v) } else { Ok(v.as_str().unwrap_or("").to_string()) }
    };
    match name {
        "upper" | "lower" | "capitalize" | "title" | "swapcase" | "casefold" => {
            args.none(name)?;
            made(match name {
                "upper" => s.to_uppercase(),
                "lower" => s.to_lowercase(),
                "capitalize" => strings::capitalize(s),
                "title" => strings::title_case(s),
                "swapcase" => strings::swap_case(s),
                _ => strings::case_fold(s),
            })
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["/chars"], 0)?;
            let chars = match &chars {
                None | Some(Value::None) => None,
                Some(v) => Some(string(v, name)?),
            };
            made(strings::strip(s, chars, name != "rstrip", name != "lstrip").to_string())
        }
        "split" | "rsplit" => {
            let [separator, count] = args.bind(name, ["sep", "maxsplit"], 0)?;
            let count = limit(&count)?;
            match separator {
                None | Some(Value::None) if name == "split" => many(strings::split_blanks(s, count)),
                None | Some(Value::None) => many(strings::rsplit_blanks(s, count)),
                Some(separator) => match string(&separator, name)? {
                    "" => Err(value_fault("empty separator")),
                    at if name == "split" => many(strings::split_at(s, at, count)),
                    at => many(strings::rsplit_at(s, at, count)),
                },
            }
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"], 0)?;
            many(strings::lines(s, keep.is_some_and(|k| k.truth())))
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(name, ["/sep"], 1)?;
            let separator = separator.unwrap_or(Value::None);
            let at = string(&separator, name)?;
            if at.is_empty() {
                return Err(value_fault("empty separator"));
            }
            let found = if name == "partition" { s.find(at) } else { s.rfind(at) };
            let parts = match found {
                Some(i) => [&s[..i], at, &s[i + at.len()..]],
                None if name == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            Value::tuple(parts.iter().map(|p| made(p.to_string())).collect::<R<_>>()?)
        }
        "startswith" | "endswith" => starts_or_ends(s, name, args),
        "find" | "rfind" | "index" | "rindex" | "count" => find(s, name, args),
        "replace" => {
            let [from, to, count] = args.bind(name, ["/old", "/new", "/count"], 2)?;
            let (from, to) = (from.unwrap_or(Value::None), to.unwrap_or(Value::None));
            let (from, to, count) = (string(&from, name)?, inserted(&to)?, limit(&count)?);
            made(replaced(run, s, from, &to, count)?)
        }
        "removeprefix" => {
            let [part] = args.bind(name, ["/prefix"], 1)?;
            let part = part.unwrap_or(Value::None);
            made(s.strip_prefix(string(&part, name)?).unwrap_or(s).to_string())
        }
        "removesuffix" => {
            let [part] = args.bind(name, [if escaped { "suffix" } else { "/suffix" }], 1)?;
            let part = part.unwrap_or(Value::None);
            made(s.strip_suffix(string(&part, name)?).unwrap_or(s).to_string())
        }
        "join" => {
            let [items] = args.bind(name, ["/iterable"], 1)?;
            let mut out = String::new();
            for (i, item) in items.unwrap_or(Value::None).items()?.iter().enumerate() {
                if i > 0 {
                    out.push_str(s);
                }
                if escaped {
                    out.push_str(&escape(run, item)?);
                } else {
                    let found =
                        || type_fault(format!("sequence item {i}: expected str instance, {} found", item.type_name()));
                    out.push_str(item.as_str().ok_or_else(found)?);
                }
                run.charge(s.len() + 8)?;
            }
            made(out)
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = args.bind(name, ["/width", if escaped { "fillchar" } else { "/fillchar" }], 1)?;
            let width = usize::try_from(index(&width.unwrap_or(Value::None))?).unwrap_or(0);
            let fill = fill.as_ref().map(inserted).transpose()?.unwrap_or_else(|| " ".into());
            let mut chars = fill.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return Err(type_fault("The fill character must be exactly one character long"));
            };
            let missing = width.saturating_sub(s.chars().count());
            run.charge(missing.saturating_mul(fill.len_utf8()))?;
            let fills = || fill.to_string().repeat(missing);
            made(match name {
                "ljust" => s.to_string() + &fills(),
                "rjust" => fills() + s,
                _ => strings::center(s, width, fill),
            })
        }
        "zfill" => {
            let [width] = args.bind(name, ["/width"], 1)?;
            let width = usize::try_from(index(&width.unwrap_or(Value::None))?).unwrap_or(0);
            run.charge(width)?;
            made(strings::zero_fill(s, width))
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"], 0)?;
            let size = usize::try_from(size.map_or(Ok(8), |v| index(&v))?).unwrap_or(0);
            run.charge(s.matches('\t').count().saturating_mul(size))?;
            made(strings::expand_tabs(s, size))
        }
        "format" => super::str_format::format(run, value, &args.positional, &args.named_dict()?),
        "format_map" => {
            let [mapping] = args.bind(name, ["/mapping"], 1)?;
            match mapping {
                Some(Value::Dict(dict)) => super::str_format::format(run, value, &[], &dict),
                _ => Err(unsupported("format_map with something that is no dictionary")),
            }
        }
        "encode" => encode(run, s, args),
        "maketrans" => maketrans(args),
        "translate" => translate(run, s, args).and_then(made),
        "__html__" => Ok(value.clone()),
        "striptags" if escaped => {
            args.none(name)?;
            Ok(Value::str(super::html::strip_tags(s)?))
        }
        "unescape" if escaped => {
            args.none(name)?;
            Ok(Value::str(super::html::unescape(s)?))
        }
        "escape" if escaped => {
            let [v] = args.bind(name, ["/s"], 1)?;
            Ok(Value::Markup(escape(run, &v.unwrap_or(Value::None))?.into()))
        }
        _ => is_something(s, name, args),
    }
}

fn is_something(s: &str, name: &str, args: Args) -> R<Value> {
    args.none(name)?;
    let all = |is: fn(char) -> bool| !s.is_empty() && s.chars().all(is);
    Ok(Value::Bool(match name {
        "isalnum" => all(unicode::is_alnum),
        "isalpha" => all(unicode::is_alpha),
        "isascii" => s.is_ascii(),
        "isdecimal" => all(|c| decimal_value(c).is_some()),
        "isdigit" => all(unicode::is_digit),
        "isidentifier" => unicode::is_identifier(s),
        "islower" => strings::is_lower(s),
        "isnumeric" => all(unicode::is_numeric),
        "isprintable" => s.chars().all(unicode::is_printable),
        "isspace" => all(unicode::is_space),
        "istitle" => strings::is_title_case(s),
        "isupper" => strings::is_upper(s),
        other => return Err(unsupported(format!("the method '{other}' of str"))),
    }))
}

/// `text.replace`, paid for before it is made.
pub(super) fn replaced(run: &Rendering, text: &str, from: &str, to: &str, count: Option<usize>) -> R<String> {
    let hits = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    let hits = hits.min(count.unwrap_or(usize::MAX));
    run.charge(text.len().saturating_add(hits.saturating_mul(to.len())))?;
    Ok(strings::replace(text, from, to, count))
}

/// The part of a string between two character indices, and the byte and character it begins at; nothing if start is beyond the end.
fn window<'a>(s: &'a str, start: &Option<Value>, end: &Option<Value>) -> R<Option<(&'a str, usize)>> {
    let n = s.chars().count() as i64;
    let clip = |i: i64| if i < 0 { i.saturating_add(n).max(0) } else { i };
    let start = optional_index(start)?.map_or(0, clip);
    let end = optional_index(end)?.map_or(n, clip).min(n);
    if start > end {
        return Ok(None);
    }
    let byte = |i: i64| s.char_indices().nth(i as usize).map_or(s.len(), |(at, _)| at);
    Ok(Some((&s[byte(start)..byte(end)], start as usize)))
}

fn starts_or_ends(s: &str, name: &str, args: Args) -> R<Value> {
    let [part, start, end] = args.bind(name, ["/prefix", "/start", "/end"], 1)?;
    let part = part.unwrap_or(Value::None);
    let parts = match &part {
        Value::Tuple(items) | Value::Group(items) => items.items.clone(),
        other => vec![other.clone()],
    };
    let inside = window(s, &start, &end)?;
    for part in &parts {
        let wrong = || type_fault(format!("{name} first arg must be str or a tuple of str, not {}", part.type_name()));
        let part = part.as_str().ok_or_else(wrong)?;
        let fits = |(text, _): &(&str, usize)| {
            if name == "startswith" { text.starts_with(part) } else { text.ends_with(part) }
        };
        if inside.as_ref().is_some_and(fits) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn find(s: &str, name: &str, args: Args) -> R<Value> {
    let [part, start, end] = args.bind(name, ["/sub", "/start", "/end"], 1)?;
    let part = part.unwrap_or(Value::None);
    let part = string(&part, name)?;
    let Some((inside, first)) = window(s, &start, &end)? else {
        return match name {
            "count" => Ok(Value::int(0)),
            "find" | "rfind" => Ok(Value::int(-1)),
            _ => Err(value_fault("substring not found")),
        };
    };
    if name == "count" {
        return Ok(Value::int(if part.is_empty() { inside.chars().count() + 1 } else { inside.matches(part).count() }));
    }
    let found = if name.starts_with('r') { inside.rfind(part) } else { inside.find(part) };
    match found {
        Some(at) => Ok(Value::int(first + inside[..at].chars().count())),
        None if name.ends_with("find") => Ok(Value::int(-1)),
        None => Err(value_fault("substring not found")),
    }
}

fn encode(run: &Rendering, s: &str, args: Args) -> R<Value> {
    let [encoding, errors] = args.bind("encode", ["encoding", "errors"], 0)?;
    let encoding = encoding.map_or(Ok("utf-8".into()), |v| text(run, &v))?.to_lowercase().replace('_', "-");
    if errors.is_some() {
        return Err(unsupported("encode with errors"));
    }
    let limit = match encoding.as_str() {
        "utf-8" | "utf8" => return Ok(Value::Bytes(s.as_bytes().into())),
        "ascii" | "us-ascii" => 0x80,
        "latin-1" | "latin1" | "iso-8859-1" => 0x100,
        other => return Err(unsupported(format!("the encoding '{other}'"))),
    };
    let bytes: Option<Vec<u8>> =
        s.chars().map(|c| if (c as u32) < limit { Some(c as u32 as u8) } else { None }).collect();
    bytes
        .map(|b| Value::Bytes(b.into()))
        .ok_or_else(|| value_fault(format!("'{encoding}' codec can't encode a character")))
}

fn maketrans(args: Args) -> R<Value> {
    let [from, to, gone] = args.bind("maketrans", ["/x", "/y", "/z"], 1)?;
    let mut table = Dict::default();
    let code = |c: char| Value::int(c as u32);
    match (&from, &to) {
        (Some(Value::Dict(dict)), None) => {
            for (key, value) in dict.iter() {
                let key = match key.as_str() {
                    Some(s) if s.chars().count() == 1 => code(s.chars().next().unwrap_or(' ')),
                    Some(_) => return Err(value_fault("string keys in translate table must be of length 1")),
                    None => key.clone(),
                };
                table.insert(key, value.clone())?;
            }
        }
        (Some(from), Some(to)) => {
            let (from, to) = (string(from, "maketrans")?, string(to, "maketrans")?);
            if from.chars().count() != to.chars().count() {
                return Err(value_fault("the first two maketrans arguments must have equal length"));
            }
            for (a, b) in from.chars().zip(to.chars()) {
                table.insert(code(a), code(b))?;
            }
            if let Some(gone) = &gone {
                for c in string(gone, "maketrans")?.chars() {
                    table.insert(code(c), Value::None)?;
                }
            }
        }
        _ => return Err(type_fault("if you give only one argument to maketrans it must be a dict")),
    }
    Ok(Value::Dict(std::rc::Rc::new(table)))
}

fn translate(run: &Rendering, s: &str, args: Args) -> R<String> {
    let [table] = args.bind("translate", ["/table"], 1)?;
    let Some(Value::Dict(table)) = table else {
        return Err(unsupported("translate with something that is no dictionary"));
    };
    let mut out = String::new();
    for c in s.chars() {
        match table.get(&Value::int(c as u32))? {
            None => out.push(c),
            Some(Value::None) => {}
            Some(Value::Int(n)) => {
                let c = u32::try_from(n).ok().and_then(char::from_u32);
                out.push(c.ok_or_else(|| value_fault("character mapping must be in range(0x110000)"))?);
            }
            Some(v) => out
                .push_str(v.as_str().ok_or_else(|| type_fault("character mapping must return integer, None or str"))?),
        }
        run.charge(8)?;
    }
    Ok(out)
}
