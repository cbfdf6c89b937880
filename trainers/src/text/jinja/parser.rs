//! Tokens to statements, as Jinja2's parser and compiler accept them.
use std::sync::Arc;

use super::ast::{Action, Arguments, Expression, For, MacroNode, Statement, Target};
use super::fault::{Fault, FaultKind, R, fault, unsupported};
use super::lexer::{Token, tokens};

/// Blocks and brackets in one another.
const MAX_DEPTH: usize = 200;

/// Parses a template; `trim` as in [`tokens`].
pub(super) fn parse(source: &str, trim: bool) -> R<Vec<Statement>> {
    let tokens = tokens(source, trim)?;
    let mut parser =
        TemplateParser { tokens, at: 0, depth: 0, loops: 0, soft: false, unknown: Vec::new(), watched: Vec::new() };
    let body = parser.body(&[]).map_err(|mut e| {
        e.line.get_or_insert(parser.line());
        e
    })?;
    match parser.unknown.pop() {
        Some((line, message)) => Err(Fault { line: Some(line), ..syntax(message) }),
        None => Ok(body),
    }
}

pub(super) struct TemplateParser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    /// Loops around that a `break` may end; macros and call blocks hide them.
    loops: usize,
    /// Inside `if`, where an unknown filter is an error only when it is reached.
    soft: bool,
    /// Filters and tests that there are none of, with their lines.
    unknown: Vec<(usize, String)>,
    /// For each macro around: which of the special names its body reads before it sets them.
    watched: Vec<SpecialNames>,
}

#[derive(Default)]
struct SpecialNames {
    read: Vec<&'static str>,
    stored: Vec<&'static str>,
}

const SPECIAL: [&str; 3] = ["caller", "kwargs", "varargs"];

pub(super) fn syntax(message: impl Into<String>) -> Fault {
    fault(FaultKind::Syntax, message)
}

impl TemplateParser {
    pub fn line(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    pub fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    pub fn look(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].1
    }

    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// One token back.
    pub fn back(&mut self) {
        self.at -= 1;
    }

