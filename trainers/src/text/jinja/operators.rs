//! Arithmetic, concatenation, subscripts and slices, as Python computes them.
use num_bigint::BigInt;

use super::ast::Operator;
use super::fault::{Fault, FaultKind, R, fault, type_fault, unsupported, value_fault};
use super::number::{float_divmod, float_power, int_divmod, int_power, int_to_float, int_true_division};
use super::run::Rendering;
use super::show::escape;
use super::values::{IntRange, Value};

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
            Operator::Modulo => "%",
            Operator::Power => "**",
        }
    }
}

fn no_operator(operator: Operator, a: &Value, b: &Value) -> Fault {
    type_fault(format!(
        "unsupported operand type(s) for {}: '{}' and '{}'",
        operator.sign(),
        a.type_name(),
        b.type_name()
    ))
}

/// A binary operator.
pub(super) fn binary(run: &Rendering, operator: Operator, a: &Value, b: &Value) -> R<Value> {
    // A string formats an undefined value and joins an escaped one before anything else.
    if let (Operator::Modulo, Some(_)) = (operator, a.as_str()) {
        return super::printf::modulo(run, a, b);
    }
    for value in [a, b] {
        match value {
            Value::Undefined(message) => return Err(fault(FaultKind::Undefined, message.to_string())),
            Value::Chance(what) => return Err(unsupported(*what)),
            _ => {}
        }
    }
    match operator {
        Operator::Add => {
            if let Some(sum) = add_sequences(run, a, b)? {
                return Ok(sum);
            }
        }
        Operator::Multiply => {
            if let Some(product) = repeat(run, a, b)? {
                return Ok(product);
            }
        }
        Operator::Subtract if matches!((a, b), (Value::View(..), Value::View(..))) => {
            return Err(unsupported("arithmetic with a dictionary's views"));
        }
        Operator::Modulo if matches!(a, Value::Bytes(_)) => return Err(unsupported("formatting bytes")),
        _ => {}
    }
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return whole(operator, &a, &b);
    }
    let float = |v: &Value| match v {
        Value::Float(x) => Ok(Some(*x)),
        v => v.as_int().map(|n| int_to_float(&n)).transpose(),
    };
    let is_number = |v: &Value| matches!(v, Value::Float(_) | Value::Int(_) | Value::Bool(_));
    if !(is_number(a) && is_number(b)) {
        return Err(no_operator(operator, a, b));
    }
    let (Some(x), Some(y)) = (float(a)?, float(b)?) else { return Err(no_operator(operator, a, b)) };
    Ok(Value::Float(match operator {
        Operator::Add => x + y,
        Operator::Subtract => x - y,
        Operator::Multiply => x * y,
        Operator::Divide if y == 0.0 => return Err(fault(FaultKind::Arithmetic, "float division by zero")),
        Operator::Divide => x / y,
        Operator::FloorDivide => float_divmod(x, y)?.0,
        Operator::Modulo => float_divmod(x, y)?.1,
        Operator::Power => float_power(x, y)?,
    }))
}

fn whole(operator: Operator, a: &BigInt, b: &BigInt) -> R<Value> {
    let bits = a.bits().saturating_add(b.bits());
    if bits > 1 << 21 {
        return Err(fault(FaultKind::Limit, "a whole number grows too large"));
    }
    Ok(match operator {
        Operator::Add => Value::Int(a + b),
        Operator::Subtract => Value::Int(a - b),
        Operator::Multiply => Value::Int(a * b),
        Operator::Divide => Value::Float(int_true_division(a, b)?),
        Operator::FloorDivide => Value::Int(int_divmod(a, b)?.0),
        Operator::Modulo => Value::Int(int_divmod(a, b)?.1),
        Operator::Power if *b < BigInt::ZERO => Value::Float(float_power(int_to_float(a)?, int_to_float(b)?)?),
        Operator::Power => Value::Int(int_power(a, b)?),
    })
}

