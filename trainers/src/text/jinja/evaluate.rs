//! Expressions to values.
use std::rc::Rc;

use super::arguments::Args;
use super::ast::{Arguments, Comparison, Expression, Literal, Operator};
use super::compare::{contains, equal, order};
use super::fault::{FaultKind, R, fault, type_fault};
use super::run::Rendering;
use super::show::{escape, text};
use super::values::{Dict, Scope, Value};
use super::{attributes, checks, filters, operators};

impl Rendering {
    /// The value of an expression.
    pub fn evaluate(&self, expression: &Expression, scope: &Rc<Scope>) -> R<Value> {
        self.nested(|| self.value_of(expression, scope))
    }

    /// Whether an expression counts as true.
    pub fn truth(&self, expression: &Expression, scope: &Rc<Scope>) -> R<bool> {
        let value = self.evaluate(expression, scope)?;
        self.truth_of(&value)
    }

    fn truth_of(&self, value: &Value) -> R<bool> {
        match value {
            Value::Undefined(message) if !self.lenient => Err(fault(FaultKind::Undefined, message.to_string())),
            Value::Chance(what) => Err(super::fault::unsupported(*what)),
            value => Ok(value.truth()),
        }
    }

    fn all(&self, expressions: &[Expression], scope: &Rc<Scope>) -> R<Vec<Value>> {
        self.charge(expressions.len() * 24)?;
        expressions.iter().map(|e| self.evaluate(e, scope)).collect()
    }

