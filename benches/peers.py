#!/usr/bin/env python3
"""Times PyTorch, transformers and PEFT on the CPU for the jobs that lapidary is compared on.

    peers.py MODEL_DIR [JOB …] [--threads N] [--repeats 3] [--lm-head full|fused]

MODEL_DIR is SmolLM2-135M in Hugging Face layout (float32), with its tokenizer for grpo. Each job runs in a process of its own, so that its peak
memory is its own, and prints one JSON line: job, seconds (median of the repeats after one that is not counted),
tokens_per_s, peak_gb (10⁹ bytes, the whole process), and what it ran with.

    sft      one optimiser step on all parameters, 4 rows of 256 tokens: forward, backward, fused AdamW
    lora     the same with LoRA of rank 16 on every linear layer
    dpo      one step of DPO on 4 pairs (prompt 128, answers 64 and 64): the policy's and the frozen reference's
             log-probabilities of the answers, loss, backward, AdamW
    rollout  64 sampled tokens of 8 completions of each of 4 prompts of 48 tokens, with transformers' generate
    grpo     one step of TRL's GRPOTrainer: 4 prompts of about 43 tokens, 8 completions of 32 tokens each drawn, judged,
             learnt from (full parameters, dapo, no KL)
    decode   greedy decoding of 64 tokens after a prompt of 32, with a key/value cache
    decode8  the same for 8 prompts in one batch

Weights are float32, attention is PyTorch's scaled_dot_product_attention, gradients are not checkpointed, no dropout.
--lm-head full is transformers' own loss (all logits exist); fused is the head that TRL's trainers use, in tiles.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BATCH, TOKENS = 4, 256
PROMPT, NEW_TOKENS = 32, 64
PAIRS, PAIR_PROMPT, PAIR_ANSWER = 4, 128, 64
GROUPS, GROUP = 4, 8
ROLLOUT_PROMPT, ROLLOUT_NEW = 48, 64
GRPO_NEW = 32


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL_DIR")
    parser.add_argument("jobs", metavar="JOB", nargs="*", help=f"default: {' '.join(JOBS)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's threads (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats (default: 3)")
    parser.add_argument("--lm-head", choices=("full", "fused"), default="full", help="of training steps (default: full)")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.jobs = args.jobs or list(JOBS)
    if unknown := [job for job in args.jobs if job not in JOBS]:
        parser.error(f"no job named {', '.join(unknown)}; jobs: {', '.join(JOBS)}")
    if not os.path.isfile(os.path.join(args.model, "config.json")):
        parser.error(f"{args.model} is no model directory: it has no config.json")
    return args


def load(args: argparse.Namespace):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
    if args.lm_head == "fused":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model)
    return model


def random_ids(model, *shape: int):
    import torch

    return torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))


def optimiser_step(model, args: argparse.Namespace):
    """A closure for one step: mean loss over next tokens, backward, AdamW."""
    import torch

    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    ids = random_ids(model, BATCH, TOKENS)
    fused = dict(fused_lm_head=True) if args.lm_head == "fused" else {}

    def step() -> None:
        output = model(input_ids=ids, labels=ids, use_cache=False, **fused)
        loss = -output.log_probs.sum() / (BATCH * (TOKENS - 1)) if fused else output.loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step, BATCH * TOKENS


def sft(args: argparse.Namespace):
    return optimiser_step(load(args), args)


def lora(args: argparse.Namespace):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return optimiser_step(get_peft_model(load(args), config), args)


def dpo(args: argparse.Namespace):
    """Chosen and rejected one below the other in one batch, each with its prompt, as TRL's DPOTrainer lays them out."""
    import torch
    from torch.nn.functional import logsigmoid

    model, reference = load(args), load(args).eval()
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    prompts = random_ids(model, PAIRS, PAIR_PROMPT)
    answers = random_ids(model, 2 * PAIRS, PAIR_ANSWER)
    ids = torch.cat([torch.cat([prompts, prompts]), answers], dim=1)
    labels = ids.clone()
    labels[:, :PAIR_PROMPT] = -100

    def log_probs(of):
        if args.lm_head == "fused":
            return of(input_ids=ids, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(1)
        logits = of(input_ids=ids, use_cache=False, logits_to_keep=PAIR_ANSWER + 1).logits[:, :-1]
        chosen = logits.gather(-1, ids[:, PAIR_PROMPT:, None])[..., 0]
        return (chosen - logits.logsumexp(-1)).sum(1)

    def step() -> None:
        with torch.no_grad():
            expected = log_probs(reference)
        chosen, rejected = (log_probs(model) - expected).chunk(2)
        loss = -logsigmoid(0.1 * (chosen - rejected)).mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step, 2 * PAIRS * (PAIR_PROMPT + PAIR_ANSWER)


def rollout(args: argparse.Namespace):
    """Each prompt repeated for each of its completions, as TRL asks transformers for them."""
    import torch

    model = load(args).eval()
    ids = random_ids(model, GROUPS, ROLLOUT_PROMPT).repeat_interleave(GROUP, 0)
    lengths = dict(min_new_tokens=ROLLOUT_NEW, max_new_tokens=ROLLOUT_NEW)

    def draw() -> None:
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, **lengths)

    return draw, GROUPS * GROUP * ROLLOUT_NEW


