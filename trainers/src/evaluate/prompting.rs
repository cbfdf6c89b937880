//! From a row to what is asked: question, choices, right answer, and the examples before them.
//!
//! A text is put together as lm-eval's `ConfigurableTask.fewshot_context` does it, to the character.
use super::python_values::{PythonRandom, literal};
use super::requests::Request;
use super::task_file::{EvalTask, ExampleSampler, OutputType};
use crate::error::{Error, Result};
use crate::text::jinja::{LocalTime, Template};
use serde_json::{Map, Value};

/// lm-eval's seed of examples (`--seed`, its third number).
const EXAMPLES_SEED: u32 = 1234;

/// A row.
pub type TaskRow = Map<String, Value>;

/// A value that a task file describes.
enum Field {
    /// As a column of the row has it.
    Column(String),
    /// As a template prints it; the last is the line end that Jinja drops and lm-eval keeps.
    Template(Box<Template>, &'static str),
    /// The same for every row.
    Constant(Value),
}

impl Field {
    fn of(key: &str, value: &Value, row: &TaskRow) -> Result<Field> {
        let Value::String(text) = value else { return Ok(Field::Constant(value.clone())) };
        if row.contains_key(text) {
            return Ok(Field::Column(text.clone()));
        }
        let template = Template::plain(text).map_err(|e| Error::input(format!("{key}: {}", e.message)))?;
        Ok(Field::Template(Box::new(template), if text.ends_with('\n') { "\n" } else { "" }))
    }

    fn value(&self, key: &str, row: &TaskRow) -> Result<Value> {
        match self {
            Field::Constant(value) => Ok(value.clone()),
            Field::Column(name) => {
                row.get(name).cloned().ok_or_else(|| Error::input(format!("{key}: a row has no column {name}")))
            }
            Field::Template(template, end) => {
                let names = row.iter().map(|(name, value)| (name.as_str(), value));
                let clock = LocalTime { seconds: 0, offset: 0.into() };
                let printed = template.render(names, clock, true);
                let printed = printed.map_err(|e| Error::input(format!("{key}: {}", e.message)))?;
                Ok(Value::from(printed.text + end))
            }
        }
    }
}

/// Whether Python's `str.isdigit` holds; other digits than ASCII's are not thought of.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The prompts of a task's rows, which are to be asked for in order: the examples of each are drawn when its turn comes.
pub struct Prompts<'a> {
    task: &'a EvalTask,
    text: Field,
    target: Field,
    choice: Option<Field>,
    description: Option<Field>,
    gen_prefix: Option<Field>,
    random: PythonRandom,
    /// The choices stand in the question, and the target behind it.
    choice_in_question: bool,
}

impl<'a> Prompts<'a> {
    /// Looks at the first row, as lm-eval does. Errors: a template that does not parse.
    pub fn new(task: &'a EvalTask) -> Result<Self> {
        let first = task.rows.first().ok_or_else(|| Error::input(format!("{}: no rows", task.name)))?;
        let named =
            |key: &str, text: &str| (!text.is_empty()).then(|| Field::of(key, &Value::from(text), first)).transpose();
        let mut prompts = Prompts {
            task,
            text: Field::of("doc_to_text", &task.doc_to_text, first)?,
            target: Field::of("doc_to_target", &task.doc_to_target, first)?,
            choice: task.doc_to_choice.as_ref().map(|value| Field::of("doc_to_choice", value, first)).transpose()?,
            description: named("description", &task.description)?,
            gen_prefix: named("gen_prefix", task.gen_prefix.as_deref().unwrap_or_default())?,
            random: PythonRandom::new(EXAMPLES_SEED),
            choice_in_question: false,
        };
        prompts.choice_in_question = prompts.choice.is_some() && prompts.question(first)?.is_number();
        if task.output_type == OutputType::MultipleChoice && prompts.choice.is_none() {
            return Err(Error::input(format!("{}: doc_to_choice is missing", task.name)));
        }
        Ok(prompts)
    }

