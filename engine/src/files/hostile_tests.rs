//! Files that are cut off, corrupt or made to do harm: an error or a model, never a panic or a huge allocation.
use super::*;
use crate::config::{RopeScaling, Slot};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write as _};

/// Writes GGUF byte by byte, so that anything can be wrong in it.
#[derive(Clone)]
struct Maker {
    version: u32,
    entries: Vec<(String, u32, Vec<u8>)>,
    /// (name, dims innermost first, type, offset)
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    data: Vec<u8>,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

impl Maker {
    /// A llama of one layer: D 32, F 32, H 2, K 1, E 16, V 8; matrices in Q8_0.
    fn llama() -> Self {
        let mut m = Maker { version: 3, entries: vec![], tensors: vec![], data: vec![] };
        m.text("general.architecture", "llama");
        m.text("general.name", "tiny");
        let counts = [
            ("block_count", 1),
            ("context_length", 16),
            ("embedding_length", 32),
            ("feed_forward_length", 32),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", 16),
        ];
        for (key, n) in counts {
            m.set(&format!("llama.{key}"), 4, u32::to_le_bytes(n).to_vec());
        }
        m.set("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes().to_vec());
        m.text("tokenizer.ggml.model", "gpt2");
        m.texts("tokenizer.ggml.tokens", &["a", "b", "c", "d", "e", "f", "g", "ab"]);
        m.texts("tokenizer.ggml.merges", &["a b"]);
        m.set("tokenizer.ggml.bos_token_id", 4, 1u32.to_le_bytes().to_vec());
        for (name, rows) in [("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32)] {
            m.tensor(&format!("blk.0.{name}.weight"), &[32, rows], 8);
        }
        for name in ["ffn_gate", "ffn_up", "ffn_down"] {
            m.tensor(&format!("blk.0.{name}.weight"), &[32, 32], 8);
        }
        for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            m.tensor(&format!("{name}.weight"), &[32], 0);
        }
        m.tensor("token_embd.weight", &[32, 8], 1);
        m
    }
    fn set(&mut self, key: &str, kind: u32, value: Vec<u8>) {
        self.entries.retain(|(k, ..)| k != key);
        self.entries.push((key.to_string(), kind, value));
    }
    fn text(&mut self, key: &str, value: &str) {
        self.set(key, 8, text(value));
    }
    fn texts(&mut self, key: &str, values: &[&str]) {
        let mut bytes = [&8u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        values.iter().for_each(|v| bytes.extend(text(v)));
        self.set(key, 9, bytes);
    }
    fn tensor(&mut self, name: &str, dims: &[u64], kind: u32) {
        let n: u64 = dims.iter().product();
        let bytes = match kind {
            0 => 4 * n,
            1 => 2 * n,
            _ => n / 32 * 34,
        };
        self.tensors.push((name.to_string(), dims.to_vec(), kind, self.data.len() as u64));
        self.data.extend((0..bytes).map(|i| (i % 57) as u8));
        self.data.resize(self.data.len().next_multiple_of(32), 0);
    }
    fn header(&self) -> Vec<u8> {
        let mut b = b"GGUF".to_vec();
        b.extend(self.version.to_le_bytes());
        b.extend((self.tensors.len() as u64).to_le_bytes());
        b.extend((self.entries.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.entries {
            b.extend(text(key));
            b.extend(kind.to_le_bytes());
            b.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            b.extend(text(name));
            b.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| b.extend(d.to_le_bytes()));
            b.extend(kind.to_le_bytes());
            b.extend(offset.to_le_bytes());
        }
        b.resize(b.len().next_multiple_of(32), 0);
        b
    }
    fn open(&self) -> Result<ModelFiles> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, [self.header(), self.data.clone()].concat()).unwrap();
        ModelFiles::open(&path)
    }
    fn refused(&self) -> String {
        self.open().unwrap_err().to_string()
    }
}

/// Opens, and loads all that can be opened.
fn touch(path: &Path) -> Result<()> {
    let files = ModelFiles::open(path)?;
    for name in files.weights.names() {
        let _ = files.weights.load(name, DType::F32);
        let _ = files.weights.load_stored(name);
    }
    Ok(())
}

/// Cuts the file at every length below `header` and many above, then changes every byte of the header in many ways.
/// Returns how many of the changed files still opened.
fn torture(model: &Path, file: &Path, header: usize) -> usize {
    let good = std::fs::read(file).unwrap();
    touch(model).unwrap();
    let handle = File::options().write(true).open(file).unwrap();
    for len in (0..good.len()).rev().filter(|len| *len <= header || len % 509 == 0 || len + 4 > good.len()) {
        handle.set_len(len as u64).unwrap();
        let error = touch(model).expect_err("a cut file is not whole").to_string();
        assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
    }
    std::fs::write(file, &good).unwrap();
    let mut handle = File::options().write(true).open(file).unwrap();
    let mut put = |at: usize, byte: u8| {
        handle.seek(SeekFrom::Start(at as u64)).unwrap();
        handle.write_all(&[byte]).unwrap();
    };
    let mut opened = 0;
    for (at, &b) in good.iter().enumerate().take(header) {
        for changed in [b ^ 1, b ^ 4, b ^ 0x80, b.wrapping_add(1), 0, 0x7f, 0xff] {
            put(at, changed);
            opened += usize::from(touch(model).is_ok());
        }
        put(at, b);
    }
    touch(model).unwrap();
    opened
}

#[test]
fn gguf_cut_or_changed_anywhere() {
    let maker = Maker::llama();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, [maker.header(), maker.data.clone()].concat()).unwrap();
    let opened = torture(&path, &path, maker.header().len());
    assert!(opened > 0, "a changed name of the model is still a model");
}

#[test]
fn safetensors_cut_or_changed_anywhere() {
    let files = Maker::llama().open().unwrap();
    let tensors: Vec<_> = files
        .config
        .slots()
        .into_iter()
        .map(|Slot { path: name, shape, .. }| {
            let host = files.weights.load(&name, DType::F32).unwrap();
            (name, shape, host)
        })
        .collect();
    for max_shard_bytes in [u64::MAX, 9000] {
        let dir = tempfile::tempdir().unwrap();
        save_model(dir.path(), &files.config, &tensors, max_shard_bytes).unwrap();
        let is_first = |name: &str| name == "model.safetensors" || name.starts_with("model-00001-of-");
        let mut names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let shard = dir.path().join(names.find(|name| is_first(name)).unwrap());
        let bytes = std::fs::read(&shard).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        torture(dir.path(), &shard, header);
    }
}

#[test]
fn safetensors_made_to_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let open = |header: &str, data: &[u8]| {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
        std::fs::write(&path, bytes).unwrap();
        safetensors::open(&path).map(|w| w.names().count())
    };
    assert_eq!(open(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]).unwrap(), 1);
    let hostile = [
        r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"U8","shape":[18446744073709551600],"data_offsets":[0,18446744073709551600]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":1}"#,
        "[]",
        "",
    ];
    for header in hostile {
        let error = open(header, &[0; 4]).expect_err(header).to_string();
        assert!(error.contains("a.safetensors"), "{error}");
    }
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(safetensors::open(&path).is_err());
    assert!(safetensors::open(dir.path()).unwrap_err().to_string().contains("is not a file"));
}

