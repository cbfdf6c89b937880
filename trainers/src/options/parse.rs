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
