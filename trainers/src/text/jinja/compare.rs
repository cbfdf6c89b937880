//! Equality, order and membership of values, and sorting by them.
use std::cmp::Ordering;

use super::fault::{FaultKind, R, fault, type_fault, unsupported};
use super::number::compare_int_float;
use super::run::Rendering;
use super::values::{Dict, Value, View};

/// Python's `a == b`.
pub(super) fn equal(run: &Rendering, a: &Value, b: &Value) -> R<bool> {
    run.step()?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return Ok(a == b);
    }
    if let Some(order) = numbers(a, b) {
        return Ok(order == Some(Ordering::Equal));
    }
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) => same_items(run, &a.items, &b.items)?,
        (Value::Tuple(a) | Value::Group(a), Value::Tuple(b) | Value::Group(b)) => same_items(run, &a.items, &b.items)?,
        (Value::Dict(a), Value::Dict(b)) => same_dicts(run, a, b)?,
        (Value::Range(a), Value::Range(b)) => {
            let n = a.len();
            n == b.len() && (n == 0.into() || (a.start == b.start && (n == 1.into() || a.step == b.step)))
        }
        (Value::View(View::Keys, a), Value::View(View::Keys, b)) => {
            a.len() == b.len() && all(a.iter(), |(key, _)| Ok(b.get(key)?.is_some()))?
        }
        (Value::View(View::Items, a), Value::View(View::Items, b)) => same_dicts(run, a, b)?,
        (Value::Function(a), Value::Function(b)) => a == b,
        (Value::Method(a), Value::Method(b)) => a.1 == b.1 && is(&a.0, &b.0),
        (Value::Chance(what), _) | (_, Value::Chance(what)) => return Err(unsupported(*what)),
        _ => a.address().is_some() && a.address() == b.address() && a.type_name() == b.type_name(),
    })
}

fn all<T>(items: impl Iterator<Item = T>, mut holds: impl FnMut(T) -> R<bool>) -> R<bool> {
    for item in items {
        if !holds(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_items(run: &Rendering, a: &[Value], b: &[Value]) -> R<bool> {
    Ok(a.len() == b.len() && all(a.iter().zip(b), |(a, b)| Ok(is(a, b) || equal(run, a, b)?))?)
}

fn same_dicts(run: &Rendering, a: &Dict, b: &Dict) -> R<bool> {
    let same = |(key, value): &(Value, Value)| match b.get(key)? {
        Some(other) => equal(run, value, other),
        None => Ok(false),
    };
    Ok(a.len() == b.len() && all(a.iter(), same)?)
}

/// How two numbers compare (nothing within for NaN); nothing where one is none.
fn numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Some(a.partial_cmp(b)),
        (Value::Float(a), b) => b.as_int().map(|b| compare_int_float(&b, *a).map(Ordering::reverse)),
        (a, Value::Float(b)) => a.as_int().map(|a| compare_int_float(&a, *b)),
        _ => Some(Some(a.as_int()?.cmp(&b.as_int()?))),
    }
}

/// Python's `a is b`, where that does not depend on how CPython keeps its values.
pub(super) fn is(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => a.address().is_some() && a.address() == b.address() && a.type_name() == b.type_name(),
    }
}

/// How `a` stands to `b`; nothing where neither is less (NaN). Errors: values that Python does not order.
pub(super) fn order(run: &Rendering, a: &Value, b: &Value, operator: &str) -> R<Option<Ordering>> {
    run.step()?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return Ok(Some(a.cmp(b)));
    }
    if let Some(order) = numbers(a, b) {
        return Ok(order);
    }
    match (a, b) {
        (Value::Undefined(message), _) | (_, Value::Undefined(message)) => {
            Err(fault(FaultKind::Undefined, message.to_string()))
        }
        (Value::List(a), Value::List(b)) => order_items(run, &a.items, &b.items, operator),
        (Value::Tuple(a) | Value::Group(a), Value::Tuple(b) | Value::Group(b)) => {
            order_items(run, &a.items, &b.items, operator)
        }
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Some(a.cmp(b))),
        (Value::View(..), Value::View(..)) => Err(unsupported("the order of two dictionaries' views")),
        (Value::Chance(what), _) | (_, Value::Chance(what)) => Err(unsupported(*what)),
        _ => Err(type_fault(format!(
            "'{operator}' not supported between instances of '{}' and '{}'",
            a.type_name(),
            b.type_name()
        ))),
    }
}

/// By the first pair that differs, then by length.
pub(super) fn order_items(run: &Rendering, a: &[Value], b: &[Value], operator: &str) -> R<Option<Ordering>> {
    for (a, b) in a.iter().zip(b) {
        if !(is(a, b) || equal(run, a, b)?) {
            return order(run, a, b, operator);
        }
    }
    Ok(Some(a.len().cmp(&b.len())))
}

/// Python's `value in container`.
pub(super) fn contains(run: &Rendering, container: &Value, value: &Value) -> R<bool> {
    match container {
        Value::Str(text) | Value::Markup(text) => match value.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => {
                Err(type_fault(format!("'in <string>' requires string as left operand, not {}", value.type_name())))
            }
        },
        Value::Dict(dict) | Value::View(View::Keys, dict) => Ok(dict.get(value)?.is_some()),
        Value::Bytes(_) => Err(unsupported("'in' with bytes")),
        container if container.is_iterable() => {
            for item in container.items()? {
                if is(&item, value) || equal(run, &item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(type_fault(format!("argument of type '{}' is not iterable", container.type_name()))),
    }
}

/// Sorts stably by keys with Python's `<`.
pub(super) fn sort(run: &Rendering, mut items: Vec<(Value, Value)>, reverse: bool) -> R<Vec<Value>> {
    // Python keeps the order of equal items when it reverses: it reverses, sorts and reverses again.
    if reverse {
        items.reverse();
    }
    let mut sorted = merge_sort(run, items)?;
    if reverse {
        sorted.reverse();
    }
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

fn merge_sort(run: &Rendering, mut items: Vec<(Value, Value)>) -> R<Vec<(Value, Value)>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let (left, right) = (merge_sort(run, items)?, merge_sort(run, right)?);
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let take_right = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (None, _) => true,
            (_, None) => false,
            (Some((a, _)), Some((b, _))) => match order(run, b, a, "<")? {
                Some(order) => order == Ordering::Less,
                None => return Err(unsupported("sorting NaN, whose place depends on the algorithm,")),
            },
        };
        out.extend(if take_right { right.next() } else { left.next() });
    }
}
