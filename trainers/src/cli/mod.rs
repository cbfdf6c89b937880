//! The command line: finds the command, reads its options, calls it, and turns what went wrong into an exit code.
//!
//! Exit codes: 0 done, 1 this program, the device or the disk failed, 2 the input was wrong (a line each says what; nothing
//! was touched), 130 a signal has stopped it (a run has saved a checkpoint then).
mod chat;
mod completions;
mod doctor;
mod export;
mod generate;
mod help;
mod judge;
mod merge;
mod modelfile;
mod plot;
mod preview;
mod quickstart;
mod report;
mod revise;
mod score;
mod watch;

use crate::error::{Error, Result};
use crate::options::flags::{self, Prepared};
use crate::options::parse::{Parsed, known_names, parse};
use crate::options::value::Raw;
use crate::options::{
    BcoOptions, ChatOptions, Command, CompletionsOptions, CpoOptions, DoctorOptions, DpoOptions, ExportOptions,
    GenerateOptions, GrpoOptions, JudgeOptions, KtoOptions, MergeOptions, OnlineDpoOptions, OrpoOptions, PlotOptions,
    PpoOptions, PreviewOptions, QuickstartOptions, RaftOptions, ReinforceOptions, ReportOptions, ReviseOptions,
    RewardOptions, RlooOptions, ScoreOptions, SftOptions, WatchOptions,
};
use crate::policy_gradients::{grpo, online_dpo, ppo, raft, reinforce, rloo};
use crate::preferences::{cpo, dpo, kto, orpo, reward_trainer};
use crate::run::interrupt;
use crate::sft;
use clap::error::ErrorKind;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

/// The commands, one row each: its name in a [`Request`], its options (which say how it is called), what carries it out.
macro_rules! commands {
    ($( $command:ident($options:ident) => $run:path, )*) => {
        /// What the arguments ask for.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $( #[doc = concat!("The command of [`", stringify!($options), "`].")] $command(Box<Parsed<$options>>), )*
            /// Help or version text.
            Print(String),
            /// No command: the help, but as an error.
            Usage(String),
        }

        const COMMANDS: &[&str] = &[$( $options::NAME, )*];

        /// The commands' declarations for clap.
        fn declarations() -> Vec<clap::Command> {
            vec![$( flags::command::<$options>(), )*]
        }

        /// Option names of a command, for telling flags apart and for suggestions; empty for an unknown command.
        fn names_of(command: &str) -> Vec<&'static str> {
            match command {
                $( $options::NAME => known_names::<$options>(), )*
                _ => Vec::new(),
            }
        }

        /// Reads a command's options.
        fn request_of(command: &str, matches: &clap::ArgMatches, foreign: &[(String, Raw)]) -> Result<Request> {
            match command {
                $( $options::NAME => parse(matches, foreign).map(Box::new).map(Request::$command), )*
                _ => Err(Error::Internal("a command without a handler".into())),
            }
        }

        /// Carries a request out. Notes go to standard error before anything else happens.
        pub fn carry_out(request: Request) -> Result<()> {
            match request {
                $( Request::$command(parsed) => $run(&announced(*parsed)).map(|_| ()), )*
                Request::Print(text) => {
                    use std::io::Write as _;
                    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)
                }
                Request::Usage(help) => {
                    tell!("{help}");
                    Err(Error::Input("a command is missing".into()))
                }
            }
        }
    };
}

commands! {
    Sft(SftOptions) => sft::train,
    Raft(RaftOptions) => raft::train,
    Reinforce(ReinforceOptions) => reinforce::train,
    Ppo(PpoOptions) => ppo::train,
    OnlineDpo(OnlineDpoOptions) => online_dpo::train,
    Grpo(GrpoOptions) => grpo::train,
    Rloo(RlooOptions) => rloo::train,
    Reward(RewardOptions) => reward_trainer::train,
    Score(ScoreOptions) => score::run,
    Dpo(DpoOptions) => dpo::train,
    Orpo(OrpoOptions) => orpo::train,
    Cpo(CpoOptions) => cpo::train,
    Kto(KtoOptions) => kto::train_kto,
    Bco(BcoOptions) => kto::train_bco,
    Generate(GenerateOptions) => generate::run,
    Chat(ChatOptions) => chat::run,
    Merge(MergeOptions) => merge::run,
    Export(ExportOptions) => export::run,
    Preview(PreviewOptions) => preview::run,
    Judge(JudgeOptions) => judge::run,
    Revise(ReviseOptions) => revise::run,
    Plot(PlotOptions) => plot::run,
    Report(ReportOptions) => report::run,
    Watch(WatchOptions) => watch::run,
    Quickstart(QuickstartOptions) => quickstart::run,
    Doctor(DoctorOptions) => doctor::run,
    Completions(CompletionsOptions) => completions::run,
}

/// A command with its example at the end of its help.
fn with_example(command: clap::Command) -> clap::Command {
    match help::example(command.get_name()) {
        Some(example) => command.after_help(format!("Example:\n  {example}")),
        None => command,
    }
}

