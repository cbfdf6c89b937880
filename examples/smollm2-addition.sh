#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns single-digit addition from reward alone: GRPO with LoRA, a minute to ten on two cores.
#
#   examples/smollm2-addition.sh [OUTPUT_DIR]
#
# The questions are made on the spot; 30 % of them are held out and are never trained on. The reward is 1 where the last
# number of the answer is right. LAPIDARY_MODELS names the directory with the model (tests/fetch-smollm2.sh DIR).
set -euo pipefail
cd "$(dirname "$0")/.."
models=${LAPIDARY_MODELS:-target/models}
dir=${1:-smollm2-addition}
task='task:addition?digits=1&holdout=0.3'

cargo run --release -- grpo \
  --model_name_or_path "$models/SmolLM2-135M-Instruct.Q4_1.gguf" \
  --dataset_name "$task" \
  --eval_dataset "$task" --eval_strategy steps --eval_steps 5 --eval_on_start true --num_generations_eval 4 \
  --output_dir "$dir" \
  --use_peft --lora_r 16 --lora_alpha 32 --lora_dropout 0 --lora_target_modules all-linear \
  --learning_rate 5e-4 --lr_scheduler_type constant \
  --per_device_train_batch_size 64 --num_generations 8 --max_completion_length 12 \
  --max_steps 20 --logging_steps 1 --save_strategy no --gradient_checkpointing false

cargo run --release --quiet -- plot --run_dirs "$dir" --metrics reward eval_reward \
  --title 'Single-digit addition: right answers, in training and held out' --out "$dir/addition.svg" --overwrite_output_file