#[test]
fn an_index_reads_only_files_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let open = |text: &str| {
        std::fs::write(&index, text).unwrap();
        safetensors::open_sharded(&index).map(drop).unwrap_err().to_string()
    };
    for shard in ["../a.safetensors", "/etc/passwd", "..", "", "C:\\a", "b/c"] {
        let text = open(&json!({"weight_map": {"t": shard}}).to_string());
        assert!(text.contains("file beside"), "{text}");
    }
    assert!(open(r#"{"weight_map":{"t":"missing.safetensors"}}"#).contains("missing.safetensors"));
    assert!(open(r#"{"weight_map":[]}"#).contains("weight_map"));
    assert!(open("{").contains("JSON"));
    safetensors::write(&dir.path().join("a.safetensors"), &[("x".to_string(), vec![1], Host::F32(vec![1.0]))]).unwrap();
    assert!(open(r#"{"weight_map":{"t":"a.safetensors"}}"#).contains("which it does not"));
}

/// A model that was split is whole from any of its parts, and a part that is missing or another is named.
#[test]
fn gguf_in_parts() {
    let whole = Maker::llama();
    let write = |dir: &Path, no: u16, count: u16, of: &Maker| {
        let mut part = Maker { version: 3, entries: vec![], tensors: of.tensors.clone(), data: of.data.clone() };
        if no == 0 {
            part.entries = whole.entries.clone();
        } else {
            part.text("general.architecture", "llama");
        }
        part.set("split.no", 2, no.to_le_bytes().to_vec());
        part.set("split.count", 2, count.to_le_bytes().to_vec());
        part.set("split.tensors.count", 5, (whole.tensors.len() as i32).to_le_bytes().to_vec());
        let path = dir.join(format!("m-{:05}-of-{count:05}.gguf", no + 1));
        std::fs::write(&path, [part.header(), part.data].concat()).unwrap();
        path
    };
    let of = |range: std::ops::Range<usize>| Maker {
        version: 3,
        entries: vec![],
        tensors: whole.tensors[range].to_vec(),
        data: whole.data.clone(),
    };
    let dir = tempfile::tempdir().unwrap();
    let n = whole.tensors.len();
    let first = write(dir.path(), 0, 2, &of(0..4));
    let told = |path: &Path| ModelFiles::open(path).unwrap_err().to_string();
    assert!(told(&first).contains("m-00002-of-00002.gguf: is missing"), "{}", told(&first));
    let second = write(dir.path(), 1, 2, &of(4..n));
    let one = whole.open().unwrap();
    for path in [&first, &second] {
        let parts = ModelFiles::open(path).unwrap();
        assert!(parts.notes.is_empty() && parts.vocabulary.is_some(), "{:?}", parts.notes);
        for name in one.weights.names() {
            let values = |files: &ModelFiles| match files.weights.load(name, DType::F32).unwrap() {
                Host::F32(values) => values,
                other => unreachable!("{other:?}"),
            };
            assert_eq!(values(&parts), values(&one), "{name}");
        }
    }
    write(dir.path(), 1, 2, &of(5..n));
    assert!(told(&first).contains("fetch the parts again"), "{}", told(&first));
    std::fs::copy(&first, &second).unwrap();
    assert!(told(&first).contains("is not part 2 of 2"), "{}", told(&first));
    let renamed = dir.path().join("model.gguf");
    std::fs::rename(&first, &renamed).unwrap();
    assert!(told(&renamed).contains("found by their names"), "{}", told(&renamed));
}

/// What Git LFS leaves in the place of a file is said to be that, wherever a file of a model is read.
#[test]
fn pointers_of_git_lfs() {
    let dir = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let told = |path: &Path| ModelFiles::open(path).unwrap_err().to_string();
    let gguf = dir.path().join("m.gguf");
    std::fs::write(&gguf, pointer).unwrap();
    assert!(told(&gguf).contains("m.gguf: is a pointer of Git LFS") && told(&gguf).contains("git lfs pull"));
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        let model = dir.path().join(name.replace('.', "-"));
        std::fs::create_dir(&model).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let llama = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/llama");
            std::fs::copy(llama.join(file), model.join(file)).unwrap();
        }
        std::fs::write(model.join(name), pointer).unwrap();
        assert!(told(&model).contains(&format!("{name}: is a pointer of Git LFS")), "{}", told(&model));
    }
}

#[test]
fn gguf_made_to_do_harm() {
    let with = |change: &dyn Fn(&mut Maker)| {
        let mut maker = Maker::llama();
        change(&mut maker);
        maker
    };
    let huge = u64::MAX.to_le_bytes();
    let list = |kind: u32, len: [u8; 8]| [&kind.to_le_bytes()[..], &len].concat();
    let cases: Vec<(Maker, &str)> = vec![
        (with(&|m| m.version = 1), "version 1"),
        (with(&|m| m.version = 3 << 24), "big-endian"),
        (with(&|m| m.set("x", 8, huge.to_vec())), "cut off"),
        (with(&|m| m.set("x", 9, list(0, huge))), "are left"),
        (with(&|m| m.set("x", 9, list(8, huge))), "are left"),
        (with(&|m| m.set("x", 9, list(77, [0; 8]))), "unknown type 77"),
        (with(&|m| m.set("x", 77, vec![])), "unknown type 77"),
        (with(&|m| m.set("x", 8, [&1u64.to_le_bytes()[..], &[0xff]].concat())), "UTF-8"),
        (with(&|m| m.entries.push(("general.name".to_string(), 8, text("b")))), "twice"),
        (with(&|m| m.tensors.push(m.tensors[0].clone())), "twice"),
        (with(&|m| m.tensors[0].1 = vec![1; 5]), "5 dimensions"),
        (with(&|m| m.tensors[0].1 = vec![1 << 40, 1 << 40]), "impossible shape"),
        (with(&|m| m.tensors[0].1 = vec![31, 32]), "impossible shape"),
        (with(&|m| m.tensors[0].1 = vec![64, 32]), "[32, 64], [32, 32] is needed"),
        (with(&|m| m.tensors[0].3 = u64::MAX - 31), "cut off"),
        (with(&|m| m.tensors[0].3 = 1), "multiple"),
        (with(&|m| m.tensors[0].2 = 10), "Q2_K"),
        (with(&|m| m.tensors[0].2 = 1234), "type 1234"),
        (with(&|m| m.tensors[0].0 = "blk.0.other.weight".to_string()), "self_attn.q_proj.weight"),
        (with(&|m| m.set("general.alignment", 4, vec![0; 4])), "general.alignment"),
        (with(&|m| m.text("general.architecture", "phi3")), "\"phi3\" is not supported"),
        (with(&|m| m.text("llama.block_count", "1")), "llama.block_count"),
        (with(&|m| m.set("llama.block_count", 5, (-1i32).to_le_bytes().to_vec())), "llama.block_count"),
        (with(&|m| m.set("llama.block_count", 4, vec![0xff; 4])), "num_hidden_layers"),
        (with(&|m| m.set("llama.attention.head_count", 4, vec![0; 4])), "num_attention_heads"),
        (with(&|m| m.set("llama.rope.dimension_count", 4, 8u32.to_le_bytes().to_vec())), "q_proj.weight is [32, 32]"),
        (with(&|m| m.set("llama.attention.key_length", 4, 8u32.to_le_bytes().to_vec())), "differs from the head size"),
        (with(&|m| m.set("llama.expert_count", 4, 8u32.to_le_bytes().to_vec())), "experts"),
        (with(&|m| m.text("llama.rope.scaling.type", "yarn")), "\"yarn\""),
        (with(&|m| m.entries.retain(|(k, ..)| k != "tokenizer.ggml.model")), "tokenizer.ggml.model"),
        (with(&|m| m.set("tokenizer.ggml.bos_token_id", 4, 8u32.to_le_bytes().to_vec())), "there are 8 tokens"),
        (with(&|m| m.texts("tokenizer.ggml.tokens", &["a"; 9])), "its tokenizer has 9 tokens, its embedding 8"),
        (with(&|m| m.set("tokenizer.ggml.scores", 9, [list(6, 1u64.to_le_bytes()), vec![0; 4]].concat())), "scores"),
        (with(&|m| m.set("tokenizer.ggml.tokens", 9, list(0, [0; 8]))), "there are 0 tokens"),
        (
            with(&|m| m.set("tokenizer.ggml.tokens", 9, [list(0, 1u64.to_le_bytes()), vec![0]].concat())),
            "list of strings",
        ),
    ];
    for (maker, named) in cases {
        let text = maker.refused();
        assert!(text.contains(named) && text.contains("model.gguf"), "{named}: {text}");
    }
    // Lists of lists of lists … end somewhere.
    let mut nested = list(0, [0; 8]);
    for _ in 0..100_000 {
        nested = [list(9, 1u64.to_le_bytes()), nested].concat();
        if nested.len() > 1 << 16 {
            break;
        }
    }
    assert!(with(&|m| m.set("x", 9, nested.clone())).refused().contains("unknown type 9"));
    let mut silent = Maker::llama();
    silent.entries.retain(|(k, ..)| !k.starts_with("tokenizer."));
    assert!(silent.open().unwrap().vocabulary.is_none());
    let mut second = Maker::llama();
    second.version = 2;
    second.open().unwrap();
}

#[test]
fn gguf_rope_scaling() {
    let mut linear = Maker::llama();
    linear.text("llama.rope.scaling.type", "linear");
    linear.set("llama.rope.scaling.factor", 6, 4f32.to_le_bytes().to_vec());
    assert_eq!(linear.open().unwrap().config.rope.scaling, RopeScaling::Linear { factor: 4.0 });

    // Llama 3.1: theta 5e5, factor 8; divisors as llama.cpp's converter writes them, for a head of 16.
    let mut llama3 = Maker::llama();
    llama3.set("llama.rope.freq_base", 6, 500000f32.to_le_bytes().to_vec());
    let divisors: Vec<f32> = (0..8)
        .map(|i| {
            let wavelength = std::f32::consts::TAU * 500000f32.powf(i as f32 / 8.0);
            if wavelength < 2048.0 {
                1.0
            } else if wavelength > 8192.0 {
                8.0
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 8.0 + smooth)
            }
        })
        .collect();
    llama3.tensor("rope_freqs.weight", &[8], 0);
    let at = llama3.tensors.last().unwrap().3 as usize;
    for (i, d) in divisors.iter().enumerate() {
        llama3.data[at + 4 * i..at + 4 * i + 4].copy_from_slice(&d.to_le_bytes());
    }
    let config = llama3.open().unwrap().config;
    let want = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!((config.rope.scaling, config.rope.theta), (want, 500000.0));
    let other = llama3.data[at + 28];
    llama3.data[at + 30] ^= 0x40;
    assert!(llama3.refused().contains("rope_freqs.weight"), "{other}");
}