def grpo(args: argparse.Namespace):
    """A trainer for one step, timed from its beginning to its end: opening model and trainer is not part of it."""
    import tempfile

    import datasets
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    question = "How many minutes are {} hours and {} minutes? Answer with the number only."
    rows = [dict(prompt=[dict(role="user", content=question.format(i, 7 * i))]) for i in range(2, 2 + GROUPS)]

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            self.seconds = time.perf_counter() - self.start

    def step() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            config = GRPOConfig(
                output_dir=scratch, max_steps=1, per_device_train_batch_size=GROUPS * GROUP,
                num_generations=GROUP, max_completion_length=GRPO_NEW, learning_rate=1e-6, use_cpu=True, bf16=False,
                gradient_checkpointing=False, save_strategy="no", report_to=[], disable_tqdm=True,
                generation_kwargs=dict(min_new_tokens=GRPO_NEW),
            )  # fmt: skip
            trainer = GRPOTrainer(
                model=load(args), args=config, train_dataset=datasets.Dataset.from_list(rows),
                processing_class=AutoTokenizer.from_pretrained(args.model),
                reward_funcs=lambda completion_ids, **_: [float(sum(ids) % 7) for ids in completion_ids],
                callbacks=[clock := Clock()],
            )  # fmt: skip
            trainer.train()
            return clock.seconds

    return step, GROUPS * GROUP * GRPO_NEW


def greedy(args: argparse.Namespace, n_prompts: int):
    import torch

    model = load(args).eval()
    ids = random_ids(model, n_prompts, PROMPT)
    lengths = dict(min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS)

    def decode() -> None:
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **lengths)

    return decode, n_prompts * NEW_TOKENS


JOBS = {
    "sft": sft,
    "lora": lora,
    "dpo": dpo,
    "rollout": rollout,
    "grpo": grpo,
    "decode": lambda args: greedy(args, 1),
    "decode8": lambda args: greedy(args, 8),
}


def peak_gb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def run(job: str, args: argparse.Namespace) -> None:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    work, n_tokens = JOBS[job](args)
    work()
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        own = work()
        seconds.append(time.perf_counter() - start if own is None else own)
    median = statistics.median(seconds)
    line = dict(
        job=job,
        seconds=round(median, 4),
        tokens_per_s=round(n_tokens / median, 1),
        peak_gb=round(peak_gb(), 3),
        threads=args.threads,
        lm_head=args.lm_head if job in ("sft", "lora", "dpo") else None,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )
    print(json.dumps(line), flush=True)


def main() -> int:
    args = arguments()
    if args.in_process:
        run(args.jobs[0], args)
        return 0
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TQDM_DISABLE="1", OMP_NUM_THREADS=str(args.threads))
    options = ["--threads", args.threads, "--repeats", args.repeats, "--lm-head", args.lm_head, "--in-process"]
    failed = 0
    for job in args.jobs:  # this process has loaded nothing, so that a child starts small
        command = [sys.executable, "-W", "ignore", __file__, args.model, job, *map(str, options)]
        failed += subprocess.run(command, env=environment).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
