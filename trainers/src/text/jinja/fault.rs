//! What goes wrong in a template, by the kinds that Python's filters tell apart.

/// The kind of an error: `int` and `float` catch some of them, everybody else passes them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// A value of the wrong type (Python's TypeError).
    Type,
    /// A value of the right type that will not do (ValueError).
    Value,
    /// A number too large (OverflowError) or a division by zero.
    Arithmetic,
    /// Something undefined was used.
    Undefined,
    /// The template's own `raise_exception`, the sandbox, a missing filter …
    Runtime,
    /// Something that Jinja2 does and this program does not.
    Unsupported,
    /// A bound on instructions, memory or depth.
    Limit,
    /// The template's grammar.
    Syntax,
}

/// An error with the line of the template it came from, once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: FaultKind,
    pub message: String,
    pub line: Option<usize>,
}

pub(super) type R<T> = Result<T, Fault>;

/// An error of a kind, without a line.
pub(super) fn fault(kind: FaultKind, message: impl Into<String>) -> Fault {
    Fault { kind, message: message.into(), line: None }
}

pub(super) fn type_fault(message: impl Into<String>) -> Fault {
    fault(FaultKind::Type, message)
}

pub(super) fn value_fault(message: impl Into<String>) -> Fault {
    fault(FaultKind::Value, message)
}

pub(super) fn unsupported(what: impl Into<String>) -> Fault {
    fault(FaultKind::Unsupported, format!("{} is not supported here", what.into()))
}