    pub fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(o) if *o == operator)
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == name)
    }

    pub fn skip_operator(&mut self, operator: &str) -> bool {
        let is = self.is_operator(operator);
        self.at += usize::from(is);
        is
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        self.at += usize::from(is);
        is
    }

    pub fn expect_operator(&mut self, operator: &str) -> R<()> {
        if self.skip_operator(operator) { Ok(()) } else { Err(self.unexpected(&format!("'{operator}'"))) }
    }

    pub fn expect_name(&mut self) -> R<String> {
        match self.next() {
            Token::Name(name) => Ok(name),
            _ => {
                self.back();
                Err(self.unexpected("a name"))
            }
        }
    }

    pub fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::Data(_) => "text".to_string(),
            Token::BlockBegin => "'{%'".into(),
            Token::BlockEnd => "the end of the statement".into(),
            Token::PrintBegin => "'{{'".into(),
            Token::PrintEnd => "the end of the print statement".into(),
            Token::Name(name) => format!("'{name}'"),
            Token::Str(text) => format!("{text:?}"),
            Token::Int(n) => format!("'{n}'"),
            Token::Float(x) => format!("'{x}'"),
            Token::Operator(o) => format!("'{o}'"),
            Token::End => "the end of the template".into(),
        };
        syntax(format!("expected {wanted}, got {found}"))
    }

    /// Runs a part of the parser one level deeper.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        if self.depth >= MAX_DEPTH {
            return Err(fault(FaultKind::Limit, format!("blocks and brackets are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Notes that a name is read, for the macros around.
    pub fn reads(&mut self, name: &str) {
        if let Some(special) = SPECIAL.iter().find(|s| **s == name) {
            for w in self.watched.iter_mut().filter(|w| !w.stored.contains(special)) {
                w.read.push(special);
            }
        }
    }

    fn stores(&mut self, name: &str) {
        if let Some(special) = SPECIAL.iter().find(|s| **s == name) {
            self.watched.iter_mut().for_each(|w| w.stored.push(special));
        }
    }

    /// Statements up to a block tag of one of these names, which is not consumed; without names up to the end.
    fn body(&mut self, ends: &[&str]) -> R<Vec<Statement>> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.next() {
                Token::Data(text) => body.push(Statement { line, action: Action::Text(text) }),
                Token::PrintBegin => {
                    let value = self.tuple(true, &[], false)?;
                    if !matches!(self.next(), Token::PrintEnd) {
                        self.back();
                        return Err(self.unexpected("the end of the print statement"));
                    }
                    body.push(Statement { line, action: Action::Print(value) });
                }
                Token::BlockBegin => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    self.nested(|p| p.statement(line, &mut body))?;
                    self.end_of_block()?;
                }
                Token::End if ends.is_empty() => return Ok(body),
                Token::End => {
                    let names: Vec<String> = ends.iter().map(|e| format!("'{e}'")).collect();
                    return Err(syntax(format!("unexpected end of template; {} is missing", names.join(" or "))));
                }
                _ => {
                    self.back();
                    return Err(self.unexpected("text or a tag"));
                }
            }
        }
    }

    fn end_of_block(&mut self) -> R<()> {
        if matches!(self.peek(), Token::BlockEnd) {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected("the end of the statement"))
    }

    /// The body behind a tag's head, with the name of the tag that ended it (which is consumed).
    fn block(&mut self, ends: &[&str]) -> R<(Vec<Statement>, String)> {
        self.skip_operator(":");
        self.end_of_block()?;
        let body = self.body(ends)?;
        Ok((body, self.expect_name()?))
    }

    fn hard<T>(&mut self, parse: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        let soft = std::mem::replace(&mut self.soft, false);
        let result = parse(self);
        self.soft = soft;
        result
    }

    pub fn softly<T>(&mut self, parse: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        let soft = std::mem::replace(&mut self.soft, true);
        let result = parse(self);
        self.soft = soft;
        result
    }

    fn statement(&mut self, line: usize, body: &mut Vec<Statement>) -> R<()> {
        let name = self.expect_name()?;
        let action = match name.as_str() {
            "for" => self.hard(Self::parse_for)?,
            "if" => self.softly(Self::parse_if)?,
            "set" => self.parse_set()?,
            "with" => self.hard(Self::parse_with)?,
            "macro" => {
                let name = self.expect_name()?;
                self.stores(&name);
                let signature = self.signature()?;
                let node = self.macro_body(Some(name), signature, "endmacro")?;
                Action::Macro(Arc::new(node))
            }
            "call" => self.parse_call_block()?,
            "filter" => {
                let filter = self.filter_chain(None, true)?;
                let filter = filter.ok_or_else(|| self.unexpected("a filter"))?;
                Action::FilterBlock(filter, self.hard(|p| p.block(&["endfilter"]))?.0)
            }
            "autoescape" => {
                let on = self.expression(true)?;
                Action::Autoescape(on, self.hard(|p| p.block(&["endautoescape"]))?.0)
            }
            "generation" => {
                let loops = std::mem::replace(&mut self.loops, 0);
                let inside = self.hard(|p| p.block(&["endgeneration"]));
                self.loops = loops;
                Action::Generation(inside?.0)
            }
            "break" | "continue" if self.loops == 0 => {
                return Err(syntax(format!("'{name}' stands outside of the loop that it is for")));
            }
            "break" => Action::Break,
            "continue" => Action::Continue,
            "print" => {
                // Several values are printed one behind the other.
                let mut first = true;
                while !matches!(self.peek(), Token::BlockEnd) {
                    if !std::mem::take(&mut first) {
                        self.expect_operator(",")?;
                    }
                    let value = self.expression(true)?;
                    body.push(Statement { line, action: Action::Print(value) });
                }
                return Ok(());
            }
            "block" | "extends" | "include" | "import" | "from" => {
                return Err(unsupported(format!("the tag '{name}' (a chat template is one file)")));
            }
            _ => return Err(syntax(format!("unknown tag '{name}'"))),
        };
        body.push(Statement { line, action });
        Ok(())
    }

    fn parse_for(&mut self) -> R<Action> {
        let target = self.target(&["in"], false)?;
        if !self.skip_name("in") {
            return Err(self.unexpected("'in'"));
        }
        let iterable = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") { Some(self.expression(true)?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let parsed = self.block(&["endfor", "else"]);
        self.loops -= 1;
        let (body, end) = parsed?;
        let otherwise = if end == "else" { self.block(&["endfor"])?.0 } else { Vec::new() };
        Ok(Action::For(Arc::new(For { target, iterable, test, body, otherwise, recursive })))
    }

    fn parse_if(&mut self) -> R<Action> {
        let mut arms = Vec::new();
        loop {
            let test = self.tuple(false, &[], false)?;
            let (body, end) = self.block(&["elif", "else", "endif"])?;
            arms.push((test, body));
            match end.as_str() {
                "elif" => {}
                "else" => return Ok(Action::If(arms, self.block(&["endif"])?.0)),
                _ => return Ok(Action::If(arms, Vec::new())),
            }
        }
    }

    fn parse_set(&mut self) -> R<Action> {
        let target = self.target(&[], true)?;
        if self.skip_operator("=") {
            let value = self.tuple(true, &[], false)?;
            self.note_target(&target);
            return Ok(Action::Set(target, value));
        }
        let filter = self.filter_chain(None, false)?;
        let body = self.hard(|p| p.block(&["endset"]))?.0;
        self.note_target(&target);
        Ok(Action::SetBlock(target, filter, body))
    }

    fn note_target(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.stores(name),
            Target::Tuple(parts) => parts.iter().for_each(|part| self.note_target(part)),
            Target::Field(..) => {}
        }
    }

    fn parse_with(&mut self) -> R<Action> {
        let mut bindings = Vec::new();
        while !matches!(self.peek(), Token::BlockEnd) {
            if !bindings.is_empty() {
                self.expect_operator(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_operator("=")?;
            bindings.push((target, self.expression(true)?));
        }
        Ok(Action::With(bindings, self.block(&["endwith"])?.0))
    }

    /// The body of a macro or of a call block.
    fn macro_body(
        &mut self,
        name: Option<String>,
        signature: (Vec<String>, Vec<Expression>),
        end: &str,
    ) -> R<MacroNode> {
        let (parameters, defaults) = signature;
        let loops = std::mem::replace(&mut self.loops, 0);
        self.watched.push(SpecialNames::default());
        let parsed = self.hard(|p| p.block(&[end]));
        let watched = self.watched.pop().unwrap_or_default();
        self.loops = loops;
        let uses = |special: &str| watched.read.contains(&special) && !parameters.iter().any(|p| p == special);
        let (uses_caller, uses_kwargs, uses_varargs) = (uses("caller"), uses("kwargs"), uses("varargs"));
        Ok(MacroNode { name, parameters, defaults, body: parsed?.0, uses_caller, uses_kwargs, uses_varargs })
    }

    fn signature(&mut self) -> R<(Vec<String>, Vec<Expression>)> {
        let (mut parameters, mut defaults): (Vec<String>, Vec<Expression>) = Default::default();
        self.expect_operator("(")?;
        while !self.skip_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.expect_name()?;
            if is_constant(&name) || parameters.contains(&name) {
                return Err(syntax(format!("'{name}' cannot be a parameter here")));
            }
            if self.skip_operator("=") {
                defaults.push(self.expression(true)?);
            } else if !defaults.is_empty() {
                return Err(syntax("non-default argument follows default argument"));
            }
            parameters.push(name);
        }
        Ok((parameters, defaults))
    }

    fn parse_call_block(&mut self) -> R<Action> {
        let (parameters, defaults) = if self.is_operator("(") { self.signature()? } else { Default::default() };
        let call = self.expression(true)?;
        if !matches!(call, Expression::Call(..)) {
            return Err(syntax("expected call"));
        }
        let node = self.macro_body(None, (parameters, defaults), "endcall")?;
        Ok(Action::CallBlock(call, Arc::new(node)))
    }

    /// What may be assigned to: names, tuples of them, and with `fields` an attribute of a namespace.
    fn target(&mut self, ends: &[&str], fields: bool) -> R<Target> {
        let mut parts = Vec::new();
        let mut is_tuple = false;
        loop {
            let done = matches!(self.peek(), Token::BlockEnd | Token::PrintEnd)
                || self.is_operator(")")
                || ends.iter().any(|end| self.is_name(end));
            if done {
                break;
            }
            let part = if self.skip_operator("(") {
                let inner = self.nested(|p| p.target(&[], fields))?;
                self.expect_operator(")")?;
                inner
            } else {
                let name = self.expect_name()?;
                if is_constant(&name) {
                    return Err(syntax(format!("can't assign to '{name}'")));
                }
                if fields && self.skip_operator(".") {
                    Target::Field(name, self.expect_name()?)
                } else {
                    Target::Name(name)
                }
            };
            parts.push(part);
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                parts.push(last);
                Ok(Target::Tuple(parts))
            }
            None => Err(self.unexpected("a name to assign to")),
        }
    }

    /// Notes a filter or test that there is none of, where that is an error at once.
    pub fn missing(&mut self, message: String) {
        if !self.soft {
            self.unknown.push((self.line(), message));
        }
    }

    /// Parses what may come to be the operand of a condition: there, missing filters count only when they are reached.
    pub fn operand(&mut self, parse: impl FnOnce(&mut Self) -> R<Expression>) -> R<Expression> {
        let known = self.unknown.len();
        let value = parse(self)?;
        if self.is_name("if") {
            self.unknown.truncate(known);
        }
        Ok(value)
    }

    /// The arguments of a call, from `(` to `)`.
    pub fn arguments(&mut self) -> R<Arguments> {
        self.expect_operator("(")?;
        let mut arguments = Arguments::default();
        let invalid = || syntax("invalid syntax for function call expression");
        let mut first = true;
        while !self.is_operator(")") {
            if !std::mem::take(&mut first) {
                self.expect_operator(",")?;
                if self.is_operator(")") {
                    break;
                }
            }
            if self.skip_operator("*") {
                if arguments.star.is_some() || arguments.double_star.is_some() {
                    return Err(invalid());
                }
                arguments.star = Some(Box::new(self.expression(true)?));
            } else if self.skip_operator("**") {
                if arguments.double_star.is_some() {
                    return Err(invalid());
                }
                arguments.double_star = Some(Box::new(self.expression(true)?));
            } else if matches!((self.peek(), self.look()), (Token::Name(_), Token::Operator("="))) {
                let name = self.expect_name()?;
                self.at += 1;
                if arguments.double_star.is_some() || arguments.named.iter().any(|(n, _)| *n == name) {
                    return Err(invalid());
                }
                arguments.named.push((name, self.expression(true)?));
            } else {
                if arguments.star.is_some() || arguments.double_star.is_some() || !arguments.named.is_empty() {
                    return Err(invalid());
                }
                arguments.positional.push(self.expression(true)?);
            }
        }
        self.expect_operator(")")?;
        Ok(arguments)
    }
}

pub(super) fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "none" | "True" | "False" | "None")
}
