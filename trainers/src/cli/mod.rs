//! The command line: finds the command, reads its options, calls it, and turns what went wrong into an exit code.
//!
//! Exit codes: 0 done, 1 this program, the device or the disk failed, 2 the input was wrong (a line each says what; nothing
//! was touched), 130 a signal has stopped it (a run has saved a checkpoint then).
mod chat;
mod compare_models;
mod completions;
mod data_convert;
mod data_dedup;
mod data_stats;
mod diff;
mod doctor;
mod environment;
mod eval;
mod exercise;
mod export;
mod generate;
mod help;
mod judge;
mod merge;
mod modelfile;
mod place;
mod plot;
mod preview;
mod push;
mod quickstart;
mod report;
mod reproduce;
mod revise;
mod score;
mod verify;
mod watch;

use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::options::EvalOptions;
use crate::options::flags::{self, Prepared};
use crate::options::parse::{Parsed, known_names, parse};
use crate::options::value::Raw;
use crate::options::{
    BcoOptions, ChatOptions, Command, CompareOptions, CompletionsOptions, CpoOptions, DataConvertOptions,
    DataDedupOptions, DataStatsOptions, DiffOptions, DoctorOptions, DpoOptions, EnvOptions, ExerciseOptions,
    ExportOptions, GenerateOptions, GrpoOptions, JudgeOptions, KtoOptions, MergeOptions, OnlineDpoOptions, OptionGroup,
    OptionSpec, OrpoOptions, PlotOptions, PpoOptions, PreviewOptions, PushOptions, QuickstartOptions, RaftOptions,
    ReinforceOptions, ReportOptions, ReproduceOptions, ReviseOptions, RewardOptions, RlooOptions, ScoreOptions,
    SftOptions, VerifyOptions, WatchOptions,
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

        /// The declarations of a command's options; none of an unknown one.
        fn specs_of(command: &str) -> Vec<&'static OptionSpec> {
            match command {
                $( $options::NAME => <$options as OptionGroup>::specs(), )*
                _ => Vec::new(),
            }
        }

        /// Reads a command's options.
        fn request_of(
            command: &str,
            matches: &clap::ArgMatches,
            foreign: &[(String, Raw)],
            hub: Option<Hub>,
        ) -> Result<Request> {
            match command {
                $( $options::NAME => parse(matches, foreign, hub).map(Box::new).map(Request::$command), )*
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
    Eval(EvalOptions) => eval::run,
    Generate(GenerateOptions) => generate::run,
    Chat(ChatOptions) => chat::run,
    Merge(MergeOptions) => merge::run,
    Export(ExportOptions) => export::run,
    Push(PushOptions) => push::run,
    Preview(PreviewOptions) => preview::run,
    DataStats(DataStatsOptions) => data_stats::run,
    DataConvert(DataConvertOptions) => data_convert::run,
    DataDedup(DataDedupOptions) => data_dedup::run,
    Judge(JudgeOptions) => judge::run,
    Revise(ReviseOptions) => revise::run,
    Plot(PlotOptions) => plot::run,
    Report(ReportOptions) => report::run,
    Watch(WatchOptions) => watch::run,
    Verify(VerifyOptions) => verify::run,
    Diff(DiffOptions) => diff::run,
    Reproduce(ReproduceOptions) => reproduce::run,
    Quickstart(QuickstartOptions) => quickstart::run,
    Exercise(ExerciseOptions) => exercise::run,
    Compare(CompareOptions) => compare_models::run,
    Doctor(DoctorOptions) => doctor::run,
    Env(EnvOptions) => environment::run,
    Completions(CompletionsOptions) => completions::run,
}

/// A command with its example at the end of its help.
fn with_example(name: &str, command: clap::Command) -> clap::Command {
    match help::example(name) {
        Some(example) => command.after_help(format!("Example:\n  {example}")),
        None => command,
    }
}

/// Words that several commands begin with, and what these have in common.
const FAMILIES: &[(&str, &str)] = &[("data", "Look at a file of rows, convert it, remove duplicates")];

/// The word that a command's name begins with, where it has two.
fn family_of(name: &str) -> Option<&str> {
    name.split_once(' ').map(|(family, _)| family)
}

/// The whole program as clap sees it.
pub fn program() -> clap::Command {
    let commands: Vec<(&str, clap::Command)> = COMMANDS.iter().copied().zip(declarations()).collect();
    let about = |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let abouts: BTreeMap<String, String> =
        commands.iter().map(|(name, command)| (name.to_string(), about(command))).collect();
    let (alone, nested): (Vec<_>, Vec<_>) = commands.into_iter().partition(|(name, _)| family_of(name).is_none());
    let mut families: Vec<clap::Command> = FAMILIES
        .iter()
        .map(|(family, about)| {
            clap::Command::new(*family).about(*about).subcommand_required(true).arg_required_else_help(true)
        })
        .collect();
    for (name, command) in nested {
        if let Some(family) = families.iter_mut().find(|family| Some(family.get_name()) == family_of(name)) {
            *family = family.clone().subcommand(with_example(name, command));
        }
    }
    clap::Command::new("lapidary")
        .about("Post-train language models on any GPU, or on the CPU")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(alone.into_iter().map(|(name, command)| with_example(name, command)))
        .subcommands(families)
        .help_template("{about}\n\n{usage-heading} {usage}\n{after-help}")
        .after_help(help::groups(&abouts))
}

/// Commands that take words without a flag, and the options that the words are, in order; the last takes all that follow.
const BARE: &[(&str, &[&str])] = &[
    ("compare", &["--models"]),
    ("plot", &["--run_dirs"]),
    ("report", &["--run_dirs"]),
    ("watch", &["--run_dirs"]),
    ("diff", &["--run_dirs"]),
    ("verify", &["--run_dir"]),
    ("reproduce", &["--run_dir"]),
    ("push", &["--model_dir", "--hub_model_id"]),
    ("completions", &["--shell"]),
    ("exercise", &["--number"]),
    ("score", &["--dataset_name"]),
    ("data stats", &["--dataset_name"]),
    ("data convert", &["--dataset_name", "--output_file"]),
    ("data dedup", &["--dataset_name", "--output_file"]),
];

/// The arguments with options' names before bare words that follow the command: `plot A B` is `plot --run_dirs A B`.
fn with_names(command: &str, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some((_, names)) = BARE.iter().find(|(of, _)| *of == command) else { return arguments };
    let mut at = 1 + command.split(' ').count();
    for name in *names {
        if !arguments.get(at).and_then(|word| word.to_str()).is_some_and(|word| word == "-" || !word.starts_with('-')) {
            break;
        }
        arguments.insert(at, (*name).into());
        at += 2;
    }
    arguments
}

/// The command that arguments begin with: one word, or two of a family.
fn command_of(arguments: &[OsString]) -> String {
    let word = |i: usize| arguments.get(i).and_then(|word| word.to_str()).unwrap_or_default();
    match FAMILIES.iter().any(|(family, _)| *family == word(1)) {
        true => format!("{} {}", word(1), word(2)),
        false => word(1).to_string(),
    }
}

/// Reads the arguments (the program's name first). Names on the hub stay as they are.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    read_with(arguments, None)
}

