//! The book and the README keep to what there is: commands are read by the program's own parser, options and defaults
//! compared with the declarations, rows of data read by the code that reads data, and files that are named must exist.
//!
//! What a page may hold, by the info string of a fenced block:
//! ```text
//! console            lines `$ lapidary …` (or `cargo run --release -- …`) must parse; other lines are output
//! console refused    they must not, with the line `error: …` that follows, if there is one
//! yaml               a first line `# NAME` makes it the file of `--config NAME` on this page
//! jsonl KIND         rows that sft | pairs | rankings | judged | prompts reads
//! rust,ignore PATH   lines that stand so in that file, one after another, perhaps further in
//! ```
//! A table under `<!-- options: COMMAND -->` has an option and its default in its first two columns; one under
//! `<!-- quoted: PATH#HEADING -->` is the first table under that heading of that file.
#[path = "book/markdown.rs"]
mod markdown;

use markdown::{Block, Page};
use std::fs;
use std::path::{Path, PathBuf};
use trainers::cli::{Request, program, read};
use trainers::data::format::{recognise, sft_row};
use trainers::data::preference_rows::{judged_rows, ranked_rows};
use trainers::data::{Calls, DataSet, Row, load};

/// Directories whose paths, named in backticks, must exist.
const TOP: [&str; 10] =
    [".ci", "benches", "book", "docs", "engine", "examples", "exercises", "shaders", "tests", "trainers"];
/// Flags of other programs that pages name.
const FOREIGN_FLAGS: [&str; 2] = ["release", "only"];
/// What a config file that a page does not show is taken to hold: the options that commands require.
const SOME_CONFIG: &str = "model_name_or_path: model\ndataset_name: rows.jsonl\noutput_dir: run\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn open(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    Page { path: path.into(), text }
}

