//! `value.name`, `value[key]` and calls, as the sandbox allows them.
use std::rc::Rc;

use super::arguments::{Args, index};
use super::compare::equal;
use super::fault::{FaultKind, R, fault, type_fault, unsupported, value_fault};
use super::number::{float_to_int, int_to_float};
use super::run::Rendering;
use super::values::{Dict, Value, View};
use super::{functions, operators, string_methods};

/// Methods that change a list or a dictionary: the sandbox hands none out.
const CHANGING: [&str; 12] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
    "popitem",
    "setdefault",
    "update",
    "__setitem__",
];

/// What Python's `getattr` finds; nothing where it raises AttributeError.
fn own(run: &Rendering, value: &Value, name: &str) -> R<Option<Value>> {
    if name.starts_with("__") && name.ends_with("__") && !value.is_undefined() {
        // Every object has some of these, and the sandbox hands out none.
        return Ok(Some(unsafe_attribute(value, name)));
    }
    let method = || Some(Value::Method(Rc::new((value.clone(), name.to_string()))));
    let number = |n: usize| Some(Value::int(n));
    Ok(match value {
        Value::Undefined(_) if name.starts_with("__") && name.ends_with("__") => None,
        Value::Undefined(message) => return Err(fault(FaultKind::Undefined, message.to_string())),
        Value::Chance(what) => return Err(unsupported(*what)),
        Value::Str(_) if string_methods::METHODS.contains(&name) => method(),
        Value::Markup(_) if string_methods::METHODS.contains(&name) => method(),
        Value::Markup(_) if matches!(name, "striptags" | "unescape" | "escape") => method(),
        Value::Bytes(_) if string_methods::METHODS.contains(&name) || matches!(name, "decode" | "hex") => method(),
        Value::Dict(_) => match name {
            "get" | "keys" | "values" | "items" | "copy" | "fromkeys" => method(),
            "clear" | "pop" | "popitem" | "setdefault" | "update" => Some(unsafe_attribute(value, name)),
            _ => None,
        },
        Value::List(_) => match name {
            "count" | "index" | "copy" => method(),
            name if CHANGING[..8].contains(&name) => Some(unsafe_attribute(value, name)),
            _ => None,
        },
        Value::Group(pair) if matches!(name, "grouper" | "list") => {
            pair.items.get(usize::from(name == "list")).cloned()
        }
        Value::Tuple(_) | Value::Group(_) if matches!(name, "count" | "index") => method(),
        Value::Range(r) => match name {
            "start" => Some(Value::Int(r.start.clone())),
            "stop" => Some(Value::Int(r.stop.clone())),
            "step" => Some(Value::Int(r.step.clone())),
            "count" | "index" => method(),
            _ => None,
        },
        Value::View(view, dict) => match name {
            "isdisjoint" if *view != View::Values => method(),
            "mapping" => Some(Value::Dict(dict.clone())),
            _ => None,
        },
        Value::Once(_) if matches!(name, "close" | "send" | "throw" | "gi_running" | "gi_yieldfrom") => method(),
        Value::Int(_) | Value::Bool(_) => match name {
            "real" | "numerator" => value.as_int().map(Value::Int),
            "imag" => number(0),
            "denominator" => number(1),
            "bit_length" | "bit_count" | "conjugate" | "as_integer_ratio" | "to_bytes" | "from_bytes" => method(),
            _ => None,
        },
        Value::Float(x) => match name {
            "real" => Some(Value::Float(*x)),
            "imag" => Some(Value::Float(0.0)),
            "is_integer" | "conjugate" | "as_integer_ratio" | "hex" | "fromhex" => method(),
            _ => None,
        },
        Value::Namespace(ns) => ns.fields.borrow().get_str(name).cloned(),
        Value::Macro(m) => match name {
            "name" => Some(m.node.name.as_ref().map_or(Value::None, Value::str)),
            "arguments" => Some(Value::tuple(m.node.parameters.iter().map(Value::str).collect())?),
            "catch_kwargs" => Some(Value::Bool(m.node.uses_kwargs)),
            "catch_varargs" => Some(Value::Bool(m.node.uses_varargs)),
            "caller" => Some(Value::Bool(m.node.uses_caller || m.node.parameters.iter().any(|p| p == "caller"))),
            "explicit_caller" => Some(Value::Bool(m.node.parameters.iter().any(|p| p == "caller"))),
            _ => None,
        },
        Value::Loop(l) => {
            let (i, n) = (l.index0.get(), l.items.len());
            match name {
                "index0" => number(i),
                "index" => number(i + 1),
                "revindex0" => number(n - i - 1),
                "revindex" => number(n - i),
                "first" => Some(Value::Bool(i == 0)),
                "last" => Some(Value::Bool(i + 1 == n)),
                "length" => number(n),
                "depth" => number(l.depth0 + 1),
                "depth0" => number(l.depth0),
                "previtem" if i == 0 => Some(Value::undefined("there is no previous item")),
                "previtem" => Some(l.items[i - 1].clone()),
                "nextitem" => {
                    Some(l.items.get(i + 1).cloned().unwrap_or_else(|| Value::undefined("there is no next item")))
                }
                "cycle" | "changed" => method(),
                _ => None,
            }
        }
        Value::Cycler(c) => match name {
            "items" => Some(Value::tuple(c.items.clone())?),
            "pos" => number(c.position.get()),
            "current" => Some(c.items[c.position.get()].clone()),
            "next" | "reset" => method(),
            _ => None,
        },
        Value::Joiner(j) => match name {
            "sep" => Some(j.separator.clone()),
            "used" => Some(Value::Bool(j.used.get())),
            _ => None,
        },
        Value::Function("dict") if name == "fromkeys" => method(),
        _ => {
            run.step()?;
            None
        }
    })
}

