//! The options that several commands share, each declared once.
//!
//! Defaults are those of TRL 1.16's command line (which takes them from transformers 5.23 where it does not set its own).
use super::choices::*;
use super::datasets::Datasets;
use super::lists::{List, Mapping};
use super::spec::option_group;
use super::value::{ANY, Location, Steps, above, at_least, between, limit, share};
use crate::device::DeviceChoice;
use std::path::PathBuf;

option_group! {
    /// Which model, and how its weights are held.
    pub struct ModelOptions "Model" {
        /// The model: a directory in Hugging Face layout, a .gguf file, or a name on the hub (org/name, or
        /// hf://org/name/file.gguf). An adapter names its own, and its directory stands for both.
        model_name_or_path: Location = (required unless adapter_name_or_path), Trl, ANY, free;
        /// A branch, tag or commit of a model from the hub.
        model_revision: String = "main", Trl, ANY, free;
        /// Type of the weights that are not trained; auto keeps what the file has. Trained weights and all
        /// arithmetic are float32.
        dtype | torch_dtype: WeightType = "float32", Trl;
    }
}

option_group! {
    /// What computes.
    pub struct DeviceOptions "Device" {
        /// auto takes a GPU if there is one, else the CPU; gpu:N takes the N-th GPU, counted from 0; gpu:software is
        /// a GPU's driver that runs on the CPU, for tests.
        device: DeviceChoice = "auto", Lapidary, ANY, free;
        /// CPU threads; none for as many as the machine has. Results do not depend on it.
        threads: Option<usize> = none, Lapidary, at_least(1.0), free;
    }
}

option_group! {
    /// Which rows are read.
    pub struct DataOptions "Data" {
        /// The data set: a file of rows (.jsonl, .json, .csv, .tsv, .parquet; .gz and .zst where text is compressed), a
        /// directory of them, of which one split is read, or a name on the hub (org/name, or hf://datasets/org/name/file).
        dataset_name: Location = (required unless datasets), Trl, ANY, free;
        /// Several data sets in place of dataset_name, one after the other: a list of mappings, each with path and, where
        /// wanted, name (a configuration), data_dir, data_files, split, columns, and fraction (its share of the whole).
        datasets: Datasets = none, Trl;
        /// Draw each row from one of datasets with these probabilities, positive numbers in proportion to each other; none for
        /// one data set after the other.
        interleave_probabilities: Option<List<f64>> = none, Lapidary;
        /// When rows that are drawn end: with the first data set that ends (first_exhausted), or when all have ended, those
        /// that end before beginning again (all_exhausted) or not (all_exhausted_without_replacement).
        interleave_stopping_strategy: StoppingStrategy = "first_exhausted", Lapidary;
        /// Read the rows of dataset_name as they are needed instead of all before training: data may be larger than memory.
        /// The length of the run must be given (max_steps).
        dataset_streaming: bool = "false", Trl;
        /// The same for datasets.
        streaming: bool = "false", Trl;
        /// Hold out so many rows of datasets for evaluation, or below 1 this share of them, drawn from the seed.
        test_split_size: Option<f64> = none, Trl, above(0.0);
        /// Which of a directory's configurations is read: one that its README.md lists, or a directory in it.
        dataset_config: Option<String> = none, Trl, ANY, free;
        /// Which split of a directory is trained on.
        dataset_train_split: String = "train", Trl, ANY, free;
        /// Which split of a directory is evaluated on: dataset_name's with eval_strategy, or eval_dataset's.
        dataset_test_split: String = "test", Trl, ANY, free;
        /// Rows to evaluate on, in place of dataset_name's dataset_test_split. If it is given and eval_strategy is not, it
        /// is evaluated after each epoch (every eval_steps, if those are given).
        eval_dataset: Option<PathBuf> = none, Lapidary, ANY, free;
        /// The order of the rows within an epoch: random (from the seed), or as in the file.
        train_sampling_strategy: SamplingStrategy = "random", Trl;
        /// Shuffle the rows (from the seed) before they are packed.
        shuffle_dataset: bool = "false", Trl;
    }
}

option_group! {
    /// Which rows of a directory are read, where none are trained on.
    pub struct SplitOptions "Data" {
        /// Which of a directory's configurations is read: one that its README.md lists, or a directory in it.
        dataset_config: Option<String> = none, Trl;
        /// Which split of a directory is read.
        dataset_split | dataset_train_split: String = "train", Lapidary;
    }
}

