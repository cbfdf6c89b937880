//! Jinja2 as transformers runs chat templates, evaluated with Python's values: what it prints, this prints.
//!
//! transformers 5.24 renders in jinja2's `ImmutableSandboxedEnvironment` with `trim_blocks`, `lstrip_blocks`, loop controls, its
//! own `tojson`, `strftime_now`, `raise_exception` and `{% generation %}`. A template there sees Python: whole numbers of any
//! size, tuples, `Markup`, `%` formatting, the methods of `str`. minijinja has values of its own behind the same grammar (numbers
//! through f64 and i128, no tuples), so that its operators cannot be made to agree from outside; hence this evaluator. What Jinja2
//! can do and this cannot is an error that names it.
//!
//! In reading order: `fault`, `unicode`, `number`, `values`, `show`, `compare`, `operators`; the grammar
//! (`string_literal`, `lexer`, `ast`, `parser`, `expressions`); what may be called (`arguments`, `strings`, `string_methods`,
//! `format_spec`, `printf`, `str_format`, `html`, `attributes`, `functions`, `strftime`, `checks`, `wrap`, `tojson`,
//! `number_filters`, `filters`, `list_filters`); and the rendering (`from_json`, `evaluate`, `run`).
//!
//! A template comes from whoever made the model: steps, memory, depth and output are bounded.
mod arguments;
mod ast;
mod attributes;
mod checks;
mod compare;
mod evaluate;
mod expressions;
mod fault;
mod filters;
mod from_json;
mod functions;
mod html;
mod lexer;
mod list_filters;
mod number;
mod number_filters;
mod operators;
mod parser;
mod printf;
mod run;
mod show;
mod format_spec;
mod str_format;
mod strftime;
mod string_literal;
mod string_methods;
mod strings;
mod tojson;
mod unicode;
mod values;
mod wrap;

use std::ops::Range;

use serde_json::Value as Json;

pub use strftime::LocalTime;

use fault::{Fault, FaultKind, R, fault};

/// Bytes of stack for a rendering: macros that call themselves go deep.
const STACK: usize = 128 << 20;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    body: Vec<ast::Statement>,
}

/// What a template printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrintedTemplate {
    /// Everything it printed, in order.
    pub text: String,
    /// Byte ranges of `text` that stood between generation marks, in order.
    pub generation: Vec<Range<usize>>,
    /// The line of a generation mark inside a macro or a block whose text is not printed at once: where it stands in `text` is
    /// not known (transformers marks the wrong place).
    pub misplaced: Option<usize>,
}

/// What was wrong with a template or its rendering: one line, and the template's line where it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// One line, without the place.
    pub message: String,
    /// Counted from 1 in the template's source.
    pub line: Option<usize>,
}

impl From<Fault> for TemplateError {
    fn from(fault: Fault) -> Self {
        let message = match fault.kind {
            FaultKind::Syntax => format!("syntax error: {}", fault.message),
            _ => fault.message,
        };
        TemplateError { message, line: fault.line }
    }
}

impl Template {
    /// Parses a chat template, with trim_blocks and lstrip_blocks.
    ///
    /// Errors: what Jinja2's parser refuses, and tags that would need other files.
    pub fn chat(source: &str) -> Result<Self, TemplateError> {
        Ok(Template { body: on_own_stack(|| parser::parse(source, true))? })
    }

    /// Parses a template with Jinja2's own defaults: the white space around tags stays. Errors as [`chat`](Self::chat).
    pub fn plain(source: &str) -> Result<Self, TemplateError> {
        Ok(Template { body: on_own_stack(|| parser::parse(source, false))? })
    }

    /// Whether it has generation marks.
    pub fn has_generation(&self) -> bool {
        ast::any(&self.body, &|action| matches!(action, ast::Action::Generation(_)))
    }

    /// Renders with `names` as variables. A strict rendering takes no undefined value anywhere.
    ///
    /// Errors: whatever the template raises or does wrong, what is not supported here, a bound that it ran into.
    pub fn render<'a>(
        &self,
        names: impl IntoIterator<Item = (&'a str, &'a Json)>,
        clock: LocalTime,
        strict: bool,
    ) -> Result<PrintedTemplate, TemplateError> {
        let names: Vec<(&str, &Json)> = names.into_iter().collect();
        let printed = on_own_stack(|| {
            let mut values = Vec::with_capacity(names.len());
            for (name, json) in &names {
                values.push((name.to_string(), from_json::from_json(json)?));
            }
            let output = run::run(&self.body, values, clock, !strict)?;
            Ok(PrintedTemplate { text: output.text, generation: output.spans, misplaced: output.misplaced })
        })?;
        Ok(printed)
    }
}

/// Runs on a thread with a stack that the bounds on depth fit into.
fn on_own_stack<T: Send>(work: impl FnOnce() -> R<T> + Send) -> R<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| fault(FaultKind::Limit, format!("no thread to render on: {e}")))?;
        thread.join().map_err(|_| fault(FaultKind::Limit, "the rendering broke off"))?
    })
}
