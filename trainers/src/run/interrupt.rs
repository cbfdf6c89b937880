//! Ctrl-C and SIGTERM: the first asks a run to save what it has and stop, the second stops it at once.
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a run is under way, which has something to save.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);
/// Set by the first signal of a run.
static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that a signal has stopped, as shells know it from SIGINT: 128 + 2.
pub const EXIT_CODE: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP ask a run to stop; without a run they end the program. For the program, not for
/// the library: whoever embeds the trainers keeps their own signals, and may call [`ask`]. Errors: the system takes no
/// handler.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        let first = UNDER_WAY.load(Ordering::SeqCst) && !ASKED.swap(true, Ordering::SeqCst);
        if first {
            eprintln!("\nstopping: this optimiser step is finished and a checkpoint saved; once more stops at once");
        } else {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
    .map_err(|e| Error::Internal(format!("signals: {e}")))
}

/// A run begins: from now on it is asked before it is stopped.
pub fn begin() {
    UNDER_WAY.store(true, Ordering::SeqCst);
}

/// The run has come to its end.
pub fn end() {
    UNDER_WAY.store(false, Ordering::SeqCst);
}

/// Asks the run to stop after its present optimiser step, with a checkpoint.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// Whether the run was asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
