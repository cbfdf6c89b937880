//! The values of a template: Python's, as far as JSON and Jinja2 make them.
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;

use super::ast;
use super::fault::{Fault, FaultKind, R, fault, type_fault};

/// Containers in containers: more is refused when they are made, so that whoever walks a value ends.
pub(super) const MAX_DEPTH: usize = 500;
/// Bytes that the key of a dictionary may come to.
const MAX_HASH: usize = 1 << 20;

/// One value. Lists and dictionaries cannot change: the sandbox forbids every method that would.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Not there; the message says what is missing.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(BigInt),
    Float(f64),
    Str(Rc<str>),
    /// A string that counts as escaped HTML.
    Markup(Rc<str>),
    Bytes(Rc<[u8]>),
    List(Rc<Elements>),
    Tuple(Rc<Elements>),
    /// What `groupby` makes: a pair with the names `grouper` and `list`.
    Group(Rc<Elements>),
    Dict(Rc<Dict>),
    View(View, Rc<Dict>),
    Range(Rc<IntRange>),
    /// A generator or iterator: it can be walked once.
    Once(Rc<Once>),
    Namespace(Rc<Namespace>),
    Macro(Rc<Macro>),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    /// A global function, by its name.
    Function(&'static str),
    /// A method of a value, by its name.
    Method(Rc<(Value, String)>),
    /// A value that differs from run to run, by what made it.
    Chance(&'static str),
}

/// Which part of a dictionary a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// Elements with the depth of containers below them.
#[derive(Debug)]
pub(super) struct Elements {
    pub items: Vec<Value>,
    depth: usize,
}

/// A dictionary in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<String, usize>,
    depth: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct IntRange {
    pub start: BigInt,
    pub stop: BigInt,
    pub step: BigInt,
}

#[derive(Debug)]
pub(super) struct Once {
    items: RefCell<std::vec::IntoIter<Value>>,
    depth: usize,
}

#[derive(Debug)]
pub(super) struct Namespace {
    pub fields: RefCell<Dict>,
    depth: usize,
}

/// A macro with the scope it was defined in.
#[derive(Debug)]
pub(super) struct Macro {
    pub node: Arc<ast::MacroNode>,
    pub scope: Rc<Scope>,
    /// Whether text is escaped in its body: decided where it stands, not where it is called.
    pub autoescape: bool,
}

/// The state of a `for` loop that its body sees as `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub items: Vec<Value>,
    pub index0: Cell<usize>,
    pub depth0: usize,
    pub changed: RefCell<Option<Vec<Value>>>,
    /// What a recursive loop runs when it is called.
    pub recursive: Option<(Arc<ast::For>, Rc<Scope>)>,
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub items: Vec<Value>,
    pub position: Cell<usize>,
}

#[derive(Debug)]
pub(super) struct Joiner {
    pub separator: Value,
    pub used: Cell<bool>,
}

/// Names and values of a block; what is not here may be in the blocks around it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub names: RefCell<HashMap<String, Value>>,
    pub parent: Option<Rc<Scope>>,
}

impl Scope {
    pub fn within(parent: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { names: RefCell::default(), parent: Some(parent.clone()) })
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.names.borrow().get(name) {
            return Some(value.clone());
        }
        self.parent.as_ref().and_then(|parent| parent.get(name))
    }

    pub fn set(&self, name: &str, value: Value) {
        self.names.borrow_mut().insert(name.to_string(), value);
    }
}

fn deeper(depth: usize) -> R<usize> {
    if depth >= MAX_DEPTH {
        return Err(fault(FaultKind::Limit, format!("a value is nested more than {MAX_DEPTH} deep")));
    }
    Ok(depth + 1)
}

impl Elements {
    pub fn new(items: Vec<Value>) -> R<Rc<Elements>> {
        let depth = deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Ok(Rc::new(Elements { items, depth }))
    }
}

