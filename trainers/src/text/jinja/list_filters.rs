//! The filters of Jinja2 over lists and mappings: `map`, `select`, `sort`, `groupby`, `join` …
use super::arguments::{Args, index};
use super::ast::Operator;
use super::attributes::item;
use super::checks::test;
use super::compare::{equal, order, sort};
use super::fault::{FaultKind, R, fault, type_fault, unsupported, value_fault};
use super::operators::binary;
use super::run::Rendering;
use super::show::{escape, text};
use super::values::{Elements, Value, View};

/// The way to an attribute: `"a.0.b"`, a number, or none.
fn path(attribute: &Value) -> R<Vec<Value>> {
    Ok(match attribute {
        Value::None => Vec::new(),
        value => match value.as_str() {
            Some(path) => path
                .split('.')
                .map(|part| match super::number::parse_int(part, 10) {
                    Some(n) if !part.is_empty() && part.chars().all(super::unicode::is_digit) => Value::Int(n),
                    _ => Value::str(part),
                })
                .collect(),
            None => vec![value.clone()],
        },
    })
}

/// Goes down a path; what is undefined on the way becomes `otherwise`, if there is one.
fn walk(run: &Rendering, value: &Value, path: &[Value], otherwise: Option<&Value>) -> R<Value> {
    let mut value = value.clone();
    for part in path {
        value = item(run, &value, part)?;
        if let (true, Some(otherwise)) = (value.is_undefined(), otherwise) {
            value = otherwise.clone();
        }
    }
    Ok(value)
}

fn folded(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(s) if !case_sensitive => Value::str(s.to_lowercase()),
        _ => value,
    }
}

fn truth(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::truth)
}

fn not_none(value: Option<Value>) -> Option<Value> {
    value.filter(|v| !matches!(v, Value::None))
}

/// The items of a value, paid for.
fn items_of(run: &Rendering, value: &Value) -> R<Vec<Value>> {
    let items = value.items()?;
    run.charge(items.len() * 24)?;
    Ok(items)
}

/// `value | name(…)` of a filter over lists.
pub(super) fn filter(run: &Rendering, name: &str, value: &Value, args: Args) -> R<Value> {
    match name {
        "list" => {
            args.none(name)?;
            Value::list(items_of(run, value)?)
        }
        "first" => {
            args.none(name)?;
            let first = match value {
                Value::Once(once) => once.next(),
                value => items_of(run, value)?.into_iter().next(),
            };
            Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
        }
        "last" => {
            args.none(name)?;
            let mut items = reversed(run, value)?;
            Ok(if items.is_empty() { Value::undefined("No last item, sequence was empty.") } else { items.remove(0) })
        }
        "random" => {
            args.none(name)?;
            match value.len()? {
                0 => Ok(Value::undefined("No random item, sequence was empty.")),
                _ if matches!(value, Value::Dict(_) | Value::View(..)) => Err(unsupported("random of a mapping")),
                1 => items_of(run, value).map(|mut items| items.remove(0)),
                _ => Ok(Value::Chance("a random item")),
            }
        }
        "reverse" => {
            args.none(name)?;
            match value {
                Value::Str(s) | Value::Markup(s) => {
                    let text: String = s.chars().rev().collect();
                    Ok(if matches!(value, Value::Markup(_)) { Value::Markup(text.into()) } else { Value::str(text) })
                }
                Value::Once(once) => {
                    let mut items = once.take();
                    items.reverse();
                    Value::list(items)
                }
                value => Value::once(reversed(run, value)?),
            }
        }
        "items" => {
            args.none(name)?;
            match value {
                Value::Undefined(_) => Value::once(Vec::new()),
                Value::Dict(dict) => Value::once(Value::View(View::Items, dict.clone()).items()?),
                _ => Err(type_fault("Can only get item pairs from a mapping.")),
            }
        }
        "join" => join(run, value, args),
        "map" => map(run, value, args),
        "select" => select(run, value, args, true, false),
        "reject" => select(run, value, args, false, false),
        "selectattr" => select(run, value, args, true, true),
        "rejectattr" => select(run, value, args, false, true),
        "sum" => sum(run, value, args),
        "min" | "max" => extreme(run, value, args, name),
        "sort" => sorted(run, value, args),
        "dictsort" => dict_sorted(run, value, args),
        "unique" => unique(run, value, args),
        "groupby" => group(run, value, args),
        "batch" => batch(run, value, args),
        "slice" => slices(run, value, args),
        other => Err(fault(FaultKind::Runtime, format!("No filter named '{other}' found."))),
    }
}

/// Python's `reversed(value)`.
fn reversed(run: &Rendering, value: &Value) -> R<Vec<Value>> {
    if matches!(value, Value::Once(_) | Value::Loop(_)) {
        return Err(type_fault(format!("'{}' object is not reversible", value.type_name())));
    }
    let mut items = items_of(run, value)?;
    items.reverse();
    Ok(items)
}

