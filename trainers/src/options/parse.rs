//! From arguments and a config file to a command's options: defaults, then the file, then the command line.
use super::accepted::{WithoutEffect, foreign};
use super::file;
use super::flags;
use super::given::{Given, Origin, suggestion};
use super::spec::Command;
use super::value::{Raw, with_home};
use crate::error::{Error, Result};
use clap::ArgMatches;
use std::path::Path;

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
pub fn parse<C: Command>(matches: &ArgMatches, strangers: &[(String, Raw)]) -> Result<Parsed<C>> {
    let mut given = Given::new(C::specs(), C::DEFAULTS);
    let mut without_effect = WithoutEffect::default();
    if let Some(path) = matches.get_one::<String>("config") {
        read_file::<C>(Path::new(&with_home(path)), &mut given, &mut without_effect)?;
    }
    for (name, raw) in strangers {
        if let Some(foreign) = foreign(name) {
            let reason = foreign.judge(raw).map_err(|e| Error::Input(format!("--{name}: {e}")))?;
            reason.inspect(|reason| without_effect.add(name, reason));
        }
    }
    flags::collect(matches, &C::specs(), &mut given)?;
    let mut options = C::read(&given)?;
    let notes = without_effect.notes().chain(options.check(&given)?).collect();
    Ok(Parsed { options, notes })
}

/// The options of command C from values by name, for programs: what is not named has its default. What a person at the command
/// line would be told goes to standard error.
pub fn options_of<C: Command>(values: &[(&str, &str)]) -> Result<C> {
    let words = values.iter().map(|(name, value)| format!("--{name}={value}"));
    let words = ["lapidary".to_string(), C::NAME.to_string()].into_iter().chain(words);
    let names = known_names::<C>();
    let prepared = flags::prepare(words.map(Into::into), |flag| names.contains(&flag));
    let program = clap::Command::new("lapidary").subcommand(flags::command::<C>());
    let matches = program.try_get_matches_from(prepared.arguments).map_err(|e| flags::complaint(&e, &names, &[]))?;
    let matches = matches.subcommand().map(|(_, matches)| matches).ok_or_else(|| Error::internal("no subcommand"))?;
    let parsed = parse::<C>(matches, &prepared.foreign)?;
    parsed.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(parsed.options)
}

fn read_file<C: Command>(path: &Path, given: &mut Given, without_effect: &mut WithoutEffect) -> Result<()> {
    for entry in file::read(path)? {
        let at = format!("{}:{}", path.display(), entry.line);
        if let Some(spec) = given.spec(&entry.key) {
            if entry.key != spec.name && entry.raw == Raw::Null {
                // A file that lists all of TRL's options leaves the name that is not used at null.
                continue;
            }
            if given.has(spec.name) {
                return Err(Error::Input(format!("{at}: {} is given twice, by two of its names", spec.name)));
            }
            given.put(spec, entry.raw, Origin::File { path: path.into(), line: entry.line });
        } else if let Some(foreign) = foreign(&entry.key) {
            let reason = foreign.judge(&entry.raw);
            let reason = reason.map_err(|e| Error::Input(format!("{at}: {}: {e}", entry.key)))?;
            reason.inspect(|reason| without_effect.add(&entry.key, reason));
        } else {
            let near = suggestion(&entry.key, "", known_names::<C>());
            return Err(Error::Input(format!("{at}: unknown option {}{near}", entry.key)));
        }
    }
    Ok(())
}
