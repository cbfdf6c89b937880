#!/usr/bin/env bash
# RLHF from end to end on a model made on the spot: examples → reward model → PPO, with the hack and without.
#
#   examples/rlhf.sh [OUTPUT_DIR] [SEED]
#
# The labels behind the reward model are flawed: exclamation marks count as much as being right (examples/rlhf_data.rs).
# PPO finds out. The gold check (the answer and nothing else) is measured, never trained on; --kl_budget and
# --gold_patience end the run while it is still good. OUTPUT_DIR/rlhf.svg shows proxy reward, KL spent and gold check.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-target/rlhf}
seed=${2:-1}
task='task:sorting?length=3&max=9&style=short'
lapidary() { cargo run --release --quiet -- "$@"; }
small=(--save_strategy no --gradient_checkpointing false --seed "$seed" --overwrite_output_dir)

cargo run --release --quiet --example rlhf_data -- "$dir" "$seed"

# 1. Examples: half of them right, one in forty with an exclamation mark.
lapidary sft --model_name_or_path "$dir/model" --dataset_name "$dir/sft.jsonl" --output_dir "$dir/shown" \
  --learning_rate 5e-3 --lr_scheduler_type cosine --warmup_steps 20 \
  --per_device_train_batch_size 48 --num_train_epochs 4 --logging_steps 50 "${small[@]}"

# 2. A reward model from the flawed labels.
lapidary reward --model_name_or_path "$dir/shown" --dataset_name "$dir/pairs.jsonl" --output_dir "$dir/proxy" \
  --eval_dataset "$dir/held-out.jsonl" --per_device_eval_batch_size 100 \
  --learning_rate 2e-3 --per_device_train_batch_size 32 --num_train_epochs 3 --logging_steps 50 "${small[@]}"

# 3. PPO on what the reward model says; gold is only measured.
ppo() {
  lapidary ppo --model_name_or_path "$dir/shown" --dataset_name "$task" --reward_model_name_or_path "$dir/proxy" \
    --gold_funcs exact --learning_rate 2e-4 --lr_scheduler_type constant --num_ppo_epochs 2 --temperature 1 \
    --kl_coef 0.01 --critic head --per_device_train_batch_size 64 --max_completion_length 12 --max_steps 120 \
    --logging_steps 4 "${small[@]}" "$@"
}
ppo --output_dir "$dir/unguarded"
ppo --output_dir "$dir/budget" --kl_budget 0.5
ppo --output_dir "$dir/patience" --gold_patience 4 --eval_dataset "$task&rows=100" --eval_strategy steps --eval_steps 5

lapidary plot --run_dirs "$dir/unguarded" "$dir/budget" --labels 'without a budget' 'kl_budget 0.5' \
  --metrics rewards/proxy/mean objective/kl gold --title 'What the reward model says, and what is so' \
  --out "$dir/rlhf.svg" --overwrite_output_file
