//! The tests of Jinja2: what may stand behind `is`.
use super::arguments::Args;
use super::ast::Operator;
use super::attributes::is_callable;
use super::compare::{contains, equal, is, order};
use super::fault::{FaultKind, R, fault, type_fault, unsupported};
use super::filters::FILTERS;
use super::operators::binary;
use super::run::Rendering;
use super::show::text;
use super::strings::{is_lower, is_upper};
use super::values::{Value, View};

pub(super) const TESTS: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

/// `value is name(…)`.
pub(super) fn test(run: &Rendering, name: &str, value: &Value, args: Args) -> R<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let compared = |args: Args, operator: &'static str, wanted: &[std::cmp::Ordering]| -> R<bool> {
        let [other] = args.bind(name, ["/other"], 1)?;
        let order = order(run, value, &other.unwrap_or(Value::None), operator)?;
        Ok(order.is_some_and(|o| wanted.contains(&o)))
    };
    match name {
        "==" | "eq" | "equalto" | "!=" | "ne" => {
            let [other] = args.bind(name, ["/other"], 1)?;
            return Ok(equal(run, value, &other.unwrap_or(Value::None))? == !matches!(name, "!=" | "ne"));
        }
        ">" | "gt" | "greaterthan" => return compared(args, ">", &[Greater]),
        ">=" | "ge" => return compared(args, ">=", &[Greater, Equal]),
        "<" | "lt" | "lessthan" => return compared(args, "<", &[Less]),
        "<=" | "le" => return compared(args, "<=", &[Less, Equal]),
        "in" => {
            let [container] = args.bind(name, ["seq"], 1)?;
            return contains(run, &container.unwrap_or(Value::None), value);
        }
        "sameas" => {
            let [other] = args.bind(name, ["other"], 1)?;
            return same(run, value, &other.unwrap_or(Value::None));
        }
        "divisibleby" => {
            let [divisor] = args.bind(name, ["num"], 1)?;
            return remainder_is(run, value, &divisor.unwrap_or(Value::None), 0);
        }
        _ => args.none(name)?,
    }
    Ok(match name {
        "odd" => remainder_is(run, value, &Value::int(2), 1)?,
        "even" => remainder_is(run, value, &Value::int(2), 0)?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => is_name_of(value, &FILTERS)?,
        "test" => is_name_of(value, &TESTS)?,
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "false" => matches!(value, Value::Bool(false)),
        "true" => matches!(value, Value::Bool(true)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "lower" => is_lower(&text(run, value)?),
        "upper" => is_upper(&text(run, value)?),
        "sequence" => {
            matches!(
                value,
                Value::Str(_)
                    | Value::Markup(_)
                    | Value::Bytes(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Group(_)
                    | Value::Dict(_)
                    | Value::Range(_)
                    | Value::Undefined(_)
            )
        }
        "iterable" => value.is_iterable(),
        "callable" => is_callable(value),
        "escaped" => matches!(value, Value::Markup(_)),
        other => return Err(fault(FaultKind::Runtime, format!("No test named '{other}' found."))),
    })
}

/// `value % divisor == wanted`.
fn remainder_is(run: &Rendering, value: &Value, divisor: &Value, wanted: u8) -> R<bool> {
    let remainder = binary(run, Operator::Modulo, value, divisor)?;
    equal(run, &remainder, &Value::int(wanted))
}

fn is_name_of(value: &Value, names: &[&str]) -> R<bool> {
    match value {
        Value::List(_) | Value::Dict(_) | Value::View(View::Keys | View::Items, _) => {
            Err(type_fault(format!("unhashable type: '{}'", value.type_name())))
        }
        value => Ok(value.as_str().is_some_and(|name| names.contains(&name))),
    }
}

/// `a is b` in Python. Numbers and texts that are equal may or may not be one object there; where that is not sure it is refused.
fn same(run: &Rendering, a: &Value, b: &Value) -> R<bool> {
    if is(a, b) {
        return Ok(true);
    }
    match (a, b) {
        (Value::Int(x), Value::Int(y)) if x == y && *x >= (-5).into() && *x <= 256.into() => Ok(true),
        (Value::Bool(_) | Value::None, _) | (_, Value::Bool(_) | Value::None) => Ok(false),
        (Value::Int(_), Value::Int(_))
        | (Value::Float(_), Value::Float(_))
        | (Value::Str(_), Value::Str(_))
        | (Value::Tuple(_), Value::Tuple(_))
        | (Value::Undefined(_), Value::Undefined(_))
            if equal(run, a, b)? =>
        {
            Err(unsupported("'is sameas' of two equal values, which depends on how Python keeps them,"))
        }
        _ => Ok(false),
    }
}