fn chapters() -> Vec<PathBuf> {
    let dir = root().join("book/src");
    let mut all: Vec<PathBuf> = fs::read_dir(dir).expect("book/src").map(|e| e.expect("an entry").path()).collect();
    // Pictures lie beside the chapters.
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all.sort();
    all
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// Everything wrong with a page, a line each.
fn problems(page: &Page) -> Vec<String> {
    let mut all = Vec::new();
    let blocks = page.blocks();
    for block in &blocks {
        let found = match block.kind() {
            "console" => console(block, &blocks),
            "rust,ignore" => code_differs(block).err().into_iter().map(|e| (block.line, e)).collect(),
            "jsonl" => rows(block).err().into_iter().map(|e| (block.line, e)).collect(),
            _ => Vec::new(),
        };
        all.extend(found);
    }
    all.extend(page.option_rows().iter().filter_map(|row| Some((row.line, default_differs(row).err()?))));
    all.extend(page.quotations().iter().filter_map(|quoted| Some((quoted.line, quotation_differs(quoted).err()?))));
    for (line, link) in page.links() {
        let file = link.split('#').next().unwrap_or_default();
        let beside = root().join(&page.path).parent().expect("a directory").join(file);
        if !link.contains("://") && !beside.exists() {
            all.push((line, format!("the link {link} leads nowhere")));
        }
    }
    for (line, span) in page.spans() {
        all.extend(span_differs(&span).err().map(|e| (line, e)));
    }
    all.sort();
    all.into_iter().map(|(line, text)| format!("{}:{line}: {text}", page.path)).collect()
}

/// Commands of a block that the parser does not take as the page says.
fn console(block: &Block, blocks: &[Block]) -> Vec<(usize, String)> {
    let refused = block.info.split_whitespace().nth(1) == Some("refused");
    let mut all = Vec::new();
    for command in block.commands() {
        let outcome = markdown::words(&command.text).and_then(|words| check_words(&words, blocks));
        let wrong = match (outcome, refused) {
            (Ok(_), false) => None,
            (Err(error), false) => Some(error),
            (Ok(_), true) => Some("is taken, though the page says that it is refused".into()),
            (Err(error), true) => {
                let said = command.output.iter().find(|line| line.starts_with("error: "));
                said.filter(|said| **said != format!("error: {error}")).map(|_| format!("the error is: {error}"))
            }
        };
        all.extend(wrong.map(|wrong| (command.line, format!("{}: {wrong}", command.text))));
    }
    all
}

/// Reads a command line as the program would; of cargo's, whether its tests and benches are there.
fn check_words(words: &[String], blocks: &[Block]) -> Result<(), String> {
    if words.first().is_some_and(|w| w == "cargo") && !words.iter().any(|w| w == "run") {
        for pair in words.windows(2).filter(|pair| pair[0] == "--test" || pair[0] == "--bench") {
            let dirs: &[&str] =
                if pair[0] == "--test" { &["tests", "engine/tests", "trainers/tests"] } else { &["benches"] };
            let name = format!("{}.rs", pair[1]);
            let found = dirs.iter().any(|dir| root().join(dir).join(&name).exists());
            found.then_some(()).ok_or(format!("{}/{name} is not there", dirs[0]))?;
        }
    }
    let Some(mut arguments) = markdown::arguments_of_lapidary(words) else { return Ok(()) };
    for task in arguments.iter().filter(|w| w.starts_with("task:")) {
        trainers::policy_gradients::tasks::parse(task).map_err(|e| e.to_string())?;
    }
    // The only file that reading arguments opens.
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    if let Some(at) = arguments.iter().position(|w| w == "--config") {
        let name = arguments.get(at + 1).ok_or("--config without a file")?.clone();
        let shown = blocks.iter().find(|b| b.kind() == "yaml" && b.lines.first() == Some(&format!("# {name}")));
        let path = dir.path().join("config.yaml");
        let text = shown.map_or(SOME_CONFIG.to_string(), |block| block.lines.join("\n"));
        fs::write(&path, text).map_err(|e| e.to_string())?;
        arguments[at + 1] = path.display().to_string();
    }
    let all = std::iter::once("lapidary".to_string()).chain(arguments).map(Into::into);
    match read(all) {
        Ok(Request::Usage(_)) => Err("names no command".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Rows must be read by what the block says reads them.
fn rows(block: &Block) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, block.lines.join("\n")).map_err(|e| e.to_string())?;
    let rows: Vec<Row> = load(DataSet::of(&path), Calls::AsCalls).map_err(|e| e.to_string())?.rows;
    let first = rows.first().ok_or("no rows")?;
    let outcome = match block.info.split_whitespace().nth(1) {
        Some("sft") => {
            let format = recognise(first, "text").map_err(|e| e.to_string())?;
            rows.iter().try_for_each(|row| sft_row(row, format, "text").map(|_| ()))
        }
        Some("pairs") => ranked_rows(&rows, false).map(|_| ()),
        Some("rankings") => ranked_rows(&rows, true).map(|_| ()),
        Some("judged") => judged_rows(&rows).map(|_| ()),
        Some("prompts") => {
            let has = |row: &Row| row.fields.get("prompt").is_some_and(|p| p.is_string() || p.is_array());
            return rows.iter().all(has).then_some(()).ok_or("a row has no prompt".into());
        }
        other => return Err(format!("{other:?} is no kind of rows that this test knows")),
    };
    outcome.map_err(|e| e.to_string())
}

/// The default that the command's help states must be the table's.
fn default_differs(row: &markdown::OptionRow) -> Result<(), String> {
    let (command, name) = (&row.command, &row.name);
    let program = program();
    let command = program.find_subcommand(command).ok_or(format!("there is no command {command}"))?;
    let argument = command.get_arguments().find(|a| a.get_id().as_str() == name);
    let help = argument.and_then(|a| a.get_help()).ok_or(format!("{} has no option {name}", command.get_name()))?;
    let help = help.to_string();
    let stated = help.rsplit_once("[default: ").map_or(Some("required"), |(_, rest)| rest.strip_suffix(']'));
    let stated = stated.and_then(|text| text.split(", as in").next()).unwrap_or_default();
    (stated == row.default).then_some(()).ok_or(format!("{name} is {stated} by default, not {}", row.default))
}

/// A quoted table must be what it is quoted from, row by row.
fn quotation_differs(quoted: &markdown::Quotation) -> Result<(), String> {
    let text = fs::read_to_string(root().join(&quoted.path)).map_err(|e| format!("{}: {e}", quoted.path))?;
    let source = Page { path: quoted.path.clone(), text }.table_under(&quoted.heading);
    if source.is_empty() {
        return Err(format!("{} has no table under {:?}", quoted.path, quoted.heading));
    }
    let pairs = source.iter().map(Some).chain(std::iter::repeat(None)).zip(quoted.rows.iter().map(Some));
    match pairs.into_iter().find(|(there, here)| there != here) {
        Some((there, here)) => Err(format!("{} says {there:?}, not {here:?}", quoted.path)),
        None if quoted.rows.len() < source.len() => {
            Err(format!("{} goes on: {:?}", quoted.path, source[quoted.rows.len()]))
        }
        None => Ok(()),
    }
}

/// Quoted code must be what the file says, but for how far in it stands.
fn code_differs(block: &Block) -> Result<(), String> {
    let path = block.info.split_whitespace().nth(1).ok_or("which file is this from?")?;
    let text = fs::read_to_string(root().join(path)).map_err(|e| format!("{path}: {e}"))?;
    let there: Vec<&str> = text.lines().collect();
    let stands_at = |lines: &[&str]| {
        let further = lines[0].len().saturating_sub(block.lines[0].len());
        let same = |(there, here): (&&str, &String)| *there == format!("{}{here}", " ".repeat(further));
        lines.iter().zip(&block.lines).all(|pair| same(pair) || pair.0.is_empty() && pair.1.is_empty())
    };
    let n = block.lines.len();
    let found = n > 0 && there.windows(n).any(stands_at);
    found.then_some(()).ok_or(format!("{path} does not say this: {:?} …", block.lines.first()))
}

/// A path must exist; a flag must be some command's.
fn span_differs(span: &str) -> Result<(), String> {
    let first = span.split_whitespace().next().unwrap_or_default();
    let is_path = first.split_once('/').is_some_and(|(top, _)| TOP.contains(&top));
    let is_page = first.ends_with(".md") && !first.contains('/');
    if (is_path || is_page) && !root().join(first).exists() {
        return Err(format!("{first} is not there"));
    }
    let flag = first.strip_prefix("--").filter(|flag| flag.starts_with(|c: char| c.is_ascii_lowercase()));
    if let Some(name) = flag.map(|flag| flag.split('=').next().unwrap_or(flag).replace('-', "_")) {
        let program = program();
        let known = program
            .get_subcommands()
            .flat_map(|c| std::iter::once(c).chain(c.get_subcommands()))
            .flat_map(|c| c.get_arguments())
            .any(|argument| {
                let aliases = argument.get_all_aliases().unwrap_or_default();
                argument.get_long() == Some(&*name) || aliases.contains(&&*name)
            });
        if !known && name != "help" && !FOREIGN_FLAGS.contains(&&*name) {
            return Err(format!("no command has the option --{name}"));
        }
    }
    Ok(())
}

#[test]
fn the_book_says_what_is_so() {
    let mut all = problems(&open("README.md"));
    for path in chapters() {
        all.extend(problems(&open(&format!("book/src/{}", name_of(&path)))));
    }
    assert!(all.is_empty(), "{} places:\n{}", all.len(), all.join("\n"));
}

#[test]
fn the_summary_lists_every_chapter() {
    let listed: Vec<String> = open("book/src/SUMMARY.md").links().into_iter().map(|(_, link)| link).collect();
    let missing: Vec<String> =
        chapters().iter().map(|p| name_of(p)).filter(|name| name != "SUMMARY.md" && !listed.contains(name)).collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {missing:?}");
    assert!(listed.len() >= 12, "{listed:?}");
}

/// The checks see what is there: a book without commands, tables or rows would pass them all.
#[test]
fn there_is_something_to_check() {
    let pages: Vec<Page> = chapters().iter().map(|p| open(&format!("book/src/{}", name_of(p)))).collect();
    let blocks: Vec<Block> = pages.iter().flat_map(Page::blocks).collect();
    let commands: Vec<markdown::Command> = blocks.iter().flat_map(Block::commands).collect();
    let ours = commands.iter().filter_map(|c| markdown::arguments_of_lapidary(&markdown::words(&c.text).ok()?));
    let named: std::collections::BTreeSet<String> = ours.filter_map(|all| all.first().cloned()).collect();
    let untold: Vec<String> = program().get_subcommands().map(|c| c.get_name().to_string()).collect();
    let untold: Vec<&String> = untold.iter().filter(|name| !named.contains(*name)).collect();
    assert!(untold.is_empty(), "no example of {untold:?}");
    assert!(pages.iter().map(|p| p.option_rows().len()).sum::<usize>() > 100);
    assert!(blocks.iter().filter(|b| b.kind() == "jsonl").count() > 10);
    assert!(!open("README.md").quotations().is_empty(), "README quotes no table of benches/results");
    assert!(pages.iter().flat_map(Page::spans).filter(|(_, s)| s.starts_with("engine/")).count() > 30);
}

/// The test can fail: each planted mistake is found, where it stands.
#[test]
fn planted_mistakes_are_found() {
    let fence = "```";
    let console = |text: &str| format!("# Page\n\n{fence}console\n{text}\n{fence}\n");
    let sft = "lapidary sft --model_name_or_path m --dataset_name d --output_dir o";
    for (text, line, words) in [
        (console(&format!("$ {sft} --learning_rat 1e-3")), 4, "did you mean --learning_rate"),
        (console(&format!("$ {sft} \\\n    --learning_rate fast")), 4, "learning_rate"),
        (console(&format!("$ cat rows\n$ cargo run --release -- {} --lora_r 4", &sft[9..])), 5, "needs --use_peft"),
        (console("$ lapidary grpo --dataset_name 'task:additon'"), 4, "there is no task additon"),
        (console("$ lapidary stf"), 4, "unknown command"),
        (console("$ lapidary"), 4, "names no command"),
        (console("$ lapidary generate --prompt 'a"), 4, "quote"),
        (console("$ cargo test --test bok"), 4, "tests/bok.rs is not there"),
        (console("$ lapidary sft --help").replace("console", "console refused"), 4, "is taken"),
        (console("$ lapidary stf\nerror: no").replace("console", "console refused"), 4, "the error is"),
        (
            console("$ lapidary sft --config a.yaml") + &format!("{fence}yaml\n# a.yaml\nlearning_rte: 1\n{fence}\n"),
            4,
            "learning_rte",
        ),
        (format!("{fence}jsonl sft\n{{\"tex\": \"a\"}}\n{fence}\n"), 1, "tex"),
        (format!("{fence}jsonl pairs\n{{\"prompt\": \"a\", \"chosen\": \"b\"}}\n{fence}\n"), 1, "chosen"),
        (
            format!("{fence}jsonl judged\n{{\"prompt\": \"a\", \"completion\": \"b\", \"label\": 2}}\n{fence}\n"),
            1,
            "label",
        ),
        (format!("{fence}jsonl\n{{}}\n{fence}\n"), 1, "no kind of rows"),
        ("<!-- options: sft -->\n| O | D |\n|---|---|\n| `lora_r` | 8 |\n".into(), 4, "lora_r is 16 by default, not 8"),
        ("<!-- options: sft -->\n| O | D |\n|---|---|\n| `rank` | 8 |\n".into(), 4, "no option rank"),
        ("<!-- quoted: shaders/README.md#Others -->\n| a |".into(), 1, "has no table under"),
        ("<!-- quoted: shaders/README.md#The others -->\n| File | Sum |".into(), 1, "says"),
        ("<!-- quoted: shaders/README.md#The others -->\n| File | Sum order |".into(), 1, "goes on"),
        (format!("{fence}rust,ignore\na\n{fence}\n"), 1, "which file"),
        (format!("{fence}rust,ignore tests/book.rs\n#[test]\n#[test]\n{fence}\n"), 1, "does not say this"),
        ("See [this](nowhere.md).".into(), 1, "leads nowhere"),
        ("a\nSee `engine/src/nowhere.rs`.".into(), 2, "engine/src/nowhere.rs is not there"),
        ("Give `--lora_rank 8`.".into(), 1, "--lora_rank"),
    ] {
        let found = problems(&Page { path: "book/src/planted.md".into(), text: text.clone() });
        let at = format!("book/src/planted.md:{line}: ");
        let fits = found.len() == 1 && found[0].starts_with(&at) && found[0].contains(words);
        assert!(fits, "{text}\nfound {found:#?}, not {words:?} in line {line}");
    }
}

#[test]
fn sound_pages_pass() {
    let fence = "```";
    let text = format!(
        "See [data](data.md), [there](https://example.org), `engine/src/forest.rs`, `--use-cpu` and `tests/golden`.\n\
         {fence}console\n$ LAPIDARY_GOLDEN=x cargo test --test book\n$ lapidary preview --model_name_or_path m \\\n    \
         --dataset_name 'a b.jsonl' | head\nlapidary is not a command here\n{fence}\n\
         {fence}text\n$ lapidary nonsense\n{fence}\n"
    );
    assert_eq!(problems(&Page { path: "book/src/planted.md".into(), text }), Vec::<String>::new());
}
