//! One rendering: its bounds, and the statements that write text.
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Args;
use super::ast::{self, Action, Statement, Target};
use super::fault::{FaultKind, R, fault, type_fault, value_fault};
use super::functions::{FUNCTIONS, check_field};
use super::show::{escape, text};
use super::strftime::LocalTime;
use super::values::{Loop, Macro, Scope, Value};

/// Steps of one rendering: statements, expressions, items walked.
pub(super) const FUEL: u64 = 8_000_000;
/// Bytes that one rendering may make, all its texts together.
const MEMORY: usize = 256 << 20;
/// Statements, expressions and macros in one another.
const MAX_DEPTH: usize = 1500;
const MAX_NAMESPACES: usize = 10_000;

/// What all parts of a rendering share.
pub(super) struct Rendering {
    fuel: Cell<u64>,
    memory: Cell<usize>,
    depth: Cell<usize>,
    namespaces: Cell<usize>,
    escapes: Cell<bool>,
    clock: LocalTime,
    /// Whether an undefined value may be printed, walked and tested.
    pub(super) lenient: bool,
    /// Scopes that hold macros, which hold them: they are emptied at the end.
    scopes: RefCell<Vec<Rc<Scope>>>,
    spans: RefCell<Vec<Range<usize>>>,
    /// Where a generation mark stood inside a macro or a block that is not printed at once.
    misplaced: Cell<Option<usize>>,
    line: Cell<usize>,
}

/// Where statements write to; only the text of the template itself is at its place already.
pub(super) struct Out {
    pub text: String,
    outermost: bool,
}

/// What a statement leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// A rendered text with its generation spans in bytes.
pub(super) struct RunOutput {
    pub text: String,
    pub spans: Vec<Range<usize>>,
    pub misplaced: Option<usize>,
}

/// Renders statements with these names and values.
pub(super) fn run(body: &[Statement], names: Vec<(String, Value)>, clock: LocalTime, lenient: bool) -> R<RunOutput> {
    let run = Rendering {
        fuel: Cell::new(FUEL),
        memory: Cell::new(MEMORY),
        depth: Cell::new(0),
        namespaces: Cell::new(0),
        escapes: Cell::new(false),
        clock,
        lenient,
        scopes: RefCell::default(),
        spans: RefCell::default(),
        misplaced: Cell::new(None),
        line: Cell::new(0),
    };
    let globals = Rc::new(Scope::default());
    for name in FUNCTIONS {
        globals.set(name, Value::Function(name));
    }
    for (name, value) in names {
        globals.set(&name, value);
    }
    let scope = Scope::within(&globals);
    let mut out = Out { text: String::new(), outermost: true };
    let result = run.statements(body, &scope, &mut out);
    let line = run.line.get();
    for scope in run.scopes.take() {
        scope.names.borrow_mut().clear();
    }
    scope.names.borrow_mut().clear();
    result.map_err(|mut e| {
        e.line.get_or_insert(line);
        e
    })?;
    Ok(RunOutput { text: out.text, spans: run.spans.take(), misplaced: run.misplaced.get() })
}

impl Rendering {
    /// Pays for `bytes` of memory.
    pub fn charge(&self, bytes: usize) -> R<()> {
        match self.memory.get().checked_sub(bytes) {
            Some(left) => {
                self.memory.set(left);
                Ok(())
            }
            None => Err(fault(FaultKind::Limit, format!("makes more than {} MiB of text and lists", MEMORY >> 20))),
        }
    }

    /// Pays for one step.
    pub fn step(&self) -> R<()> {
        match self.fuel.get().checked_sub(1) {
            Some(left) => {
                self.fuel.set(left);
                Ok(())
            }
            None => Err(fault(FaultKind::Limit, format!("runs for more than {FUEL} steps"))),
        }
    }

    pub fn clock(&self) -> LocalTime {
        self.clock
    }

    /// Whether text is escaped where the rendering is now.
    pub fn escapes(&self) -> bool {
        self.escapes.get()
    }

    pub fn count_namespace(&self) -> R<()> {
        self.namespaces.set(self.namespaces.get() + 1);
        if self.namespaces.get() > MAX_NAMESPACES {
            return Err(fault(FaultKind::Limit, format!("makes more than {MAX_NAMESPACES} namespaces")));
        }
        Ok(())
    }

