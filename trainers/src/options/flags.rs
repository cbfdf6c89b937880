//! The command line: clap's parser and help, made from the declarations.
use super::given::{Given, Origin, default_of, suggestion};
use super::spec::{Command, DefaultValue, OptionSpec};
use super::value::{Kind, Raw};
use crate::error::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};
use std::ffi::OsString;

/// clap's parser of one command.
pub fn command<C: Command>() -> clap::Command {
    // Of a name of two words the first is that of a family.
    let name = C::NAME.rsplit(' ').next().unwrap_or(C::NAME);
    let mut command = clap::Command::new(name).about(C::ABOUT).disable_version_flag(true).arg(
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("A YAML or JSON file of options; those given on the command line win over it."),
    );
    for spec in C::specs() {
        command = command.arg(argument(spec, C::DEFAULTS));
        if spec.kind == Kind::Bool {
            command = command.arg(Arg::new(spec.negative).long(spec.negative).hide(true).action(ArgAction::SetTrue));
        }
    }
    command
}

fn argument(spec: &'static OptionSpec, defaults: &'static [(&'static str, &'static str)]) -> Arg {
    let arg = Arg::new(spec.name)
        .long(spec.name)
        .aliases(spec.aliases)
        .help_heading(spec.group)
        .help(help(spec, defaults))
        .value_name(value_name(spec.kind));
    match spec.kind {
        // `--packing` alone means true; `--packing false` is understood too.
        Kind::Bool => arg.num_args(0..=1).default_missing_value("true"),
        Kind::Words | Kind::Choices(_) | Kind::Form(_) => arg.num_args(1..),
        _ => arg,
    }
}

fn help(spec: &OptionSpec, defaults: &'static [(&'static str, &'static str)]) -> String {
    let names = match spec.kind {
        Kind::Choice(names) => format!(" [{}]", names.join("|")),
        _ => String::new(),
    };
    format!("{}{names} {}", spec.paragraph(), default_text(spec, defaults))
}

/// "[default: 8, as in TRL]"
pub fn default_text(spec: &OptionSpec, defaults: &'static [(&'static str, &'static str)]) -> String {
    match default_of(spec, defaults) {
        DefaultValue::Required => "[required]".into(),
        DefaultValue::RequiredUnless(other) => format!("[required, unless {other} is given]"),
        DefaultValue::None => format!("[default: none, as in {}]", spec.source.name()),
        DefaultValue::Written(text) => format!("[default: {text}, as in {}]", spec.source.name()),
    }
    .replace(", as in lapidary", "")
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOL",
        Kind::Integer => "N",
        Kind::Number => "X",
        Kind::Steps => "STEPS",
        Kind::Text => "TEXT",
        Kind::Path => "PATH",
        Kind::Words => "NAMES",
        Kind::Choice(_) => "NAME",
        Kind::Choices(_) => "NAMES",
        Kind::Form(_) => "VALUE",
    }
}

/// Arguments made ready for clap, and the options that are not declared here, with what was given to them.
#[derive(Debug, Default, PartialEq)]
pub struct Prepared {
    /// What clap is to parse: flags as declared, each with its value behind `=` where that was written or begins with a dash.
    pub arguments: Vec<OsString>,
    /// (name without dashes, value) of the other flags, TRL's and unknown ones, in order; "true" where no value followed.
    pub foreign: Vec<(String, Raw)>,
}

/// Writes `-` in flags as `_`, and takes out the flags that `declared` does not know.
pub fn prepare(arguments: impl IntoIterator<Item = OsString>, declared: impl Fn(&str) -> bool) -> Prepared {
    let mut prepared = Prepared::default();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        // Only this program's own form of flag is looked at; whatever else is there, clap complains about.
        let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")).filter(|flag| !flag.is_empty())
        else {
            prepared.arguments.push(argument);
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let name = name.replace('-', "_");
        if declared(&name) {
            let dashed =
                arguments.peek().and_then(|next| next.to_str()).filter(|next| value.is_none() && is_dashed(next));
            let value = value.or(dashed).map_or(String::new(), |value| format!("={value}"));
            if dashed.is_some() {
                arguments.next();
            }
            prepared.arguments.push(format!("--{name}{value}").into());
            continue;
        }
        let mut words: Vec<String> = value.map(str::to_string).into_iter().collect();
        while let Some(next) = arguments.peek().and_then(|next| next.to_str()).filter(|next| !is_flag(next)) {
            words.push(next.to_string());
            arguments.next();
        }
        let raw = match words.len() {
            0 => Raw::Text("true".into()),
            1 => Raw::Text(words.remove(0)),
            _ => Raw::List(words),
        };
        prepared.foreign.push((name, raw));
    }
    prepared
}