option_group! {
    /// How rows become tokens, and which tokens are trained on.
    pub struct TextOptions "Tokens" {
        /// Longest sequence in tokens; longer rows are cut. none for no limit.
        max_length | max_seq_length: Option<usize> = "1024", Trl, at_least(1.0);
        /// Which end of a row that is too long stays.
        truncation_mode: TruncationMode = "keep_start", Trl;
        /// Put several rows into each sequence of max_length tokens. They do not see each other (but with strategy wrapped they do).
        packing: bool = "false", Trl;
        /// How rows are packed: bfd (best fit, longest first; longer rows are cut), bfd_split (longer rows are taken apart
        /// first), or wrapped (one stream, cut every max_length tokens).
        packing_strategy: PackingStrategy = "bfd", Trl;
        /// Whether eval_dataset is packed; none for the same as packing.
        eval_packing: Option<bool> = none, Trl, ANY, free;
        /// Train on the completion only; none for yes where rows have a prompt and a completion.
        completion_only_loss: Option<bool> = none, Trl;
        /// Train on the assistant's messages only; rows must be conversations.
        assistant_only_loss: bool = "false", Trl;
        /// The column that holds the text of plain language-modelling rows.
        dataset_text_field: String = "text", Trl;
        /// A Jinja file to use as chat template instead of the model's.
        chat_template_path: Option<PathBuf> = none, Trl;
        /// The token that ends a sequence, if not the tokenizer's own.
        eos_token: Option<String> = none, Trl;
    }
}

option_group! {
    /// The run and its optimiser steps.
    pub struct TrainingOptions "Training" {
        /// Directory that the run writes to.
        output_dir: PathBuf = required, Trl, ANY, free;
        /// Write over an earlier run in output_dir.
        overwrite_output_dir: bool = "false", Transformers, ANY, free;
        /// Seed of everything random: the order of the rows, dropout, new adapters.
        seed: u64 = "42", Trl;
        /// Rows that are computed at once.
        per_device_train_batch_size: usize = "8", Trl, at_least(1.0);
        /// Rows that are evaluated at once.
        per_device_eval_batch_size: usize = "8", Trl, at_least(1.0), free;
        /// Batches whose gradients make one optimiser step.
        gradient_accumulation_steps: usize = "1", Trl, at_least(1.0);
        /// How often the data set is gone through; fractions are fine.
        num_train_epochs: f64 = "3", Trl, above(0.0);
        /// Number of optimiser steps; if given, num_train_epochs does not count.
        max_steps: Option<u64> = none, Trl, limit(1.0);
        /// Highest learning rate of the run.
        learning_rate: f64 = "2e-5", Trl, at_least(0.0);
        /// How the learning rate falls (or not) after the warm-up.
        lr_scheduler_type: Scheduler = "linear", Trl;
        /// Parameters of the schedule, as transformers calls them: num_cycles (cosine…), lr_end and power (polynomial),
        /// timescale (inverse_sqrt), min_lr or min_lr_rate (cosine_with_min_lr), num_decay_steps (warmup_stable_decay) and others.
        lr_scheduler_kwargs: Mapping = none, Trl;
        /// Optimiser steps in which the learning rate rises from 0; below 1, a share of all steps.
        warmup_steps: f64 = "0", Trl, at_least(0.0);
        /// The warm-up as a share of all steps: the older name of warmup_steps below 1.
        warmup_ratio: Option<f64> = none, Transformers, between(0.0, 1.0);
        /// The optimiser.
        optim: OptimizerName = "adamw", Transformers;
        /// β₁: how much of the mean of gradients AdamW keeps at each step.
        adam_beta1: f64 = "0.9", Trl, share();
        /// β₂: how much of the mean of squared gradients AdamW keeps at each step.
        adam_beta2: f64 = "0.999", Trl, share();
        /// ε that AdamW adds to the denominator.
        adam_epsilon: f64 = "1e-8", Trl, at_least(0.0);
        /// Decoupled weight decay: weights shrink by learning_rate · weight_decay at each step.
        weight_decay: f64 = "0", Trl, at_least(0.0);
        /// Gradients are scaled down to this norm (over all of them) if theirs is larger; 0 switches it off.
        max_grad_norm: f64 = "1", Trl, at_least(0.0);
        /// NEFTune: noise of up to α / √(L · D) on the embeddings in training, for L tokens of the longest sequence of a
        /// batch and D entries each; none for none. The numbers drawn are not PyTorch's.
        neftune_noise_alpha: Option<f64> = none, Trl, at_least(0.0);
        /// What becomes of a step whose loss or gradients are no finite numbers, which is never taken: stop ends the run; skip
        /// goes on with the next rows; rewind also takes weights and optimiser back to the last good checkpoint.
        on_nan: OnNan = "stop", Lapidary, ANY, free;
        /// Compute activations again in the backward pass instead of keeping them: less memory, some more time.
        gradient_checkpointing | activation_checkpointing: bool = "true", Trl, ANY, free;
        /// Products with frozen weights of --dtype float16 take float16 operands on a GPU with matrix units; each row is
        /// scaled by a power of two first, sums and everything else stay float32.
        fp16: bool = "false", Transformers;
        /// The same as --device cpu.
        use_cpu: bool = "false", Transformers, ANY, free;
    }
}