/// `+` of strings, lists and tuples; nothing for other values.
fn add_sequences(run: &Rendering, a: &Value, b: &Value) -> R<Option<Value>> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        if matches!(a, Value::Markup(_)) || matches!(b, Value::Markup(_)) {
            let joined = escape(run, a)? + &escape(run, b)?;
            return Ok(Some(Value::Markup(joined.into())));
        }
        run.charge(x.len() + y.len())?;
        return Ok(Some(Value::str([x, y].concat())));
    }
    let joined = |x: &[Value], y: &[Value]| {
        run.charge((x.len() + y.len()) * 16)?;
        Ok::<_, Fault>([x, y].concat())
    };
    Ok(Some(match (a, b) {
        (Value::List(x), Value::List(y)) => Value::list(joined(&x.items, &y.items)?)?,
        (Value::Tuple(x) | Value::Group(x), Value::Tuple(y) | Value::Group(y)) => {
            Value::tuple(joined(&x.items, &y.items)?)?
        }
        (Value::Bytes(_), Value::Bytes(_)) => return Err(unsupported("joining bytes")),
        _ => return Ok(None),
    }))
}

/// `*` of a string, list or tuple with a whole number; nothing for other values.
fn repeat(run: &Rendering, a: &Value, b: &Value) -> R<Option<Value>> {
    let is_sequence = |v: &Value| {
        matches!(
            v,
            Value::Str(_) | Value::Markup(_) | Value::List(_) | Value::Tuple(_) | Value::Group(_) | Value::Bytes(_)
        )
    };
    let (sequence, count) = if is_sequence(a) { (a, b) } else { (b, a) };
    if !is_sequence(sequence) {
        return Ok(None);
    }
    let Some(count) = count.as_int() else {
        return Err(type_fault(format!("can't multiply sequence by non-int of type '{}'", count.type_name())));
    };
    let count = if count < BigInt::ZERO { 0 } else { usize::try_from(&count).unwrap_or(usize::MAX) };
    let copies = |items: &[Value]| {
        run.charge(items.len().saturating_mul(count).saturating_mul(16))?;
        let n = items.len().saturating_mul(count);
        Ok::<_, Fault>(items.iter().cycle().take(n).cloned().collect())
    };
    Ok(Some(match sequence {
        Value::Str(s) | Value::Markup(s) => {
            run.charge(s.len().saturating_mul(count))?;
            let text = s.repeat(if s.is_empty() { 0 } else { count });
            if matches!(sequence, Value::Markup(_)) { Value::Markup(text.into()) } else { Value::str(text) }
        }
        Value::List(l) => Value::list(copies(&l.items)?)?,
        Value::Tuple(l) | Value::Group(l) => Value::tuple(copies(&l.items)?)?,
        _ => return Err(unsupported("repeating bytes")),
    }))
}

/// `-value` and `+value`.
pub(super) fn signed(value: &Value, negative: bool) -> R<Value> {
    match value {
        Value::Undefined(message) => Err(fault(FaultKind::Undefined, message.to_string())),
        Value::Chance(what) => Err(unsupported(*what)),
        Value::Float(x) => Ok(Value::Float(if negative { -x } else { *x })),
        value => match value.as_int() {
            Some(n) => Ok(Value::Int(if negative { -n } else { n })),
            None => {
                let sign = if negative { '-' } else { '+' };
                Err(type_fault(format!("bad operand type for unary {sign}: '{}'", value.type_name())))
            }
        },
    }
}

/// Where an index points in `length` items, if it does.
pub(super) fn place(index: &BigInt, length: usize) -> Option<usize> {
    let index = if *index < BigInt::ZERO { index + BigInt::from(length) } else { index.clone() };
    usize::try_from(index).ok().filter(|i| *i < length)
}

/// `value[key]`; nothing where Python raises TypeError or LookupError.
pub(super) fn item(run: &Rendering, value: &Value, key: &Value) -> R<Option<Value>> {
    if let Value::Undefined(message) = value {
        return Err(fault(FaultKind::Undefined, message.to_string()));
    }
    if let Value::Chance(what) = value {
        return Err(unsupported(*what));
    }
    if let Value::Dict(dict) = value {
        return match dict.get(key) {
            Ok(found) => Ok(found.cloned()),
            Err(e) if e.kind == FaultKind::Type => Ok(None),
            Err(e) => Err(e),
        };
    }
    let Some(index) = key.as_int() else { return Ok(None) };
    Ok(match value {
        Value::Str(s) | Value::Markup(s) => {
            run.charge(s.len() / 16)?;
            let at = |i| s.chars().nth(i).map(String::from);
            let found = if s.is_ascii() {
                place(&index, s.len()).map(|i| s[i..=i].to_string())
            } else {
                place(&index, s.chars().count()).and_then(at)
            };
            found.map(|c| if matches!(value, Value::Markup(_)) { Value::Markup(c.into()) } else { Value::str(c) })
        }
        Value::List(l) | Value::Tuple(l) | Value::Group(l) => place(&index, l.items.len()).map(|i| l.items[i].clone()),
        Value::Range(r) => place(&index, usize::try_from(r.len()).unwrap_or(usize::MAX)).map(|i| Value::Int(r.at(i))),
        Value::Bytes(b) => place(&index, b.len()).map(|i| Value::int(b[i])),
        _ => None,
    })
}