impl Dict {
    /// Sets a key; one that was there keeps its place.
    pub fn insert(&mut self, key: Value, value: Value) -> R<()> {
        let hash = key.hash()?;
        self.depth = self.depth.max(deeper(value.depth().max(key.depth()))?);
        match self.index.get(&hash) {
            Some(i) => self.entries[*i].1 = value,
            None => {
                self.index.insert(hash, self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    pub fn get(&self, key: &Value) -> R<Option<&Value>> {
        Ok(self.index.get(&key.hash()?).map(|i| &self.entries[*i].1))
    }

    pub fn get_str(&self, key: &str) -> Option<&Value> {
        self.index.get(&text_hash(key)).map(|i| &self.entries[*i].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Value, Value)> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Clone for Dict {
    fn clone(&self) -> Self {
        Dict { entries: self.entries.clone(), index: self.index.clone(), depth: self.depth }
    }
}

impl IntRange {
    /// How many numbers it has.
    pub fn len(&self) -> BigInt {
        let zero = BigInt::ZERO;
        let distance = if self.step > zero { &self.stop - &self.start } else { &self.start - &self.stop };
        if distance <= zero {
            return zero;
        }
        (distance - 1u8) / BigInt::from(self.step.magnitude().clone()) + 1u8
    }

    pub fn at(&self, index: usize) -> BigInt {
        &self.start + &self.step * BigInt::from(index)
    }
}

impl Once {
    pub fn take(&self) -> Vec<Value> {
        self.items.borrow_mut().by_ref().collect()
    }

    pub fn next(&self) -> Option<Value> {
        self.items.borrow_mut().next()
    }
}

impl Namespace {
    pub fn new(fields: Dict) -> Self {
        let depth = fields.depth;
        Namespace { fields: RefCell::new(fields), depth }
    }
}

fn text_hash(text: &str) -> String {
    format!("s{text}")
}

/// The fault of using an undefined value; None of any other.
pub(super) fn undefined_fault(value: &Value) -> Option<Fault> {
    match value {
        Value::Undefined(message) => Some(fault(FaultKind::Undefined, message.to_string())),
        _ => None,
    }
}

impl Value {
    pub fn str(text: impl AsRef<str>) -> Value {
        Value::Str(Rc::from(text.as_ref()))
    }

    pub fn int(n: impl Into<BigInt>) -> Value {
        Value::Int(n.into())
    }

    pub fn list(items: Vec<Value>) -> R<Value> {
        Elements::new(items).map(Value::List)
    }

    pub fn tuple(items: Vec<Value>) -> R<Value> {
        Elements::new(items).map(Value::Tuple)
    }

    pub fn once(items: Vec<Value>) -> R<Value> {
        let depth = deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Ok(Value::Once(Rc::new(Once { items: RefCell::new(items.into_iter()), depth })))
    }

    pub fn undefined(message: impl AsRef<str>) -> Value {
        Value::Undefined(Rc::from(message.as_ref()))
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(items) | Value::Tuple(items) | Value::Group(items) => items.depth,
            Value::Dict(dict) | Value::View(_, dict) => dict.depth,
            Value::Namespace(ns) => ns.depth,
            Value::Once(once) => once.depth,
            _ => 0,
        }
    }

    /// Text of a string, escaped or not.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number that a value is to Python (a Boolean is one).
    pub fn as_int(&self) -> Option<BigInt> {
        match self {
            Value::Int(n) => Some(n.clone()),
            Value::Bool(b) => Some(BigInt::from(u8::from(*b))),
            _ => None,
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// What Python calls the type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) | Value::Group(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Once(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Loop(_) => "LoopContext",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
            Value::Chance(what) => what,
        }
    }

    /// Python's `bool(value)`.
    pub fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != BigInt::ZERO,
            Value::Float(x) => *x != 0.0,
            Value::Str(s) | Value::Markup(s) => !s.is_empty(),
            Value::Bytes(b) => !b.is_empty(),
            Value::List(l) | Value::Tuple(l) | Value::Group(l) => !l.items.is_empty(),
            Value::Dict(d) | Value::View(_, d) => d.len() > 0,
            Value::Range(r) => r.len() > BigInt::ZERO,
            Value::Loop(l) => !l.items.is_empty(),
            _ => true,
        }
    }

    /// Python's `len(value)`.
    pub fn len(&self) -> R<usize> {
        Ok(match self {
            Value::Undefined(_) => 0,
            Value::Str(s) | Value::Markup(s) => s.chars().count(),
            Value::Bytes(b) => b.len(),
            Value::List(l) | Value::Tuple(l) | Value::Group(l) => l.items.len(),
            Value::Dict(d) | Value::View(_, d) => d.len(),
            Value::Range(r) => usize::try_from(r.len()).unwrap_or(usize::MAX),
            Value::Loop(l) => l.items.len(),
            _ => return Err(type_fault(format!("object of type '{}' has no len()", self.type_name()))),
        })
    }

    /// Whether Python's `iter(value)` works.
    pub fn is_iterable(&self) -> bool {
        !matches!(
            self,
            Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Namespace(_)
                | Value::Macro(_)
                | Value::Cycler(_)
                | Value::Joiner(_)
                | Value::Function(_)
                | Value::Method(_)
                | Value::Chance(_)
        )
    }

    /// The values that Python's `iter(value)` gives.
    pub fn items(&self) -> R<Vec<Value>> {
        Ok(match self {
            Value::Undefined(_) => Vec::new(),
            Value::Str(s) => s.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect(),
            // Iterating a Markup gives plain characters.
            Value::Markup(s) => s.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect(),
            Value::Bytes(b) => b.iter().map(|b| Value::int(*b)).collect(),
            Value::List(l) | Value::Tuple(l) | Value::Group(l) => l.items.clone(),
            Value::Dict(d) | Value::View(View::Keys, d) => d.iter().map(|(k, _)| k.clone()).collect(),
            Value::View(View::Values, d) => d.iter().map(|(_, v)| v.clone()).collect(),
            Value::View(View::Items, d) => {
                d.iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()])).collect::<R<_>>()?
            }
            Value::Range(r) => {
                let n = usize::try_from(r.len()).unwrap_or(usize::MAX);
                (0..n).map(|i| Value::Int(r.at(i))).collect()
            }
            Value::Once(once) => once.take(),
            _ => return Err(type_fault(format!("'{}' object is not iterable", self.type_name()))),
        })
    }

