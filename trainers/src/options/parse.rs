//! From arguments and a config file to a command's options: defaults, then the file, then the command line.
use super::accepted::{WithoutEffect, foreign};
use super::choices::ResumeFrom;
use super::file;
use super::flags;
use super::given::{Given, Origin, suggestion};
use super::hub_names::commits_of_run;
use super::spec::Command;
use super::value::{ANY, OptionValue, Raw, with_home};
use crate::error::{Error, Result};
use crate::hub::{Hub, Repo};
use clap::ArgMatches;
use std::path::{Path, PathBuf};

/// A command's options, and what its user should know about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<C> {
    /// The values, read and checked against each other.
    pub options: C,
    /// A line each: what was given without effect, or was settled for the user.
    pub notes: Vec<String>,
}

/// Every name that command C understands.
pub fn known_names<C: Command>() -> Vec<&'static str> {
    C::specs().iter().flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied())).collect()
}

/// Reads the options of command C from clap's matches; `strangers` are the flags that [`flags::prepare`] took out.
///
/// Errors: all names and values that are wrong, a line each; if the values are right, what contradicts each other as well.
///
/// Names on the hub are looked up in `hub`; without one they stay as they are.
pub fn parse<C: Command>(matches: &ArgMatches, strangers: &[(String, Raw)], hub: Option<Hub>) -> Result<Parsed<C>> {
    let mut given = Given::new(C::specs(), C::DEFAULTS);
    let mut without_effect = WithoutEffect::default();
    let mut wrong = Vec::new();
    if let Some(path) = matches.get_one::<String>("config") {
        wrong = read_file::<C>(Path::new(&with_home(path)), &mut given, &mut without_effect)?;
    }
    for (name, raw) in strangers {
        match foreign(name).map(|foreign| foreign.judge(raw)) {
            Some(Ok(reason)) => reason.into_iter().for_each(|reason| without_effect.add(name, reason)),
            Some(Err(detail)) => wrong.push(format!("--{name}: {detail}")),
            None => wrong.push(format!("unknown option --{name}{}", suggestion(name, "--", known_names::<C>()))),
        }
    }
    wrong.extend(flags::collect(matches, &C::specs(), &mut given));
    let values = given.wrong_values();
    if !values.is_empty() {
        wrong.extend(values);
        return Err(Error::Input(wrong.join("\n")));
    }
    let mut located = Vec::new();
    if wrong.is_empty() {
        given.hub = hub.map(|hub| hub.pinned(pins(&given)));
        given.locate_names(&mut located)?;
    }
    let mut options = C::read(&given)?;
    let checked = options.check(&given);
    if wrong.is_empty() {
        let notes = located.into_iter().chain(without_effect.notes()).chain(checked?).collect();
        return Ok(Parsed { options, notes });
    }
    Error::all([Err(Error::Input(wrong.join("\n"))), checked.map(|_| ())]).and(Err(Error::internal("no complaint")))
}

/// The commits of a run that is gone on with.
fn pins(given: &Given) -> Vec<(Repo, String)> {
    let resumes = given.text("resume_from_checkpoint").map(|text| ResumeFrom::parse(&Raw::Text(text.into()), ANY));
    let begins_anew = given.text("overwrite_output_dir").is_some_and(|text| text != "false");
    let directory = match resumes.flatten().unwrap_or(ResumeFrom::Auto) {
        ResumeFrom::Auto if begins_anew => None,
        ResumeFrom::Last | ResumeFrom::Auto => given.text("output_dir").map(|dir| with_home(dir).into()),
        ResumeFrom::Path(checkpoint) => Some(checkpoint.join("..")),
        ResumeFrom::Nothing => None,
    };
    directory.map(|directory: PathBuf| commits_of_run(&directory)).unwrap_or_default()
}

/// The options of command C from values by name, for programs: what is not named has its default. What a person at the command
/// line would be told goes to standard error.
pub fn options_of<C: Command>(values: &[(&str, &str)]) -> Result<C> {
    let words = values.iter().map(|(name, value)| format!("--{name}={value}"));
    let name = C::NAME.rsplit(' ').next().unwrap_or(C::NAME);
    let words = ["lapidary".to_string(), name.to_string()].into_iter().chain(words);
    let names = known_names::<C>();
    let prepared = flags::prepare(words.map(Into::into), |flag| names.contains(&flag));
    let program = clap::Command::new("lapidary").subcommand(flags::command::<C>());
    let matches = program.try_get_matches_from(prepared.arguments).map_err(|e| flags::complaint(&e, &names, &[]))?;
    let matches = matches.subcommand().map(|(_, matches)| matches).ok_or_else(|| Error::internal("no subcommand"))?;
    let parsed = parse::<C>(matches, &prepared.foreign, Some(Hub::of_environment()))?;
    parsed.notes.iter().for_each(|note| tell!("note: {note}"));
    Ok(parsed.options)
}

/// Puts the entries of a file into `given`; what is wrong with them, a line each.
fn read_file<C: Command>(path: &Path, given: &mut Given, without_effect: &mut WithoutEffect) -> Result<Vec<String>> {
    let file::Entries { entries, repeated: mut wrong } = file::read(path)?;
    if entries.iter().any(|entry| entry.key == "distributed_type" || entry.key == "compute_environment") {
        return Err(Error::Input(format!(
            "{}: a config of accelerate, which says how processes are started; what is wanted is a file of the trainer's \
             options, such as learning_rate: 1e-5",
            path.display()
        )));
    }
    for entry in entries {
        let at = format!("{}:{}", path.display(), entry.line);
        if let Some(spec) = given.spec(&entry.key) {
            if entry.key != spec.name && entry.raw == Raw::Null {
                // A file that lists all of TRL's options leaves the name that is not used at null.
                continue;
            }
            if given.has(spec.name) {
                wrong.push(format!("{at}: {} is given twice, by two of its names", spec.name));
                continue;
            }
            given.put(spec, entry.raw, Origin::File { path: path.into(), line: entry.line });
        } else if let Some(foreign) = foreign(&entry.key) {
            match foreign.judge(&entry.raw) {
                Ok(reason) => reason.into_iter().for_each(|reason| without_effect.add(&entry.key, reason)),
                Err(detail) => wrong.push(format!("{at}: {}: {detail}", entry.key)),
            }
        } else {
            let near = suggestion(&entry.key, "", known_names::<C>());
            wrong.push(format!("{at}: unknown option {}{near}", entry.key));
        }
    }
    Ok(wrong)
}
