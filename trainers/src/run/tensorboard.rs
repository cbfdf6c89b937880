//! TensorBoard's event files: every logged metric as a scalar, under the tags that transformers gives them.
//!
//! ```text
//! record = length u64 | masked CRC of it u32 | an Event in protobuf | masked CRC of it u32        (little-endian)
//! masked(c) = (c >> 15 | c << 17) + 0xa282ead8,  c = CRC-32C
//! ```
//! The messages are the parts of TensorFlow's event.proto and summary.proto that a scalar needs.
use super::durable::io_error;
use crate::error::Result;
use prost::Message;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One record of an event file.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// In the first record only.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Scalars>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalars {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// The directory of event files, in the run's.
    pub const DIRECTORY: &str = "runs";

    /// Begins `RUN/runs/events.out.tfevents.….lapidary` anew, with the lines that `metrics.jsonl` has already: those of a
    /// run that is resumed. What an earlier start of the run wrote is taken away, as it would be drawn twice.
    pub fn begin(run: &Path, lines: &[Value]) -> Result<EventFile> {
        let directory = run.join(Self::DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(|e| io_error(&directory, "made", e))?;
        Self::clear(run)?;
        let path = directory.join(format!("events.out.tfevents.{:010}.lapidary", now() as u64));
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|e| io_error(&path, "opened", e))?;
        let mut events = EventFile { path, file };
        events.record(&Event { wall_time: now(), file_version: Some("brain.Event:2".into()), ..Event::default() })?;
        for line in lines.iter().filter_map(Value::as_object) {
            let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
            let values: Vec<(&str, f64)> = line
                .iter()
                .filter(|(name, _)| *name != "step" && *name != "epoch")
                .filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
                .collect();
            events.write(step, &values)?;
        }
        Ok(events)
    }

    /// Removes the event files of a run.
    pub fn clear(run: &Path) -> Result<()> {
        let directory = run.join(Self::DIRECTORY);
        if !directory.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&directory).map_err(|e| io_error(&directory, "read", e))? {
            let path = entry.map_err(|e| io_error(&directory, "read", e))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("events.out.tfevents.") && name.ends_with(".lapidary") {
                std::fs::remove_file(&path).map_err(|e| io_error(&path, "removed", e))?;
            }
        }
        Ok(())
    }

    /// Adds the metrics of a step; those that are no finite numbers are left out.
    pub fn write(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let scalar = |(name, value): &(&str, f64)| Scalar { tag: tag(name), simple_value: Some(*value as f32) };
        let value = values.iter().filter(|(_, value)| value.is_finite()).map(scalar).collect();
        self.record(&Event {
            wall_time: now(),
            step: step as i64,
            summary: Some(Scalars { value }),
            ..Event::default()
        })
    }

    fn record(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(|e| io_error(&self.path, "written", e))
    }
}

/// transformers' tags: eval_loss is eval/loss, all else train/….
fn tag(name: &str) -> String {
    match name.strip_prefix("eval_") {
        Some(rest) => format!("eval/{rest}"),
        None => format!("train/{name}"),
    }
}

/// A record around a message.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c::crc32c(&length)).to_le_bytes());
    record.extend(message);
    record.extend(masked(crc32c::crc32c(message)).to_le_bytes());
    record
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, their sums checked.
    fn events(bytes: &[u8]) -> Vec<Event> {
        let (mut at, mut all) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(framed(&bytes[at + 12..at + 12 + length]), &bytes[at..at + 16 + length]);
            all.push(Event::decode(&bytes[at + 12..at + 12 + length]).unwrap());
            at += 16 + length;
        }
        all
    }

    #[test]
    fn metrics_come_back_from_an_event_file() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = serde_json::json!({"step": 1, "epoch": 0.5, "loss": 2.5});
        let mut file = EventFile::begin(dir.path(), &[earlier]).unwrap();
        file.write(2, &[("loss", 1.5), ("eval_loss", 0.25), ("kl", f64::NAN)]).unwrap();
        let found = events(&std::fs::read(&file.path).unwrap());
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let scalars = |event: &Event| -> Vec<(String, f32)> {
            let all = event.summary.clone().unwrap_or_default().value;
            all.into_iter().map(|s| (s.tag, s.simple_value.unwrap_or(f32::NAN))).collect()
        };
        assert_eq!((found[1].step, scalars(&found[1])), (1, vec![("train/loss".to_string(), 2.5)]));
        let second = vec![("train/loss".to_string(), 1.5), ("eval/loss".to_string(), 0.25)];
        assert_eq!((found[2].step, scalars(&found[2])), (2, second));
        EventFile::begin(dir.path(), &[]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 1, "one file a run");
    }

    /// The check value of CRC-32C (E. Castagnoli; RFC 3720, B.4: 32 bytes of zeros), and its mask.
    #[test]
    fn known_sums() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(0), 0xa282_ead8);
        assert_eq!(masked(0x8000), 0xa282_ead9);
    }
}
