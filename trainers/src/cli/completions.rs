//! `lapidary completions`: what shells and man(1) read, made from the declarations of the options.
use crate::error::{Error, Result};
use crate::options::value::Kind;
use crate::options::{CompletionsOptions, OptionSpec, Shell};
use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use std::io::Write;

/// Prints the completions of a shell, or the manual page.
pub fn run(options: &CompletionsOptions) -> Result<()> {
    let shell = match options.target.shell {
        Shell::Man => return man(),
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::PowerShell => clap_complete::Shell::PowerShell,
        Shell::Elvish => clap_complete::Shell::Elvish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut with_values(super::program()), "lapidary", &mut text);
    std::io::stdout().write_all(&text).map_err(Error::output)
}

/// The program with what shells may offer as the value of each option: names where it takes names, files where it takes a path, else
/// nothing. (The parser itself is stricter or laxer than that, and says so in its own words.)
fn with_values(program: clap::Command) -> clap::Command {
    program.mut_subcommands(|command| {
        let specs = super::specs_of(command.get_name());
        command.mut_args(|arg| match specs.iter().find(|spec| arg.get_id() == spec.name) {
            Some(spec) => offering(arg, spec),
            None if arg.get_id() == "config" => arg.value_hint(ValueHint::FilePath),
            None => arg,
        })
    })
}

fn offering(arg: clap::Arg, spec: &OptionSpec) -> clap::Arg {
    match spec.kind {
        Kind::Choice(names) | Kind::Choices(names) => arg.value_parser(PossibleValuesParser::new(names)),
        Kind::Bool => arg.value_parser(["true", "false"]),
        Kind::Path => arg.value_hint(ValueHint::AnyPath),
        _ if spec.name == "device" => arg.value_parser(["auto", "cpu", "gpu"]),
        _ => arg.value_hint(ValueHint::Other),
    }
}

/// The manual page: the program, then the options of each command.
fn man() -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(super::program()).render(&mut text).map_err(Error::internal)?;
    for command in super::program().get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("lapidary {}", command.get_name());
        // A family's commands stand in its place.
        let nested = command.get_subcommands().map(|c| (format!("{name} {}", c.get_name()), c));
        let alone = (!command.has_subcommands()).then(|| (name.clone(), command));
        for (name, command) in nested.chain(alone) {
            let page = clap_mangen::Man::new(command.clone().bin_name(name));
            page.render_options_section(&mut text).map_err(Error::internal)?;
        }
    }
    std::io::stdout().write_all(&text).map_err(Error::output)
}