/// `value[start:stop:step]`.
pub(super) fn slice(run: &Rendering, value: &Value, bounds: [&Value; 3]) -> R<Value> {
    if let Value::Undefined(message) = value {
        return Err(fault(FaultKind::Undefined, message.to_string()));
    }
    let picked = |length: usize| -> R<Vec<usize>> {
        let indices = slice_indices(length, bounds)?;
        run.charge(indices.len() * 8)?;
        Ok(indices)
    };
    Ok(match value {
        Value::Str(s) | Value::Markup(s) => {
            let chars: Vec<char> = s.chars().collect();
            run.charge(s.len())?;
            let text: String = picked(chars.len())?.into_iter().map(|i| chars[i]).collect();
            if matches!(value, Value::Markup(_)) { Value::Markup(text.into()) } else { Value::str(text) }
        }
        Value::List(l) => Value::list(picked(l.items.len())?.into_iter().map(|i| l.items[i].clone()).collect())?,
        Value::Tuple(l) | Value::Group(l) => {
            Value::tuple(picked(l.items.len())?.into_iter().map(|i| l.items[i].clone()).collect())?
        }
        Value::Bytes(b) => Value::Bytes(picked(b.len())?.into_iter().map(|i| b[i]).collect()),
        Value::Range(r) => slice_range(r, bounds)?,
        Value::Dict(_) => return Err(type_fault("unhashable type: 'slice'")),
        Value::Chance(what) => return Err(unsupported(*what)),
        _ => return Err(type_fault(format!("'{}' object is not subscriptable", value.type_name()))),
    })
}

/// Start, stop and step as Python's `slice.indices` clips them.
fn clipped(length: usize, bounds: [&Value; 3]) -> R<(i128, i128, i128)> {
    let number = |v: &Value| match v {
        Value::None => Ok(None),
        v => match v.as_int() {
            // Beyond these bounds nothing changes any more.
            Some(n) => Ok(Some(
                i128::try_from(&n)
                    .unwrap_or(if n < BigInt::ZERO { i64::MIN.into() } else { i64::MAX.into() })
                    .clamp(i64::MIN.into(), i64::MAX.into()),
            )),
            None => Err(type_fault("slice indices must be integers or None or have an __index__ method")),
        },
    };
    let [start, stop, step] = bounds;
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?.unwrap_or(1));
    if step == 0 {
        return Err(value_fault("slice step cannot be zero"));
    }
    let n = length as i128;
    let (low, high) = if step < 0 { (-1, n - 1) } else { (0, n) };
    let clip = |v: i128| (if v < 0 { v + n } else { v }).clamp(low, high);
    let start = start.map_or(if step < 0 { high } else { low }, clip);
    let stop = stop.map_or(if step < 0 { low } else { high }, clip);
    Ok((start, stop, step))
}

fn slice_indices(length: usize, bounds: [&Value; 3]) -> R<Vec<usize>> {
    let (start, stop, step) = clipped(length, bounds)?;
    let mut out = Vec::new();
    let mut i = start;
    while (step > 0 && i < stop) || (step < 0 && i > stop) {
        out.push(i as usize);
        i += step;
    }
    Ok(out)
}

fn slice_range(r: &IntRange, bounds: [&Value; 3]) -> R<Value> {
    let (start, stop, step) = clipped(usize::try_from(r.len()).unwrap_or(usize::MAX), bounds)?;
    let at = |i: i128| &r.start + &r.step * BigInt::from(i);
    Ok(Value::Range(std::rc::Rc::new(IntRange {
        start: at(start),
        stop: at(stop),
        step: &r.step * BigInt::from(step),
    })))
}
