"""Hugging Face's own library on a cache that it shares with lapidary: `find` what is there, or `fetch` it.

    python hub.py find|fetch ORG/NAME COMMIT

HF_ENDPOINT and HF_HOME say which hub and which cache. `find` prints the SHA-256 of the weights.
"""
import hashlib
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

what, name, commit = sys.argv[1:]
files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
if what == "fetch":
    snapshot_download(name, allow_patterns=files)
for revision in [None, commit]:
    paths = [hf_hub_download(name, file, revision=revision, local_files_only=True) for file in files]
report = scan_cache_dir()
assert not report.warnings, report.warnings
[repo] = report.repos
[revision] = repo.revisions
assert (repo.repo_id, revision.commit_hash, revision.refs) == (name, commit, {"main"}), revision
print(hashlib.sha256(open(paths[1], "rb").read()).hexdigest())
