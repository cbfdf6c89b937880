//! The global functions of chat templates: `range`, `dict`, `namespace`, `raise_exception`, `strftime_now` …
use std::cell::Cell;
use std::rc::Rc;

use num_bigint::BigInt;

use super::arguments::Args;
use super::fault::{FaultKind, R, fault, type_fault, unsupported, value_fault};
use super::run::Rendering;
use super::values::{Cycler, Dict, IntRange, Joiner, Namespace, Value};

/// Numbers that a `range` may have: Jinja2's bound.
const MAX_RANGE: usize = 100_000;

/// Names that are there before anything is set.
pub(super) const FUNCTIONS: [&str; 8] =
    ["cycler", "dict", "joiner", "lipsum", "namespace", "raise_exception", "range", "strftime_now"];

/// Calls a global function.
pub(super) fn call(run: &Rendering, name: &str, args: Args) -> R<Value> {
    match name {
        "range" => range(args),
        "dict" => Ok(Value::Dict(Rc::new(dict(run, args)?))),
        "namespace" => {
            let fields = dict(run, args)?;
            for (key, _) in fields.iter() {
                check_field(key.as_str().unwrap_or(""))?;
            }
            run.count_namespace()?;
            Ok(Value::Namespace(Rc::new(Namespace::new(fields))))
        }
        "cycler" => {
            if !args.named.is_empty() {
                return Err(type_fault("cycler takes no keyword arguments"));
            }
            if args.positional.is_empty() {
                return Err(fault(FaultKind::Runtime, "at least one item has to be provided"));
            }
            Ok(Value::Cycler(Rc::new(Cycler { items: args.positional, position: Cell::new(0) })))
        }
        "joiner" => {
            let [separator] = args.bind("joiner", ["sep"], 0)?;
            let separator = separator.unwrap_or_else(|| Value::str(", "));
            Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
        }
        "raise_exception" => {
            let [message] = args.bind(name, ["message"], 1)?;
            let message = super::show::text(run, &message.unwrap_or(Value::None))?;
            Err(fault(FaultKind::Runtime, message))
        }
        "strftime_now" => {
            let [format] = args.bind(name, ["format"], 1)?;
            let format = format.unwrap_or(Value::None);
            let wrong = || type_fault(format!("strftime_now takes a str, not {}", format.type_name()));
            let text = format.as_str().ok_or_else(wrong)?;
            run.charge(text.len() * 32)?;
            super::strftime::strftime(text, run.clock()).map(Value::str).map_err(unsupported)
        }
        other => Err(unsupported(format!("the function '{other}', which makes random text,"))),
    }
}

/// What a namespace may be given: no name with an underscore in front.
pub(super) fn check_field(name: &str) -> R<()> {
    if name.starts_with('_') {
        let message = format!("a chat template cannot set {name:?} on a namespace: its name begins with an underscore");
        return Err(fault(FaultKind::Runtime, message));
    }
    Ok(())
}

fn range(args: Args) -> R<Value> {
    let given = args.positional.len();
    let [a, b, c] = args.bind("range", ["/start", "/stop", "/step"], 1)?;
    let whole = |v: Option<Value>| -> R<BigInt> {
        let v = v.unwrap_or(Value::None);
        if let Value::Undefined(message) = &v {
            return Err(type_fault(message.to_string()));
        }
        v.as_int().ok_or_else(|| type_fault(format!("'{}' object cannot be interpreted as an integer", v.type_name())))
    };
    let (start, stop) = if given == 1 { (BigInt::ZERO, whole(a)?) } else { (whole(a)?, whole(b)?) };
    let step = if given == 3 { whole(c)? } else { 1.into() };
    if step == BigInt::ZERO {
        return Err(value_fault("range() arg 3 must not be zero"));
    }
    let range = IntRange { start, stop, step };
    if range.len() > MAX_RANGE.into() {
        return Err(fault(
            FaultKind::Limit,
            format!("range: {} numbers are more than the {MAX_RANGE} a template may have", range.len()),
        ));
    }
    Ok(Value::Range(Rc::new(range)))
}

/// Python's `dict(…)`: from a dictionary or pairs, and names.
fn dict(run: &Rendering, args: Args) -> R<Dict> {
    if args.positional.len() > 1 {
        return Err(type_fault(format!("dict expected at most 1 argument, got {}", args.positional.len())));
    }
    let mut out = match args.positional.first() {
        None => Dict::default(),
        Some(Value::Dict(dict)) => (**dict).clone(),
        Some(pairs) => {
            let mut out = Dict::default();
            for pair in pairs.items()? {
                let pair = pair.items()?;
                let [key, value] = &pair[..] else {
                    return Err(value_fault("dictionary update sequence element has not 2 items"));
                };
                out.insert(key.clone(), value.clone())?;
            }
            out
        }
    };
    for (name, value) in args.named {
        out.insert(Value::str(name), value)?;
    }
    run.charge(out.len() * 64)?;
    Ok(out)
}
