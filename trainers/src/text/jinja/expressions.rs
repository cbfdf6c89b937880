//! Tokens to expressions, by Jinja2's order of operators.
use super::ast::{Arguments, Comparison, Expression, Literal, Operator};
use super::checks::TESTS;
use super::fault::R;
use super::filters::FILTERS;
use super::lexer::Token;
use super::parser::{TemplateParser, is_constant, syntax};

fn boxed(e: Expression) -> Box<Expression> {
    Box::new(e)
}

impl TemplateParser {
    pub fn expression(&mut self, conditional: bool) -> R<Expression> {
        self.nested(|p| if conditional { p.condition() } else { p.or() })
    }

    /// Expressions with commas between them are a tuple; one alone is itself.
    pub fn tuple(&mut self, conditional: bool, ends: &[&str], in_parentheses: bool) -> R<Expression> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let done = matches!(self.peek(), Token::PrintEnd | Token::BlockEnd)
                || self.is_operator(")")
                || ends.iter().any(|end| self.is_name(end));
            if done {
                break;
            }
            items.push(self.expression(conditional)?);
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            None if !in_parentheses => Err(self.unexpected("an expression")),
            last => {
                items.extend(last);
                Ok(Expression::Tuple(items))
            }
        }
    }

    fn condition(&mut self) -> R<Expression> {
        let mut value = self.operand(Self::or)?;
        while self.skip_name("if") {
            let test = self.softly(Self::or)?;
            let otherwise =
                if self.skip_name("else") { Some(boxed(self.softly(|p| p.nested(Self::condition))?)) } else { None };
            value = Expression::Condition(boxed(test), boxed(value), otherwise);
        }
        Ok(value)
    }

    fn or(&mut self) -> R<Expression> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expression::Or(boxed(left), boxed(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> R<Expression> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expression::And(boxed(left), boxed(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> R<Expression> {
        if self.skip_name("not") {
            return Ok(Expression::Not(boxed(self.nested(Self::not)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> R<Expression> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Token::Operator("==") => Comparison::Equal,
                Token::Operator("!=") => Comparison::NotEqual,
                Token::Operator("<") => Comparison::Less,
                Token::Operator("<=") => Comparison::LessEqual,
                Token::Operator(">") => Comparison::Greater,
                Token::Operator(">=") => Comparison::GreaterEqual,
                Token::Name(name) if name == "in" => Comparison::In,
                Token::Name(name) if name == "not" && matches!(self.look(), Token::Name(n) if n == "in") => {
                    self.next();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Compare(boxed(first), rest) })
    }

    fn sum(&mut self) -> R<Expression> {
        let mut left = self.concatenation()?;
        loop {
            let operator = match self.peek() {
                Token::Operator("+") => Operator::Add,
                Token::Operator("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            self.next();
            left = Expression::Binary(operator, boxed(left), boxed(self.concatenation()?));
        }
    }

    fn concatenation(&mut self) -> R<Expression> {
        let mut parts = vec![self.product()?];
        while self.skip_operator("~") {
            parts.push(self.product()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Concatenate(parts) })
    }

    fn product(&mut self) -> R<Expression> {
        let mut left = self.power()?;
        loop {
            let operator = match self.peek() {
                Token::Operator("*") => Operator::Multiply,
                Token::Operator("/") => Operator::Divide,
                Token::Operator("//") => Operator::FloorDivide,
                Token::Operator("%") => Operator::Modulo,
                _ => return Ok(left),
            };
            self.next();
            left = Expression::Binary(operator, boxed(left), boxed(self.power()?));
        }
    }

    fn power(&mut self) -> R<Expression> {
        let mut left = self.unary(true)?;
        while self.skip_operator("**") {
            left = Expression::Binary(Operator::Power, boxed(left), boxed(self.unary(true)?));
        }
        Ok(left)
    }

    fn unary(&mut self, with_filter: bool) -> R<Expression> {
        let value = if self.skip_operator("-") {
            Expression::Negative(boxed(self.nested(|p| p.unary(false))?))
        } else if self.skip_operator("+") {
            Expression::Positive(boxed(self.nested(|p| p.unary(false))?))
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if with_filter { self.filters_and_tests(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> R<Expression> {
        Ok(match self.next() {
            Token::Name(name) if is_constant(&name) => Expression::Literal(match name.as_str() {
                "true" | "True" => Literal::Bool(true),
                "false" | "False" => Literal::Bool(false),
                _ => Literal::None,
            }),
            Token::Name(name) => {
                self.reads(&name);
                Expression::Name(name)
            }
            Token::Str(mut text) => {
                while let Token::Str(more) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                Expression::Literal(Literal::Str(text))
            }
            Token::Int(n) => Expression::Literal(Literal::Int(n)),
            Token::Float(x) => Expression::Literal(Literal::Float(x)),
            Token::Operator("(") => {
                let inner = self.tuple(true, &[], true)?;
                self.expect_operator(")")?;
                inner
            }
            Token::Operator("[") => {
                let mut items = Vec::new();
                while !self.skip_operator("]") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("]") {
                            break;
                        }
                    }
                    items.push(self.expression(true)?);
                }
                Expression::List(items)
            }
            Token::Operator("{") => {
                let mut items = Vec::new();
                while !self.skip_operator("}") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression(true)?;
                    self.expect_operator(":")?;
                    items.push((key, self.expression(true)?));
                }
                Expression::Dict(items)
            }
            _ => {
                self.back();
                return Err(self.unexpected("an expression"));
            }
        })
    }

    fn postfix(&mut self, mut value: Expression) -> R<Expression> {
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > 200 {
                return Err(syntax("more than 200 attributes and calls in a row"));
            }
            if self.skip_operator(".") {
                value = match self.next() {
                    Token::Name(name) => Expression::Attribute(boxed(value), name),
                    Token::Int(n) => Expression::Item(boxed(value), boxed(Expression::Literal(Literal::Int(n)))),
                    _ => {
                        self.back();
                        return Err(self.unexpected("a name or number"));
                    }
                };
            } else if self.skip_operator("[") {
                value = self.subscript(value)?;
            } else if self.is_operator("(") {
                let arguments = self.arguments()?;
                value = Expression::Call(boxed(value), arguments);
            } else {
                return Ok(value);
            }
        }
    }

    /// What stands between `[` (consumed) and `]`.
    fn subscript(&mut self, value: Expression) -> R<Expression> {
        let mut indices = Vec::new();
        let mut slice = None;
        while !self.skip_operator("]") {
            if !indices.is_empty() || slice.is_some() {
                self.expect_operator(",")?;
            }
            if slice.is_some() {
                return Err(super::fault::unsupported("a slice among several indices"));
            }
            let start = if self.is_operator(":") { None } else { Some(self.expression(true)?) };
            if !self.skip_operator(":") {
                indices.extend(start);
                continue;
            }
            if !indices.is_empty() {
                return Err(super::fault::unsupported("a slice among several indices"));
            }
            let bound = |p: &mut Self| {
                let none = p.is_operator(":") || p.is_operator("]") || p.is_operator(",");
                if none { Ok(None) } else { p.expression(true).map(|e| Some(boxed(e))) }
            };
            let stop = bound(self)?;
            let step = if self.skip_operator(":") { bound(self)? } else { None };
            slice = Some([start.map(boxed), stop, step]);
        }
        if let Some(bounds) = slice {
            return Ok(Expression::Slice(boxed(value), bounds));
        }
        let index = if indices.len() == 1 { indices.remove(0) } else { Expression::Tuple(indices) };
        Ok(Expression::Item(boxed(value), boxed(index)))
    }

    fn filters_and_tests(&mut self, mut value: Expression) -> R<Expression> {
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > 200 {
                return Err(syntax("more than 200 filters in a row"));
            }
            if self.is_operator("|") {
                value = match self.filter_chain(Some(value), false)? {
                    Some(filtered) => filtered,
                    None => return Err(self.unexpected("a filter")),
                };
            } else if self.is_name("is") {
                value = self.test(value)?;
            } else if self.is_operator("(") {
                let arguments = self.arguments()?;
                value = Expression::Call(boxed(value), arguments);
            } else {
                return Ok(value);
            }
        }
    }

    fn dotted_name(&mut self) -> R<String> {
        let mut name = self.expect_name()?;
        while self.skip_operator(".") {
            name = name + "." + &self.expect_name()?;
        }
        Ok(name)
    }

    /// `| name(…) | name …`; a filter block's first name has no bar.
    pub fn filter_chain(&mut self, mut value: Option<Expression>, mut bare: bool) -> R<Option<Expression>> {
        while std::mem::take(&mut bare) || self.skip_operator("|") {
            let name = self.dotted_name()?;
            let arguments = if self.is_operator("(") { self.arguments()? } else { Arguments::default() };
            if !FILTERS.contains(&name.as_str()) {
                self.missing(format!("No filter named '{name}'."));
            }
            value = Some(Expression::Filter(value.map(boxed), name, arguments));
        }
        Ok(value)
    }

    fn test(&mut self, value: Expression) -> R<Expression> {
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let takes_one = match self.peek() {
            Token::Name(n) => !matches!(n.as_str(), "else" | "or" | "and"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Operator(o) => matches!(*o, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_operator("(") {
            self.arguments()?
        } else if takes_one {
            if self.is_name("is") {
                return Err(syntax("You cannot chain multiple tests with is"));
            }
            let argument = self.primary()?;
            Arguments { positional: vec![self.postfix(argument)?], ..Default::default() }
        } else {
            Arguments::default()
        };
        if !TESTS.contains(&name.as_str()) {
            self.missing(format!("No test named '{name}'."));
        }
        let test = Expression::Test(boxed(value), name, arguments);
        Ok(if negated { Expression::Not(boxed(test)) } else { test })
    }
}