    fn value_of(&self, expression: &Expression, scope: &Rc<Scope>) -> R<Value> {
        Ok(match expression {
            Expression::Literal(literal) => match literal {
                Literal::None => Value::None,
                Literal::Bool(b) => Value::Bool(*b),
                Literal::Int(n) => Value::Int(n.clone()),
                Literal::Float(x) => Value::Float(*x),
                Literal::Str(s) => Value::str(s),
            },
            Expression::Name(name) => {
                scope.get(name).unwrap_or_else(|| Value::undefined(format!("'{name}' is undefined")))
            }
            Expression::List(items) => Value::list(self.all(items, scope)?)?,
            Expression::Tuple(items) => Value::tuple(self.all(items, scope)?)?,
            Expression::Dict(entries) => {
                let mut dict = Dict::default();
                self.charge(entries.len() * 64)?;
                for (key, value) in entries {
                    dict.insert(self.evaluate(key, scope)?, self.evaluate(value, scope)?)?;
                }
                Value::Dict(Rc::new(dict))
            }
            Expression::Condition(test, value, otherwise) => {
                if self.truth(test, scope)? {
                    self.evaluate(value, scope)?
                } else {
                    match otherwise {
                        Some(otherwise) => self.evaluate(otherwise, scope)?,
                        None => Value::undefined(
                            "the inline if-expression evaluated to false and no else section was defined.",
                        ),
                    }
                }
            }
            Expression::Or(a, b) => {
                let a = self.evaluate(a, scope)?;
                if self.truth_of(&a)? { a } else { self.evaluate(b, scope)? }
            }
            Expression::And(a, b) => {
                let a = self.evaluate(a, scope)?;
                if self.truth_of(&a)? { self.evaluate(b, scope)? } else { a }
            }
            Expression::Not(value) => Value::Bool(!self.truth(value, scope)?),
            Expression::Compare(first, rest) => {
                let mut left = self.evaluate(first, scope)?;
                for (comparison, right) in rest {
                    let right = self.evaluate(right, scope)?;
                    if !self.compare(*comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expression::Concatenate(parts) => self.concatenate(&self.all(parts, scope)?)?,
            Expression::Binary(Operator::Power, a, b) if is_constant(a) && !is_constant(b) => {
                // Jinja2 writes a constant out before Python reads it, so that its sign stands in front of the power.
                let base = self.evaluate(a, scope)?;
                let exponent = self.evaluate(b, scope)?;
                let negative = match &base {
                    Value::Int(n) => *n < 0.into(),
                    Value::Float(x) => x.is_sign_negative(),
                    _ => false,
                };
                if negative {
                    let power = operators::binary(self, Operator::Power, &operators::signed(&base, true)?, &exponent)?;
                    operators::signed(&power, true)?
                } else {
                    operators::binary(self, Operator::Power, &base, &exponent)?
                }
            }
            Expression::Binary(operator, a, b) => {
                operators::binary(self, *operator, &self.evaluate(a, scope)?, &self.evaluate(b, scope)?)?
            }
            Expression::Negative(value) => operators::signed(&self.evaluate(value, scope)?, true)?,
            Expression::Positive(value) => operators::signed(&self.evaluate(value, scope)?, false)?,
            Expression::Attribute(value, name) => attributes::attribute(self, &self.evaluate(value, scope)?, name)?,
            Expression::Item(value, key) => {
                attributes::item(self, &self.evaluate(value, scope)?, &self.evaluate(key, scope)?)?
            }
            Expression::Slice(value, bounds) => {
                let value = self.evaluate(value, scope)?;
                let mut evaluated = [Value::None, Value::None, Value::None];
                for (slot, bound) in evaluated.iter_mut().zip(bounds) {
                    if let Some(bound) = bound {
                        *slot = self.evaluate(bound, scope)?;
                    }
                }
                operators::slice(self, &value, [&evaluated[0], &evaluated[1], &evaluated[2]])?
            }
            Expression::Call(..) => self.evaluate_call(expression, scope, None)?,
            Expression::Filter(value, name, arguments) => {
                let value = match value {
                    Some(value) => self.evaluate(value, scope)?,
                    None => return Err(fault(FaultKind::Syntax, "a filter without a value")),
                };
                self.filter(name, &value, self.arguments(arguments, scope)?)?
            }
            Expression::Test(value, name, arguments) => {
                let value = self.evaluate(value, scope)?;
                Value::Bool(checks::test(self, name, &value, self.arguments(arguments, scope)?)?)
            }
        })
    }

    /// `value | name(…)`, one level deeper.
    pub fn filter(&self, name: &str, value: &Value, args: Args) -> R<Value> {
        self.nested(|| filters::filter(self, name, value, args))
    }

    /// A chain of filters over the text of a block.
    pub fn filter_text(&self, filter: &Expression, text: Value, scope: &Rc<Scope>) -> R<Value> {
        let Expression::Filter(inner, name, arguments) = filter else {
            return self.evaluate(filter, scope);
        };
        let text = match inner {
            Some(inner) => self.nested(|| self.filter_text(inner, text, scope))?,
            None => text,
        };
        self.filter(name, &text, self.arguments(arguments, scope)?)
    }

    /// A call; a call block adds the macro `caller` to its arguments.
    pub fn evaluate_call(&self, call: &Expression, scope: &Rc<Scope>, caller: Option<Value>) -> R<Value> {
        let Expression::Call(callee, arguments) = call else {
            return self.evaluate(call, scope);
        };
        let callee = self.evaluate(callee, scope)?;
        let mut args = self.arguments(arguments, scope)?;
        if let Some(caller) = caller {
            args.named.push(("caller".into(), caller));
        }
        self.nested(|| attributes::call(self, &callee, args))
    }

    fn arguments(&self, arguments: &Arguments, scope: &Rc<Scope>) -> R<Args> {
        let mut args = Args::of(self.all(&arguments.positional, scope)?);
        for (name, value) in &arguments.named {
            args.named.push((name.clone(), self.evaluate(value, scope)?));
        }
        if let Some(star) = &arguments.star {
            let more = self.evaluate(star, scope)?.items()?;
            self.charge(more.len() * 24)?;
            args.positional.extend(more);
        }
        if let Some(double_star) = &arguments.double_star {
            let more = self.evaluate(double_star, scope)?;
            let Value::Dict(dict) = &more else {
                return Err(type_fault(format!("argument after ** must be a mapping, not {}", more.type_name())));
            };
            for (key, value) in dict.iter() {
                let name = key.as_str().ok_or_else(|| type_fault("keywords must be strings"))?;
                if args.named.iter().any(|(n, _)| n == name) {
                    return Err(type_fault(format!("got multiple values for keyword argument '{name}'")));
                }
                args.named.push((name.into(), value.clone()));
            }
        }
        Ok(args)
    }

    fn compare(&self, comparison: Comparison, a: &Value, b: &Value) -> R<bool> {
        use std::cmp::Ordering::{Greater, Less};
        if let (false, Value::Undefined(message), _) | (false, _, Value::Undefined(message)) = (self.lenient, a, b) {
            return Err(fault(FaultKind::Undefined, message.to_string()));
        }
        Ok(match comparison {
            Comparison::Equal => equal(self, a, b)?,
            Comparison::NotEqual => !equal(self, a, b)?,
            Comparison::In => contains(self, b, a)?,
            Comparison::NotIn => !contains(self, b, a)?,
            Comparison::Less => order(self, a, b, "<")? == Some(Less),
            Comparison::Greater => order(self, a, b, ">")? == Some(Greater),
            Comparison::LessEqual => order(self, a, b, "<=")?.is_some_and(|o| o != Greater),
            Comparison::GreaterEqual => order(self, a, b, ">=")?.is_some_and(|o| o != Less),
        })
    }

    /// `a ~ b ~ …`: the texts behind one another, escaped where text is and one of them is.
    fn concatenate(&self, parts: &[Value]) -> R<Value> {
        for part in parts {
            if let (false, Value::Undefined(message)) = (self.lenient, part) {
                return Err(fault(FaultKind::Undefined, message.to_string()));
            }
        }
        if self.escapes() && parts.iter().any(|p| matches!(p, Value::Markup(_))) {
            let shown = parts.iter().map(|p| escape(self, p)).collect::<R<Vec<_>>>()?.concat();
            self.charge(shown.len())?;
            return Ok(Value::Markup(shown.into()));
        }
        let mut out = String::new();
        for part in parts {
            out.push_str(&text(self, part)?);
        }
        self.charge(out.len())?;
        Ok(Value::str(out))
    }
}

/// Whether an expression is made of literals alone.
fn is_constant(expression: &Expression) -> bool {
    match expression {
        Expression::Literal(_) => true,
        Expression::Negative(a) | Expression::Positive(a) => is_constant(a),
        Expression::Binary(_, a, b) => is_constant(a) && is_constant(b),
        _ => false,
    }
}