/// As [`read`]; names on the hub are looked up there and become paths.
pub fn read_with(arguments: impl IntoIterator<Item = OsString>, hub: Option<Hub>) -> Result<Request> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = command_of(&arguments);
    let mut names = names_of(&command);
    // Without a command clap says what is wrong.
    let is_none = names.is_empty();
    names.extend(["config", "help"]);
    let is_declared = |flag: &str| {
        is_none || names.iter().any(|name| flag == *name || flag.strip_prefix("no_").is_some_and(|rest| rest == *name))
    };
    let arguments = with_names(&command, arguments);
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
    let (_, mut matches) = matches.subcommand().unwrap_or(("", &matches));
    if let Some((_, nested)) = matches.subcommand() {
        matches = nested;
    }
    request_of(&command, matches, &foreign, hub)
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
        Error::Closed => 0,
        _ if changed => 1,
        Error::Output(_) | Error::Network(_) => 1,
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
    let done = read_with(std::env::args_os(), Some(Hub::of_environment()))
        .and_then(|request| interrupt::install().and_then(|()| carry_out(request)));
    if let Some(said) = crate::run::memory::said() {
        tell!("{said}");
    }
    match done {
        // `lapidary … | head`: who reads has enough.
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
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
        let read = |line: &str| with_names("plot", line.split(' ').map(OsString::from).collect());
        assert_eq!(
            read("lapidary plot a b --out c").join(&OsString::from(" ")),
            "lapidary plot --run_dirs a b --out c"
        );
        let pushed =
            with_names("push", ["lapidary", "push", "run", "a/b", "--hub_private_repo"].map(OsString::from).into());
        assert_eq!(
            pushed.join(&OsString::from(" ")),
            "lapidary push --model_dir run --hub_model_id a/b --hub_private_repo"
        );
        assert_eq!(read("lapidary plot --out c a").join(&OsString::from(" ")), "lapidary plot --out c a");
        let of = |line: &str| with_names("data convert", line.split(' ').map(OsString::from).collect());
        assert_eq!(
            of("lapidary data convert a b --to c").join(&OsString::from(" ")),
            "lapidary data convert --dataset_name a --output_file b --to c"
        );
        assert_eq!(
            of("lapidary data convert a --to c").join(&OsString::from(" ")),
            "lapidary data convert --dataset_name a --to c"
        );
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
        assert_eq!(exit_code(&Error::Closed, true), 0);
        assert_eq!(exit_code(&Error::Input(String::new()), true), 1);
    }
}
