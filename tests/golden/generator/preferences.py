"""What TRL's preference trainers report step by step: their data sets, a reward model, and trajectories/<name>.json."""
import json
import math
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import torch
from transformers import AutoModelForSequenceClassification, PrinterCallback
from trl.trainer import dpo_trainer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from . import chat_tokenizer, data, tiny_models
from .text import question_and_answer
from .tidy import remove_by_products
from .trajectories import ALL_LINEAR, COMMON, EXECUTION, add_adapter, final_l2, metric_lists, save_adapter



class PositiveTrainer(DPOTrainer):
    """DPO-Positive (arXiv 2402.13228, equation 3) by TRL's own trainer, which has no such loss.

    With r = log π − log π_ref, TRL's sigmoid loss is −log σ(β (s_w − s_l)), s the scores of a divergence. Those of its
    js_divergence, log 2 + logsigmoid(r), are replaced: s_w = r_w − λ max(0, −r_w), s_l = r_l.
    """

    dpop_lambda: float

    def _compute_loss(self, *args):
        real, ratios = dpo_trainer.F, []

        class Functional:
            def __getattr__(self, name):
                return getattr(real, name)

            def logsigmoid(functional, x):
                ratios.append(x)
                if len(ratios) > 2:
                    return real.logsigmoid(x)
                lost = torch.relu(-x) * self.dpop_lambda if len(ratios) == 1 else 0.0
                return x - lost - math.log(2)

        dpo_trainer.F = Functional()
        try:
            return super()._compute_loss(*args)
        finally:
            dpo_trainer.F = real
            # the chosen answers' ratios, the rejected ones', the loss
            assert len(ratios) == 3 and self.f_divergence_type == "js_divergence", len(ratios)


TRAINERS = dict(
    dpo=(DPOTrainer, DPOConfig),
    kto=(KTOTrainer, KTOConfig),
    orpo=(ORPOTrainer, ORPOConfig),
    cpo=(CPOTrainer, CPOConfig),
    reward=(RewardTrainer, RewardConfig),
)
N_ROWS = 40


@dataclass
class Run:
    """One trajectory: trainer, data set, model, LoRA's options if any, and options that differ from COMMON's."""

    trainer: str
    dataset: str = "preference"
    model: str = "llama"
    lora: dict | None = None
    options: dict = field(default_factory=dict)
    eval_dataset: str | None = None


def dpo(**options) -> Run:
    return Run("dpo", options=options)


RUNS = {
    **{
        f"dpo_{loss}": dpo(loss_type=loss)
        for loss in (
            "sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down",
            "discopop", "sigmoid_norm",
        )
    },  # fmt: skip
    "dpo_exo_pair": dpo(loss_type="exo_pair", label_smoothing=0.1),
    "dpo_robust": dpo(loss_type="robust", label_smoothing=0.1),
    "dpo_aot_smoothed": dpo(loss_type="aot", label_smoothing=0.2, beta=0.5),
    "dpo_mixed": dpo(loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0]),
    "dpo_beta_half": dpo(beta=0.5),
    "dpo_forward_kl": dpo(f_divergence_type="forward_kl"),
    "dpo_js": dpo(f_divergence_type="js_divergence"),
    "dpo_alpha": dpo(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.3),
    "dpo_ld": dpo(ld_alpha=0.5),
    "dpo_wpo": dpo(use_weighting=True),
    # a λ at which some answers are on either side of the maximum
    "dpo_dpop": dpo(loss_type="dpop", dpop_lambda=5.0),
    "dpo_dpop_qwen2": Run("dpo", model="qwen2", options=dict(loss_type="dpop", dpop_lambda=2.0, beta=0.3)),
    "dpo_qwen2": Run("dpo", model="qwen2"),
    "dpo_mistral": Run("dpo", model="mistral"),
    # plain text, the prompt is what both answers begin with
    "dpo_implicit": Run("dpo", "preference_implicit"),
    # the longest prompts fill max_length: those rows are dropped; other answers lose their end
    "dpo_truncated": dpo(max_length=36),
    "dpo_keep_end": dpo(max_length=36, truncation_mode="keep_end"),
    "dpo_accumulate": dpo(gradient_accumulation_steps=2, max_steps=4),
    "dpo_precompute": dpo(precompute_ref_log_probs=True),
    "dpo_sync": dpo(sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.6),
    # the reference is the adapter as it was at the start
    "dpo_lora": Run("dpo", lora=dict(r=4, lora_alpha=16, **ALL_LINEAR)),
    "dpo_evaluate": Run(
        "dpo", eval_dataset="preference_eval", options=dict(eval_strategy="steps", eval_steps=4, per_device_eval_batch_size=4)
    ),
    "kto": Run("kto", "unpaired_preference"),
    "kto_weights": Run("kto", "unpaired_preference", options=dict(desirable_weight=1.5, undesirable_weight=0.7, beta=0.3)),
    "kto_apo_zero": Run("kto", "unpaired_preference", options=dict(loss_type="apo_zero_unpaired")),
    # pairs, which become two rows each
    "kto_pairs": Run("kto", "preference"),
    "orpo": Run("orpo"),
    "orpo_implicit": Run("orpo", "preference_implicit", options=dict(beta=0.4)),
    "cpo": Run("cpo"),
    "cpo_hinge": Run("cpo", options=dict(loss_type="hinge", label_smoothing=0.0)),
    "cpo_ipo": Run("cpo", options=dict(loss_type="ipo", cpo_alpha=0.5)),
    "cpo_smoothed": Run("cpo", options=dict(label_smoothing=0.1)),
    "simpo": Run("cpo", options=dict(loss_type="simpo", cpo_alpha=0.0, simpo_gamma=0.5)),
    "alphapo": Run("cpo", options=dict(loss_type="alphapo", alpha=0.25)),
    "reward_bt": Run("reward", model="llama-reward"),
    "reward_margin": Run("reward", "preference_margin", model="llama-reward"),
    "reward_centered": Run("reward", model="llama-reward", options=dict(center_rewards_coefficient=0.01)),
    # rows that are longer than max_length are dropped
    "reward_filtered": Run("reward", "preference_implicit", model="llama-reward", options=dict(max_length=36)),
    "reward_evaluate": Run(
        "reward",
        model="llama-reward",
        eval_dataset="preference_eval",
        options=dict(eval_strategy="steps", eval_steps=4, per_device_eval_batch_size=4),
    ),
}


