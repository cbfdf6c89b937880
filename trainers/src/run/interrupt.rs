//! Ctrl-C and SIGTERM: the first asks the run to save what it has and stop, the second stops it at once.
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first signal, never unset.
static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that a signal has stopped, as shells know it from SIGINT: 128 + 2.
pub const EXIT_CODE: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP ask a run to stop. For the program, not for the library: whoever embeds the
/// trainers keeps his own signals, and may call [`ask`]. Errors: the system takes no handler.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            eprintln!("\nstopped at once; what was trained since the last checkpoint is lost");
            std::process::exit(i32::from(EXIT_CODE));
        }
        eprintln!("\nstopping: this optimiser step is finished and a checkpoint saved; once more stops at once");
    })
    .map_err(|e| Error::Internal(format!("signals: {e}")))
}

/// Asks the run to stop after its present optimiser step, with a checkpoint.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// Whether the run was asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