fn unsafe_attribute(value: &Value, name: &str) -> Value {
    Value::undefined(format!("access to attribute '{name}' of '{}' object is unsafe.", value.type_name()))
}

fn object_name(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        value => format!("{} object", value.type_name()),
    }
}

fn no_attribute(value: &Value, name: &str) -> Value {
    Value::undefined(format!("'{}' has no attribute '{name}'", object_name(value)))
}

/// `value.name`: an attribute before an item.
pub(super) fn attribute(run: &Rendering, value: &Value, name: &str) -> R<Value> {
    if let Some(found) = own(run, value, name)? {
        return Ok(found);
    }
    Ok(operators::item(run, value, &Value::str(name))?.unwrap_or_else(|| no_attribute(value, name)))
}

/// `value[key]`: an item before an attribute.
pub(super) fn item(run: &Rendering, value: &Value, key: &Value) -> R<Value> {
    if let Some(found) = operators::item(run, value, key)? {
        return Ok(found);
    }
    match key.as_str() {
        Some(name) => Ok(own(run, value, name)?.unwrap_or_else(|| no_attribute(value, name))),
        None => Ok(Value::undefined(format!(
            "{} has no element {}",
            object_name(value),
            super::show::repr(run, key).unwrap_or_default()
        ))),
    }
}

/// The filter `attr`: an attribute, never an item.
pub(super) fn attribute_alone(run: &Rendering, value: &Value, name: &str) -> R<Value> {
    Ok(own(run, value, name)?.unwrap_or_else(|| no_attribute(value, name)))
}

/// Whether Python's `callable(value)` holds.
pub(super) fn is_callable(value: &Value) -> bool {
    matches!(
        value,
        Value::Undefined(_)
            | Value::Macro(_)
            | Value::Loop(_)
            | Value::Joiner(_)
            | Value::Function(_)
            | Value::Method(_)
    )
}

/// Calls a value.
pub(super) fn call(run: &Rendering, callee: &Value, args: Args) -> R<Value> {
    match callee {
        Value::Undefined(message) => Err(fault(FaultKind::Undefined, message.to_string())),
        Value::Function(name) => functions::call(run, name, args),
        Value::Macro(m) => run.call_macro(m, args),
        Value::Method(method) => call_method(run, &method.0, &method.1, args),
        Value::Loop(l) => {
            let [items] = args.bind("loop", ["iterable"], 1)?;
            run.recurse(l, &items.unwrap_or(Value::None))
        }
        Value::Joiner(j) => {
            args.none("joiner")?;
            Ok(if j.used.replace(true) { j.separator.clone() } else { Value::str("") })
        }
        Value::Chance(what) => Err(unsupported(*what)),
        other => Err(type_fault(format!("'{}' object is not callable", other.type_name()))),
    }
}