def write_data(out: Path, seed: int) -> None:
    rng = random.Random(f"preferences {seed}")

    def row() -> dict:
        (question, answer), (_, other) = question_and_answer(rng), question_and_answer(rng)
        while other == answer:
            other = question_and_answer(rng)[1]
        user, good, bad = (
            [{"role": role, "content": text}]
            for role, text in (("user", question), ("assistant", answer), ("assistant", other))
        )
        return dict(prompt=user, chosen=good, rejected=bad)

    rows = [row() for _ in range(N_ROWS)]
    text = lambda part: part[0]["content"]  # noqa: E731
    unpaired = []
    for r in rows:
        for side in rng.sample(("chosen", "rejected"), rng.choice((1, 1, 2))):
            unpaired.append(dict(prompt=r["prompt"], completion=r[side], label=side == "chosen"))
    sets = {
        "preference": rows,
        "preference_eval": [row() for _ in range(10)],
        "preference_margin": [dict(r, margin=round(rng.random(), 3)) for r in rows],
        "preference_implicit": [
            dict(chosen=f"{text(r['prompt'])}\n{text(r['chosen'])}", rejected=f"{text(r['prompt'])}\n{text(r['rejected'])}")
            for r in rows
        ],
        "unpaired_preference": unpaired,
    }
    for name, of_set in sets.items():
        data.write_rows(data.path(out, name), of_set)
    print("preferences", ", ".join(sets), flush=True)


def write_reward_model(out: Path, seed: int) -> None:
    """The llama with a head of one label."""
    base, directory = tiny_models.directory(out, "llama"), tiny_models.directory(out, "llama-reward")
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.normal_(0, 0.1)
    model.save_pretrained(directory)
    chat_tokenizer.load(out).save_pretrained(directory)
    remove_by_products(directory)


def _load(out: Path, run: Run):
    if run.trainer != "reward":
        return tiny_models.load(out, run.model)
    return AutoModelForSequenceClassification.from_pretrained(
        tiny_models.directory(out, run.model), dtype=torch.float32, attn_implementation="eager"
    )


def _record(out: Path, seed: int, name: str, run: Run) -> None:
    base = f"models/{run.model}"
    options = {**COMMON, "seed": seed, **run.options}
    model, more = _load(out, run), {}
    record = dict(trainer=run.trainer, model=base, dataset=f"data/{run.dataset}.jsonl", config=options)
    if run.lora:
        model = add_adapter(model, run.lora, seed, b_scale=0.02)
        save_adapter(model, out / "adapters" / name, base)
        record["initial_adapter"] = f"adapters/{name}"
    elif run.trainer in ("dpo", "kto") and not options.get("precompute_ref_log_probs"):
        more["ref_model"] = _load(out, run)
    if run.eval_dataset:
        record["eval_dataset"] = f"data/{run.eval_dataset}.jsonl"
        more["eval_dataset"] = datasets.Dataset.from_list(data.read(out, run.eval_dataset))
    trainer_class, config_class = TRAINERS[run.trainer]
    if options.get("loss_type") == "dpop":
        trainer_class = type("Positive", (PositiveTrainer,), dict(dpop_lambda=options["dpop_lambda"]))
        options = {k: v for k, v in options.items() if k not in ("loss_type", "dpop_lambda")}
        options["f_divergence_type"] = "js_divergence"
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_class(
            model=model,
            args=config_class(output_dir=scratch, **EXECUTION, **options),
            train_dataset=datasets.Dataset.from_list(data.read(out, run.dataset)),
            processing_class=chat_tokenizer.load(out),
            **more,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    record["steps"] = metric_lists(trainer.state.log_history)
    if run.eval_dataset:
        record["evaluations"] = metric_lists(trainer.state.log_history, of="eval_loss")
    record["final_l2"] = {name: norm for name, norm in final_l2(trainer.model).items() if ".ref." not in name}
    file = out / "trajectories" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(name, [round(loss, 4) for loss in record["steps"]["loss"]], flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named runs; or writes the data sets and the reward model and records all runs."""
    if not names:
        write_data(out, seed)
        write_reward_model(out, seed)
    for name in names or RUNS:
        _record(out, seed, name, RUNS[name])
