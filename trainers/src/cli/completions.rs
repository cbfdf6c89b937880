//! `lapidary completions`: what shells and man(1) read, made from the declarations of the options.
use crate::error::{Error, Result};
use crate::options::{CompletionsOptions, Shell};
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
    clap_complete::generate(shell, &mut super::program(), "lapidary", &mut text);
    std::io::stdout().write_all(&text).map_err(Error::output)
}

/// The manual page: the program, then the options of each command.
fn man() -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(super::program()).render(&mut text).map_err(Error::internal)?;
    for command in super::program().get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("lapidary {}", command.get_name());
        let page = clap_mangen::Man::new(command.clone().bin_name(name));
        page.render_options_section(&mut text).map_err(Error::internal)?;
    }
    std::io::stdout().write_all(&text).map_err(Error::output)
}