    /// A text that equal keys share, in place of Python's hash. Errors: a value that Python cannot hash.
    pub fn hash(&self) -> R<String> {
        let mut out = String::new();
        self.hash_into(&mut out)?;
        Ok(out)
    }

    fn hash_into(&self, out: &mut String) -> R<()> {
        match self {
            Value::Str(s) | Value::Markup(s) => out.push_str(&text_hash(s)),
            Value::None => out.push('N'),
            Value::Undefined(_) => out.push('U'),
            Value::Bool(b) => out.push_str(if *b { "n1" } else { "n0" }),
            Value::Int(n) => out.push_str(&format!("n{n}")),
            Value::Float(x) if x.is_finite() && x.fract() == 0.0 => {
                out.push_str(&format!("n{}", super::number::float_to_int(*x)?));
            }
            Value::Float(x) => out.push_str(&format!("f{x}")),
            Value::Bytes(b) => out.push_str(&format!("b{b:?}")),
            Value::Tuple(l) | Value::Group(l) => {
                out.push_str(&format!("t{}", l.items.len()));
                for item in &l.items {
                    let from = out.len();
                    out.push('(');
                    item.hash_into(out)?;
                    out.push_str(&format!("){}", out.len() - from));
                    if out.len() > MAX_HASH {
                        return Err(fault(FaultKind::Limit, "a tuple is too large for a key"));
                    }
                }
            }
            Value::Range(r) => out.push_str(&format!("r{:?}", (r.len(), &r.start, &r.step))),
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return Err(type_fault(format!("unhashable type: '{}'", self.type_name())));
            }
            Value::Function(name) => out.push_str(&format!("F{name}")),
            Value::Chance(what) => return Err(super::fault::unsupported(*what)),
            _ => out.push_str(&format!("p{:?}", self.address())),
        }
        Ok(())
    }

    /// Where a value lies, for those that are equal only to themselves.
    pub fn address(&self) -> Option<*const u8> {
        Some(match self {
            Value::Once(p) => Rc::as_ptr(p).cast(),
            Value::Namespace(p) => Rc::as_ptr(p).cast(),
            Value::Macro(p) => Rc::as_ptr(p).cast(),
            Value::Loop(p) => Rc::as_ptr(p).cast(),
            Value::Cycler(p) => Rc::as_ptr(p).cast(),
            Value::Joiner(p) => Rc::as_ptr(p).cast(),
            Value::Method(p) => Rc::as_ptr(p).cast(),
            Value::List(p) | Value::Tuple(p) | Value::Group(p) => Rc::as_ptr(p).cast(),
            Value::Dict(p) => Rc::as_ptr(p).cast(),
            Value::Range(p) => Rc::as_ptr(p).cast(),
            Value::Str(p) | Value::Markup(p) => p.as_ptr(),
            _ => return None,
        })
    }
}
