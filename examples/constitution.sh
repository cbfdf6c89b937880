#!/usr/bin/env bash
# Learning from AI feedback with SmolLM2-135M-Instruct: the model answers, judges and rewrites by examples/principles.txt.
#
#   examples/constitution.sh [OUTPUT_DIR]
#
# A model of this size judges by little more than length and place (its verdicts all change with the order, so the mean of both
# orders decides here); what counts is the way. LAPIDARY_MODELS names the directory with the model (tests/fetch-smollm2.sh DIR).
set -euo pipefail
cd "$(dirname "$0")/.."
model="${LAPIDARY_MODELS:-target/models}/SmolLM2-135M-Instruct.Q4_1.gguf"
dir=${1:-target/constitution}
mkdir -p "$dir"
lapidary() { cargo run --release --quiet -- "$@"; }

for question in 'Are you fast?' 'What do you polish?' 'Who made you?' 'What is 2 + 3?' 'Name a stone.' 'Say hello.'; do
  echo "{\"prompt\": [{\"role\": \"user\", \"content\": \"$question\"}]}"
done > "$dir/prompts.jsonl"

# 1. Two answers to each prompt, compared by the principles: pairs, and DPO on them.
lapidary generate --model_name_or_path "$model" --dataset_name "$dir/prompts.jsonl" --num_generations 4 --max_new_tokens 40 \
  --output_file "$dir/answers.jsonl" --overwrite_output_file
lapidary judge --model_name_or_path "$model" --constitution examples/principles.txt --dataset_name "$dir/answers.jsonl" \
  --judge_verdict average --output_file "$dir/pairs.jsonl" --ties_file "$dir/ties.jsonl" --overwrite_output_file
lapidary dpo --model_name_or_path "$model" --dataset_name "$dir/pairs.jsonl" --output_dir "$dir/preferred" --use_peft \
  --learning_rate 5e-5 --per_device_train_batch_size 2 --num_train_epochs 1 --overwrite_output_dir

# 2. Critique and rewriting: examples, and SFT on them.
lapidary revise --model_name_or_path "$model" --constitution examples/principles.txt --dataset_name "$dir/prompts.jsonl" \
  --output_file "$dir/revised.jsonl" --max_new_tokens 60 --temperature 0.7 --overwrite_output_file
lapidary sft --model_name_or_path "$model" --dataset_name "$dir/revised.jsonl" --output_dir "$dir/revised" --use_peft \
  --learning_rate 1e-4 --per_device_train_batch_size 2 --num_train_epochs 1 --overwrite_output_dir