    /// `doc_to_text`: a text, or the number of a choice.
    fn question(&self, row: &TaskRow) -> Result<Value> {
        let value = self.text.value("doc_to_text", row)?;
        match &value {
            Value::String(text)
                if matches!(self.text, Field::Template(..)) && self.choice.is_some() && is_digits(text) =>
            {
                Ok(text.parse::<u64>().map_or(value.clone(), Value::from))
            }
            _ => Ok(value),
        }
    }

    /// `doc_to_target`: a text, the number of a choice, or several.
    pub fn target(&self, row: &TaskRow) -> Result<Value> {
        let value = self.target.value("doc_to_target", row)?;
        match &value {
            Value::String(text) if matches!(self.target, Field::Template(..)) => {
                if self.choice.is_some() && is_digits(text) {
                    return Ok(text.parse::<u64>().map_or(value.clone(), Value::from));
                }
                let list = text.len() >= 2 && text.starts_with('[') && text.ends_with(']');
                Ok(list.then(|| literal(text)).flatten().unwrap_or(value))
            }
            _ => Ok(value),
        }
    }

    /// `doc_to_choice`; empty where a task has none.
    pub fn choices(&self, row: &TaskRow) -> Result<Vec<String>> {
        let Some(field) = &self.choice else { return Ok(Vec::new()) };
        let value = match field.value("doc_to_choice", row)? {
            Value::String(text) => {
                literal(&text).ok_or_else(|| Error::input(format!("doc_to_choice prints no list: {text}")))?
            }
            Value::Object(map) => Value::Array(map.into_iter().map(|(_, value)| value).collect()),
            other => other,
        };
        let Value::Array(all) = value else { return Err(Error::input(format!("doc_to_choice is no list: {value}"))) };
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(Error::input(format!("doc_to_choice: {other} is no text"))),
        };
        all.iter().map(text).collect()
    }

    /// What the gold answer is called among the choices: the number of a choice where the question is one.
    pub fn gold(&self, row: &TaskRow) -> Result<Value> {
        if self.choice_in_question { self.question(row) } else { self.target(row) }
    }

    /// What is asked about a row.
    pub fn requests(&mut self, row: &TaskRow) -> Result<Vec<Request>> {
        let task = self.task;
        if task.output_type == OutputType::LogLikelihoodRolling {
            return Ok(vec![Request::Rolling { text: as_text(&self.target(row)?) }]);
        }
        let before = self.before(row)?;
        let delimiter = &task.target_delimiter;
        if self.choice_in_question {
            let target = as_text(&self.target(row)?);
            let ask = |choice: String| {
                let context = before.clone() + &self.turn(row, &choice, None, "", "")?;
                Ok(Request::Likelihood { context, continuation: format!("{delimiter}{target}") })
            };
            return self.choices(row)?.into_iter().map(ask).collect();
        }
        let question = as_text(&self.question(row)?);
        let context = before + &self.turn(row, &question, None, delimiter, "")?;
        Ok(match task.output_type {
            OutputType::GenerateUntil => vec![Request::Generate { context }],
            OutputType::MultipleChoice => {
                let choices = self.choices(row)?;
                let given = |context: &str| {
                    let context = context.to_string();
                    choices.iter().map(move |choice| Request::Likelihood {
                        context: context.clone(),
                        continuation: format!("{delimiter}{choice}"),
                    })
                };
                match task.metrics.iter().any(|metric| metric.name == "acc_mutual_info") {
                    true => given(&context).chain(given("")).collect(),
                    false => given(&context).collect(),
                }
            }
            _ => vec![Request::Likelihood { context, continuation: as_text(&self.target(row)?) }],
        })
    }

    /// Description and examples.
    fn before(&mut self, row: &TaskRow) -> Result<String> {
        let task = self.task;
        let mut text = match &self.description {
            Some(field) => as_text(&field.value("description", row)?),
            None => String::new(),
        };
        for i in self.example_rows(row)? {
            let example = &task.examples[i];
            let (question, choices, target) = (self.question(example)?, self.choices(example)?, self.target(example)?);
            let question = match (&question, self.choice_in_question) {
                (Value::Number(n), true) => {
                    n.as_u64().and_then(|n| choices.get(n as usize)).cloned().unwrap_or_default()
                }
                _ => as_text(&question),
            };
            let answer = match &target {
                Value::Number(n) if !choices.is_empty() && !self.choice_in_question => {
                    let chosen = n.as_u64().and_then(|n| choices.get(n as usize));
                    chosen.cloned().ok_or_else(|| Error::input(format!("doc_to_target: there is no choice {n}")))?
                }
                Value::Array(all) => all.first().map(as_text).unwrap_or_default(),
                other => as_text(other),
            };
            text += &self.turn(example, &question, Some(&answer), &task.target_delimiter, &task.fewshot_delimiter)?;
        }
        Ok(text)
    }

    /// The places of a row's examples.
    fn example_rows(&mut self, row: &TaskRow) -> Result<Vec<usize>> {
        let (task, n) = (self.task, self.task.num_fewshot);
        if n == 0 {
            return Ok(Vec::new());
        }
        let is_other = |i: &usize| !task.excludes_itself || task.examples[*i] != *row;
        let too_few =
            || Error::input(format!("{}: num_fewshot {n}, but there are {} examples", task.name, task.examples.len()));
        match task.sampler {
            ExampleSampler::FirstN => {
                let first: Vec<usize> = (0..task.examples.len()).filter(is_other).take(n).collect();
                if first.len() == n { Ok(first) } else { Err(too_few()) }
            }
            ExampleSampler::Random => {
                let drawn = n + usize::from(task.excludes_itself);
                if drawn > task.examples.len() {
                    return Err(too_few());
                }
                let drawn = self.random.sample(task.examples.len(), drawn);
                let mut kept: Vec<usize> = drawn.into_iter().filter(is_other).take(n).collect();
                if kept.len() < n {
                    let others: Vec<usize> = (0..task.examples.len()).filter(is_other).collect();
                    if others.len() < n {
                        return Err(too_few());
                    }
                    kept = self.random.sample(others.len(), n).into_iter().map(|i| others[i]).collect();
                }
                Ok(kept)
            }
        }
    }

    /// `build_qa_turn` as a text: question, answer or what it begins with.
    fn turn(&self, row: &TaskRow, question: &str, answer: Option<&str>, delimiter: &str, end: &str) -> Result<String> {
        let prefix = match &self.gen_prefix {
            Some(field) => as_text(&field.value("gen_prefix", row)?),
            None => String::new(),
        };
        let answer = answer.filter(|answer| !answer.is_empty());
        let parts = match (answer, prefix.is_empty()) {
            (Some(_), true) => delimiter,
            (_, false) if parted(question, &prefix) => delimiter,
            _ => "",
        };
        let mut text = format!("{question}{parts}");
        match answer {
            Some(answer) => text += &(joined(&prefix, answer) + end),
            None => text += &prefix,
        }
        Ok(text)
    }
}

/// A value as Python's `str` shows it, where it is a text or a number.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        other => other.to_string(),
    }
}

/// Whether two texts need something between them: neither has white space where they meet.
fn parted(before: &str, behind: &str) -> bool {
    let (last, first) = (before.chars().next_back(), behind.chars().next());
    matches!((last, first), (Some(a), Some(b)) if !a.is_whitespace() && !b.is_whitespace())
}

/// `maybe_delimit` with a blank.
fn joined(before: &str, behind: &str) -> String {
    let blank = if parted(before, behind) { " " } else { "" };
    format!("{before}{blank}{behind}")
}
