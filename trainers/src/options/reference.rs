//! The options as a page of documentation, made from the declarations.
use super::flags::default_text;
use super::spec::Command;
use std::fmt::Write;

/// A Markdown section about command C: a table for each group of options.
pub fn markdown<C: Command>() -> String {
    let mut page = format!("## lapidary {}\n\n{}.\n", C::NAME, C::ABOUT);
    let mut group = "";
    for spec in C::specs() {
        if spec.group != group {
            group = spec.group;
            // Writing to a String cannot fail.
            let _ = write!(page, "\n### {group}\n\n| Option | What it does | It takes |\n|---|---|---|\n");
        }
        let names: Vec<String> =
            std::iter::once(spec.name).chain(spec.aliases.iter().copied()).map(|name| format!("`{name}`")).collect();
        let default = default_text(spec, C::DEFAULTS);
        let cell = |text: String| text.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| {} | {} {} | {} |",
            names.join(", "),
            cell(spec.paragraph()),
            cell(default),
            cell(spec.accepts())
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::sft::SftOptions;
    use super::*;

    #[test]
    fn every_option_is_on_the_page() {
        let page = markdown::<SftOptions>();
        for spec in <SftOptions as super::super::spec::OptionGroup>::specs() {
            assert!(page.contains(&format!("| `{}`", spec.name)), "{}", spec.name);
        }
        assert!(page.contains("[default: 2e-5, as in TRL]"), "{page}");
    }
}
