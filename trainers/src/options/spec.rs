//! The declaration of an option: one line gives the struct's field, the parser, the YAML key, the help and the docs.
use super::given::Given;
use super::value::{Kind, Range, Raw, describe};
use crate::error::Result;
use serde_json::{Map, Value};

/// Where an option's name and default come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// TRL's command line.
    Trl,
    /// transformers' TrainingArguments or generation settings, or an earlier release's name for one.
    Transformers,
    /// Ours alone.
    Lapidary,
}

impl Source {
    /// As a person writes it.
    pub fn name(self) -> &'static str {
        match self {
            Source::Trl => "TRL",
            Source::Transformers => "transformers",
            Source::Lapidary => "lapidary",
        }
    }
}

/// What an option is where it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// It must be given.
    Required,
    /// It must be given, unless the option of this name is, which then stands in its place.
    RequiredUnless(&'static str),
    /// Absent: what it would choose stays off.
    None,
    /// As one would write it.
    Written(&'static str),
}

/// Everything there is to know about one option.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The field's, the flag's and the YAML key's name.
    pub name: &'static str,
    /// `no_<name>`: the flag that switches a boolean off.
    pub negative: &'static str,
    /// Other names it goes by in TRL and transformers.
    pub aliases: &'static [&'static str],
    /// The heading it stands under in the help.
    pub group: &'static str,
    /// What a value looks like, for help and errors.
    pub kind: Kind,
    /// Which numbers are accepted.
    pub range: Range,
    /// Whether `null` is a value.
    pub optional: bool,
    /// Its value where it is not given.
    pub default: DefaultValue,
    /// Where name and default come from.
    pub source: Source,
    /// Parses a value and writes it in its one normal form.
    pub normal: fn(&Raw, Range) -> Option<Value>,
    /// What is wrong with a value that does not parse, where more can be said than what is accepted.
    pub complaint: fn(&Raw) -> Option<String>,
    /// As written above the field, one line each.
    pub doc: &'static str,
    /// May differ when a run is resumed: it changes what is shown and kept, not what is computed.
    pub free_on_resume: bool,
}

