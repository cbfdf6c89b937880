//! Every file of a repository at a commit: what the hub says of it, and what the cache keeps of that.
use super::names::is_inside;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In bytes.
    pub size: u64,
    /// What git calls its content: a SHA-1 of it, or of the pointer that stands for a large file.
    pub blob_id: String,
    /// SHA-256 of a large file's content.
    pub sha256: Option<String>,
    /// As the hub says it of files in its newer store; kept for other tools.
    xet: Option<String>,
}

impl Listed {
    /// The name of its bytes in the cache: the ETag that the hub sends with them.
    pub fn etag(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.blob_id)
    }
}

/// The files by path, directories left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By path from the repository's root.
    pub files: BTreeMap<String, Listed>,
}

/// huggingface_hub's `_tree_cache.TREE_CACHE_FORMAT_VERSION`.
const FORMAT: u64 = 1;

fn is_hash(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

impl Listing {
    /// Adds a page of the hub's answer (`/api/models/ID/tree/COMMIT?recursive=true`).
    ///
    /// Errors: not such an answer; a path that leads out of the repository, a hash that is none: both become paths here.
    pub fn add(&mut self, page: &Value) -> Result<(), String> {
        for entry in page.as_array().ok_or("its list of files is none")? {
            if entry["type"] != "file" {
                continue;
            }
            let lfs = &entry["lfs"];
            let text = |value: &Value| value.as_str().map(str::to_string);
            let (Some(path), Some(blob_id)) = (text(&entry["path"]), text(&entry["oid"])) else {
                return Err("its list of files names one without path or hash".into());
            };
            let file = Listed {
                size: lfs["size"]
                    .as_u64()
                    .or(entry["size"].as_u64())
                    .ok_or(format!("its list gives {path} no size"))?,
                blob_id,
                sha256: text(&lfs["oid"]).map(|oid| oid.trim_start_matches("sha256:").to_string()),
                xet: text(&entry["xetHash"]),
            };
            self.take(path, file)?;
        }
        Ok(())
    }

    fn take(&mut self, path: String, file: Listed) -> Result<(), String> {
        if !is_inside(&path) {
            return Err(format!(
                "its list of files names {path:?}, which leads out of the repository; nothing was fetched"
            ));
        }
        let sound = is_hash(&file.blob_id, &[40, 64]) && file.sha256.as_ref().is_none_or(|hash| is_hash(hash, &[64]));
        if !sound {
            return Err(format!("its list of files gives {path} a hash that is none"));
        }
        self.files.insert(path, file);
        Ok(())
    }

    /// What `trees/COMMIT.json` of the cache holds; None where it is of another kind.
    pub fn of_cache(text: &str) -> Option<Listing> {
        let all: Value = serde_json::from_str(text).ok()?;
        if all["format_version"].as_u64() != Some(FORMAT) {
            return None;
        }
        let mut listing = Listing::default();
        for (path, file) in all["files"].as_object()? {
            let text = |name: &str| file[name].as_str().map(str::to_string);
            let size = file["lfs_size"].as_u64().or(file["size"].as_u64())?;
            let read = Listed { size, blob_id: text("blob_id")?, sha256: text("lfs_sha256"), xet: text("xet_hash") };
            listing.take(path.clone(), read).ok()?;
        }
        Some(listing)
    }

    /// The text of `trees/COMMIT.json`.
    pub fn to_cache(&self) -> String {
        let file = |file: &Listed| {
            let mut fields = Map::new();
            fields.insert("size".into(), json!(file.size));
            fields.insert("blob_id".into(), json!(file.blob_id));
            if let Some(hash) = &file.sha256 {
                fields.insert("lfs_sha256".into(), json!(hash));
                fields.insert("lfs_size".into(), json!(file.size));
            }
            if let Some(hash) = &file.xet {
                fields.insert("xet_hash".into(), json!(hash));
            }
            Value::Object(fields)
        };
        let files: Map<String, Value> = self.files.iter().map(|(path, listed)| (path.clone(), file(listed))).collect();
        json!({"format_version": FORMAT, "files": files}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hub_lists_is_kept_as_it_is() {
        let (sha1, sha256) = ("1".repeat(40), "2".repeat(64));
        let mut listing = Listing::default();
        listing
            .add(&json!([
                {"type": "directory", "path": "data", "oid": sha1, "size": 0},
                {"type": "file", "path": "config.json", "oid": sha1, "size": 7},
                {"type": "file", "path": "data/a.parquet", "oid": sha1, "size": 9, "xetHash": "x",
                 "lfs": {"oid": sha256, "size": 9, "pointerSize": 3}},
            ]))
            .unwrap();
        assert_eq!(listing.files["config.json"].etag(), sha1);
        assert_eq!(listing.files["data/a.parquet"].etag(), sha256);
        assert_eq!(Listing::of_cache(&listing.to_cache()), Some(listing));
        assert_eq!(Listing::of_cache(r#"{"format_version": 2, "files": {}}"#), None);
    }

    #[test]
    fn lists_that_are_refused() {
        let sha1 = "1".repeat(40);
        let file = |path: &str, oid: &str| json!([{"type": "file", "path": path, "oid": oid, "size": 1}]);
        let long = file("a", &sha1);
        let wrong = [
            file("../../.bashrc", &sha1),
            file("/etc/passwd", &sha1),
            file("a", "../../b"),
            json!({"error": "x"}),
            json!([{"type": "file"}]),
        ];
        assert!(Listing::default().add(&long).is_ok());
        for page in wrong {
            assert!(Listing::default().add(&page).is_err(), "{page}");
        }
        let outside = format!(r#"{{"format_version":1,"files":{{"../a":{{"size":1,"blob_id":"{sha1}"}}}}}}"#);
        assert_eq!(Listing::of_cache(&outside), None);
    }
}
