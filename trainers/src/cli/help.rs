//! What `lapidary --help` shows: the commands in groups, and an example of each.

use std::collections::BTreeMap;

/// The commands in the order in which a newcomer meets them, with an example call.
pub const GROUPS: &[(&str, &[(&str, &str)])] = &[
    (
        "Begin",
        &[
            ("quickstart", "lapidary quickstart"),
            ("doctor", "lapidary doctor --model_name_or_path model.gguf"),
            ("preview", "lapidary preview --model_name_or_path model.gguf --dataset_name chats.jsonl"),
        ],
    ),
    (
        "Prepare data",
        &[
            ("data stats", "lapidary data stats chats.jsonl --model_name_or_path model.gguf"),
            ("data convert", "lapidary data convert chats.jsonl chats.parquet --to messages"),
            ("data dedup", "lapidary data dedup chats.jsonl unique.jsonl --near 0.8 --removed_file removed.jsonl"),
        ],
    ),
    (
        "Train on examples",
        &[(
            "sft",
            "lapidary sft --model_name_or_path model.gguf --dataset_name chats.jsonl --output_dir run --use_peft",
        )],
    ),
    (
        "Train on preferences",
        &[
            (
                "dpo",
                "lapidary dpo --model_name_or_path model.gguf --dataset_name pairs.jsonl --output_dir run --use_peft",
            ),
            ("orpo", "lapidary orpo --model_name_or_path model.gguf --dataset_name pairs.jsonl --output_dir run"),
            (
                "cpo",
                "lapidary cpo --model_name_or_path m.gguf --dataset_name pairs.jsonl --output_dir run --loss_type simpo",
            ),
            ("kto", "lapidary kto --model_name_or_path model.gguf --dataset_name labelled.jsonl --output_dir run"),
            ("bco", "lapidary bco --model_name_or_path model.gguf --dataset_name labelled.jsonl --output_dir run"),
            ("reward", "lapidary reward --model_name_or_path model.gguf --dataset_name pairs.jsonl --output_dir judge"),
        ],
    ),
    (
        "Train on reward",
        &[
            (
                "grpo",
                "lapidary grpo --model_name_or_path model.gguf --dataset_name 'task:addition?digits=1' --output_dir run",
            ),
            (
                "rloo",
                "lapidary rloo --model_name_or_path model.gguf --dataset_name prompts.jsonl --reward_funcs exact --output_dir run",
            ),
            (
                "reinforce",
                "lapidary reinforce --model_name_or_path m.gguf --dataset_name prompts.jsonl --reward_funcs exact --output_dir run",
            ),
            (
                "raft",
                "lapidary raft --model_name_or_path model.gguf --dataset_name prompts.jsonl --reward_funcs exact --output_dir run",
            ),
            (
                "ppo",
                "lapidary ppo --model_name_or_path model --dataset_name prompts.jsonl --reward_model_path judge --output_dir run",
            ),
            (
                "online-dpo",
                "lapidary online-dpo --model_name_or_path model --dataset_name prompts.jsonl --reward_funcs exact --output_dir run",
            ),
        ],
    ),
    (
        "Use what was trained",
        &[
            (
                "generate",
                "lapidary generate --model_name_or_path model.gguf --adapter_name_or_path run --prompt 'Who are you?'",
            ),
            ("chat", "lapidary chat --model_name_or_path model.gguf --adapter_name_or_path run"),
            ("compare", "lapidary compare model.gguf run --prompts prompts.jsonl --out compared.html"),
            (
                "export",
                "lapidary export --model_name_or_path model.gguf --adapter_name_or_path run --output_file tuned.gguf",
            ),
            ("eval", "lapidary eval --model_name_or_path model.gguf --tasks task.yaml --output_dir results"),
            ("push", "lapidary push run org/name"),
            ("score", "lapidary score --model_name_or_path judge --dataset_name pairs.jsonl"),
            ("merge", "lapidary merge --model_name_or_path model.gguf --adapter_name_or_path run --output_dir merged"),
        ],
    ),
    (
        "Let a model judge",
        &[
            (
                "judge",
                "lapidary judge --model_name_or_path m --constitution principles.txt --dataset_name answers.jsonl --output_file p.jsonl",
            ),
            (
                "revise",
                "lapidary revise --model_name_or_path m --constitution principles.txt --dataset_name prompts.jsonl --output_file r.jsonl",
            ),
        ],
    ),
    (
        "Look at runs",
        &[
            ("report", "lapidary report run-a run-b --out compared.html"),
            ("watch", "lapidary watch run"),
            ("plot", "lapidary plot run --metrics loss --out loss.svg"),
            ("diff", "lapidary diff run-a run-b"),
            ("reproduce", "lapidary reproduce run --until 20"),
            ("verify", "lapidary verify run"),
        ],
    ),
    ("Learn how it works", &[("exercise", "lapidary exercise 01")]),
    (
        "The program itself",
        &[
            ("env", "lapidary env"),
            ("completions", "lapidary completions bash > ~/.local/share/bash-completion/completions/lapidary"),
        ],
    ),
];

/// The commands with what each does, group by group; `abouts` says what a command does.
pub fn groups(abouts: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (heading, commands) in GROUPS {
        text += &format!("{heading}:\n");
        for (name, _) in *commands {
            text += &format!("  {name:<12} {}\n", abouts.get(*name).map_or("", String::as_str));
        }
        text += "\n";
    }
    text + "`lapidary COMMAND --help` lists a command's options with their defaults and shows an example."
}

/// The example of a command.
pub fn example(command: &str) -> Option<&'static str> {
    let all = GROUPS.iter().flat_map(|(_, commands)| commands.iter());
    all.into_iter().find(|(name, _)| *name == command).map(|(_, example)| *example)
}
