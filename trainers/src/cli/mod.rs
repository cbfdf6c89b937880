//! The command line: finds the command, reads its options, calls it, and turns what went wrong into an exit code.
//!
//! Exit codes: 0 done, 1 this program, the device or the disk failed, 2 the input was wrong (one line says what; nothing was
//! touched).
mod doctor;
mod generate;
mod judge;
mod merge;
mod plot;
mod preview;
mod quickstart;
mod revise;
mod score;

use crate::error::{Error, Result};
use crate::options::flags::{self, Prepared};
use crate::options::parse::{Parsed, known_names, parse};
use crate::options::{
    BcoOptions, Command, CpoOptions, DoctorOptions, DpoOptions, GenerateOptions, GrpoOptions, JudgeOptions, KtoOptions,
    MergeOptions, OnlineDpoOptions, OrpoOptions, PlotOptions, PpoOptions, PreviewOptions, QuickstartOptions,
    ReinforceOptions, ReviseOptions, RewardOptions, RlooOptions, ScoreOptions, SftOptions,
};
use crate::policy_gradients::{grpo, online_dpo, ppo, reinforce, rloo};
use crate::preferences::{cpo, dpo, kto, orpo, reward_trainer};
use crate::sft;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Sft(Box<Parsed<SftOptions>>),
    Reinforce(Box<Parsed<ReinforceOptions>>),
    Ppo(Box<Parsed<PpoOptions>>),
    OnlineDpo(Box<Parsed<OnlineDpoOptions>>),
    Grpo(Box<Parsed<GrpoOptions>>),
    Rloo(Box<Parsed<RlooOptions>>),
    Reward(Box<Parsed<RewardOptions>>),
    Score(Parsed<ScoreOptions>),
    Dpo(Box<Parsed<DpoOptions>>),
    Orpo(Box<Parsed<OrpoOptions>>),
    Cpo(Box<Parsed<CpoOptions>>),
    Kto(Box<Parsed<KtoOptions>>),
    Bco(Box<Parsed<BcoOptions>>),
    Generate(Parsed<GenerateOptions>),
    Merge(Parsed<MergeOptions>),
    Preview(Parsed<PreviewOptions>),
    Judge(Parsed<JudgeOptions>),
    Revise(Parsed<ReviseOptions>),
    Plot(Parsed<PlotOptions>),
    Quickstart(Parsed<QuickstartOptions>),
    Doctor(Parsed<DoctorOptions>),
    /// Help or version text.
    Print(String),
    /// No command: the help, but as an error.
    Usage(String),
}

/// The whole program as clap sees it.
pub fn program() -> clap::Command {
    clap::Command::new("lapidary")
        .about("Post-train language models on any GPU, or on the CPU")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(flags::command::<SftOptions>())
        .subcommand(flags::command::<ReinforceOptions>())
        .subcommand(flags::command::<PpoOptions>())
        .subcommand(flags::command::<OnlineDpoOptions>())
        .subcommand(flags::command::<GrpoOptions>())
        .subcommand(flags::command::<RlooOptions>())
        .subcommand(flags::command::<RewardOptions>())
        .subcommand(flags::command::<ScoreOptions>())
        .subcommand(flags::command::<DpoOptions>())
        .subcommand(flags::command::<OrpoOptions>())
        .subcommand(flags::command::<CpoOptions>())
        .subcommand(flags::command::<KtoOptions>())
        .subcommand(flags::command::<BcoOptions>())
        .subcommand(flags::command::<GenerateOptions>())
        .subcommand(flags::command::<MergeOptions>())
        .subcommand(flags::command::<PreviewOptions>())
        .subcommand(flags::command::<JudgeOptions>())
        .subcommand(flags::command::<ReviseOptions>())
        .subcommand(flags::command::<PlotOptions>())
        .subcommand(flags::command::<QuickstartOptions>())
        .subcommand(flags::command::<DoctorOptions>())
}

const COMMANDS: &[&str] = &[
    SftOptions::NAME,
    ReinforceOptions::NAME,
    PpoOptions::NAME,
    OnlineDpoOptions::NAME,
    GrpoOptions::NAME,
    RlooOptions::NAME,
    RewardOptions::NAME,
    ScoreOptions::NAME,
    DpoOptions::NAME,
    OrpoOptions::NAME,
    CpoOptions::NAME,
    KtoOptions::NAME,
    BcoOptions::NAME,
    GenerateOptions::NAME,
    MergeOptions::NAME,
    PreviewOptions::NAME,
    JudgeOptions::NAME,
    ReviseOptions::NAME,
    PlotOptions::NAME,
    QuickstartOptions::NAME,
    DoctorOptions::NAME,
];

/// Option names of a command, for telling flags apart and for suggestions; empty for an unknown command.
fn names_of(command: &str) -> Vec<&'static str> {
    match command {
        SftOptions::NAME => known_names::<SftOptions>(),
        ReinforceOptions::NAME => known_names::<ReinforceOptions>(),
        PpoOptions::NAME => known_names::<PpoOptions>(),
        OnlineDpoOptions::NAME => known_names::<OnlineDpoOptions>(),
        GrpoOptions::NAME => known_names::<GrpoOptions>(),
        RlooOptions::NAME => known_names::<RlooOptions>(),
        RewardOptions::NAME => known_names::<RewardOptions>(),
        ScoreOptions::NAME => known_names::<ScoreOptions>(),
        DpoOptions::NAME => known_names::<DpoOptions>(),
        OrpoOptions::NAME => known_names::<OrpoOptions>(),
        CpoOptions::NAME => known_names::<CpoOptions>(),
        KtoOptions::NAME => known_names::<KtoOptions>(),
        BcoOptions::NAME => known_names::<BcoOptions>(),
        GenerateOptions::NAME => known_names::<GenerateOptions>(),
        MergeOptions::NAME => known_names::<MergeOptions>(),
        PreviewOptions::NAME => known_names::<PreviewOptions>(),
        JudgeOptions::NAME => known_names::<JudgeOptions>(),
        ReviseOptions::NAME => known_names::<ReviseOptions>(),
        PlotOptions::NAME => known_names::<PlotOptions>(),
        QuickstartOptions::NAME => known_names::<QuickstartOptions>(),
        DoctorOptions::NAME => known_names::<DoctorOptions>(),
        _ => Vec::new(),
    }
}

