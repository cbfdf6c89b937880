//! `lapidary data stats|convert|dedup`: what is in a file of rows, and the same rows in another form.
use super::adapted::take_base;
use super::choices::RowFormat;
use super::given::Given;
use super::groups::SplitOptions;
use super::spec::{Command, option_group, option_set};
use super::value::{Location, at_least, share_above_zero};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// What is looked at.
    pub struct SurveyedOptions "Statistics" {
        /// The data set: a file of rows (.jsonl, .json, .csv, .tsv, .parquet; .gz and .zst where text is compressed), or a
        /// directory of them.
        dataset_name: Location = required, Trl;
        /// The model whose tokens lengths are counted in: a directory in Hugging Face layout, or a .gguf file; none for
        /// characters.
        model_name_or_path: Option<Location> = none, Trl;
        /// How many rows are longer than this is told, in tokens; none for not.
        max_length: Option<usize> = "1024", Trl, at_least(1.0);
        /// The column that holds the text of plain language-modelling rows.
        dataset_text_field: String = "text", Trl;
    }
}

option_set! {
    /// Everything `lapidary data stats` can be told.
    pub struct DataStatsOptions {
        pub surveyed: SurveyedOptions,
        pub split: SplitOptions,
    }
}

impl Command for DataStatsOptions {
    const NAME: &'static str = "data stats";
    const ABOUT: &'static str = "Show what is in a file of rows: columns, format, lengths, speakers, duplicates";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        match &mut self.surveyed.model_name_or_path {
            Some(path) => drop(take_base(path, given, &mut notes)?),
            None if given.differs("max_length") => {
                notes.push("max_length has no effect without model_name_or_path: it is a number of tokens".into());
            }
            None => {}
        }
        Ok(notes)
    }
}

option_group! {
    /// What is read and where it goes.
    pub struct ConvertedOptions "Conversion" {
        /// The rows: a file (.jsonl, .json, .csv, .tsv, .parquet; .gz and .zst where text is compressed), or a directory of
        /// them.
        dataset_name: Location = required, Trl;
        /// The file to write, of the kind that its name says: .jsonl, .csv, .tsv (or these with .gz), .parquet.
        output_file: PathBuf = required, Lapidary;
        /// Write over output_file.
        overwrite_output_file: bool = "false", Lapidary;
        /// What rows become: messages (whole conversations), prompt-completion (the last answer), preference (with the prompt
        /// apart) or unpaired-preference (two rows of each pair); none leaves them as they are.
        to: Option<RowFormat> = none, Lapidary;
    }
}

option_set! {
    /// Everything `lapidary data convert` can be told.
    pub struct DataConvertOptions {
        pub converted: ConvertedOptions,
        pub split: SplitOptions,
    }
}

impl Command for DataConvertOptions {
    const NAME: &'static str = "data convert";
    const ABOUT: &'static str = "Write rows as another kind of file, or in another format; says what is lost";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// What is compared, and where the rest goes.
    pub struct DeduplicatedOptions "Duplicates" {
        /// The rows: a file (.jsonl, .json, .csv, .tsv, .parquet; .gz and .zst where text is compressed), or a directory of
        /// them.
        dataset_name: Location = required, Trl;
        /// The file to write, of the kind that its name says: .jsonl, .csv, .tsv (or these with .gz), .parquet.
        output_file: PathBuf = required, Lapidary;
        /// Write over output_file and removed_file.
        overwrite_output_file: bool = "false", Lapidary;
        /// The columns that are compared; none for all.
        columns: Option<Vec<String>> = none, Lapidary;
        /// Compare with every run of white space as one blank.
        normalize_whitespace: bool = "false", Lapidary;
        /// Rows are duplicates, too, if this share of their runs of three words is the same (their Jaccard similarity is at
        /// least this); none for only the same text.
        near: Option<f64> = none, Lapidary, share_above_zero();
        /// A file for the rows that were removed (JSON lines), each with the row that it is a duplicate of; none for none.
        removed_file: Option<PathBuf> = none, Lapidary;
    }
}

option_set! {
    /// Everything `lapidary data dedup` can be told.
    pub struct DataDedupOptions {
        pub deduplicated: DeduplicatedOptions,
        pub split: SplitOptions,
    }
}

impl Command for DataDedupOptions {
    const NAME: &'static str = "data dedup";
    const ABOUT: &'static str = "Remove rows that say the same as an earlier one, exactly or nearly";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let files = &self.deduplicated;
        if files.removed_file.as_ref() == Some(&files.output_file) {
            return given.complain("removed_file", "is output_file, too; give another name");
        }
        Ok(Vec::new())
    }
}
