//! What compilers say of kernels, as figures, as a table, and beside a table of before.
use super::devices::Maker;
use std::collections::BTreeMap;
use std::fmt;

/// One kernel on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The device does not take such kernels.
    Skipped,
    Made(Figures),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of a thread; on Intel the most that live at once.
    pub registers: u32,
    /// Subgroups that a SIMD, or a multiprocessor, holds at once; threads of a core on Apple's; numbers in a vector on Intel's.
    pub waves: u32,
    /// Registers that were put into memory.
    pub spills: u32,
    /// Bytes of a thread's memory, where that is not for spills.
    pub scratch: u32,
    /// Instructions of matrix units.
    pub matrix: u32,
}

impl Figures {
    /// Of what the worker printed: `name=value`, parted by tabs.
    pub fn read(maker: Maker, said: &str) -> Result<Figures, String> {
        let all: BTreeMap<&str, f64> = said
            .split('\t')
            .filter_map(|pair| pair.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?))))
            .collect();
        let get = |name: &str| all.get(name).map(|&v| v as u32).ok_or_else(|| format!("no {name:?} in {said:?}"));
        let (registers, waves, spills, scratch) = match maker {
            Maker::Amd => {
                let spills = get("Spilled VGPRs")? + get("Spilled SGPRs")?;
                (get("VGPRs")?, get("Subgroups per SIMD")?, spills, get("Scratch size")?)
            }
            Maker::Nvidia => (get("Number of GPRs")?, get("Max warps/SM")?, get("Spills to memory")?, get("SLM size")?),
            Maker::Apple => (get("GPRs")?, get("Threads")?, get("Spills")?, get("Scratch")?),
            Maker::Qualcomm => (get("Registers used")?, get("Max Waves Per Core")?, get("STP Count")?, 0),
            Maker::Intel => (get("Max live registers")?, get("subgroup")?, get("Spills")?, get("Scratch Memory Size")?),
        };
        let scratch = if spills > 0 { 0 } else { scratch };
        Ok(Figures { registers, waves, spills, scratch, matrix: get("matrix")? })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell::Made(Figures { registers, waves, spills, scratch, matrix }) = self else { return f.write_str("–") };
        write!(f, "{registers}/{waves}")?;
        for (letter, number) in [('s', spills), ('c', scratch), ('m', matrix)] {
            if *number > 0 {
                write!(f, " {letter}{number}")?;
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Cell {
    type Err = String;
    fn from_str(text: &str) -> Result<Cell, String> {
        if text == "–" {
            return Ok(Cell::Skipped);
        }
        let wrong = || format!("{text:?} is no cell of the table");
        let mut words = text.split(' ');
        let (registers, waves) = words.next().and_then(|word| word.split_once('/')).ok_or_else(wrong)?;
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
        let mut figures = Figures { registers: number(registers)?, waves: number(waves)?, ..Figures::default() };
        for word in words {
            let (letter, digits) = word.split_at_checked(1).ok_or_else(wrong)?;
            match letter {
                "s" => figures.spills = number(digits)?,
                "c" => figures.scratch = number(digits)?,
                "m" => figures.matrix = number(digits)?,
                _ => return Err(wrong()),
            }
        }
        Ok(Cell::Made(figures))
    }
}

/// Kernels and devices: a cell for each pair.
#[derive(Default)]
pub struct Table {
    pub mesa: String,
    pub devices: Vec<String>,
    pub rows: BTreeMap<String, Vec<Cell>>,
}

const VERSION: &str = "Mesa ";

impl Table {
    /// The result file's table. Errors: it is no such table.
    pub fn parse(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix(VERSION) {
                table.mesa = rest.split([',', ' ']).next().unwrap_or_default().to_string();
            }
            let cells: Vec<&str> =
                line.trim_start_matches("| ").trim_end_matches(" |").split(" | ").map(str::trim).collect();
            match cells.first() {
                Some(&"kernel") => table.devices = cells.iter().skip(1).map(|d| d.to_string()).collect(),
                Some(name) if line.starts_with("| `") && cells.len() == table.devices.len() + 1 => {
                    let row: Result<Vec<Cell>, String> = cells.iter().skip(1).map(|cell| cell.parse()).collect();
                    table.rows.insert(name.trim_matches('`').to_string(), row?);
                }
                _ => {}
            }
        }
        Ok(table)
    }

    pub fn cell(&self, kernel: &str, device: &str) -> Option<Cell> {
        let column = self.devices.iter().position(|d| d == device)?;
        self.rows.get(kernel)?.get(column).copied()
    }

    /// Its columns, and those that another table of the same kernels and compilers has besides, in this order.
    pub fn beside(&self, other: &Table, order: &[&str]) -> Table {
        let is_same = other.mesa == self.mesa && other.rows.keys().eq(self.rows.keys());
        let has = |table: &Table, name: &str| table.devices.iter().any(|d| d == name);
        let devices = order.iter().filter(|name| has(self, name) || is_same && has(other, name));
        let mut all = Table { mesa: self.mesa.clone(), ..Table::default() };
        for name in devices {
            let from = if has(self, name) { self } else { other };
            all.devices.push(name.to_string());
            for kernel in self.rows.keys() {
                let cell = from.cell(kernel, name).unwrap_or(Cell::Skipped);
                all.rows.entry(kernel.clone()).or_default().push(cell);
            }
        }
        all
    }

    /// Of each device how many kernels it takes, how many of them spill, the least waves and what has them.
    pub fn summary(&self) -> String {
        let mut text = String::from(
            "| device | kernels | spill | fewest waves | with matrix instructions |\n|---|---|---|---|---|\n",
        );
        for (column, device) in self.devices.iter().enumerate() {
            let made = self.rows.iter().filter_map(|(name, row)| match row.get(column) {
                Some(Cell::Made(figures)) => Some((name, *figures)),
                _ => None,
            });
            let made: Vec<_> = made.collect();
            let spill = made.iter().filter(|(_, f)| f.spills > 0).count();
            let matrix = made.iter().filter(|(_, f)| f.matrix > 0).count();
            let fewest = made.iter().min_by_key(|(_, f)| f.waves);
            let fewest = fewest.map_or(String::new(), |(name, f)| format!("{}: `{name}`", f.waves));
            text += &format!("| {device} | {} | {spill} | {fewest} | {matrix} |\n", made.len());
        }
        text
    }

    /// Kernels as rows, devices as columns.
    pub fn body(&self) -> String {
        let mut text =
            format!("| kernel | {} |\n|{}\n", self.devices.join(" | "), "---|".repeat(self.devices.len() + 1));
        for (kernel, row) in &self.rows {
            let cells: Vec<String> = row.iter().map(Cell::to_string).collect();
            text += &format!("| `{kernel}` | {} |\n", cells.join(" | "));
        }
        text
    }
}

/// What is worse, or not true any more, against the table of before. The compilers of another version of Mesa may take a quarter more
/// registers, and keep a quarter fewer waves; nothing may spill that did not.
pub fn compare(name: &str, before: Option<Cell>, now: Cell, is_same_mesa: bool) -> Option<String> {
    let Some(before) = before else { return Some(format!("{name}: not in the table")) };
    if before == now {
        return None;
    }
    let is_within = match (before, now) {
        (Cell::Made(b), Cell::Made(n)) => {
            n.spills <= b.spills
                && n.scratch <= b.scratch
                && 4 * n.registers <= 5 * b.registers + 16
                && 4 * n.waves >= 3 * b.waves
                && (n.matrix > 0) == (b.matrix > 0)
        }
        _ => false,
    };
    (is_same_mesa || !is_within).then(|| format!("{name}: {now}, in the table {before}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_they_are_written() {
        let made = |registers, waves, spills, scratch, matrix| {
            Cell::Made(Figures { registers, waves, spills, scratch, matrix })
        };
        for (cell, text) in [
            (Cell::Skipped, "–"),
            (made(84, 8, 0, 0, 0), "84/8"),
            (made(255, 384, 31, 0, 0), "255/384 s31"),
            (made(24, 48, 0, 60, 0), "24/48 c60"),
            (made(96, 4, 0, 0, 8), "96/4 m8"),
        ] {
            assert_eq!((cell.to_string().as_str(), text.parse()), (text, Ok(cell)));
        }
        assert!("84".parse::<Cell>().is_err() && "84/8 x3".parse::<Cell>().is_err());
    }

    #[test]
    fn worse_than_before_is_told() {
        let compare = |before: &str, now: &str, same| compare("k", before.parse().ok(), now.parse().unwrap(), same);
        assert_eq!(compare("84/8", "84/8", true), None);
        assert!(compare("84/8", "85/8", true).is_some());
        for now in ["85/8", "104/6", "60/12"] {
            assert_eq!(compare("84/8", now, false), None, "{now}");
        }
        for now in ["84/8 s1", "84/8 c4", "120/8", "84/5", "84/8 m1", "–"] {
            assert!(compare("84/8", now, false).is_some(), "{now}");
        }
        assert_eq!(compare("96/4 s9 m8", "96/4 s8 m4", false), None);
        assert!(compare("96/4 m8", "96/4", false).is_some());
        assert!(compare("no cell", "84/8", false).is_some_and(|said| said.contains("not in the table")));
    }

    #[test]
    fn a_table_is_read_as_it_is_written() {
        let row = |cells: [&str; 2]| cells.map(|c| c.parse().unwrap()).to_vec();
        let rows = BTreeMap::from([("a".into(), row(["84/8", "–"])), ("b-X1".into(), row(["1/2 s3", "4/5 m6"]))]);
        let table = Table { mesa: "26.2.6-1".into(), devices: vec!["x".into(), "y".into()], rows };
        let text = format!("Mesa 26.2.6-1, of Debian\n`a file` in a sentence\n\n{}\n{}", table.summary(), table.body());
        let read = Table::parse(&text).unwrap();
        assert_eq!((&read.mesa, &read.devices, &read.rows), (&table.mesa, &table.devices, &table.rows));
        assert_eq!(read.cell("b-X1", "y"), "4/5 m6".parse().ok());
        // One column made anew, the other kept.
        let rows = BTreeMap::from([("a".into(), vec!["9/9".parse().unwrap()]), ("b-X1".into(), vec![Cell::Skipped])]);
        let one = Table { mesa: "26.2.6-1".into(), devices: vec!["y".into()], rows };
        let both = one.beside(&read, &["z", "y", "x"]);
        assert_eq!(
            (both.devices.join(" "), both.cell("a", "y"), both.cell("a", "x")),
            ("y x".into(), "9/9".parse().ok(), "84/8".parse().ok())
        );
        assert_eq!(Table { mesa: "27".into(), ..one }.beside(&read, &["y", "x"]).devices, ["y"]);
    }
}