impl OptionSpec {
    /// The doc comment as one paragraph.
    pub fn paragraph(&self) -> String {
        self.doc.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
    /// What it accepts, in words.
    pub fn accepts(&self) -> String {
        describe(self.kind, self.range, self.optional)
    }
    /// Whether `name` is this option's name or another name of it.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// A struct of options, each field declared once. Made by [`option_group!`] and [`option_set!`].
pub trait OptionGroup: Sized {
    /// The declarations, in the order of the help.
    fn specs() -> Vec<&'static OptionSpec>;
    /// Reads what was given, and the defaults of what was not.
    fn read(given: &Given) -> Result<Self>;
    /// Adds every option with its value, in declaration order.
    fn write(&self, to: &mut Map<String, Value>);
}

/// A command with its options.
pub trait Command: OptionGroup {
    /// What it is called on the command line.
    const NAME: &'static str;
    /// One line for the help.
    const ABOUT: &'static str;
    /// Defaults that differ from those of the shared groups: (option, as written).
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[];
    /// Options that contradict each other are an error; what is legal but without effect is a note.
    fn check(&mut self, given: &Given) -> Result<Vec<String>>;
}

/// Every option with its value: what `config.yaml` in the output directory holds. What came from the hub has its name and
/// commit; a secret is left out.
pub fn resolved<G: OptionGroup>(options: &G) -> Map<String, Value> {
    let mut map = Map::new();
    options.write(&mut map);
    SECRET.iter().for_each(|name| drop(map.shift_remove(*name)));
    super::hub_names::name_paths(&mut map);
    map
}

/// Options that are written nowhere.
const SECRET: [&str; 1] = ["hub_token"];

/// The options that decide what a run computes: they must be the same when it is resumed.
pub fn fingerprint<G: OptionGroup>(options: &G) -> Map<String, Value> {
    let mut map = resolved(options);
    for spec in G::specs().iter().filter(|spec| spec.free_on_resume) {
        map.shift_remove(spec.name);
    }
    map
}

/// Declares a group of options:
/// ```text
/// /// What the group is about.
/// pub struct Group "Heading in the help" {
///     /// What the option does, with its unit.
///     name | other_name: Type = "default", Source, range, free;
/// }
/// ```
/// The default is as one would write it, or `none`, or `required`, or `(required unless other_name)`. The range (and `free`: see
/// [`OptionSpec::free_on_resume`]) may be left out.
macro_rules! option_group {
    ($(#[$meta:meta])* pub struct $group:ident $heading:literal {$(
        $(#[doc = $doc:literal])+
        $name:ident $(| $alias:ident)* : $type:ty = $default:tt, $source:ident $(, $range:expr $(, $free:ident)?)?;
    )*}) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $group {$( $(#[doc = $doc])+ pub $name: $type, )*}

        impl $group {
            /// The declarations of the fields, in their order.
            pub const SPECS: &'static [$crate::options::spec::OptionSpec] = &[$(
                $crate::options::spec::OptionSpec {
                    name: stringify!($name),
                    negative: concat!("no_", stringify!($name)),
                    aliases: &[$(stringify!($alias)),*],
                    group: $heading,
                    kind: <$type as $crate::options::value::OptionValue>::KIND,
                    #[allow(unused_mut, unused_assignments)]
                    range: { let mut range = $crate::options::value::ANY; $(range = $range;)? range },
                    optional: <$type as $crate::options::value::OptionValue>::OPTIONAL,
                    default: $crate::options::spec::default_value!($default),
                    source: $crate::options::spec::Source::$source,
                    normal: |raw, range| {
                        let value = <$type as $crate::options::value::OptionValue>::parse(raw, range)?;
                        Some($crate::options::value::OptionValue::write(&value))
                    },
                    complaint: <$type as $crate::options::value::OptionValue>::complaint,
                    doc: concat!($($doc, "\n"),+),
                    free_on_resume: $crate::options::spec::is_free!($($($free)?)?),
                }
            ),*];
        }

        impl $crate::options::spec::OptionGroup for $group {
            fn specs() -> Vec<&'static $crate::options::spec::OptionSpec> {
                Self::SPECS.iter().collect()
            }
            fn read(given: &$crate::options::given::Given) -> $crate::Result<Self> {
                Ok($group {$( $name: given.read(stringify!($name))?, )*})
            }
            fn write(&self, to: &mut serde_json::Map<String, serde_json::Value>) {
                $( to.insert(stringify!($name).into(), $crate::options::value::OptionValue::write(&self.$name)); )*
            }
        }
    };
}

/// Declares a struct of option groups.
macro_rules! option_set {
    ($(#[$meta:meta])* pub struct $set:ident {$( $(#[$field_meta:meta])* pub $field:ident: $group:ty, )*}) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $set {$( $(#[$field_meta])* #[doc = concat!("The options of [`", stringify!($group), "`].")] pub $field: $group, )*}

        impl $crate::options::spec::OptionGroup for $set {
            fn specs() -> Vec<&'static $crate::options::spec::OptionSpec> {
                let mut specs = Vec::new();
                $( specs.extend(<$group>::specs()); )*
                specs
            }
            fn read(given: &$crate::options::given::Given) -> $crate::Result<Self> {
                Ok($set {$( $field: <$group>::read(given)?, )*})
            }
            fn write(&self, to: &mut serde_json::Map<String, serde_json::Value>) {
                $( self.$field.write(to); )*
            }
        }
    };
}

macro_rules! default_value {
    (none) => {
        $crate::options::spec::DefaultValue::None
    };
    (required) => {
        $crate::options::spec::DefaultValue::Required
    };
    ((required unless $other:ident)) => {
        $crate::options::spec::DefaultValue::RequiredUnless(stringify!($other))
    };
    ($text:literal) => {
        $crate::options::spec::DefaultValue::Written($text)
    };
}

macro_rules! is_free {
    () => {
        false
    };
    (free) => {
        true
    };
}

pub(crate) use {default_value, is_free, option_group, option_set};