/// The whole program as clap sees it.
pub fn program() -> clap::Command {
    let commands = declarations();
    let abouts: BTreeMap<String, String> = commands
        .iter()
        .map(|c| (c.get_name().to_string(), c.get_about().map(ToString::to_string).unwrap_or_default()))
        .collect();
    clap::Command::new("lapidary")
        .about("Post-train language models on any GPU, or on the CPU")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands.into_iter().map(with_example))
        .help_template("{about}\n\n{usage-heading} {usage}\n{after-help}")
        .after_help(help::groups(&abouts))
}

/// Commands that take words without a flag, and the option that the words are.
const BARE: &[(&str, &str)] =
    &[("plot", "--run_dirs"), ("report", "--run_dirs"), ("watch", "--run_dirs"), ("completions", "--shell")];

/// The arguments with the option's name before bare words that follow the command: `plot A B` is `plot --run_dirs A B`.
fn with_names(command: String, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let bare = arguments.get(2).and_then(|word| word.to_str()).is_some_and(|word| !word.starts_with('-'));
    if let Some((_, name)) = BARE.iter().find(|(of, _)| bare && *of == command) {
        arguments.insert(2, (*name).into());
    }
    arguments
}

/// Reads the arguments (the program's name first).
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    let mut names = names_of(command);
    // Without a command clap says what is wrong.
    let is_none = names.is_empty();
    names.extend(["config", "help"]);
    let is_declared = |flag: &str| {
        is_none || names.iter().any(|name| flag == *name || flag.strip_prefix("no_").is_some_and(|rest| rest == *name))
    };
    let arguments = with_names(command.to_string(), arguments);
    let Prepared { arguments, foreign } = flags::prepare(arguments, is_declared);
    let matches = match program().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(e) => {
            return match e.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Request::Print(e.render().to_string())),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                    Ok(Request::Usage(e.render().to_string()))
                }
                _ => Err(flags::complaint(&e, &names, COMMANDS)),
            };
        }
    };
    let (command, matches) = matches.subcommand().unwrap_or(("", &matches));
    request_of(command, matches, &foreign)
}

fn announced<C>(parsed: Parsed<C>) -> C {
    for note in &parsed.notes {
        tell!("note: {note}");
    }
    parsed.options
}

/// 2 if the person can put it right and nothing was touched, 1 if not. `changed`: the program has changed something on disk.
pub fn exit_code(error: &Error, changed: bool) -> u8 {
    use engine::Error as Engine;
    match error {
        Error::Stopped(_) => interrupt::EXIT_CODE,
        _ if changed => 1,
        Error::Output(_) => 1,
        Error::Input(_) | Error::Data { .. } => 2,
        Error::Engine(Engine::File { .. } | Engine::Unsupported(_) | Engine::Input(_) | Engine::OutOfMemory { .. }) => {
            2
        }
        Error::Engine(Engine::Shape { .. } | Engine::NoGradient { .. } | Engine::Device { .. }) => 1,
        Error::Internal(_) => 1,
    }
}

/// Mesa's Vulkan drivers complain on standard error where XDG_RUNTIME_DIR is not set, though nothing here draws.
fn quiet_drivers() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the program has one thread yet, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}

/// The program.
pub fn main() -> ExitCode {
    quiet_drivers();
    let done = read(std::env::args_os()).and_then(|request| interrupt::install().and_then(|()| carry_out(request)));
    if let Some(said) = crate::run::memory::said() {
        tell!("{said}");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Stopped(said)) => {
            tell!("{said}");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            tell!("error: {error}");
            ExitCode::from(exit_code(&error, engine::files::atomic::has_changed()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_declarations() {
        program().debug_assert();
    }

    #[test]
    fn bare_words_get_their_name() {
        let read = |line: &str| with_names("plot".into(), line.split(' ').map(OsString::from).collect());
        assert_eq!(
            read("lapidary plot a b --out c").join(&OsString::from(" ")),
            "lapidary plot --run_dirs a b --out c"
        );
        assert_eq!(read("lapidary plot --out c a").join(&OsString::from(" ")), "lapidary plot --out c a");
    }

    /// Every command stands in the help's groups, and its example is one that the parser takes.
    #[test]
    fn commands_have_their_place_and_example() {
        let placed: Vec<&str> = help::GROUPS.iter().flat_map(|(_, all)| all.iter().map(|(name, _)| *name)).collect();
        for name in COMMANDS {
            assert_eq!(placed.iter().filter(|n| n == &name).count(), 1, "{name}");
            let example = help::example(name).unwrap_or_else(|| panic!("{name} has no example"));
            let call = example.split(" > ").next().unwrap_or(example).replace('\'', "");
            assert!(call.starts_with(&format!("lapidary {name}")), "{example}");
            // The one text with blanks is read as two words.
            let call = call.replace("Who are you?", "Who?");
            if let Err(error) = read(call.split(' ').map(OsString::from)) {
                panic!("{example}: {error}");
            }
        }
        assert_eq!(placed.len(), COMMANDS.len());
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code(&Error::Input(String::new()), false), 2);
        assert_eq!(exit_code(&Error::Data { path: "a".into(), line: 1, detail: String::new() }, false), 2);
        assert_eq!(exit_code(&Error::Engine(engine::Error::file("a", "missing")), false), 2);
        assert_eq!(exit_code(&Error::Internal(String::new()), false), 1);
        assert_eq!(exit_code(&Error::Output(String::new()), false), 1);
        assert_eq!(exit_code(&Error::Input(String::new()), true), 1);
    }
}