option_group! {
    /// When a run logs, evaluates and saves.
    pub struct RecordOptions "Logging, evaluation, checkpoints" {
        /// When metrics are logged.
        logging_strategy: Strategy = "steps", Trl, ANY, free;
        /// Optimiser steps between two log lines; below 1, a share of all steps.
        logging_steps: Steps = "10", Trl, ANY, free;
        /// TRL's wish for a line after the first step, which is logged in any case (with the last) unless logging_strategy is no.
        logging_first_step: bool = "false", Trl, ANY, free;
        /// Where metrics are written besides metrics.jsonl: tensorboard, for event files in output_dir/runs; none for nowhere.
        report_to: Option<Vec<String>> = none, Transformers, ANY, free;
        /// When eval_dataset is evaluated.
        eval_strategy | evaluation_strategy: Strategy = "no", Trl, ANY, free;
        /// Optimiser steps between two evaluations; below 1, a share of all steps; none for logging_steps.
        eval_steps: Option<Steps> = none, Trl, ANY, free;
        /// Evaluate eval_dataset before the first step, too.
        eval_on_start: bool = "false", Transformers, ANY, free;
        /// When checkpoints are written. The finished model is always saved.
        save_strategy: Strategy = "steps", Trl, ANY, free;
        /// Optimiser steps between two checkpoints; below 1, a share of all steps.
        save_steps: Steps = "500", Trl, ANY, free;
        /// How many checkpoints are kept, the newest; none for all.
        save_total_limit: Option<usize> = none, Trl, at_least(1.0), free;
        /// The finished model is that of the best evaluation, whose checkpoint is kept.
        load_best_model_at_end: bool = "false", Trl;
        /// What an evaluation is judged by: eval_loss (or loss) or another metric of evaluations; none for the loss.
        metric_for_best_model: Option<String> = none, Trl;
        /// Whether more of it is better; none for yes unless its name ends in loss.
        greater_is_better: Option<bool> = none, Trl;
        /// Stop when so many evaluations in a row were no better than the best before them; none for never.
        early_stopping_patience: Option<u64> = none, Lapidary, at_least(1.0);
        /// By how much an evaluation must be better to count for that.
        early_stopping_threshold: f64 = "0", Lapidary, at_least(0.0);
        /// Go on from a checkpoint, to the very bits of a run that was never interrupted: auto from the newest good one where
        /// the run in output_dir has not come to its end, so that the same command goes on; last from it in any case; a
        /// checkpoint's directory from that one; never begins at step 0.
        resume_from_checkpoint: ResumeFrom = "auto", Trl, ANY, free;
    }
}

option_group! {
    /// Whether and where the hub gets what a run makes.
    pub struct UploadOptions "Hub" {
        /// Push the finished model to the hub.
        push_to_hub: bool = "false", Trl, ANY, free;
        /// The repository: org/name, or a name of your own account; none for the name of output_dir.
        hub_model_id: Option<String> = none, Trl, ANY, free;
        /// When: every_save pushes the model of each checkpoint, too.
        hub_strategy: HubStrategy = "every_save", Trl, ANY, free;
        /// Whether a repository that is made is private; none for what the account has as its default.
        hub_private_repo: Option<bool> = none, Trl, ANY, free;
        /// The token that may write there; none for HF_TOKEN, or what hf auth login has left. It is written nowhere.
        hub_token: Option<String> = none, Trl, ANY, free;
    }
}

option_group! {
    /// Low-rank adapters instead of all weights.
    pub struct LoraOptions "LoRA" {
        /// Train a LoRA adapter; the model's own weights stay as they are.
        use_peft: bool = "false", Trl;
        /// Rank of the adapter.
        lora_r: usize = "16", Trl, at_least(1.0);
        /// The adapter is scaled by lora_alpha / lora_r.
        lora_alpha: usize = "32", Trl, at_least(1.0);
        /// Share of an adapter's inputs that is dropped at random in training.
        lora_dropout: f64 = "0.05", Trl, share();
        /// Layers that get an adapter: names such as q_proj,v_proj (lm_head and embed_tokens too), a regular expression
        /// for whole paths, or all-linear; none for q_proj and v_proj.
        lora_target_modules: Option<TargetModules> = none, Trl;
        /// Modules that are trained and saved whole: names such as lm_head,embed_tokens; none for none.
        lora_modules_to_save: Option<Vec<String>> = none, Trl;
        /// Token ids whose rows of the embedding (and of the output layer that is tied to it) are trained by themselves; none
        /// for none.
        lora_trainable_token_indices: Option<List<usize>> = none, Lapidary;
        /// Scale the adapter by lora_alpha / √lora_r.
        use_rslora: bool = "false", Trl;
        /// Weight-decomposed adapters: the length of each row of a weight is trained besides.
        use_dora: bool = "false", Trl;
        /// Hold the frozen weights in 4 bits: not supported yet (--dtype bfloat16 halves them).
        load_in_4bit: bool = "false", Trl;
        /// Go on training this PEFT adapter (a directory, or a name on the hub); rank, scale and layers are then its own.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
    }
}