/// A value that begins with a dash, as negative numbers and list items do: clap would take it for a flag.
fn is_dashed(text: &str) -> bool {
    text.starts_with('-') && !text.starts_with("--") && !matches!(text, "-" | "-h" | "-V")
}

/// Begins with a dash and is not a number.
fn is_flag(text: &str) -> bool {
    text.starts_with('-') && text.parse::<f64>().is_err()
}

/// Puts what clap found into `given`; what is wrong with it, a line each.
pub fn collect(matches: &ArgMatches, specs: &[&'static OptionSpec], given: &mut Given) -> Vec<String> {
    let mut wrong = Vec::new();
    for spec in specs {
        let mut raw = matches.get_many::<String>(spec.name).map(|values| {
            let values: Vec<String> = values.cloned().collect();
            if values.len() == 1 { Raw::Text(values.concat()) } else { Raw::List(values) }
        });
        if spec.kind == Kind::Bool && matches.get_flag(spec.negative) {
            if raw.is_some() {
                wrong.push(format!("--{} and --{} are both given", spec.name, spec.negative));
            }
            raw = Some(Raw::Text("false".into()));
        }
        if let Some(raw) = raw {
            given.put(spec, raw, Origin::Flag);
        }
    }
    wrong
}

/// clap's complaint in one line, with the nearest known name.
pub fn complaint(error: &clap::Error, known: &[&str], commands: &[&str]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let text = match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = context(ContextKind::InvalidArg);
            match argument.strip_prefix("--") {
                Some(flag) => {
                    let name = flag.split('=').next().unwrap_or(flag);
                    format!("unknown option --{name}{}", suggestion(name, "--", known.iter().copied()))
                }
                None if argument.starts_with('-') => {
                    format!(
                        "unexpected {argument}; options begin with --, a value that begins with - is written --option=-value"
                    )
                }
                None => format!("unexpected \"{argument}\": options begin with --"),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand);
            let near = suggestion(&name, "", commands.iter().copied());
            format!("unknown command {name}{near}; the commands are {}", commands.join(", "))
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("{}: its value is missing", flag_of(&context(ContextKind::InvalidArg)))
        }
        ErrorKind::ArgumentConflict => format!("{} is given twice", flag_of(&context(ContextKind::InvalidArg))),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8 text".into(),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_string()
        }
    };
    Error::Input(text)
}

/// "--seed <N>" → "--seed"
fn flag_of(argument: &str) -> &str {
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepares_arguments() {
        let list = |items: &[&str]| items.iter().map(OsString::from).collect::<Vec<_>>();
        let declared = |name: &str| matches!(name, "max_steps" | "packing" | "no_packing");
        let got = prepare(
            list(&[
                "sft",
                "--max-steps",
                "-1",
                "--bf16",
                "--report-to=wandb",
                "--fsdp",
                "full",
                "auto",
                "--no-packing",
            ]),
            declared,
        );
        assert_eq!(got.arguments, list(&["sft", "--max_steps=-1", "--no_packing"]));
        let text = |s: &str| Raw::Text(s.into());
        assert_eq!(
            got.foreign,
            [
                ("bf16".into(), text("true")),
                ("report_to".into(), text("wandb")),
                ("fsdp".into(), Raw::List(vec!["full".into(), "auto".into()]))
            ]
        );
        let dashed = prepare(list(&["--prompt", "- a item", "--packing", "--max_steps=1", "-x"]), |_| true).arguments;
        assert_eq!(dashed, list(&["--prompt=- a item", "--packing", "--max_steps=1", "-x"]));
        assert_eq!(prepare(list(&["--a-b=c-d", "-x", "--"]), |_| true).arguments, list(&["--a_b=c-d", "-x", "--"]));
    }
}