fn join(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [joiner, attribute] = args.bind("join", ["d", "attribute"], 0)?;
    let joiner = joiner.unwrap_or_else(|| Value::str(""));
    let mut items = items_of(run, value)?;
    if let Some(attribute) = not_none(attribute) {
        let path = path(&attribute)?;
        items = items.iter().map(|item| walk(run, item, &path, None)).collect::<R<_>>()?;
    }
    let is_markup = |v: &Value| matches!(v, Value::Markup(_));
    let escaped = run.escapes() && (is_markup(&joiner) || items.iter().any(is_markup));
    let show = |v: &Value| if escaped { escape(run, v) } else { text(run, v) };
    let joiner = show(&joiner)?;
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            run.charge(joiner.len())?;
            out.push_str(&joiner);
        }
        out.push_str(&show(item)?);
    }
    run.charge(out.len())?;
    Ok(if escaped { Value::Markup(out.into()) } else { Value::str(out) })
}

/// A filter's name in an argument.
fn name_of(value: &Value) -> R<String> {
    value.as_str().map(String::from).ok_or_else(|| type_fault("the name of a filter or test must be a str"))
}

fn map(run: &Rendering, value: &Value, mut args: Args) -> R<Value> {
    if !value.truth() {
        return Value::once(Vec::new());
    }
    let mut out = Vec::new();
    if args.positional.is_empty() && args.named.iter().any(|(n, _)| n == "attribute") {
        let mut named = std::mem::take(&mut args.named);
        let mut take = |name: &str| named.iter().position(|(n, _)| n == name).map(|i| named.remove(i).1);
        let (attribute, otherwise) = (take("attribute"), not_none(take("default")));
        if let Some((name, _)) = named.first() {
            return Err(value_fault(format!("Unexpected keyword argument '{name}'")));
        }
        let path = path(&attribute.unwrap_or(Value::None))?;
        for item in items_of(run, value)? {
            out.push(walk(run, &item, &path, otherwise.as_ref())?);
        }
        return Value::once(out);
    }
    if args.positional.is_empty() {
        return Err(value_fault("map requires a filter argument"));
    }
    let name = name_of(&args.positional.remove(0))?;
    for item in items_of(run, value)? {
        out.push(run.filter(&name, &item, args.clone())?);
    }
    Value::once(out)
}

fn select(run: &Rendering, value: &Value, mut args: Args, wanted: bool, by_attribute: bool) -> R<Value> {
    if !value.truth() {
        return Value::once(Vec::new());
    }
    let path = if by_attribute {
        if args.positional.is_empty() {
            return Err(value_fault("Missing parameter for attribute name"));
        }
        path(&args.positional.remove(0))?
    } else {
        Vec::new()
    };
    let name = if args.positional.is_empty() { None } else { Some(name_of(&args.positional.remove(0))?) };
    let mut out = Vec::new();
    for item in items_of(run, value)? {
        let seen = walk(run, &item, &path, None)?;
        let holds = match &name {
            Some(name) => test(run, name, &seen, args.clone())?,
            None => seen.truth(),
        };
        if holds == wanted {
            out.push(item);
        }
        run.step()?;
    }
    Value::once(out)
}

fn sum(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"], 0)?;
    let mut total = start.unwrap_or_else(|| Value::int(0));
    if total.as_str().is_some() {
        return Err(type_fault("sum() can't sum strings [use ''.join(seq) instead]"));
    }
    let path = path(&not_none(attribute).unwrap_or(Value::None))?;
    for item in items_of(run, value)? {
        total = binary(run, Operator::Add, &total, &walk(run, &item, &path, None)?)?;
    }
    Ok(total)
}

