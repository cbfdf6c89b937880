//! What a run makes goes to the hub: whole, once, and with nothing of the run besides the model.
use super::*;

#[test]
fn a_run_is_pushed() {
    let place = Place::new();
    place.put_llama("org/llama");
    fs::write(place.at("rows.jsonl"), rows()).expect("written");
    let train =
        format!("sft --model_name_or_path org/llama --dataset_name rows.jsonl {TRAIN} --max_steps 2 --push_to_hub");
    // Before anything is computed or written.
    let said = place.fails(&format!("{train} --output_dir no"), 2);
    assert!(said.contains("push_to_hub: ") && said.contains("HF_TOKEN") && !place.at("no").exists(), "{said}");
    let said = place.fails(&format!("{train} --output_dir no --hub_token hf_read"), 2);
    assert!(said.contains("refuses access") && !place.at("no").exists(), "{said}");
    let said = place.fails(&format!("{train} --output_dir no --hub_strategy checkpoint"), 2);
    assert!(said.contains("--hub_strategy: ") && said.contains("is refused"), "{said}");

    let said = place.succeeds(&format!("{train} --output_dir tuned --hub_token hf_write --hub_private_repo true"));
    assert!(said.contains("pushed to me/tuned: http://127.0.0.1/me/tuned/commit/"), "{said}");
    let state = place.hub.state();
    assert_eq!(state.made, [json!({"name": "tuned", "organization": "me", "type": "model", "visibility": "private"})]);
    assert_eq!(state.messages, ["Training in progress, step 1", "Training in progress, step 2", "End of training"]);
    let pushed = state.repos["models/me/tuned"].files.clone();
    assert!(state.store.contains_key(&sha256(&pushed["model.safetensors"])), "a large file goes to the store");
    drop(state);
    for (name, bytes) in &pushed {
        assert_eq!(bytes, &file(&place.at("tuned").join(name)), "{name}");
    }
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(pushed.contains_key(name), "{name}");
    }
    for name in
        ["config.yaml", "manifest.json", "optimizer.safetensors", "trainer_state.json", "metrics.jsonl", "report.html"]
    {
        assert!(!pushed.contains_key(name), "{name}");
    }
    for name in ["config.yaml", "manifest.json", "checkpoint-2/trainer_state.json"] {
        assert!(!text(&file(&place.at("tuned").join(name))).contains("hf_write"), "{name}");
    }
    // What was pushed is a model that comes back.
    place.succeeds(&format!("generate --model_name_or_path me/tuned {ASK}"));
}

#[test]
fn a_push_that_fails_loses_nothing_and_is_tried_again() {
    let place = Place::new();
    place.put_llama("org/llama");
    fs::write(place.at("rows.jsonl"), rows()).expect("written");
    place.hub.state().faults.insert("upload".into(), Fault::Status(403));
    let train =
        format!("sft --model_name_or_path org/llama --dataset_name rows.jsonl {TRAIN} --max_steps 2 --push_to_hub");
    let said = place.fails(
        &format!("{train} --output_dir run --hub_token hf_write --hub_model_id org/tuned --use_peft --lora_r 64"),
        1,
    );
    let again = "to try again: lapidary push run org/tuned";
    assert!(said.contains("run is not pushed: ") && said.contains(again), "{said}");
    // Checkpoints that were not pushed have not ended the run.
    assert!(place.at("run/checkpoint-2").exists() && place.at("run/adapter_model.safetensors").exists());
    place.hub.state().faults.clear();
    place.hub.state().part_size = Some(10_000);
    let mut push = place.command("push run org/tuned");
    let output = push.env("HF_TOKEN", "hf_write").output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pushed = place.hub.state().repos["models/org/tuned"].files.clone();
    assert_eq!(pushed["adapter_model.safetensors"], file(&place.at("run/adapter_model.safetensors")));
    assert!(place.hub.seen("/part/").len() > 1);
    // Once more: the store has it.
    place.hub.forget();
    assert!(place.command("push run org/tuned").env("HF_TOKEN", "hf_write").output().expect("runs").status.success());
    assert!(place.hub.seen("/part/").is_empty() && place.hub.seen("/commit/").len() == 1);
    let said = told(place.command("push . org/tuned").env("HF_TOKEN", "hf_write").output().expect("runs"), 2);
    assert!(said.contains("holds no model to push"), "{said}");
}
