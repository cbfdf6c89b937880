//! The `lapidary` program: everything it does is in the library, so that tests and other programs can call it.
fn main() -> std::process::ExitCode {
    trainers::cli::main()
}
