//! What a Markdown page holds that can be checked: fenced blocks, command lines, links, code spans, option tables.
//! Lines count from 1.

/// A page, its path from the repository's root.
pub struct Page {
    pub path: String,
    pub text: String,
}

/// A fenced block: what stands behind the fence, the fence's line, the lines between.
pub struct Block {
    pub info: String,
    pub line: usize,
    pub lines: Vec<String>,
}

/// A command of a console block, continued lines joined, and what it prints.
pub struct Command {
    pub line: usize,
    pub text: String,
    pub output: Vec<String>,
}

/// A row of a table of options.
pub struct OptionRow {
    pub command: String,
    pub line: usize,
    pub name: String,
    pub default: String,
}

/// A table that is quoted from another file: the line of its mark, where it stands, its rows here.
pub struct Quotation {
    pub line: usize,
    pub path: String,
    pub heading: String,
    pub rows: Vec<String>,
}

const FENCE: &str = "```";

impl Page {
    pub fn blocks(&self) -> Vec<Block> {
        let (mut all, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
        for (i, line) in self.text.lines().enumerate() {
            match (open.take(), line.strip_prefix(FENCE)) {
                (Some(block), Some(_)) => all.push(block),
                (Some(mut block), None) => {
                    block.lines.push(line.into());
                    open = Some(block);
                }
                (None, Some(info)) => open = Some(Block { info: info.trim().into(), line: i + 1, lines: vec![] }),
                (None, None) => {}
            }
        }
        all.extend(open);
        all
    }

    /// The lines outside fenced blocks, numbered.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut is_prose = |line: &str| {
            let fence = line.starts_with(FENCE);
            inside ^= fence;
            !inside && !fence
        };
        self.text.lines().enumerate().filter(|(_, line)| is_prose(line)).map(|(i, line)| (i + 1, line)).collect()
    }

    /// Targets of links, `[text](target)`, outside code.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        for (number, line) in self.prose() {
            let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
            let targets = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            all.extend(targets.map(|(target, _)| (number, target.to_string())));
        }
        all
    }

    /// What stands between backticks. A span that goes on in the next line is joined.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut all: Vec<(usize, String)> = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in self.prose() {
            if line.trim().is_empty() {
                open = None;
            }
            for (i, piece) in line.split('`').enumerate() {
                if i > 0 {
                    open = match open.take() {
                        Some(span) => {
                            all.push(span);
                            None
                        }
                        None => Some((number, String::new())),
                    };
                }
                if let Some((_, text)) = &mut open {
                    *text += piece;
                }
            }
            if let Some((_, text)) = &mut open {
                *text += " ";
            }
        }
        all
    }

    /// Tables that stand under `<!-- quoted: PATH#HEADING -->`.
    pub fn quotations(&self) -> Vec<Quotation> {
        let (prose, mut all) = (self.prose(), Vec::new());
        for (i, (line, text)) in prose.iter().enumerate() {
            let mark = text.strip_prefix("<!-- quoted: ").and_then(|rest| rest.strip_suffix(" -->"));
            if let Some((path, heading)) = mark.and_then(|mark| mark.split_once('#')) {
                let rows = prose[i + 1..].iter().take_while(|(_, row)| row.starts_with('|'));
                let rows = rows.map(|(_, row)| row.to_string()).collect();
                all.push(Quotation { line: *line, path: path.into(), heading: heading.into(), rows });
            }
        }
        all
    }

    /// The first table under a heading of any level.
    pub fn table_under(&self, heading: &str) -> Vec<String> {
        let is_it = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
        let behind = self.prose().into_iter().map(|(_, line)| line).skip_while(|line| !is_it(line)).skip(1);
        let inside = behind.take_while(|line| !line.starts_with('#')).skip_while(|line| !line.starts_with('|'));
        inside.take_while(|line| line.starts_with('|')).map(String::from).collect()
    }

    /// Rows of the tables that stand under `<!-- options: COMMAND -->`.
    pub fn option_rows(&self) -> Vec<OptionRow> {
        let (mut all, mut command, mut row) = (Vec::new(), None, 0);
        for (line, text) in self.prose() {
            if let Some(rest) = text.strip_prefix("<!-- options: ") {
                (command, row) = (rest.strip_suffix(" -->").map(str::to_string), 0);
            } else if let (Some(command), Some(cells)) = (&command, text.strip_prefix('|')) {
                row += 1;
                let mut cells = cells.split('|').map(|cell| cell.trim().trim_matches('`').to_string());
                // The first two rows are the heading and the line under it.
                if let (true, Some(name), Some(default)) = (row > 2, cells.next(), cells.next()) {
                    all.push(OptionRow { command: command.clone(), line, name, default });
                }
            } else {
                command = None;
            }
        }
        all
    }
}

impl Block {
    /// The first word behind the fence.
    pub fn kind(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    /// Lines that begin with `$ `, joined with the next where they end in a backslash.
    pub fn commands(&self) -> Vec<Command> {
        let mut all: Vec<Command> = Vec::new();
        let mut goes_on = false;
        for (i, line) in self.lines.iter().enumerate() {
            let part = line.strip_suffix('\\').unwrap_or(line);
            match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(_), _) if !goes_on => {
                    let text = part["$ ".len()..].trim_end().to_string();
                    all.push(Command { line: self.line + 1 + i, text, output: vec![] });
                }
                (_, Some(last)) if goes_on => last.text += &format!(" {}", part.trim()),
                (_, Some(last)) => last.output.push(line.clone()),
                (_, None) => {}
            }
            goes_on = line.ends_with('\\');
        }
        all
    }
}

/// The words of a command line up to a pipe, redirection or comment; quotes keep blanks.
pub fn words(command: &str) -> Result<Vec<String>, String> {
    let (mut all, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) = (vec![], None, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | ';' | '#') => break,
            (None, _) if c.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    if quote.is_some() { Err("a quote is not closed".into()) } else { Ok(all) }
}

/// The arguments if the words call lapidary, by its name or by `cargo run … --`; variables set before are passed over.
pub fn arguments_of_lapidary(words: &[String]) -> Option<Vec<String>> {
    let is_variable =
        |w: &&String| w.split_once('=').is_some_and(|(n, _)| n.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let words: Vec<&String> = words.iter().skip_while(is_variable).collect();
    match words.as_slice() {
        [program, rest @ ..] if *program == "lapidary" || program.ends_with("/lapidary") => {
            Some(rest.iter().map(|w| w.to_string()).collect())
        }
        [cargo, run, rest @ ..] if *cargo == "cargo" && *run == "run" => {
            let at = rest.iter().position(|w| *w == "--")?;
            Some(rest[at + 1..].iter().map(|w| w.to_string()).collect())
        }
        _ => None,
    }
}