fn extreme(run: &Rendering, value: &Value, args: Args, name: &str) -> R<Value> {
    let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
    let (case_sensitive, path) = (truth(&case_sensitive), path(&attribute.unwrap_or(Value::None))?);
    let mut best: Option<(Value, Value)> = None;
    for item in items_of(run, value)? {
        let key = folded(walk(run, &item, &path, None)?, case_sensitive);
        let better = match &best {
            None => true,
            Some((so_far, _)) => {
                let (operator, wanted) =
                    if name == "min" { ("<", std::cmp::Ordering::Less) } else { (">", std::cmp::Ordering::Greater) };
                order(run, &key, so_far, operator)? == Some(wanted)
            }
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
}

fn sorted(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [reverse, case_sensitive, attribute] = args.bind("sort", ["reverse", "case_sensitive", "attribute"], 0)?;
    let case_sensitive = truth(&case_sensitive);
    let paths = match attribute.as_ref().and_then(Value::as_str) {
        Some(list) => list.split(',').map(|part| path(&Value::str(part))).collect::<R<Vec<_>>>()?,
        None => vec![path(&attribute.unwrap_or(Value::None))?],
    };
    let mut keyed = Vec::new();
    for item in items_of(run, value)? {
        let key =
            paths.iter().map(|path| Ok(folded(walk(run, &item, path, None)?, case_sensitive))).collect::<R<_>>()?;
        keyed.push((Value::list(key)?, item));
    }
    Value::list(sort(run, keyed, truth(&reverse))?)
}

fn dict_sorted(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [case_sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let at = match by.as_ref().map(|b| b.as_str().unwrap_or("")) {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return Err(value_fault("You can only sort by either \"key\" or \"value\"")),
    };
    let Value::Dict(dict) = value else {
        return Err(match value {
            Value::Undefined(message) => fault(FaultKind::Undefined, message.to_string()),
            value => type_fault(format!("'{}' object has no attribute 'items'", value.type_name())),
        });
    };
    let mut keyed = Vec::new();
    for (key, value) in dict.iter() {
        let by = if at == 0 { key } else { value };
        keyed.push((folded(by.clone(), truth(&case_sensitive)), Value::tuple(vec![key.clone(), value.clone()])?));
    }
    run.charge(keyed.len() * 64)?;
    Value::list(sort(run, keyed, truth(&reverse))?)
}

fn unique(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [case_sensitive, attribute] = args.bind("unique", ["case_sensitive", "attribute"], 0)?;
    let (case_sensitive, path) = (truth(&case_sensitive), path(&attribute.unwrap_or(Value::None))?);
    let mut seen = std::collections::HashSet::new();
    let mut out = Vec::new();
    for item in items_of(run, value)? {
        let key = folded(walk(run, &item, &path, None)?, case_sensitive).hash()?;
        run.charge(key.len())?;
        if seen.insert(key) {
            out.push(item);
        }
    }
    Value::once(out)
}

fn group(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [attribute, otherwise, case_sensitive] = args.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let (path, otherwise) = (path(&attribute.unwrap_or(Value::None))?, not_none(otherwise));
    let case_sensitive = truth(&case_sensitive);
    let key_of = |item: &Value| -> R<Value> { Ok(folded(walk(run, item, &path, otherwise.as_ref())?, case_sensitive)) };
    let mut keyed = Vec::new();
    for item in items_of(run, value)? {
        keyed.push((key_of(&item)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sort(run, keyed, false)? {
        let key = key_of(&item)?;
        match groups.last_mut() {
            Some((last, members)) if equal(run, last, &key)? => members.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let pair = |(key, members): (Value, Vec<Value>)| -> R<Value> {
        let shown = if case_sensitive { key } else { walk(run, &members[0], &path, otherwise.as_ref())? };
        Elements::new(vec![shown, Value::list(members)?]).map(Value::Group)
    };
    Value::list(groups.into_iter().map(pair).collect::<R<_>>()?)
}

fn batch(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [count, fill] = args.bind("batch", ["linecount", "fill_with"], 1)?;
    let items = items_of(run, value)?;
    let count = count.unwrap_or(Value::None);
    let n = match &count {
        Value::Int(_) | Value::Bool(_) => index(&count)?,
        Value::Float(_) => return Err(unsupported("batch by a float")),
        // Nothing is ever as long as something that is no number.
        _ => return Err(unsupported("batch by something that is no whole number")),
    };
    let mut out: Vec<Vec<Value>> = Vec::new();
    let mut row: Vec<Value> = Vec::new();
    for item in items {
        if row.len() as i64 == n {
            out.push(std::mem::take(&mut row));
        }
        row.push(item);
    }
    if !row.is_empty() {
        if let Some(fill) = not_none(fill) {
            let missing = (n - row.len() as i64).max(0) as usize;
            run.charge(missing.saturating_mul(16))?;
            row.extend(std::iter::repeat_n(fill, missing));
        }
        out.push(row);
    }
    Value::once(out.into_iter().map(Value::list).collect::<R<_>>()?)
}

fn slices(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [count, fill] = args.bind("slice", ["slices", "fill_with"], 1)?;
    let items = items_of(run, value)?;
    let n = index(&count.unwrap_or(Value::None))?;
    if n == 0 {
        return Err(fault(FaultKind::Arithmetic, "integer division or modulo by zero"));
    }
    let n = usize::try_from(n).unwrap_or(0);
    run.charge(n.saturating_mul(32))?;
    let fill = not_none(fill);
    let (each, extra) = (items.len().checked_div(n).unwrap_or(0), items.len().checked_rem(n).unwrap_or(0));
    let mut at = 0;
    let mut out = Vec::new();
    for i in 0..n {
        let end = at + each + usize::from(i < extra);
        let mut part = items[at..end].to_vec();
        if let (Some(fill), true) = (&fill, i >= extra) {
            part.push(fill.clone());
        }
        out.push(Value::list(part)?);
        at = end;
    }
    Value::once(out)
}
