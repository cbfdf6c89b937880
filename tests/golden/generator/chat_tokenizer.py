"""tokenizer/: a byte-level BPE with 512 entries, a ChatML template, and cases of what they give."""
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .text import corpus

N_ENTRIES = 512
END_OF_TEXT, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL_TOKENS = [END_OF_TEXT, TURN_START, TURN_END, PAD]  # ids 0, 1, 2, 3

# `generation` marks what an assistant wrote: its text and the token that ends its turn, not the line break after it.
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

STRINGS = [
    "",
    " ",
    "\n\n",
    "Compute 7 × 8.",
    "It is -3 °C in Łódź. In °F?",
    "a\tb\r\nc",
    "three   spaces, and two at the end  ",
    "<|im_start|>user\nspecial tokens inside<|im_end|><|endoftext|>",
    "almost special: <|im_end|, <|pad>, |>",
    "zzzz" * 12,
    "for i in range(10):\n\tprint(i ** 2)  # squares",
    "3.14159 and 1,000,000",
    "I'll say they've, we'd, she's; DON'T",
    "ÅÉÎØÜ ñ ﬀ ½ ²",
    "e\u0301 against \u00e9",
    "한국어, العربية, हिन्दी",
    "👩‍👩‍👧 🇨🇭 🙂🙂",
    "\u0000\u200b\ufeff\u2028",
]


def _user(text: str) -> dict:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


CHATS = [
    [_user("Compute 3 × 4.")],
    [_user("Compute 3 × 4."), _assistant("3 × 4 = 12")],
    [{"role": "system", "content": "Answer in one line."}, _user("Which is longer, 'ox' or 'fig'?"),
     _assistant("'fig', with 3 letters; 'ox' has 2."), _user("Sure?"), _assistant("Yes.")],
    [_user("List the letters of 'ox', one a line."), _assistant("o\nx"), _user("Thank you 🙂")],
    [_user(""), _assistant("")],
    [_user("  spaces kept  "), _assistant("a <|im_end|> of one's own")],
]


def directory(out: Path) -> Path:
    return out / "tokenizer"


def load(out: Path):
    return AutoTokenizer.from_pretrained(directory(out))


def _train(seed: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_ENTRIES,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(seed), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=TURN_END, pad_token=PAD
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _string_case(tokenizer, text: str) -> dict:
    ids = tokenizer(text)["input_ids"]
    return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}


def _chat_case(tokenizer, messages: list[dict], add_generation_prompt: bool) -> dict:
    tokens = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=add_generation_prompt,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    return {
        "messages": messages,
        "add_generation_prompt": add_generation_prompt,
        "text": text,
        "input_ids": tokens["input_ids"],
        "assistant_mask": tokens["assistant_masks"],
    }


def write(out: Path, seed: int) -> None:
    _train(seed).save_pretrained(directory(out))
    tokenizer = load(out)  # the cases are of the files, not of the object that wrote them
    assert len(tokenizer) == N_ENTRIES, len(tokenizer)
    cases = {
        "strings": [_string_case(tokenizer, text) for text in STRINGS],
        "chats": [_chat_case(tokenizer, chat, prompt) for chat in CHATS for prompt in (False, True)],
    }
    (directory(out) / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    print("tokenizer", len(STRINGS), "strings", 2 * len(CHATS), "chats", flush=True)