fn call_method(run: &Rendering, value: &Value, name: &str, args: Args) -> R<Value> {
    match value {
        Value::Str(_) | Value::Markup(_) => string_methods::call(run, value, name, args),
        Value::Dict(dict) => dict_method(run, dict, name, args),
        Value::List(l) | Value::Tuple(l) | Value::Group(l) => match name {
            "copy" => {
                args.none(name)?;
                Ok(value.clone())
            }
            _ => search(run, &l.items, name, args),
        },
        Value::Range(_) => search(run, &value.items()?, name, args),
        Value::Int(_) | Value::Bool(_) => int_method(value, name, args),
        Value::Float(x) => float_method(*x, name, args),
        Value::Loop(l) => match name {
            "cycle" => {
                if args.positional.is_empty() {
                    return Err(type_fault("no items for cycling given"));
                }
                Ok(args.positional[l.index0.get() % args.positional.len()].clone())
            }
            _ => {
                let last = l.changed.borrow().clone();
                let same = match last {
                    Some(last) => equal(run, &Value::tuple(last)?, &Value::tuple(args.positional.clone())?)?,
                    None => false,
                };
                if !same {
                    *l.changed.borrow_mut() = Some(args.positional);
                }
                Ok(Value::Bool(!same))
            }
        },
        Value::Cycler(c) => {
            args.none(name)?;
            if name == "reset" {
                c.position.set(0);
                return Ok(Value::None);
            }
            let at = c.position.get();
            c.position.set((at + 1) % c.items.len());
            Ok(c.items[at].clone())
        }
        Value::Function("dict") => from_keys(args),
        Value::View(view, dict) if name == "isdisjoint" => {
            let [other] = args.bind(name, ["/other"], 1)?;
            for item in other.unwrap_or(Value::None).items()? {
                let mine = Value::View(*view, dict.clone());
                if super::compare::contains(run, &mine, &item)? {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }
        Value::Bytes(bytes) if name == "decode" => {
            let [encoding] = args.bind(name, ["encoding"], 0)?;
            let encoding = encoding.and_then(|e| e.as_str().map(str::to_lowercase)).unwrap_or("utf-8".into());
            if !matches!(encoding.as_str(), "utf-8" | "utf8" | "ascii") {
                return Err(unsupported(format!("the encoding '{encoding}'")));
            }
            std::str::from_utf8(bytes).map(Value::str).map_err(|_| value_fault("codec can't decode the bytes"))
        }
        _ => Err(unsupported(format!("the method '{name}' of {}", value.type_name()))),
    }
}

fn dict_method(run: &Rendering, dict: &Rc<Dict>, name: &str, args: Args) -> R<Value> {
    Ok(match name {
        "get" => {
            let [key, otherwise] = args.bind(name, ["/key", "/default"], 1)?;
            let found = dict.get(&key.unwrap_or(Value::None))?.cloned();
            found.or(otherwise).unwrap_or(Value::None)
        }
        "fromkeys" => from_keys(args)?,
        _ => {
            args.none(name)?;
            run.charge(dict.len() * 8)?;
            match name {
                "keys" => Value::View(View::Keys, dict.clone()),
                "values" => Value::View(View::Values, dict.clone()),
                "items" => Value::View(View::Items, dict.clone()),
                _ => Value::Dict(dict.clone()),
            }
        }
    })
}

fn from_keys(args: Args) -> R<Value> {
    let [keys, value] = args.bind("fromkeys", ["/iterable", "/value"], 1)?;
    let value = value.unwrap_or(Value::None);
    let mut dict = Dict::default();
    for key in keys.unwrap_or(Value::None).items()? {
        dict.insert(key, value.clone())?;
    }
    Ok(Value::Dict(Rc::new(dict)))
}

/// `count` and `index` of a sequence.
fn search(run: &Rendering, items: &[Value], name: &str, args: Args) -> R<Value> {
    let [value, start, stop] = args.bind(name, ["/value", "/start", "/stop"], 1)?;
    let value = value.unwrap_or(Value::None);
    if name == "count" {
        let mut n = 0;
        for item in items {
            n += usize::from(equal(run, item, &value)?);
        }
        return Ok(Value::int(n));
    }
    let n = items.len() as i64;
    let clip = |v: &Option<Value>, otherwise: i64| -> R<usize> {
        let i = v.as_ref().map_or(Ok(otherwise), index)?;
        Ok((if i < 0 { i.saturating_add(n).max(0) } else { i }).min(n) as usize)
    };
    let (start, stop) = (clip(&start, 0)?, clip(&stop, n)?);
    for (i, item) in items.iter().enumerate().take(stop).skip(start) {
        if equal(run, item, &value)? {
            return Ok(Value::int(i));
        }
    }
    Err(value_fault("the value is not in the sequence"))
}

fn int_method(value: &Value, name: &str, args: Args) -> R<Value> {
    let n = value.as_int().unwrap_or_default();
    args.none(name)?;
    Ok(match name {
        "bit_length" => Value::int(n.bits()),
        "bit_count" => Value::int(n.magnitude().count_ones()),
        "conjugate" => Value::Int(n),
        "as_integer_ratio" => Value::tuple(vec![Value::Int(n), Value::int(1)])?,
        _ => return Err(unsupported(format!("the method '{name}' of int"))),
    })
}

fn float_method(x: f64, name: &str, args: Args) -> R<Value> {
    args.none(name)?;
    Ok(match name {
        "is_integer" => Value::Bool(x.is_finite() && x.fract() == 0.0),
        "conjugate" => Value::Float(x),
        "as_integer_ratio" => {
            let whole = float_to_int(x)?;
            if int_to_float(&whole)? == x {
                return Value::tuple(vec![Value::Int(whole), Value::int(1)]);
            }
            // The smallest power of two that makes it whole.
            let (mut numerator, mut denominator) = (x, num_bigint::BigInt::from(1));
            while numerator.fract() != 0.0 {
                numerator *= 2.0;
                denominator *= 2;
            }
            Value::tuple(vec![Value::Int(float_to_int(numerator)?), Value::Int(denominator)])?
        }
        _ => return Err(unsupported(format!("the method '{name}' of float"))),
    })
}
