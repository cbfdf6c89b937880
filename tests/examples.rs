//! The numbered examples run, and what they claim is so: each asserts it itself.
macro_rules! examples {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[path = $path]
            mod $name;
        )*

        /// Each as a program would be, in a test of its own.
        mod run {
            $(
                #[test]
                fn $name() {
                    super::$name::main().expect($path);
                }
            )*
        }

        const LISTED: &[&str] = &[$($path),*];
    };
}

examples! {
    scalar_autograd: "../examples/00_scalar_autograd.rs",
    tensor_and_gradient: "../examples/01_tensor_and_gradient.rs",
    ask_a_model: "../examples/02_ask_a_model.rs",
    sft: "../examples/03_sft.rs",
    custom_reward: "../examples/04_custom_reward.rs",
    custom_loss: "../examples/05_custom_loss.rs",
    own_data: "../examples/06_own_data.rs",
    own_trainer: "../examples/07_own_trainer.rs",
    engine_embedded: "../examples/08_engine_embedded.rs",
}

#[test]
fn every_numbered_example_is_listed() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names = std::fs::read_dir(dir).expect("examples").map(|e| e.expect("an entry").file_name());
    let mut found: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    found.retain(|name| name.ends_with(".rs") && name.starts_with(|c: char| c.is_ascii_digit()));
    found.sort();
    assert_eq!(found.iter().map(|name| format!("../examples/{name}")).collect::<Vec<_>>(), LISTED);
}
