//! The filters of Jinja2 that make or change numbers: `abs`, `int`, `float`, `round`, `filesizeformat`.
use super::arguments::{Args, index, optional_index};
use super::fault::{R, type_fault, unsupported, value_fault};
use super::number::{float_to_int, int_to_float, parse_float, parse_int, round_float, round_int};
use super::run::Rendering;
use super::show::text;
use super::values::{Value, undefined_fault};

/// `value | abs`.
pub(super) fn absolute(value: &Value) -> R<Value> {
    match value {
        Value::Undefined(_) => Err(type_fault("bad operand type for abs(): 'Undefined'")),
        Value::Float(x) => Ok(Value::Float(x.abs())),
        value => match value.as_int() {
            Some(n) => Ok(Value::Int(num_bigint::BigInt::from(n.magnitude().clone()))),
            None => Err(type_fault(format!("bad operand type for abs(): '{}'", value.type_name()))),
        },
    }
}

/// `value | int`.
pub(super) fn to_int(value: &Value, args: Args) -> R<Value> {
    let [otherwise, base] = args.bind("int", ["default", "base"], 0)?;
    if let Some(e) = undefined_fault(value) {
        return Err(e);
    }
    let otherwise = otherwise.unwrap_or_else(|| Value::int(0));
    let base = base.map_or(Ok(10), |b| index(&b))?;
    let base = u32::try_from(base).ok().filter(|b| *b == 0 || (2..=36).contains(b));
    let as_float = |x: f64| if x.is_finite() { Ok(Value::Int(float_to_int(x)?)) } else { Ok(otherwise.clone()) };
    match value {
        Value::Str(s) | Value::Markup(s) => {
            if let Some(n) = base.and_then(|base| parse_int(s, base)) {
                return Ok(Value::Int(n));
            }
            parse_float(s).map_or(Ok(otherwise.clone()), as_float)
        }
        Value::Float(x) if x.is_nan() => Ok(otherwise),
        Value::Float(x) => Ok(Value::Int(float_to_int(*x)?)),
        Value::Bytes(_) => Err(unsupported("int of bytes")),
        value => Ok(value.as_int().map_or(otherwise, Value::Int)),
    }
}

/// `value | float`.
pub(super) fn to_float(value: &Value, args: Args) -> R<Value> {
    let [otherwise] = args.bind("float", ["default"], 0)?;
    if let Some(e) = undefined_fault(value) {
        return Err(e);
    }
    let otherwise = otherwise.unwrap_or(Value::Float(0.0));
    Ok(match value {
        Value::Float(x) => Value::Float(*x),
        Value::Str(s) | Value::Markup(s) => parse_float(s).map_or(otherwise, Value::Float),
        Value::Bytes(_) => return Err(unsupported("float of bytes")),
        value => match value.as_int() {
            Some(n) => Value::Float(int_to_float(&n)?),
            None => otherwise,
        },
    })
}

/// `value | round`.
pub(super) fn round(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"], 0)?;
    let method = method.map_or(Ok("common".into()), |m| text(run, &m))?;
    if !matches!(method.as_str(), "common" | "ceil" | "floor") {
        return Err(value_fault("method must be common, ceil or floor"));
    }
    if let Some(e) = undefined_fault(value) {
        return Err(if method == "common" { type_fault("type Undefined doesn't define __round__ method") } else { e });
    }
    if method == "common" {
        let digits = match &precision {
            None => Some(0),
            given => optional_index(given)?,
        };
        return match (value, digits) {
            (Value::Float(x), Some(digits)) => round_float(*x, digits).map(Value::Float),
            (Value::Float(x), None) => float_to_int(round_float(*x, 0)?).map(Value::Int),
            (value, digits) => match value.as_int() {
                Some(n) => round_int(&n, digits.unwrap_or(0)).map(Value::Int),
                None => Err(type_fault(format!("type {} doesn't define __round__ method", value.type_name()))),
            },
        };
    }
    let ten = Value::int(10);
    let precision = precision.unwrap_or_else(|| Value::int(0));
    let scale = super::operators::binary(run, super::ast::Operator::Power, &ten, &precision)?;
    let scaled = super::operators::binary(run, super::ast::Operator::Multiply, value, &scale)?;
    let whole = match &scaled {
        Value::Float(x) => Value::Int(float_to_int(if method == "ceil" { x.ceil() } else { x.floor() })?),
        value => match value.as_int() {
            Some(n) => Value::Int(n),
            None => return Err(type_fault(format!("must be real number, not {}", value.type_name()))),
        },
    };
    super::operators::binary(run, super::ast::Operator::Divide, &whole, &scale)
}

/// `value | filesizeformat`.
pub(super) fn file_size(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [binary] = args.bind("filesizeformat", ["binary"], 0)?;
    let binary = binary.is_some_and(|b| b.truth());
    if let Some(e) = undefined_fault(value) {
        return Err(e);
    }
    let bytes = match value {
        Value::Float(x) => *x,
        value => match (value.as_int(), value.as_str()) {
            (Some(n), _) => int_to_float(&n)?,
            (_, Some(s)) => parse_float(s).ok_or_else(|| value_fault("could not convert string to float"))?,
            _ => return Err(type_fault("float() argument must be a string or a real number")),
        },
    };
    run.charge(32)?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok(Value::str("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::str(format!("{} Bytes", float_to_int(bytes)?)));
    }
    let units = if binary {
        ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    } else {
        ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    };
    let mut shown = String::new();
    for (i, unit) in units.iter().enumerate() {
        let size = base.powi(i as i32 + 2);
        shown = format!("{:.1} {unit}", base * bytes / size);
        if bytes < size {
            break;
        }
    }
    Ok(Value::str(shown))
}