/// Reads the arguments (the program's name first).
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    let mut names = names_of(command);
    names.push("config");
    let is_declared = |flag: &str| {
        names.iter().any(|name| flag == *name || flag.strip_prefix("no_").is_some_and(|rest| rest == *name))
    };
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
    match matches.subcommand() {
        Some((SftOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Sft),
        Some((ReinforceOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Reinforce),
        Some((PpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Ppo),
        Some((OnlineDpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::OnlineDpo),
        Some((GrpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Grpo),
        Some((RlooOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Rloo),
        Some((RewardOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Reward),
        Some((ScoreOptions::NAME, m)) => parse(m, &foreign).map(Request::Score),
        Some((DpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Dpo),
        Some((OrpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Orpo),
        Some((CpoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Cpo),
        Some((KtoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Kto),
        Some((BcoOptions::NAME, m)) => parse(m, &foreign).map(Box::new).map(Request::Bco),
        Some((GenerateOptions::NAME, m)) => parse(m, &foreign).map(Request::Generate),
        Some((MergeOptions::NAME, m)) => parse(m, &foreign).map(Request::Merge),
        Some((PreviewOptions::NAME, m)) => parse(m, &foreign).map(Request::Preview),
        Some((JudgeOptions::NAME, m)) => parse(m, &foreign).map(Request::Judge),
        Some((ReviseOptions::NAME, m)) => parse(m, &foreign).map(Request::Revise),
        Some((PlotOptions::NAME, m)) => parse(m, &foreign).map(Request::Plot),
        Some((QuickstartOptions::NAME, m)) => parse(m, &foreign).map(Request::Quickstart),
        Some((DoctorOptions::NAME, m)) => parse(m, &foreign).map(Request::Doctor),
        _ => Err(Error::Internal("a command without a handler".into())),
    }
}

/// Carries a request out. Notes go to standard error before anything else happens.
pub fn carry_out(request: Request) -> Result<()> {
    match request {
        Request::Sft(parsed) => sft::train(&announced(*parsed)).map(|_| ()),
        Request::Reinforce(parsed) => reinforce::train(&announced(*parsed)).map(|_| ()),
        Request::Ppo(parsed) => ppo::train(&announced(*parsed)).map(|_| ()),
        Request::OnlineDpo(parsed) => online_dpo::train(&announced(*parsed)).map(|_| ()),
        Request::Grpo(parsed) => grpo::train(&announced(*parsed)).map(|_| ()),
        Request::Rloo(parsed) => rloo::train(&announced(*parsed)).map(|_| ()),
        Request::Reward(parsed) => reward_trainer::train(&announced(*parsed)).map(|_| ()),
        Request::Score(parsed) => score::run(&announced(parsed)),
        Request::Dpo(parsed) => dpo::train(&announced(*parsed)).map(|_| ()),
        Request::Orpo(parsed) => orpo::train(&announced(*parsed)).map(|_| ()),
        Request::Cpo(parsed) => cpo::train(&announced(*parsed)).map(|_| ()),
        Request::Kto(parsed) => kto::train_kto(&announced(*parsed)).map(|_| ()),
        Request::Bco(parsed) => kto::train_bco(&announced(*parsed)).map(|_| ()),
        Request::Generate(parsed) => generate::run(&announced(parsed)),
        Request::Merge(parsed) => merge::run(&announced(parsed)),
        Request::Preview(parsed) => preview::run(&announced(parsed)),
        Request::Judge(parsed) => judge::run(&announced(parsed)),
        Request::Revise(parsed) => revise::run(&announced(parsed)),
        Request::Plot(parsed) => plot::run(&announced(parsed)),
        Request::Quickstart(parsed) => quickstart::run(&announced(parsed)),
        Request::Doctor(parsed) => doctor::run(&announced(parsed)),
        Request::Print(text) => {
            print!("{text}");
            Ok(())
        }
        Request::Usage(help) => {
            eprintln!("{help}");
            Err(Error::Input("a command is missing".into()))
        }
    }
}

fn announced<C>(parsed: Parsed<C>) -> C {
    for note in &parsed.notes {
        eprintln!("note: {note}");
    }
    parsed.options
}

/// 2 if the person can put it right and nothing was touched, 1 if not. `changed`: the program has changed something on disk.
pub fn exit_code(error: &Error, changed: bool) -> u8 {
    use engine::Error as Engine;
    match error {
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
    match read(std::env::args_os()).and_then(carry_out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
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
    fn exit_codes() {
        assert_eq!(exit_code(&Error::Input(String::new()), false), 2);
        assert_eq!(exit_code(&Error::Data { path: "a".into(), line: 1, detail: String::new() }, false), 2);
        assert_eq!(exit_code(&Error::Engine(engine::Error::file("a", "missing")), false), 2);
        assert_eq!(exit_code(&Error::Internal(String::new()), false), 1);
        assert_eq!(exit_code(&Error::Output(String::new()), false), 1);
        assert_eq!(exit_code(&Error::Input(String::new()), true), 1);
    }
}
