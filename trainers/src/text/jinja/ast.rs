//! The tree of a parsed template.
use std::sync::Arc;

use num_bigint::BigInt;

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(BigInt),
    Float(f64),
    Str(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

/// The arguments of a call, a filter or a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arguments {
    pub positional: Vec<Expression>,
    pub named: Vec<(String, Expression)>,
    pub star: Option<Box<Expression>>,
    pub double_star: Option<Box<Expression>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Literal),
    Name(String),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// test, value, otherwise
    Condition(Box<Expression>, Box<Expression>, Option<Box<Expression>>),
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    Concatenate(Vec<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Negative(Box<Expression>),
    Positive(Box<Expression>),
    Attribute(Box<Expression>, String),
    Item(Box<Expression>, Box<Expression>),
    Slice(Box<Expression>, [Option<Box<Expression>>; 3]),
    Call(Box<Expression>, Arguments),
    /// Without an operand it filters the text of a block.
    Filter(Option<Box<Expression>>, String, Arguments),
    Test(Box<Expression>, String, Arguments),
}

/// What `set` and `for` assign to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Name(String),
    Tuple(Vec<Target>),
    /// `namespace.attribute`
    Field(String, String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct For {
    pub target: Target,
    pub iterable: Expression,
    pub test: Option<Expression>,
    pub body: Vec<Statement>,
    pub otherwise: Vec<Statement>,
    pub recursive: bool,
}

/// A macro, or the body of a call block as the macro `caller`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MacroNode {
    pub name: Option<String>,
    pub parameters: Vec<String>,
    /// Of the last parameters.
    pub defaults: Vec<Expression>,
    pub body: Vec<Statement>,
    pub uses_caller: bool,
    pub uses_kwargs: bool,
    pub uses_varargs: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Text(String),
    Print(Expression),
    For(Arc<For>),
    /// Tests with their bodies, and what holds if none does.
    If(Vec<(Expression, Vec<Statement>)>, Vec<Statement>),
    With(Vec<(Target, Expression)>, Vec<Statement>),
    Autoescape(Expression, Vec<Statement>),
    Macro(Arc<MacroNode>),
    /// The call and the body it gets as `caller`.
    CallBlock(Expression, Arc<MacroNode>),
    FilterBlock(Expression, Vec<Statement>),
    Set(Target, Expression),
    SetBlock(Target, Option<Expression>, Vec<Statement>),
    Break,
    Continue,
    Generation(Vec<Statement>),
}

/// A statement and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub line: usize,
    pub action: Action,
}

impl Action {
    /// The bodies inside.
    fn bodies(&self) -> Vec<&[Statement]> {
        match self {
            Action::For(node) => vec![&node.body, &node.otherwise],
            Action::If(arms, otherwise) => {
                arms.iter().map(|(_, body)| body.as_slice()).chain([otherwise.as_slice()]).collect()
            }
            Action::Macro(node) | Action::CallBlock(_, node) => vec![&node.body],
            Action::With(_, body)
            | Action::Autoescape(_, body)
            | Action::FilterBlock(_, body)
            | Action::SetBlock(_, _, body)
            | Action::Generation(body) => vec![body],
            _ => Vec::new(),
        }
    }
}

/// Whether any statement, however deep inside, is of a kind.
pub(super) fn any(body: &[Statement], is: &dyn Fn(&Action) -> bool) -> bool {
    body.iter().any(|s| is(&s.action) || s.action.bodies().iter().any(|inner| any(inner, is)))
}
