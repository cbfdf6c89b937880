"""Writes tests/golden/sentence_piece.json: small SentencePiece vocabularies as a GGUF file carries them (tokens, scores, types, flags),
with the ids of many texts. Run with sentencepiece, tokenizers and transformers 5.24 installed:

    python tests/golden/generator/sentence_piece.py

The ids are those of the model's own tokenizer.json, as transformers converts a Llama tokenizer.model: merges by score, bytes for what no
token spells, and a ▁ in front of each piece of text between tokens that are matched whole (llama.cpp does the same).
"""
import io
import json
import sys
from pathlib import Path

import sentencepiece
import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import generate_merges

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from generator.text import corpus

OUT = Path(__file__).resolve().parents[1] / "sentence_piece.json"
CONTROL, USER = ["<|im_start|>", "<|im_end|>"], ["<tool>", "→"]
TEXTS = [
    "Hello", " Hello", "  Hello", "Hello ", "Hello  ", "Hello   world", "", " ", "  ", "   ", "\n", "\t", "\n\n", "a\nb", " a\n b", "Compute 7 × 8.",
    "Today is Monday. What day is it in 3 days?", "Zürich", "東京", "😀", "a😀b", "e\u0301", "\u00a0x", "\u200b", "<tool>", " <tool> ", "a<tool>b", "a <tool> b",
    "<tool><tool>", "→→ →", "x→y", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|> Hi", "<|im_start|>  Hi", "Hi<|im_end|>",
    "Hi <|im_end|> there", "<s>Hi</s>", "<s> Hi </s>", "</s></s>", "<unk>", "<0x41>", "▁", "▁a", "a▁b", " ▁", "12345 67.89", "it's 'q'", "ÄÖÜ ß", "Łódź São Paulo",
    "lantern otter compass", "lanternottercompass", "\u2028", "\x00", "a" * 60, "tab\tand  two blanks\r\n",
]


def train(dummy_prefix: bool, size: int):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus(3, 600)), model_writer=model, vocab_size=size, model_type="bpe", byte_fallback=True,
        character_coverage=0.98, add_dummy_prefix=dummy_prefix, remove_extra_whitespaces=False, normalization_rule_name="identity",
        split_digits=True, allow_whitespace_only_pieces=True, control_symbols=CONTROL, user_defined_symbols=USER, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind(sp, i):
    return 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 4 if sp.id_to_piece(i) in USER else 1


def own_tokenizer(sp, dummy_prefix):
    """The tokenizer.json of such a model: transformers' LlamaConverter, legacy."""
    vocab = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    ids = {piece: i for i, (piece, _) in enumerate(vocab)}
    tokenizer = Tokenizer(models.BPE(ids, generate_merges(ids, dict(vocab)), unk_token="<unk>", fuse_unk=True, byte_fallback=True, dropout=None))
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=kind(sp, i) != 4)
                          for i, (piece, _) in enumerate(vocab) if kind(sp, i) in (2, 3, 4)])
    steps = [normalizers.Prepend("▁")] if dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    steps = [decoders.Strip(" ", 1, 0)] if dummy_prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *steps])
    return tokenizer


def main() -> None:
    vocabularies = []
    for dummy_prefix, size in [(True, 420), (False, 420), (True, 520)]:
        sp = train(dummy_prefix, size)
        tokenizer = own_tokenizer(sp, dummy_prefix)
        n = sp.get_piece_size()
        cases = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append([text, ids, tokenizer.decode(ids, skip_special_tokens=False)])
        # Where no token is matched whole, SentencePiece itself agrees.
        for text in TEXTS:
            if not any(t in text for t in CONTROL + USER + ["<s>", "</s>", "<unk>", "<0x", "▁", "\x00"]) and text:
                assert sp.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids, (text, sp.encode(text, out_type=str), tokenizer.encode(text).tokens)
        vocabularies.append({"tokens": [sp.id_to_piece(i) for i in range(n)], "scores": [sp.get_score(i) for i in range(n)],
                             "token_types": [kind(sp, i) for i in range(n)], "bos_id": sp.bos_id(), "eos_id": sp.eos_id(), "unknown_id": sp.unk_id(),
                             "add_bos": True, "add_space_prefix": dummy_prefix, "cases": cases})
    made = f"sentencepiece {sentencepiece.__version__}, tokenizers {tokenizers.__version__}, transformers {transformers.__version__}"
    lines = ",\n".join(json.dumps(v, ensure_ascii=False) for v in vocabularies)
    OUT.write_text(json.dumps({"made with": made})[:-1] + ', "vocabularies": [\n' + lines + "\n]}\n")
    print(len(vocabularies), "vocabularies,", len(TEXTS), "texts")


if __name__ == "__main__":
    main()