    /// Runs a part one level deeper.
    pub fn nested<T>(&self, part: impl FnOnce() -> R<T>) -> R<T> {
        self.step()?;
        if self.depth.get() >= MAX_DEPTH {
            return Err(fault(
                FaultKind::Limit,
                format!("is nested more than {MAX_DEPTH} deep (a macro that calls itself?)"),
            ));
        }
        self.depth.set(self.depth.get() + 1);
        let result = part();
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn statements(&self, body: &[Statement], scope: &Rc<Scope>, out: &mut Out) -> R<Flow> {
        for statement in body {
            self.line.set(statement.line);
            let flow = self.nested(|| self.statement(statement, scope, out));
            let flow = flow.map_err(|mut e| {
                e.line.get_or_insert(statement.line);
                e
            })?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// The text of a body that is not written to its place at once.
    fn captured(&self, body: &[Statement], scope: &Rc<Scope>) -> R<String> {
        let mut out = Out { text: String::new(), outermost: false };
        self.statements(body, scope, &mut out)?;
        Ok(out.text)
    }

    /// A captured text as a value: marked up where text is escaped.
    fn made(&self, text: String) -> Value {
        if self.escapes() { Value::Markup(text.into()) } else { Value::str(text) }
    }

    /// What `{{ value }}` writes.
    fn print(&self, value: &Value, out: &mut Out) -> R<()> {
        if let Value::Undefined(message) = value
            && !self.lenient
        {
            return Err(fault(FaultKind::Undefined, message.to_string()));
        }
        let shown = if self.escapes() { escape(self, value)? } else { text(self, value)? };
        self.charge(shown.len())?;
        out.text.push_str(&shown);
        Ok(())
    }

    fn statement(&self, statement: &Statement, scope: &Rc<Scope>, out: &mut Out) -> R<Flow> {
        match &statement.action {
            Action::Text(text) => {
                self.charge(text.len())?;
                out.text.push_str(text);
            }
            Action::Print(value) => {
                let value = self.evaluate(value, scope)?;
                self.print(&value, out)?;
            }
            Action::For(node) => {
                let items = self.evaluate(&node.iterable, scope)?;
                self.run_loop(node, &items, scope, 0, out)?;
            }
            Action::If(arms, otherwise) => {
                for (test, body) in arms {
                    if self.truth(test, scope)? {
                        return self.statements(body, scope, out);
                    }
                }
                return self.statements(otherwise, scope, out);
            }
            Action::With(bindings, body) => {
                let inner = Scope::within(scope);
                for (target, value) in bindings {
                    let value = self.evaluate(value, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.statements(body, &inner, out);
            }
            Action::Autoescape(on, body) => {
                let on = self.evaluate(on, scope)?.truth();
                let before = self.escapes.replace(on);
                let flow = self.statements(body, &Scope::within(scope), out);
                self.escapes.set(before);
                return flow;
            }
            Action::Macro(node) => {
                let value = self.macro_value(node, scope);
                scope.set(node.name.as_deref().unwrap_or("caller"), value);
            }
            Action::CallBlock(call, node) => {
                let caller = self.macro_value(node, scope);
                let value = self.evaluate_call(call, scope, Some(caller))?;
                self.print(&value, out)?;
            }
            Action::FilterBlock(filter, body) => {
                let inside = self.captured(body, &Scope::within(scope))?;
                let value = self.filter_text(filter, self.made(inside), scope)?;
                self.print(&value, out)?;
            }
            Action::Set(target, value) => {
                let value = self.evaluate(value, scope)?;
                self.assign(target, value, scope)?;
            }
            Action::SetBlock(target, filter, body) => {
                let inside = self.captured(body, &Scope::within(scope))?;
                let inside = self.made(inside);
                let value = match filter {
                    Some(filter) => self.filter_text(filter, inside, scope)?,
                    None => inside,
                };
                self.assign(target, value, scope)?;
            }
            Action::Break => return Ok(Flow::Break),
            Action::Continue => return Ok(Flow::Continue),
            Action::Generation(body) => {
                let inside = self.captured(body, &Scope::within(scope))?;
                if out.outermost {
                    let start = out.text.len();
                    self.spans.borrow_mut().push(start..start + inside.len());
                } else {
                    self.misplaced.set(Some(statement.line));
                }
                out.text.push_str(&inside);
            }
        }
        Ok(Flow::Next)
    }

    fn macro_value(&self, node: &Arc<ast::MacroNode>, scope: &Rc<Scope>) -> Value {
        self.scopes.borrow_mut().push(scope.clone());
        Value::Macro(Rc::new(Macro { node: node.clone(), scope: scope.clone(), autoescape: self.escapes() }))
    }

    fn assign(&self, target: &Target, value: Value, scope: &Rc<Scope>) -> R<()> {
        match target {
            Target::Name(name) => scope.set(name, value),
            Target::Tuple(targets) => {
                let items = value.items()?;
                if items.len() != targets.len() {
                    let message = format!("cannot unpack {} values into {} names", items.len(), targets.len());
                    return Err(value_fault(message));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, scope)?;
                }
            }
            Target::Field(name, field) => {
                let Some(Value::Namespace(namespace)) = scope.get(name) else {
                    return Err(fault(
                        FaultKind::Runtime,
                        format!("cannot assign attribute on non-namespace object '{name}'"),
                    ));
                };
                check_field(field)?;
                namespace.fields.borrow_mut().insert(Value::str(field), value)?;
            }
        }
        Ok(())
    }

    fn run_loop(
        &self,
        node: &Arc<ast::For>,
        iterable: &Value,
        scope: &Rc<Scope>,
        depth0: usize,
        out: &mut Out,
    ) -> R<()> {
        if let Value::Undefined(message) = iterable
            && !self.lenient
        {
            return Err(fault(FaultKind::Undefined, message.to_string()));
        }
        let mut items = iterable.items()?;
        self.charge(items.len() * 24)?;
        if let Some(test) = &node.test {
            let mut kept = Vec::new();
            for item in items {
                let inner = Scope::within(scope);
                self.assign(&node.target, item.clone(), &inner)?;
                if self.truth(test, &inner)? {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.statements(&node.otherwise, &Scope::within(scope), out)?;
            return Ok(());
        }
        let state = Rc::new(Loop {
            items,
            index0: Cell::new(0),
            depth0,
            changed: RefCell::default(),
            recursive: node.recursive.then(|| (node.clone(), scope.clone())),
        });
        for (i, item) in state.items.iter().enumerate() {
            self.step()?;
            state.index0.set(i);
            let inner = Scope::within(scope);
            inner.set("loop", Value::Loop(state.clone()));
            self.assign(&node.target, item.clone(), &inner)?;
            if self.statements(&node.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// `loop(items)` of a recursive loop.
    pub fn recurse(&self, state: &Rc<Loop>, items: &Value) -> R<Value> {
        let Some((node, scope)) = &state.recursive else {
            return Err(type_fault("The loop must have the 'recursive' marker to be called recursively."));
        };
        let mut out = Out { text: String::new(), outermost: false };
        self.nested(|| self.run_loop(node, items, scope, state.depth0 + 1, &mut out))?;
        Ok(self.made(out.text))
    }

    /// Calls a macro with arguments.
    pub fn call_macro(&self, value: &Rc<Macro>, mut args: Args) -> R<Value> {
        let node = &value.node;
        let shown = node.name.as_ref().map_or("None".to_string(), |name| format!("'{name}'"));
        let scope = Scope::within(&value.scope);
        let given = args.positional.len().min(node.parameters.len());
        let rest = args.positional.split_off(given);
        let mut missing = Vec::new();
        let mut positional = std::mem::take(&mut args.positional).into_iter();
        let explicit_caller = node.parameters.iter().any(|p| p == "caller");
        for name in &node.parameters {
            match positional.next() {
                Some(value) => scope.set(name, value),
                None => match args.named.iter().position(|(n, _)| n == name) {
                    Some(i) => scope.set(name, args.named.remove(i).1),
                    None => missing.push(name),
                },
            }
        }
        if node.uses_caller && !explicit_caller {
            let caller = args.named.iter().position(|(n, _)| n == "caller").map(|i| args.named.remove(i).1);
            scope.set("caller", caller.unwrap_or_else(|| Value::undefined("No caller defined")));
        }
        if node.uses_kwargs {
            scope.set("kwargs", Value::Dict(Rc::new(args.named_dict()?)));
        } else if let Some((name, _)) = args.named.first() {
            return Err(type_fault(format!("macro {shown} takes no keyword argument '{name}'")));
        }
        if node.uses_varargs {
            scope.set("varargs", Value::tuple(rest)?);
        } else if !rest.is_empty() {
            let n = node.parameters.len();
            return Err(type_fault(format!("macro {shown} takes not more than {n} argument(s)")));
        }
        let first_default = node.parameters.len() - node.defaults.len();
        // Defaults are worked out in order and see the parameters before them.
        for name in missing {
            let i = node.parameters.iter().position(|p| p == name).unwrap_or(0);
            let value = match i.checked_sub(first_default).and_then(|i| node.defaults.get(i)) {
                Some(default) => self.evaluate(default, &scope)?,
                None => Value::undefined(format!("parameter '{name}' was not provided")),
            };
            scope.set(name, value);
        }
        let line = self.line.get();
        let before = self.escapes.replace(value.autoescape);
        let body = self.nested(|| self.captured(&node.body, &scope));
        self.escapes.set(before);
        self.line.set(line);
        Ok(self.made(body?))
    }
}
